//! One tile: panels are read by one thread while all others multiply; every source element passes the check on its way.
//!
//! For each slab of depth: chunks of B are read and packed, then chunks of A are read and multiplied with the packed slab.
//! The reader runs ahead by as many chunks as the layout has buffers, across slabs. No partial product is ever written.

use crate::check::{ErrorModel, Verdict};
use crate::layout::Layout;
use crate::matvec::add_matvec;
use crate::operand::{Number, Operand};
use crate::tiles::Tile;
use crate::workspace::{TileBuffer, Workspace};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, Sender, channel};
use tilework_core::failure::{Cause, Failure};
use tilework_kernel::{AlignedBuffer, MatRef};
use tilework_runtime::TaskContext;

/// Off only in the benchmark that measures what the check costs.
pub(crate) const CHECKED: bool = !cfg!(feature = "bench-unchecked");

/// One read, in indices of op(A) and op(B).
#[derive(Debug, Clone, PartialEq, Eq)]
enum Panel {
    /// Depth and columns of op(B).
    B { depth: Range<u64>, cols: Range<u64> },
    /// Rows and depth of op(A).
    A { rows: Range<u64>, depth: Range<u64> },
}

/// A read panel: the buffer, and where its elements are.
struct ReadPanel {
    panel: Panel,
    buffer: AlignedBuffer,
    row_stride: usize,
    col_stride: usize,
}

/// A computed tile.
#[derive(Debug)]
pub struct ComputedTile {
    /// Its elements, row by row in the layout's leading dimension.
    pub buffer: TileBuffer,
    /// What the check says.
    pub verdict: Verdict,
    /// The check's relative bound.
    pub residual_bound: f64,
    /// CRC32C of its rows without padding.
    pub crc32c: u32,
}

/// Computes one tile of op(A)·op(B).
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
    let model = ErrorModel::new::<T>(
        a,
        b,
        tile.n_cols(),
        workspace.layout.slab_depth,
        schedule.n_col_chunks(),
    );
    workspace.check.start_tile(model, seed);
    let mut buffer = workspace.take_tile();
    let ld = workspace.layout.leading_dimension;
    let c = &mut buffer.as_mut_slice::<T>()[..tile.n_rows() * ld];
    if a.cols() == 0 {
        c.fill(T::default());
    }
    stream(workspace, a, b, &schedule, c, context)?;
    let (check, band_rows) = (&workspace.check, workspace.layout.band_rows);
    let (verdict, crc32c) = if CHECKED {
        workspace.threads.install(|| check.finish_tile(c, ld, band_rows))
    } else {
        (Verdict::Passed { residual_max: 0.0 }, 0)
    };
    Ok(ComputedTile {
        buffer,
        verdict,
        residual_bound: model.coefficient,
        crc32c,
    })
}

/// Reads on a thread of its own and consumes here.
fn stream<T: Number>(
    workspace: &mut Workspace<T>,
    a: &Operand,
    b: &Operand,
    schedule: &Schedule,
    c: &mut [T],
    context: &TaskContext<'_>,
) -> Result<(), Failure> {
    let (to_reader, free) = channel();
    let (to_consumer, filled) = channel();
    for chunk in workspace.chunks.drain(..) {
        let _ = to_reader.send(chunk);
    }
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_panels::<T>(a, b, schedule, free, to_consumer));
        let consumed = consume(workspace, schedule, filled, &to_reader, c, context);
        drop(to_reader);
        workspace.chunks = reader
            .join()
            .map_err(|_| Failure::fatal(Cause::Panic, "the reader panicked"))?;
        consumed
    })
}

