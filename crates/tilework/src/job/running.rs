//! From a spec to a finished output in this process: started, run, or gone on with.

use super::Job;
use super::kinds::{Kind, KindOf, Spec, check_name};
use super::rounds::{Place, StartedJob};
use super::tally::RoundsTally;
use crate::failure::{CliError, Exit};
use crate::product::running::{failed, finish, is_begun, stopped};
use crate::settings::default_memory_bytes;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::driver::Assign;
use tilework_core::failure::{Cause, JobEnd};
use tilework_runtime::description::{FORMAT_VERSION, InputsDifference};
use tilework_runtime::{
    AlarmsTold, FolderState, JobDescription, JobFolder, Observer, RunOptions, StopSwitch,
};
use tilework_store::disk::{Disk, FileId, RealDisk, parent_dir};
use tilework_store::identity::InputIdentity;
use tilework_store::journal::JobFiles;

/// A user's job as its journal stores it: nothing of how it is split is kept but what the spec says.
pub(crate) type Description = JobDescription<Value, Value>;

/// Runs jobs in this process.
///
/// By default it uses all processors, half of the memory that is free, and refuses to replace an output.
#[derive(Debug, Clone, Default)]
pub struct Runner {
    n_threads: Option<usize>,
    memory_bytes: Option<u64>,
    overwrite: bool,
    restart: bool,
    stop: StopSwitch,
}

/// A job that is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Tasks that this run computed, in all of its rounds.
    pub tasks_run: u64,
    /// Those, and those of `tasks_resumed`, whose outputs were checked ([`Job::check`]).
    pub tasks_checked: u64,
    /// Tasks of the round that it went on with that earlier runs had committed.
    pub tasks_resumed: u64,
    /// Attempts that were made again.
    pub retries: u64,
    /// Tasks that each worker computed.
    pub tasks_by_worker: Vec<u64>,
    /// What was told on the way.
    pub alarms: AlarmsTold,
    /// From the call to its return.
    pub elapsed: Duration,
}

impl Runner {
    /// With the defaults.
    pub fn new() -> Runner {
        Runner::default()
    }

    /// Tasks that run at a time, at most.
    pub fn threads(mut self, n_threads: usize) -> Runner {
        self.n_threads = Some(n_threads.max(1));
        self
    }

    /// Memory for all tasks that run at a time, in bytes: what one needs is the job's own word.
    pub fn memory(mut self, bytes: u64) -> Runner {
        self.memory_bytes = Some(bytes);
        self
    }

    /// Replaces an output that is there, once the new one is complete.
    pub fn overwrite(mut self) -> Runner {
        self.overwrite = true;
        self
    }

    /// Discards what is unfinished, instead of going on with it.
    pub fn restart(mut self) -> Runner {
        self.restart = true;
        self
    }

    /// Stops when the switch says so; the same call goes on later.
    pub fn stop(mut self, stop: StopSwitch) -> Runner {
        self.stop = stop;
        self
    }

    /// Computes the job into the file `output`, or goes on with it.
    ///
    /// # Errors
    /// What is wrong with the spec or the output; what failed; or that it was stopped. What is committed is kept beside the output.
    pub fn run<J: Job>(self, job: J, output: impl AsRef<Path>) -> Result<Finished, CliError> {
        let request = JobRequest {
            destination: Destination {
                output: output.as_ref().to_path_buf(),
                overwrite: self.overwrite,
                restart: self.restart,
            },
            n_threads: self
                .n_threads
                .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)),
            memory_bytes: match self.memory_bytes {
                Some(bytes) => bytes,
                None => default_memory_bytes(Path::new("/"))?,
            },
            round_robin: false,
        };
        let kind: &dyn Kind = &KindOf::<J>::NEW;
        check_name(kind.name())?;
        let spec = serde_json::to_value(&job)
            .map_err(|error| CliError::usage(format!("the spec of `{}` can't be kept: {error}", J::KIND)))?;
        run_job(kind, kind.read(spec)?, &request, &self.stop, &())
    }
}

