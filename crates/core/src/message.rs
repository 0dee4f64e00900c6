//! What driver and workers say to each other: the same set for every engine.
//!
//! Each message names the attempt it is about, and with it the run: both machines drop what belongs to another run, so no
//! engine has to.

use crate::failure::Failure;
use crate::ids::{Attempt, WorkerIdx};

/// Version of the message set.
pub const MESSAGE_VERSION: u16 = 1;

/// From the driver to one worker. Tasks come through a queue, not as messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToWorker {
    /// Abandon the running attempt, commit what is computed, take nothing more.
    Cancel,
    /// Finish what was taken, take nothing more.
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
    /// It is there and takes tasks.
    Joined,
    /// It began an attempt.
    Started(Attempt),
    /// Output and journal record of the attempt are durable.
    Committed(Attempt),
    /// The attempt failed; nothing of it is committed.
    Failed(Attempt, Failure),
    /// It gives the attempt back unfinished.
    GaveBack(Attempt),
    /// Nothing is in its hands and it takes nothing more.
    Drained,
}
