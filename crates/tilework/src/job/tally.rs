//! What the commits of completed rounds tell. The journal keeps nothing of them but the state that follows, so it is counted as each
//! round ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tilework_core::ids::RoundIdx;
use tilework_core::record::Commit;

/// Counts of the rounds that were completed in this process, each once.
#[derive(Debug, Default)]
pub struct RoundsTally(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    earlier: RoundTally,
    /// The latest round: it may be completed again, if outputs turn out damaged.
    latest: Option<(RoundIdx, RoundTally)>,
}

/// Counts of one round, or of several.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RoundTally {
    /// Tasks whose outputs were checked, rather than only checksummed.
    pub n_checked: u64,
    /// How long each worker computed, in seconds.
    pub seconds_busy: BTreeMap<u32, f64>,
}

impl RoundTally {
    /// Counts a commit.
    pub fn add(&mut self, commit: &Commit) {
        self.n_checked += u64::from(commit.checked);
        *self.seconds_busy.entry(commit.worker.0).or_default() += commit.seconds;
    }

    fn add_all(&mut self, other: &RoundTally) {
        self.n_checked += other.n_checked;
        for (worker, seconds) in &other.seconds_busy {
            *self.seconds_busy.entry(*worker).or_default() += seconds;
        }
    }
}

impl RoundsTally {
    /// A round is complete.
    pub fn complete(&self, round: RoundIdx, tally: RoundTally) {
        let mut counted = self.lock();
        let before = counted.latest.replace((round, tally));
        if let Some((_, before)) = before.filter(|(before, _)| *before != round) {
            counted.earlier.add_all(&before);
        }
    }

    /// Of all of them together.
    pub fn total(&self) -> RoundTally {
        let counted = self.lock();
        let mut total = counted.earlier.clone();
        if let Some((_, latest)) = &counted.latest {
            total.add_all(latest);
        }
        total
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_counts_once_however_often_it_is_completed() {
        let round = |n_checked, worker| RoundTally {
            n_checked,
            seconds_busy: BTreeMap::from([(worker, 1.5)]),
        };
        let tally = RoundsTally::default();
        tally.complete(RoundIdx(3), round(4, 0));
        tally.complete(RoundIdx(4), round(7, 1));
        tally.complete(RoundIdx(4), round(8, 0));
        let seconds_busy = BTreeMap::from([(0, 3.0)]);
        let total = RoundTally {
            n_checked: 12,
            seconds_busy,
        };
        assert_eq!(tally.total(), total);
    }
}
