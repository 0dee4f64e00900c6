//! How releases reach the stream: published one after the other, each until the server has stored it. A release that is published
//! twice is stored once, because it carries the attempt's ids as its message id.

use crate::connection::{ConnectError, Connection, Link, NatsOptions};
use crate::limits::{RELEASE_PAUSE_FIRST, RELEASE_PAUSE_MAX, RELEASE_WAIT, RELEASES_WAITING_MAX};
use crate::outbox::doubled;
use crate::streams::{consumer_name, job_token, queue_consumer, queue_filter, task_stream, task_subject};
use crate::wire::encode_task;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::Stream;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as std_mpsc;
use std::time::Duration;
use tilework_core::driver::Queue;
use tilework_core::ids::WorkerIdx;
use tilework_core::message::JobAttempt;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::sleep;

#[derive(Debug)]
enum Order {
    Release {
        attempt: JobAttempt,
        queue: Queue,
        stored: std_mpsc::Sender<()>,
    },
    /// A worker is there and will look into its own queue.
    OpenQueue(WorkerIdx),
    /// A worker is gone, and its queue with all that lies there.
    CloseQueue(WorkerIdx),
}

/// The driver's way to the task stream. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Releases {
    orders: Sender<Order>,
    n_waiting: Arc<AtomicUsize>,
}

impl Releases {
    /// Makes sure that the stream and the shared queue are there.
    pub(crate) fn start(connection: &Connection, options: &NatsOptions) -> Result<Releases, ConnectError> {
        let mut queues = Queues {
            link: connection.link().clone(),
            n_replicas: options.n_replicas,
            ack_wait: options.ack_wait,
            stream: None,
            open: BTreeSet::new(),
        };
        connection
            .wait_for(queues.open(Queue::Shared))
            .map_err(|source| ConnectError::NoStreams { source })?;
        let (orders, receiver) = channel(RELEASES_WAITING_MAX);
        let n_waiting = Arc::new(AtomicUsize::new(0));
        connection.spawn(carry_out(queues, receiver, Arc::clone(&n_waiting)));
        Ok(Releases { orders, n_waiting })
    }

    /// Returns when the task is stored, so that a driver does not run ahead of its server; or after a while, if the server is away.
    /// Then later releases don't wait at all until it has caught up.
    pub(crate) fn release(&self, attempt: JobAttempt, queue: Queue) {
        let (stored, is_stored) = std_mpsc::channel();
        let is_behind = self.n_waiting.fetch_add(1, Ordering::Relaxed) > 0;
        let order = Order::Release {
            attempt,
            queue,
            stored,
        };
        if !self.put(order) {
            self.n_waiting.fetch_sub(1, Ordering::Relaxed);
        } else if !is_behind && is_stored.recv_timeout(RELEASE_WAIT).is_err() {
            tracing::warn!(job = %attempt.job, "a release waits for NATS");
        }
    }

    pub(crate) fn open_queue(&self, worker: WorkerIdx) {
        self.put(Order::OpenQueue(worker));
    }

    pub(crate) fn close_queue(&self, worker: WorkerIdx) {
        self.put(Order::CloseQueue(worker));
    }

    fn put(&self, order: Order) -> bool {
        let put = self.orders.try_send(order);
        if let Err(error) = &put {
            tracing::error!(%error, "a release is dropped");
        }
        put.is_ok()
    }
}

async fn carry_out(mut queues: Queues, mut orders: Receiver<Order>, n_waiting: Arc<AtomicUsize>) {
    while let Some(order) = orders.recv().await {
        match order {
            Order::Release {
                attempt,
                queue,
                stored,
            } => {
                queues.release_until_stored(attempt, queue).await;
                n_waiting.fetch_sub(1, Ordering::Relaxed);
                let _ = stored.send(());
            }
            Order::OpenQueue(worker) => {
                if let Err(error) = queues.open(Queue::Worker(worker)).await {
                    tracing::warn!(%worker, %error, "a worker's queue is not open yet");
                }
            }
            Order::CloseQueue(worker) => {
                if let Err(error) = queues.close(Queue::Worker(worker)).await {
                    tracing::warn!(%worker, %error, "the queue of a worker that is gone stays");
                }
            }
        }
    }
}

/// The stream and the consumers that are known to exist.
struct Queues {
    link: Link,
    n_replicas: usize,
    ack_wait: Duration,
    stream: Option<Stream>,
    open: BTreeSet<Queue>,
}

impl Queues {
    async fn release_until_stored(&mut self, attempt: JobAttempt, queue: Queue) {
        let mut n_failures = 0;
        while let Err(error) = self.release(attempt, queue).await {
            n_failures += 1;
            tracing::warn!(job = %attempt.job, %error, n_failures, "a release is tried again");
            // A server that lost its store has neither stream nor consumers.
            self.stream = None;
            self.open.clear();
            sleep(doubled(RELEASE_PAUSE_FIRST, n_failures, RELEASE_PAUSE_MAX)).await;
        }
    }

    async fn release(&mut self, attempt: JobAttempt, queue: Queue) -> Result<(), async_nats::Error> {
        self.open(queue).await?;
        let publish = PublishMessage::build()
            .payload(encode_task(attempt)?.into())
            .message_id(message_id(attempt));
        let subject = task_subject(attempt.job, queue);
        let stored = self.link.jetstream.send_publish(subject, publish).await?.await?;
        if stored.duplicate {
            tracing::debug!(job = %attempt.job, "a release was stored already");
        }
        Ok(())
    }

    async fn open(&mut self, queue: Queue) -> Result<(), async_nats::Error> {
        if self.open.contains(&queue) {
            return Ok(());
        }
        let config = queue_consumer(queue, self.ack_wait);
        let stream = self.stream().await?;
        stream
            .get_or_create_consumer(&consumer_name(queue), config)
            .await?;
        self.open.insert(queue);
        Ok(())
    }

    async fn close(&mut self, queue: Queue) -> Result<(), async_nats::Error> {
        self.open.remove(&queue);
        let stream = self.stream().await?;
        stream.purge().filter(queue_filter(queue)).await?;
        stream.delete_consumer(&consumer_name(queue)).await?;
        Ok(())
    }

    async fn stream(&mut self) -> Result<&Stream, async_nats::Error> {
        if self.stream.is_none() {
            let config = task_stream(self.n_replicas);
            self.stream = Some(self.link.jetstream.get_or_create_stream(config).await?);
        }
        self.stream.as_ref().ok_or_else(|| "no stream".into())
    }
}

fn message_id(attempt: JobAttempt) -> String {
    let job = job_token(attempt.job);
    let ids = attempt.attempt;
    format!("{job}.{}.{}.{}.{}", ids.epoch, ids.round, ids.task, ids.attempt)
}
