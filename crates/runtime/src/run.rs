//! One job in one process: a driver, its workers, and the local engine between them.

use crate::alarm_log::{AlarmsTold, LoggedAlarm};
use crate::driver_loop::{DriverHost, drive};
use crate::folder::{FolderError, FolderState, JobFolder};
use crate::job::Job;
use crate::journal_writer::JournalWriter;
use crate::local::local_engine;
use crate::one_job::{Around, DriverCounts, OneJobHost};
use crate::served::{OneJob, Served};
use crate::steps::{JobSteps, storage_failure};
use crate::threads::start_scoped;
use crate::under_way::{SilentEnds, UnderWay};
use crate::wall_clock::unix_ms;
use crate::worker_loop::{Shared, Tally, work};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::alarm::{Alarm, AlarmKind};
use tilework_core::driver::{Assign, JobStart, Needs, WhenFull};
use tilework_core::failure::{Cause, Failure, JobEnd, StopCause};
use tilework_core::ids::{Attempt, RoundIdx, RunEpoch, TaskIdx, WorkerIdx};
use tilework_store::journal::Recovered;
use tilework_store::journal::recover::job_id;

/// Asks a run to stop, from a signal's thread or by a deadline. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct StopSwitch {
    interrupted: Arc<AtomicBool>,
    deadline: Option<Instant>,
}

impl StopSwitch {
    /// A switch that also stops at `deadline`.
    pub fn with_deadline(deadline: Option<Instant>) -> StopSwitch {
        StopSwitch {
            deadline,
            ..StopSwitch::default()
        }
    }

    /// Stops the run as Ctrl-C does; `false` if it was already asked to.
    pub fn interrupt(&self) -> bool {
        !self.interrupted.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn interrupted(&self) -> &AtomicBool {
        &self.interrupted
    }

    /// Why the run should stop, if it should.
    pub fn requested(&self) -> Option<StopCause> {
        if self.interrupted.load(Ordering::Relaxed) {
            Some(StopCause::Interrupted)
        } else if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            Some(StopCause::TimeLimit)
        } else {
            None
        }
    }
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The round, from 0.
    pub round: u32,
    /// Tasks of the round.
    pub n_tasks: u64,
    /// Tasks committed, by this run and earlier ones.
    pub n_committed: u64,
    /// Work done by this run, in the job's own unit, unfinished tasks included.
    pub work_done: u64,
}

/// Watches a run: progress bars, logs. Every method may be called from any thread and must return at once.
pub trait Observer: Sync {
    /// Called a few times a second.
    fn on_progress(&self, _progress: &Progress) {}
    /// An attempt starts.
    fn on_started(&self, _attempt: Attempt) {}
    /// An attempt is committed.
    fn on_committed(&self, _attempt: Attempt) {}
    /// An attempt failed.
    fn on_failed(&self, _attempt: Attempt, _failure: &Failure) {}
    /// Something happened that a user may want to know of.
    /// `_logged` is what is written of it beside the output.
    fn on_alarm(&self, _alarm: &Alarm, _logged: &LoggedAlarm) {}
    /// Something worth telling the user.
    fn on_note(&self, _note: &str) {}
    /// A committed output was read back damaged; its task runs again.
    fn on_damaged_output(&self, _task: TaskIdx) {}
}

/// Nobody watches.
impl Observer for () {}

/// How a run is carried out.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Workers in this process, at least 1.
    pub n_workers: u32,
    /// Memory for the tasks that run at a time. Of n workers the i-th, counted from 1, may have 1/i of it: so of any round as many tasks run at
    /// a time as fit into it together.
    pub memory_bytes: u64,
    /// How tasks find their workers.
    pub assign: Assign,
    /// Whether a file under the output's final name may be replaced.
    pub may_replace_output: bool,
    /// Stops it early.
    pub stop: StopSwitch,
}

/// How a run ended, and what it did.
#[derive(Debug, Clone, PartialEq)]
pub struct RunReport {
    /// How it ended.
    pub end: JobEnd,
    /// Tasks that this run committed.
    pub n_tasks_run: u64,
    /// Tasks that earlier runs had committed.
    pub n_tasks_resumed: u64,
    /// Attempts that had to be made again.
    pub n_retries: u64,
    /// What users were told of.
    pub alarms: AlarmsTold,
    /// What each worker did.
    pub workers: Vec<WorkerShare>,
    /// From the call to its return.
    pub elapsed: Duration,
}

