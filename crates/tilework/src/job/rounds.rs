//! A job of a library user as the runtime runs it: its state behind a lock, its outputs as bytes and files, its report as a file.

use super::needs::reckoned;
use super::tally::{RoundTally, RoundsTally};
use super::task_file::{AttemptFiles, TaskFile, TaskFiles, with_named_files};
use super::{Checked, Contents, Files, Job, Next, OUTPUT_BYTES_MAX, Report, TaskContext, TaskError, failure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::io::{self, BufRead};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tilework_core::driver::Needs;
use tilework_core::failure::{Cause, Failure};
use tilework_core::ids::{Attempt, AttemptNo, RoundIdx, RunEpoch, TaskIdx};
use tilework_core::record::{Commit, RoundStart};
use tilework_runtime::TaskSummary;
use tilework_runtime::steps::storage_failure;
use tilework_runtime::worker_loop::caught;
use tilework_store::disk::{Disk, DiskFile, DiskFileExt, FileId};
use tilework_store::identity::{IdentityDifference, InputIdentity};
use tilework_store::journal::JobFiles;

/// Tasks of a round, at most: its barrier names the attempt that counts of each in one record.
pub const TASKS_MAX: u64 = 3_000_000;
/// Bytes of a state in MessagePack, at most: it is one record too.
pub const STATE_BYTES_MAX: usize = 15 * 1024 * 1024;

/// A started job.
pub struct Rounds<J: Job> {
    job: J,
    current: RwLock<Arc<Round<J::State>>>,
    place: Place,
    inputs: Files,
    task_files: TaskFiles,
    /// The report, once it is written; an empty file before, which says that the job is not done.
    output: Mutex<Option<Arc<dyn DiskFile>>>,
}

/// Where a job is, and what it is computed from.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where its files are, and those that it reads.
    pub disk: Arc<dyn Disk>,
    /// Its files.
    pub files: JobFiles,
    /// What the inputs were when this run began.
    pub inputs: Vec<InputIdentity>,
    /// Where it is counted what its rounds come to.
    pub tally: Arc<RoundsTally>,
}

/// A started job whose types nobody else needs to know.
pub type StartedJob = dyn tilework_runtime::Job<Workspace = (), Output = ()>;

/// The round that is under way.
struct Round<State> {
    round: RoundIdx,
    n_tasks: u64,
    needs: Needs,
    state: State,
    /// Files of earlier rounds that the state names.
    needed: BTreeSet<String>,
}

impl<J: Job> Rounds<J> {
    /// Starts the job.
    ///
    /// # Errors
    /// What the job says of its spec, or that it has no tasks.
    pub fn start(job: J, place: Place) -> Result<Rounds<J>, Failure> {
        let inputs = Files::on(Arc::clone(&place.disk));
        let state = own_code::<J, _>("start", || job.start(&inputs))?;
        let round = begin(&job, RoundIdx(0), state)?;
        Ok(Rounds {
            job,
            current: RwLock::new(Arc::new(round)),
            task_files: TaskFiles::of(Arc::clone(&place.disk), place.files.clone()),
            place,
            inputs,
            output: Mutex::default(),
        })
    }

    fn check_inputs(&self) -> Result<(), Failure> {
        for input in &self.place.inputs {
            let changed = |what: String| {
                Failure::fatal(
                    Cause::InputChanged,
                    format!("`{}` changed while it was used: {what}", input.path),
                )
            };
            let now = InputIdentity::of_path(&*self.place.disk, Path::new(&input.path));
            match input.difference(&now.map_err(|error| changed(error.to_string()))?) {
                IdentityDifference::Same => {}
                IdentityDifference::Touched => return Err(changed("it was written to".to_owned())),
                IdentityDifference::Changed { what } => return Err(changed(what)),
            }
        }
        Ok(())
    }

    fn current(&self) -> Arc<Round<J::State>> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn output(&self) -> Result<Arc<dyn DiskFile>, Failure> {
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output
            .clone()
            .ok_or_else(|| Failure::fatal(Cause::Job, "the output is not open"))
    }

    fn write_report(&self, report: &Report, output: Arc<dyn DiskFile>) -> Result<(), Failure> {
        let failed = |error| storage_failure("write the output", &self.place.files.partial(), &error);
        match &report.0 {
            Contents::Bytes(bytes) => output.write_all_at(bytes, 0),
            Contents::Files(files) => self.copy_files(files, &*output),
        }
        .map_err(failed)?;
        *self.output.lock().unwrap_or_else(PoisonError::into_inner) = Some(output);
        Ok(())
    }

