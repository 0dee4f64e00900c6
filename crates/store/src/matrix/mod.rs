//! An input matrix, opened from any format that we read.
//!
//! A source is opened once, then shared by all threads: it hands out rectangular blocks in the file's own order,
//! converted to the job's dtype.
//!
//! - [`MatrixInfo`]: what is known without reading elements
//! - [`MatrixSource::open`]: telling the formats apart
//! - [`MatrixSource`]: the open matrix

mod info;
mod open;
mod source;
#[cfg(test)]
mod tests;

pub use info::{Format, MatrixInfo, StorageOrder};
pub use open::{OpenMatrixError, TEXT_BYTES_MAX};
pub use source::{MatrixSource, ReadMatrixError};
