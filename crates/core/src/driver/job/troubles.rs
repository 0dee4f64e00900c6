//! What goes wrong: attempts that fail, workers that are lost, and when enough is enough.

use super::{JobRun, Surroundings};
use crate::alarm::AlarmKind;
use crate::driver::fleet::Held;
use crate::driver::{DriverEffect, WhenFull};
use crate::failure::{Cause, Failure, JobEnd, Remedy};
use crate::ids::{Attempt, Millis, TaskIdx, WorkerIdx};
use crate::limits;
use crate::message::ToWorker;
use alloc::format;

impl JobRun {
    pub(in crate::driver) fn on_failed(
        &mut self,
        worker: WorkerIdx,
        attempt: Attempt,
        failure: Failure,
        around: &mut Surroundings<'_>,
    ) {
        let Some(alone) = self.remove_flight(attempt, around) else {
            return;
        };
        let task = attempt.task;
        if failure.cause == Cause::DiskFull && self.start.when_full == WhenFull::Wait {
            self.wait_for_space(around);
            if alone {
                self.put_back(task);
            }
            return;
        }
        if failure.remedy == Remedy::Corrupt {
            self.on_corrupt(worker, task, around);
        }
        let troubles = self.troubles.entry(task).or_default();
        let (n_failed, n_max) = match failure.remedy {
            Remedy::Fatal => (1, 1),
            Remedy::Retry => {
                troubles.n_retried += 1;
                (troubles.n_retried, limits::ATTEMPTS_MAX_RETRY)
            }
            Remedy::Corrupt => {
                troubles.n_corrupt += 1;
                (troubles.n_corrupt, limits::ATTEMPTS_MAX_CORRUPT)
            }
        };
        if n_failed >= n_max {
            self.poison(task, failure, around);
        } else if alone {
            self.n_retries += 1;
            self.back_off(worker, task, n_failed, failure, around);
        }
    }

    pub(super) fn on_corrupt(&mut self, worker: WorkerIdx, task: TaskIdx, around: &mut Surroundings<'_>) {
        self.alarm(AlarmKind::AttemptCorrupt { task, worker }, around);
        if around.fleet.count_corrupt(worker) {
            let n_corrupt = limits::CORRUPT_PER_WORKER_MAX;
            self.alarm(AlarmKind::WorkerQuarantined { worker, n_corrupt }, around);
            around.effects.push(DriverEffect::Send(worker, ToWorker::Drain));
        }
    }

    pub(super) fn poison(&mut self, task: TaskIdx, failure: Failure, around: &mut Surroundings<'_>) {
        if failure.remedy != Remedy::Fatal {
            let failure = failure.clone();
            self.alarm(AlarmKind::PoisonTask { task, failure }, around);
        }
        self.stop(JobEnd::Failed(failure), around);
    }

    pub(super) fn back_off(
        &mut self,
        worker: WorkerIdx,
        task: TaskIdx,
        n_failed: u8,
        failure: Failure,
        around: &mut Surroundings<'_>,
    ) {
        let delay_ms = limits::BACKOFF_FIRST_MS << (n_failed - 1);
        // What fails here, for want of a file or by its own fault, may go well there.
        self.avoid.insert(task, worker);
        self.backing_off.insert((Millis(around.now.0 + delay_ms), task));
        // Held as released while it waits, so that the window's order does not take it early.
        self.tasks.hold(task);
        let retried = AlarmKind::TaskRetried {
            task,
            worker,
            failure,
            delay_ms,
        };
        self.alarm(retried, around);
    }

    pub(super) fn wait_for_space(&mut self, around: &mut Surroundings<'_>) {
        if self.paused_until.is_none() {
            self.alarm(AlarmKind::DiskLow, around);
        }
        self.paused_until = Some(Millis(around.now.0 + limits::DISK_FULL_WAIT_MS));
    }

    pub(in crate::driver) fn on_joined(&mut self, worker: WorkerIdx, around: &mut Surroundings<'_>) {
        if let Some(deal) = &mut self.deal {
            deal.on_joined(worker, |other| around.fleet.get(other).is_some());
        }
    }

    /// A worker is gone with what it held; how many attempts that were.
    pub(in crate::driver) fn on_lost(
        &mut self,
        worker: WorkerIdx,
        held: &[Held],
        around: &mut Surroundings<'_>,
    ) -> u64 {
        self.leaving.remove(&worker);
        if let Some(deal) = &mut self.deal {
            deal.on_lost(worker);
        }
        let (job, mut n_attempts) = (self.start.job, 0);
        for lost in held.iter().filter(|held| held.attempt.job == job) {
            let attempt = lost.attempt.attempt;
            let was_running = self.in_flight.get(&attempt.task).is_some_and(|flights| {
                flights
                    .iter()
                    .any(|flight| flight.attempt == attempt && flight.started.is_some())
            });
            let Some(alone) = self.remove_flight(attempt, around) else {
                continue;
            };
            n_attempts += 1;
            if alone && !self.is_stopping() {
                self.put_back(attempt.task);
            }
            if was_running && !self.is_stopping() {
                self.count_lost(attempt.task, around);
            }
        }
        n_attempts
    }

    /// A task that was running on every one of several workers when they were lost may be what killed them.
    pub(super) fn count_lost(&mut self, task: TaskIdx, around: &mut Surroundings<'_>) {
        let troubles = self.troubles.entry(task).or_default();
        troubles.n_lost += 1;
        if troubles.n_lost >= limits::ATTEMPTS_MAX_LOST {
            let text = format!(
                "task {task} was running on {} workers when they were lost",
                limits::ATTEMPTS_MAX_LOST
            );
            self.poison(task, Failure::retry(Cause::WorkerLost, text), around);
        }
    }

    pub(in crate::driver) fn on_left(&mut self, worker: WorkerIdx) {
        self.leaving.remove(&worker);
    }
}
