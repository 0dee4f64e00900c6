//! One worker's side of the engine. Dropping it tells the driver that the worker is gone; a worker that dies is missed by its
//! heartbeats, and what it held is delivered again.

use crate::connection::{ConnectError, Connection, NatsOptions};
use crate::fetcher::{Asks, Fetcher};
use crate::ignored::{Ignored, IgnoredCounts};
use crate::limits::{CLOSE_WAIT, PULL_EXPIRES, PULL_GRACE, SEND_WAIT};
use crate::outbox::Outbox;
use crate::streams::{CONTROL_OF_ALL, control_subject, report_subject};
use crate::wire::{FromDriver, FromWorker, decode_from_driver, encode_from_worker};
use async_nats::Subscriber;
use async_nats::jetstream::AckKind;
use futures_util::StreamExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, channel};
use std::time::Duration;
use tilework_core::ids::WorkerIdx;
use tilework_core::message::{JobAttempt, ToDriver, WorkerReport};
use tilework_core::worker::WorkerEvent;
use tilework_runtime::engine::WorkerPort;
use tokio::sync::watch;

/// A worker's port.
#[derive(Debug)]
pub struct NatsWorkerPort {
    worker: WorkerIdx,
    asks: Arc<Asks>,
    outbox: Outbox,
    inbox: Sender<WorkerEvent>,
    events: Receiver<WorkerEvent>,
    ignored: Arc<Ignored>,
    closing: watch::Sender<bool>,
    /// Whether the number is another worker's by now, in whose name nothing may be said.
    is_silent: Arc<AtomicBool>,
    /// Disconnected when the fetcher has ended.
    fetching: Receiver<()>,
    /// Last: its threads carry all of the above.
    _connection: Connection,
}

impl NatsWorkerPort {
    /// Connects as this worker, whose number nobody else may have.
    ///
    /// # Errors
    /// If there is no server that is new enough.
    pub fn connect(options: &NatsOptions, worker: WorkerIdx) -> Result<NatsWorkerPort, ConnectError> {
        let connection = Connection::open(options)?;
        let replies = connection.link().client.new_inbox();
        let answers = connection.subscribe(format!("{replies}.>"))?;
        let commands = connection.subscribe(control_subject(worker))?;
        let calls = connection.subscribe(CONTROL_OF_ALL.to_string())?;
        let (inbox, events) = channel();
        let ignored = Arc::new(Ignored::default());
        let asks = Arc::new(Asks::default());
        let outbox = Outbox::start(&connection);
        let (closing, is_closing) = watch::channel(false);
        let (ends_with_it, fetching) = mpsc::channel();
        let fetcher = Fetcher::new(
            worker,
            connection.link().clone(),
            replies,
            Arc::clone(&asks),
            inbox.clone(),
            outbox.clone(),
            Arc::clone(&ignored),
        );
        connection.spawn(async move {
            fetcher.run(answers, is_closing).await;
            drop::<Sender<()>>(ends_with_it);
        });
        for subscriber in [commands, calls] {
            let (inbox, outbox, ignored) = (inbox.clone(), outbox.clone(), Arc::clone(&ignored));
            connection.spawn(listen(subscriber, inbox, outbox, ignored));
        }
        let reconnects = connection.link().reconnects.clone();
        connection.spawn(tell_of_reconnects(reconnects, inbox.clone()));
        Ok(NatsWorkerPort {
            worker,
            asks,
            outbox,
            inbox,
            events,
            ignored,
            closing,
            is_silent: Arc::default(),
            fetching,
            _connection: connection,
        })
    }

    /// What makes the port say nothing more once it is set, not even that the worker is gone: for when the number is another's.
    pub fn silence(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_silent)
    }

    /// Messages that were ignored.
    pub fn ignored(&self) -> IgnoredCounts {
        self.ignored.counts()
    }

    /// What the machine never saw goes back to the queue; what it had, the driver releases anew when it hears that we are gone.
    fn let_go(&mut self) {
        let mut replies = self.asks.take_replies();
        for event in self.events.try_iter() {
            if let WorkerEvent::Assigned(attempt) = event
                && let Some(reply) = replies.remove(&attempt)
            {
                self.outbox.sign(&reply, AckKind::Nak(None));
            }
        }
        for reply in replies.values() {
            self.outbox.sign(reply, AckKind::Term);
        }
    }
}

impl WorkerPort for NatsWorkerPort {
    fn worker(&self) -> WorkerIdx {
        self.worker
    }

    fn fetch(&mut self) {
        self.asks.ask();
    }

    fn renew(&mut self, attempt: JobAttempt) {
        if let Some(reply) = self.asks.reply_of(attempt) {
            self.outbox.sign(&reply, AckKind::Progress);
        }
    }

    fn ack(&mut self, attempt: JobAttempt) {
        if let Some(reply) = self.asks.acknowledge(attempt) {
            self.outbox.ack(reply);
        }
    }

    fn send(&mut self, message: ToDriver) {
        if self.is_silent.load(Ordering::Acquire) {
            return;
        }
        // An old heartbeat would say of the past what the driver takes for the present.
        let is_of_now = matches!(message.body, WorkerReport::Heartbeat { .. });
        // A task that ends its process may do so before the driver hears that it had begun, which then blames it for nothing. The first
        // time that is nobody's fault; from then on the server has to know before it begins.
        let is_suspect = matches!(message.body, WorkerReport::Started(attempt)
            if attempt.attempt.attempt.0 > 0 || self.asks.came_again(attempt));
        match encode_from_worker(FromWorker::Report(message)) {
            Ok(bytes) if is_of_now => self.outbox.say(report_subject(self.worker), bytes),
            Ok(bytes) => self.outbox.report(report_subject(self.worker), bytes),
            Err(error) => tracing::error!(%error, "a report can't be written"),
        }
        if is_suspect {
            self.outbox.settle();
        }
    }

    fn next(&mut self, timeout: Duration) -> Option<WorkerEvent> {
        self.events.recv_timeout(timeout).ok()
    }

    fn inbox(&self) -> Sender<WorkerEvent> {
        self.inbox.clone()
    }
}

impl Drop for NatsWorkerPort {
    /// First no task can come any more, then it is said: so nothing that is released after that is lost here.
    fn drop(&mut self) {
        self.closing.send_replace(true);
        let _ = self
            .fetching
            .recv_timeout(PULL_EXPIRES + PULL_GRACE + CLOSE_WAIT + SEND_WAIT);
        self.let_go();
        if !self.is_silent.load(Ordering::Acquire)
            && let Ok(bytes) = encode_from_worker(FromWorker::Gone(self.worker))
        {
            self.outbox.farewell(report_subject(self.worker), bytes);
        }
        self.outbox.close();
    }
}

async fn listen(mut messages: Subscriber, inbox: Sender<WorkerEvent>, outbox: Outbox, ignored: Arc<Ignored>) {
    while let Some(message) = messages.next().await {
        match decode_from_driver(&message.payload) {
            Ok(FromDriver::Command(command)) => {
                let _ = inbox.send(WorkerEvent::Received(command));
            }
            Ok(FromDriver::SayAgain) => outbox.repeat(),
            Err(error) => ignored.add(&message.subject, &error),
        }
    }
}

/// The machine then introduces itself again and asks anew: what it said and asked while NATS was away may be lost.
async fn tell_of_reconnects(mut reconnects: watch::Receiver<u64>, inbox: Sender<WorkerEvent>) {
    while reconnects.changed().await.is_ok() {
        let _ = inbox.send(WorkerEvent::Connected);
    }
}
