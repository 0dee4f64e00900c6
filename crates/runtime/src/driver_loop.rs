//! Executes the driver machine's effects: releases, barriers, the final steps of a job.

use crate::alarm_log::{AlarmLog, AlarmsTold, LoggedAlarm};
use crate::engine::DriverPort;
use crate::folder::JobFolder;
use crate::job::{Job, Next};
use crate::journal_writer::JournalHandle;
use crate::run::{Observer, Progress, StopSwitch};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tilework_core::alarm::Alarm;
use tilework_core::driver::{Driver, DriverEffect, DriverEvent, JobStart, Round};
use tilework_core::failure::{Cause, Failure, JobEnd};
use tilework_core::ids::{JobId, Millis, RoundIdx, RunEpoch, TaskIdx};
use tilework_core::limits::DRIVER_POLL_MS;
use tilework_core::message::{ToWorker, WorkerReport};
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
    /// Of each worker.
    pub(crate) work_done: &'a [AtomicU64],
    pub(crate) stop: &'a StopSwitch,
    pub(crate) id: JobId,
    pub(crate) epoch: RunEpoch,
    /// Tasks of the current round.
    pub(crate) n_tasks: Cell<u64>,
    /// Whether an output of that name may be replaced.
    pub(crate) may_replace_output: bool,
    /// Makes the report that the journal's `Done` record holds.
    pub(crate) report: &'a dyn Fn(&Recovered) -> Vec<u8>,
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

