//! What follows a tile's last depth block where C is more than op(A)·op(B): C = alpha·op(A)·op(B) + beta·D, in the tile's own
//! memory.
//!
//! D's part of the tile is read once, piece by piece into one of the read buffers, which are all free by now; what was read
//! goes into D·x before it goes into C. The check's sums become those of alpha·A·(B·x) + beta·D·x alongside.

use crate::certify::KeepOn;
use crate::check::{CheckParts, ErrorModel};
use crate::formula::{Addend, Factors, Formula};
use crate::layout::Layout;
use crate::matvec::{Weighted, WeightedMut, add_matvec, chain_len};
use crate::operand::{Number, Operand};
use crate::pipeline::CHECKED;
use crate::plan::Algorithm;
use crate::tiles::Tile;
use crate::workspace::Workspace;
use pulp::Arch;
use rayon::prelude::*;
use std::ops::Range;
use tilework_core::failure::Failure;
use tilework_kernel::MatRef;

/// Rows that a thread works on at a time.
const BLOCK_ROWS: usize = 16;
/// The smallest number of runs in a full read: so few that the runs are long, enough to fill a cache line across them.
const RUNS_MIN: usize = 16;
/// Columns worked on at a time, so that both C and a D that is stored by columns are met in whole cache lines.
const BLOCK_COLS: usize = 8;

/// What is done to one tile.
#[derive(Debug)]
pub(crate) struct Epilogue<'a> {
    formula: &'a Formula,
    tile: &'a Tile,
    cut: Cut,
}

/// Rows and columns of D that are read at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    rows: usize,
    cols: usize,
}

/// Some rows of the tile, with their sums of the check.
struct Block<'a, T> {
    c: &'a mut [T],
    sums: WeightedMut<'a>,
}

impl<'a> Epilogue<'a> {
    /// `None` where C is op(A)·op(B) itself.
    pub(crate) fn new(formula: &'a Formula, layout: &Layout, tile: &'a Tile) -> Option<Epilogue<'a>> {
        let whole = Cut {
            rows: tile.n_rows(),
            cols: tile.n_cols(),
        };
        let cut = formula.d().map_or(whole, |d| Cut::new(layout, d, tile.n_cols()));
        (!formula.is_plain()).then_some(Epilogue { formula, tile, cut })
    }

    /// The error model of the product, enlarged by what happens here. The same for all tiles of the same columns.
    pub(crate) fn enlarge<T: Number>(&self, model: ErrorModel) -> ErrorModel {
        let Some(d) = self.formula.d() else {
            return model.enlarged::<T>(0, 0);
        };
        let d_x = chain_len(self.cut.cols, d.is_row_contiguous());
        model.enlarged::<T>(d_x, self.tile.n_cols().div_ceil(self.cut.cols))
    }

    /// Turns the product in `c` and the check's sums into those of the formula.
    ///
    /// # Errors
    /// If D can't be read, or the work should stop.
    pub(crate) fn apply<T: Number>(
        &self,
        workspace: &mut Workspace<T>,
        model: &ErrorModel,
        c: &mut [T],
        keep_on: KeepOn<'_>,
    ) -> Result<(), Failure> {
        let Workspace {
            layout,
            threads,
            chunks,
            check,
            largest_d,
            ..
        } = workspace;
        let ld = layout.leading_dimension;
        let CheckParts { x, rows, .. } = check.split(self.tile.n_rows());
        let mut blocks: Vec<Block<'_, T>> = c
            .chunks_mut(BLOCK_ROWS * ld)
            .zip(rows.chunks(BLOCK_ROWS))
            .map(|(c, sums)| Block { c, sums })
            .collect();
        let factors = self.formula.factors::<T>();
        let alpha = self.formula.alpha();
        threads.install(|| {
            let n_cols = self.tile.n_cols();
            blocks.par_iter_mut().for_each(|block| {
                block.scale_sums(alpha, model);
                if self.formula.addend().is_none() {
                    block.scale(&factors, ld, n_cols);
                }
            });
        });
        let Some(addend) = self.formula.addend() else {
            return Ok(());
        };
        let chunk = chunks
            .first_mut()
            .expect("all read buffers are back between tiles");
        for (rows, cols) in self.pieces() {
            keep_on()?;
            let (from_row, from_col) = (self.tile.rows.start, self.tile.cols.start);
            let d = addend.d.read(
                from_row + rows.start as u64..from_row + rows.end as u64,
                from_col + cols.start as u64..from_col + cols.end as u64,
                chunk.as_mut_slice::<T>(),
            )?;
            let x = x.part(cols.clone());
            let blocks = &mut blocks[rows.start / BLOCK_ROWS..rows.end.div_ceil(BLOCK_ROWS)];
            threads.install(|| {
                blocks.par_iter_mut().enumerate().for_each(|(i, block)| {
                    let rows = i * BLOCK_ROWS..d.rows().min((i + 1) * BLOCK_ROWS);
                    let d = d.sub(rows, 0..d.cols());
                    if layout.algorithm == Algorithm::Strassen {
                        largest_d.note(d);
                    }
                    block.add_sums(addend, d, x, model);
                    block.combine(&factors, d, ld, cols.start);
                });
            });
        }
        Ok(())
    }

    /// Rows and columns of the tile that are read together, whole blocks of rows.
    fn pieces(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let (n_rows, n_cols, cut) = (self.tile.n_rows(), self.tile.n_cols(), self.cut);
        (0..n_rows).step_by(cut.rows).flat_map(move |row| {
            let rows = row..n_rows.min(row + cut.rows);
            (0..n_cols)
                .step_by(cut.cols)
                .map(move |col| (rows.clone(), col..n_cols.min(col + cut.cols)))
        })
    }
}

