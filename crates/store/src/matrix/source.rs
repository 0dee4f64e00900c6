//! An open matrix: blocks of its elements, and what identifies it.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::MatrixInfo;
use crate::disk::DiskFile;
use crate::element_type::Scalar;
use crate::identity::{self, InputIdentity};
use crate::npy::header::NpyHeader;
use crate::npy::source::{RunError, read_npy_block};
use crate::text::TextMatrix;

/// An open input matrix. Cheap to share in an `Arc`.
#[derive(Debug)]
pub struct MatrixSource {
    info: MatrixInfo,
    file: Arc<dyn DiskFile>,
    contents: Contents,
    bytes_read: AtomicU64,
}

#[derive(Debug)]
pub(super) enum Contents {
    Npy(NpyHeader),
    Text(TextMatrix),
}

/// Why elements could not be read from an open matrix.
#[derive(Debug, thiserror::Error)]
pub enum ReadMatrixError {
    /// The storage failed.
    #[error("cannot read `{}` at byte {offset}: {source}", path.display())]
    Io {
        /// The path as given at opening.
        path: PathBuf,
        /// Where the read started.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// The file has become shorter since it was opened.
    #[error("`{}` changed while it was read: it ends before byte {end}", path.display())]
    Changed {
        /// The path as given at opening.
        path: PathBuf,
        /// The end of the read that failed, or the length at opening.
        end: u64,
    },
}

impl MatrixSource {
    /// `n_bytes_read` were read from the file so far.
    pub(super) fn new(
        info: MatrixInfo,
        file: Arc<dyn DiskFile>,
        contents: Contents,
        n_bytes_read: u64,
    ) -> Self {
        Self {
            info,
            file,
            contents,
            bytes_read: AtomicU64::new(n_bytes_read),
        }
    }

    /// What is known without reading elements.
    pub fn info(&self) -> &MatrixInfo {
        &self.info
    }

    /// Reads `rows` x `cols` into `out` in the *file's own* order, converted to `T`.
    ///
    /// Returns (row stride, column stride) in elements: element (i, j) of the block is at
    /// `out[i * row_stride + j * col_stride]`.
    ///
    /// # Panics
    /// If the ranges leave the matrix, or `out` is not exactly as long as the block.
    pub fn read_block<T: Scalar>(
        &self,
        rows: Range<u64>,
        cols: Range<u64>,
        out: &mut [T],
    ) -> Result<(usize, usize), ReadMatrixError> {
        assert!(
            rows.start <= rows.end && rows.end <= self.info.rows,
            "rows {rows:?} of {}",
            self.info.rows
        );
        assert!(
            cols.start <= cols.end && cols.end <= self.info.cols,
            "columns {cols:?} of {}",
            self.info.cols
        );
        assert_eq!(
            out.len() as u64,
            (rows.end - rows.start) * (cols.end - cols.start),
            "length of the block"
        );
        let header = match &self.contents {
            Contents::Text(matrix) => return Ok(matrix.copy_block(rows, cols, out)),
            Contents::Npy(header) => header,
        };
        let strides =
            read_npy_block(&*self.file, header, rows, cols, out).map_err(|error| self.read_error(error))?;
        self.count(out.len() as u64 * header.element.size());
        Ok(strides)
    }

    /// Bytes of memory that this source holds as long as it lives: the elements of a text matrix, none for `.npy`.
    ///
    /// While it is opened, a text matrix needs up to [`TEXT_BYTES_MAX`](super::TEXT_BYTES_MAX) more for the text itself.
    pub fn resident_bytes(&self) -> u64 {
        match &self.contents {
            Contents::Npy(_) => 0,
            Contents::Text(matrix) => matrix.resident_bytes(),
        }
    }

    /// Bytes read from the file so far, by blocks, by [`identity`](Self::identity), and by opening a text matrix.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// What tells this input from another or from a changed one.
    pub fn identity(&self) -> Result<InputIdentity, ReadMatrixError> {
        let stat = self
            .file
            .stat()
            .map_err(|source| self.read_error(RunError { offset: 0, source }))?;
        let data_len = self.info.file_len - self.info.data_offset;
        let (sample_hash, n_bytes) = identity::sample_hash(&*self.file, self.info.data_offset, data_len)
            .map_err(|source| {
                self.read_error(RunError {
                    offset: self.info.data_offset,
                    source,
                })
            })?;
        self.count(n_bytes);
        Ok(InputIdentity {
            path: self.info.path.display().to_string(),
            len: stat.len,
            mtime_ns: stat.mtime_ns,
            header: self.header_text(),
            sample_hash,
        })
    }

    fn header_text(&self) -> String {
        let MatrixInfo {
            rows,
            cols,
            element,
            byte_order,
            order,
            format,
            ..
        } = &self.info;
        format!(
            "{format} {} {rows} x {cols} {order}",
            element.numpy_descr(*byte_order)
        )
    }

    fn count(&self, n_bytes: u64) {
        self.bytes_read.fetch_add(n_bytes, Ordering::Relaxed);
    }

    fn read_error(&self, RunError { offset, source }: RunError) -> ReadMatrixError {
        let path = self.info.path.clone();
        if source.kind() == io::ErrorKind::UnexpectedEof {
            ReadMatrixError::Changed {
                path,
                end: self.info.file_len,
            }
        } else {
            ReadMatrixError::Io { path, offset, source }
        }
    }
}
