//! The driver machine: releases tasks, watches commits, retries, runs barriers, and ends the job.
//!
//! `Running -> (all tasks committed) -> Advancing -> Running | Verifying -> (bad tiles: Running) | Finishing -> Ended`.
//! A stop request goes from any of these to `Stopping`, which ends when every worker has drained.

use crate::failure::{Cause, Failure, JobEnd, Remedy, StopCause};
use crate::ids::{Attempt, Millis, RoundIdx, RunEpoch, TaskIdx, WorkerIdx};
use crate::limits;
use crate::message::{ToDriver, ToWorker, WorkerReport};
use crate::task_table::{TaskStatus, TaskTable};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

/// What happened to the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverEvent {
    /// A worker said something.
    Received(ToDriver),
    /// A worker is gone; what it held is given back.
    WorkerLost(WorkerIdx),
    /// The barrier is durable and the job has another round of this many tasks.
    RoundReady(RoundIdx, u64),
    /// The barrier is durable and the job has no further round.
    RoundsDone,
    /// The committed outputs were read back; these tasks' outputs are damaged.
    OutputsVerified(Vec<TaskIdx>),
    /// The outputs are durable under their final names.
    OutputsFinished,
    /// A step of the driver's own (advance, verify, finish) failed.
    StepFailed(Failure),
    /// Someone wants the run to stop.
    StopRequested(StopCause),
    /// Time passed.
    Tick,
}

/// What the driver must do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverEffect {
    /// Put the attempt into the queue that workers fetch from.
    Release(Attempt),
    /// Say something to a worker.
    Send(WorkerIdx, ToWorker),
    /// Make the round's barrier durable and ask the job what comes next.
    Advance(RoundIdx),
    /// Read every committed output back and compare it with its commit.
    VerifyOutputs,
    /// Make the outputs durable under their final names.
    FinishOutputs,
    /// Come back with a `Tick` at this time.
    WakeAt(Millis),
    /// The run is over.
    End(JobEnd),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Running,
    Advancing,
    Verifying,
    Finishing,
    Stopping(JobEnd),
    Ended,
}

/// What the driver starts from.
#[derive(Debug, Clone)]
pub struct DriverStart {
    /// This run.
    pub epoch: RunEpoch,
    /// The round to go on with.
    pub round: RoundIdx,
    /// Tasks in that round.
    pub n_tasks: u64,
    /// Tasks of that round that the journal has commits of.
    pub committed: Vec<TaskIdx>,
    /// Whether outputs of an earlier run are used, which must be read back before the end.
    pub resumed: bool,
}

/// The driver's state: one byte per task and a constant.
#[derive(Debug)]
pub struct Driver {
    epoch: RunEpoch,
    round: RoundIdx,
    tasks: TaskTable,
    phase: Phase,
    workers: BTreeSet<WorkerIdx>,
    /// Released attempts and who runs them, at most the release window.
    in_flight: BTreeMap<TaskIdx, (Attempt, Option<WorkerIdx>)>,
    /// Failed tasks that wait for their next attempt.
    backing_off: BTreeMap<TaskIdx, Millis>,
    must_verify: bool,
    n_verify_passes: u32,
    n_retries: u64,
}

impl Driver {
    /// A driver that goes on from `start`.
    pub fn new(start: &DriverStart) -> Driver {
        let mut tasks = TaskTable::new(start.n_tasks);
        for task in &start.committed {
            tasks.commit(*task);
        }
        Driver {
            epoch: start.epoch,
            round: start.round,
            tasks,
            phase: Phase::Running,
            workers: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            backing_off: BTreeMap::new(),
            must_verify: start.resumed,
            n_verify_passes: 0,
            n_retries: 0,
        }
    }

    /// The round's tasks.
    pub fn tasks(&self) -> &TaskTable {
        &self.tasks
    }

