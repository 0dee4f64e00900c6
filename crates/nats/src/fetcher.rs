//! How a worker gets its next task: it looks into its own queue, and where that is empty it waits at both.
//!
//! At most one pull per queue is under way, for one task. A pull can't be called back, so one that is left over when the other queue
//! was faster stays for the next ask, or expires; a task that it brings while nobody asks goes straight back into its queue.

use crate::connection::Link;
use crate::ignored::Ignored;
use crate::limits::{
    ACKED_REMEMBERED_MAX, DELIVERIES_MAX, PULL_EXPIRES, PULL_EXPIRES_REPLICATED, PULL_GRACE,
    PULL_PAUSE_FIRST, PULL_PAUSE_MAX, SEND_WAIT,
};
use crate::outbox::{Outbox, doubled};
use crate::streams::{consumer_name, parse_task_subject, pull_subject, queue_token};
use crate::wire::{WireError, decode_task};
use async_nats::jetstream::{self, AckKind};
use async_nats::{Message, StatusCode, Subscriber};
use futures_util::StreamExt;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tilework_core::driver::Queue;
use tilework_core::ids::WorkerIdx;
use tilework_core::message::JobAttempt;
use tilework_core::worker::WorkerEvent;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// What the port and the fetcher share.
#[derive(Debug, Default)]
pub(crate) struct Asks {
    is_asking: AtomicBool,
    asked: Notify,
    in_hand: Mutex<InHand>,
}

/// What was delivered to this worker.
#[derive(Debug, Default)]
struct InHand {
    /// Where to acknowledge what is not acknowledged yet.
    replies: BTreeMap<JobAttempt, String>,
    /// What was acknowledged last. A server that dies may forget who had a task, and then neither takes the acknowledgement nor
    /// refuses it: such a task comes again.
    acked: VecDeque<JobAttempt>,
    /// Of what is not acknowledged, what was with somebody before.
    came_again: BTreeSet<JobAttempt>,
}

impl Asks {
    /// Asks for one task; asking again before it came changes nothing.
    pub(crate) fn ask(&self) {
        if !self.is_asking.swap(true, Ordering::AcqRel) {
            self.asked.notify_one();
        }
    }

    /// Where to say something about an attempt that was delivered and not acknowledged.
    pub(crate) fn reply_of(&self, attempt: JobAttempt) -> Option<String> {
        self.in_hand().replies.get(&attempt).cloned()
    }

    /// Whether somebody had this attempt before, and did not acknowledge it.
    pub(crate) fn came_again(&self, attempt: JobAttempt) -> bool {
        self.in_hand().came_again.contains(&attempt)
    }

    /// The same as [`reply_of`](Self::reply_of), for the last time.
    pub(crate) fn acknowledge(&self, attempt: JobAttempt) -> Option<String> {
        let mut in_hand = self.in_hand();
        let reply = in_hand.replies.remove(&attempt)?;
        in_hand.came_again.remove(&attempt);
        if in_hand.acked.len() == ACKED_REMEMBERED_MAX {
            in_hand.acked.pop_front();
        }
        in_hand.acked.push_back(attempt);
        Some(reply)
    }

    /// All that is not acknowledged.
    pub(crate) fn take_replies(&self) -> BTreeMap<JobAttempt, String> {
        std::mem::take(&mut self.in_hand().replies)
    }

    fn in_hand(&self) -> MutexGuard<'_, InHand> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last pull from one queue.
struct Pull {
    queue: Queue,
    under_way: Option<UnderWay>,
    n_refused: u32,
    /// After a refusal.
    not_before: Option<Instant>,
}

struct UnderWay {
    number: u64,
    /// After this its answer counts as lost.
    until: Instant,
    /// Whether the server keeps it until a task comes.
    waits: bool,
}

impl Pull {
    fn new(queue: Queue) -> Pull {
        Pull {
            queue,
            under_way: None,
            n_refused: 0,
            not_before: None,
        }
    }

    fn is_free(&self, now: Instant) -> bool {
        self.under_way.is_none() && self.not_before.is_none_or(|at| at <= now)
    }

    fn waits(&self) -> bool {
        self.under_way.as_ref().is_some_and(|pull| pull.waits)
    }

    fn on_answered(&mut self) {
        self.under_way = None;
        self.n_refused = 0;
        self.not_before = None;
    }

    fn on_refused(&mut self, now: Instant) {
        self.under_way = None;
        self.n_refused += 1;
        self.not_before = Some(now + doubled(PULL_PAUSE_FIRST, self.n_refused, PULL_PAUSE_MAX));
    }

