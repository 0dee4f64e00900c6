//! A tile by the classical algorithm: depth blocks of B are packed, and those of A multiplied with them, one after another for each
//! piece of the tile.

use crate::crew::{Crew, Part, Touches};
use crate::matvec::{Weighted, WeightedMut, add_matvec};
use crate::operand::Number;
use crate::packed_cols::PackedCols;
use crate::pipeline::{CHECKED, TileWork, Work, offsets};
use crate::reader::ReadPanel;
use crate::schedule::{Panel, Schedule, spans};
use crate::workspace::TileParts;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tilework_kernel::{AlignedBuffer, Kernel, MatMut};
use tilework_runtime::TaskContext;

/// A depth block of packed B, and B·x over its depth.
struct Block<'a, T> {
    packed: &'a mut [T],
    y: WeightedMut<'a>,
}

/// Some of a band's rows, over some of its columns.
struct Piece<'a, T> {
    c: MatMut<'a, T>,
    /// Where it begins in the tile.
    row: usize,
    col: usize,
    /// The check's sums over the rows, with the first columns.
    sums: Option<WeightedMut<'a>>,
}

/// Columns of a piece: enough to make packing its rows of A cheap, few enough that threads end a tile together.
const PIECE_COLS: usize = 4096;

/// Rows of the pieces that cross the diagonal: few, because half of each lies above it, and enough that the panels of B which pass
/// are used.
pub(crate) const DIAGONAL_ROWS: usize = 48;

/// What is computed of a tile, from what.
#[derive(Clone, Copy)]
pub(crate) struct ClassicalPlan<'a> {
    pub(crate) schedule: &'a Schedule,
    pub(crate) packed_cols: &'a PackedCols,
    /// Whether what lies above the diagonal is left out, but for a few elements beside it.
    pub(crate) to_diagonal: bool,
}

impl<'a> ClassicalPlan<'a> {
    /// Cuts a band that begins with `row`. Left of the diagonal it is cut by columns; what crosses the diagonal by rows, which end with
    /// the first whole panel of B beyond it.
    fn pieces_of_band<T>(
        &self,
        c: MatMut<'a, T>,
        sums: WeightedMut<'a>,
        row: usize,
        nr: usize,
    ) -> Vec<Piece<'a, T>> {
        let tile = &self.schedule.tile;
        let n_left_cols = if self.to_diagonal {
            let cols = tile.n_cols_to_diagonal(row);
            // The band's columns may all lie below the diagonal, whole panels or not.
            if cols == tile.n_cols() {
                cols
            } else {
                cols / nr * nr
            }
        } else {
            tile.n_cols()
        };
        let (left, mut crossing) = c.split_at_col(n_left_cols);
        let (left_sums, mut crossing_sums) = if n_left_cols > 0 {
            (Some(sums), None)
        } else {
            (None, Some(sums))
        };
        let mut pieces = cut_by_columns(left, left_sums, row, nr);
        let (mut row, col) = (row, n_left_cols);
        while crossing.rows() > 0 && crossing.cols() > 0 {
            let n_rows = DIAGONAL_ROWS.min(crossing.rows());
            let (c, below) = crossing.split_at_row(n_rows);
            let n_cols = (tile.n_cols_to_diagonal(row + n_rows) - col)
                .next_multiple_of(nr)
                .min(c.cols());
            let (sums, sums_below) = crossing_sums.map(|sums| sums.split_at(n_rows)).unzip();
            let c = c.split_at_col(n_cols).0;
            pieces.push(Piece { c, row, col, sums });
            (crossing, crossing_sums) = (below, sums_below);
            row += n_rows;
        }
        pieces
    }

    /// Elements of a piece that are wanted.
    fn n_wanted<T>(&self, piece: &Piece<'_, T>) -> usize {
        let (n_rows, n_cols) = (piece.c.rows(), piece.c.cols());
        let to_diagonal = |row: usize| self.schedule.tile.n_cols_to_diagonal(row + 1);
        if self.to_diagonal {
            (piece.row..piece.row + n_rows)
                .map(|row| to_diagonal(row).clamp(piece.col, piece.col + n_cols) - piece.col)
                .sum()
        } else {
            n_rows * n_cols
        }
    }
}

