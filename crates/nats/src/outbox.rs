//! What a port says, sent in order by one task. A full outbox drops: any message may be lost, and what matters is said again.
//!
//! While NATS is away messages wait here. What a worker reported last is said again after a reconnect, its own or the driver's: a driver that heard neither that
//! an attempt began nor that it was committed would look for it in its queue for as long as core lets it lie there.

use crate::connection::{Connection, Link};
use crate::limits::{
    ACK_PAUSE, ACK_TRIES_FOR, ACKS_UNDER_WAY_MAX, CLOSE_WAIT, OUTBOX_MAX, SAID_AGAIN_FOR, SAID_AGAIN_MAX,
    SEND_WAIT, SHUTDOWN_WAIT,
};
use async_nats::jetstream::AckKind;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

#[derive(Debug)]
enum Parcel {
    /// A message, or a sign about a task.
    Say(Letter),
    /// A message that may be said again.
    Report(Letter),
    /// Says again what was reported last.
    Repeat,
    /// The last thing that is said: what was reported before must not be heard after it.
    Farewell(Letter),
    /// The end of a task: said until the server has heard it.
    Ack { reply: String },
    /// Everything before it is to be with the server.
    Settle { settled: std_mpsc::Sender<()> },
    /// The same; then the port closes.
    Close { closed: std_mpsc::Sender<()> },
}

#[derive(Debug, Clone)]
struct Letter {
    subject: String,
    payload: Bytes,
}

/// The way out of a port. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    parcels: Sender<Parcel>,
}

impl Outbox {
    pub(crate) fn start(connection: &Connection) -> Outbox {
        let (parcels, receiver) = channel(OUTBOX_MAX);
        connection.spawn(send_all(connection.link().clone(), receiver));
        Outbox { parcels }
    }

    pub(crate) fn say(&self, subject: String, payload: Vec<u8>) {
        let payload = payload.into();
        self.put(Parcel::Say(Letter { subject, payload }));
    }

    /// Says what a reader must be able to hear twice.
    pub(crate) fn report(&self, subject: String, payload: Vec<u8>) {
        let payload = payload.into();
        self.put(Parcel::Report(Letter { subject, payload }));
    }

    /// Says the last thing, after which no report is said again.
    pub(crate) fn farewell(&self, subject: String, payload: Vec<u8>) {
        let payload = payload.into();
        self.put(Parcel::Farewell(Letter { subject, payload }));
    }

    /// Says again what was reported last.
    pub(crate) fn repeat(&self) {
        self.put(Parcel::Repeat);
    }

    /// Tells the queue something about a delivered task that it can do without.
    pub(crate) fn sign(&self, reply: &str, kind: AckKind) {
        let subject = reply.to_string();
        let payload = kind.into();
        self.put(Parcel::Say(Letter { subject, payload }));
    }

    /// Tells the queue that a delivered task needs no redelivery.
    pub(crate) fn ack(&self, reply: String) {
        self.put(Parcel::Ack { reply });
    }

    /// Waits until all that was said is with the server, but not for long: where NATS is away, it is said later.
    pub(crate) fn settle(&self) {
        let (settled, is_settled) = std_mpsc::channel();
        self.put(Parcel::Settle { settled });
        let _ = is_settled.recv_timeout(SEND_WAIT);
    }

    /// Waits until all that was said is with the server, but not for long, and says nothing more.
    pub(crate) fn close(&self) {
        let (closed, is_closed) = std_mpsc::channel();
        self.put(Parcel::Close { closed });
        if is_closed.recv_timeout(CLOSE_WAIT + SHUTDOWN_WAIT).is_err() {
            tracing::warn!("NATS did not take all that was said before the end");
        }
    }

    fn put(&self, parcel: Parcel) {
        if let Err(error) = self.parcels.try_send(parcel) {
            tracing::warn!(%error, "a message to NATS is dropped");
        }
    }
}

