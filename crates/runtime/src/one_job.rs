//! The driver's host for one job in one process.

use crate::alarm_log::{AlarmLog, AlarmsTold, LoggedAlarm};
use crate::driver_loop::DriverHost;
use crate::engine::DriverPort;
use crate::job::Job;
use crate::run::{Observer, Progress, StopSwitch, check_fits};
use crate::steps::{JobSteps, Step, StepWatch};
use crate::worker_loop::Tally;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tilework_core::alarm::Alarm;
use tilework_core::driver::{Driver, DriverEvent, JobStart};
use tilework_core::failure::{Cause, Failure, JobEnd, StopCause};
use tilework_core::ids::{JobId, TaskIdx, WorkerIdx};
use tilework_core::message::{ToWorker, WorkerReport};
use tilework_core::task_table::TaskStatus;
use tilework_store::journal::{JobFiles, Recovered};

/// What a run tells, and is told, while its driver takes a step.
pub(crate) struct Around<'a> {
    pub(crate) observer: &'a dyn Observer,
    pub(crate) stop: &'a StopSwitch,
    pub(crate) memory_bytes: u64,
    pub(crate) report: &'a (dyn Fn(&Recovered) -> Vec<u8> + Sync),
}

impl StepWatch for Around<'_> {
    fn stop_requested(&self) -> Option<StopCause> {
        self.stop.requested()
    }

    fn on_damaged_output(&self, task: TaskIdx) {
        self.observer.on_damaged_output(task);
    }

    fn on_note(&self, note: &str) {
        self.observer.on_note(note);
    }

    /// The lock on the folder keeps others away.
    fn may_finish(&self) -> bool {
        true
    }

    fn report(&self, recovered: &Recovered) -> Vec<u8> {
        (self.report)(recovered)
    }
}

/// The host.
pub(crate) struct OneJobHost<'a, J: ?Sized> {
    steps: JobSteps<'a, J>,
    around: &'a Around<'a>,
    /// Of each worker.
    tallies: &'a [Tally],
    submitted: Option<JobStart>,
    stop_sent: bool,
    worker_lost: bool,
    /// Workers that said that they end.
    drained: BTreeSet<WorkerIdx>,
    workers: BTreeSet<WorkerIdx>,
    alarms: AlarmLog,
    counts: DriverCounts,
    end: Option<JobEnd>,
}

/// What the driver saw of a run that ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DriverCounts {
    pub(crate) n_committed_by_this_run: u64,
    pub(crate) n_retries: u64,
    /// Committed outputs that were read back damaged.
    pub(crate) n_damaged: u64,
    pub(crate) alarms: AlarmsTold,
}

impl<'a, J: Job + ?Sized> OneJobHost<'a, J> {
    pub(crate) fn new(
        steps: JobSteps<'a, J>,
        around: &'a Around<'a>,
        tallies: &'a [Tally],
        start: JobStart,
    ) -> OneJobHost<'a, J> {
        let alarms = AlarmLog::beside(Arc::clone(&steps.disk), &steps.files);
        OneJobHost {
            steps,
            around,
            tallies,
            submitted: Some(start),
            stop_sent: false,
            worker_lost: false,
            drained: BTreeSet::new(),
            workers: BTreeSet::new(),
            alarms,
            counts: DriverCounts::default(),
            end: None,
        }
    }

    /// How the run ended.
    pub(crate) fn into_end(self) -> (JobEnd, DriverCounts) {
        let lost = || JobEnd::Failed(Failure::fatal(Cause::Job, "the driver ended before the job"));
        let (alarms, written) = self.alarms.finish();
        if let Err(error) = written {
            note_unwritten(self.around.observer, &self.steps.files, &error);
        }
        let counts = DriverCounts {
            alarms,
            ..self.counts
        };
        (self.end.unwrap_or_else(lost), counts)
    }
}

