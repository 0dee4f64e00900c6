//! What workers report: who has which attempt, and what is committed.

use super::{Flight, Flights, JobRun, Surroundings};
use crate::alarm::AlarmKind;
use crate::driver::DriverEffect;
use crate::ids::{Attempt, Millis, TaskIdx, WorkerIdx};
use crate::limits;
use crate::message::{Holding, JobAttempt, ToWorker};
use crate::task_table::TaskStatus;
use alloc::vec::Vec;

impl JobRun {
    /// Whether a report about this attempt means anything to this run.
    pub(super) fn is_current(&self, attempt: Attempt) -> bool {
        attempt.epoch >= self.start.adopts_from
            && attempt.epoch <= self.start.epoch
            && attempt.round == self.round
            && self.tasks.status(attempt.task).is_some()
    }

    /// A worker has the attempt, and maybe began it. An attempt of the driver before is taken over; one that nobody needs is
    /// called off.
    pub(in crate::driver) fn on_held(
        &mut self,
        worker: WorkerIdx,
        attempt: Attempt,
        started: bool,
        around: &mut Surroundings<'_>,
    ) {
        let now = around.now;
        let named = self.named(attempt);
        if around.fleet.get(worker).is_none() {
            // A worker that counts as lost: its next heartbeat brings it back.
            return;
        }
        if self.is_stopping() {
            let cancel = self.cancel();
            around.effects.push(DriverEffect::Send(worker, cancel));
            return;
        }
        let flight = self
            .in_flight
            .get_mut(&attempt.task)
            .and_then(|flights| flights.iter_mut().find(|flight| flight.attempt == attempt));
        if let Some(flight) = flight {
            if let Some(before) = flight.holder.replace(worker)
                && before != worker
            {
                around.fleet.detach(before, named);
            }
            if started && flight.started.is_none() {
                flight.started = Some(now);
            }
            around.fleet.attach(worker, named, true);
            self.missing.remove(&named);
        } else if self.is_current(attempt) && self.tasks.status(attempt.task) == Some(TaskStatus::Waiting) {
            self.tasks.hold(attempt.task);
            let first = Flight {
                attempt,
                holder: Some(worker),
                released: now,
                started: started.then_some(now),
            };
            self.in_flight
                .insert(attempt.task, Flights { first, backup: None });
            around.fleet.attach(worker, named, true);
        } else {
            around
                .effects
                .push(DriverEffect::Send(worker, ToWorker::Abandon(named)));
        }
    }

    /// All that a worker has of this job; what it had and does not speak of any more is looked for in the journal.
    pub(in crate::driver) fn on_heartbeat(
        &mut self,
        worker: WorkerIdx,
        holding: &[Holding],
        around: &mut Surroundings<'_>,
    ) {
        let job = self.start.job;
        for held in holding.iter().filter(|held| held.attempt.job == job) {
            self.on_held(worker, held.attempt.attempt, held.started, around);
        }
        let Some(member) = around.fleet.get(worker) else {
            return;
        };
        let now = around.now;
        let taken = member
            .held
            .iter()
            .filter(|held| held.taken)
            .map(|held| held.attempt);
        let taken = taken.filter(|attempt| attempt.job == self.start.job);
        let unspoken = taken.filter(|attempt| holding.iter().all(|held| held.attempt != *attempt));
        let unspoken: Vec<JobAttempt> = unspoken
            .filter(|attempt| self.since(attempt.attempt, now) >= 2 * limits::HEARTBEAT_MS)
            .collect();
        self.missing.extend(unspoken);
        if self.leaving.contains(&worker) {
            let cancel = self.cancel();
            around.effects.push(DriverEffect::Send(worker, cancel));
        }
        self.ask_for_missing(around);
    }

    /// How long ago an attempt was released or begun, whichever is later.
    pub(super) fn since(&self, attempt: Attempt, now: Millis) -> u64 {
        let flights = self.in_flight.get(&attempt.task);
        let flight = flights.and_then(|flights| flights.iter().find(|flight| flight.attempt == attempt));
        flight.map_or(0, |flight| now.0 - flight.started.unwrap_or(flight.released).0)
    }

    pub(super) fn ask_for_missing(&mut self, around: &mut Surroundings<'_>) {
        if !self.missing.is_empty() && !self.reading_commits {
            self.reading_commits = true;
            around
                .effects
                .push(DriverEffect::ReadCommits(self.start.job, self.round));
        }
    }

    /// What the journal has of this round.
    pub(in crate::driver) fn on_commits_read(
        &mut self,
        committed: &[TaskIdx],
        around: &mut Surroundings<'_>,
    ) {
        self.reading_commits = false;
        for task in committed {
            if self.tasks.status(*task).is_some() {
                self.commit(*task, None, around);
            }
        }
        for missing in core::mem::take(&mut self.missing) {
            if self.remove_flight(missing.attempt, around) == Some(true) {
                self.put_back(missing.attempt.task);
            }
        }
    }