async fn send_all(link: Link, mut parcels: Receiver<Parcel>) {
    let mut reconnects = link.reconnects.clone();
    let mut reported = Reported::default();
    let mut acks = Acks::default();
    loop {
        let parcel = tokio::select! {
            biased;
            // What was written just before the connection broke is lost without a word.
            Ok(()) = reconnects.changed() => Some(Parcel::Repeat),
            () = acks.one_heard(&link) => continue,
            parcel = parcels.recv() => parcel,
        };
        match parcel {
            Some(Parcel::Say(letter)) => send(&link, letter).await,
            Some(Parcel::Report(letter)) => {
                reported.keep(letter.clone());
                send(&link, letter).await;
            }
            Some(Parcel::Farewell(letter)) => {
                reported = Reported::default();
                send(&link, letter).await;
            }
            Some(Parcel::Repeat) => {
                for letter in reported.recent() {
                    send(&link, letter).await;
                }
            }
            Some(Parcel::Ack { reply }) => acks.add(reply, &link),
            Some(Parcel::Settle { settled }) => {
                if let Ok(Ok(())) = timeout(SEND_WAIT, link.round_trip()).await {
                    let _ = settled.send(());
                }
            }
            Some(Parcel::Close { closed }) => {
                let rest = async {
                    while !acks.under_way.is_empty() {
                        acks.one_heard(&link).await;
                    }
                    link.round_trip().await
                };
                let in_time = timeout(CLOSE_WAIT, rest).await;
                if matches!(in_time, Ok(Ok(()))) {
                    let _ = closed.send(());
                }
                return;
            }
            None => return,
        }
    }
}

/// Acknowledgements that the server has not heard yet. Where tasks are short it hears them later than they are done: what waits costs
/// its words only, not a request each.
#[derive(Default)]
struct Acks {
    under_way: JoinSet<()>,
    waiting: VecDeque<String>,
}

impl Acks {
    fn add(&mut self, reply: String, link: &Link) {
        self.waiting.push_back(reply);
        self.say_some(link);
    }

    fn say_some(&mut self, link: &Link) {
        while self.under_way.len() < ACKS_UNDER_WAY_MAX
            && let Some(reply) = self.waiting.pop_front()
        {
            self.under_way.spawn(ack_until_heard(link.clone(), reply));
        }
    }

    /// Waits until one more is heard, for ever if none is under way.
    async fn one_heard(&mut self, link: &Link) {
        if self.under_way.join_next().await.is_none() {
            return std::future::pending().await;
        }
        self.say_some(link);
    }
}

/// The last reports, and when they were made.
#[derive(Default)]
struct Reported(VecDeque<(Instant, Letter)>);

impl Reported {
    fn keep(&mut self, letter: Letter) {
        if self.0.len() == SAID_AGAIN_MAX {
            self.0.pop_front();
        }
        self.0.push_back((Instant::now(), letter));
    }

    fn recent(&self) -> Vec<Letter> {
        let recent = self.0.iter().filter(|(at, _)| at.elapsed() <= SAID_AGAIN_FOR);
        recent.map(|(_, letter)| letter.clone()).collect()
    }
}

/// Waits while NATS is away: what is sent then may be lost in the client's buffers.
async fn send(link: &Link, letter: Letter) {
    link.until_connected().await;
    let sending = link.client.publish(letter.subject.clone(), letter.payload);
    match timeout(SEND_WAIT, sending).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(letter.subject, %error, "a message could not be sent"),
        Err(_) => tracing::warn!(letter.subject, "a message is dropped: NATS is away"),
    }
}

/// No one to answer may mean that the consumer has no leader for the moment, as well as that it is no more.
async fn ack_until_heard(link: Link, reply: String) {
    let until = Instant::now() + ACK_TRIES_FOR;
    loop {
        match link.client.request(reply.clone(), AckKind::Ack.into()).await {
            Ok(_) => return,
            Err(error) if Instant::now() >= until => {
                tracing::warn!(reply, %error, "an acknowledgement was not heard: its task may be delivered again");
                return;
            }
            Err(_) => sleep(ACK_PAUSE).await,
        }
    }
}

/// A pause that doubles with each failure in a row.
pub(crate) fn doubled(first: Duration, n_failures: u32, longest: Duration) -> Duration {
    let factor = 1 << n_failures.saturating_sub(1).min(16);
    (first * factor).min(longest)
}
