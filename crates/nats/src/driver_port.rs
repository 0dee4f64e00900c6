//! The driver's side of the engine. Dropping it ends nothing but itself: another driver may take over, and workers go on.

use crate::connection::{ConnectError, Connection, NatsOptions};
use crate::ignored::{Ignored, IgnoredCounts};
use crate::outbox::Outbox;
use crate::releases::Releases;
use crate::streams::{CONTROL_OF_ALL, REPORTS, control_subject, report_subject};
use crate::wire::{FromDriver, FromWorker, WireError, decode_from_worker, encode_from_driver};
use async_nats::{Message, Subscriber};
use futures_util::StreamExt;
use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tilework_core::driver::{DriverEvent, Queue};
use tilework_core::ids::WorkerIdx;
use tilework_core::message::{JobAttempt, ToWorker};
use tilework_runtime::engine::DriverPort;
use tokio::sync::watch;

/// A driver's port.
#[derive(Debug)]
pub struct NatsDriverPort {
    releases: Releases,
    outbox: Outbox,
    inbox: Sender<DriverEvent>,
    events: Receiver<DriverEvent>,
    ignored: Arc<Ignored>,
    heard: Heard,
    /// Last: its threads carry all of the above.
    _connection: Connection,
}

impl NatsDriverPort {
    /// Connects, creates the task stream if there is none, and listens to all workers.
    ///
    /// # Errors
    /// If there is no server that is new enough and keeps streams for us.
    pub fn connect(options: &NatsOptions) -> Result<NatsDriverPort, ConnectError> {
        let connection = Connection::open(options)?;
        let releases = Releases::start(&connection, options)?;
        let reports = connection.subscribe(REPORTS.to_string())?;
        let (inbox, events) = channel();
        let ignored = Arc::new(Ignored::default());
        let heard = Heard::default();
        let listener = Listener {
            inbox: inbox.clone(),
            releases: releases.clone(),
            ignored: Arc::clone(&ignored),
            heard: Arc::clone(&heard),
        };
        connection.spawn(listener.listen(reports));
        let outbox = Outbox::start(&connection);
        let reconnects = connection.link().reconnects.clone();
        connection.spawn(ask_again_after_reconnects(reconnects, outbox.clone()));
        Ok(NatsDriverPort {
            releases,
            outbox,
            inbox,
            events,
            ignored,
            heard,
            _connection: connection,
        })
    }

    /// Messages that were ignored.
    pub fn ignored(&self) -> IgnoredCounts {
        self.ignored.counts()
    }
}

impl DriverPort for NatsDriverPort {
    fn release(&mut self, attempt: JobAttempt, queue: Queue) {
        self.releases.release(attempt, queue);
    }

    fn forget(&mut self, worker: WorkerIdx) {
        locked(&self.heard).remove(&worker);
        self.releases.close_queue(worker);
    }

    fn send(&mut self, worker: WorkerIdx, message: ToWorker) {
        match encode_from_driver(FromDriver::Command(message)) {
            Ok(bytes) => self.outbox.say(control_subject(worker), bytes),
            Err(error) => tracing::error!(%worker, %error, "a command can't be written"),
        }
    }

    fn next(&mut self, timeout: Duration) -> Option<DriverEvent> {
        self.events.recv_timeout(timeout).ok()
    }

    fn inbox(&self) -> Sender<DriverEvent> {
        self.inbox.clone()
    }
}

impl Drop for NatsDriverPort {
    fn drop(&mut self) {
        self.releases.close();
        self.outbox.close();
    }
}

/// Hears what workers say, and keeps a queue open for each that is there.
struct Listener {
    inbox: Sender<DriverEvent>,
    releases: Releases,
    ignored: Arc<Ignored>,
    heard: Heard,
}

/// Workers whose queues are open.
type Heard = Arc<Mutex<BTreeSet<WorkerIdx>>>;

fn locked(heard: &Heard) -> MutexGuard<'_, BTreeSet<WorkerIdx>> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listener {
    async fn listen(self, mut reports: Subscriber) {
        while let Some(message) = reports.next().await {
            match read_report(&message) {
                Ok(FromWorker::Report(report)) => {
                    if locked(&self.heard).insert(report.worker) {
                        self.releases.open_queue(report.worker);
                    }
                    let _ = self.inbox.send(DriverEvent::Received(report));
                }
                Ok(FromWorker::Gone(worker)) => {
                    locked(&self.heard).remove(&worker);
                    self.releases.close_queue(worker);
                    let _ = self.inbox.send(DriverEvent::WorkerLost(worker));
                }
                Err(error) => self.ignored.add(&message.subject, &error),
            }
        }
    }
}

/// What workers reported while we were cut off is lost to us, whether or not they were cut off too.
async fn ask_again_after_reconnects(mut reconnects: watch::Receiver<u64>, outbox: Outbox) {
    while reconnects.changed().await.is_ok() {
        if let Ok(bytes) = encode_from_driver(FromDriver::SayAgain) {
            outbox.say(CONTROL_OF_ALL.to_string(), bytes);
        }
    }
}

/// Who may write to a worker's subject is the server's business; that nobody speaks for another worker there, this one's.
fn read_report(message: &Message) -> Result<FromWorker, WireError> {
    let said = decode_from_worker(&message.payload)?;
    if report_subject(said.worker()) != message.subject.as_str() {
        return Err(WireError::Misplaced);
    }
    Ok(said)
}
