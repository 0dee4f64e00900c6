//! An input matrix as the product sees it: possibly transposed, read block by block.

use std::ops::Range;
use std::sync::Arc;
use tilework_core::failure::{Cause, Failure};
use tilework_kernel::{Element, MatRef};
use tilework_store::element_type::Scalar;
use tilework_store::matrix::{MatrixSource, ReadMatrixError, StorageOrder};

/// A number that kernel and stores both know: `f64` and `f32`.
pub trait Number: Element + Scalar {
    /// Unit roundoff: half the distance from 1 to the next number.
    const UNIT_ROUNDOFF: f64;
    /// The smallest positive number: what one underflow can lose.
    const SMALLEST: f64;
    /// Exponent of the largest number.
    const EXPONENT_MAX: i32;
}

impl Number for f64 {
    const UNIT_ROUNDOFF: f64 = f64::EPSILON / 2.0;
    const SMALLEST: f64 = f64::from_bits(1);
    const EXPONENT_MAX: i32 = f64::MAX_EXP;
}

impl Number for f32 {
    const UNIT_ROUNDOFF: f64 = f32::EPSILON as f64 / 2.0;
    const SMALLEST: f64 = f32::from_bits(1) as f64;
    const EXPONENT_MAX: i32 = f32::MAX_EXP;
}

/// `op(X)` for a stored matrix X.
#[derive(Debug, Clone)]
pub struct Operand {
    source: Arc<MatrixSource>,
    transposed: bool,
}

impl Operand {
    /// X itself, or its transpose.
    pub fn new(source: Arc<MatrixSource>, transposed: bool) -> Operand {
        Operand { source, transposed }
    }

    /// The stored matrix.
    pub fn source(&self) -> &MatrixSource {
        &self.source
    }

    /// Rows of `op(X)`.
    pub fn rows(&self) -> u64 {
        if self.transposed {
            self.source.info().cols
        } else {
            self.source.info().rows
        }
    }

    /// Columns of `op(X)`.
    pub fn cols(&self) -> u64 {
        if self.transposed {
            self.source.info().rows
        } else {
            self.source.info().cols
        }
    }

    /// Whether the elements of a row of `op(X)` are neighbours in the file.
    pub fn is_row_contiguous(&self) -> bool {
        (self.source.info().order == StorageOrder::RowMajor) != self.transposed
    }

    /// Whether the two are the same stored matrix, opened once.
    pub fn shares_source(&self, other: &Operand) -> bool {
        Arc::ptr_eq(&self.source, &other.source)
    }

    /// `op(X)` transposed once more.
    pub fn transpose(&self) -> Operand {
        Operand {
            source: Arc::clone(&self.source),
            transposed: !self.transposed,
        }
    }

    /// Reads a block of `op(X)` into the start of `out`, which is large enough, and views it.
    pub fn read<'a, T: Number>(
        &self,
        rows: Range<u64>,
        cols: Range<u64>,
        out: &'a mut [T],
    ) -> Result<MatRef<'a, T>, Failure> {
        let (n_rows, n_cols) = ((rows.end - rows.start) as usize, (cols.end - cols.start) as usize);
        let out = &mut out[..n_rows * n_cols];
        let strides = if self.transposed {
            self.source
                .read_block(cols, rows, out)
                .map(|(row, col)| (col, row))
        } else {
            self.source.read_block(rows, cols, out)
        };
        let (row_stride, col_stride) = strides.map_err(read_failure)?;
        Ok(MatRef::new(out, n_rows, n_cols, row_stride, col_stride))
    }
}

/// A failed read as the driver understands it.
pub fn read_failure(error: ReadMatrixError) -> Failure {
    let text = error.to_string();
    match error {
        ReadMatrixError::Changed { .. } => Failure::fatal(Cause::InputChanged, text),
        _ => Failure::retry(Cause::Storage, text),
    }
}