impl<J: Job + ?Sized> DriverHost for OneJobHost<'_, J> {
    fn urgent(&mut self, machine: &Driver) -> Option<DriverEvent> {
        if self.submitted.is_some() {
            // What lies in everybody's queue when a worker joins may need more memory than that one has.
            let are_all_there = self.workers.len() == self.tallies.len() || self.worker_lost;
            let submitted = self.submitted.take_if(|_| are_all_there);
            return submitted.map(DriverEvent::Submitted);
        }
        let id = self.steps.id;
        if std::mem::take(&mut self.worker_lost) && !machine.is_stopping(id) {
            // Workers of this process don't come back: one that is gone without having been told so has panicked.
            let failure = Failure::fatal(Cause::Panic, "a worker ended unexpectedly");
            return Some(DriverEvent::StepFailed(id, failure));
        }
        let cause = self.around.stop.requested().filter(|_| !self.stop_sent)?;
        self.stop_sent = true;
        Some(DriverEvent::StopRequested(id, cause))
    }

    fn on_event(&mut self, event: &DriverEvent, machine: &Driver) {
        let id = self.steps.id;
        if let DriverEvent::Received(message) = event {
            self.workers.insert(message.worker);
            if message.body == WorkerReport::Drained {
                self.drained.insert(message.worker);
            }
        }
        // A worker ends by itself when a task hangs that nobody needs any more. The last one leaves nobody to go on.
        self.worker_lost |= matches!(event, DriverEvent::WorkerLost(worker)
            if !self.drained.contains(worker) || self.drained.len() == self.tallies.len());
        self.counts.n_retries = machine.n_retries(id).max(self.counts.n_retries);
        let Some(tasks) = machine.tasks(id) else {
            return;
        };
        let observer = self.around.observer;
        if let DriverEvent::Received(message) = event {
            match &message.body {
                WorkerReport::Committed(attempt) => {
                    if tasks.status(attempt.attempt.task) != Some(TaskStatus::Committed) {
                        self.counts.n_committed_by_this_run += 1;
                    }
                    observer.on_committed(attempt.attempt);
                }
                WorkerReport::Failed(attempt, failure) => observer.on_failed(attempt.attempt, failure),
                _ => {}
            }
        }
        if let DriverEvent::OutputsVerified(_, damaged) = event {
            self.counts.n_damaged += damaged.len() as u64;
        }
        let work_done = self
            .tallies
            .iter()
            .map(|tally| tally.work_done.load(Ordering::Relaxed));
        observer.on_progress(&Progress {
            round: machine.round(id).map_or(0, |round| round.0),
            n_tasks: tasks.n_tasks(),
            n_committed: tasks.n_committed(),
            work_done: work_done.sum(),
        });
    }

    fn take_step(&mut self, _job: JobId, step: Step, port: &mut dyn DriverPort) {
        let event = match self.steps.take(step) {
            DriverEvent::RoundReady(job, round) => {
                match check_fits(round.round, round.needs, self.around.memory_bytes) {
                    Ok(()) => DriverEvent::RoundReady(job, round),
                    Err(failure) => DriverEvent::StepFailed(job, failure),
                }
            }
            event => event,
        };
        let _ = port.inbox().send(event);
    }

    fn on_alarm(&mut self, alarm: &Alarm) {
        let logged = LoggedAlarm::now(alarm, self.steps.epoch);
        self.around.observer.on_alarm(alarm, &logged);
        if let Err(error) = self.alarms.append(logged) {
            note_unwritten(self.around.observer, &self.steps.files, &error);
        }
    }

    fn on_end(&mut self, _job: JobId, end: JobEnd, port: &mut dyn DriverPort) {
        for worker in &self.workers {
            port.send(*worker, ToWorker::Drain);
        }
        self.end = Some(end);
    }

    fn is_over(&self) -> bool {
        self.end.is_some()
    }
}

fn note_unwritten(observer: &dyn Observer, files: &JobFiles, error: &io::Error) {
    let path = files.alarms();
    observer.on_note(&format!("cannot write alarms to `{}`: {error}", path.display()));
}
