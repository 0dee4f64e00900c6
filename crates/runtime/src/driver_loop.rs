//! Executes the driver machine's effects: releases, barriers, the final steps of a job.

use crate::engine::DriverPort;
use crate::folder::JobFolder;
use crate::job::{Job, Next};
use crate::journal_writer::JournalHandle;
use crate::run::{Observer, Progress, StopSwitch};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tilework_core::driver::{Driver, DriverEffect, DriverEvent};
use tilework_core::failure::{Cause, Failure, JobEnd};
use tilework_core::ids::{Millis, RoundIdx, RunEpoch, TaskIdx};
use tilework_core::limits::DRIVER_POLL_MS;
use tilework_core::message::WorkerReport;
use tilework_core::record::{Barrier, Commit, Record, Winner};
use tilework_core::task_table::TaskStatus;
use tilework_store::disk::is_disk_full;
use tilework_store::journal::{Recovered, compact, recover};

/// What the driver of a run works with.
pub(crate) struct DriverSide<'a, J: Job> {
    pub(crate) job: &'a J,
    pub(crate) folder: &'a JobFolder,
    pub(crate) journal: JournalHandle,
    pub(crate) observer: &'a dyn Observer,
    pub(crate) work_done: &'a AtomicU64,
    pub(crate) stop: &'a StopSwitch,
    pub(crate) epoch: RunEpoch,
    /// Whether an output of that name may be replaced.
    pub(crate) may_replace_output: bool,
    /// Makes the report that the journal's `Done` record holds.
    pub(crate) report: &'a dyn Fn(&Recovered) -> Vec<u8>,
}

/// Counts of a run that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DriverCounts {
    pub(crate) n_committed_by_this_run: u64,
    pub(crate) n_retries: u64,
    /// Committed outputs that were read back damaged.
    pub(crate) n_damaged: u64,
}

