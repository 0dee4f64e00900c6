//! Runs one piece of code on several threads, for so short a time that nobody may fall asleep meanwhile.
//!
//! Waking a thread up takes tens of microseconds, which is as long as a thread's share of a small product. So whoever has no work
//! left stays awake until the others are done, within bounds.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use std::sync::atomic::{AtomicUsize, Ordering};

/// How often a thread looks whether the others are done before it goes to sleep: about 100 µs at 11 ns a look. With 10 µs both
/// threads slept after most products of 256x256, and those took an eighth longer.
const LOOKS_MAX: usize = 10_000;

/// Looks' worth of time that a thread needs to leave once all work is done.
const LOOKS_TO_LEAVE: usize = 20;

/// The caller's thread and others that wait for it.
#[derive(Debug)]
pub(crate) struct ForkJoin {
    others: Option<ThreadPool>,
}

impl ForkJoin {
    /// Starts all threads but the caller's.
    pub(crate) fn new(n_threads: usize) -> Result<ForkJoin, ThreadPoolBuildError> {
        let others = (n_threads > 1).then(|| {
            ThreadPoolBuilder::new()
                .num_threads(n_threads - 1)
                .thread_name(|i| format!("multiply-{i}"))
                .build()
        });
        Ok(ForkJoin {
            others: others.transpose()?,
        })
    }

    /// Runs `work` with each of `states`, the first one here and each other one on a thread of its own, and returns when all are
    /// done. There are at most as many states as threads. A thread may come late, so `work` takes what there is to do by turn.
    pub(crate) fn run<S: Send>(&self, states: &mut [S], work: impl Fn(&mut S) + Sync) {
        let (mine, theirs) = states.split_first_mut().expect("at least one state");
        let Some(others) = self.others.as_ref().filter(|_| !theirs.is_empty()) else {
            return work(mine);
        };
        let n_working = AtomicUsize::new(0);
        let take_part = |state: &mut S| {
            n_working.fetch_add(1, Ordering::Relaxed);
            work(state);
            n_working.fetch_sub(1, Ordering::Relaxed);
            let mut looks = 0..LOOKS_MAX;
            while n_working.load(Ordering::Relaxed) > 0 && looks.next().is_some() {
                std::hint::spin_loop();
            }
        };
        others.in_place_scope(|scope| {
            for state in theirs {
                scope.spawn(|_| take_part(state));
            }
            take_part(mine);
            // The scope's own wait goes to sleep at once.
            (0..LOOKS_TO_LEAVE).for_each(|_| std::hint::spin_loop());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_worked_on_once_however_often_it_runs() {
        for n_threads in 1..4 {
            let fork_join = ForkJoin::new(n_threads).unwrap();
            let mut states = vec![0; n_threads];
            for round in 1..50 {
                fork_join.run(&mut states, |state| *state += 1);
                assert_eq!(states, vec![round; n_threads]);
            }
        }
    }

    #[test]
    fn one_state_stays_on_this_thread() {
        let here = std::thread::current().id();
        ForkJoin::new(2)
            .unwrap()
            .run(&mut [()], |()| assert_eq!(std::thread::current().id(), here));
    }
}