/// What one worker did in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerShare {
    /// Which.
    pub worker: WorkerIdx,
    /// Tasks that it computed, backups among them.
    pub n_tasks: u64,
    /// How long that took it.
    pub busy: Duration,
    /// Work that it did, in the job's own unit, unfinished tasks included.
    pub work: u64,
}

/// Runs `job`, described by `job_text`, in its folder until it is done, stopped, or has failed.
///
/// A task that hangs past its deadline ends the run with a failure of [`Cause::Hung`]: its thread goes on until the task or the process
/// ends, with its share of `job`, and nothing of what it computes counts any more.
///
/// A folder whose state is `Unfinished` is resumed: the caller has made sure that it is the same job. `report` makes the
/// text that the journal keeps of the finished job.
pub fn run<J: Job + ?Sized + 'static>(
    job: &Arc<J>,
    job_text: &[u8],
    folder: &mut JobFolder,
    options: &RunOptions,
    observer: &dyn Observer,
    report: &(dyn Fn(&Recovered) -> Vec<u8> + Sync),
) -> RunReport {
    let started = Instant::now();
    let resumed = enter_round(&**job, folder).map(|round| {
        let committed = folder.committed_tasks(job.n_tasks());
        let is_committed = |task| committed.contains(&task);
        let left = UnderWay::left(&**folder.disk(), folder.files(), round, is_committed);
        folder.forget_commits();
        Resumed {
            round,
            committed,
            left,
        }
    });
    let n_tasks_resumed = resumed
        .as_ref()
        .map_or(0, |resumed| resumed.committed.len() as u64);
    let (end, counts, workers) = resumed
        .and_then(|resumed| try_run(job, job_text, folder, options, observer, report, resumed))
        .unwrap_or_else(|failure| (JobEnd::Failed(failure), DriverCounts::default(), Vec::new()));
    RunReport {
        end,
        n_tasks_run: counts.n_committed_by_this_run,
        n_tasks_resumed: n_tasks_resumed - counts.n_damaged.min(n_tasks_resumed),
        n_retries: counts.n_retries,
        alarms: counts.alarms,
        workers,
        elapsed: started.elapsed(),
    }
}

/// What earlier runs left.
struct Resumed {
    round: RoundIdx,
    committed: Vec<TaskIdx>,
    /// What ran when the last one ended without a word.
    left: SilentEnds,
}

/// Lets the job go on with the round that an earlier run came to.
///
/// # Errors
/// If it can't read the state that the round began with.
pub fn enter_round<J: Job + ?Sized>(job: &J, folder: &JobFolder) -> Result<RoundIdx, Failure> {
    let begun = match folder.state() {
        FolderState::Unfinished(recovered) => {
            if let Some(round) = recovered.damaged_round {
                let text = format!(
                    "`{}` is damaged, and with it what the rounds before came to: start again with --restart",
                    folder.files().round(round).display()
                );
                return Err(Failure::fatal(Cause::Storage, text));
            }
            recovered.round.as_ref()
        }
        FolderState::Empty | FolderState::Finished(_) => None,
    };
    begun.map_or(Ok(RoundIdx(0)), |begun| {
        job.adopt(begun)?;
        Ok(begun.round)
    })
}

