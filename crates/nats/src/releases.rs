//! How releases reach the stream: published in order without waiting for each other, and each until the server has stored it. A
//! release that is published twice is stored once, because it carries the attempt's ids as its message id.

use crate::connection::{ConnectError, Connection, Link, NatsOptions};
use crate::limits::{
    CLOSE_WAIT, RELEASE_PAUSE_FIRST, RELEASE_PAUSE_MAX, RELEASES_UNDER_WAY_MAX, RELEASES_WAITING_MAX,
};
use crate::outbox::doubled;
use crate::streams::{consumer_name, job_token, queue_consumer, queue_filter, task_stream, task_subject};
use crate::wire::encode_task;
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::Stream;
use futures_util::future::{self, BoxFuture};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use std::collections::BTreeSet;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;
use tilework_core::driver::Queue;
use tilework_core::ids::WorkerIdx;
use tilework_core::message::JobAttempt;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::sleep;

#[derive(Debug)]
enum Order {
    Release(Release),
    /// A worker is there and will look into its own queue.
    OpenQueue(WorkerIdx),
    /// A worker is gone, and its queue with all that lies there.
    CloseQueue(WorkerIdx),
    /// Nothing more comes; what was ordered before is to be with the server.
    Close {
        closed: std_mpsc::Sender<()>,
    },
}

#[derive(Debug, Clone, Copy)]
struct Release {
    attempt: JobAttempt,
    queue: Queue,
}

/// The driver's way to the task stream. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Releases {
    orders: Sender<Order>,
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
        let publisher = Publisher {
            queues,
            under_way: FuturesUnordered::new(),
            n_failures: 0,
        };
        connection.spawn(publisher.run(receiver));
        Ok(Releases { orders })
    }

    /// Returns at once: a driver waits for no network.
    pub(crate) fn release(&self, attempt: JobAttempt, queue: Queue) {
        self.put(Order::Release(Release { attempt, queue }));
    }

    pub(crate) fn open_queue(&self, worker: WorkerIdx) {
        self.put(Order::OpenQueue(worker));
    }

    pub(crate) fn close_queue(&self, worker: WorkerIdx) {
        self.put(Order::CloseQueue(worker));
    }

    /// Waits until all that was released is stored, but not for long: the next driver releases anew what is not.
    pub(crate) fn close(&self) {
        let (closed, is_closed) = std_mpsc::channel();
        self.put(Order::Close { closed });
        if is_closed.recv_timeout(CLOSE_WAIT).is_err() {
            tracing::warn!("NATS did not store all that was released before the end");
        }
    }

    fn put(&self, order: Order) {
        if let Err(error) = self.orders.try_send(order) {
            tracing::error!(%error, "a release is dropped");
        }
    }
}

/// The task that publishes: in order, many under way at once, each until it is stored.
struct Publisher {
    queues: Queues,
    under_way: FuturesUnordered<BoxFuture<'static, (Release, Result<(), async_nats::Error>)>>,
    /// In a row.
    n_failures: u32,
}

impl Publisher {
    async fn run(mut self, mut orders: Receiver<Order>) {
        loop {
            tokio::select! {
                biased;
                Some((release, stored)) = self.under_way.next() => self.on_answered(release, stored).await,
                order = orders.recv(), if self.under_way.len() < RELEASES_UNDER_WAY_MAX => match order {
                    Some(Order::Close { closed }) => {
                        self.settle().await;
                        let _ = closed.send(());
                        return;
                    }
                    Some(order) => self.carry_out(order).await,
                    None => return,
                },
            }
        }
    }

    async fn carry_out(&mut self, order: Order) {
        match order {
            Order::Release(release) => self.publish(release).await,
            Order::OpenQueue(worker) => {
                if let Err(error) = self.queues.open(Queue::Worker(worker)).await {
                    tracing::warn!(%worker, %error, "a worker's queue is not open yet");
                }
            }
            Order::CloseQueue(worker) => {
                // What is on its way there must not come after the end.
                self.settle().await;
                if let Err(error) = self.queues.close(Queue::Worker(worker)).await {
                    tracing::warn!(%worker, %error, "the queue of a worker that is gone stays");
                }
            }
            Order::Close { .. } => {}
        }
    }

    async fn settle(&mut self) {
        while let Some((release, stored)) = self.under_way.next().await {
            self.on_answered(release, stored).await;
        }
    }

    async fn publish(&mut self, release: Release) {
        let answer = self.queues.publish(release).await;
        self.await_answer(release, answer);
    }

    fn await_answer(&mut self, release: Release, answer: Result<PublishAckFuture, async_nats::Error>) {
        let answer = match answer {
            Ok(answer) => async move { (release, answer.await.map(drop).map_err(Into::into)) }.boxed(),
            Err(error) => future::ready((release, Err(error))).boxed(),
        };
        self.under_way.push(answer);
    }

    async fn on_answered(&mut self, release: Release, stored: Result<(), async_nats::Error>) {
        let Err(error) = stored else {
            self.n_failures = 0;
            return;
        };
        self.n_failures += 1;
        tracing::warn!(job = %release.attempt.job, %error, "a release is tried again");
        // A server that lost its store has neither stream nor consumers.
        self.queues.forget();
        sleep(doubled(RELEASE_PAUSE_FIRST, self.n_failures, RELEASE_PAUSE_MAX)).await;
        self.publish_again(release).await;
    }

    /// With all others that failed meanwhile: each with a pause of its own, those that a server took with it would wait for each other.
    async fn publish_again(&mut self, first: Release) {
        let mut failed = vec![first];
        while let Some(Some((release, stored))) = self.under_way.next().now_or_never() {
            if stored.is_err() {
                failed.push(release);
            }
        }
        // What waits for an answer in vain once needs not do so for each.
        let mut shut = BTreeSet::new();
        for release in failed {
            let answer = if shut.contains(&release.queue) {
                Err("its queue can't be opened".into())
            } else {
                self.queues.publish(release).await
            };
            if answer.is_err() {
                shut.insert(release.queue);
            }
            self.await_answer(release, answer);
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
    /// Sends it; the answer says whether it is stored.
    async fn publish(&mut self, release: Release) -> Result<PublishAckFuture, async_nats::Error> {
        if self.link.reconnects.has_changed().unwrap_or(false) {
            // What the server was asked for just before it died may be forgotten.
            self.link.reconnects.mark_unchanged();
            self.forget();
        }
        let Release { attempt, queue } = release;
        self.open(queue).await?;
        let publish = PublishMessage::build()
            .payload(encode_task(attempt)?.into())
            .message_id(message_id(attempt));
        let subject = task_subject(attempt.job, queue);
        Ok(self.link.jetstream.send_publish(subject, publish).await?)
    }

    fn forget(&mut self) {
        self.stream = None;
        self.open.clear();
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
