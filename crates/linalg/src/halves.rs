//! How a tile is halved for Strassen's algorithm, and what is read for it: what belongs together in two halves comes in one request.

use crate::layout::Layout;
use crate::operand::{Number, Operand};
use crate::schedule::{Panel, Request, spans};
use crate::tiles::Tile;
use std::ops::Range;

/// Rows and columns of the upper and left halves are multiples of these, whatever the instruction set: the bits depend on them.
const TOP_ROWS_STEP: usize = 8;
const LEFT_COLS_STEP: usize = 48;

/// How a tile is halved, and what is read for it.
#[derive(Debug, Clone)]
pub(crate) struct Halves {
    pub(crate) tile: Tile,
    k: u64,
    /// Rows of the upper half; the lower one may have fewer.
    pub(crate) top_rows: usize,
    /// Columns of the left half; the right one may have fewer.
    pub(crate) left_cols: usize,
    /// Depth of two blocks, which are halves of each other.
    pub(crate) pair_depth: u64,
    slab_depth: u64,
    /// Pairs of packed B.
    n_packed_pairs: u64,
    /// Whether rows of op(B) are read whole, so that a chunk is some depth of all columns, or else all depth of some columns.
    pub(crate) whole_rows: bool,
    /// Depth or columns of one half in a chunk of B.
    b_chunk: u64,
    /// Rows of one half in a chunk of A.
    a_chunk_rows: u64,
}

/// Rows of the upper half of a tile.
fn top_rows(n_rows: usize) -> usize {
    n_rows.div_ceil(2).next_multiple_of(TOP_ROWS_STEP)
}

/// Columns of the left half of a tile.
pub(crate) fn left_cols(n_cols: usize) -> usize {
    n_cols.div_ceil(2).next_multiple_of(LEFT_COLS_STEP)
}

impl Halves {
    pub(crate) fn new<T: Number>(layout: &Layout, a: &Operand, b: &Operand, tile: &Tile) -> Halves {
        let chunk_len = layout.chunk_bytes / layout.itemsize;
        let pair_depth = 2 * T::KC;
        let whole_rows = b.is_row_contiguous();
        let b_chunk = if whole_rows {
            chunk_len / (2 * tile.n_cols())
        } else {
            chunk_len / (2 * pair_depth) / layout.panel_cols * layout.panel_cols
        };
        let bands = chunk_len / (2 * layout.slab_depth) / layout.band_rows;
        Halves {
            tile: tile.clone(),
            k: a.cols(),
            top_rows: top_rows(tile.n_rows()),
            left_cols: left_cols(tile.n_cols()),
            pair_depth: pair_depth as u64,
            slab_depth: layout.slab_depth as u64,
            n_packed_pairs: layout.packed_depth.div_ceil(pair_depth) as u64,
            whole_rows,
            b_chunk: b_chunk.max(1) as u64,
            a_chunk_rows: (bands.max(1) * layout.band_rows) as u64,
        }
    }

    /// Chunks that a row of B is read in.
    pub(crate) fn n_col_chunks(&self) -> usize {
        if self.whole_rows {
            1
        } else {
            2 * (self.left_cols as u64).div_ceil(self.b_chunk) as usize
        }
    }

    /// The reads in order: slab by slab, B's (unless its columns are packed already) before A's.
    pub(crate) fn requests(&self, is_packed: bool) -> impl Iterator<Item = Request> {
        spans(0..self.k, self.slab_depth).flat_map(move |slab| {
            let pairs = (!is_packed).then(|| spans(slab.clone(), self.pair_depth));
            let b = pairs
                .into_iter()
                .flatten()
                .flat_map(move |pair| self.requests_of_b(pair));
            b.chain(self.requests_of_a(slab))
        })
    }

    fn requests_of_b(&self, pair: Range<u64>) -> impl Iterator<Item = Request> {
        let (half, extent) = if self.whole_rows {
            (half_of(&pair), half_of(&pair))
        } else {
            // A narrow tile ends before its left half does.
            let n_cols = self.tile.cols.end - self.tile.cols.start;
            (self.left_cols as u64, n_cols.min(self.left_cols as u64))
        };
        spans(0..extent, self.b_chunk).map(move |part| {
            if self.whole_rows {
                let panel = |depth| Panel::B {
                    depth,
                    cols: self.tile.cols.clone(),
                };
                twins(&pair, half, &part, panel)
            } else {
                let panel = |cols| Panel::B {
                    depth: pair.clone(),
                    cols,
                };
                twins(&self.tile.cols, half, &part, panel)
            }
        })
    }

    fn requests_of_a(&self, depth: Range<u64>) -> impl Iterator<Item = Request> {
        let top_rows = self.top_rows as u64;
        spans(0..top_rows, self.a_chunk_rows).map(move |part| {
            let panel = |rows| Panel::A {
                rows,
                depth: depth.clone(),
            };
            twins(&self.tile.rows, top_rows, &part, panel)
        })
    }

    /// The pair of depth blocks that holds a depth.
    pub(crate) fn pair_at(&self, depth: u64) -> Range<u64> {
        let start = depth / self.pair_depth * self.pair_depth;
        start..self.k.min(start + self.pair_depth)
    }

    /// Where that pair is in packed B.
    pub(crate) fn block_of(&self, depth: u64) -> usize {
        (depth / self.pair_depth % self.n_packed_pairs) as usize
    }
}

/// Depth of the first half of a pair; the second may be shorter.
pub(crate) fn half_of(pair: &Range<u64>) -> u64 {
    (pair.end - pair.start).div_ceil(2)
}

/// A part of the first half of `whole`, and what the second half, which begins `half` further on, has beside it.
fn twins(whole: &Range<u64>, half: u64, part: &Range<u64>, panel: impl Fn(Range<u64>) -> Panel) -> Request {
    let within =
        |start: u64, end: u64| (whole.start + start).min(whole.end)..(whole.start + end).min(whole.end);
    let second = within(half + part.start, half + part.end);
    Request {
        panel: panel(within(part.start, part.end)),
        twin: (!second.is_empty()).then(|| panel(second)),
    }
}