fn try_run<J: Job + ?Sized + 'static>(
    job: &Arc<J>,
    job_text: &[u8],
    folder: &mut JobFolder,
    options: &RunOptions,
    observer: &dyn Observer,
    report: &(dyn Fn(&Recovered) -> Vec<u8> + Sync),
    Resumed {
        round,
        committed,
        left,
    }: Resumed,
) -> Result<(JobEnd, DriverCounts, Vec<WorkerShare>), Failure> {
    let resumed = round > RoundIdx(0) || !committed.is_empty();
    let needs = job.needs();
    check_fits(round, needs, options.memory_bytes)?;
    if !resumed {
        // Commits of an earlier run must not come back to life over the fresh output.
        folder.discard().map_err(|error| match error {
            FolderError::Io { path, source } => storage_failure("clear", &path, &source),
            FolderError::Busy { .. } => Failure::fatal(Cause::Storage, error.to_string()),
        })?;
    }
    job.open_outputs(resumed)?;
    let (epoch, segment) = folder
        .start_run(RunEpoch(0), job_text, unix_ms())
        .map_err(|error| storage_failure("start the journal in", &folder.files().folder(), &error))?;
    let writer = JournalWriter::start(segment)?;
    let tallies: Vec<Tally> = (0..options.n_workers).map(|_| Tally::default()).collect();
    let id = job_id(job_text);
    let start = JobStart {
        job: id,
        epoch,
        adopts_from: epoch,
        round,
        n_tasks: job.n_tasks(),
        needs,
        committed,
        resumed,
        took_over: false,
        one_machine: true,
        assign: options.assign,
        backups: true,
        when_full: WhenFull::Stop,
        deadline: None,
        unable: Default::default(),
    };
    let around = Around {
        observer,
        stop: &options.stop,
        memory_bytes: options.memory_bytes,
        report,
    };
    let steps = JobSteps {
        job: &**job,
        disk: Arc::clone(folder.disk()),
        files: folder.files().clone(),
        journal: writer.handle(),
        id,
        epoch,
        n_tasks: job.n_tasks(),
        may_replace_output: options.may_replace_output,
        // A resume has planned memory for one buffer.
        n_verifiers: 1,
        watch: &around,
    };
    let mut host = OneJobHost::new(steps, &around, &tallies, start);
    let under_way = note_what_runs(&**job, folder, options, observer, &left);
    if !left.is_empty() {
        host.on_alarm(&Alarm {
            job: Some(id),
            kind: AlarmKind::RunEndedSilently {
                tasks: left.into_iter().collect(),
            },
        });
    }
    let jobs = Arc::new(OneJob::new(
        id,
        Served::new(Arc::clone(job), writer.handle()),
        under_way,
    ));
    let shared = |worker: u32| Shared {
        jobs: Arc::clone(&jobs) as _,
        observer,
        memory_bytes: options.memory_bytes / u64::from(worker + 1),
    };
    let (driver_port, worker_ports) = local_engine(options.n_workers);
    let worked: Result<(), Failure> = thread::scope(|scope| {
        // Its end tells the workers to end, whatever happened.
        let mut driver_port = driver_port;
        let mut workers = Vec::new();
        for ((port, tally), worker) in worker_ports.into_iter().zip(&tallies).zip(0..) {
            let shared = shared(worker);
            let work = move || work(&shared, tally, Box::new(port)).map(drop);
            workers.push(start_scoped(scope, "is a worker", work)?);
        }
        drive(&mut driver_port, &mut host);
        drop(driver_port);
        let ended = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
        ended.fold(Ok(()), Result::and)
    });
    let (end, counts) = host.into_end();
    let end = match (end, worked) {
        // That a worker is gone is less than why.
        (JobEnd::Failed(_), Err(failure)) => JobEnd::Failed(failure),
        (end, _) => end,
    };
    drop(jobs);
    drop(writer);
    UnderWay::end(&**folder.disk(), folder.files());
    let shares = tallies.iter().zip(0..).map(share);
    Ok((end, counts, shares.collect()))
}

/// Whether a task of the round fits into the memory that there is. Within a process nobody brings more.
pub(crate) fn check_fits(round: RoundIdx, needs: Needs, memory_bytes: u64) -> Result<(), Failure> {
    if needs.memory_bytes <= memory_bytes {
        return Ok(());
    }
    let text = format!(
        "a task of round {round} needs {} bytes of memory, and {memory_bytes} are allowed",
        needs.memory_bytes
    );
    Err(Failure::fatal(Cause::OutOfMemory, text))
}

/// Without the file nobody can tell later what ran, and that is all.
fn note_what_runs<J: Job + ?Sized>(
    job: &J,
    folder: &JobFolder,
    options: &RunOptions,
    observer: &dyn Observer,
    left: &SilentEnds,
) -> Option<UnderWay> {
    if !job.may_end_its_process() {
        return None;
    }
    let begun = UnderWay::begin(&**folder.disk(), folder.files(), options.n_workers, left.clone());
    let path = folder.files().under_way();
    begun
        .map_err(|error| observer.on_note(&format!("cannot write `{}`: {error}", path.display())))
        .ok()
}

fn share((tally, worker): (&Tally, u32)) -> WorkerShare {
    let (n_tasks, busy) = *tally.computed.lock().unwrap_or_else(PoisonError::into_inner);
    WorkerShare {
        worker: WorkerIdx(worker),
        n_tasks,
        busy,
        work: tally.work_done.load(Ordering::Relaxed),
    }
}