/// A job that is to be run, and with what.
#[derive(Debug, Clone)]
pub(crate) struct JobRequest {
    /// Where its report goes.
    pub destination: Destination,
    /// Tasks that run at a time, at most.
    pub n_threads: usize,
    /// Memory for all of them.
    pub memory_bytes: u64,
    /// Whether task i goes to worker i mod n, instead of to whoever has room.
    pub round_robin: bool,
}

/// An output, and what may become of what is there.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    /// The file.
    pub output: PathBuf,
    /// A finished one may be replaced.
    pub overwrite: bool,
    /// An unfinished one is discarded.
    pub restart: bool,
}

/// Computes a job, or goes on with it.
///
/// # Errors
/// As [`Runner::run`].
pub(crate) fn run_job(
    kind: &dyn Kind,
    spec: Spec,
    request: &JobRequest,
    stop: &StopSwitch,
    observer: &dyn Observer,
) -> Result<Finished, CliError> {
    let started = Instant::now();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let Destination {
        output, overwrite, ..
    } = &request.destination;
    let fresh = describe(kind, &spec, &*disk, None)?;
    let tally: Arc<RoundsTally> = Arc::default();
    let place = Place {
        disk: Arc::clone(&disk),
        files: JobFiles::beside(output),
        inputs: fresh.inputs.clone(),
        tally: Arc::clone(&tally),
    };
    let job = kind.start(&spec, place)?;
    let n_workers = workers_that_fit(kind, &*job, request)?;
    let (mut folder, description) = request.destination.claim(&disk, fresh)?;
    let options = RunOptions {
        n_workers,
        memory_bytes: request.memory_bytes,
        assign: if request.round_robin {
            Assign::RoundRobin { n_workers }
        } else {
            Assign::Dynamic
        },
        // What is there now was there when somebody said --overwrite, for this run or for the one that it goes on with.
        may_replace_output: *overwrite || exists(&*disk, output)?,
        stop: stop.clone(),
    };
    let run = tilework_runtime::run(
        &job,
        &description.to_text(),
        &mut folder,
        &options,
        observer,
        &|_| done_report(&tally).to_string().into_bytes(),
    );
    let error = match run.end {
        JobEnd::Done => {
            finish(folder, observer);
            return Ok(Finished {
                tasks_run: run.n_tasks_run,
                tasks_checked: tally.total().n_checked,
                tasks_resumed: run.n_tasks_resumed,
                retries: run.n_retries,
                tasks_by_worker: run.workers.iter().map(|share| share.n_tasks).collect(),
                alarms: run.alarms,
                elapsed: started.elapsed(),
            });
        }
        JobEnd::Stopped(cause) => stopped(cause, output, None).with_next(AGAIN),
        // A later round may need more than the first one.
        JobEnd::Failed(failure) if failure.cause == Cause::OutOfMemory && !fits(&*job, request) => {
            too_little_memory(kind, &*job, request)
        }
        JobEnd::Failed(failure) => {
            let begun = is_begun(&folder);
            if !begun || (run.n_tasks_run == 0 && failure.cause == Cause::DiskFull) {
                folder.abandon();
            }
            failed(&failure, output, begun).with_next(next_after(failure.cause))
        }
    };
    Err(error.with_facts(json!({ "alarms": run.alarms.latest, "alarms_total": run.alarms.n_alarms })))
}

/// Only the program that knows the job can go on with it.
const AGAIN: &str = "what is committed is kept: run the same command again to go on";

fn next_after(cause: Cause) -> &'static str {
    match cause {
        Cause::DiskFull => "make room, then run the same command again: what is committed is kept",
        Cause::OutOfMemory => {
            "allow less with --memory or --threads, then run the same command again: what is committed is kept"
        }
        Cause::InputChanged => {
            "put the input back and run the same command again, or start again with --restart"
        }
        _ => AGAIN,
    }
}

/// What the journal keeps of a finished job: how many of its tasks were checked, in the rounds that its last run completed.
pub(crate) fn done_report(tally: &RoundsTally) -> Value {
    json!({ "tasks_checked": tally.total().n_checked })
}