    fn copy_files(&self, files: &[TaskFile], output: &dyn DiskFile) -> io::Result<()> {
        let mut offset = 0;
        for file in files {
            let mut reader = self.task_files.open(file)?;
            loop {
                let ready = reader.fill_buf()?;
                if ready.is_empty() {
                    break;
                }
                output.write_all_at(ready, offset)?;
                let n_copied = ready.len();
                reader.consume(n_copied);
                offset += n_copied as u64;
            }
        }
        Ok(())
    }
}

/// What a commit holds: an output, and all files that its attempt finished, whether the output names them or not.
type Committed<Output> = (Output, Vec<TaskFile>);

fn begin<J: Job>(job: &J, round: RoundIdx, state: J::State) -> Result<Round<J::State>, Failure> {
    let (n_tasks, needs) =
        own_code::<J, _>("tasks and needs", || Ok((job.tasks(&state), job.needs(&state))))?;
    if !(1..=TASKS_MAX).contains(&n_tasks) {
        let text = match n_tasks {
            0 => format!("round {round} of `{}` has no tasks", J::KIND),
            _ => format!(
                "round {round} of `{}` has {n_tasks} tasks, and {TASKS_MAX} are allowed: let a task do more",
                J::KIND
            ),
        };
        return Err(Failure::fatal(Cause::Job, text));
    }
    Ok(Round {
        round,
        n_tasks,
        needs: reckoned(J::KIND, needs)?,
        state,
        needed: BTreeSet::new(),
    })
}

/// Calls a job's own code from a process that has other things to do than to end with it. Nobody calls it again.
pub(super) fn own_code<J: Job, R>(
    what: &str,
    call: impl FnOnce() -> Result<R, TaskError>,
) -> Result<R, Failure> {
    let called = caught(&format_args!("`{what}` of `{}`", J::KIND), || {
        call().map_err(|error| Failure::fatal(Cause::Job, error.text()))
    });
    called.map_err(|failure| Failure::fatal(failure.cause, failure.text))
}

/// As it is kept: MessagePack, which has all floating-point numbers and tells its own types. Fields have their names: without them one
/// that is left out (`skip_serializing_if`) would give its place to the next.
fn encode(what: &str, value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    rmp_serde::to_vec_named(value)
        .map_err(|error| Failure::fatal(Cause::Job, format!("{what} can't be kept: {error}")))
}

pub(crate) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Failure> {
    rmp_serde::from_slice(bytes)
        .map_err(|error| Failure::fatal(Cause::Job, format!("{what} can't be read back: {error}")))
}

impl<J: Job> tilework_runtime::Job for Rounds<J> {
    type Workspace = ();
    type Output = ();

    fn n_tasks(&self) -> u64 {
        self.current().n_tasks
    }

    fn needs(&self) -> Needs {
        self.current().needs
    }

    fn open_outputs(&self, resumed: bool) -> Result<(), Failure> {
        let (disk, partial) = (&self.place.disk, self.place.files.partial());
        let opened = if resumed {
            disk.open_write(&partial)
        } else {
            disk.create_new(&partial)
        };
        let file = opened.map_err(|error| storage_failure("open the output", &partial, &error))?;
        *self.output.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        let made = self.task_files.make_folder();
        made.map_err(|error| storage_failure("make the folder", &self.place.files.task_files(), &error))
    }

    fn writes_outputs(&self) -> bool {
        false
    }

