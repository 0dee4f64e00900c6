//! What the driver and the thread of a job say to each other.

use super::ending::RunEnd;
use super::protocol::KnownKind;
use super::record::JobRecord;
use std::sync::mpsc::Sender;
use tilework_core::driver::{DriverEvent, JobStart};
use tilework_runtime::steps::Step;
use tilework_store::journal::JobFiles;

/// A job's thread, from when it is begun. No two threads of a driver have the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What the driver tells a job's thread.
pub enum Order {
    /// Take a step.
    Step(Step),
    /// The run is over.
    End(RunEnd),
}

/// What a job's thread tells the driver.
pub enum Told {
    /// It can't begin yet.
    Waits(Ticket, String),
    /// It can begin.
    Opened(Ticket, Box<OpenedJob>),
    /// Its record says how it ended.
    Ended(Box<JobRecord>),
    /// The thread is at its end.
    Over(Ticket),
}

/// A job that can begin.
pub struct OpenedJob {
    /// What the machine starts from.
    pub start: JobStart,
    /// As it is stored.
    pub record: JobRecord,
    /// Where its steps are ordered.
    pub orders: Sender<Order>,
    /// What it computes.
    pub kind: String,
    /// What workers must have the code for, beyond what all programs know.
    pub needs_code: Option<KnownKind>,
    /// Its files.
    pub files: JobFiles,
    /// Tasks kept from earlier runs.
    pub n_resumed: u64,
}

/// The way from a job's thread to its driver. Dropping it says that the thread is at its end.
pub struct ToHost {
    /// Whose thread.
    pub ticket: Ticket,
    /// What is told.
    pub told: Sender<Told>,
    /// Where events of the driver machine go.
    pub inbox: Sender<DriverEvent>,
}

impl ToHost {
    /// Tells the driver, which looks for it at its next event. Whether it still listens.
    pub fn tell(&self, told: Told) -> bool {
        let is_heard = self.told.send(told).is_ok();
        let _ = self.inbox.send(DriverEvent::Tick);
        is_heard
    }
}

impl Drop for ToHost {
    fn drop(&mut self) {
        self.tell(Told::Over(self.ticket));
    }
}
