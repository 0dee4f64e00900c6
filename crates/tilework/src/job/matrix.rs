//! Rows of a matrix file, for jobs that read some. [`Files::matrix`](super::Files::matrix) opens it.

use crate::failure::CliError;
use std::ops::Range;
use tilework_kernel::MatRef;
use tilework_linalg::matvec::{Weighted, WeightedMut, add_matvec};
use tilework_store::matrix::MatrixSource;

/// A matrix in a file, of which only what is asked for is in memory: `.npy`, or text with one row per line.
#[derive(Debug)]
pub struct Matrix(pub(super) MatrixSource);

impl Matrix {
    /// Memory that [`times`](Matrix::times) needs beside its result, in bytes, as long as one row is not larger.
    pub const TIMES_BYTES: u64 = 1024 * 1024;

    /// Its rows.
    pub fn n_rows(&self) -> u64 {
        self.0.info().rows
    }

    /// Its columns.
    pub fn n_cols(&self) -> u64 {
        self.0.info().cols
    }

    /// Some of its rows, one after the other, converted to `f64`.
    ///
    /// # Errors
    /// If they can't be read.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn rows(&self, rows: Range<u64>) -> Result<Vec<f64>, CliError> {
        let (n_rows, n_cols) = ((rows.end - rows.start) as usize, self.n_cols() as usize);
        let mut values = vec![0.0; n_rows * n_cols];
        let strides = self.0.read_block(rows, 0..self.n_cols(), &mut values)?;
        if strides == (n_cols, 1) {
            return Ok(values);
        }
        let at = |idx: usize| values[idx / n_cols * strides.0 + idx % n_cols * strides.1];
        Ok((0..values.len()).map(at).collect())
    }

    /// Some of its rows times `vector`: an element for each row, in `f64`. However many rows there are, only a piece of them is in memory.
    ///
    /// # Errors
    /// If they can't be read.
    ///
    /// # Panics
    /// If there are not so many rows, or `vector` has not an element for each column.
    pub fn times(&self, rows: Range<u64>, vector: &[f64]) -> Result<Vec<f64>, CliError> {
        let n_cols = self.n_cols();
        let n_rows_max = (Matrix::TIMES_BYTES / (8 * n_cols).max(1)).max(1);
        let mut piece = vec![0.0; (n_rows_max.min(rows.end - rows.start) * n_cols) as usize];
        let mut products = vec![0.0; (rows.end - rows.start) as usize];
        let vector = Weighted {
            value: vector,
            magnitude: vector,
        };
        for (first, products) in rows
            .clone()
            .step_by(n_rows_max as usize)
            .zip(products.chunks_mut(n_rows_max as usize))
        {
            let n_rows = products.len();
            let piece = &mut piece[..n_rows * n_cols as usize];
            let (row_stride, col_stride) =
                self.0
                    .read_block(first..first + n_rows as u64, 0..n_cols, piece)?;
            let panel = MatRef::new(piece, n_rows, n_cols as usize, row_stride, col_stride);
            // Made for checks, which also bound their rounding: that is not used here.
            let out = WeightedMut {
                value: products,
                magnitude: &mut vec![0.0; n_rows],
            };
            add_matvec(panel, vector, out);
        }
        Ok(products)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 3 x 2 matrix of the integers from 1, as numpy writes it in its two orders.
    fn in_order(fortran: bool) -> (tempfile::TempDir, Matrix) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.npy");
        let name = if fortran { "True" } else { "False" };
        let header = format!("{{'descr': '<f8', 'fortran_order': {name}, 'shape': (3, 2), }}");
        let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        bytes.extend(format!("{header:<117}\n").bytes());
        let values: [f64; 6] = if fortran {
            [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]
        } else {
            [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        };
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        std::fs::write(&path, bytes).unwrap();
        let matrix = crate::job::Files::of_this_machine().matrix(&path).unwrap();
        (folder, matrix)
    }

    #[test]
    fn rows_come_one_after_the_other_whatever_the_file_s_order() {
        for fortran in [false, true] {
            let (_folder, matrix) = in_order(fortran);
            assert_eq!(matrix.rows(0..3).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
            assert_eq!(matrix.rows(1..3).unwrap(), [3.0, 4.0, 5.0, 6.0]);
            assert_eq!(matrix.rows(1..1).unwrap(), [0.0; 0]);
        }
    }

    #[test]
    fn rows_times_a_vector_are_their_dot_products() {
        for fortran in [false, true] {
            let (_folder, matrix) = in_order(fortran);
            assert_eq!(matrix.times(0..3, &[1.0, -2.0]).unwrap(), [-3.0, -5.0, -7.0]);
            assert_eq!(matrix.times(2..3, &[1.0, -2.0]).unwrap(), [-7.0]);
        }
    }
}
