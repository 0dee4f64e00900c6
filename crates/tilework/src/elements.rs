//! What `generate` writes: patterns and random numbers that depend on seed, shape and block only.
//!
//! Every block has a random stream of its own, so that any number of threads gives the same bytes.

use crate::args::inspect::Pattern;
use crate::blocks::{Block, Blocks};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tilework_store::element_type::{Dtype, Scalar};

/// Elements of a block: part of what defines the numbers.
const BLOCK_LEN: usize = 1 << 17;

/// A matrix of elements to be made.
#[derive(Debug, Clone, Copy)]
pub struct Elements {
    /// What they are.
    pub pattern: Pattern,
    /// Start of the random numbers.
    pub seed: u64,
    /// The blocks that they are made in.
    pub blocks: Blocks,
}

impl Elements {
    /// The elements of a matrix of this shape.
    pub fn new(pattern: Pattern, seed: u64, rows: u64, cols: u64) -> Elements {
        Elements {
            pattern,
            seed,
            blocks: Blocks::of_rows(rows, cols, BLOCK_LEN),
        }
    }

    /// Makes block number `block_idx`, row by row.
    pub fn fill<T: Scalar>(&self, block_idx: u64, out: &mut [T]) {
        let block = self.blocks.block(block_idx);
        debug_assert_eq!(out.len(), block.len());
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(block_idx);
        match self.pattern {
            Pattern::Normal => fill_normal(&mut random, out),
            Pattern::Uniform => out.iter_mut().for_each(|place| *place = uniform(&mut random)),
            Pattern::Integers => out
                .iter_mut()
                .for_each(|place| *place = T::from_i64(integer(&mut random))),
            Pattern::Identity => fill_identity(&block, out),
        }
    }
}

/// A multiple of the type's precision in [0, 1), so that rounding can't reach 1.
fn uniform<T: Scalar>(random: &mut ChaCha8Rng) -> T {
    let bits = match T::DTYPE {
        Dtype::F64 => 53,
        Dtype::F32 => 24,
    };
    T::from_f64((random.next_u64() >> (64 - bits)) as f64 / (1_u64 << bits) as f64)
}

/// From -9 to 9, each as likely within 2^-27.
fn integer(random: &mut ChaCha8Rng) -> i64 {
    ((u64::from(random.next_u32()) * 19) >> 32) as i64 - 9
}

/// Pairs by Marsaglia's polar method (SIAM Review 6, 1964): a point in the unit disc gives two independent numbers.
fn fill_normal<T: Scalar>(random: &mut ChaCha8Rng, out: &mut [T]) {
    let mut in_square = || 2.0 * uniform::<f64>(random) - 1.0;
    for pair in out.chunks_mut(2) {
        let (x, y, square) = loop {
            let (x, y) = (in_square(), in_square());
            let square = x * x + y * y;
            if square < 1.0 && square > 0.0 {
                break (x, y, square);
            }
        };
        let scale = (-2.0 * square.ln() / square).sqrt();
        for (place, value) in pair.iter_mut().zip([x, y]) {
            *place = T::from_f64(value * scale);
        }
    }
}

fn fill_identity<T: Scalar>(block: &Block, out: &mut [T]) {
    out.fill(T::default());
    let width = block.cols.end - block.cols.start;
    let diagonal = block.rows.start.max(block.cols.start)..block.rows.end.min(block.cols.end);
    for at in diagonal {
        out[((at - block.rows.start) * width + at - block.cols.start) as usize] = T::from_f64(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all<T: Scalar>(pattern: Pattern, seed: u64, rows: u64, cols: u64) -> Vec<T> {
        let elements = Elements::new(pattern, seed, rows, cols);
        let blocks = elements.blocks;
        let mut matrix = vec![T::default(); (rows * cols) as usize];
        for block_idx in 0..blocks.n_blocks() {
            let block = blocks.block(block_idx);
            let mut values = vec![T::default(); block.len()];
            elements.fill(block_idx, &mut values);
            let width = block.cols.end - block.cols.start;
            for (at, value) in (0..).zip(values) {
                let (row, col) = (block.rows.start + at / width, block.cols.start + at % width);
                matrix[(row * cols + col) as usize] = value;
            }
        }
        matrix
    }

    #[test]
    fn normal_numbers_have_mean_0_variance_1_and_normal_tails() {
        let values: Vec<f64> = all(Pattern::Normal, 1, 500, 401);
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|x| x * x).sum::<f64>() / n;
        let within_1 = values.iter().filter(|x| x.abs() < 1.0).count() as f64 / n;
        assert!(
            mean.abs() < 0.01 && (variance - 1.0).abs() < 0.01,
            "{mean} {variance}"
        );
        assert!((within_1 - 0.6827).abs() < 0.005, "{within_1}");
    }

    #[test]
    fn uniform_numbers_stay_below_1_in_both_types() {
        let values: Vec<f32> = all(Pattern::Uniform, 1, 300, 1000);
        assert!(values.iter().all(|x| (0.0..1.0).contains(x)));
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }

    #[test]
    fn integers_are_all_of_minus_9_to_9() {
        let mut values: Vec<i64> = all::<f64>(Pattern::Integers, 1, 50, 100)
            .iter()
            .map(|x| *x as i64)
            .collect();
        values.sort_unstable();
        values.dedup();
        assert_eq!(values, (-9..=9).collect::<Vec<_>>());
    }

    #[test]
    fn the_diagonal_goes_through_cut_rows() {
        let cols = BLOCK_LEN as u64 + 3;
        let values: Vec<f32> = all(Pattern::Identity, 1, 3, cols);
        let ones: Vec<usize> = (0..values.len()).filter(|at| values[*at] != 0.0).collect();
        assert_eq!(ones, [0, cols as usize + 1, 2 * cols as usize + 2]);
    }

    #[test]
    fn blocks_and_seeds_give_different_numbers() {
        let two_blocks: Vec<f64> = all(Pattern::Uniform, 1, 2, BLOCK_LEN as u64);
        assert_ne!(two_blocks[..BLOCK_LEN], two_blocks[BLOCK_LEN..]);
        assert_ne!(
            all::<f64>(Pattern::Uniform, 1, 2, 2),
            all::<f64>(Pattern::Uniform, 2, 2, 2)
        );
    }
}
