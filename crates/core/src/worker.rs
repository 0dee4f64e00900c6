//! The worker machine: takes tasks, commits each in the only safe order, and says what it holds.
//!
//! Order of one attempt: `Ahead -> Running -> Writing -> Committing -> acknowledged`, that is: run and check -> output durable ->
//! journal record durable -> acknowledged. The machine asks for each step only after the event that the step before it is durable
//! (invariant 3). The next attempt may run while earlier ones are being written, up to [`UNCOMMITTED_MAX`], and while records of
//! still earlier ones become durable, up to [`UNSYNCED_MAX`]; with look-ahead one more is taken while one runs, so that its first bytes can be fetched.
//!
//! An attempt that runs past its deadline is told to stop, and has failed. One that does not stop then hangs: nobody can take a thread
//! back, so the worker is given up. It says so, commits what it has computed besides, and ends.

use crate::failure::{Cause, Failure};
use crate::ids::{JobId, Millis, RunEpoch, WorkerIdx};
use crate::limits::{HANG_GRACE_MS, HEARTBEAT_MS, RUNS_REMEMBERED_MAX, UNCOMMITTED_MAX, UNSYNCED_MAX};
use crate::message::{Holding, JobAttempt, ToDriver, ToWorker, WorkerReport};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What happened to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEvent {
    /// The process or thread group is ready, or reaches the engine again.
    Connected,
    /// The engine brought a task.
    Assigned(JobAttempt),
    /// The attempt began to compute at this time, and may take so long in milliseconds. What it waited for before, such as inputs that were
    /// opened, is not its time.
    Begun(JobAttempt, Millis, Option<u64>),
    /// The attempt ran and passed its check, or failed.
    RunEnded(JobAttempt, Result<(), Failure>),
    /// The attempt's output is durable, or could not be made so.
    OutputDurable(JobAttempt, Result<(), Failure>),
    /// The attempt's journal record is durable, or could not be made so.
    CommitDurable(JobAttempt, Result<(), Failure>),
    /// The driver said something.
    Received(ToWorker),
    /// Time passed.
    Tick,
}

/// What a worker must do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEffect {
    /// Ask the engine for one more task; an earlier ask that brought none is replaced.
    Fetch,
    /// The attempt runs next: what it reads first may be fetched.
    Prepare(JobAttempt),
    /// Run and check the attempt.
    Run(JobAttempt),
    /// Tell the running attempt to stop early.
    CancelRun(JobAttempt),
    /// The running attempt does not end: what runs it is lost, and runs nothing else. `End` follows.
    GiveUpRun(JobAttempt),
    /// Make the attempt's output durable.
    WriteOutput(JobAttempt),
    /// Make the attempt's journal record durable.
    AppendCommit(JobAttempt),
    /// Tell the engine's queue that the attempt is still being worked at.
    Renew(JobAttempt),
    /// Tell the engine's queue that the attempt needs no redelivery.
    Ack(JobAttempt),
    /// Say something to the driver.
    Send(ToDriver),
    /// Come back with a `Tick` at this time.
    WakeAt(Millis),
    /// Nothing is left to do.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Ahead,
    Running,
    Writing,
}

/// The time of the attempt that runs, if it has begun and has a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RunClock {
    attempt: JobAttempt,
    since: Millis,
    allowed_ms: u64,
    /// When it was told that its time is over.
    told: Option<Millis>,
}

impl RunClock {
    /// When the attempt is to be told to stop, or is given up.
    fn due(&self) -> Millis {
        match self.told {
            None => Millis(self.since.0.saturating_add(self.allowed_ms)),
            Some(told) => Millis(told.0 + HANG_GRACE_MS),
        }
    }

    /// What it did.
    fn late(&self) -> String {
        format!(
            "task {} took longer than its deadline of {} s",
            self.attempt.attempt.task,
            self.allowed_ms as f64 / 1e3
        )
    }
}

/// What a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerStart {
    /// Its number.
    pub worker: WorkerIdx,
    /// Its memory: it takes no task that needs more.
    pub memory_bytes: u64,
    /// Whether it takes the next task while one runs.
    pub looks_ahead: bool,
}

