//! A job of a library user as the runtime runs it: its state behind a lock, its outputs as bytes, its report as a file.

use super::{Checked, Job, Next, OUTPUT_BYTES_MAX, Report, TaskContext, TaskError, failure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tilework_core::driver::Needs;
use tilework_core::failure::{Cause, Failure};
use tilework_core::ids::{RoundIdx, TaskIdx};
use tilework_core::record::{Commit, RoundStart};
use tilework_runtime::TaskSummary;
use tilework_runtime::steps::storage_failure;
use tilework_store::disk::{Disk, DiskFile, DiskFileExt, FileId};
use tilework_store::identity::{IdentityDifference, InputIdentity};

/// A started job.
pub struct Rounds<J: Job> {
    job: J,
    current: RwLock<Arc<Round<J::State>>>,
    disk: Arc<dyn Disk>,
    partial: PathBuf,
    output: Mutex<Option<Arc<dyn DiskFile>>>,
    /// What the inputs were when this run began.
    inputs: Vec<InputIdentity>,
}

/// The round that is under way.
struct Round<State> {
    round: RoundIdx,
    n_tasks: u64,
    state: State,
}

impl<J: Job> Rounds<J> {
    /// Starts the job, whose output is `partial` until it is complete.
    ///
    /// # Errors
    /// What the job says of its spec, or that it has no tasks.
    pub fn start(
        job: J,
        disk: Arc<dyn Disk>,
        partial: PathBuf,
        inputs: Vec<InputIdentity>,
    ) -> Result<Rounds<J>, TaskError> {
        let state = job.start()?;
        let round = begin(&job, RoundIdx(0), state)?;
        Ok(Rounds {
            job,
            current: RwLock::new(Arc::new(round)),
            disk,
            partial,
            output: Mutex::default(),
            inputs,
        })
    }

    fn check_inputs(&self) -> Result<(), Failure> {
        for input in &self.inputs {
            let changed = |what: String| {
                Failure::fatal(
                    Cause::InputChanged,
                    format!("`{}` changed while it was used: {what}", input.path),
                )
            };
            let now = InputIdentity::of_file(&*self.disk, Path::new(&input.path));
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

    fn write_report(&self, report: &Report) -> Result<(), Failure> {
        let failed = |error| storage_failure("write the output", &error);
        let output = self.output()?;
        // A run before this one may have got so far, and not further.
        output.set_len(0).map_err(failed)?;
        output.write_all_at(&report.bytes, 0).map_err(failed)
    }
}

fn begin<J: Job>(job: &J, round: RoundIdx, state: J::State) -> Result<Round<J::State>, TaskError> {
    match job.tasks(&state) {
        0 => Err(TaskError::fatal(format!(
            "round {round} of `{}` has no tasks",
            J::KIND
        ))),
        n_tasks => Ok(Round {
            round,
            n_tasks,
            state,
        }),
    }
}

/// As it is kept: MessagePack, which has all floating-point numbers and tells its own types.
fn encode(what: &str, value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    rmp_serde::to_vec(value)
        .map_err(|error| Failure::fatal(Cause::Job, format!("{what} can't be kept: {error}")))
}

fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Failure> {
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
        let needs = self.job.needs(&self.current().state);
        Needs {
            memory_bytes: needs.memory_bytes,
            expected_ms: ((needs.expected_s * 1e3) as u64).max(1),
            deadline_ms: needs
                .deadline_s
                .is_finite()
                .then_some((needs.deadline_s * 1e3) as u64),
        }
    }

    fn open_outputs(&self, resumed: bool) -> Result<(), Failure> {
        let opened = if resumed {
            self.disk.open_write(&self.partial)
        } else {
            self.disk.create_new(&self.partial)
        };
        let file = opened.map_err(|error| storage_failure("open the output", &error))?;
        *self.output.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        Ok(())
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
        let computed = self.job.run(state, task, &TaskContext { inner: context });
        // Whatever the task says when it is told to stop.
        context.check_cancelled()?;
        let output = computed.map_err(failure)?;
        let checked = self.job.check(state, task, &output).map_err(failure)?;
        let bytes = encode("a task's output", &output)?;
        if bytes.len() > OUTPUT_BYTES_MAX {
            let text = format!(
                "the output of task {task} has {} bytes, and {OUTPUT_BYTES_MAX} are allowed: split the job into more tasks",
                bytes.len()
            );
            return Err(Failure::fatal(Cause::Job, text));
        }
        let summary = TaskSummary {
            checked: checked == Checked::Yes,
            crc32c: crc32c::crc32c(&bytes),
            residual: 0.0,
            residual_bound: 0.0,
            output: bytes,
        };
        Ok(((), summary))
    }

    /// Small outputs stand in the commit itself.
    fn write(&self, _task: TaskIdx, (): ()) -> Result<(), Failure> {
        Ok(())
    }

    fn is_intact(&self, commit: &Commit) -> Result<bool, Failure> {
        Ok(crc32c::crc32c(&commit.output) == commit.crc32c)
    }

    fn advance(
        &self,
        round: RoundIdx,
        commits: &mut dyn Iterator<Item = &Commit>,
    ) -> Result<tilework_runtime::Next, Failure> {
        let current = self.current();
        if current.round != round {
            let text = format!("round {round} is complete, and round {} under way", current.round);
            return Err(Failure::fatal(Cause::Job, text));
        }
        let mut unreadable = None;
        let mut outputs = commits.map_while(|commit| {
            decode("a task's output", &commit.output)
                .map_err(|failure| unreadable = Some(failure))
                .ok()
        });
        let next = self.job.advance(&current.state, &mut outputs);
        drop(outputs);
        if let Some(failure) = unreadable {
            return Err(failure);
        }
        let fatal = |error: TaskError| Failure::fatal(Cause::Job, error.text());
        match next.map_err(fatal)? {
            Next::Round(state) => {
                let next = begin(&self.job, RoundIdx(round.0 + 1), state).map_err(fatal)?;
                Ok(tilework_runtime::Next::Round {
                    n_tasks: next.n_tasks,
                    state: encode("the state", &next.state)?,
                })
            }
            Next::Done(report) => {
                self.write_report(&report)?;
                Ok(tilework_runtime::Next::Done)
            }
        }
    }

    fn adopt(&self, start: &RoundStart) -> Result<(), Failure> {
        let state = decode("the state", &start.state)?;
        let fatal = |error: TaskError| Failure::fatal(Cause::Job, error.text());
        let round = begin(&self.job, start.round, state).map_err(fatal)?;
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

    fn may_end_its_process(&self) -> bool {
        true
    }

    fn output_file(&self) -> Result<FileId, Failure> {
        let stat = self.output()?.stat();
        stat.map(|stat| stat.id())
            .map_err(|error| storage_failure("look at the output", &error))
    }

    fn seal(&self) -> Result<(), Failure> {
        self.check_inputs()?;
        self.output()?
            .sync_data()
            .map_err(|error| storage_failure("make the output durable", &error))
    }
}
