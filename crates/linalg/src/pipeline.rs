//! One tile: panels are read by one thread while all others multiply; every source element passes the check on its way.
//!
//! Chunks of B are packed, chunks of A are multiplied with them, slab of depth by slab; the crew keeps that order where it matters. Where the layout keeps B's columns packed over all depth, the first
//! tile of those columns packs them and the next ones only read A. The reader runs ahead by as many chunks as the layout has
//! buffers, across slabs. No partial product is ever written.

use crate::check::{ErrorModel, Verdict};
use crate::crew::{Crew, Part, Touches};
use crate::matvec::{Weighted, WeightedMut, add_matvec};
use crate::operand::{Number, Operand};
use crate::reader::{Buffers, ReadPanel, read_panels};
use crate::schedule::{Panel, Schedule};
use crate::tiles::Tile;
use crate::workspace::{Lent, Workspace};
use std::ops::Range;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tilework_core::failure::{Cause, Failure};
use tilework_kernel::{AlignedBuffer, Kernel, MatMut};
use tilework_runtime::TaskContext;

/// Off only in the benchmark that measures what the check costs.
pub(crate) const CHECKED: bool = !cfg!(feature = "bench-unchecked");

/// A computed tile.
#[derive(Debug)]
pub struct ComputedTile {
    /// Its elements, row by row in the layout's leading dimension.
    pub buffer: Lent,
    /// What the check says.
    pub verdict: Verdict,
    /// The check's relative bound.
    pub residual_bound: f64,
    /// CRC32C of its rows without padding.
    pub crc32c: u32,
}

/// Computes one tile of op(A)·op(B). `seed` chooses the check's x where B is packed for this tile.
pub fn compute_tile<T: Number>(
    workspace: &mut Workspace<T>,
    a: &Operand,
    b: &Operand,
    tile: &Tile,
    seed: [u8; 32],
    context: &TaskContext<'_>,
) -> Result<ComputedTile, Failure> {
    workspace.refill_chunks()?;
    let schedule = Schedule::new::<T>(&workspace.layout, a, b, tile);
    let model = ErrorModel::new::<T>(a, b, tile.n_cols(), schedule.n_col_chunks());
    // Whatever interrupts the packing leaves nothing that a later tile would take for packed.
    let is_packed = workspace.packed_cols.take().as_ref() == Some(&tile.cols);
    if !is_packed {
        workspace.check.start_columns(model, seed);
    }
    workspace.check.start_tile();
    let mut buffer = workspace.take_tile();
    let ld = workspace.layout.leading_dimension;
    let c = &mut buffer.as_mut_slice::<T>()[..tile.n_rows() * ld];
    if a.cols() == 0 {
        c.fill(T::default());
    }
    stream(workspace, a, b, &schedule, is_packed, c, context)?;
    let (check, band_rows) = (&workspace.check, workspace.layout.band_rows);
    let (verdict, crc32c) = if CHECKED {
        workspace.threads.install(|| check.finish_tile(c, ld, band_rows))
    } else {
        (Verdict::Passed { residual_max: 0.0 }, 0)
    };
    // A tile that failed may have been multiplied with damaged packed columns: the next attempt packs them anew.
    let is_sound = !matches!(verdict, Verdict::Failed { .. });
    if workspace.layout.keeps_columns() && is_sound {
        workspace.packed_cols = Some(tile.cols.clone());
    }
    Ok(ComputedTile {
        buffer,
        verdict,
        residual_bound: model.coefficient,
        crc32c,
    })
}

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
struct Shared<'a, T> {
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

/// One depth block of a panel of B, to be packed, or of a piece's rows of a panel of A, to be multiplied.
struct Work {
    read: Arc<ReadPanel>,
    depth: Range<u64>,
}