/// Cuts a block into pieces of much the same width.
fn cut_by_columns<'a, T>(
    c: MatMut<'a, T>,
    mut sums: Option<WeightedMut<'a>>,
    row: usize,
    nr: usize,
) -> Vec<Piece<'a, T>> {
    let n_pieces = c.cols().div_ceil(PIECE_COLS).max(1);
    let piece_cols = c.cols().div_ceil(n_pieces).next_multiple_of(nr);
    let mut rest = c;
    let mut pieces = Vec::new();
    while rest.cols() > 0 {
        let width = piece_cols.min(rest.cols());
        let (c, right) = rest.split_at_col(width);
        let (col, sums) = (pieces.len() * piece_cols, sums.take());
        pieces.push(Piece { c, row, col, sums });
        rest = right;
    }
    pieces
}

/// What the threads of a tile share. The crew sees to it that no lock is ever waited for.
pub(crate) struct Classical<'a, T> {
    plan: ClassicalPlan<'a>,
    schedule: &'a Schedule,
    kernel: &'a Kernel<T>,
    /// Of each thread: the packed block of A.
    scratch: &'a [Mutex<AlignedBuffer>],
    /// The check's x, and where |B|·|x| starts.
    x: Weighted<'a>,
    y_magnitude_start: f64,
    blocks: Vec<RwLock<Block<'a, T>>>,
    /// The group of packed columns with which the tile ends.
    group: usize,
    /// Band by band, from the first columns to the last.
    pieces: Vec<Mutex<Piece<'a, T>>>,
    /// Where in `pieces` each band begins, and the last one ends.
    band_starts: Vec<usize>,
    band_rows: usize,
}

impl<'a, T: Number> Classical<'a, T> {
    pub(crate) fn new(plan: ClassicalPlan<'a>, parts: TileParts<'a, T>) -> Classical<'a, T> {
        let TileParts {
            layout,
            kernel,
            scratch,
            packed_b,
            check,
            c,
            ..
        } = parts;
        let band_rows = layout.band_rows;
        let ClassicalPlan {
            schedule,
            packed_cols,
            ..
        } = plan;
        let (n_cols, n_groups) = (packed_cols.n_cols(), packed_cols.n_groups());
        let packed_b = &mut packed_b[..kernel.packed_b_len(layout.packed_depth, n_cols)];
        let block_len = kernel.packed_b_len(T::KC, n_cols);
        let (mut pieces, mut band_starts) = (Vec::new(), vec![0]);
        let (mut rest, mut row) = (c, 0);
        for sums in check.rows.chunks(band_rows) {
            let n_rows = sums.value.len();
            let (band, others) = rest.split_at_row(n_rows);
            pieces.extend(plan.pieces_of_band(band, sums, row, kernel.nr()));
            band_starts.push(pieces.len());
            rest = others;
            row += n_rows;
        }
        let group = packed_cols.group_of(&schedule.tile.cols);
        let y = WeightedMut {
            value: &mut check.y.value[..layout.packed_depth * n_groups],
            magnitude: &mut check.y.magnitude[..layout.packed_depth * n_groups],
        };
        Classical {
            plan,
            schedule,
            kernel,
            scratch,
            x: check.x,
            y_magnitude_start: check.y_magnitude_start,
            blocks: packed_b
                .chunks_mut(block_len.max(1))
                .zip(y.chunks(T::KC * n_groups))
                .map(|(packed, y)| RwLock::new(Block { packed, y }))
                .collect(),
            group: group.expect("the tile's columns are packed, or will be"),
            pieces: pieces.into_iter().map(Mutex::new).collect(),
            band_starts,
            band_rows,
        }
    }

    /// Packs a depth block of a panel of B, and takes it into B·x.
    fn pack(&self, work: &Work, depth: &Range<u64>, cols: &Range<u64>) {
        let b = work.read.view::<T>();
        let b = b.sub(offsets(&work.depth, depth.start), 0..b.cols());
        let cols = self.schedule.cols_in_tile(cols);
        let mut block = self.blocks[self.schedule.block_of(work.depth.start)]
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let Block { packed, y } = &mut *block;
        if CHECKED {
            let packed_cols = self.plan.packed_cols;
            packed_cols.add(y, self.y_magnitude_start, cols.clone(), |part, mut y| {
                let part_of_b = b.sub(0..b.rows(), part.start - cols.start..part.end - cols.start);
                add_matvec(part_of_b, self.x.part(part), y.part(0..b.rows()));
            });
        }
        let nr = self.kernel.nr();
        let panels = packed[cols.start * b.rows()..].chunks_exact_mut(b.rows() * nr);
        for (first, panel) in (0..b.cols()).step_by(nr).zip(panels) {
            let cols = first..b.cols().min(first + nr);
            self.kernel.pack_b_panel(b.sub(0..b.rows(), cols), panel);
        }
    }

    /// Multiplies a depth block of a piece's rows of A with packed B, and takes it into A·(B·x). Returns the flops.
    fn multiply(&self, work: &Work, piece_idx: usize, rows: &Range<u64>, depth: &Range<u64>) -> u64 {
        let thread = rayon::current_thread_index().expect("runs in the pool");
        let mut scratch = self.scratch[thread]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut piece = self.pieces[piece_idx]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let block = self.blocks[self.schedule.block_of(work.depth.start)]
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let n_wanted = self.plan.n_wanted(&piece);
        let Piece { c, row, col, sums } = &mut *piece;
        let row = *row - self.schedule.rows_in_tile(rows).start;
        let a = work
            .read
            .view::<T>()
            .sub(row..row + c.rows(), offsets(&work.depth, depth.start));
        if let Some(sums) = sums.as_mut().filter(|_| CHECKED) {
            let y = self.plan.packed_cols.y_of(&block.y, self.group, a.cols());
            add_matvec(a, y, sums.part(0..a.rows()));
        }
        let packed_b = &block.packed[*col * a.cols()..];
        let accumulate = work.depth.start > 0;
        self.kernel
            .multiply_band(a, packed_b, c.reborrow(), accumulate, scratch.as_mut_slice());
        2 * (n_wanted * a.cols()) as u64
    }
}

