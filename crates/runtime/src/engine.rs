//! How driver and workers reach each other. An engine carries; it decides nothing.
//!
//! An engine offers a port to each side. Whatever happens arrives as an event at [`next`](WorkerPort::next); the threads of
//! the same side put their own events into the same inbox, so that a machine sees one sequence.

use std::sync::mpsc::Sender;
use std::time::Duration;
use tilework_core::driver::{DriverEvent, Queue};
use tilework_core::ids::WorkerIdx;
use tilework_core::message::{JobAttempt, ToDriver, ToWorker};
use tilework_core::worker::WorkerEvent;

/// The driver's side of an engine. Dropping it cancels the workers that only this driver could end.
pub trait DriverPort {
    /// Puts an attempt into a queue, after those already there. It may lie there a little later than this returns, but, as long as
    /// nothing fails, not before what was released earlier, into whichever queue. A worker's own queue is gone when the worker is.
    fn release(&mut self, attempt: JobAttempt, queue: Queue);
    /// A worker counts as lost: its own queue is closed with all that lies there, until the worker is heard again.
    fn forget(&mut self, worker: WorkerIdx);
    /// Tells one worker something; silently lost if that worker is gone.
    fn send(&mut self, worker: WorkerIdx, message: ToWorker);
    /// The next event, or `None` after `timeout`.
    fn next(&mut self, timeout: Duration) -> Option<DriverEvent>;
    /// Where the driver's own threads put their events.
    fn inbox(&self) -> Sender<DriverEvent>;
}

/// One worker's side of an engine. Dropping it tells the driver that the worker is gone.
pub trait WorkerPort: Send {
    /// The worker's number.
    fn worker(&self) -> WorkerIdx;
    /// Asks for one more task, of the worker's own queue first; it arrives as [`WorkerEvent::Assigned`]. An earlier ask that
    /// brought none is replaced.
    fn fetch(&mut self);
    /// The attempt is still being worked at.
    fn renew(&mut self, attempt: JobAttempt);
    /// The task of this attempt needs no redelivery.
    fn ack(&mut self, attempt: JobAttempt);
    /// Tells the driver something. It may be told together with what is said next, or a moment after [`next`](Self::next) is called.
    fn send(&mut self, message: ToDriver);
    /// The next event, or `None` after `timeout`.
    fn next(&mut self, timeout: Duration) -> Option<WorkerEvent>;
    /// Where the worker's own threads put their events.
    fn inbox(&self) -> Sender<WorkerEvent>;
}
