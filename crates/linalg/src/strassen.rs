//! A tile by one level of Strassen's algorithm: rows, columns and pairs of depth blocks are halved, and the halves are added to each
//! other while they are packed.
//!
//! The halves are those of the tile, so the result's bits depend on the grid, which is part of the plan. A tile whose inputs are not
//! finite or near overflow is computed classically: that depends on nothing but the inputs and the grid.

use crate::check::share_between_halves;
use crate::crew::{Crew, Part, Touches};
use crate::largest::Largest;
use crate::layout::Layout;
use crate::matvec::{Weighted, WeightedMut, add_matvec};
use crate::operand::{Number, Operand};
use crate::pipeline::{CHECKED, TileWork, Work, offsets};
use crate::reader::ReadPanel;
use crate::schedule::{Panel, Request, pieces};
use crate::tiles::Tile;
use crate::workspace::TileParts;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tilework_kernel::{AlignedBuffer, Kernel, MatMut, MatRef, SumsPlace};
use tilework_runtime::TaskContext;

/// Rows and columns of the upper and left halves are multiples of these, whatever the instruction set: the bits depend on them.
const TOP_ROWS_STEP: usize = 8;
const LEFT_COLS_STEP: usize = 48;
/// Columns of a half that are multiplied as one piece of work.
const PIECE_COLS: usize = 4096;

