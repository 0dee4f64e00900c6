//! One job's run as its driver sees it: which task is where, and what comes next.
//!
//! `Listening -> Running -> (all committed) -> Advancing -> Running | Verifying -> (bad outputs: Running) | Finishing -> Ended`.
//! A stop request goes from any of these to `Stopping`, which ends when every worker has left the job. Only a driver that took
//! over from another one listens.

use super::deal::Deal;
use super::durations::Durations;
use super::fleet::{Demand, Fleet};
use super::{DriverEffect, JobStart, Needs};
use crate::alarm::{Alarm, AlarmKind, Stall};
use crate::failure::JobEnd;
use crate::ids::{Attempt, Millis, RoundIdx, TaskIdx, WorkerIdx};
use crate::limits;
use crate::message::{JobAttempt, ToWorker};
use crate::task_table::{TaskStatus, TaskTable};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

mod assign;
mod reports;
mod steps;
mod troubles;
mod watch;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Nothing is released before this time: workers may hold attempts of the driver before.
    Listening(Millis),
    Running,
    Advancing,
    Verifying,
    Finishing,
    Stopping(JobEnd),
    Ended,
}

/// A released attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flight {
    attempt: Attempt,
    /// In whose queue it lies, or who has it; nobody while it lies in the shared queue.
    holder: Option<WorkerIdx>,
    released: Millis,
    started: Option<Millis>,
}

/// A task's attempts under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flights {
    first: Flight,
    backup: Option<Flight>,
}

impl Flights {
    fn iter(&self) -> impl Iterator<Item = &Flight> {
        core::iter::once(&self.first).chain(&self.backup)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Flight> {
        core::iter::once(&mut self.first).chain(&mut self.backup)
    }
}

/// What went wrong with a task that is not committed yet.
#[derive(Debug, Clone, Default)]
struct Troubles {
    n_retried: u8,
    n_corrupt: u8,
    n_lost: u8,
    /// Where it failed, each worker once, the latest last. The limits of attempts bound it.
    failed_on: Vec<WorkerIdx>,
    /// Where it failed for a fault of the machine that does not pass. So few of them end the job that nothing else bounds them.
    broken_on: BTreeSet<WorkerIdx>,
}

impl Troubles {
    fn failed(&mut self, worker: WorkerIdx) {
        self.failed_on.retain(|other| *other != worker);
        self.failed_on.push(worker);
    }

    /// How recently it failed there: nothing where it did not.
    fn recency(&self, worker: WorkerIdx) -> Option<usize> {
        self.failed_on.iter().position(|other| *other == worker)
    }
}

/// How many workers can do a job's tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fitting {
    /// Of the fleet, for which that was counted.
    generation: u64,
    n_workers: usize,
    /// Whether there are no others.
    are_all: bool,
}

/// One job's run. One byte per task, and what is released or waits for its next attempt, which the window bounds.
#[derive(Debug)]
pub(super) struct JobRun {
    start: JobStart,
    round: RoundIdx,
    needs: Needs,
    tasks: TaskTable,
    phase: Phase,
    in_flight: BTreeMap<TaskIdx, Flights>,
    /// Failed tasks in the order in which their next attempts are due.
    backing_off: BTreeSet<(Millis, TaskIdx)>,
    /// Workers whose latest attempt at a task of this job failed: tasks that failed elsewhere are better off with others.
    failing: BTreeSet<WorkerIdx>,
    /// Workers that found an input changed, when they did so last, and committed nothing since that they began later. So few of them
    /// end the job that nothing else bounds them.
    found_changed: BTreeMap<WorkerIdx, Millis>,
    /// Tasks that were given back and wait: most were recalled for an idle worker.
    given_back: BTreeSet<TaskIdx>,
    troubles: BTreeMap<TaskIdx, Troubles>,
    durations: Durations,
    /// The median of these, where there is one.
    typical_ms: Option<u64>,
    /// Round-robin: who does what, once it was dealt.
    deal: Option<Deal>,
    /// Round-robin: tasks that came back, for whoever's turn it is.
    again: VecDeque<TaskIdx>,
    deal_by: Millis,
    /// Workers that have not left a stopping job yet.
    leaving: BTreeSet<WorkerIdx>,
    /// Attempts that their workers no longer speak of: the journal is asked.
    missing: BTreeSet<JobAttempt>,
    reading_commits: bool,
    fitting: Option<Fitting>,
    last_progress: Millis,
    stalled: Option<Stall>,
    paused_until: Option<Millis>,
    must_verify: bool,
    n_verify_passes: u32,
    n_backups: u64,
    n_retries: u64,
}

