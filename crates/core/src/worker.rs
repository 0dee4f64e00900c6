//! The worker machine: takes tasks, and commits each in the only safe order.
//!
//! Order of one attempt: run and check -> output durable -> journal record durable -> acknowledged. The machine asks for
//! each step only after the event that the step before it is durable (invariant 3). The next attempt may run while earlier
//! ones are being written, up to [`UNCOMMITTED_MAX`].

use crate::failure::{Cause, Failure};
use crate::ids::{Attempt, RunEpoch, WorkerIdx};
use crate::limits::UNCOMMITTED_MAX;
use crate::message::{ToDriver, ToWorker, WorkerReport};
use alloc::vec::Vec;

/// What happened to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEvent {
    /// The process or thread group is ready.
    Started,
    /// The engine brought a task.
    Assigned(Attempt),
    /// The attempt ran and passed its check, or failed.
    RunEnded(Attempt, Result<(), Failure>),
    /// The attempt's output is durable, or could not be made so.
    OutputDurable(Attempt, Result<(), Failure>),
    /// The attempt's journal record is durable, or could not be made so.
    CommitDurable(Attempt, Result<(), Failure>),
    /// The driver said something.
    Received(ToWorker),
}

/// What a worker must do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEffect {
    /// Ask the engine for one more task.
    Fetch,
    /// Run and check the attempt.
    Run(Attempt),
    /// Tell the running attempt to stop early.
    CancelRun(Attempt),
    /// Make the attempt's output durable.
    WriteOutput(Attempt),
    /// Make the attempt's journal record durable.
    AppendCommit(Attempt),
    /// Tell the engine's queue that the task needs no redelivery.
    Ack(Attempt),
    /// Say something to the driver.
    Send(ToDriver),
    /// Nothing is left to do.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Writing,
    Committing,
}

/// One worker's state.
#[derive(Debug)]
pub struct Worker {
    worker: WorkerIdx,
    epoch: RunEpoch,
    /// Attempts in hand, oldest first.
    in_hand: Vec<(Attempt, Phase)>,
    fetching: bool,
    draining: bool,
    ended: bool,
}

impl Worker {
    /// A worker of the run `epoch` that has not started yet.
    pub fn new(worker: WorkerIdx, epoch: RunEpoch) -> Worker {
        Worker {
            worker,
            epoch,
            in_hand: Vec::new(),
            fetching: false,
            draining: false,
            ended: false,
        }
    }

    /// Takes one event and appends what must be done, in order.
    pub fn on_event(&mut self, event: WorkerEvent, effects: &mut Vec<WorkerEffect>) {
        match event {
            WorkerEvent::Started => self.send(WorkerReport::Joined, effects),
            WorkerEvent::Assigned(attempt) => self.on_assigned(attempt, effects),
            WorkerEvent::RunEnded(attempt, result) => self.on_run_ended(attempt, result, effects),
            WorkerEvent::OutputDurable(attempt, result) => self.on_output_durable(attempt, result, effects),
            WorkerEvent::CommitDurable(attempt, result) => self.on_commit_durable(attempt, result, effects),
            WorkerEvent::Received(ToWorker::Cancel) => self.on_cancel(effects),
            WorkerEvent::Received(ToWorker::Drain) => self.draining = true,
        }
        self.go_on(effects);
        self.check_invariants();
    }

    /// Panics if the machine reached a state it must never reach.
    pub fn check_invariants(&self) {
        let n_running = self
            .in_hand
            .iter()
            .filter(|(_, phase)| *phase == Phase::Running)
            .count();
        assert!(n_running <= 1, "a worker runs one attempt at a time");
        assert!(
            self.in_hand.len() <= UNCOMMITTED_MAX + 1,
            "uncommitted attempts are bounded"
        );
        assert!(
            !self.ended || self.in_hand.is_empty(),
            "a worker ends with nothing in hand"
        );
    }