impl<T: Number> TileWork for Classical<'_, T> {
    /// Depth blocks one after another, and of A each block for all pieces before the next one.
    fn feed(&self, crew: &Crew<Work>, read: ReadPanel) {
        let read = Arc::new(read);
        let (Panel::A { depth, .. } | Panel::B { depth, .. }) = &read.request.panel;
        for depth in spans(depth.clone(), T::KC as u64) {
            let block = Part::Block(self.schedule.block_of(depth.start));
            let push = |touches| {
                let work = Work {
                    read: Arc::clone(&read),
                    depth: depth.clone(),
                };
                crew.push(touches, work);
            };
            match &read.request.panel {
                Panel::B { .. } => push(Touches {
                    changes: block,
                    reads: None,
                }),
                Panel::A { rows, .. } => {
                    let rows = self.schedule.rows_in_tile(rows);
                    let bands = rows.start / self.band_rows..rows.end.div_ceil(self.band_rows);
                    // Columns by columns: the bands share what the caches hold of packed B.
                    let n_pieces = |band: usize| self.band_starts[band + 1] - self.band_starts[band];
                    for nth in 0..bands.clone().map(n_pieces).max().unwrap_or(0) {
                        for band in bands.clone().filter(|band| nth < n_pieces(*band)) {
                            push(Touches {
                                changes: Part::Piece(self.band_starts[band] + nth),
                                reads: Some(block),
                            });
                        }
                    }
                }
            }
        }
    }

    fn execute(&self, touches: Touches, work: &Work, context: &TaskContext<'_>) {
        match (touches.changes, &work.read.request.panel) {
            (Part::Block(_), Panel::B { depth, cols }) => self.pack(work, depth, cols),
            (Part::Piece(piece), Panel::A { rows, depth }) => {
                let flops = self.multiply(work, piece, rows, depth);
                context.add_work(flops);
            }
            _ => unreachable!("a panel of B is packed, one of A is multiplied"),
        }
    }
}