    fn workspace(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn run(
        &self,
        (): &mut (),
        context: &tilework_runtime::TaskContext<'_>,
    ) -> Result<((), TaskSummary), Failure> {
        let current = self.current();
        if current.round != context.round {
            let text = format!(
                "the task is of round {}, this is {}",
                context.round, current.round
            );
            return Err(Failure::retry(Cause::Job, text));
        }
        let (state, task) = (&current.state, context.task.0);
        let attempt = Attempt {
            epoch: context.epoch,
            round: context.round,
            task: context.task,
            attempt: AttemptNo(context.attempt),
        };
        let files = AttemptFiles::new(&self.task_files, attempt);
        let computed = self.job.run(
            state,
            task,
            &TaskContext {
                inner: context,
                inputs: &self.inputs,
                files: &files,
            },
        );
        // Whatever the task says when it is told to stop.
        context.check_cancelled()?;
        let output = computed.map_err(|error| {
            if files.met_full_disk() {
                Failure::fatal(Cause::DiskFull, error.text())
            } else {
                failure(error)
            }
        })?;
        let checked = self.job.check(state, task, &output).map_err(failure)?;
        let committed: Committed<J::Output> = (output, files.finished());
        let bytes = encode("a task's output", &committed)?;
        if bytes.len() > OUTPUT_BYTES_MAX {
            let text = format!(
                "the output of task {task} has {} bytes, and {OUTPUT_BYTES_MAX} are allowed: let the task write it to a file \
                 (`TaskContext::create_file`) and return that, or split the job into more tasks",
                bytes.len()
            );
            return Err(Failure::fatal(Cause::Job, text));
        }
        files.keep();
        let summary = TaskSummary {
            checked: checked == Checked::Yes,
            crc32c: crc32c::crc32c(&bytes),
            residual: 0.0,
            residual_bound: 0.0,
            output: bytes,
        };
        Ok(((), summary))
    }

    /// Small outputs stand in the commit itself, and files were durable before the task returned.
    fn write(&self, _task: TaskIdx, (): ()) -> Result<(), Failure> {
        Ok(())
    }

    fn is_intact(&self, commit: &Commit) -> Result<bool, Failure> {
        if crc32c::crc32c(&commit.output) != commit.crc32c {
            return Ok(false);
        }
        let (_, files): Committed<J::Output> = decode("a task's output", &commit.output)?;
        for file in &files {
            let found = self.task_files.is_intact(file);
            if !found.map_err(|error| {
                storage_failure(
                    "read back what tasks wrote in",
                    &self.place.files.task_files(),
                    &error,
                )
            })? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What comes next may read the files of this round, when it is too late to write them again.
    fn reads_back_at_barriers(&self) -> bool {
        true
    }

    fn advance(
        &self,
        round: RoundIdx,
        commits: &mut dyn Iterator<Item = &Commit>,
    ) -> Result<tilework_runtime::Next<'_>, Failure> {
        let current = self.current();
        if current.round != round {
            let text = format!("round {round} is complete, and round {} under way", current.round);
            return Err(Failure::fatal(Cause::Job, text));
        }
        let (mut unreadable, mut tally) = (None, RoundTally::default());
        let mut commits = commits.inspect(|commit| tally.add(commit));
        let mut outputs = commits.by_ref().map_while(|commit| {
            decode("a task's output", &commit.output)
                .map(|(output, _): Committed<J::Output>| output)
                .map_err(|failure| unreadable = Some(failure))
                .ok()
        });
        let next = own_code::<J, _>("advance", || self.job.advance(&current.state, &mut outputs));
        if let Some(failure) = unreadable {
            return Err(failure);
        }
        // The job need not look at all of them.
        commits.for_each(drop);
        self.place.tally.complete(round, tally);
        match next? {
            Next::Round(state) => {
                let next = begin(&self.job, RoundIdx(round.0 + 1), state)?;
                let state = encode("the state", &next.state)?;
                if state.len() > STATE_BYTES_MAX {
                    let text = format!(
                        "the state of round {} has {} bytes, and {STATE_BYTES_MAX} are allowed: let tasks write what is large to files, \
                         and name those in the state",
                        next.round,
                        state.len()
                    );
                    return Err(Failure::fatal(Cause::Job, text));
                }
                Ok(tilework_runtime::Next::Round {
                    n_tasks: next.n_tasks,
                    state,
                })
            }
            Next::Done(report) => Ok(tilework_runtime::Next::DoneWith(Box::new(move |output| {
                self.write_report(&report, output)
            }))),
        }
    }

    fn adopt(&self, start: &RoundStart) -> Result<(), Failure> {
        let (state, needed) = with_named_files(|| decode("the state", &start.state));
        let mut round = begin(&self.job, start.round, state?)?;
        round.needed = needed;
        if round.n_tasks != start.n_tasks {
            let text = format!(
                "round {} began with {} tasks, and has {} now: does `{}` depend on more than its spec and state?",
                start.round,
                start.n_tasks,
                round.n_tasks,
                J::KIND
            );
            return Err(Failure::fatal(Cause::Job, text));
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(round);
        Ok(())
    }

    fn forget_earlier_rounds(&self, epoch: RunEpoch) {
        let current = self.current();
        let _ = self.task_files.remove(&|name| {
            let attempt = name.attempt;
            let is_earlier = attempt.round < current.round && attempt.epoch <= epoch;
            is_earlier && !current.needed.contains(&name.to_string())
        });
    }

    fn may_end_its_process(&self) -> bool {
        true
    }

    fn output_file(&self) -> Result<FileId, Failure> {
        let stat = self.output()?.stat();
        stat.map(|stat| stat.id())
            .map_err(|error| storage_failure("look at the output", &self.place.files.partial(), &error))
    }

    fn seal(&self) -> Result<(), Failure> {
        self.check_inputs()?;
        self.output()?
            .sync_data()
            .map_err(|error| storage_failure("make the output durable", &self.place.files.partial(), &error))
    }
}

#[cfg(test)]
mod tests;
