//! A tile by one level of Strassen's algorithm: rows, columns and pairs of depth blocks are halved, and the halves are added to each
//! other while they are packed.
//!
//! The halves are those of the tile, so the result's bits depend on the grid, which is part of the plan. A tile whose inputs are not
//! finite or near overflow is computed classically: that depends on nothing but the inputs and the grid.

use crate::check::share_between_halves;
use crate::crew::{Crew, Part, Touches};
use crate::halves::{Halves, half_of};
use crate::largest::Largest;
use crate::matvec::{Weighted, WeightedMut, add_matvec};
use crate::operand::Number;
use crate::pipeline::{CHECKED, TileWork, Work, offsets};
use crate::reader::ReadPanel;
use crate::schedule::{Panel, spans};
use crate::workspace::TileParts;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tilework_kernel::{AlignedBuffer, Kernel, MatMut, MatRef, SumsPlace};
use tilework_runtime::TaskContext;

/// Columns of a half that are multiplied as one piece of work.
const PIECE_COLS: usize = 4096;

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
                for pair in spans(depth.clone(), self.halves.pair_depth) {
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