/// One worker's state.
#[derive(Debug)]
pub struct Worker {
    start: WorkerStart,
    /// Attempts in hand whose output is not durable, oldest first.
    in_hand: Vec<(JobAttempt, Phase)>,
    /// Attempts whose output is durable, and whose record is not.
    committing: BTreeSet<JobAttempt>,
    /// The latest run of each job that was heard of, and whether it was cancelled: earlier runs are over.
    runs: BTreeMap<JobId, (RunEpoch, bool)>,
    /// Cancelled jobs of which something may still be in hand.
    leaving: BTreeSet<JobId>,
    clock: Option<RunClock>,
    next_heartbeat: Millis,
    connected: bool,
    fetching: bool,
    draining: bool,
    ended: bool,
}

impl Worker {
    /// A worker that is not connected yet.
    pub fn new(start: WorkerStart) -> Worker {
        Worker {
            start,
            in_hand: Vec::new(),
            committing: BTreeSet::new(),
            runs: BTreeMap::new(),
            leaving: BTreeSet::new(),
            clock: None,
            next_heartbeat: Millis(0),
            connected: false,
            fetching: false,
            draining: false,
            ended: false,
        }
    }

    /// Takes one event and appends what must be done, in order. `now` never goes back.
    pub fn on_event(&mut self, now: Millis, event: WorkerEvent, effects: &mut Vec<WorkerEffect>) {
        if self.ended {
            return;
        }
        match event {
            WorkerEvent::Connected => self.on_connected(now, effects),
            WorkerEvent::Assigned(attempt) => self.on_assigned(attempt, effects),
            WorkerEvent::Begun(attempt, at, deadline_ms) => self.on_begun(attempt, at, deadline_ms),
            WorkerEvent::RunEnded(attempt, result) => self.on_run_ended(attempt, result, effects),
            WorkerEvent::OutputDurable(attempt, result) => self.on_output_durable(attempt, result, effects),
            WorkerEvent::CommitDurable(attempt, result) => self.on_commit_durable(attempt, result, effects),
            WorkerEvent::Received(message) => self.on_message(message, effects),
            WorkerEvent::Tick => {}
        }
        self.watch_the_clock(now, effects);
        self.go_on(now, effects);
    }

    /// Panics if the machine reached a state it must never reach.
    pub fn check_invariants(&self) {
        let count = |phase| self.in_hand.iter().filter(|(_, held)| *held == phase).count();
        assert!(count(Phase::Running) <= 1, "a worker runs one attempt at a time");
        assert!(count(Phase::Ahead) <= 1, "a worker takes one attempt ahead");
        assert!(
            count(Phase::Writing) <= UNCOMMITTED_MAX,
            "uncommitted outputs are bounded"
        );
        assert!(
            self.committing.len() <= UNSYNCED_MAX + UNCOMMITTED_MAX,
            "records that are not durable are bounded"
        );
        assert!(
            !self.ended || self.is_empty_handed(),
            "a worker ends with nothing in hand"
        );
    }