    fn on_assigned(&mut self, attempt: Attempt, effects: &mut Vec<WorkerEffect>) {
        self.fetching = false;
        if attempt.epoch != self.epoch {
            effects.push(WorkerEffect::Ack(attempt));
        } else if self.draining {
            self.send(WorkerReport::GaveBack(attempt), effects);
        } else {
            self.in_hand.push((attempt, Phase::Running));
            self.send(WorkerReport::Started(attempt), effects);
            effects.push(WorkerEffect::Run(attempt));
        }
    }

    fn on_run_ended(
        &mut self,
        attempt: Attempt,
        result: Result<(), Failure>,
        effects: &mut Vec<WorkerEffect>,
    ) {
        match result {
            Ok(()) => self.advance(
                attempt,
                Phase::Running,
                Phase::Writing,
                WorkerEffect::WriteOutput(attempt),
                effects,
            ),
            Err(failure) if failure.cause == Cause::Cancelled => {
                self.let_go(attempt);
                self.send(WorkerReport::GaveBack(attempt), effects);
            }
            Err(failure) => self.on_failed(attempt, failure, effects),
        }
    }

    fn on_output_durable(
        &mut self,
        attempt: Attempt,
        result: Result<(), Failure>,
        effects: &mut Vec<WorkerEffect>,
    ) {
        match result {
            Ok(()) => {
                self.advance(
                    attempt,
                    Phase::Writing,
                    Phase::Committing,
                    WorkerEffect::AppendCommit(attempt),
                    effects,
                );
            }
            Err(failure) => self.on_failed(attempt, failure, effects),
        }
    }

    fn on_commit_durable(
        &mut self,
        attempt: Attempt,
        result: Result<(), Failure>,
        effects: &mut Vec<WorkerEffect>,
    ) {
        match result {
            Ok(()) => {
                self.let_go(attempt);
                effects.push(WorkerEffect::Ack(attempt));
                self.send(WorkerReport::Committed(attempt), effects);
            }
            Err(failure) => self.on_failed(attempt, failure, effects),
        }
    }

    /// The driver decides about another attempt, so the queue needs to keep nothing.
    fn on_failed(&mut self, attempt: Attempt, failure: Failure, effects: &mut Vec<WorkerEffect>) {
        self.let_go(attempt);
        effects.push(WorkerEffect::Ack(attempt));
        self.send(WorkerReport::Failed(attempt, failure), effects);
    }

    fn on_cancel(&mut self, effects: &mut Vec<WorkerEffect>) {
        self.draining = true;
        let running = self.in_hand.iter().filter(|(_, phase)| *phase == Phase::Running);
        effects.extend(running.map(|(attempt, _)| WorkerEffect::CancelRun(*attempt)));
    }

    /// Moves an attempt on by one phase; an event about an attempt that is not in that phase is stale and ignored.
    fn advance(
        &mut self,
        attempt: Attempt,
        from: Phase,
        to: Phase,
        effect: WorkerEffect,
        effects: &mut Vec<WorkerEffect>,
    ) {
        if let Some(entry) = self.in_hand.iter_mut().find(|entry| **entry == (attempt, from)) {
            entry.1 = to;
            effects.push(effect);
        }
    }

    fn let_go(&mut self, attempt: Attempt) {
        self.in_hand.retain(|(held, _)| *held != attempt);
    }

    fn go_on(&mut self, effects: &mut Vec<WorkerEffect>) {
        let running = self.in_hand.iter().any(|(_, phase)| *phase == Phase::Running);
        if self.draining {
            if self.in_hand.is_empty() && !self.ended {
                self.ended = true;
                self.send(WorkerReport::Drained, effects);
                effects.push(WorkerEffect::End);
            }
        } else if !running && !self.fetching && self.in_hand.len() < UNCOMMITTED_MAX {
            self.fetching = true;
            effects.push(WorkerEffect::Fetch);
        }
    }