impl<J: Job> DriverSide<'_, J> {
    /// Drives the job to its end, and then sends the workers home.
    pub(crate) fn drive(&self, start: JobStart, mut port: Box<dyn DriverPort>) -> (JobEnd, DriverCounts) {
        let started = Instant::now();
        let mut machine = Driver::new();
        let mut effects = Vec::new();
        let mut workers = BTreeSet::new();
        let mut next_wake: Option<Instant> = None;
        let mut counts = DriverCounts::default();
        let mut stop_sent = false;
        let mut submitted = Some(start);
        let mut alarm_log = AlarmLog::beside(Arc::clone(self.folder.disk()), self.folder.files());
        loop {
            let poll = Duration::from_millis(DRIVER_POLL_MS);
            let until_wake =
                next_wake.map_or(poll, |at| at.saturating_duration_since(Instant::now()).min(poll));
            let event = match (submitted.take(), self.stop.requested()) {
                (Some(start), _) => DriverEvent::Submitted(start),
                (None, Some(cause)) if !stop_sent => {
                    stop_sent = true;
                    DriverEvent::StopRequested(self.id, cause)
                }
                _ => port.next(until_wake).unwrap_or(DriverEvent::Tick),
            };
            self.observe(&event, &machine, &mut counts);
            if let DriverEvent::Received(message) = &event {
                workers.insert(message.worker);
            }
            let lost_worker = matches!(event, DriverEvent::WorkerLost(_));
            next_wake = None;
            let now = Millis(started.elapsed().as_millis() as u64);
            machine.on_event(now, event, &mut effects);
            if lost_worker && !machine.is_stopping(self.id) {
                // Workers of this process don't come back: one that is gone without having been told so has panicked.
                let failure = Failure::fatal(Cause::Panic, "a worker ended unexpectedly");
                machine.on_event(now, DriverEvent::StepFailed(self.id, failure), &mut effects);
            }
            counts.n_retries = machine.n_retries(self.id).max(counts.n_retries);
            for effect in std::mem::take(&mut effects) {
                let answer = match effect {
                    DriverEffect::Release(attempt, queue) => {
                        port.release(attempt, queue);
                        continue;
                    }
                    DriverEffect::Send(worker, message) => {
                        port.send(worker, message);
                        continue;
                    }
                    DriverEffect::Alarm(alarm) => {
                        self.tell(&alarm, &mut alarm_log);
                        continue;
                    }
                    DriverEffect::WakeAt(at) => {
                        next_wake = Some(started + Duration::from_millis(at.0));
                        continue;
                    }
                    DriverEffect::End(_, end) => {
                        for worker in workers {
                            port.send(worker, ToWorker::Drain);
                        }
                        counts.alarms = alarm_log.into_told();
                        return (end, counts);
                    }
                    DriverEffect::Advance(_, round) => self.advance(round),
                    DriverEffect::ReadCommits(_, round) => self.read_commits(round),
                    DriverEffect::VerifyOutputs(_) => self.verify_outputs(),
                    DriverEffect::FinishOutputs(_) => self.finish_outputs(),
                };
                let failed = |failure| DriverEvent::StepFailed(self.id, failure);
                let _ = port.inbox().send(answer.unwrap_or_else(failed));
            }
        }
    }

    fn tell(&self, alarm: &Alarm, log: &mut AlarmLog) {
        let logged = LoggedAlarm::now(alarm, self.epoch);
        self.observer.on_alarm(alarm, &logged);
        if let Err(error) = log.append(logged) {
            self.observer.on_note(&format!(
                "cannot write the alarm to `{}`: {error}",
                self.folder.files().alarms().display()
            ));
        }
    }

    fn observe(&self, event: &DriverEvent, machine: &Driver, counts: &mut DriverCounts) {
        let Some(tasks) = machine.tasks(self.id) else {
            return;
        };
        if let DriverEvent::Received(message) = event {
            match &message.body {
                WorkerReport::Committed(attempt) => {
                    if tasks.status(attempt.attempt.task) != Some(TaskStatus::Committed) {
                        counts.n_committed_by_this_run += 1;
                    }
                    self.observer.on_committed(attempt.attempt);
                }
                WorkerReport::Failed(attempt, failure) => self.observer.on_failed(attempt.attempt, failure),
                _ => {}
            }
        }
        if let DriverEvent::OutputsVerified(_, damaged) = event {
            counts.n_damaged += damaged.len() as u64;
        }
        self.observer.on_progress(&Progress {
            n_tasks: tasks.n_tasks(),
            n_committed: tasks.n_committed(),
            work_done: self
                .work_done
                .iter()
                .map(|work| work.load(Ordering::Relaxed))
                .sum(),
        });
    }

    /// Publishes the barrier, then asks the job what comes next.
    fn advance(&self, round: RoundIdx) -> Result<DriverEvent, Failure> {
        let recovered = self.recovered()?;
        let commits: Vec<&Commit> = commits_of(&recovered, round).collect();
        let n_tasks = self.n_tasks.get();
        if commits.len() as u64 != n_tasks {
            let committed: BTreeSet<TaskIdx> = commits.iter().map(|commit| commit.attempt.task).collect();
            let missing = (0..n_tasks)
                .map(TaskIdx)
                .filter(|task| !committed.contains(task))
                .collect();
            return Ok(DriverEvent::BarrierRefused(self.id, missing));
        }
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
            Next::Round(n_tasks) => {
                self.n_tasks.set(n_tasks);
                let round = Round {
                    round: RoundIdx(round.0 + 1),
                    n_tasks,
                    needs: self.job.needs(),
                };
                Ok(DriverEvent::RoundReady(self.id, round))
            }
            Next::Done => Ok(DriverEvent::RoundsDone(self.id)),
        }
    }

    fn read_commits(&self, round: RoundIdx) -> Result<DriverEvent, Failure> {
        let recovered = self.recovered()?;
        let tasks = commits_of(&recovered, round).map(|commit| commit.attempt.task);
        Ok(DriverEvent::CommitsRead(self.id, tasks.collect()))
    }

    fn verify_outputs(&self) -> Result<DriverEvent, Failure> {
        let mut bad_tasks: Vec<TaskIdx> = Vec::new();
        for commit in self.recovered()?.commits.values() {
            if let Some(cause) = self.stop.requested() {
                return Ok(DriverEvent::StopRequested(self.id, cause));
            }
            if !self.job.is_intact(commit)? {
                self.observer.on_damaged_output(commit.attempt.task);
                bad_tasks.push(commit.attempt.task);
            }
        }
        Ok(DriverEvent::OutputsVerified(self.id, bad_tasks))
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
        Ok(DriverEvent::OutputsFinished(self.id))
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

fn commits_of(recovered: &Recovered, round: RoundIdx) -> impl Iterator<Item = &Commit> {
    let commits = recovered.commits.values();
    commits.filter(move |commit| commit.attempt.round == round)
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
