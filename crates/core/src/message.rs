//! What driver and workers say to each other: the same set for every engine (docs/messages.md).
//!
//! Each message names the job and attempt it is about, and with it the run: both machines drop what belongs to another run, so no
//! engine has to. Any message may be lost, repeated or late: what matters is said again by the next heartbeat, and what was
//! committed stands in the journal.

use crate::failure::Failure;
use crate::ids::{Attempt, JobId, RunEpoch, WorkerIdx};
use alloc::vec::Vec;

/// Version of the message set.
pub const MESSAGE_VERSION: u16 = 3;

/// An attempt at a task of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobAttempt {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: Attempt,
}

/// From the driver to one worker. Tasks come through a queue, not as messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToWorker {
    /// Abandon what runs of the job, commit what is computed, take nothing more of it.
    CancelJob {
        /// The job.
        job: JobId,
        /// The run that ends; a worker that knows of a later one goes on.
        epoch: RunEpoch,
    },
    /// Nobody needs this attempt any more: another one is committed.
    Abandon(JobAttempt),
    /// Give this attempt back if it does not run yet: another worker is idle.
    Recall(JobAttempt),
    /// Finish what runs, take nothing more of any job, and end.
    Drain,
}

/// From a worker to the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToDriver {
    /// The sender.
    pub worker: WorkerIdx,
    /// What it says.
    pub body: WorkerReport,
}

/// What a worker reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerReport {
    /// It is there and takes tasks that need no more memory than this, in bytes.
    Joined {
        /// Memory of the worker.
        memory_bytes: u64,
    },
    /// It is still there, and this is all that it has in its hands.
    Heartbeat {
        /// Memory of the worker, for a driver that did not hear it join.
        memory_bytes: u64,
        /// Attempts taken and not yet committed, failed or given back, oldest first.
        holding: Vec<Holding>,
    },
    /// It took an attempt, and will run it after the one that runs.
    Took(JobAttempt),
    /// It began an attempt.
    Started(JobAttempt),
    /// Output and journal record of the attempt are durable.
    Committed(JobAttempt),
    /// The attempt failed; nothing of it is committed.
    Failed(JobAttempt, Failure),
    /// It gives the attempt back unfinished.
    GaveBack(JobAttempt),
    /// After a cancel: nothing of this job is in its hands, and it takes nothing more of it.
    Left(JobId),
    /// Nothing is in its hands and it takes nothing more.
    Drained,
}

/// One attempt in a worker's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// The attempt.
    pub attempt: JobAttempt,
    /// Whether it began to run.
    pub started: bool,
}
