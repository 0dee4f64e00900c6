//! The largest magnitude among many elements, noted by all threads of a tile.

use crate::operand::Number;
use pulp::Arch;
use std::sync::atomic::{AtomicU64, Ordering};
use tilework_kernel::MatRef;
use tilework_store::element_type::Scalar;

/// The largest |element| seen; NaNs are passed over, because the check's sums tell of them.
#[derive(Debug, Default)]
pub(crate) struct Largest(AtomicU64);

impl Largest {
    /// Looks at a block.
    pub(crate) fn note<T: Number>(&self, block: MatRef<'_, T>) {
        let block = if block.col_stride() == 1 {
            block
        } else {
            block.transposed()
        };
        let largest = Arch::new().dispatch(|| {
            (0..block.rows())
                .map(|i| largest_of_row(block, i))
                .fold(0.0, f64::max)
        });
        // Positive numbers are ordered as their bits are.
        self.0.fetch_max(largest.to_bits(), Ordering::Relaxed);
    }

    /// What was seen.
    pub(crate) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Starts anew.
    pub(crate) fn reset(&mut self) {
        *self.0.get_mut() = 0;
    }
}

#[inline(always)]
fn largest_of_row<T: Number>(block: MatRef<'_, T>, i: usize) -> f64 {
    if block.col_stride() != 1 {
        return (0..block.cols())
            .map(|j| Scalar::to_f64(block.get(i, j)).abs())
            .fold(0.0, f64::max);
    }
    const LANES: usize = 16;
    let row = &block.data()[i * block.row_stride()..][..block.cols()];
    let mut largest = [0.0_f64; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for chunk in whole {
        for (largest, element) in largest.iter_mut().zip(chunk) {
            let magnitude = Scalar::to_f64(*element).abs();
            *largest = if magnitude > *largest { magnitude } else { *largest };
        }
    }
    let rest = rest.iter().map(|element| Scalar::to_f64(*element).abs());
    largest.into_iter().chain(rest).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_in_any_order_and_place() {
        let mut values: Vec<f64> = (0..35 * 3).map(|at| at as f64 / 8.0).collect();
        for at in [0, 17, 34, 104] {
            values[at] = -1e300;
            let views = [
                MatRef::row_major(&values, 3, 35),
                MatRef::row_major(&values, 35, 3).transposed(),
                MatRef::new(&values, 5, 11, 21, 2),
            ];
            for (i, view) in views.into_iter().enumerate() {
                let mut largest = Largest::default();
                largest.note(view);
                let expected = (0..view.rows())
                    .flat_map(|i| (0..view.cols()).map(move |j| view.get(i, j).abs()))
                    .fold(0.0, f64::max);
                assert_eq!(largest.get(), expected, "view {i}, {at}");
                largest.reset();
                assert_eq!(largest.get(), 0.0);
            }
            values[at] = 1.0;
        }
    }
}