/// Fills buffers in the schedule's order until it ends or nobody wants more; returns the buffers it has left.
fn read_panels<T: Number>(
    a: &Operand,
    b: &Operand,
    schedule: &Schedule,
    free: Receiver<AlignedBuffer>,
    filled: Sender<Result<ReadPanel, Failure>>,
) -> Vec<AlignedBuffer> {
    for panel in schedule.panels() {
        let Ok(mut buffer) = free.recv() else { break };
        let out = buffer.as_mut_slice::<T>();
        let view = match &panel {
            Panel::B { depth, cols } => b.read(depth.clone(), cols.clone(), out),
            Panel::A { rows, depth } => a.read(rows.clone(), depth.clone(), out),
        };
        let strides = view.map(|view| (view.row_stride(), view.col_stride()));
        let failed = strides.is_err();
        let read = strides.map(|(row_stride, col_stride)| ReadPanel {
            panel,
            buffer,
            row_stride,
            col_stride,
        });
        if filled.send(read).is_err() || failed {
            break;
        }
    }
    drop(filled);
    free.iter().collect()
}

fn consume<T: Number>(
    workspace: &mut Workspace<T>,
    schedule: &Schedule,
    filled: Receiver<Result<ReadPanel, Failure>>,
    to_reader: &Sender<AlignedBuffer>,
    c: &mut [T],
    context: &TaskContext<'_>,
) -> Result<(), Failure> {
    for read in filled {
        context.check_cancelled()?;
        let read = read?;
        match &read.panel {
            Panel::B { depth, cols } => pack_b(workspace, schedule, &read, depth, cols),
            Panel::A { rows, depth } => {
                multiply_a(workspace, schedule, &read, rows, depth, c);
                let n_cols = schedule.tile.n_cols() as u64;
                context.add_work(2 * (rows.end - rows.start) * (depth.end - depth.start) * n_cols);
            }
        }
        let _ = to_reader.send(read.buffer);
    }
    Ok(())
}

impl ReadPanel {
    fn view<T: Number>(&self, rows: &Range<u64>, cols: &Range<u64>) -> MatRef<'_, T> {
        let (n_rows, n_cols) = ((rows.end - rows.start) as usize, (cols.end - cols.start) as usize);
        MatRef::new(
            &self.buffer.as_slice()[..n_rows * n_cols],
            n_rows,
            n_cols,
            self.row_stride,
            self.col_stride,
        )
    }
}

/// Packs a chunk of B into its place in the slab, and takes it into B·x.
fn pack_b<T: Number>(
    workspace: &mut Workspace<T>,
    schedule: &Schedule,
    read: &ReadPanel,
    depth: &Range<u64>,
    cols: &Range<u64>,
) {
    let Workspace {
        layout,
        kernel,
        threads,
        slab,
        check,
        ..
    } = workspace;
    let b = read.view::<T>(depth, cols);
    let (slab_start, slab_depth) = schedule.slab_of(depth.start);
    let depth_start = (depth.start - slab_start) as usize;
    let col_start = (cols.start - schedule.tile.cols.start) as usize;
    let padded_cols = schedule.tile.n_cols().next_multiple_of(kernel.nr());
    let slab = &mut slab.as_mut_slice::<T>()[..layout.slab_depth * padded_cols];
    threads.install(|| {
        if CHECKED {
            if depth_start == 0 && col_start == 0 {
                check.start_slab();
            }
            check.add_b(b, depth_start, col_start);
        }
        for block_start in (depth_start..depth_start + b.rows()).step_by(T::KC) {
            // A block's panels follow one another; a chunk holds whole blocks of its columns, or all of a short last one.
            let block_depth = T::KC.min(slab_depth - block_start);
            let panel_len = block_depth * kernel.nr();
            let first = block_start * padded_cols + col_start / kernel.nr() * panel_len;
            let panels = &mut slab[first..][..b.cols().div_ceil(kernel.nr()) * panel_len];
            panels
                .par_chunks_mut(panel_len)
                .enumerate()
                .for_each(|(i, panel)| {
                    let cols = i * kernel.nr()..((i + 1) * kernel.nr()).min(b.cols());
                    let rows = block_start - depth_start..block_start - depth_start + block_depth;
                    kernel.pack_b_panel(b.sub(rows, cols), panel);
                });
        }
    });
}