/// What a job's step may look at and change beside itself.
pub(super) struct Surroundings<'a> {
    pub(super) now: Millis,
    pub(super) fleet: &'a mut Fleet,
    pub(super) effects: &'a mut Vec<DriverEffect>,
    /// Jobs that share the workers, this one included.
    pub(super) n_jobs: usize,
}

impl JobRun {
    pub(super) fn new(start: JobStart, now: Millis) -> JobRun {
        let mut tasks = TaskTable::new(start.n_tasks);
        for task in &start.committed {
            tasks.commit(*task);
        }
        let phase = if start.took_over {
            Phase::Listening(Millis(now.0 + limits::TAKE_OVER_LISTEN_MS))
        } else {
            Phase::Running
        };
        JobRun {
            round: start.round,
            needs: start.needs,
            tasks,
            phase,
            in_flight: BTreeMap::new(),
            backing_off: BTreeSet::new(),
            failing: BTreeSet::new(),
            found_changed: BTreeMap::new(),
            given_back: BTreeSet::new(),
            troubles: BTreeMap::new(),
            durations: Durations::default(),
            typical_ms: None,
            deal: None,
            again: VecDeque::new(),
            deal_by: Millis(now.0 + limits::DEAL_WAIT_MS),
            leaving: BTreeSet::new(),
            missing: BTreeSet::new(),
            reading_commits: false,
            fitting: None,
            last_progress: now,
            stalled: None,
            paused_until: None,
            must_verify: start.resumed,
            n_verify_passes: 0,
            n_backups: 0,
            n_retries: 0,
            start: JobStart {
                committed: Vec::new(),
                ..start
            },
        }
    }

    pub(super) fn tasks(&self) -> &TaskTable {
        &self.tasks
    }

    pub(super) fn round(&self) -> RoundIdx {
        self.round
    }

