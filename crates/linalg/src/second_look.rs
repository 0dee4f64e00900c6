//! A second look at rows that passed their check but stand out: computed once more, plainly, they must have the same bits.
//!
//! The check's bound is for the largest errors that rounding could make in all elements of a row together, so that it refuses no right
//! row; a wrong one whose error is smaller passes it. Here nothing right is refused either, because the bits of a classical product are
//! defined. What it costs is a few rows of one tile, and only where rows stand out: where something is wrong, or the
//! magnitudes of a row's elements are far apart.

use crate::operand::Number;
use crate::pipeline::TileRequest;
use crate::recompute::{RowsOf, plain_rows};
use crate::tiles::Tile;
use rayon::ThreadPool;
use rayon::prelude::*;
use std::ops::Range;
use tilework_core::failure::Failure;
use tilework_kernel::AlignedBuffer;
use tilework_runtime::TaskContext;

/// What a second look is done with, all of which is idle between tiles.
pub(crate) struct Idle<'a> {
    /// Threads that compute.
    pub(crate) threads: &'a ThreadPool,
    /// Read buffers.
    pub(crate) chunks: &'a mut [AlignedBuffer],
}

/// The first of some rows of a tile by the classical algorithm, counted within it, that is not what it should be.
pub(crate) fn wrong_row<T: Number>(
    request: &TileRequest<'_>,
    tile: &Tile,
    suspects: &[usize],
    (c, leading_dimension): (&[T], usize),
    idle: Idle<'_>,
    context: &TaskContext<'_>,
) -> Result<Option<usize>, Failure> {
    let Idle { threads, chunks } = idle;
    let rows: Vec<u64> = suspects.iter().map(|row| tile.rows.start + *row as u64).collect();
    let keep_on = || context.check_cancelled();
    // Each thread reads and computes its part of the columns.
    let n_parts = chunks.len().min(threads.current_num_threads());
    let cols_each = tile.n_cols().div_ceil(n_parts);
    let differs = |chunk: &mut AlignedBuffer, cols: Range<usize>| {
        let rows_of = RowsOf {
            a: request.a,
            b: request.b,
            formula: request.formula,
            rows: &rows,
            cols: tile.cols.start + cols.start as u64..tile.cols.start + cols.end as u64,
            with_magnitudes: false,
        };
        let plain = plain_rows(&rows_of, chunk.as_mut_slice::<T>(), &keep_on)?;
        let wrong = suspects
            .iter()
            .zip(plain.values.chunks(cols.len()))
            .find(|(row, plain)| {
                let computed = &c[**row * leading_dimension..][cols.clone()];
                bytemuck::cast_slice::<T, u8>(computed) != bytemuck::cast_slice::<T, u8>(plain)
            });
        Ok(wrong.map(|(row, _)| *row))
    };
    let found: Vec<Option<usize>> = threads.install(|| {
        let parts = chunks.par_iter_mut().take(n_parts).enumerate();
        let ranges = parts.map(|(i, chunk)| (chunk, i * cols_each..tile.n_cols().min((i + 1) * cols_each)));
        ranges
            .filter(|(_, cols)| !cols.is_empty())
            .map(|(chunk, cols)| differs(chunk, cols))
            .collect::<Result<_, Failure>>()
    })?;
    Ok(found.into_iter().flatten().next())
}