/// What the journal says of a job; on a cluster its output has a name there.
pub(crate) fn describe(
    kind: &dyn Kind,
    spec: &Spec,
    disk: &dyn Disk,
    output: Option<String>,
) -> Result<Description, CliError> {
    Ok(Description {
        format_version: FORMAT_VERSION,
        kind: kind.name().to_owned(),
        version: kind.version(),
        numerics_version: 0,
        spec: spec.value.clone(),
        plan: Value::Null,
        inputs: identities(&spec.inputs, disk)?,
        output,
    })
}

/// What the inputs are now.
pub(crate) fn identities(inputs: &[PathBuf], disk: &dyn Disk) -> Result<Vec<InputIdentity>, CliError> {
    let identity = |path: &PathBuf| {
        InputIdentity::of_path(disk, path).map_err(|error| CliError::io("read", path, &error))
    };
    inputs.iter().map(identity).collect()
}

/// Tasks of the round that is under way that may run at a time.
fn workers_that_fit(kind: &dyn Kind, job: &StartedJob, request: &JobRequest) -> Result<u32, CliError> {
    if !fits(job, request) {
        return Err(too_little_memory(kind, job, request));
    }
    let n_fitting = request.memory_bytes / job.needs().memory_bytes.max(1);
    Ok(n_fitting.clamp(1, request.n_threads as u64) as u32)
}

/// Whether a task of the round that is under way fits.
fn fits(job: &StartedJob, request: &JobRequest) -> bool {
    job.needs().memory_bytes <= request.memory_bytes
}

fn too_little_memory(kind: &dyn Kind, job: &StartedJob, request: &JobRequest) -> CliError {
    let needed = job.needs().memory_bytes;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let message = format!(
        "{} MiB of memory are too few: a task of `{}` needs {} MiB, {} MiB more",
        request.memory_bytes >> 20,
        kind.name(),
        mib(needed),
        mib(needed) - (request.memory_bytes >> 20)
    );
    CliError::new(Exit::Resources, message).with_next(format!("allow it: --memory {}MiB", mib(needed)))
}

fn check_output(disk: &dyn Disk, output: &Path) -> Result<(), CliError> {
    let parent = parent_dir(output);
    let found = disk
        .stat(parent)
        .map_err(|error| CliError::io("look at", parent, &error))?;
    match found {
        Some(stat) if stat.is_dir => Ok(()),
        Some(_) => Err(CliError::usage(format!("`{}` is not a folder", parent.display()))
            .with_next("choose another output with -o")),
        None => Err(CliError::usage(format!(
            "the folder `{}` of the output does not exist",
            parent.display()
        ))
        .with_next(format!("make it: mkdir -p {}", parent.display()))),
    }
}

/// An output in a folder that the job reads would change its input: the job could never be finished.
fn check_is_in_no_input(disk: &dyn Disk, output: &Path, inputs: &[InputIdentity]) -> Result<(), CliError> {
    let above = folders_above(disk, output);
    let is_above = |input: &&InputIdentity| {
        let stat = disk.stat(Path::new(&input.path)).ok().flatten();
        stat.is_some_and(|stat| stat.is_dir && above.contains(&stat.id()))
    };
    match inputs.iter().find(is_above) {
        None => Ok(()),
        Some(input) => Err(CliError::usage(format!(
            "the output `{}` is in `{}`, which is an input: it would change what it is computed from",
            output.display(),
            input.path
        ))
        .with_next("choose an output in another folder with -o")),
    }
}

/// The folder that a path is in, the one that this is in, and so on.
fn folders_above(disk: &dyn Disk, path: &Path) -> Vec<FileId> {
    let id = |folder: &Path| Some(disk.stat(folder).ok()??.id());
    let mut folder = parent_dir(path).to_path_buf();
    if id(&folder.join("..")).is_none() {
        // In data roots there is no `..`: what is written is all there is.
        return folder.ancestors().filter_map(id).collect();
    }
    // As the folders are, whatever links led there; the uppermost one is its own.
    let mut found = Vec::new();
    while let Some(id) = id(&folder)
        && found.last() != Some(&id)
    {
        found.push(id);
        folder.push("..");
    }
    found
}