    /// When something has to be done about it.
    fn due(&self) -> Option<Instant> {
        self.under_way.as_ref().map(|pull| pull.until).or(self.not_before)
    }
}

/// The task that pulls for one worker.
pub(crate) struct Fetcher {
    link: Link,
    asks: Arc<Asks>,
    events: Sender<WorkerEvent>,
    outbox: Outbox,
    ignored: Arc<Ignored>,
    /// Replies to pulls come to `<replies>.<number>`.
    replies: String,
    own: Pull,
    shared: Pull,
    /// Whether the own queue was seen to be empty since the task was asked for.
    own_is_empty: bool,
    n_pulls: u64,
}

impl Fetcher {
    pub(crate) fn new(
        worker: WorkerIdx,
        link: Link,
        replies: String,
        asks: Arc<Asks>,
        events: Sender<WorkerEvent>,
        outbox: Outbox,
        ignored: Arc<Ignored>,
    ) -> Fetcher {
        Fetcher {
            link,
            asks,
            events,
            outbox,
            ignored,
            replies,
            own: Pull::new(Queue::Worker(worker)),
            shared: Pull::new(Queue::Shared),
            own_is_empty: false,
            n_pulls: 0,
        }
    }

    /// Pulls until `closing` changes; `answers` is everything that is sent below `replies`.
    pub(crate) async fn run(mut self, mut answers: Subscriber, mut closing: watch::Receiver<bool>) {
        let asks = Arc::clone(&self.asks);
        let mut reconnects = self.link.reconnects.clone();
        loop {
            self.pull().await;
            let due = self.due();
            tokio::select! {
                () = asks.asked.notified() => {}
                answer = answers.next() => match answer {
                    Some(message) => self.on_answer(message),
                    None => return,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.on_due(),
                changed = reconnects.changed() => match changed {
                    Ok(()) => self.on_reconnected(),
                    // The client has ended, and nothing can come.
                    Err(_) => return,
                },
                _ = closing.changed() => break,
            }
        }
        self.close(answers).await;
    }

    /// Ends the pulls that are under way: without a subscriber the server drops them. What was on its way goes back.
    ///
    /// Of several servers only the one that this worker is connected to knows whether somebody still listens for the answer to a
    /// pull: another would send a task into the void, where it lies until it is delivered again. There the pulls have to expire.
    async fn close(mut self, mut answers: Subscriber) {
        self.asks.is_asking.store(false, Ordering::Release);
        while self.link.is_replicated
            && let Some(until) = self.all_expire_at()
            && let Ok(Some(message)) = timeout_at(until, answers.next()).await
        {
            self.on_answer(message);
        }
        let _ = timeout(SEND_WAIT, answers.drain()).await;
        while let Ok(Some(message)) = timeout(PULL_GRACE, answers.next()).await {
            self.on_answer(message);
        }
    }

    /// Sends the pulls that are missing.
    async fn pull(&mut self) {
        if !self.asks.is_asking.load(Ordering::Acquire) || !self.link.is_connected() {
            return;
        }
        let now = Instant::now();
        if !self.own_is_empty && !self.own.waits() {
            if self.own.is_free(now) {
                self.send_pull(false, false).await;
            }
            return;
        }
        if self.own.is_free(now) {
            self.send_pull(false, true).await;
        }
        if self.shared.is_free(now) {
            self.send_pull(true, true).await;
        }
    }

    async fn send_pull(&mut self, from_shared: bool, waits: bool) {
        self.n_pulls += 1;
        let number = self.n_pulls;
        let reply = format!("{}.{number}", self.replies);
        let pull = if from_shared {
            &mut self.shared
        } else {
            &mut self.own
        };
        let (request, patience) = if waits {
            let expires = if self.link.is_replicated {
                PULL_EXPIRES_REPLICATED
            } else {
                PULL_EXPIRES
            };
            let expires_ns = expires.as_nanos();
            let request = format!(r#"{{"batch":1,"expires":{expires_ns}}}"#);
            (request, expires + PULL_GRACE)
        } else {
            (r#"{"batch":1,"no_wait":true}"#.to_string(), PULL_GRACE)
        };
        pull.under_way = Some(UnderWay {
            number,
            until: Instant::now() + patience,
            waits,
        });
        let subject = pull_subject(pull.queue);
        let sending = self
            .link
            .client
            .publish_with_reply(subject, reply, request.into());
        // A pull that is not sent is one whose answer is lost.
        let _ = timeout(SEND_WAIT, sending).await;
    }

    fn due(&self) -> Option<Instant> {
        if !self.asks.is_asking.load(Ordering::Acquire) {
            return None;
        }
        if !self.link.is_connected() {
            // That it is connected again is said as well, but not reliably.
            return Some(Instant::now() + PULL_GRACE);
        }
        self.own.due().into_iter().chain(self.shared.due()).min()
    }

    fn on_due(&mut self) {
        let now = Instant::now();
        for pull in [&mut self.own, &mut self.shared] {
            if pull.under_way.as_ref().is_some_and(|lost| lost.until <= now) {
                pull.under_way = None;
                self.own_is_empty = true;
            }
            if pull.not_before.is_some_and(|at| at <= now) {
                pull.not_before = None;
            }
        }
    }

    /// When the last of the pulls expires that are under way.
    fn all_expire_at(&self) -> Option<Instant> {
        let pulls = [&self.own, &self.shared].into_iter();
        pulls
            .filter_map(|pull| Some(pull.under_way.as_ref()?.until))
            .max()
    }

    /// The server keeps no pulls across a lost connection.
    fn on_reconnected(&mut self) {
        self.own.on_answered();
        self.shared.on_answered();
        self.own_is_empty = false;
    }

    fn on_answer(&mut self, message: Message) {
        match message.subject.strip_prefix(self.replies.as_str()) {
            Some(number) => self.on_status(number.trim_start_matches('.').parse().ok(), message.status),
            None => self.on_delivered(message),
        }
    }

    /// A pull ends without a task.
    fn on_status(&mut self, number: Option<u64>, status: Option<StatusCode>) {
        let is_meant = |pull: &&mut Pull| pull.under_way.as_ref().map(|way| way.number) == number;
        let Some(pull) = [&mut self.own, &mut self.shared].into_iter().find(is_meant) else {
            return;
        };
        let is_own = pull.queue != Queue::Shared;
        match status {
            Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => pull.on_answered(),
            _ => {
                tracing::debug!(queue = queue_token(pull.queue), ?status, "a pull is refused");
                pull.on_refused(Instant::now());
            }
        }
        self.own_is_empty |= is_own && self.asks.is_asking.load(Ordering::Acquire);
    }

    fn on_delivered(&mut self, message: Message) {
        let subject = message.subject.clone();
        let context = self.link.jetstream.clone();
        let message = jetstream::Message { message, context };
        let (Some(reply), Ok(info)) = (message.reply.as_ref(), message.info()) else {
            let cause = "nothing that a queue delivered".to_string();
            self.ignored.add(&subject, &WireError::Malformed { cause });
            return;
        };
        for pull in [&mut self.own, &mut self.shared] {
            if consumer_name(pull.queue) == info.consumer {
                pull.on_answered();
            }
        }
        match read_task(&subject, &message.payload) {
            Err(error) => {
                self.ignored.add(&subject, &error);
                self.outbox.sign(reply, AckKind::Term);
            }
            Ok(attempt) if info.delivered > DELIVERIES_MAX => {
                tracing::warn!(?attempt, "a task came too often and is taken out of its queue");
                self.outbox.sign(reply, AckKind::Term);
            }
            Ok(attempt) => self.hand_over(attempt, reply, info.delivered > 1),
        }
    }

    fn hand_over(&mut self, attempt: JobAttempt, reply: &str, came_again: bool) {
        if self.asks.in_hand().acked.contains(&attempt) {
            self.outbox.ack(reply.to_string());
            return;
        }
        if !self.asks.is_asking.load(Ordering::Acquire) {
            self.outbox.sign(reply, AckKind::Nak(None));
            return;
        }
        // The next ask looks there first, whatever it heard before.
        self.own_is_empty = false;
        self.own.not_before = None;
        let mut in_hand = self.asks.in_hand();
        in_hand.replies.insert(attempt, reply.to_string());
        if came_again {
            in_hand.came_again.insert(attempt);
        }
        drop(in_hand);
        // Before the event, whose receiver may ask for the next one.
        self.asks.is_asking.store(false, Ordering::Release);
        let _ = self.events.send(WorkerEvent::Assigned(attempt));
    }
}

/// Whoever can have a server answer to a task's subject could put anything there: a task is taken only where it belongs.
fn read_task(subject: &str, payload: &[u8]) -> Result<JobAttempt, WireError> {
    let attempt = decode_task(payload)?;
    match parse_task_subject(subject) {
        Some((job, _)) if job == attempt.job => Ok(attempt),
        _ => Err(WireError::Misplaced),
    }
}