    pub(in crate::driver) fn on_committed(
        &mut self,
        worker: WorkerIdx,
        attempt: Attempt,
        around: &mut Surroundings<'_>,
    ) {
        if !self.is_current(attempt) {
            return;
        }
        self.failing.remove(&worker);
        let now = around.now;
        let flights = self.in_flight.get(&attempt.task);
        let flight = flights.and_then(|flights| flights.iter().find(|flight| flight.attempt == attempt));
        if let Some(started) = flight.and_then(|flight| flight.started) {
            self.forget_change(worker, started);
            self.note_duration(worker, now.0 - started.0, around);
        }
        self.commit(attempt.task, Some(attempt), around);
    }

    /// A worker commits only what it computed from the inputs as it saw them first: one that found a change and then begins and commits
    /// another task sees them as they were again, and what it found was a stale copy. What it had begun before proves nothing: that may
    /// be committed while the next task finds the change.
    fn forget_change(&mut self, worker: WorkerIdx, started: Millis) {
        let found = self.found_changed.get(&worker);
        if found.is_some_and(|found| started >= *found) {
            self.found_changed.remove(&worker);
        }
    }

    pub(super) fn note_duration(
        &mut self,
        worker: WorkerIdx,
        duration_ms: u64,
        around: &mut Surroundings<'_>,
    ) {
        let typical_ms = self.typical_ms;
        let longest_ms = self.durations.longest_elsewhere_ms(worker);
        self.durations.note(worker, duration_ms);
        self.typical_ms = self.durations.typical_ms();
        let percent_of =
            |other_ms: Option<u64>| other_ms.map_or(0, |ms| duration_ms.saturating_mul(100) / ms.max(1));
        let percent = percent_of(typical_ms);
        // Tasks may be uneven: then others have long ones too. And where they take milliseconds, a hiccup is no slow worker.
        let is_slow = percent.min(percent_of(longest_ms)) >= limits::SLOW_WORKER_PERCENT
            && duration_ms >= limits::WATCH_MS;
        let Some(member) = around.fleet.get_mut(worker) else {
            return;
        };
        if is_slow && !member.known_slow {
            member.known_slow = true;
            self.alarm(AlarmKind::WorkerSlow { worker, percent }, around);
        }
    }

    /// A task's commit is durable: whatever else runs for it is called off.
    pub(super) fn commit(&mut self, task: TaskIdx, winner: Option<Attempt>, around: &mut Surroundings<'_>) {
        if let Some(flights) = self.in_flight.remove(&task) {
            for flight in flights.iter() {
                let named = self.named(flight.attempt);
                self.missing.remove(&named);
                let Some(worker) = flight.holder else { continue };
                self.let_go(worker, named, around);
                if winner.is_some_and(|winner| winner != flight.attempt) {
                    around
                        .effects
                        .push(DriverEffect::Send(worker, ToWorker::Abandon(named)));
                }
            }
        }
        self.forget_waiting(task);
        self.troubles.remove(&task);
        self.given_back.remove(&task);
        if self.tasks.commit(task) {
            self.progress(around);
        }
    }

    pub(super) fn forget_waiting(&mut self, task: TaskIdx) {
        self.backing_off.retain(|(_, waiting)| *waiting != task);
        self.again.retain(|waiting| *waiting != task);
    }

    pub(super) fn progress(&mut self, around: &mut Surroundings<'_>) {
        self.last_progress = around.now;
        if self.stalled.take().is_some() {
            self.alarm(AlarmKind::JobGoesOn, around);
        }
    }

    pub(in crate::driver) fn on_gave_back(&mut self, attempt: Attempt, around: &mut Surroundings<'_>) {
        if let Some(alone) = self.remove_flight(attempt, around)
            && alone
        {
            self.put_back(attempt.task);
            self.given_back.insert(attempt.task);
        }
    }

    /// Ends one attempt; whether it was the only one at its task, or `None` if it was not under way.
    pub(super) fn remove_flight(&mut self, attempt: Attempt, around: &mut Surroundings<'_>) -> Option<bool> {
        let flights = self.in_flight.get_mut(&attempt.task)?;
        let (holder, alone) = match flights.backup {
            Some(backup) if backup.attempt == attempt => {
                flights.backup = None;
                (backup.holder, false)
            }
            Some(backup) if flights.first.attempt == attempt => {
                let holder = flights.first.holder;
                *flights = Flights {
                    first: backup,
                    backup: None,
                };
                (holder, false)
            }
            None if flights.first.attempt == attempt => {
                let holder = flights.first.holder;
                self.in_flight.remove(&attempt.task);
                (holder, true)
            }
            _ => return None,
        };
        let named = self.named(attempt);
        self.missing.remove(&named);
        if let Some(worker) = holder {
            self.let_go(worker, named, around);
        }
        Some(alone)
    }

    /// A worker holds an attempt no longer, and may have room for another.
    pub(super) fn let_go(&mut self, worker: WorkerIdx, attempt: JobAttempt, around: &mut Surroundings<'_>) {
        around.fleet.detach(worker, attempt);
        if let Some(deal) = &mut self.deal {
            deal.wake(worker);
        }
    }

    /// A task waits again, for anyone or for whoever's turn it is.
    pub(super) fn put_back(&mut self, task: TaskIdx) {
        if self.deal.is_some() {
            self.tasks.hold(task);
            self.again.push_back(task);
        } else {
            self.tasks.put_back(task);
        }
    }
}
