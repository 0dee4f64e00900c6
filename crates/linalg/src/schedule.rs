//! Which panels of A and B a tile needs, in order, and where they belong.

use crate::layout::Layout;
use crate::operand::{Number, Operand};
use crate::tiles::Tile;
use std::ops::Range;

/// One read, in indices of op(A) and op(B).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Panel {
    /// Depth and columns of op(B).
    B { depth: Range<u64>, cols: Range<u64> },
    /// Rows and depth of op(A).
    A { rows: Range<u64>, depth: Range<u64> },
}

/// What is read into one buffer: a panel, and maybe another that is used together with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) panel: Panel,
    pub(crate) twin: Option<Panel>,
}

impl From<Panel> for Request {
    fn from(panel: Panel) -> Request {
        Request { panel, twin: None }
    }
}

/// The reads of one tile.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    pub(crate) tile: Tile,
    k: u64,
    slab_depth: u64,
    block_depth: u64,
    /// Whether packed B holds all depth, so that places in it are absolute.
    keeps_columns: bool,
    /// Depth and columns of a chunk of B.
    b_chunk: (u64, u64),
    /// Rows of a chunk of A, which is as deep as the slab.
    a_chunk_rows: u64,
}

impl Schedule {
    pub(crate) fn new<T: Number>(layout: &Layout, a: &Operand, b: &Operand, tile: &Tile) -> Schedule {
        let chunk_len = layout.chunk_bytes / layout.itemsize;
        let slab_depth = layout.slab_depth;
        let panel_cols = layout.panel_cols;
        let n_cols = tile.n_cols();
        let whole_panels = |depth: usize| {
            (chunk_len / depth / panel_cols * panel_cols)
                .max(panel_cols)
                .min(n_cols)
        };
        let b_chunk = if b.is_row_contiguous() {
            let cols = whole_panels(T::KC);
            let blocks = if cols == n_cols {
                (chunk_len / (T::KC * n_cols)).max(1)
            } else {
                1
            };
            ((blocks * T::KC).min(slab_depth), cols)
        } else {
            (slab_depth, whole_panels(slab_depth))
        };
        // Whole bands, so that no band is in two chunks.
        let rows = (chunk_len / slab_depth / layout.band_rows).max(1) * layout.band_rows;
        Schedule {
            tile: tile.clone(),
            k: a.cols(),
            slab_depth: slab_depth as u64,
            block_depth: T::KC as u64,
            keeps_columns: layout.keeps_columns(),
            b_chunk: (b_chunk.0 as u64, b_chunk.1 as u64),
            a_chunk_rows: rows as u64,
        }
    }

    /// At least as many chunks as `n_cols` columns of a row of B are read in, for this tile or a wider one.
    pub(crate) fn n_col_chunks(&self, n_cols: usize) -> usize {
        (n_cols as u64).div_ceil(self.b_chunk.1) as usize
    }

    /// The reads in order: slab by slab, B's (unless its columns are packed already) before A's.
    pub(crate) fn requests(&self, is_packed: bool) -> impl Iterator<Item = Request> {
        spans(0..self.k, self.slab_depth).flat_map(move |slab| {
            let b = (!is_packed).then(|| self.panels_of_b(slab.clone()));
            let panels = b.into_iter().flatten().chain(self.panels_of_a(slab));
            panels.map(Request::from)
        })
    }

    fn panels_of_b(&self, slab: Range<u64>) -> impl Iterator<Item = Panel> {
        let (chunk_depth, chunk_cols) = self.b_chunk;
        spans(slab, chunk_depth).flat_map(move |depth| {
            spans(self.tile.cols.clone(), chunk_cols).map(move |cols| Panel::B {
                depth: depth.clone(),
                cols,
            })
        })
    }

    fn panels_of_a(&self, depth: Range<u64>) -> impl Iterator<Item = Panel> {
        spans(self.tile.rows.clone(), self.a_chunk_rows).map(move |rows| Panel::A {
            rows,
            depth: depth.clone(),
        })
    }

    /// The depth block of packed B that holds a depth.
    pub(crate) fn block_of(&self, depth: u64) -> usize {
        let place = if self.keeps_columns {
            depth
        } else {
            depth % self.slab_depth
        };
        (place / self.block_depth) as usize
    }

    /// Rows of op(A) as rows of the tile.
    pub(crate) fn rows_in_tile(&self, rows: &Range<u64>) -> Range<usize> {
        let start = self.tile.rows.start;
        (rows.start - start) as usize..(rows.end - start) as usize
    }

    /// Columns of op(B) as columns of the tile.
    pub(crate) fn cols_in_tile(&self, cols: &Range<u64>) -> Range<usize> {
        let start = self.tile.cols.start;
        (cols.start - start) as usize..(cols.end - start) as usize
    }
}

/// `range` in spans of `len`, the last one shorter.
pub(crate) fn spans(range: Range<u64>, len: u64) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range
        .step_by(len as usize)
        .map(move |start| start..end.min(start + len))
}