    /// Whether the run is about to end, or has.
    pub fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping(_) | Phase::Ended)
    }

    /// Attempts that failed and were, or will be, made again.
    pub fn n_retries(&self) -> u64 {
        self.n_retries
    }

    /// Takes one event and appends what must be done, in order. `now` never goes back.
    pub fn on_event(&mut self, now: Millis, event: DriverEvent, effects: &mut Vec<DriverEffect>) {
        match event {
            DriverEvent::Received(message) => self.on_report(now, message, effects),
            DriverEvent::WorkerLost(worker) => self.on_worker_lost(worker),
            DriverEvent::RoundReady(round, n_tasks) => self.on_round_ready(round, n_tasks),
            DriverEvent::RoundsDone => self.on_rounds_done(effects),
            DriverEvent::OutputsVerified(bad_tasks) => self.on_outputs_verified(&bad_tasks, effects),
            DriverEvent::OutputsFinished => self.on_outputs_finished(effects),
            DriverEvent::StepFailed(failure) => self.stop(JobEnd::Failed(failure), effects),
            DriverEvent::StopRequested(cause) => self.stop(JobEnd::Stopped(cause), effects),
            DriverEvent::Tick => {}
        }
        self.go_on(now, effects);
        self.check_invariants();
    }

    /// Panics if the machine reached a state it must never reach.
    pub fn check_invariants(&self) {
        assert!(self.tasks.n_committed() <= self.tasks.n_tasks());
        for task in self.in_flight.keys() {
            assert_eq!(
                self.tasks.status(*task),
                Some(TaskStatus::Released),
                "task {task} in flight"
            );
        }
        for task in self.backing_off.keys() {
            assert!(
                !self.in_flight.contains_key(task),
                "task {task} both waits and runs"
            );
        }
        if matches!(self.phase, Phase::Advancing | Phase::Verifying | Phase::Finishing) {
            assert!(self.tasks.is_complete(), "a barrier needs every task's commit");
        }
    }

    fn on_report(&mut self, now: Millis, message: ToDriver, effects: &mut Vec<DriverEffect>) {
        let worker = message.worker;
        match message.body {
            WorkerReport::Joined => {
                self.workers.insert(worker);
                match self.phase {
                    Phase::Stopping(_) => effects.push(DriverEffect::Send(worker, ToWorker::Cancel)),
                    Phase::Ended => effects.push(DriverEffect::Send(worker, ToWorker::Drain)),
                    _ => {}
                }
            }
            WorkerReport::Drained => {
                self.workers.remove(&worker);
            }
            WorkerReport::Started(attempt) => {
                if let Some(entry) = self.held(attempt) {
                    entry.1 = Some(worker);
                }
            }
            WorkerReport::Committed(attempt) => {
                if self.is_current(attempt) {
                    self.backing_off.remove(&attempt.task);
                    self.in_flight.remove(&attempt.task);
                    self.tasks.commit(attempt.task);
                }
            }
            WorkerReport::GaveBack(attempt) => {
                if self.held(attempt).is_some() {
                    self.in_flight.remove(&attempt.task);
                    self.tasks.put_back(attempt.task);
                }
            }
            WorkerReport::Failed(attempt, failure) => self.on_failed(now, attempt, failure, effects),
        }
    }

    /// A commit counts in any phase that still takes commits, whichever attempt of this run made it: the journal has it.
    fn is_current(&self, attempt: Attempt) -> bool {
        attempt.epoch == self.epoch
            && attempt.round == self.round
            && self.tasks.status(attempt.task).is_some()
    }

    fn held(&mut self, attempt: Attempt) -> Option<&mut (Attempt, Option<WorkerIdx>)> {
        self.in_flight
            .get_mut(&attempt.task)
            .filter(|(held, _)| *held == attempt)
    }

    fn on_failed(
        &mut self,
        now: Millis,
        attempt: Attempt,
        failure: Failure,
        effects: &mut Vec<DriverEffect>,
    ) {
        if self.held(attempt).is_none() {
            return;
        }
        self.in_flight.remove(&attempt.task);
        self.tasks.put_back(attempt.task);
        let attempts_max = match failure.remedy {
            Remedy::Fatal => 0,
            Remedy::Retry => limits::ATTEMPTS_MAX_RETRY,
            Remedy::Corrupt => limits::ATTEMPTS_MAX_CORRUPT,
        };
        let n_attempts = self.tasks.attempts(attempt.task);
        if n_attempts >= attempts_max {
            self.stop(JobEnd::Failed(failure), effects);
        } else {
            self.n_retries += 1;
            let delay_ms = limits::BACKOFF_FIRST_MS << (n_attempts - 1).min(10);
            self.backing_off
                .insert(attempt.task, Millis(now.0 + delay_ms.min(limits::BACKOFF_MAX_MS)));
            // Held as released while it waits, so that the window's order does not take it early.
            self.tasks.hold(attempt.task);
        }
    }

    fn on_worker_lost(&mut self, worker: WorkerIdx) {
        self.workers.remove(&worker);
        let lost = self
            .in_flight
            .extract_if(.., |_, (_, holder)| *holder == Some(worker));
        for (task, _) in lost.collect::<Vec<_>>() {
            self.tasks.put_back(task);
        }
    }

    fn on_round_ready(&mut self, round: RoundIdx, n_tasks: u64) {
        if self.phase == Phase::Advancing {
            self.round = round;
            self.tasks = TaskTable::new(n_tasks);
            self.phase = Phase::Running;
        }
    }

    fn on_rounds_done(&mut self, effects: &mut Vec<DriverEffect>) {
        if self.phase == Phase::Advancing {
            if self.must_verify {
                self.phase = Phase::Verifying;
                effects.push(DriverEffect::VerifyOutputs);
            } else {
                self.finish(effects);
            }
        }
    }

    fn on_outputs_verified(&mut self, bad_tasks: &[TaskIdx], effects: &mut Vec<DriverEffect>) {
        if self.phase != Phase::Verifying {
            return;
        }
        self.n_verify_passes += 1;
        if bad_tasks.is_empty() {
            self.finish(effects);
        } else if self.n_verify_passes >= limits::VERIFY_PASSES_MAX {
            let text = format!(
                "{} outputs read back damaged after {} passes",
                bad_tasks.len(),
                self.n_verify_passes
            );
            self.stop(JobEnd::Failed(Failure::fatal(Cause::Storage, text)), effects);
        } else {
            bad_tasks.iter().for_each(|task| self.tasks.put_back(*task));
            self.n_retries += bad_tasks.len() as u64;
            self.phase = Phase::Running;
        }
    }

    fn finish(&mut self, effects: &mut Vec<DriverEffect>) {
        self.phase = Phase::Finishing;
        effects.push(DriverEffect::FinishOutputs);
    }

    fn on_outputs_finished(&mut self, effects: &mut Vec<DriverEffect>) {
        if matches!(self.phase, Phase::Finishing | Phase::Stopping(_)) {
            // A stop that came while the outputs took their names is too late: the job is done.
            self.end(JobEnd::Done, effects);
        }
    }

    /// The first failure is the one to tell; a stop request that comes while the outputs take their names is too late.
    fn stop(&mut self, end: JobEnd, effects: &mut Vec<DriverEffect>) {
        let is_failure = matches!(end, JobEnd::Failed(_));
        match &mut self.phase {
            Phase::Ended | Phase::Stopping(JobEnd::Failed(_)) => {}
            Phase::Stopping(earlier) if is_failure => *earlier = end,
            Phase::Stopping(_) => {}
            Phase::Finishing if !is_failure => {}
            _ => {
                self.phase = Phase::Stopping(end);
                effects.extend(
                    self.workers
                        .iter()
                        .map(|worker| DriverEffect::Send(*worker, ToWorker::Cancel)),
                );
            }
        }
    }

    fn end(&mut self, end: JobEnd, effects: &mut Vec<DriverEffect>) {
        self.phase = Phase::Ended;
        effects.extend(
            self.workers
                .iter()
                .map(|worker| DriverEffect::Send(*worker, ToWorker::Drain)),
        );
        effects.push(DriverEffect::End(end));
    }

    fn go_on(&mut self, now: Millis, effects: &mut Vec<DriverEffect>) {
        match &self.phase {
            Phase::Running if self.tasks.is_complete() => {
                self.phase = Phase::Advancing;
                effects.push(DriverEffect::Advance(self.round));
            }
            Phase::Running => {
                self.wake_due(now, effects);
                self.fill_window(effects);
            }
            Phase::Stopping(end) if self.workers.is_empty() => self.end(end.clone(), effects),
            _ => {}
        }
    }

    fn wake_due(&mut self, now: Millis, effects: &mut Vec<DriverEffect>) {
        let due: Vec<TaskIdx> = self
            .backing_off
            .extract_if(.., |_, at| *at <= now)
            .map(|(task, _)| task)
            .collect();
        due.into_iter().for_each(|task| self.tasks.put_back(task));
        effects.extend(
            self.backing_off
                .values()
                .min()
                .map(|at| DriverEffect::WakeAt(*at)),
        );
    }

    fn fill_window(&mut self, effects: &mut Vec<DriverEffect>) {
        let window = self.workers.len() * limits::RELEASE_WINDOW_PER_WORKER as usize;
        while self.in_flight.len() < window {
            let Some((task, number)) = self.tasks.release_next() else {
                break;
            };
            let attempt = Attempt {
                epoch: self.epoch,
                round: self.round,
                task,
                attempt: number,
            };
            self.in_flight.insert(task, (attempt, None));
            effects.push(DriverEffect::Release(attempt));
        }
    }
}

#[cfg(test)]
mod tests;