impl<J: Job> DriverSide<'_, J> {
    /// Drives the job to its end.
    pub(crate) fn drive(&self, mut machine: Driver, mut port: Box<dyn DriverPort>) -> (JobEnd, DriverCounts) {
        let start = Instant::now();
        let mut effects = Vec::new();
        let mut next_wake: Option<Instant> = None;
        let mut counts = DriverCounts::default();
        let mut stop_sent = false;
        loop {
            let poll = Duration::from_millis(DRIVER_POLL_MS);
            let until_wake =
                next_wake.map_or(poll, |at| at.saturating_duration_since(Instant::now()).min(poll));
            let event = match self.stop.requested() {
                Some(cause) if !stop_sent => {
                    stop_sent = true;
                    DriverEvent::StopRequested(cause)
                }
                _ => port.next(until_wake).unwrap_or(DriverEvent::Tick),
            };
            self.observe(&event, &machine, &mut counts);
            let lost_worker = matches!(event, DriverEvent::WorkerLost(_));
            next_wake = None;
            let now = Millis(start.elapsed().as_millis() as u64);
            machine.on_event(now, event, &mut effects);
            if lost_worker && !machine.is_stopping() {
                // Workers of this process don't come back: one that is gone without having been told so has panicked.
                let failure = Failure::fatal(Cause::Panic, "a worker ended unexpectedly");
                machine.on_event(now, DriverEvent::StepFailed(failure), &mut effects);
            }
            for effect in std::mem::take(&mut effects) {
                let answer = match effect {
                    DriverEffect::Release(attempt) => {
                        port.release(attempt);
                        continue;
                    }
                    DriverEffect::Send(worker, message) => {
                        port.send(worker, message);
                        continue;
                    }
                    DriverEffect::WakeAt(at) => {
                        next_wake = Some(start + Duration::from_millis(at.0));
                        continue;
                    }
                    DriverEffect::End(end) => {
                        counts.n_retries = machine.n_retries();
                        return (end, counts);
                    }
                    DriverEffect::Advance(round) => self.advance(round),
                    DriverEffect::VerifyOutputs => self.verify_outputs(),
                    DriverEffect::FinishOutputs => self.finish_outputs(),
                };
                let _ = port.inbox().send(answer.unwrap_or_else(DriverEvent::StepFailed));
            }
        }
    }

    fn observe(&self, event: &DriverEvent, machine: &Driver, counts: &mut DriverCounts) {
        if let DriverEvent::Received(message) = event {
            match &message.body {
                WorkerReport::Committed(attempt) => {
                    if machine.tasks().status(attempt.task) != Some(TaskStatus::Committed) {
                        counts.n_committed_by_this_run += 1;
                    }
                    self.observer.on_committed(*attempt);
                }
                WorkerReport::Failed(attempt, failure) => self.observer.on_failed(*attempt, failure),
                _ => {}
            }
        }
        if let DriverEvent::OutputsVerified(damaged) = event {
            counts.n_damaged += damaged.len() as u64;
        }
        self.observer.on_progress(&Progress {
            n_tasks: machine.tasks().n_tasks(),
            n_committed: machine.tasks().n_committed(),
            work_done: self.work_done.load(Ordering::Relaxed),
        });
    }

    /// Publishes the barrier, then asks the job what comes next.
    fn advance(&self, round: RoundIdx) -> Result<DriverEvent, Failure> {
        let recovered = self.recovered()?;
        let commits: Vec<&Commit> = recovered
            .commits
            .values()
            .filter(|commit| commit.attempt.round == round)
            .collect();
        let winner = |commit: &&Commit| Winner {
            epoch: commit.attempt.epoch,
            attempt: commit.attempt.attempt,
        };
        let winners = commits.iter().map(winner).collect();
        let barrier = Barrier {
            round,
            epoch: self.epoch,
            winners,
        };
        self.append(Record::Barrier(barrier))?;
        match self.job.advance(round, &mut commits.into_iter())? {
            Next::Round(n_tasks) => Ok(DriverEvent::RoundReady(RoundIdx(round.0 + 1), n_tasks)),
            Next::Done => Ok(DriverEvent::RoundsDone),
        }
    }

    fn verify_outputs(&self) -> Result<DriverEvent, Failure> {
        let mut bad_tasks: Vec<TaskIdx> = Vec::new();
        for commit in self.recovered()?.commits.values() {
            if let Some(cause) = self.stop.requested() {
                return Ok(DriverEvent::StopRequested(cause));
            }
            if !self.job.is_intact(commit)? {
                self.observer.on_damaged_output(commit.attempt.task);
                bad_tasks.push(commit.attempt.task);
            }
        }
        Ok(DriverEvent::OutputsVerified(bad_tasks))
    }

    /// Data durable -> `Done` record -> rename -> folder durable -> one journal file. A crash between any two is resumed.
    fn finish_outputs(&self) -> Result<DriverEvent, Failure> {
        self.job.seal()?;
        let report = (self.report)(&self.recovered()?);
        self.append(Record::Done(report))?;
        let recovered = self.recovered()?;
        let files = self.folder.files();
        let disk = self.folder.disk();
        let appeared = !self.may_replace_output && disk.stat(files.output()).is_ok_and(|stat| stat.is_some());
        if appeared {
            let text = format!(
                "`{}` appeared while it was computed: it is not replaced",
                files.output().display()
            );
            return Err(Failure::fatal(Cause::Job, text));
        }
        disk.rename(&files.partial(), files.output())
            .and_then(|()| disk.sync_dir(&files.parent()))
            .map_err(|error| storage_failure("give the output its name", &error))?;
        compact(&**disk, files, &recovered)
            .map_err(|error| storage_failure("compact the journal", &error))?;
        Ok(DriverEvent::OutputsFinished)
    }

    fn recovered(&self) -> Result<Recovered, Failure> {
        let found = recover(&**self.folder.disk(), self.folder.files());
        let found = found.map_err(|error| storage_failure("read the journal", &error))?;
        found.map(|(recovered, _)| recovered).ok_or_else(|| {
            let text = format!(
                "the journal in `{}` is gone",
                self.folder.files().folder().display()
            );
            Failure::fatal(Cause::Storage, text)
        })
    }

    fn append(&self, record: Record) -> Result<(), Failure> {
        self.journal
            .append_and_wait(record)
            .map_err(|error| storage_failure("write the journal", &error))
    }
}

/// A failed step of the driver's own.
pub(crate) fn storage_failure(what: &str, error: &io::Error) -> Failure {
    let cause = if is_disk_full(error) {
        Cause::DiskFull
    } else {
        Cause::Storage
    };
    Failure::fatal(cause, format!("cannot {what}: {error}"))
}
