//! What a port says, sent in order by one task. A full outbox drops: any message may be lost, and what matters is said again.

use crate::connection::{Connection, Link};
use crate::limits::{ACK_PAUSE, ACK_TRIES_FOR, CLOSE_WAIT, OUTBOX_MAX, SEND_WAIT, SHUTDOWN_WAIT};
use async_nats::jetstream::AckKind;
use bytes::Bytes;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

#[derive(Debug)]
enum Parcel {
    /// A message, or a sign about a task that may be lost.
    Say { subject: String, payload: Bytes },
    /// The end of a task: said until the server has heard it.
    Ack { reply: String },
    /// Everything before it is to be with the server; then the port closes.
    Close { closed: std_mpsc::Sender<()> },
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
        let payload = Bytes::from(payload);
        self.put(Parcel::Say { subject, payload });
    }

    /// Tells the queue something about a delivered task that it can do without.
    pub(crate) fn sign(&self, reply: &str, kind: AckKind) {
        let subject = reply.to_string();
        let payload = kind.into();
        self.put(Parcel::Say { subject, payload });
    }

    /// Tells the queue that a delivered task needs no redelivery.
    pub(crate) fn ack(&self, reply: String) {
        self.put(Parcel::Ack { reply });
    }

    /// Waits until all that was said is with the server, but not for long.
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
    let mut acks = JoinSet::new();
    while let Some(parcel) = parcels.recv().await {
        while acks.try_join_next().is_some() {}
        match parcel {
            Parcel::Say { subject, payload } => say(&link, subject, payload).await,
            Parcel::Ack { reply } => {
                acks.spawn(ack_until_heard(link.clone(), reply));
            }
            Parcel::Close { closed } => {
                let rest = async {
                    while acks.join_next().await.is_some() {}
                    link.round_trip().await
                };
                let in_time = timeout(CLOSE_WAIT, rest).await;
                if matches!(in_time, Ok(Ok(()))) {
                    let _ = closed.send(());
                }
                return;
            }
        }
    }
}

async fn say(link: &Link, subject: String, payload: Bytes) {
    let sending = link.client.publish(subject.clone(), payload);
    match timeout(SEND_WAIT, sending).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(subject, %error, "a message could not be sent"),
        Err(_) => tracing::warn!(subject, "a message is dropped: NATS is away"),
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