/// Reads on a thread of its own, cuts what comes into work here, and has all other threads do it.
fn stream<T: Number>(
    workspace: &mut Workspace<T>,
    a: &Operand,
    b: &Operand,
    schedule: &Schedule,
    is_packed: bool,
    c: &mut [T],
    context: &TaskContext<'_>,
) -> Result<(), Failure> {
    let Workspace {
        layout,
        kernel,
        threads,
        packed_b,
        scratch,
        chunks,
        check,
        ..
    } = workspace;
    let (leading_dimension, band_rows) = (layout.leading_dimension, layout.band_rows);
    let n_cols = schedule.tile.n_cols();
    let sums = check.split(schedule.tile.n_rows(), band_rows, T::KC);
    let piece_cols = n_cols
        .div_ceil(n_cols.div_ceil(PIECE_COLS))
        .next_multiple_of(kernel.nr());
    let block_len = kernel.packed_b_len(T::KC, n_cols);
    let packed_b = &mut packed_b.as_mut_slice::<T>()[..kernel.packed_b_len(layout.packed_depth, n_cols)];
    let shared = Shared {
        schedule,
        kernel,
        scratch,
        x: sums.x,
        y_magnitude_start: sums.y_magnitude_start,
        blocks: packed_b
            .chunks_mut(block_len.max(1))
            .zip(sums.y)
            .map(|(packed, y)| RwLock::new(Block { packed, y }))
            .collect(),
        pieces: c
            .chunks_mut(band_rows * leading_dimension)
            .zip(sums.rows)
            .flat_map(|(c, sums)| {
                let n_rows = c.len() / leading_dimension;
                pieces(
                    MatMut::new(c, n_rows, n_cols, leading_dimension),
                    sums,
                    piece_cols,
                )
            })
            .map(Mutex::new)
            .collect(),
        band_rows,
        piece_cols,
        pieces_per_band: n_cols.div_ceil(piece_cols),
    };
    let (home, free) = channel();
    for chunk in chunks.drain(..) {
        let _ = home.send(chunk);
    }
    let (to_here, filled) = channel();
    let crew = Crew::new();
    std::thread::scope(|scope| {
        let buffers = Buffers { free, home };
        let reader = scope.spawn(|| read_panels::<T>(a, b, schedule.panels(is_packed), buffers, to_here));
        let fed = threads.in_place_scope(|scope| {
            scope.spawn_broadcast(|_, _| crew.work(|touches, work| shared.execute(touches, &work, context)));
            let fed = filled.iter().try_for_each(|read| {
                context.check_cancelled()?;
                shared.feed(&crew, read?);
                Ok(())
            });
            match fed {
                Ok(()) => crew.close(),
                Err(_) => crew.abandon(),
            }
            fed
        });
        drop(filled);
        *chunks = reader
            .join()
            .map_err(|_| Failure::fatal(Cause::Panic, "the reader panicked"))?;
        fed
    })
}

/// Cuts a band by columns.
fn pieces<'a, T>(c: MatMut<'a, T>, sums: WeightedMut<'a>, piece_cols: usize) -> Vec<Piece<'a, T>> {
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

impl<T: Number> Shared<'_, T> {
    /// Cuts a panel into work: its depth blocks one after another, and of A each block for all pieces before the next one.
    fn feed(&self, crew: &Crew<Work>, read: ReadPanel) {
        let read = Arc::new(read);
        let (Panel::A { depth, .. } | Panel::B { depth, .. }) = read.panel.clone();
        for start in depth.clone().step_by(T::KC) {
            let block_depth = start..depth.end.min(start + T::KC as u64);
            let block = Part::Block(self.schedule.block_of(start));
            let push = |touches| {
                let work = Work {
                    read: Arc::clone(&read),
                    depth: block_depth.clone(),
                };
                crew.push(touches, work);
            };
            match &read.panel {
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
        match (touches.changes, &work.read.panel) {
            (Part::Block(_), Panel::B { depth, cols }) => self.pack(work, depth, cols),
            (Part::Piece(piece), Panel::A { rows, depth }) => {
                let flops = self.multiply(work, piece, rows, depth);
                context.add_work(flops);
            }
            _ => unreachable!("a panel of B is packed, one of A is multiplied"),
        }
    }

    /// Packs a depth block of a panel of B, and takes it into B·x.
    fn pack(&self, work: &Work, depth: &Range<u64>, cols: &Range<u64>) {
        let within = offsets(&work.depth, depth.start);
        let b = work.read.view::<T>(depth, cols);
        let b = b.sub(within, 0..b.cols());
        let cols = self.schedule.cols_in_tile(cols);
        let block = &self.blocks[self.schedule.block_of(work.depth.start)];
        let mut block = block.write().unwrap_or_else(PoisonError::into_inner);
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
        let block = &self.blocks[self.schedule.block_of(work.depth.start)];
        let block = block.read().unwrap_or_else(PoisonError::into_inner);
        let Piece { c, sums } = &mut *piece;
        let (band, nth) = (piece_idx / self.pieces_per_band, piece_idx % self.pieces_per_band);
        let row = band * self.band_rows - self.schedule.rows_in_tile(rows).start;
        let a = work
            .read
            .view::<T>(rows, depth)
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

/// A range in indices from `start`.
fn offsets(range: &Range<u64>, start: u64) -> Range<usize> {
    (range.start - start) as usize..(range.end - start) as usize
}
