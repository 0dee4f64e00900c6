//! What must hold: at every step, after every power cut, and at the end.

use crate::coverage::Coverage;
use crate::scenario::Kind;
use std::fmt;
use tilework_core::failure::JobEnd;
use tilework_core::ids::{RoundIdx, TaskIdx};

/// Something that must never happen, and happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A task was acknowledged, and the durable journal does not have its commit.
    AcknowledgedButLost(RoundIdx, TaskIdx),
    /// A barrier that does not name a winner for every task.
    BarrierIncomplete(RoundIdx),
    /// A finished job with a wrong output.
    WrongOutput(RoundIdx, TaskIdx),
    /// A machine's own invariant.
    Invariant(String),
    /// A pair of a state and an event that was declared never to be.
    Impossible(String),
    /// The driver counts a task as committed, and the journal does not have it.
    CountedWithoutRecord(RoundIdx, TaskIdx),
    /// An attempt of an earlier run counted, or began on a worker that knew of a later one.
    StaleAttempt(RoundIdx, TaskIdx),
    /// A published barrier is another one now.
    BarrierChanged(RoundIdx),
    /// A task failed more often than is allowed, and was tried again.
    TriedTooOften(TaskIdx),
    /// A worker that was told to drain began another attempt.
    DrainedWorkerWorks,
    /// More backup attempts than are allowed.
    TooManyBackups(u64),
    /// A failed task had to wait longer for its next attempt than is allowed, in milliseconds.
    WaitsTooLong(u64),
    /// Two drivers held themselves for the leader at the same time, without an excuse.
    TwoLeaders,
    /// The job did not end although nothing has gone wrong for long.
    StandsStill(String),
    /// The job failed although every task could be done.
    Failed(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::AcknowledgedButLost(round, task) => {
                write!(
                    f,
                    "task {task} of round {round} was acknowledged and its commit is lost"
                )
            }
            Violation::BarrierIncomplete(round) => {
                write!(f, "the barrier of round {round} lacks winners")
            }
            Violation::WrongOutput(round, task) => {
                write!(
                    f,
                    "the job is done and task {task} of round {round} has a wrong output"
                )
            }
            Violation::CountedWithoutRecord(round, task) => {
                write!(
                    f,
                    "task {task} of round {round} counts as committed and is not in the journal"
                )
            }
            Violation::StaleAttempt(round, task) => {
                write!(
                    f,
                    "an attempt of an earlier run at task {task} of round {round} began or counted"
                )
            }
            Violation::BarrierChanged(round) => write!(f, "the barrier of round {round} changed"),
            Violation::TriedTooOften(task) => {
                write!(f, "task {task} was tried again after its last failure")
            }
            Violation::DrainedWorkerWorks => write!(f, "a draining worker began an attempt"),
            Violation::Invariant(text) => write!(f, "a machine's invariant broke: {text}"),
            Violation::Impossible(text) => write!(f, "what cannot be was met: {text}"),
            Violation::TooManyBackups(n) => write!(f, "{n} backup attempts"),
            Violation::WaitsTooLong(ms) => write!(f, "a failed task waits {ms} ms"),
            Violation::TwoLeaders => write!(f, "two drivers hold themselves for the leader"),
            Violation::StandsStill(what) => write!(f, "the job stands still: {what}"),
            Violation::Failed(text) => write!(f, "the job failed: {text}"),
        }
    }
}

/// How a simulated run went.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// How the job ended at last; it may have been submitted again before.
    pub end: Option<JobEnd>,
    /// What must never happen, and happened.
    pub violation: Option<Violation>,
    /// Virtual time until then.
    pub seconds: f64,
    /// All that happened, in order, if it was asked for: the same seed gives the same.
    pub log: Vec<String>,
    /// What was counted.
    pub counts: Counts,
    /// Which pairs of a state and an event the machines met.
    pub coverage: Coverage,
}

/// What happened how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Tasks of all rounds.
    pub n_tasks: u64,
    /// Attempts that began.
    pub n_started: u64,
    /// Commits that workers reported.
    pub n_committed: u64,
    /// Attempts that failed.
    pub n_failed: u64,
    /// Attempts that took longer than their deadline and did not stop then.
    pub n_hung: u64,
    /// Attempts that failed for good where they were made, and were made again elsewhere.
    pub n_elsewhere: u64,
    /// Backup attempts.
    pub n_backups: u64,
    /// Workers that a driver held for lost.
    pub n_lost: u64,
    /// Runs of the job that drivers began.
    pub n_take_overs: u64,
    /// Runs of the job that failed or were stopped, after which somebody went on with it.
    pub n_resubmits: u64,
    /// Events during which two drivers held themselves for the leader, because a clock had jumped or the lease was lost. Epochs fence
    /// them.
    pub n_overlaps: u64,
    /// Messages sent.
    pub n_messages: u64,
    /// Events of both machines.
    pub n_events: u64,
    /// Faults that happened, of each kind.
    pub(crate) fired: [u64; Kind::N],
}

impl Counts {
    /// Notes that a fault happened.
    pub(crate) fn fire(&mut self, kind: Kind) {
        self.fired[kind as usize] += 1;
    }

    /// How often a kind of fault happened.
    pub fn fired(&self, kind: Kind) -> u64 {
        self.fired[kind as usize]
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Counts) {
        let numbers = [
            (&mut self.n_tasks, other.n_tasks),
            (&mut self.n_started, other.n_started),
            (&mut self.n_committed, other.n_committed),
            (&mut self.n_failed, other.n_failed),
            (&mut self.n_hung, other.n_hung),
            (&mut self.n_elsewhere, other.n_elsewhere),
            (&mut self.n_backups, other.n_backups),
            (&mut self.n_lost, other.n_lost),
            (&mut self.n_take_overs, other.n_take_overs),
            (&mut self.n_resubmits, other.n_resubmits),
            (&mut self.n_overlaps, other.n_overlaps),
            (&mut self.n_messages, other.n_messages),
            (&mut self.n_events, other.n_events),
        ];
        let fired = self.fired.iter_mut().zip(other.fired);
        for (sum, number) in numbers.into_iter().chain(fired) {
            *sum += number;
        }
    }
}