    pub(super) fn state(&self) -> &'static str {
        match self.phase {
            Phase::Listening(_) => "Listening",
            Phase::Running => "Running",
            Phase::Advancing => "Advancing",
            Phase::Verifying => "Verifying",
            Phase::Finishing => "Finishing",
            Phase::Stopping(_) => "Stopping",
            Phase::Ended => "Ended",
        }
    }

    pub(super) fn state_of(&self, attempt: Attempt) -> &'static str {
        if !self.is_current(attempt) {
            return match attempt.epoch {
                epoch if epoch < self.start.adopts_from => "OfFencedRun",
                epoch if epoch > self.start.epoch => "OfLaterRun",
                _ => "OfAnotherRound",
            };
        }
        let flights = self.in_flight.get(&attempt.task);
        let flight = flights.and_then(|flights| flights.iter().find(|flight| flight.attempt == attempt));
        match (flight, self.tasks.status(attempt.task)) {
            (Some(flight), _) if flight.started.is_some() => "Started",
            (Some(flight), _) if flight.holder.is_some() => "Held",
            (Some(_), _) => "Queued",
            (None, Some(TaskStatus::Committed)) => "Committed",
            (None, Some(TaskStatus::Waiting)) => "Waiting",
            (None, _) if flights.is_some() => "Replaced",
            (None, _) => "BackingOff",
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping(_) | Phase::Ended)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    pub(super) fn n_retries(&self) -> u64 {
        self.n_retries
    }

    pub(super) fn n_backups(&self) -> u64 {
        self.n_backups
    }

    pub(super) fn n_backing_off(&self) -> u64 {
        self.backing_off.len() as u64
    }

    pub(super) fn stalled(&self) -> Option<Stall> {
        self.stalled
    }

    /// Panics if the machine reached a state it must never reach. Takes time in proportion to what is in flight.
    pub(super) fn check_invariants(&self, fleet: &Fleet) {
        assert!(self.tasks.n_committed() <= self.tasks.n_tasks());
        for (task, flights) in &self.in_flight {
            assert_eq!(
                self.tasks.status(*task),
                Some(TaskStatus::Released),
                "task {task} in flight"
            );
            for flight in flights.iter() {
                assert_eq!(flight.attempt.task, *task);
                let holder = flight.holder.and_then(|worker| fleet.get(worker));
                assert!(
                    flight.holder.is_none()
                        || holder.is_some_and(|member| member.holds(self.named(flight.attempt))),
                    "whoever has task {task} is there and known to have it"
                );
            }
        }
        for (_, task) in &self.backing_off {
            assert!(
                !self.in_flight.contains_key(task),
                "task {task} both waits and runs"
            );
        }
        if matches!(self.phase, Phase::Advancing | Phase::Verifying | Phase::Finishing) {
            assert!(self.tasks.is_complete(), "a barrier needs every task's commit");
        }
        assert!(self.n_backups <= self.backups_max(), "backups are bounded");
    }

    fn named(&self, attempt: Attempt) -> JobAttempt {
        JobAttempt {
            job: self.start.job,
            attempt,
        }
    }

    /// What its tasks ask of a worker.
    fn demand(&self) -> Demand<'_> {
        Demand {
            memory_bytes: self.needs.memory_bytes,
            unable: &self.start.unable,
        }
    }

    pub(super) fn on_lacks_code(&mut self, worker: WorkerIdx) {
        self.start.unable.insert(worker);
        self.fitting = None;
    }

    fn alarm(&self, kind: AlarmKind, around: &mut Surroundings<'_>) {
        around.effects.push(DriverEffect::Alarm(Alarm {
            job: Some(self.start.job),
            kind,
        }));
    }

    // --- going on and ending -----------------------------------------------------------------------------------------

    /// Does whatever can be done now.
    pub(super) fn go_on(&mut self, around: &mut Surroundings<'_>) {
        if let Phase::Listening(until) = self.phase
            && around.now >= until
        {
            self.phase = Phase::Running;
        }
        match &self.phase {
            Phase::Running if self.tasks.is_complete() => {
                self.phase = Phase::Advancing;
                let effect = DriverEffect::Advance(self.start.job, self.round);
                around.effects.push(effect);
            }
            Phase::Running => {
                self.wake_due(around.now);
                self.fill_window(around);
            }
            Phase::Stopping(end) if self.leaving.is_empty() => {
                let end = end.clone();
                self.end(end, around);
            }
            _ => {}
        }
    }

    fn wake_due(&mut self, now: Millis) {
        if self.paused_until.is_some_and(|until| now >= until) {
            self.paused_until = None;
        }
        while let Some((at, task)) = self.backing_off.first().copied()
            && at <= now
        {
            self.backing_off.pop_first();
            self.put_back(task);
        }
    }

    /// When something is due that no event will tell of.
    pub(super) fn next_due(&self, now: Millis) -> Option<Millis> {
        let watch = Millis(now.0 + limits::WATCH_MS);
        match &self.phase {
            Phase::Listening(until) => Some((*until).min(watch)),
            Phase::Running => {
                let back_off = self.backing_off.first().map(|(at, _)| *at);
                Some(back_off.map_or(watch, |at| at.min(watch)))
            }
            Phase::Stopping(_) => Some(watch),
            // One that has just passed is seen with the next look.
            Phase::Advancing | Phase::Verifying => self.start.deadline.map(|deadline| deadline.max(watch)),
            // Too late to stop.
            Phase::Finishing | Phase::Ended => None,
        }
    }

    /// The first failure is the one to tell; a stop request that comes while the outputs take their names is too late.
    pub(super) fn stop(&mut self, end: JobEnd, around: &mut Surroundings<'_>) {
        let is_failure = matches!(end, JobEnd::Failed(_));
        match &mut self.phase {
            Phase::Ended | Phase::Stopping(JobEnd::Failed(_)) => {}
            Phase::Stopping(earlier) if is_failure => *earlier = end,
            Phase::Stopping(_) => {}
            Phase::Finishing if !is_failure => {}
            _ => {
                self.phase = Phase::Stopping(end);
                self.leaving = around.fleet.workers().collect();
                let cancel = self.cancel();
                around.effects.extend(
                    self.leaving
                        .iter()
                        .map(|worker| DriverEffect::Send(*worker, cancel)),
                );
            }
        }
    }

    fn cancel(&self) -> ToWorker {
        ToWorker::CancelJob {
            job: self.start.job,
            epoch: self.start.epoch,
        }
    }

    fn end(&mut self, end: JobEnd, around: &mut Surroundings<'_>) {
        for (_, flights) in core::mem::take(&mut self.in_flight) {
            for flight in flights.iter() {
                if let Some(worker) = flight.holder {
                    around.fleet.detach(worker, self.named(flight.attempt));
                }
            }
        }
        self.phase = Phase::Ended;
        around.effects.push(DriverEffect::End(self.start.job, end));
    }
}
