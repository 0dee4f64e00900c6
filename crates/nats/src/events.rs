//! How a driver's events reach their stream: in order, one after the other, each until it is stored. One that is sent twice is stored
//! once, because it carries a number of its own as its message id; who listens may hear it twice.

use crate::connection::Connection;
use crate::control::ControlError;
use crate::limits::{CLOSE_WAIT, EVENT_BYTES_MAX, EVENT_PAUSE_FIRST, EVENT_PAUSE_MAX, EVENTS_WAITING_MAX};
use crate::outbox::doubled;
use crate::stores::Stores;
use crate::streams::event_subject;
use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use std::sync::mpsc as std_mpsc;
use tilework_core::ids::JobId;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::sleep;

#[derive(Debug)]
enum Order {
    Store {
        job: JobId,
        payload: Vec<u8>,
    },
    /// Nothing more comes.
    Close {
        closed: std_mpsc::Sender<()>,
    },
}

/// The way to the stream of events.
#[derive(Debug)]
pub(crate) struct Events {
    orders: Sender<Order>,
}

impl Events {
    pub(crate) fn start(connection: &Connection, stores: Stores) -> Events {
        let (orders, receiver) = channel(EVENTS_WAITING_MAX);
        let publisher = Publisher {
            me: stores.link.client.new_inbox(),
            stores,
            made_sure: None,
            n_events: 0,
        };
        connection.spawn(publisher.run(receiver));
        Events { orders }
    }

    /// Returns at once.
    pub(crate) fn publish(&self, job: JobId, payload: Vec<u8>) {
        if payload.len() > EVENT_BYTES_MAX {
            let bytes = payload.len();
            tracing::warn!(%job, bytes, bytes_max = EVENT_BYTES_MAX, "an event is dropped: it is too large");
        } else if let Err(error) = self.orders.try_send(Order::Store { job, payload }) {
            tracing::warn!(%job, %error, "an event is dropped");
        }
    }

    /// Waits until all events are stored, but not for long.
    pub(crate) fn close(&self) {
        let (closed, is_closed) = std_mpsc::channel();
        let ordered = self.orders.try_send(Order::Close { closed });
        if ordered.is_err() || is_closed.recv_timeout(CLOSE_WAIT).is_err() {
            tracing::warn!("NATS did not store all events before the end");
        }
    }
}

struct Publisher {
    stores: Stores,
    /// How often the connection had come back when the stream was last known to be there.
    made_sure: Option<u64>,
    /// What begins the ids of its messages. No other client has the same, nor has this one after a restart.
    me: String,
    n_events: u64,
}

impl Publisher {
    async fn run(mut self, mut orders: Receiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Store { job, payload } => {
                    self.n_events += 1;
                    self.store(job, &payload).await;
                }
                Order::Close { closed } => {
                    let _ = closed.send(());
                    return;
                }
            }
        }
    }

    async fn store(&mut self, job: JobId, payload: &[u8]) {
        let mut n_failures = 0;
        while let Err(error) = self.try_store(job, payload).await {
            if matches!(error, ControlError::TooLarge { .. } | ControlError::Changed) {
                tracing::warn!(%job, %error, "an event is dropped");
                return;
            }
            n_failures += 1;
            tracing::warn!(%job, %error, "an event is stored later");
            self.made_sure = None;
            sleep(doubled(EVENT_PAUSE_FIRST, n_failures, EVENT_PAUSE_MAX)).await;
        }
    }

    /// Where somebody listens, a server says nothing of a stream that is missing: it is looked for first, and again after a reconnect.
    async fn try_store(&mut self, job: JobId, payload: &[u8]) -> Result<(), ControlError> {
        let n_reconnects = *self.stores.link.reconnects.borrow();
        if self.made_sure != Some(n_reconnects) {
            self.stores.create().await?;
            self.made_sure = Some(n_reconnects);
        }
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, format!("{}.{}", self.me, self.n_events));
        let stored = self.stores.store(event_subject(job), headers, payload.to_vec());
        Ok(stored.await.map(drop)?)
    }
}