/// Multiplies a chunk of A with the packed slab, and takes it into A·(B·x).
fn multiply_a<T: Number>(
    workspace: &mut Workspace<T>,
    schedule: &Schedule,
    read: &ReadPanel,
    rows: &Range<u64>,
    depth: &Range<u64>,
    c: &mut [T],
) {
    let Workspace {
        layout,
        kernel,
        threads,
        slab,
        scratch,
        check,
        ..
    } = workspace;
    let a = read.view::<T>(rows, depth);
    let tile = &schedule.tile;
    let (ld, band_rows) = (layout.leading_dimension, layout.band_rows);
    let row_start = (rows.start - tile.rows.start) as usize;
    let padded_cols = tile.n_cols().next_multiple_of(kernel.nr());
    let packed = &slab.as_slice::<T>()[..a.cols() * padded_cols];
    let c = &mut c[row_start * ld..][..a.rows() * ld];
    let accumulate = depth.start > 0;
    let (y, sums) = check.bands(row_start, a.rows(), band_rows, a.cols());
    threads.install(|| {
        c.par_chunks_mut(band_rows * ld)
            .zip(sums)
            .enumerate()
            .for_each(|(i, (c, sums))| {
                let thread = rayon::current_thread_index().expect("runs in the pool");
                let mut scratch = scratch[thread].lock().unwrap_or_else(PoisonError::into_inner);
                let rows = i * band_rows..i * band_rows + c.len() / ld;
                let a = a.sub(rows, 0..a.cols());
                if CHECKED {
                    add_matvec(a, y, sums);
                }
                kernel.multiply_band(
                    a,
                    packed,
                    tile.n_cols(),
                    c,
                    ld,
                    accumulate,
                    scratch.as_mut_slice(),
                );
            });
    });
}

/// Which panels a tile needs, in order.
#[derive(Debug, Clone)]
struct Schedule {
    tile: Tile,
    k: u64,
    slab_depth: u64,
    /// Depth and columns of a chunk of B.
    b_chunk: (u64, u64),
    /// Rows of a chunk of A, which is as deep as the slab.
    a_chunk_rows: u64,
}

impl Schedule {
    fn new<T: Number>(layout: &Layout, a: &Operand, b: &Operand, tile: &Tile) -> Schedule {
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
        // Whole bands, so that the last one of a chunk is not a sliver.
        let rows = chunk_len / slab_depth;
        let rows = if rows >= layout.band_rows {
            rows / layout.band_rows * layout.band_rows
        } else {
            rows
        };
        Schedule {
            tile: tile.clone(),
            k: a.cols(),
            slab_depth: slab_depth as u64,
            b_chunk: (b_chunk.0 as u64, b_chunk.1 as u64),
            a_chunk_rows: rows as u64,
        }
    }

    fn n_col_chunks(&self) -> usize {
        (self.tile.n_cols() as u64).div_ceil(self.b_chunk.1) as usize
    }

    /// Start and depth of the slab that holds `depth`.
    fn slab_of(&self, depth: u64) -> (u64, usize) {
        let start = depth / self.slab_depth * self.slab_depth;
        (start, (self.slab_depth.min(self.k - start)) as usize)
    }

    fn panels(&self) -> impl Iterator<Item = Panel> + '_ {
        let (b_depth, b_cols) = self.b_chunk;
        pieces(0..self.k, self.slab_depth).flat_map(move |slab| {
            let b = pieces(slab.clone(), b_depth).flat_map(move |depth| {
                let cols = pieces(self.tile.cols.clone(), b_cols);
                cols.map(move |cols| Panel::B {
                    depth: depth.clone(),
                    cols,
                })
            });
            let rows = pieces(self.tile.rows.clone(), self.a_chunk_rows);
            b.chain(rows.map(move |rows| Panel::A {
                rows,
                depth: slab.clone(),
            }))
        })
    }
}

/// `range` in pieces of `len`, the last one shorter.
fn pieces(range: Range<u64>, len: u64) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range
        .step_by(len as usize)
        .map(move |start| start..end.min(start + len))
}
