//! All chance of a run, from its seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::ops::Range;

/// A stream of numbers that a seed determines.
#[derive(Debug, Clone)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number of the range, which is not empty.
    pub(crate) fn pick(&mut self, range: Range<u64>) -> u64 {
        range.start + self.0.next_u64() % (range.end - range.start)
    }

    /// How long until something happens that happens every `mean` on average, and at any time alike.
    pub(crate) fn wait(&mut self, mean: f64) -> f64 {
        let uniform = (self.pick(0..1 << 53) + 1) as f64 / (1_u64 << 53) as f64;
        -uniform.ln() * mean
    }

    /// Whether something that happens so many times in a thousand happens now.
    pub(crate) fn happens(&mut self, per_mille: u64) -> bool {
        self.pick(0..1_000) < per_mille
    }
}