impl Cut {
    /// Depends on the tallest tile's height, not on this tile's, so that tiles of the same columns have one error model.
    fn new(layout: &Layout, d: &Operand, n_cols: usize) -> Cut {
        let len = layout.chunk_bytes / layout.itemsize;
        let run_max = (len / RUNS_MIN).max(1);
        if d.is_row_contiguous() {
            let cols = n_cols.clamp(1, run_max);
            let rows = (len / cols / BLOCK_ROWS).max(1) * BLOCK_ROWS;
            Cut { rows, cols }
        } else {
            let tall = layout.tile_rows.next_multiple_of(BLOCK_ROWS);
            let rows = tall.clamp(BLOCK_ROWS, (run_max / BLOCK_ROWS).max(1) * BLOCK_ROWS);
            let cols = (len / rows).clamp(1, n_cols.max(1));
            Cut { rows, cols }
        }
    }
}

impl<T: Number> Block<'_, T> {
    /// A·(B·x) becomes alpha·A·(B·x).
    fn scale_sums(&mut self, alpha: f64, model: &ErrorModel) {
        for (value, magnitude) in self.sums.value.iter_mut().zip(&mut *self.sums.magnitude) {
            *value *= alpha;
            *magnitude = *magnitude * alpha.abs() + model.magnitude_start_c();
        }
    }

    /// Adds beta·D·x, for some columns of D.
    fn add_sums(&mut self, addend: &Addend, d: MatRef<'_, T>, x: Weighted<'_>, model: &ErrorModel) {
        if !CHECKED {
            return;
        }
        let mut d_x = [0.0; BLOCK_ROWS];
        let mut d_x_magnitude = [model.magnitude_start_d(); BLOCK_ROWS];
        let sums = WeightedMut {
            value: &mut d_x[..d.rows()],
            magnitude: &mut d_x_magnitude[..d.rows()],
        };
        add_matvec(d, x, sums);
        for (i, (value, magnitude)) in self
            .sums
            .value
            .iter_mut()
            .zip(&mut *self.sums.magnitude)
            .enumerate()
        {
            *value += addend.beta * d_x[i];
            *magnitude += addend.beta.abs() * d_x_magnitude[i];
        }
    }

    fn scale(&mut self, factors: &Factors<T>, leading_dimension: usize, n_cols: usize) {
        // The same operations on any instruction set: only their width differs.
        Arch::new().dispatch(|| {
            for row in self.c.chunks_mut(leading_dimension) {
                row[..n_cols].iter_mut().for_each(|c| *c = factors.scale(*c));
            }
        });
    }

    fn combine(
        &mut self,
        factors: &Factors<T>,
        d: MatRef<'_, T>,
        leading_dimension: usize,
        first_col: usize,
    ) {
        let c = &mut *self.c;
        Arch::new().dispatch(|| {
            if d.col_stride() == 1 {
                combine_rows(factors, c, leading_dimension, first_col, d);
            } else {
                combine_columns(factors, c, leading_dimension, first_col, d);
            }
        });
    }
}

#[inline(always)]
fn combine_rows<T: Number>(factors: &Factors<T>, c: &mut [T], ld: usize, first_col: usize, d: MatRef<'_, T>) {
    for (i, row) in c.chunks_mut(ld).enumerate() {
        let d_row = &d.data()[i * d.row_stride()..][..d.cols()];
        for (c, d) in row[first_col..].iter_mut().zip(d_row) {
            *c = factors.combine(*c, *d);
        }
    }
}

#[inline(always)]
fn combine_columns<T: Number>(
    factors: &Factors<T>,
    c: &mut [T],
    ld: usize,
    first_col: usize,
    d: MatRef<'_, T>,
) {
    for col in (0..d.cols()).step_by(BLOCK_COLS) {
        let end = d.cols().min(col + BLOCK_COLS);
        for (i, row) in c.chunks_mut(ld).enumerate() {
            for (j, c) in (col..end).zip(&mut row[first_col + col..]) {
                *c = factors.combine(*c, d.get(i, j));
            }
        }
    }
}

#[cfg(test)]
mod tests;
