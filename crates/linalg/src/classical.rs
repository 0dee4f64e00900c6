//! A tile by the classical algorithm: depth blocks of B are packed, and those of A multiplied with them, one after another for each
//! piece of the tile.

use crate::crew::{Crew, Part, Touches};
use crate::matvec::{Weighted, WeightedMut, add_matvec};
use crate::operand::Number;
use crate::pipeline::{CHECKED, TileWork, Work, offsets};
use crate::reader::ReadPanel;
use crate::schedule::{Panel, Schedule, pieces};
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

/// A band of the tile's rows, over some of its columns.
struct Piece<'a, T> {
    c: MatMut<'a, T>,
    /// The check's sums over the rows, with the first columns.
    sums: Option<WeightedMut<'a>>,
}

/// Columns of a piece: enough to make packing its rows of A cheap, few enough that threads end a tile together.
const PIECE_COLS: usize = 4096;

/// What the threads of a tile share. The crew sees to it that no lock is ever waited for.
pub(crate) struct Classical<'a, T> {
    schedule: &'a Schedule,
    kernel: &'a Kernel<T>,
    /// Of each thread: the packed block of A.
    scratch: &'a [Mutex<AlignedBuffer>],
    /// The check's x, and where |B|·|x| starts.
    x: Weighted<'a>,
    y_magnitude_start: f64,
    blocks: Vec<RwLock<Block<'a, T>>>,
    /// Band by band, from the first columns to the last.
    pieces: Vec<Mutex<Piece<'a, T>>>,
    band_rows: usize,
    piece_cols: usize,
    pieces_per_band: usize,
}

/// Cuts a band by columns.
fn pieces_of_band<'a, T>(c: MatMut<'a, T>, sums: WeightedMut<'a>, piece_cols: usize) -> Vec<Piece<'a, T>> {
    let (mut rest, mut sums) = (c, Some(sums));
    let mut pieces = Vec::new();
    while rest.cols() > 0 {
        let width = piece_cols.min(rest.cols());
        let (c, right) = rest.split_at_col(width);
        pieces.push(Piece { c, sums: sums.take() });
        rest = right;
    }
    pieces
}

impl<'a, T: Number> Classical<'a, T> {
    pub(crate) fn new(schedule: &'a Schedule, parts: TileParts<'a, T>) -> Classical<'a, T> {
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
        let n_cols = c.cols();
        let piece_cols = n_cols
            .div_ceil(n_cols.div_ceil(PIECE_COLS))
            .next_multiple_of(kernel.nr());
        let packed_b = &mut packed_b[..kernel.packed_b_len(layout.packed_depth, n_cols)];
        let block_len = kernel.packed_b_len(T::KC, n_cols);
        let mut pieces = Vec::new();
        let mut rest = c;
        for sums in check.rows.chunks(band_rows) {
            let (band, others) = rest.split_at_row(sums.value.len());
            pieces.extend(pieces_of_band(band, sums, piece_cols));
            rest = others;
        }
        Classical {
            schedule,
            kernel,
            scratch,
            x: check.x,
            y_magnitude_start: check.y_magnitude_start,
            blocks: packed_b
                .chunks_mut(block_len.max(1))
                .zip(check.y.chunks(T::KC))
                .map(|(packed, y)| RwLock::new(Block { packed, y }))
                .collect(),
            pieces: pieces.into_iter().map(Mutex::new).collect(),
            band_rows,
            piece_cols,
            pieces_per_band: n_cols.div_ceil(piece_cols),
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
            if cols.start == 0 {
                y.value.fill(0.0);
                y.magnitude.fill(self.y_magnitude_start);
            }
            add_matvec(b, self.x.part(cols.clone()), y.part(0..b.rows()));
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
        let Piece { c, sums } = &mut *piece;
        let (band, nth) = (piece_idx / self.pieces_per_band, piece_idx % self.pieces_per_band);
        let row = band * self.band_rows - self.schedule.rows_in_tile(rows).start;
        let a = work
            .read
            .view::<T>()
            .sub(row..row + c.rows(), offsets(&work.depth, depth.start));
        if let Some(sums) = sums.as_mut().filter(|_| CHECKED) {
            let y = Weighted {
                value: &block.y.value[..a.cols()],
                magnitude: &block.y.magnitude[..a.cols()],
            };
            add_matvec(a, y, sums.part(0..a.rows()));
        }
        let packed_b = &block.packed[nth * self.piece_cols * a.cols()..];
        let accumulate = work.depth.start > 0;
        self.kernel
            .multiply_band(a, packed_b, c.reborrow(), accumulate, scratch.as_mut_slice());
        2 * (a.rows() * a.cols() * c.cols()) as u64
    }
}

impl<T: Number> TileWork for Classical<'_, T> {
    /// Depth blocks one after another, and of A each block for all pieces before the next one.
    fn feed(&self, crew: &Crew<Work>, read: ReadPanel) {
        let read = Arc::new(read);
        let (Panel::A { depth, .. } | Panel::B { depth, .. }) = &read.request.panel;
        for depth in pieces(depth.clone(), T::KC as u64) {
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
                    for piece in bands.start * self.pieces_per_band..bands.end * self.pieces_per_band {
                        push(Touches {
                            changes: Part::Piece(piece),
                            reads: Some(block),
                        });
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
