//! Rows of a matrix file, for jobs that read some. [`Files::matrix`](super::Files::matrix) opens it.

use crate::failure::CliError;
use std::ops::Range;
use tilework_store::matrix::MatrixSource;

/// A matrix in a file, of which only what is asked for is in memory: `.npy`, or text with one row per line.
#[derive(Debug)]
pub struct Matrix(pub(super) MatrixSource);

impl Matrix {
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
        let mut values = vec![0.0; ((rows.end - rows.start) * self.n_cols()) as usize];
        self.0.read_block(rows, 0..self.n_cols(), &mut values)?;
        Ok(values)
    }
}
