//! An `.npy` file as an input: sub-blocks, read in the file's own order and converted on the way.
//!
//! One read per contiguous run. Where the file's elements are the wanted ones, they go straight to the caller's
//! memory; otherwise through a buffer of fixed size.

use std::io;
use std::ops::Range;

use super::convert::{convert, is_native};
use super::header::NpyHeader;
use crate::disk::{DiskFile, DiskFileExt};
use crate::element_type::Scalar;
use crate::matrix::StorageOrder;

/// Bytes that are converted at a time; a multiple of every element's size.
const CONVERT_BYTES: usize = 64 * 1024;

/// A read that failed.
#[derive(Debug)]
pub(crate) struct RunError {
    /// Where in the file the run starts.
    pub(crate) offset: u64,
    /// Of kind `UnexpectedEof` where the file has become shorter.
    pub(crate) source: io::Error,
}

/// Reads `rows` x `cols` into `out`, in the file's order; returns (row stride, column stride) in elements.
pub(crate) fn read_npy_block<T: Scalar>(
    file: &dyn DiskFile,
    header: &NpyHeader,
    rows: Range<u64>,
    cols: Range<u64>,
    out: &mut [T],
) -> Result<(usize, usize), RunError> {
    let n_rows = (rows.end - rows.start) as usize;
    let n_cols = (cols.end - cols.start) as usize;
    // `lines` are rows of a row-major file and columns of a column-major one.
    let (line_len, lines, within, strides) = match header.order {
        StorageOrder::RowMajor => (header.cols, rows, cols, (n_cols, 1)),
        StorageOrder::ColumnMajor => (header.rows, cols, rows, (1, n_rows)),
    };
    let within_len = (within.end - within.start) as usize;
    if out.is_empty() {
        return Ok(strides);
    }
    let run_len = if within_len as u64 == line_len {
        out.len()
    } else {
        within_len
    };
    for (line, run) in (lines.start..).zip(out.chunks_exact_mut(run_len)) {
        let element_idx = line * line_len + within.start;
        read_run(file, header, element_idx, run)?;
    }
    Ok(strides)
}

/// Reads consecutive elements from `element_idx` on.
fn read_run<T: Scalar>(
    file: &dyn DiskFile,
    header: &NpyHeader,
    element_idx: u64,
    out: &mut [T],
) -> Result<(), RunError> {
    let size = header.element.size();
    let mut offset = header.data_offset + element_idx * size;
    let failed = |offset, source| RunError { offset, source };
    if is_native::<T>(header.element, header.byte_order) {
        return file
            .read_exact_at(bytemuck::cast_slice_mut(out), offset)
            .map_err(|error| failed(offset, error));
    }
    let mut buffer = [0_u8; CONVERT_BYTES];
    for part in out.chunks_mut(CONVERT_BYTES / size as usize) {
        let bytes = &mut buffer[..part.len() * size as usize];
        file.read_exact_at(bytes, offset)
            .map_err(|error| failed(offset, error))?;
        convert(header.element, header.byte_order, bytes, part);
        offset += bytes.len() as u64;
    }
    Ok(())
}
