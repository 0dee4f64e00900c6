//! The workers that a driver knows: when each was last heard, and what it holds.

use crate::ids::{Millis, WorkerIdx};
use crate::limits::{CORRUPT_PER_WORKER_MAX, WORKER_LOST_MS};
use crate::message::JobAttempt;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// An attempt that lies in a worker's own queue, or that it said it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) attempt: JobAttempt,
    /// Whether the worker said so.
    pub(super) taken: bool,
}

/// One worker.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) memory_bytes: u64,
    pub(super) last_heard: Millis,
    pub(super) held: Vec<Held>,
    /// Results that failed their checks.
    pub(super) n_corrupt: u32,
    /// Whether it gets no more tasks.
    pub(super) quarantined: bool,
    /// Whether an alarm said that it is slow.
    pub(super) known_slow: bool,
}

impl Member {
    /// Whether it has this attempt, in its queue or in its hands.
    pub(super) fn holds(&self, attempt: JobAttempt) -> bool {
        self.held.iter().any(|held| held.attempt == attempt)
    }

    /// Whether nothing is in its hands.
    pub(super) fn is_idle(&self) -> bool {
        self.held.iter().all(|held| !held.taken)
    }
}

/// What a task asks of a worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand<'a> {
    pub(super) memory_bytes: u64,
    /// Workers that lack its code.
    pub(super) unable: &'a BTreeSet<WorkerIdx>,
}

impl Demand<'_> {
    fn is_met_by(&self, worker: WorkerIdx, member: &Member) -> bool {
        member.memory_bytes >= self.memory_bytes && !self.unable.contains(&worker)
    }
}

/// All workers.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    members: BTreeMap<WorkerIdx, Member>,
    /// Changes whenever a worker comes or goes or is quarantined.
    generation: u64,
}

impl Fleet {
    /// Notes that a worker was heard; `true` if it is new.
    pub(super) fn hear(&mut self, now: Millis, worker: WorkerIdx, memory_bytes: u64) -> bool {
        let is_new = !self.members.contains_key(&worker);
        let member = self.members.entry(worker).or_insert_with(|| Member {
            memory_bytes,
            last_heard: now,
            held: Vec::new(),
            n_corrupt: 0,
            quarantined: false,
            known_slow: false,
        });
        member.last_heard = now;
        if is_new || member.memory_bytes != memory_bytes {
            member.memory_bytes = memory_bytes;
            self.generation += 1;
        }
        is_new
    }

    /// Notes that a known worker said something.
    pub(super) fn touch(&mut self, now: Millis, worker: WorkerIdx) {
        if let Some(member) = self.members.get_mut(&worker) {
            member.last_heard = now;
        }
    }

    /// Nobody was listened to for so long.
    pub(super) fn forgive(&mut self, ms: u64) {
        for member in self.members.values_mut() {
            member.last_heard.0 += ms;
        }
    }

    /// Forgets a worker, and tells what it was.
    pub(super) fn remove(&mut self, worker: WorkerIdx) -> Option<Member> {
        let removed = self.members.remove(&worker);
        self.generation += u64::from(removed.is_some());
        removed
    }

    /// Workers that were not heard of in time.
    pub(super) fn silent(&self, now: Millis) -> Vec<WorkerIdx> {
        self.members
            .iter()
            .filter(|(_, member)| now.0.saturating_sub(member.last_heard.0) >= WORKER_LOST_MS)
            .map(|(worker, _)| *worker)
            .collect()
    }

    pub(super) fn get(&self, worker: WorkerIdx) -> Option<&Member> {
        self.members.get(&worker)
    }

    pub(super) fn get_mut(&mut self, worker: WorkerIdx) -> Option<&mut Member> {
        self.members.get_mut(&worker)
    }

    /// All workers, whether or not they get tasks.
    pub(super) fn workers(&self) -> impl Iterator<Item = WorkerIdx> {
        self.members.keys().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Workers that get tasks which need this.
    pub(super) fn fitting(&self, demand: Demand<'_>) -> impl Iterator<Item = (WorkerIdx, &Member)> {
        self.active()
            .filter(move |(worker, member)| demand.is_met_by(*worker, member))
    }

    /// Workers that get tasks.
    fn active(&self) -> impl Iterator<Item = (WorkerIdx, &Member)> {
        let active = self.members.iter().filter(|(_, member)| !member.quarantined);
        active.map(|(worker, member)| (*worker, member))
    }

    /// Whether all that get tasks can do these.
    pub(super) fn all_meet(&self, demand: Demand<'_>) -> bool {
        self.active()
            .all(|(worker, member)| demand.is_met_by(worker, member))
    }

    /// Of the workers that fit and have a rank, the first by rank; among equals the one that holds least.
    pub(super) fn best<R: Ord>(
        &self,
        demand: Demand<'_>,
        rank: impl Fn(WorkerIdx) -> Option<R>,
    ) -> Option<WorkerIdx> {
        self.fitting(demand)
            .filter_map(|(worker, member)| Some((rank(worker)?, member.held.len(), worker)))
            .min()
            .map(|(_, _, worker)| worker)
    }

    /// Workers that fit and hold nothing.
    pub(super) fn idle(&self, demand: Demand<'_>) -> impl Iterator<Item = WorkerIdx> {
        self.fitting(demand)
            .filter(|(_, member)| member.held.is_empty())
            .map(|(worker, _)| worker)
    }

    /// Memory of the largest worker that gets tasks.
    pub(super) fn largest_bytes(&self) -> u64 {
        self.active()
            .map(|(_, member)| member.memory_bytes)
            .max()
            .unwrap_or(0)
    }

    /// Notes that an attempt lies in a worker's queue, or that it took it.
    pub(super) fn attach(&mut self, worker: WorkerIdx, attempt: JobAttempt, taken: bool) {
        let Some(member) = self.members.get_mut(&worker) else {
            return;
        };
        match member.held.iter_mut().find(|held| held.attempt == attempt) {
            Some(held) => held.taken |= taken,
            None => member.held.push(Held { attempt, taken }),
        }
    }

    /// Notes that it holds it no longer.
    pub(super) fn detach(&mut self, worker: WorkerIdx, attempt: JobAttempt) {
        if let Some(member) = self.members.get_mut(&worker) {
            member.held.retain(|held| held.attempt != attempt);
        }
    }

    /// Counts a result that failed its check; `true` if the worker is quarantined by it. The last worker never is: then the limit
    /// of attempts decides.
    pub(super) fn count_corrupt(&mut self, worker: WorkerIdx) -> bool {
        let n_active = self.active().count();
        let Some(member) = self.members.get_mut(&worker) else {
            return false;
        };
        member.n_corrupt += 1;
        if member.quarantined || member.n_corrupt < CORRUPT_PER_WORKER_MAX || n_active < 2 {
            return false;
        }
        member.quarantined = true;
        self.generation += 1;
        true
    }
}
