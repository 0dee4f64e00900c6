//! The state of every task of a round in one byte each: two bits of status, six of attempts made in this run.

use crate::ids::{AttemptNo, TaskIdx};
use alloc::vec;
use alloc::vec::Vec;

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TaskStatus {
    /// Not released, or given back.
    Waiting = 0,
    /// In a queue, with a worker, or held back until its next attempt is due.
    Released = 1,
    /// Its commit is durable.
    Committed = 2,
}

const STATUS_BITS: u32 = 2;
const ATTEMPTS_CAP: u8 = u8::MAX >> STATUS_BITS;

/// All tasks of one round.
#[derive(Debug, Clone)]
pub struct TaskTable {
    entries: Vec<u8>,
    n_committed: u64,
    /// No task before this one is waiting.
    first_waiting: usize,
}

impl TaskTable {
    /// `n_tasks` waiting tasks.
    pub fn new(n_tasks: u64) -> TaskTable {
        TaskTable {
            entries: vec![0; n_tasks as usize],
            n_committed: 0,
            first_waiting: 0,
        }
    }

    /// Tasks in the round.
    pub fn n_tasks(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Tasks with a durable commit.
    pub fn n_committed(&self) -> u64 {
        self.n_committed
    }

    /// Whether every task is committed.
    pub fn is_complete(&self) -> bool {
        self.n_committed == self.n_tasks()
    }

    /// Where `task` stands; `None` if the round has no such task.
    pub fn status(&self, task: TaskIdx) -> Option<TaskStatus> {
        self.entries.get(task.0 as usize).map(|entry| match entry & 0b11 {
            0 => TaskStatus::Waiting,
            1 => TaskStatus::Released,
            _ => TaskStatus::Committed,
        })
    }

    /// Attempts made at `task` in this run.
    pub fn attempts(&self, task: TaskIdx) -> u8 {
        self.entries[task.0 as usize] >> STATUS_BITS
    }

    /// Releases the first waiting task, if any: its id and the number of this attempt.
    pub fn release_next(&mut self) -> Option<(TaskIdx, AttemptNo)> {
        let task = TaskIdx(self.has_waiting().then_some(self.first_waiting as u64)?);
        Some((task, self.release(task)))
    }

    /// Whether any task waits.
    pub fn has_waiting(&mut self) -> bool {
        while self.first_waiting < self.entries.len() {
            if self.status(TaskIdx(self.first_waiting as u64)) == Some(TaskStatus::Waiting) {
                return true;
            }
            self.first_waiting += 1;
        }
        false
    }

    /// Releases `task`, which waits or is held, or releases it once more.
    pub(crate) fn release(&mut self, task: TaskIdx) -> AttemptNo {
        let attempt = self.attempts(task);
        let counted = (attempt + 1).min(ATTEMPTS_CAP);
        self.entries[task.0 as usize] = counted << STATUS_BITS | TaskStatus::Released as u8;
        AttemptNo(attempt)
    }

    /// Marks `task` committed; `false` if it already was.
    pub fn commit(&mut self, task: TaskIdx) -> bool {
        if self.status(task) == Some(TaskStatus::Committed) {
            return false;
        }
        self.set_status(task, TaskStatus::Committed);
        self.n_committed += 1;
        true
    }

    /// Puts a task back among the waiting ones: it was given back, failed, or its committed output turned out damaged.
    pub fn put_back(&mut self, task: TaskIdx) {
        if self.status(task) == Some(TaskStatus::Committed) {
            self.n_committed -= 1;
        }
        self.set_status(task, TaskStatus::Waiting);
        self.first_waiting = self.first_waiting.min(task.0 as usize);
    }

    /// Keeps a waiting task from being released until it is put back.
    pub fn hold(&mut self, task: TaskIdx) {
        self.set_status(task, TaskStatus::Released);
    }

    fn set_status(&mut self, task: TaskIdx, status: TaskStatus) {
        let entry = &mut self.entries[task.0 as usize];
        *entry = *entry & !0b11 | status as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_released_in_order_and_once() {
        let mut table = TaskTable::new(3);
        assert!(table.commit(TaskIdx(1)));
        assert!(!table.commit(TaskIdx(1)));
        assert_eq!(table.release_next(), Some((TaskIdx(0), AttemptNo(0))));
        assert_eq!(table.release_next(), Some((TaskIdx(2), AttemptNo(0))));
        assert_eq!(table.release_next(), None);
    }

    #[test]
    fn a_task_put_back_is_released_again_with_the_next_attempt() {
        let mut table = TaskTable::new(2);
        table.release_next();
        table.release_next();
        table.commit(TaskIdx(1));
        table.put_back(TaskIdx(0));
        table.put_back(TaskIdx(1));
        assert_eq!(table.n_committed(), 0);
        assert_eq!(table.release_next(), Some((TaskIdx(0), AttemptNo(1))));
        assert_eq!(table.release_next(), Some((TaskIdx(1), AttemptNo(1))));
    }

    #[test]
    fn attempts_saturate_instead_of_reaching_the_status_bits() {
        let mut table = TaskTable::new(1);
        for _ in 0..200 {
            table.release_next();
            table.put_back(TaskIdx(0));
        }
        assert_eq!(table.attempts(TaskIdx(0)), ATTEMPTS_CAP);
        assert_eq!(table.status(TaskIdx(0)), Some(TaskStatus::Waiting));
    }
}
