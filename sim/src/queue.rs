//! The work queue, as JetStream keeps it: what was delivered and neither acknowledged nor renewed in time is delivered again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tilework_core::driver::Queue;
use tilework_core::ids::{Millis, WorkerIdx};
use tilework_core::message::JobAttempt;

/// How long a delivery is good for without renewal.
const ACK_WAIT_MS: u64 = 20_000;

/// Queues, deliveries, and who waits for one.
#[derive(Debug, Default)]
pub(crate) struct WorkQueue {
    waiting: BTreeMap<Queue, VecDeque<JobAttempt>>,
    /// What waits or was delivered.
    known: BTreeSet<JobAttempt>,
    delivered: BTreeMap<JobAttempt, (Queue, Millis)>,
    fetching: BTreeSet<WorkerIdx>,
}

impl WorkQueue {
    /// Takes an attempt in, once.
    pub(crate) fn publish(&mut self, attempt: JobAttempt, queue: Queue) {
        if self.known.insert(attempt) {
            self.waiting.entry(queue).or_default().push_back(attempt);
        }
    }

    /// Forgets all that waits or was delivered.
    pub(crate) fn purge(&mut self) {
        self.waiting.clear();
        self.known.clear();
        self.delivered.clear();
    }

    /// A worker asks for one.
    pub(crate) fn fetch(&mut self, worker: WorkerIdx) {
        self.fetching.insert(worker);
    }

    /// A worker asks no more.
    pub(crate) fn forget(&mut self, worker: WorkerIdx) {
        self.fetching.remove(&worker);
    }

    /// Whoever gets something now.
    pub(crate) fn deliver(&mut self, now: Millis) -> Vec<(WorkerIdx, JobAttempt)> {
        let mut deliveries = Vec::new();
        for queue in self.waiting.keys().copied().collect::<Vec<_>>() {
            while let Some(worker) = self.taker(queue)
                && let Some(attempt) = self.take(queue)
            {
                self.fetching.remove(&worker);
                let until = Millis(now.0 + ACK_WAIT_MS);
                self.delivered.insert(attempt, (queue, until));
                deliveries.push((worker, attempt));
            }
        }
        deliveries
    }

    /// Who takes the next attempt of a queue. Workers look into their own queues first, and so these come last here.
    fn taker(&self, queue: Queue) -> Option<WorkerIdx> {
        let has_own = |worker: &&WorkerIdx| self.waiting.contains_key(&Queue::Worker(**worker));
        match queue {
            Queue::Worker(worker) => self.fetching.get(&worker).copied(),
            Queue::Shared => self.fetching.iter().find(|worker| !has_own(worker)).copied(),
        }
    }

    fn take(&mut self, queue: Queue) -> Option<JobAttempt> {
        let waiting = self.waiting.get_mut(&queue)?;
        let attempt = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&queue);
        }
        attempt
    }

    pub(crate) fn ack(&mut self, attempt: JobAttempt) {
        if self.delivered.remove(&attempt).is_some() {
            self.known.remove(&attempt);
        }
    }

    pub(crate) fn renew(&mut self, now: Millis, attempt: JobAttempt) {
        if let Some((_, until)) = self.delivered.get_mut(&attempt) {
            *until = Millis(now.0 + ACK_WAIT_MS);
        }
    }

    /// Puts back what was not acknowledged in time.
    pub(crate) fn expire(&mut self, now: Millis) {
        let late = self.delivered.extract_if(.., |_, (_, until)| *until <= now);
        for (attempt, (queue, _)) in late.collect::<Vec<_>>() {
            self.waiting.entry(queue).or_default().push_front(attempt);
        }
    }
}
