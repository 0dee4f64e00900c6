//! How long an attempt typically takes: the median of the last ones that were committed.

use crate::limits::DURATIONS_KEPT;

/// A ring of durations in milliseconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Durations {
    ring: [u32; DURATIONS_KEPT],
    n_noted: usize,
}

impl Durations {
    /// Notes one.
    pub(super) fn note(&mut self, duration_ms: u64) {
        self.ring[self.n_noted % DURATIONS_KEPT] = u32::try_from(duration_ms).unwrap_or(u32::MAX);
        self.n_noted += 1;
    }

    /// The median, or `None` before the first.
    pub(super) fn typical_ms(&self) -> Option<u64> {
        let mut kept = self.ring;
        let kept = &mut kept[..self.n_noted.min(DURATIONS_KEPT)];
        kept.sort_unstable();
        kept.get(kept.len() / 2).map(|duration| u64::from(*duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_last_ones_counts() {
        let mut durations = Durations::default();
        assert_eq!(durations.typical_ms(), None);
        durations.note(5);
        assert_eq!(durations.typical_ms(), Some(5));
        for i in 0..100 {
            durations.note(if i % 5 == 0 { 1_000 } else { 20 });
        }
        assert_eq!(durations.typical_ms(), Some(20));
    }
}
