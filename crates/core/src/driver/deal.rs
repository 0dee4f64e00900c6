//! Round-robin: task i belongs to worker i mod n. Shares are arithmetic progressions, so that they take no memory per task; a lost
//! worker's share is dealt to the others the same way.

use crate::ids::{TaskIdx, WorkerIdx};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

/// `next`, `next + stride`, ... below the number of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progression {
    next: u64,
    stride: u64,
}

/// Who does which tasks.
#[derive(Debug, Default)]
pub(super) struct Deal {
    n_tasks: u64,
    shares: BTreeMap<WorkerIdx, VecDeque<Progression>>,
    /// Workers that may have room for more of their share.
    ready: BTreeSet<WorkerIdx>,
    /// Who gets the next task that came back.
    turn: Option<WorkerIdx>,
}

impl Deal {
    /// Deals `n_tasks` to the workers.
    pub(super) fn new(n_tasks: u64, workers: &[WorkerIdx]) -> Deal {
        let mut deal = Deal {
            n_tasks,
            ..Deal::default()
        };
        deal.split(Progression { next: 0, stride: 1 }, workers);
        deal
    }

    fn split(&mut self, share: Progression, workers: &[WorkerIdx]) {
        for (i, worker) in workers.iter().enumerate() {
            let part = Progression {
                next: share.next + share.stride * i as u64,
                stride: share.stride * workers.len() as u64,
            };
            let shares = self.shares.entry(*worker).or_default();
            if part.next < self.n_tasks {
                shares.push_back(part);
                self.ready.insert(*worker);
            }
        }
    }

    /// The next task of a worker's share.
    pub(super) fn next_of(&mut self, worker: WorkerIdx) -> Option<TaskIdx> {
        let shares = self.shares.get_mut(&worker)?;
        let share = shares.front_mut()?;
        let task = TaskIdx(share.next);
        share.next += share.stride;
        if share.next >= self.n_tasks {
            shares.pop_front();
        }
        Some(task)
    }

    /// Deals what a worker still had to the others; with nobody left it stays until someone comes.
    pub(super) fn on_lost(&mut self, worker: WorkerIdx) {
        let others: Vec<WorkerIdx> = self.workers().filter(|other| *other != worker).collect();
        if others.is_empty() {
            return;
        }
        for share in self.shares.remove(&worker).unwrap_or_default() {
            self.split(share, &others);
        }
    }

    /// A worker that came after the deal gets a share only of what nobody present can do.
    pub(super) fn on_joined(&mut self, worker: WorkerIdx, is_present: impl Fn(WorkerIdx) -> bool) {
        self.shares.entry(worker).or_default();
        let gone: Vec<WorkerIdx> = self.workers().filter(|other| !is_present(*other)).collect();
        gone.into_iter().for_each(|other| self.on_lost(other));
    }

    /// Whose turn it is to take a task that came back.
    pub(super) fn take_turn(&mut self) -> Option<WorkerIdx> {
        let after = |turn: WorkerIdx| {
            use core::ops::Bound::{Excluded, Unbounded};
            self.shares.range((Excluded(turn), Unbounded)).next()
        };
        let next = self
            .turn
            .and_then(after)
            .or_else(|| self.shares.first_key_value());
        self.turn = next.map(|(worker, _)| *worker);
        self.turn
    }

    /// Notes that a worker may have room.
    pub(super) fn wake(&mut self, worker: WorkerIdx) {
        self.ready.insert(worker);
    }

    /// Workers that may have room, each once.
    pub(super) fn take_ready(&mut self) -> BTreeSet<WorkerIdx> {
        core::mem::take(&mut self.ready)
    }

    pub(super) fn n_workers(&self) -> usize {
        self.shares.len()
    }

    /// Who has a share, be it an empty one.
    pub(super) fn workers(&self) -> impl Iterator<Item = WorkerIdx> {
        self.shares.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn workers(n: u32) -> Vec<WorkerIdx> {
        (0..n).map(WorkerIdx).collect()
    }

    fn rest(deal: &mut Deal, worker: u32) -> Vec<u64> {
        core::iter::from_fn(|| deal.next_of(WorkerIdx(worker)).map(|task| task.0)).collect()
    }

    #[test]
    fn task_i_belongs_to_worker_i_mod_n() {
        let mut deal = Deal::new(8, &workers(3));
        assert_eq!(rest(&mut deal, 0), [0, 3, 6]);
        assert_eq!(rest(&mut deal, 1), [1, 4, 7]);
        assert_eq!(rest(&mut deal, 2), [2, 5]);
    }

    #[test]
    fn a_lost_workers_share_is_dealt_to_the_others() {
        let mut deal = Deal::new(12, &workers(3));
        assert_eq!(deal.next_of(WorkerIdx(1)), Some(TaskIdx(1)));
        deal.on_lost(WorkerIdx(1));
        assert_eq!(rest(&mut deal, 0), [0, 3, 6, 9, 4, 10]);
        assert_eq!(rest(&mut deal, 2), [2, 5, 8, 11, 7]);
    }

    #[test]
    fn nothing_is_dealt_twice_or_forgotten_whoever_is_lost() {
        for n_tasks in [0, 1, 5, 100] {
            let mut deal = Deal::new(n_tasks, &workers(5));
            let mut seen: Vec<u64> = Vec::new();
            for lost in [3, 0, 4] {
                seen.extend(deal.next_of(WorkerIdx(1)).map(|task| task.0));
                deal.on_lost(WorkerIdx(lost));
            }
            seen.extend(rest(&mut deal, 1));
            seen.extend(rest(&mut deal, 2));
            let distinct: BTreeSet<u64> = seen.iter().copied().collect();
            assert_eq!((seen.len() as u64, distinct.len() as u64), (n_tasks, n_tasks));
        }
    }

    #[test]
    fn the_last_workers_share_waits_for_someone() {
        let mut deal = Deal::new(3, &workers(1));
        deal.on_lost(WorkerIdx(0));
        deal.on_joined(WorkerIdx(9), |worker| worker == WorkerIdx(9));
        assert_eq!(rest(&mut deal, 9), [0, 1, 2]);
    }

    #[test]
    fn workers_take_turns_with_what_came_back() {
        let mut deal = Deal::new(0, &workers(3));
        let turns: Vec<_> = (0..4).filter_map(|_| deal.take_turn()).collect();
        assert_eq!(
            turns,
            vec![WorkerIdx(0), WorkerIdx(1), WorkerIdx(2), WorkerIdx(0)]
        );
    }
}