    /// Where it stands, by the name of its state. For those who look at the machine from outside.
    pub fn state(&self) -> &'static str {
        match () {
            () if self.ended => "Ended",
            () if !self.connected => "Unconnected",
            () if self.draining => "Draining",
            () if self.is_backed_up() => "BackedUp",
            () if self.holds(Phase::Running) && self.holds(Phase::Ahead) => "RunningWithNext",
            () if self.holds(Phase::Running) => "Running",
            () if !self.is_empty_handed() => "Writing",
            () => "Idle",
        }
    }

    /// Where an attempt stands here, by the name of its state.
    pub fn state_of(&self, attempt: JobAttempt) -> &'static str {
        let held = self.in_hand.iter().find(|(held, _)| *held == attempt);
        match held.map(|(_, phase)| phase) {
            Some(Phase::Ahead) => "Ahead",
            Some(Phase::Running) if self.was_told_to_stop(attempt) => "ToldToStop",
            Some(Phase::Running) => "Running",
            Some(Phase::Writing) => "Writing",
            None if self.committing.contains(&attempt) => "Committing",
            None => "NotHere",
        }
    }

    /// Whether its time was over, and it has not stopped yet.
    fn was_told_to_stop(&self, attempt: JobAttempt) -> bool {
        let clock = self.clock.filter(|clock| clock.attempt == attempt);
        clock.is_some_and(|clock| clock.told.is_some())
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    fn on_connected(&mut self, now: Millis, effects: &mut Vec<WorkerEffect>) {
        self.connected = true;
        // What was asked of an engine that could not be reached is forgotten.
        self.fetching = false;
        let memory_bytes = self.start.memory_bytes;
        self.send(WorkerReport::Joined { memory_bytes }, effects);
        self.next_heartbeat = if self.is_empty_handed() {
            Millis(now.0 + HEARTBEAT_MS)
        } else {
            now
        };
    }

    fn on_assigned(&mut self, attempt: JobAttempt, effects: &mut Vec<WorkerEffect>) {
        self.fetching = false;
        if self.committing.contains(&attempt) || self.in_hand.iter().any(|(held, _)| *held == attempt) {
            // The queue brought it twice.
            return;
        }
        let (latest, cancelled) = self.run_of(attempt);
        if attempt.attempt.epoch < latest {
            effects.push(WorkerEffect::Ack(attempt));
        } else if self.draining || cancelled || self.holds(Phase::Ahead) {
            self.give_back(attempt, effects);
        } else if self.holds(Phase::Running) {
            self.in_hand.push((attempt, Phase::Ahead));
            self.send(WorkerReport::Took(attempt), effects);
            effects.push(WorkerEffect::Prepare(attempt));
        } else {
            self.in_hand.push((attempt, Phase::Ahead));
        }
    }

    /// The latest run of the attempt's job, which this attempt may be the first to tell of.
    fn run_of(&mut self, attempt: JobAttempt) -> (RunEpoch, bool) {
        let epoch = attempt.attempt.epoch;
        if self.runs.len() >= RUNS_REMEMBERED_MAX {
            let held: BTreeSet<JobId> = self.all_in_hand().map(|held| held.job).collect();
            self.runs.retain(|job, _| held.contains(job));
        }
        let run = self.runs.entry(attempt.job).or_insert((epoch, false));
        if epoch > run.0 {
            *run = (epoch, false);
        }
        *run
    }

    fn on_run_ended(
        &mut self,
        attempt: JobAttempt,
        result: Result<(), Failure>,
        effects: &mut Vec<WorkerEffect>,
    ) {
        match result {
            Ok(()) => {
                let running = (attempt, Phase::Running);
                if let Some(entry) = self.in_hand.iter_mut().find(|entry| **entry == running) {
                    entry.1 = Phase::Writing;
                    effects.push(WorkerEffect::WriteOutput(attempt));
                }
            }
            Err(failure) if failure.cause == Cause::Cancelled => {
                if let Some(failure) = self.missed_deadline(attempt) {
                    self.on_failed(attempt, failure, effects);
                } else if self.let_go(attempt) {
                    self.give_back(attempt, effects);
                }
            }
            Err(failure) => self.on_failed(attempt, failure, effects),
        }
    }

    fn on_output_durable(
        &mut self,
        attempt: JobAttempt,
        result: Result<(), Failure>,
        effects: &mut Vec<WorkerEffect>,
    ) {
        match result {
            Ok(()) => {
                let n_before = self.in_hand.len();
                self.in_hand.retain(|entry| *entry != (attempt, Phase::Writing));
                if self.in_hand.len() < n_before {
                    self.committing.insert(attempt);
                    effects.push(WorkerEffect::AppendCommit(attempt));
                }
            }
            Err(failure) => self.on_failed(attempt, failure, effects),
        }
    }

    fn on_commit_durable(
        &mut self,
        attempt: JobAttempt,
        result: Result<(), Failure>,
        effects: &mut Vec<WorkerEffect>,
    ) {
        match result {
            Ok(()) => {
                if self.let_go(attempt) {
                    effects.push(WorkerEffect::Ack(attempt));
                    self.send(WorkerReport::Committed(attempt), effects);
                }
            }
            Err(failure) => self.on_failed(attempt, failure, effects),
        }
    }

    /// The driver decides about another attempt, so the queue needs to keep nothing.
    fn on_failed(&mut self, attempt: JobAttempt, failure: Failure, effects: &mut Vec<WorkerEffect>) {
        if self.let_go(attempt) {
            effects.push(WorkerEffect::Ack(attempt));
            self.send(WorkerReport::Failed(attempt, failure), effects);
        }
    }

    fn on_begun(&mut self, attempt: JobAttempt, at: Millis, deadline_ms: Option<u64>) {
        self.clock = deadline_ms.map(|allowed_ms| RunClock {
            attempt,
            since: at,
            allowed_ms,
            told: None,
        });
    }

    fn watch_the_clock(&mut self, now: Millis, effects: &mut Vec<WorkerEffect>) {
        let runs = |clock: &RunClock| self.in_hand.contains(&(clock.attempt, Phase::Running));
        self.clock = self.clock.filter(runs);
        let Some(clock) = self.clock.as_mut().filter(|clock| now >= clock.due()) else {
            return;
        };
        let attempt = clock.attempt;
        if clock.told.is_none() {
            clock.told = Some(now);
            effects.push(WorkerEffect::CancelRun(attempt));
            return;
        }
        let late = clock.late();
        let grace_s = HANG_GRACE_MS / 1_000;
        let text = format!("{late}, and did not stop within {grace_s} s when it was told to");
        effects.push(WorkerEffect::GiveUpRun(attempt));
        self.on_failed(attempt, Failure::retry(Cause::Hung, text), effects);
        self.clock = None;
        self.draining = true;
        self.give_back_ahead(|_| true, effects);
    }

    /// The failure of an attempt that stopped because its time was over, and not because its job is cancelled.
    fn missed_deadline(&self, attempt: JobAttempt) -> Option<Failure> {
        let clock = self.clock.filter(|clock| clock.attempt == attempt)?;
        let is_cancelled = self.runs.get(&attempt.job).is_some_and(|run| run.1);
        let is_meant = clock.told.is_some() && !is_cancelled;
        is_meant.then(|| Failure::retry(Cause::Deadline, clock.late()))
    }

    fn on_message(&mut self, message: ToWorker, effects: &mut Vec<WorkerEffect>) {
        match message {
            ToWorker::CancelJob { job, epoch } => self.on_cancel(job, epoch, effects),
            ToWorker::Abandon(attempt) => self.stop_if(|held| held == attempt, effects),
            ToWorker::Recall(attempt) => self.give_back_ahead(|held| held == attempt, effects),
            ToWorker::Drain => {
                self.draining = true;
                self.give_back_ahead(|_| true, effects);
            }
        }
    }

    fn on_cancel(&mut self, job: JobId, epoch: RunEpoch, effects: &mut Vec<WorkerEffect>) {
        let run = self.runs.entry(job).or_insert((epoch, false));
        if epoch < run.0 {
            return;
        }
        *run = (epoch, true);
        self.leaving.insert(job);
        self.stop_if(|held| held.job == job, effects);
    }

    /// Gives back what has not begun, and tells what runs to stop.
    fn stop_if(&mut self, is_meant: impl Fn(JobAttempt) -> bool, effects: &mut Vec<WorkerEffect>) {
        self.give_back_ahead(&is_meant, effects);
        let running = self
            .in_hand
            .iter()
            .filter(|(held, phase)| *phase == Phase::Running && is_meant(*held));
        effects.extend(running.map(|(held, _)| WorkerEffect::CancelRun(*held)));
    }

    fn give_back_ahead(&mut self, is_meant: impl Fn(JobAttempt) -> bool, effects: &mut Vec<WorkerEffect>) {
        let ahead = self
            .in_hand
            .extract_if(.., |(held, phase)| *phase == Phase::Ahead && is_meant(*held));
        for (attempt, _) in ahead.collect::<Vec<_>>() {
            self.give_back(attempt, effects);
        }
    }

    /// The driver releases it anew, so the queue needs to keep nothing.
    fn give_back(&mut self, attempt: JobAttempt, effects: &mut Vec<WorkerEffect>) {
        effects.push(WorkerEffect::Ack(attempt));
        self.send(WorkerReport::GaveBack(attempt), effects);
    }

    /// Whether it was held.
    fn let_go(&mut self, attempt: JobAttempt) -> bool {
        let n_before = self.in_hand.len();
        self.in_hand.retain(|(held, _)| *held != attempt);
        self.in_hand.len() < n_before || self.committing.remove(&attempt)
    }

    fn holds(&self, phase: Phase) -> bool {
        self.in_hand.iter().any(|(_, held)| *held == phase)
    }

    fn go_on(&mut self, now: Millis, effects: &mut Vec<WorkerEffect>) {
        self.run_next(effects);
        self.take_leave(effects);
        if self.draining {
            if self.is_empty_handed() {
                self.ended = true;
                self.send(WorkerReport::Drained, effects);
                effects.push(WorkerEffect::End);
                return;
            }
        } else if self.wants_more() {
            self.fetching = true;
            effects.push(WorkerEffect::Fetch);
        }
        if self.connected {
            self.tell_and_renew(now, effects);
        }
    }

    fn run_next(&mut self, effects: &mut Vec<WorkerEffect>) {
        if self.holds(Phase::Running) || self.is_backed_up() {
            return;
        }
        if let Some(entry) = self.in_hand.iter_mut().find(|(_, phase)| *phase == Phase::Ahead) {
            entry.1 = Phase::Running;
            let attempt = entry.0;
            self.send(WorkerReport::Started(attempt), effects);
            effects.push(WorkerEffect::Run(attempt));
        }
    }

    /// Whether so much waits to become durable that nothing more may be computed.
    fn is_backed_up(&self) -> bool {
        let is_writing = |(_, phase): &&(JobAttempt, Phase)| *phase == Phase::Writing;
        self.in_hand.iter().filter(is_writing).count() >= UNCOMMITTED_MAX
            || self.committing.len() >= UNSYNCED_MAX
    }

    fn is_empty_handed(&self) -> bool {
        self.in_hand.is_empty() && self.committing.is_empty()
    }

    fn all_in_hand(&self) -> impl Iterator<Item = JobAttempt> {
        let committing = self.committing.iter().copied();
        committing.chain(self.in_hand.iter().map(|(attempt, _)| *attempt))
    }

    fn wants_more(&self) -> bool {
        let has_room = if self.start.looks_ahead {
            !self.holds(Phase::Ahead)
        } else {
            !self.holds(Phase::Running) && !self.holds(Phase::Ahead) && !self.is_backed_up()
        };
        self.connected && !self.fetching && has_room
    }

    /// Says that nothing of a cancelled job is left, once.
    fn take_leave(&mut self, effects: &mut Vec<WorkerEffect>) {
        let left = self.leaving.extract_if(.., |job| {
            let others = self.in_hand.iter().all(|(held, _)| held.job != *job);
            others && self.committing.iter().all(|held| held.job != *job)
        });
        for job in left.collect::<Vec<_>>() {
            self.send(WorkerReport::Left(job), effects);
        }
    }

    fn tell_and_renew(&mut self, now: Millis, effects: &mut Vec<WorkerEffect>) {
        if now >= self.next_heartbeat {
            self.next_heartbeat = Millis(now.0 + HEARTBEAT_MS);
            effects.extend(self.all_in_hand().map(WorkerEffect::Renew));
            let committing = self.committing.iter().map(|attempt| (attempt, true));
            let others = self.in_hand.iter();
            let others = others.map(|(attempt, phase)| (attempt, *phase != Phase::Ahead));
            let holding = committing.chain(others).map(|(attempt, started)| Holding {
                attempt: *attempt,
                started,
            });
            let report = WorkerReport::Heartbeat {
                memory_bytes: self.start.memory_bytes,
                holding: holding.collect(),
            };
            self.send(report, effects);
        }
        let due = self.clock.as_ref().map_or(self.next_heartbeat, RunClock::due);
        effects.push(WorkerEffect::WakeAt(self.next_heartbeat.min(due)));
    }

    fn send(&self, body: WorkerReport, effects: &mut Vec<WorkerEffect>) {
        effects.push(WorkerEffect::Send(ToDriver {
            worker: self.start.worker,
            body,
        }));
    }
}

#[cfg(test)]
mod tests;
