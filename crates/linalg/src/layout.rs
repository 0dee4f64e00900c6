//! What one worker keeps in memory while it computes tiles: every buffer, summed in one place.

use crate::halves::left_cols;
use crate::mirror::MIRROR_BYTES;
use crate::operand::Operand;
use crate::plan::Algorithm;
use crate::recompute::ROWS_PER_PASS;
use crate::tiles::Grid;
use tilework_kernel::{Element, Kernel};

/// Resident memory of the process apart from the buffers below: program, stacks, libraries, journal. Measured: 5-9 MiB.
pub const PROCESS_OVERHEAD_BYTES: u64 = 12 << 20;
/// Threads that the overhead allows for, and what each further one costs: its stack and its share of the allocator.
const THREADS_IN_OVERHEAD: usize = 8;
const THREAD_BYTES: u64 = 256 << 10;
/// What the journal's reader holds of one task at the end of a job.
const TASK_BYTES: u64 = 512;
/// Buffer for reading committed tiles back.
pub const READ_BACK_BYTES: u64 = 1 << 20;
/// Elements read at a time where a tile has to be certified.
pub const CERTIFY_LEN: usize = 64 * 1024;
/// Preferred sizes of one read, best first.
const CHUNK_BYTES: [usize; 6] = [8 << 20, 4 << 20, 2 << 20, 1 << 20, 512 << 10, 256 << 10];
/// Reads in flight or waiting to be multiplied, best first.
const N_CHUNKS: [usize; 3] = [6, 4, 3];

/// Shape of a worker's buffers. It does not influence the result's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// How tiles are computed.
    pub algorithm: Algorithm,
    /// Bytes of one element.
    pub itemsize: usize,
    /// Inner dimension.
    pub k: usize,
    /// Height of the tallest tile.
    pub tile_rows: usize,
    /// Distance of rows in a tile's buffer: its width, padded so that rows don't fall on the same cache sets.
    pub leading_dimension: usize,
    /// Tiles in memory: 2 where one is written while the next is computed.
    pub n_tile_buffers: usize,
    /// Depth of the slab that is read at a time, a multiple of the kernel's depth block.
    pub slab_depth: usize,
    /// Depth of B that stays packed: one slab, or all of it, and then for every tile of the same columns.
    pub packed_depth: usize,
    /// Columns of packed B, padded to whole panels.
    pub packed_cols: usize,
    /// Groups of these columns that B·x is summed in: one for each width of the tiles that use them.
    pub n_col_groups: usize,
    /// Columns of one packed panel of B.
    pub panel_cols: usize,
    /// Bytes of one read.
    pub chunk_bytes: usize,
    /// Read buffers.
    pub n_chunks: usize,
    /// Rows of C that one thread multiplies at a time.
    pub band_rows: usize,
    /// Bytes of the mirror image that are written at a time, where C is symmetric.
    pub mirror_bytes: usize,
    /// Threads of the worker.
    pub n_threads: usize,
    /// Elements of one thread's packed block of A.
    pub scratch_len: usize,
    /// Elements of packed B.
    pub packed_b_len: usize,
}

/// What a layout is for.
#[derive(Debug, Clone, Copy)]
pub struct LayoutRequest<'a> {
    /// The tiles.
    pub grid: &'a Grid,
    /// Inner dimension.
    pub k: u64,
    /// op(A).
    pub a: &'a Operand,
    /// op(B).
    pub b: &'a Operand,
    /// D, where something is added.
    pub d: Option<&'a Operand>,
    /// Threads of one worker.
    pub n_threads: usize,
    /// Workers in the process.
    pub n_workers: usize,
    /// How tiles are computed.
    pub algorithm: Algorithm,
}

/// How much of B stays packed in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackedB {
    /// One slab at a time; every tile reads and packs its columns anew.
    Slab,
    /// All depth of a tile's columns, kept for the next tile.
    Columns,
}

/// What is varied to make a layout fit.
#[derive(Debug, Clone, Copy)]
struct Choice {
    packed_b: PackedB,
    n_tile_buffers: usize,
    chunk_bytes: usize,
    slab_depth: usize,
    n_chunks: usize,
}

impl Layout {
    /// The best layout whose process stays within `memory_bytes`, and how good it is: 0 is best, larger is slower.
    pub fn fit<T: Element>(
        request: &LayoutRequest<'_>,
        kernel: &Kernel<T>,
        packed_b: PackedB,
        memory_bytes: u64,
    ) -> Option<(Layout, usize)> {
        let mut rank = 0;
        let depths = slab_depths(request, T::KC);
        for n_tile_buffers in [2, 1] {
            for &chunk_bytes in &CHUNK_BYTES {
                for &slab_depth in &depths {
                    for n_chunks in N_CHUNKS {
                        let choice = Choice {
                            packed_b,
                            n_tile_buffers,
                            chunk_bytes,
                            slab_depth,
                            n_chunks,
                        };
                        let layout = Layout::new(request, kernel, &choice);
                        if layout.is_some_and(|layout| layout.process_bytes(request) <= memory_bytes) {
                            return layout.map(|layout| (layout, rank));
                        }
                        rank += 1;
                    }
                }
            }
        }
        None
    }

