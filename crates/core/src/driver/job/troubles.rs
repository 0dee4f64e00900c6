//! What goes wrong: attempts that fail, workers that are lost, and when enough is enough.

use super::{JobRun, Surroundings};
use crate::alarm::AlarmKind;
use crate::driver::fleet::{Demand, Held};
use crate::driver::{DriverEffect, WhenFull};
use crate::failure::{Cause, Failure, JobEnd, Remedy};
use crate::ids::{Attempt, Millis, TaskIdx, WorkerIdx};
use crate::limits;
use crate::message::ToWorker;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

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
        if failure.cause == Cause::Hung {
            self.on_hung(worker, task, alone, failure, around);
            return;
        }
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
        if around.fleet.get(worker).is_some() {
            self.failing.insert(worker);
        }
        let (n_failed, is_enough) = self.count_failure(worker, task, &failure, around);
        // A machine's fault says nothing of the task, and another machine may be about to commit it; but not of a changed input.
        let may_be_done_elsewhere = !alone && self.is_of_machine(&failure) && !self.is_found_changed();
        if is_enough && !may_be_done_elsewhere {
            let failure = self.placed(attempt, failure);
            self.poison(task, failure, around);
        } else if alone {
            self.n_retries += 1;
            self.back_off(worker, task, n_failed, failure, around);
        }
    }

    /// A task took its worker down. Another worker may do better, unless all are threads of one process, which nobody replaces.
    fn on_hung(
        &mut self,
        worker: WorkerIdx,
        task: TaskIdx,
        alone: bool,
        failure: Failure,
        around: &mut Surroundings<'_>,
    ) {
        if self.start.one_machine {
            self.poison(task, failure, around);
            return;
        }
        if alone && !self.is_stopping() {
            self.put_back(task);
        }
        self.n_retries += 1;
        self.count_lost(task, Some(&failure), around);
        if !self.is_stopping() {
            let retried = AlarmKind::TaskRetried {
                task,
                worker,
                failure,
                delay_ms: 0,
            };
            self.alarm(retried, around);
        }
    }

    /// Whether so many workers found an input changed that it is.
    fn is_found_changed(&self) -> bool {
        self.found_changed.len() >= limits::WORKERS_INPUT_CHANGED_MAX
    }

    /// Whether a failure may lie with its worker's machine, and there are others.
    fn is_of_machine(&self, failure: &Failure) -> bool {
        !self.start.one_machine && failure.cause.is_of_machine()
    }

    /// How often a task has failed in that way, for its back-off, and whether that fails the job.
    fn count_failure(
        &mut self,
        worker: WorkerIdx,
        task: TaskIdx,
        failure: &Failure,
        around: &mut Surroundings<'_>,
    ) -> (u8, bool) {
        let is_of_machine = self.is_of_machine(failure);
        let troubles = self.troubles.entry(task).or_default();
        troubles.failed(worker);
        let (n_failed, n_max) = match failure.remedy {
            Remedy::Fatal => {
                troubles.broken_on.insert(worker);
                // Where it failed in passing, it may be done yet; and where nobody is there who fits, somebody may come.
                let is_broken = |worker| troubles.broken_on.contains(&worker);
                let demand = Demand {
                    memory_bytes: self.needs.memory_bytes,
                    unable: &self.start.unable,
                };
                let mut fitting = around.fleet.fitting(demand).peekable();
                let is_last = fitting.peek().is_some() && fitting.all(|(other, _)| is_broken(other));
                let are_enough = troubles.broken_on.len() >= limits::WORKERS_FAILED_MAX;
                // Nobody waits longer than after the last failure that may pass.
                let n_failed = troubles
                    .failed_on
                    .len()
                    .min(usize::from(limits::ATTEMPTS_MAX_RETRY) - 1);
                if failure.cause == Cause::InputChanged {
                    self.found_changed.insert(worker, around.now);
                }
                let is_enough = !is_of_machine || is_last || are_enough || self.is_found_changed();
                return (n_failed as u8, is_enough);
            }
            Remedy::Retry => {
                troubles.n_retried += 1;
                (troubles.n_retried, limits::ATTEMPTS_MAX_RETRY)
            }
            Remedy::Corrupt => {
                troubles.n_corrupt += 1;
                (troubles.n_corrupt, limits::ATTEMPTS_MAX_CORRUPT)
            }
        };
        (n_failed, n_failed >= n_max)
    }

    /// The failure that ends the job, with the attempt and where it happened, unless that could have been any.
    fn placed(&self, attempt: Attempt, failure: Failure) -> Failure {
        let is_anywhere = failure.remedy == Remedy::Fatal && !self.is_of_machine(&failure);
        if (self.start.one_machine || is_anywhere) && !failure.cause.is_of_task() {
            return failure;
        }
        let task = attempt.task;
        // Those that found an input changed need not have found it with this task.
        let text = if failure.cause == Cause::InputChanged {
            format!("{} (found by {})", failure.text, named(self.found_changed.keys()))
        } else {
            let troubles = self.troubles.get(&task);
            let workers = troubles.iter().flat_map(|troubles| &troubles.failed_on);
            // Some say themselves which task it was.
            let names_it = failure.text.starts_with(&format!("task {task} "));
            let which = if names_it {
                String::new()
            } else {
                format!("task {task}, ")
            };
            // People count from one.
            let n_attempts = u32::from(attempt.attempt.0) + 1;
            let workers = named(workers);
            format!("{} ({which}attempt {n_attempts}, on {workers})", failure.text)
        };
        Failure { text, ..failure }
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
        if failure.remedy != Remedy::Fatal || failure.cause.is_of_task() {
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
        if let Some(deal) = &mut self.deal
            && !self.start.unable.contains(&worker)
        {
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
        self.failing.remove(&worker);
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
                self.count_lost(attempt.task, None, around);
            }
        }
        n_attempts
    }

    /// A task that was running on every one of several workers when they were lost may be what killed them.
    fn count_lost(&mut self, task: TaskIdx, last: Option<&Failure>, around: &mut Surroundings<'_>) {
        let troubles = self.troubles.entry(task).or_default();
        troubles.n_lost += 1;
        if troubles.n_lost >= limits::ATTEMPTS_MAX_LOST {
            let mut text = format!(
                "task {task} was running on {} workers when they were lost",
                limits::ATTEMPTS_MAX_LOST
            );
            if let Some(last) = last {
                text += &format!(": {}", last.text);
            }
            self.poison(task, Failure::retry(Cause::WorkerLost, text), around);
        }
    }

    pub(in crate::driver) fn on_left(&mut self, worker: WorkerIdx) {
        self.leaving.remove(&worker);
    }
}

/// Workers, for people.
fn named<'a>(workers: impl Iterator<Item = &'a WorkerIdx>) -> String {
    let numbers: Vec<String> = workers.map(WorkerIdx::to_string).collect();
    let plural = if numbers.len() == 1 { "" } else { "s" };
    format!("worker{plural} {}", numbers.join(", "))
}
