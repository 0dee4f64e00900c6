//! `y += X·v` and `|y| += |X|·|v|` in f64, for the check: plain loops over source elements, nothing shared with the kernel.
//!
//! Rows that are contiguous are summed in [`LANES`] independent chains, others column by column; [`chain_len`] says how long
//! the longest chain of additions gets, which is what the error bound needs.

use crate::operand::Number;
use pulp::Arch;
use std::ops::Range;
use tilework_kernel::MatRef;
use tilework_store::element_type::Scalar;

/// Independent sums of one contiguous row.
pub const LANES: usize = 32;

/// A vector and the vector of its elements' absolute values, or bounds of them.
#[derive(Debug, Clone, Copy)]
pub struct Weighted<'a> {
    /// The values.
    pub value: &'a [f64],
    /// Their magnitudes.
    pub magnitude: &'a [f64],
}

impl<'a> Weighted<'a> {
    /// A part of the vector.
    pub fn part(self, range: Range<usize>) -> Weighted<'a> {
        Weighted {
            value: &self.value[range.clone()],
            magnitude: &self.magnitude[range],
        }
    }
}

/// Where a product is added.
#[derive(Debug)]
pub struct WeightedMut<'a> {
    /// The values.
    pub value: &'a mut [f64],
    /// Their magnitudes.
    pub magnitude: &'a mut [f64],
}

impl<'a> WeightedMut<'a> {
    /// The vector in parts of `len`, the last one shorter.
    pub fn chunks(self, len: usize) -> impl Iterator<Item = WeightedMut<'a>> {
        let value = self.value.chunks_mut(len);
        let magnitude = self.magnitude.chunks_mut(len);
        value
            .zip(magnitude)
            .map(|(value, magnitude)| WeightedMut { value, magnitude })
    }

    /// The parts before `at` and from it on.
    pub fn split_at(self, at: usize) -> (WeightedMut<'a>, WeightedMut<'a>) {
        let (value, other_value) = self.value.split_at_mut(at);
        let (magnitude, other_magnitude) = self.magnitude.split_at_mut(at);
        (
            WeightedMut { value, magnitude },
            WeightedMut {
                value: other_value,
                magnitude: other_magnitude,
            },
        )
    }

    /// A part of the vector.
    pub fn part(&mut self, range: Range<usize>) -> WeightedMut<'_> {
        WeightedMut {
            value: &mut self.value[range.clone()],
            magnitude: &mut self.magnitude[range],
        }
    }
}

/// Adds `matrix`·`v` to `out`.
///
/// # Panics
/// If the lengths don't match the matrix.
pub fn add_matvec<T: Number>(matrix: MatRef<'_, T>, v: Weighted<'_>, out: WeightedMut<'_>) {
    assert_eq!(v.value.len(), matrix.cols());
    assert_eq!(v.magnitude.len(), matrix.cols());
    assert_eq!(out.value.len(), matrix.rows());
    assert_eq!(out.magnitude.len(), matrix.rows());
    let WeightedMut { value, magnitude } = out;
    // The same operations in the same order on any instruction set: only their width differs.
    Arch::new().dispatch(|| {
        if matrix.col_stride() == 1 {
            add_rows(matrix, v, value, magnitude);
        } else {
            add_columns(matrix, v, value, magnitude);
        }
    });
}

#[inline(always)]
fn add_rows<T: Number>(matrix: MatRef<'_, T>, v: Weighted<'_>, sums: &mut [f64], magnitudes: &mut [f64]) {
    for i in 0..matrix.rows() {
        let row = &matrix.data()[i * matrix.row_stride()..][..matrix.cols()];
        let (sum, magnitude) = dot_lanes(row, v);
        sums[i] += sum;
        magnitudes[i] += magnitude;
    }
}

#[inline(always)]
fn add_columns<T: Number>(matrix: MatRef<'_, T>, v: Weighted<'_>, sums: &mut [f64], magnitudes: &mut [f64]) {
    for j in 0..matrix.cols() {
        let column = matrix.sub(0..matrix.rows(), j..j + 1);
        add_column(column, v.value[j], v.magnitude[j], sums, magnitudes);
    }
}

/// Additions in the longest chain of a sum over `len` elements by [`add_matvec`], the final ones included.
pub fn chain_len(len: usize, contiguous: bool) -> usize {
    if contiguous {
        len.div_ceil(LANES) + LANES
    } else {
        len
    }
}

/// `row`·v and |row|·|v|.
pub fn dot<T: Number>(row: &[T], v: Weighted<'_>) -> (f64, f64) {
    Arch::new().dispatch(|| dot_lanes(row, v))
}

#[inline(always)]
fn dot_lanes<T: Number>(row: &[T], v: Weighted<'_>) -> (f64, f64) {
    let mut sums = [0.0; LANES];
    let mut magnitudes = [0.0; LANES];
    let (blocks, rest) = row.as_chunks::<LANES>();
    let (values, values_rest) = v.value.as_chunks::<LANES>();
    let (weights, weights_rest) = v.magnitude.as_chunks::<LANES>();
    for ((block, value), weight) in blocks.iter().zip(values).zip(weights) {
        for lane in 0..LANES {
            let element = Scalar::to_f64(block[lane]);
            sums[lane] += element * value[lane];
            magnitudes[lane] += element.abs() * weight[lane];
        }
    }
    for (lane, ((element, value), weight)) in rest.iter().zip(values_rest).zip(weights_rest).enumerate() {
        let element = Scalar::to_f64(*element);
        sums[lane] += element * value;
        magnitudes[lane] += element.abs() * weight;
    }
    (sums.iter().sum(), magnitudes.iter().sum())
}

fn add_column<T: Number>(
    column: MatRef<'_, T>,
    value: f64,
    weight: f64,
    sums: &mut [f64],
    magnitudes: &mut [f64],
) {
    let mut add = |element: T, i: usize| {
        let element = Scalar::to_f64(element);
        sums[i] += element * value;
        magnitudes[i] += element.abs() * weight;
    };
    if column.row_stride() == 1 {
        column.data()[..column.rows()]
            .iter()
            .enumerate()
            .for_each(|(i, element)| add(*element, i));
    } else {
        (0..column.rows()).for_each(|i| add(column.get(i, 0), i));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_orders_give_the_product_and_its_magnitude() {
        let (rows, cols) = (5, 19);
        let element = |i: usize, j: usize| (i * cols + j) as f64 - 40.0;
        let row_major: Vec<f64> = (0..rows * cols).map(|at| element(at / cols, at % cols)).collect();
        let column_major: Vec<f64> = (0..rows * cols).map(|at| element(at % rows, at / rows)).collect();
        let v: Vec<f64> = (0..cols).map(|j| if j % 3 == 0 { -2.0 } else { 1.0 }).collect();
        let weights: Vec<f64> = v.iter().map(|value| value.abs()).collect();
        let views = [
            MatRef::row_major(&row_major, rows, cols),
            MatRef::new(&column_major, rows, cols, 1, rows),
        ];
        for view in views {
            let (mut value, mut magnitude) = (vec![1.0; rows], vec![0.0; rows]);
            let v = Weighted {
                value: &v,
                magnitude: &weights,
            };
            add_matvec(
                view,
                v,
                WeightedMut {
                    value: &mut value,
                    magnitude: &mut magnitude,
                },
            );
            for i in 0..rows {
                let terms = (0..cols).map(|j| element(i, j) * v.value[j]);
                assert_eq!(value[i], 1.0 + terms.clone().sum::<f64>());
                assert_eq!(magnitude[i], terms.map(f64::abs).sum::<f64>());
            }
        }
    }
}