    /// The layout that needs least.
    pub fn smallest<T: Element>(request: &LayoutRequest<'_>, kernel: &Kernel<T>) -> Option<Layout> {
        let smallest_first = CHUNK_BYTES.iter().rev();
        let mut layouts = smallest_first.filter_map(|&chunk_bytes| {
            // All depth of a shallow product is less than one slab.
            let kinds = [PackedB::Slab, PackedB::Columns].into_iter();
            let layouts = kinds.filter_map(|packed_b| {
                let choice = Choice {
                    packed_b,
                    n_tile_buffers: 1,
                    chunk_bytes,
                    slab_depth: depth_step(request.algorithm, T::KC),
                    n_chunks: N_CHUNKS[N_CHUNKS.len() - 1],
                };
                Layout::new(request, kernel, &choice)
            });
            layouts.min_by_key(|layout| layout.process_bytes(request))
        });
        layouts.next()
    }

    /// `None` if a chunk can't hold one micro-panel of each operand at this depth.
    fn new<T: Element>(request: &LayoutRequest<'_>, kernel: &Kernel<T>, choice: &Choice) -> Option<Layout> {
        let &Choice {
            packed_b,
            n_tile_buffers,
            chunk_bytes,
            slab_depth,
            n_chunks,
        } = choice;
        let itemsize = size_of::<T>();
        let chunk_len = chunk_bytes / itemsize;
        let panel = kernel.mr().max(kernel.nr());
        let tile_cols = request.grid.tile_cols_max() as usize;
        let tile_rows = request.grid.tile_rows_max() as usize;
        // Strassen's algorithm reads a row of each half together.
        let n_halves = match request.algorithm {
            Algorithm::Classical => 1,
            Algorithm::Strassen => 2,
        };
        let half_len = chunk_len / n_halves;
        if half_len < panel * slab_depth || (n_halves == 2 && half_len < tile_cols) {
            return None;
        }
        let n_threads = request.n_threads;
        let rows_per_chunk = half_len / slab_depth / kernel.mr() * kernel.mr();
        // Where memory is short and chunks are small, so are the packed blocks of A.
        let rows_per_chunk = if rows_per_chunk >= kernel.row_block() {
            rows_per_chunk
        } else {
            rows_per_chunk.div_ceil(n_threads).next_multiple_of(kernel.mr())
        };
        let rows_per_thread = tile_rows.div_ceil(n_halves).div_ceil(n_threads);
        let band_rows = rows_per_thread
            .next_multiple_of(kernel.mr())
            .min(rows_per_chunk)
            .clamp(kernel.mr(), kernel.row_block().max(kernel.mr()));
        let n_buffers_useful = n_tile_buffers.min(request.grid.n_tiles().max(1) as usize);
        let packed_cols = tile_cols.next_multiple_of(kernel.nr());
        let packed_depth = match packed_b {
            PackedB::Slab => slab_depth,
            PackedB::Columns => request.k as usize,
        };
        let (packed_b_len, scratch_len) = match request.algorithm {
            Algorithm::Classical => (
                packed_depth.saturating_mul(packed_cols),
                kernel.scratch_len(band_rows, T::KC),
            ),
            Algorithm::Strassen => {
                let pair_len = kernel.packed_sums_len(T::KC, left_cols(tile_cols));
                let n_pairs = packed_depth.div_ceil(2 * T::KC);
                let to_multiply = kernel.strassen_scratch_len(band_rows, T::KC);
                (
                    n_pairs.saturating_mul(pair_len),
                    to_multiply.max(kernel.pack_sums_scratch_len()),
                )
            }
        };
        Some(Layout {
            algorithm: request.algorithm,
            itemsize,
            k: request.k as usize,
            tile_rows,
            leading_dimension: padded(tile_cols, itemsize),
            n_tile_buffers: n_buffers_useful,
            slab_depth,
            packed_depth,
            packed_cols,
            // A slab may hold all depth, and then its columns serve the next tile, too.
            n_col_groups: if packed_depth as u64 >= request.k {
                request.grid.n_widths_max() as usize
            } else {
                1
            },
            panel_cols: kernel.nr(),
            chunk_bytes,
            n_chunks,
            band_rows,
            mirror_bytes: if request.grid.symmetric { MIRROR_BYTES } else { 0 },
            n_threads,
            scratch_len,
            packed_b_len,
        })
    }

    /// Bytes of one tile's buffer.
    pub fn tile_bytes(&self) -> usize {
        self.tile_rows
            .saturating_mul(self.leading_dimension)
            .saturating_mul(self.itemsize)
    }

