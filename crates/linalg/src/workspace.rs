//! The buffers and threads of one worker, made once and used for every tile.

use crate::check::CheckParts;
use crate::check::TileCheck;
use crate::formula::Formula;
use crate::largest::Largest;
use crate::layout::Layout;
use crate::operand::Number;
use crate::packed_cols::PackedCols;
use crate::plan::Algorithm;
use crate::tiles::Tile;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use tilework_core::failure::{Cause, Failure};
use tilework_kernel::{AlignedBuffer, Kernel, MatMut, OutOfMemory, Simd};

/// What a worker computes tiles with.
#[derive(Debug)]
pub struct Workspace<T> {
    pub(crate) layout: Layout,
    pub(crate) kernel: Kernel<T>,
    pub(crate) threads: ThreadPool,
    pub(crate) packed_b: AlignedBuffer,
    /// The columns of op(B) that are packed over all depth, where the layout keeps them, and for which algorithm.
    pub(crate) packed_cols: Option<(Algorithm, PackedCols)>,
    /// The largest |element| of the tile's rows of op(A), and of the packed columns of op(B).
    pub(crate) largest_a: Largest,
    pub(crate) largest_b: Largest,
    /// The largest |element| of D in the tile.
    pub(crate) largest_d: Largest,
    pub(crate) scratch: Vec<Mutex<AlignedBuffer>>,
    pub(crate) chunks: Vec<AlignedBuffer>,
    pub(crate) check: TileCheck,
    /// Tiles of which rows stood out.
    pub n_second_looks: u64,
    /// What tests have it say instead of the truth.
    #[cfg(any(debug_assertions, feature = "test-lies"))]
    pub liar: crate::lies::Liar<T>,
    tiles: TilePool,
}

impl<T: Number> Workspace<T> {
    /// Allocates what `layout` says, and nothing more.
    pub fn new(layout: Layout, simd: Simd) -> Result<Workspace<T>, Failure> {
        let kernel = Kernel::new(simd);
        let threads = ThreadPoolBuilder::new()
            .num_threads(layout.n_threads)
            .thread_name(|i| format!("compute-{i}"))
            .build()
            .map_err(|error| {
                let text = format!("cannot start {} threads that compute: {error}", layout.n_threads);
                Failure::fatal(Cause::OutOfMemory, text)
            })?;
        let scratch = allocate(layout.n_threads, layout.scratch_bytes())?
            .into_iter()
            .map(Mutex::new)
            .collect();
        Ok(Workspace {
            layout,
            kernel,
            threads,
            packed_b: AlignedBuffer::new(layout.packed_b_bytes()).map_err(out_of_memory)?,
            packed_cols: None,
            largest_a: Largest::default(),
            largest_b: Largest::default(),
            largest_d: Largest::default(),
            scratch,
            chunks: allocate(layout.n_chunks, layout.chunk_bytes)?,
            check: TileCheck::new(
                layout.tile_rows,
                layout.packed_cols,
                layout.packed_depth,
                layout.n_col_groups,
            ),
            n_second_looks: 0,
            #[cfg(any(debug_assertions, feature = "test-lies"))]
            liar: crate::lies::Liar::by_environment()?,
            tiles: TilePool::new(allocate(layout.n_tile_buffers, layout.tile_bytes())?),
        })
    }

    /// Whether a sum of Strassen's algorithm over this tile, or the check's sum over it, could overflow: decided by the largest inputs
    /// and the factors alone.
    pub(crate) fn is_near_overflow(&self, tile: &Tile, formula: &Formula) -> bool {
        // The power of two just above a magnitude or a count; minus infinity for 0.
        let above = |value: f64| value.log2().floor() + 1.0;
        let weighted = above(tile.n_cols() as f64);
        // At most 8 products of sums of two elements each in an element of C, and a weighted sum of a row in the check.
        let terms = above(32.0 * self.layout.k as f64) + weighted;
        let product = above(self.largest_a.get()) + above(self.largest_b.get()) + terms;
        let mut exponent = product;
        if !formula.is_plain() {
            let scaled = product + above(formula.alpha().abs());
            let added = formula.addend().map_or(f64::NEG_INFINITY, |addend| {
                above(self.largest_d.get()) + above(addend.beta.abs()) + weighted
            });
            exponent = exponent.max(scaled.max(added) + 1.0);
        }
        exponent >= f64::from(T::EXPONENT_MAX)
    }

    /// A free tile buffer; waits while all of them are being written.
    pub(crate) fn take_tile(&self) -> Lent {
        self.tiles.take()
    }

    /// Makes up for read buffers that an abandoned tile lost.
    pub(crate) fn refill_chunks(&mut self) -> Result<(), Failure> {
        while self.chunks.len() < self.layout.n_chunks {
            self.chunks
                .push(AlignedBuffer::new(self.layout.chunk_bytes).map_err(out_of_memory)?);
        }
        Ok(())
    }
}

fn allocate(count: usize, bytes: usize) -> Result<Vec<AlignedBuffer>, Failure> {
    (0..count)
        .map(|_| AlignedBuffer::new(bytes).map_err(out_of_memory))
        .collect()
}

fn out_of_memory(error: OutOfMemory) -> Failure {
    Failure::fatal(Cause::OutOfMemory, error.to_string())
}

/// What is needed to compute one tile, borrowed part by part.
pub(crate) struct TileParts<'a, T> {
    pub(crate) layout: &'a Layout,
    pub(crate) kernel: &'a Kernel<T>,
    /// Of each thread: the packed block of A.
    pub(crate) scratch: &'a [Mutex<AlignedBuffer>],
    pub(crate) packed_b: &'a mut [T],
    pub(crate) check: CheckParts<'a>,
    pub(crate) largest_a: &'a Largest,
    pub(crate) largest_b: &'a Largest,
    /// The tile.
    pub(crate) c: MatMut<'a, T>,
}

/// A buffer on loan: it goes back to where it came from when dropped.
#[derive(Debug)]
pub struct Lent {
    buffer: Option<AlignedBuffer>,
    home: Sender<AlignedBuffer>,
}

impl Lent {
    /// Lends `buffer` until it is dropped.
    pub(crate) fn new(buffer: AlignedBuffer, home: Sender<AlignedBuffer>) -> Lent {
        Lent {
            buffer: Some(buffer),
            home,
        }
    }

    /// The elements.
    pub fn as_slice<T: Number>(&self) -> &[T] {
        self.buffer.as_ref().expect("present until drop").as_slice()
    }

    /// The elements, to be written.
    pub fn as_mut_slice<T: Number>(&mut self) -> &mut [T] {
        self.buffer.as_mut().expect("present until drop").as_mut_slice()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            let _ = self.home.send(buffer);
        }
    }
}

#[derive(Debug)]
struct TilePool {
    home: Sender<AlignedBuffer>,
    free: Receiver<AlignedBuffer>,
}

impl TilePool {
    fn new(buffers: Vec<AlignedBuffer>) -> TilePool {
        let (home, free) = channel();
        for buffer in buffers {
            let _ = home.send(buffer);
        }
        TilePool { home, free }
    }

    fn take(&self) -> Lent {
        let buffer = self.free.recv().expect("the pool itself keeps the channel open");
        Lent::new(buffer, self.home.clone())
    }
}