    fn send(&self, body: WorkerReport, effects: &mut Vec<WorkerEffect>) {
        effects.push(WorkerEffect::Send(ToDriver {
            worker: self.worker,
            body,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AttemptNo, RoundIdx, TaskIdx};

    fn attempt(task: u64) -> Attempt {
        Attempt {
            epoch: RunEpoch(1),
            round: RoundIdx(0),
            task: TaskIdx(task),
            attempt: AttemptNo(0),
        }
    }

    fn step(worker: &mut Worker, event: WorkerEvent) -> Vec<WorkerEffect> {
        let mut effects = Vec::new();
        worker.on_event(event, &mut effects);
        effects
    }

    fn started() -> Worker {
        let mut worker = Worker::new(WorkerIdx(0), RunEpoch(1));
        assert!(step(&mut worker, WorkerEvent::Started).contains(&WorkerEffect::Fetch));
        worker
    }

    #[test]
    fn a_task_is_acknowledged_only_after_output_and_record_are_durable() {
        let mut worker = started();
        let a = attempt(0);
        assert!(step(&mut worker, WorkerEvent::Assigned(a)).contains(&WorkerEffect::Run(a)));
        let effects = step(&mut worker, WorkerEvent::RunEnded(a, Ok(())));
        assert_eq!(effects, [WorkerEffect::WriteOutput(a), WorkerEffect::Fetch]);
        assert_eq!(
            step(&mut worker, WorkerEvent::OutputDurable(a, Ok(()))),
            [WorkerEffect::AppendCommit(a)]
        );
        let effects = step(&mut worker, WorkerEvent::CommitDurable(a, Ok(())));
        assert_eq!(effects[0], WorkerEffect::Ack(a));
        assert!(matches!(&effects[1], WorkerEffect::Send(m) if m.body == WorkerReport::Committed(a)));
    }

    #[test]
    fn a_record_is_not_appended_twice_for_a_repeated_event() {
        let mut worker = started();
        let a = attempt(0);
        step(&mut worker, WorkerEvent::Assigned(a));
        step(&mut worker, WorkerEvent::RunEnded(a, Ok(())));
        step(&mut worker, WorkerEvent::OutputDurable(a, Ok(())));
        assert!(step(&mut worker, WorkerEvent::OutputDurable(a, Ok(()))).is_empty());
    }

    #[test]
    fn a_task_of_another_run_is_not_executed() {
        let mut worker = started();
        let stale = Attempt {
            epoch: RunEpoch(0),
            ..attempt(0)
        };
        assert_eq!(
            step(&mut worker, WorkerEvent::Assigned(stale)),
            [WorkerEffect::Ack(stale), WorkerEffect::Fetch]
        );
    }

    #[test]
    fn cancelling_gives_the_running_task_back_and_commits_the_computed_one() {
        let mut worker = started();
        let (a, b) = (attempt(0), attempt(1));
        step(&mut worker, WorkerEvent::Assigned(a));
        step(&mut worker, WorkerEvent::RunEnded(a, Ok(())));
        step(&mut worker, WorkerEvent::Assigned(b));
        assert_eq!(
            step(&mut worker, WorkerEvent::Received(ToWorker::Cancel)),
            [WorkerEffect::CancelRun(b)]
        );
        let effects = step(&mut worker, WorkerEvent::RunEnded(b, Err(Failure::cancelled())));
        assert!(matches!(&effects[0], WorkerEffect::Send(m) if m.body == WorkerReport::GaveBack(b)));
        step(&mut worker, WorkerEvent::OutputDurable(a, Ok(())));
        let effects = step(&mut worker, WorkerEvent::CommitDurable(a, Ok(())));
        assert_eq!(effects.last(), Some(&WorkerEffect::End));
    }

    #[test]
    fn uncommitted_outputs_are_bounded() {
        let mut worker = started();
        for task in 0..2 {
            step(&mut worker, WorkerEvent::Assigned(attempt(task)));
            let effects = step(&mut worker, WorkerEvent::RunEnded(attempt(task), Ok(())));
            assert_eq!(effects.contains(&WorkerEffect::Fetch), task == 0);
        }
    }
}
