//! How a driver's events reach their stream: in order, one after the other, each until it is stored. One that is sent twice is stored
//! once, because it carries a number of its own as its message id.

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
        connection.spawn(store_all(stores, receiver));
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

async fn store_all(stores: Stores, mut orders: Receiver<Order>) {
    // No other client has the same, nor has this one after a restart.
    let me = stores.link.client.new_inbox();
    let mut n_events: u64 = 0;
    while let Some(order) = orders.recv().await {
        match order {
            Order::Store { job, payload } => {
                n_events += 1;
                store(&stores, job, &payload, &format!("{me}.{n_events}")).await;
            }
            Order::Close { closed } => {
                let _ = closed.send(());
                return;
            }
        }
    }
}

async fn store(stores: &Stores, job: JobId, payload: &[u8], id: &str) {
    let mut n_failures = 0;
    loop {
        let stored = stores.in_existing(async || {
            let mut headers = HeaderMap::new();
            headers.insert(NATS_MESSAGE_ID, id);
            stores.store(event_subject(job), headers, payload.to_vec()).await
        });
        match stored.await {
            Ok(_) => return,
            Err(error @ (ControlError::TooLarge { .. } | ControlError::Changed)) => {
                tracing::warn!(%job, %error, "an event is dropped");
                return;
            }
            Err(error) => {
                n_failures += 1;
                tracing::warn!(%job, %error, "an event is stored later");
                sleep(doubled(EVENT_PAUSE_FIRST, n_failures, EVENT_PAUSE_MAX)).await;
            }
        }
    }
}
