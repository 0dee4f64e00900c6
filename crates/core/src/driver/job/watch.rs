//! What did not happen: stragglers, tasks that nobody took, standstill.

use super::{Flight, Flights, JobRun, Phase, Surroundings};
use crate::alarm::{AlarmKind, Stall};
use crate::driver::fleet::Member;
use crate::driver::{Assign, DriverEffect};
use crate::failure::{JobEnd, StopCause};
use crate::ids::{Attempt, Millis, TaskIdx, WorkerIdx};
use crate::limits;
use crate::message::ToWorker;
use alloc::vec::Vec;

impl JobRun {
    /// Looks for stragglers, for tasks that nobody took, and for standstill.
    pub(in crate::driver) fn watch(&mut self, around: &mut Surroundings<'_>) {
        if self.start.deadline.is_some_and(|deadline| around.now >= deadline) {
            self.stop(JobEnd::Stopped(StopCause::TimeLimit), around);
        }
        if self.phase != Phase::Running {
            return;
        }
        self.watch_standstill(around);
        let mut idle: Vec<WorkerIdx> = around.fleet.idle(self.demand()).collect();
        let is_any_idle = around
            .fleet
            .fitting(self.demand())
            .any(|(_, member)| member.is_idle());
        if is_any_idle {
            self.release_unclaimed(around);
        }
        if idle.is_empty() {
            return;
        }
        if !self.tasks.has_waiting() && self.again.is_empty() && self.backing_off.is_empty() {
            // The last is asked first: better one that does not fail.
            idle.sort_by_key(|worker| !self.failing.contains(worker));
            let n_failing = idle.partition_point(|worker| self.failing.contains(worker));
            self.recall_for(&idle[n_failing..], around);
            self.back_up_stragglers(&mut idle, around);
        }
    }

    pub(super) fn watch_standstill(&mut self, around: &mut Surroundings<'_>) {
        if around.now.0 - self.last_progress.0 < limits::STALL_ALARM_MS || self.stalled.is_some() {
            return;
        }
        let n_fitting = around.fleet.fitting(self.demand()).count();
        let is_any_running = self
            .in_flight
            .values()
            .any(|flights| flights.iter().any(|flight| flight.started.is_some()));
        let stall = if around.fleet.is_empty() {
            Stall::NoWorkers
        } else if (around.fleet.workers()).all(|worker| self.start.unable.contains(&worker)) {
            Stall::NobodyKnows
        } else if n_fitting == 0 {
            Stall::NoWorkerFits {
                needed_bytes: self.needs.memory_bytes,
                largest_bytes: around.fleet.largest_bytes(),
            }
        } else if !is_any_running && !self.in_flight.is_empty() {
            Stall::Silent
        } else {
            return;
        };
        self.stalled = Some(stall);
        self.alarm(AlarmKind::JobStalled(stall), around);
    }

    /// Tasks that lie in a queue for long while those who could take them are idle: whoever took them died before it could say so.
    pub(super) fn release_unclaimed(&mut self, around: &mut Surroundings<'_>) {
        let is_unclaimed = |flight: &&Flight| {
            let lies = around.now.0 - flight.released.0 >= limits::UNCLAIMED_MS;
            let holder = flight.holder.and_then(|worker| around.fleet.get(worker));
            lies && flight.started.is_none() && holder.is_none_or(Member::is_idle)
        };
        let flights = self.in_flight.values().flat_map(Flights::iter);
        let unclaimed: Vec<Attempt> = flights
            .filter(is_unclaimed)
            .map(|flight| flight.attempt)
            .collect();
        for attempt in unclaimed {
            if self.remove_flight(attempt, around) == Some(true) {
                self.put_back(attempt.task);
            }
        }
    }

    /// Idle workers get what others took ahead.
    pub(super) fn recall_for(&self, idle: &[WorkerIdx], around: &mut Surroundings<'_>) {
        if matches!(self.start.assign, Assign::RoundRobin { .. }) {
            return;
        }
        let ahead = self.in_flight.values().flat_map(Flights::iter);
        let ahead = ahead.filter(|flight| flight.started.is_none());
        let ahead = ahead.filter_map(|flight| Some((flight.holder?, flight.attempt)));
        // What would be given to a busy worker again is where it should be.
        let ahead = ahead.filter(|(_, attempt)| {
            let next = self.where_to_retry(attempt.task, around);
            next.is_none_or(|worker| idle.contains(&worker))
        });
        // Idle workers hold nothing, so none of it is theirs.
        let recalls = ahead.take(idle.len());
        let recalls: Vec<_> = recalls
            .map(|(worker, attempt)| DriverEffect::Send(worker, ToWorker::Recall(self.named(attempt))))
            .collect();
        around.effects.extend(recalls);
    }

    /// Backup attempts that this round may have.
    pub(super) fn backups_max(&self) -> u64 {
        (self.tasks.n_tasks() * limits::BACKUPS_PER_MILLE / 1_000).max(1)
    }

    /// Nothing is left to release: idle workers do again what takes much longer than usual, the longest first (Dean and Ghemawat,
    /// "MapReduce", OSDI 2004, section 3.6).
    pub(super) fn back_up_stragglers(&mut self, idle: &mut Vec<WorkerIdx>, around: &mut Surroundings<'_>) {
        if !self.start.backups || matches!(self.start.assign, Assign::RoundRobin { .. }) {
            return;
        }
        let typical_ms = self.typical_ms.unwrap_or(self.needs.expected_ms);
        let late_ms = (typical_ms.saturating_mul(limits::STRAGGLER_PERCENT) / 100).max(limits::WATCH_MS);
        let mut stragglers: Vec<(Millis, TaskIdx)> = self
            .in_flight
            .iter()
            .filter(|(_, flights)| flights.backup.is_none())
            .filter_map(|(task, flights)| Some((flights.first.started?, *task)))
            .filter(|(started, _)| around.now.0 - started.0 >= late_ms)
            .collect();
        stragglers.sort_unstable();
        for (_, task) in stragglers {
            if self.n_backups >= self.backups_max() {
                break;
            }
            let has_failed = |worker: &WorkerIdx| {
                let troubles = self.troubles.get(&task);
                troubles.is_some_and(|troubles| troubles.recency(*worker).is_some())
            };
            let untried = idle.iter().rposition(|worker| !has_failed(worker));
            // Whoever failed at it may be the only one left while the other one hangs.
            let Some(chosen) = untried.or(idle.len().checked_sub(1)) else {
                break;
            };
            let worker = idle.remove(chosen);
            let number = self.tasks.release(task);
            self.n_backups += 1;
            let backup = self.launch(task, number, Some(worker), around);
            if let Some(flights) = self.in_flight.get_mut(&task) {
                flights.backup = Some(backup);
            }
        }
    }
}
