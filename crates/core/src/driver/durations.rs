//! How long an attempt typically takes: the median of the last ones that were committed.

use crate::ids::WorkerIdx;
use crate::limits::DURATIONS_KEPT;

/// A ring of durations in milliseconds, and whose they were.
#[derive(Debug, Clone, Default)]
pub(super) struct Durations {
    ring: [(u32, WorkerIdx); DURATIONS_KEPT],
    n_noted: usize,
}

impl Durations {
    /// Notes one.
    pub(super) fn note(&mut self, worker: WorkerIdx, duration_ms: u64) {
        let duration_ms = u32::try_from(duration_ms).unwrap_or(u32::MAX);
        self.ring[self.n_noted % DURATIONS_KEPT] = (duration_ms, worker);
        self.n_noted += 1;
    }

    fn kept(&self) -> &[(u32, WorkerIdx)] {
        &self.ring[..self.n_noted.min(DURATIONS_KEPT)]
    }

    /// The median, or `None` before the first.
    pub(super) fn typical_ms(&self) -> Option<u64> {
        let mut kept = self.ring;
        let kept = &mut kept[..self.n_noted.min(DURATIONS_KEPT)];
        kept.sort_unstable();
        kept.get(kept.len() / 2)
            .map(|(duration_ms, _)| u64::from(*duration_ms))
    }

    /// The longest that another worker took, or `None` if no other is among the last ones.
    pub(super) fn longest_elsewhere_ms(&self, worker: WorkerIdx) -> Option<u64> {
        let elsewhere = self.kept().iter().filter(|(_, by)| *by != worker);
        elsewhere.map(|(duration_ms, _)| u64::from(*duration_ms)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_last_ones_counts() {
        let mut durations = Durations::default();
        assert_eq!(durations.typical_ms(), None);
        durations.note(WorkerIdx(0), 5);
        assert_eq!(durations.typical_ms(), Some(5));
        for i in 0..100 {
            durations.note(WorkerIdx(i % 5), if i % 5 == 0 { 1_000 } else { 20 });
        }
        assert_eq!(durations.typical_ms(), Some(20));
        assert_eq!(durations.longest_elsewhere_ms(WorkerIdx(0)), Some(20));
        assert_eq!(durations.longest_elsewhere_ms(WorkerIdx(1)), Some(1_000));
    }
}