fn exists(disk: &dyn Disk, output: &Path) -> Result<bool, CliError> {
    let stat = disk
        .stat(output)
        .map_err(|error| CliError::io("look at", output, &error))?;
    Ok(stat.is_some())
}

impl Destination {
    /// Refuses what can't be begun or gone on with here; then the same again under the lock of the job's folder. Discards what is not
    /// gone on with.
    pub(crate) fn claim(
        &self,
        disk: &Arc<dyn Disk>,
        fresh: Description,
    ) -> Result<(JobFolder, Description), CliError> {
        check_output(&**disk, &self.output)?;
        check_is_in_no_input(&**disk, &self.output, &fresh.inputs)?;
        let state = tilework_runtime::folder::inspect(&**disk, &JobFiles::beside(&self.output))?;
        self.to_go_on_with(&state, &fresh, &**disk)?;
        let mut folder = JobFolder::open(Arc::clone(disk), &self.output)?;
        let stored = self.to_go_on_with(folder.state(), &fresh, &**disk)?;
        if stored.is_none() {
            folder.discard()?;
        }
        Ok((folder, stored.unwrap_or(fresh)))
    }

    /// The unfinished job at the output, as it was described when it began; nothing if one begins afresh.
    pub(crate) fn to_go_on_with(
        &self,
        state: &FolderState,
        fresh: &Description,
        disk: &dyn Disk,
    ) -> Result<Option<Description>, CliError> {
        let unfinished = match state {
            FolderState::Unfinished(recovered) => recovered.job_text.as_deref(),
            FolderState::Empty | FolderState::Finished(_) => None,
        };
        let output = self.output.display();
        if let Some(text) = unfinished.filter(|_| !self.restart) {
            return same_job(text, fresh)
                .map(Some)
                .map_err(|differences| another_job(&self.output, &differences));
        }
        if exists(disk, &self.output)? && !self.overwrite {
            return Err(CliError::usage(format!("`{output}` exists"))
                .with_next("add --overwrite to replace it (it is kept until the new one is complete)"));
        }
        Ok(None)
    }
}

/// What is unfinished at the output differs from what is to go on there: nothing of it is touched.
pub(crate) fn another_job(output: &Path, differences: &[String]) -> CliError {
    let message = format!(
        "`{}` is unfinished, and this is not the same job: {}",
        output.display(),
        differences.join("; ")
    );
    CliError::usage(message)
        .with_next("discard it with --restart, or finish it first with the same command as before")
}

/// Whether the code has changed since the job began; then how.
pub(crate) fn version_difference(then: u32, now: u32) -> Option<String> {
    (then != now).then(|| format!("its code was of version {then}, now of {now}"))
}

/// The stored job, if it is the one asked for; else how they differ.
fn same_job(text: &[u8], fresh: &Description) -> Result<Description, Vec<String>> {
    let stored = Description::from_text(text)
        .map_err(|error| vec![format!("it was begun by another release: {error}")])?;
    let mut differences = Vec::new();
    if stored.kind != fresh.kind {
        differences.push(format!("it was `{}`, now `{}`", stored.kind, fresh.kind));
    }
    differences.extend(version_difference(stored.version, fresh.version));
    if stored.spec != fresh.spec {
        differences.push(format!("its spec was {}, now {}", stored.spec, fresh.spec));
    }
    if let InputsDifference::Changed(changes) = stored.compare_inputs(&fresh.inputs) {
        differences.extend(changes);
    }
    match (&stored.output, &fresh.output) {
        (Some(_), None) => differences.push("it was begun on a cluster".to_owned()),
        (None, Some(_)) => differences.push("it was begun on one machine, without a cluster".to_owned()),
        (Some(then), Some(now)) if then != now => {
            differences.push(format!("it was begun under the name `{then}`"));
        }
        _ => {}
    }
    if differences.is_empty() {
        Ok(stored)
    } else {
        Err(differences)
    }
}