    /// Whether tiles of the same columns find B packed by the first of them.
    pub fn keeps_columns(&self) -> bool {
        self.packed_depth >= self.k
    }

    /// Bytes of packed B.
    pub fn packed_b_bytes(&self) -> usize {
        self.packed_b_len.saturating_mul(self.itemsize)
    }

    /// Bytes of one thread's packed block of A.
    pub fn scratch_bytes(&self) -> usize {
        self.scratch_len * self.itemsize
    }

    /// Bytes of the check's vectors: x and |x|, B·x and |B|·|x| of packed B, A·(B·x) and |A|·|B|·|x|, the residuals as they are and sorted.
    pub fn check_bytes(&self) -> usize {
        let packed = self.packed_depth.saturating_mul(self.n_col_groups);
        packed
            .saturating_add(self.packed_cols + 2 * self.tile_rows)
            .saturating_mul(2 * size_of::<f64>())
    }

    /// Bytes that a tile with non-finite numbers needs to be certified: vectors along k, rows and columns, a few plain
    /// rows or columns, and what is read at a time. Rows that stand out are looked at with less.
    fn certify_bytes(&self) -> usize {
        let longer_side = self.tile_rows.max(self.packed_cols);
        let vectors = 2 * self.k + 4 * self.tile_rows + 3 * self.packed_cols;
        let plain = ROWS_PER_PASS * longer_side * 3;
        size_of::<f64>() * (vectors + plain + CERTIFY_LEN)
    }

    /// What D adds to that: a mark for each row and column that meets a non-finite element.
    fn certify_d_bytes(&self) -> u64 {
        (self.tile_rows + self.packed_cols) as u64
    }

    /// All buffers of one worker.
    pub fn worker_bytes(&self) -> u64 {
        let parts = [
            self.n_tile_buffers.saturating_mul(self.tile_bytes()),
            self.packed_b_bytes(),
            self.n_chunks * self.chunk_bytes,
            self.n_threads * self.scratch_bytes(),
            self.check_bytes(),
            self.certify_bytes(),
            self.mirror_bytes,
        ];
        parts
            .into_iter()
            .fold(0, |sum, part| sum.saturating_add(part as u64))
    }

    /// All of the process.
    pub fn process_bytes(&self, request: &LayoutRequest<'_>) -> u64 {
        let d_bytes = request.d.map_or(0, |_| self.certify_d_bytes());
        let workers = (self.worker_bytes().saturating_add(d_bytes)).saturating_mul(request.n_workers as u64);
        let n_threads = self.n_threads * request.n_workers;
        let threads = n_threads.saturating_sub(THREADS_IN_OVERHEAD) as u64 * THREAD_BYTES;
        let tasks = request.grid.n_tiles().saturating_mul(TASK_BYTES);
        let text_inputs = if request.a.shares_source(request.b) {
            text_bytes(request.a)
        } else {
            text_bytes(request.a) + text_bytes(request.b)
        };
        let text_matrices = text_inputs + request.d.map_or(0, text_bytes);
        workers
            .saturating_add(tasks)
            .saturating_add(threads + PROCESS_OVERHEAD_BYTES + READ_BACK_BYTES + text_matrices)
    }
}

/// What a text matrix takes at most: its values, in a vector that doubled as it grew, and the text while it is parsed.
fn text_bytes(operand: &Operand) -> u64 {
    match operand.source().resident_bytes() {
        0 => 0,
        values => 2 * values + operand.source().info().file_len,
    }
}

/// What slab depths are multiples of.
fn depth_step(algorithm: Algorithm, kc: usize) -> usize {
    match algorithm {
        Algorithm::Classical => kc,
        Algorithm::Strassen => 2 * kc,
    }
}

/// Depths to try, best first. Runs along k are long enough where the file has its rows (of A) or columns (of B) there;
/// otherwise the runs go the other way and a shallow slab makes them longer.
fn slab_depths(request: &LayoutRequest<'_>, kc: usize) -> Vec<usize> {
    let runs_along_k = request.a.is_row_contiguous() || !request.b.is_row_contiguous();
    let k = (request.k.max(1) as usize).next_multiple_of(depth_step(request.algorithm, kc));
    let mut depths = Vec::new();
    let mut depth = if runs_along_k { 4 * kc } else { 2 * kc };
    while depth >= depth_step(request.algorithm, kc) {
        depths.push(depth.min(k));
        depth /= 2;
    }
    depths.dedup();
    depths
}

/// A row length whose distance in bytes is an odd multiple of the cache line.
fn padded(cols: usize, itemsize: usize) -> usize {
    const LINE_BYTES: usize = 64;
    let bytes = cols.saturating_mul(itemsize);
    let lines = bytes.div_ceil(LINE_BYTES);
    let odd = if bytes >= 4096 { lines | 1 } else { lines };
    odd.saturating_mul(LINE_BYTES) / itemsize
}