/// How a tile is halved, and what is read for it.
#[derive(Debug, Clone)]
pub(crate) struct Halves {
    pub(crate) tile: Tile,
    k: u64,
    /// Rows of the upper half; the lower one may have fewer.
    pub(crate) top_rows: usize,
    /// Columns of the left half; the right one may have fewer.
    left_cols: usize,
    /// Depth of two blocks, which are halves of each other.
    pair_depth: u64,
    slab_depth: u64,
    /// Pairs of packed B.
    n_packed_pairs: u64,
    /// Whether rows of op(B) are read whole, so that a chunk is some depth of all columns, or else all depth of some columns.
    whole_rows: bool,
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
        pieces(0..self.k, self.slab_depth).flat_map(move |slab| {
            let pairs = (!is_packed).then(|| pieces(slab.clone(), self.pair_depth));
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
        pieces(0..extent, self.b_chunk).map(move |part| {
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
        pieces(0..top_rows, self.a_chunk_rows).map(move |part| {
            let panel = |rows| Panel::A {
                rows,
                depth: depth.clone(),
            };
            twins(&self.tile.rows, top_rows, &part, panel)
        })
    }

    /// The pair of depth blocks that holds a depth.
    fn pair_at(&self, depth: u64) -> Range<u64> {
        let start = depth / self.pair_depth * self.pair_depth;
        start..self.k.min(start + self.pair_depth)
    }

    /// Where that pair is in packed B.
    fn block_of(&self, depth: u64) -> usize {
        (depth / self.pair_depth % self.n_packed_pairs) as usize
    }
}

/// Depth of the first half of a pair; the second may be shorter.
fn half_of(pair: &Range<u64>) -> u64 {
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

/// The packed sums of a pair of depth blocks, and B·x over its depth.
struct Pair<'a, T> {
    packed: &'a mut [T],
    y: WeightedMut<'a>,
}

/// Corresponding blocks of the four quadrants of C.
struct Piece<'a, T> {
    c: [MatMut<'a, T>; 4],
    /// The check's sums over the upper and lower rows, with the first columns.
    sums: Option<[WeightedMut<'a>; 2]>,
}

/// What the threads of a tile share. The crew sees to it that no lock is ever waited for.
pub(crate) struct Strassen<'a, T> {
    halves: &'a Halves,
    kernel: &'a Kernel<T>,
    scratch: &'a [Mutex<AlignedBuffer>],
    x: Weighted<'a>,
    y_magnitude_start: f64,
    largest_a: &'a Largest,
    largest_b: &'a Largest,
    pairs: Vec<RwLock<Pair<'a, T>>>,
    /// Band by band, from the first columns to the last.
    pieces: Vec<Mutex<Piece<'a, T>>>,
    band_rows: usize,
    piece_cols: usize,
    pieces_per_band: usize,
}

impl<'a, T: Number> Strassen<'a, T> {
    pub(crate) fn new(halves: &'a Halves, parts: TileParts<'a, T>) -> Strassen<'a, T> {
        let TileParts {
            layout,
            kernel,
            scratch,
            packed_b,
            check,
            largest_a,
            largest_b,
            c,
        } = parts;
        let band_rows = layout.band_rows;
        let n_pieces = halves.left_cols.div_ceil(PIECE_COLS).max(1);
        let piece_cols = halves.left_cols.div_ceil(n_pieces).next_multiple_of(kernel.nr());
        let pieces_per_band = halves.left_cols.div_ceil(piece_cols);
        let n_bands = halves.top_rows.div_ceil(band_rows);
        let (top_sums, bottom_sums) = {
            let n_rows = c.rows();
            check.rows.split_at(halves.top_rows.min(n_rows))
        };
        let (n_rows, n_cols) = (c.rows(), c.cols());
        let (top, bottom) = c.split_at_row(halves.top_rows.min(n_rows));
        let left = halves.left_cols.min(n_cols);
        let ((c0, c1), (c2, c3)) = (top.split_at_col(left), bottom.split_at_col(left));
        let mut quadrants = [c0, c1, c2, c3].map(Some);
        let mut sums = [Some(top_sums), Some(bottom_sums)];
        let mut all_pieces = Vec::with_capacity(n_bands * pieces_per_band);
        for _ in 0..n_bands {
            let mut band = quadrants.each_mut().map(|quadrant| {
                let rest = quadrant.take().expect("put back below");
                let rows = band_rows.min(rest.rows());
                let (band, rest) = rest.split_at_row(rows);
                *quadrant = Some(rest);
                Some(band)
            });
            let mut band_sums = Some(sums.each_mut().map(|sums| {
                let rest = sums.take().expect("put back below");
                let rows = band_rows.min(rest.value.len());
                let (band, rest) = rest.split_at(rows);
                *sums = Some(rest);
                band
            }));
            for _ in 0..pieces_per_band {
                let c = band.each_mut().map(|band| {
                    let rest = band.take().expect("put back below");
                    let cols = piece_cols.min(rest.cols());
                    let (piece, rest) = rest.split_at_col(cols);
                    *band = Some(rest);
                    piece
                });
                let sums = band_sums.take();
                all_pieces.push(Mutex::new(Piece { c, sums }));
            }
        }
        let pair_len = kernel.packed_sums_len(T::KC, halves.left_cols);
        Strassen {
            halves,
            kernel,
            scratch,
            x: check.x,
            y_magnitude_start: check.y_magnitude_start,
            largest_a,
            largest_b,
            pairs: packed_b
                .chunks_mut(pair_len)
                .zip(check.y.chunks(2 * T::KC))
                .map(|(packed, y)| RwLock::new(Pair { packed, y }))
                .collect(),
            pieces: all_pieces,
            band_rows,
            piece_cols,
            pieces_per_band,
        }
    }

    /// Packs the sums of a chunk of B, and takes it into B·x.
    fn pack(&self, work: &Work) {
        let (one, two) = (work.read.view::<T>(), work.read.twin_view::<T>());
        let Panel::B { depth, cols } = &work.read.request.panel else {
            unreachable!("only panels of B are packed");
        };
        let mut pair = self.pairs[self.halves.block_of(work.depth.start)]
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let Pair { packed, y } = &mut *pair;
        let half = half_of(&work.depth) as usize;
        let first_step = (depth.start - work.depth.start) as usize;
        let first_col = (cols.start - self.halves.tile.cols.start) as usize;
        self.largest_b.note(one);
        self.largest_b.note(two);
        if CHECKED {
            if first_step == 0 && first_col == 0 {
                y.value.fill(0.0);
                y.magnitude.fill(self.y_magnitude_start);
            }
            self.add_b_x(one, two, first_step, first_col, half, y);
        }
        let left = self.halves.left_cols;
        let (quadrants, place) = if self.halves.whole_rows {
            (
                [
                    columns(one, 0, left),
                    columns(one, left, one.cols()),
                    columns(two, 0, left),
                    columns(two, left, two.cols()),
                ],
                (first_step, 0),
            )
        } else {
            (
                [
                    rows(one, 0, half),
                    rows(two, 0, half),
                    rows(one, half, one.rows()),
                    rows(two, half, two.rows()),
                ],
                (0, first_col),
            )
        };
        let place = SumsPlace {
            depth: half,
            cols: left,
            first_step: place.0,
            first_col: place.1,
        };
        let mut scratch = self.scratch();
        self.kernel
            .pack_b_sums(quadrants, place, packed, scratch.as_mut_slice());
    }

    /// Adds the chunk's part of B·x. Its magnitudes count for both halves of the depth.
    fn add_b_x(
        &self,
        one: MatRef<'_, T>,
        two: MatRef<'_, T>,
        first_step: usize,
        first_col: usize,
        half: usize,
        y: &mut WeightedMut<'_>,
    ) {
        if self.halves.whole_rows {
            let n_steps = one.rows();
            let mut magnitudes = vec![0.0; n_steps + two.rows()];
            for (view, start, place) in [(one, first_step, 0), (two, half + first_step, n_steps)] {
                let out = WeightedMut {
                    value: &mut y.value[start..][..view.rows()],
                    magnitude: &mut magnitudes[place..][..view.rows()],
                };
                if view.rows() > 0 {
                    add_matvec(view, self.x, out);
                }
            }
            share_between_halves(&mut magnitudes, n_steps);
            let (first, second) = magnitudes.split_at(n_steps);
            add(&mut y.magnitude[first_step..], first);
            add(&mut y.magnitude[half + first_step..], second);
        } else {
            let mut magnitudes = vec![0.0; one.rows()];
            let starts = [first_col, self.halves.left_cols + first_col];
            for (view, start) in [one, two].into_iter().zip(starts) {
                if view.cols() > 0 {
                    let out = WeightedMut {
                        value: &mut y.value[..view.rows()],
                        magnitude: &mut magnitudes,
                    };
                    add_matvec(view, self.x.part(start..start + view.cols()), out);
                }
            }
            share_between_halves(&mut magnitudes, half);
            add(y.magnitude, &magnitudes);
        }
    }

    /// Multiplies a pair of depth blocks of a piece's rows of A with packed B, and takes it into A·(B·x). Returns the flops that the
    /// classical product would take.
    fn multiply(&self, work: &Work, piece_idx: usize) -> u64 {
        let Panel::A { rows: top, depth } = &work.read.request.panel else {
            unreachable!("only panels of A are multiplied");
        };
        let mut piece = self.pieces[piece_idx]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let pair = self.pairs[self.halves.block_of(work.depth.start)]
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let Piece { c, sums } = &mut *piece;
        let (band, nth) = (piece_idx / self.pieces_per_band, piece_idx % self.pieces_per_band);
        let first_row = band * self.band_rows - (top.start - self.halves.tile.rows.start) as usize;
        let within = offsets(&work.depth, depth.start);
        let half = half_of(&work.depth) as usize;
        let rows_of = |view: MatRef<'_, T>, rows: usize| {
            let first = first_row.min(view.rows());
            (first..(first + rows).min(view.rows())).len()
        };
        let (upper, lower) = (work.read.view::<T>(), work.read.twin_view::<T>());
        let n_rows = [rows_of(upper, c[0].rows()), rows_of(lower, c[2].rows())];
        if let Some(sums) = sums.as_mut().filter(|_| CHECKED) {
            let y = Weighted {
                value: &pair.y.value[..within.len()],
                magnitude: &pair.y.magnitude[..within.len()],
            };
            for ((view, n_rows), sums) in [upper, lower].into_iter().zip(n_rows).zip(sums) {
                if n_rows > 0 {
                    let a = block(view, first_row, n_rows, within.clone());
                    self.largest_a.note(a);
                    add_matvec(a, y, sums.part(0..n_rows));
                }
            }
        }
        let (first, second) = (within.start..within.start + half, within.start + half..within.end);
        let a = [
            block(upper, first_row, n_rows[0], first.clone()),
            block(upper, first_row, n_rows[0], second.clone()),
            block(lower, first_row, n_rows[1], first),
            block(lower, first_row, n_rows[1], second),
        ];
        let flops = c.iter().map(|c| c.rows() * c.cols()).sum::<usize>() * 2 * within.len();
        let place = SumsPlace {
            depth: half,
            cols: self.halves.left_cols,
            first_step: 0,
            first_col: nth * self.piece_cols,
        };
        let accumulate = work.depth.start > 0;
        let mut scratch = self.scratch();
        let c = c.each_mut().map(MatMut::reborrow);
        self.kernel
            .multiply_strassen(a, pair.packed, place, c, accumulate, scratch.as_mut_slice());
        flops as u64
    }

    fn scratch(&self) -> std::sync::MutexGuard<'_, AlignedBuffer> {
        let thread = rayon::current_thread_index().expect("runs in the pool");
        self.scratch[thread]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Number> TileWork for Strassen<'_, T> {
    fn feed(&self, crew: &Crew<Work>, read: ReadPanel) {
        let read = Arc::new(read);
        match &read.request.panel {
            Panel::B { depth, .. } => {
                let touches = Touches {
                    changes: Part::Block(self.halves.block_of(depth.start)),
                    reads: None,
                };
                let depth = self.halves.pair_at(depth.start);
                let read = Arc::clone(&read);
                crew.push(touches, Work { read, depth });
            }
            Panel::A { rows, depth } => {
                let rows = offsets(rows, self.halves.tile.rows.start);
                let bands = rows.start / self.band_rows..rows.end.div_ceil(self.band_rows);
                for pair in pieces(depth.clone(), self.halves.pair_depth) {
                    let pieces =
                        (0..self.pieces_per_band).flat_map(|nth| bands.clone().map(move |band| (band, nth)));
                    for (band, nth) in pieces {
                        let piece = band * self.pieces_per_band + nth;
                        let touches = Touches {
                            changes: Part::Piece(piece),
                            reads: Some(Part::Block(self.halves.block_of(pair.start))),
                        };
                        let read = Arc::clone(&read);
                        let depth = pair.clone();
                        crew.push(touches, Work { read, depth });
                    }
                }
            }
        }
    }

    fn execute(&self, touches: Touches, work: &Work, context: &TaskContext<'_>) {
        match touches.changes {
            Part::Block(_) => self.pack(work),
            Part::Piece(piece) => {
                let flops = self.multiply(work, piece);
                context.add_work(flops);
            }
        }
    }
}

/// Rows of a half from `first_row` on, if it goes that far.
fn block<T: Copy>(
    view: MatRef<'_, T>,
    first_row: usize,
    n_rows: usize,
    depth: Range<usize>,
) -> MatRef<'_, T> {
    let first = first_row.min(view.rows());
    // Where there is no lower half at all, its view has no columns either.
    let depth = if view.rows() == 0 { 0..0 } else { depth };
    view.sub(first..first + n_rows, depth)
}

fn add(sums: &mut [f64], terms: &[f64]) {
    sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
}

fn columns<T: Copy>(view: MatRef<'_, T>, start: usize, end: usize) -> MatRef<'_, T> {
    view.sub(0..view.rows(), start.min(view.cols())..end.min(view.cols()))
}

fn rows<T: Copy>(view: MatRef<'_, T>, start: usize, end: usize) -> MatRef<'_, T> {
    view.sub(start.min(view.rows())..end.min(view.rows()), 0..view.cols())
}
