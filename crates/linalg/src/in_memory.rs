//! A product of matrices that are in memory already: the kernel on all threads, and nothing of a job around it.
//!
//! The bits are those of the kernel's rule (one chain of fused multiply-adds per element and depth block, blocks added in order),
//! so they do not depend on threads or instruction set, and equal those of a job with the classical algorithm. There is no check.

use crate::fork_join::ForkJoin;
use std::sync::{Mutex, PoisonError};
use tilework_kernel::{AlignedBuffer, Element, Kernel, MatMut, MatRef, OutOfMemory, Simd};

/// Most bytes of B that are packed at a time.
const PACKED_B_BYTES: usize = 16 << 20;

/// Most columns of B that are packed at a time: enough to make packing A, once for all of them, cheap.
const SLAB_COLS_MAX: usize = 4096;

/// Fewest multiply-adds that are worth a second thread: products of 96x96 are faster on one, those of 128x128 on two.
const PARALLEL_MULTIPLY_ADDS_MIN: usize = 1 << 20;

/// Why no [`InMemory`] could be made.
#[derive(Debug, thiserror::Error)]
pub enum InMemoryError {
    /// Its buffers do not fit.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The system refused a thread.
    #[error("cannot start `{n_threads}` threads: {source}")]
    Threads {
        /// How many there would be, the caller's included.
        n_threads: usize,
        /// What the system said.
        source: rayon::ThreadPoolBuildError,
    },
}

/// Multiplies matrices that are in memory. Made once, it keeps its threads and buffers from product to product.
///
/// ```
/// use tilework_kernel::{MatMut, MatRef, Simd};
/// use tilework_linalg::InMemory;
///
/// let mut products = InMemory::<f64>::new(Simd::detect(), 2)?;
/// let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
/// let a = MatRef::row_major(&a, 2, 3);
/// let mut c = [0.0; 4];
/// products.multiply(a, a.transposed(), MatMut::new(&mut c, 2, 2, 2));
/// assert_eq!(c, [14.0, 32.0, 32.0, 77.0]);
/// # Ok::<(), tilework_linalg::in_memory::InMemoryError>(())
/// ```
#[derive(Debug)]
pub struct InMemory<T> {
    kernel: Kernel<T>,
    threads: ForkJoin,
    packed_b: AlignedBuffer,
    /// Of each thread: the packed block of A.
    scratch: Vec<AlignedBuffer>,
}

impl<T: Element> InMemory<T> {
    /// Starts `n_threads - 1` threads, for the caller's works too, and allocates about 16 MiB and 1 MiB per thread; memory that no
    /// product needs stays untouched.
    ///
    /// # Errors
    /// [`InMemoryError`] where the system refuses memory or threads.
    ///
    /// # Panics
    /// If `n_threads` is 0, or this machine does not support `simd`.
    pub fn new(simd: Simd, n_threads: usize) -> Result<InMemory<T>, InMemoryError> {
        assert!(n_threads > 0, "no threads");
        let kernel = Kernel::<T>::new(simd);
        let scratch_len = kernel.scratch_len(kernel.row_block(), T::KC);
        let packed_b_len = kernel.packed_b_len(T::KC, SLAB_COLS_MAX);
        let packed_b_bytes = (packed_b_len * size_of::<T>()).max(PACKED_B_BYTES);
        Ok(InMemory {
            kernel,
            threads: ForkJoin::new(n_threads)
                .map_err(|source| InMemoryError::Threads { n_threads, source })?,
            packed_b: AlignedBuffer::new(packed_b_bytes)?,
            scratch: (0..n_threads)
                .map(|_| AlignedBuffer::new(scratch_len * size_of::<T>()))
                .collect::<Result<_, _>>()?,
        })
    }

    /// `C = A·B` for any shapes that fit each other, empty ones too, and any strides of A and B.
    ///
    /// # Panics
    /// If the columns of A are not as many as the rows of B, or C has other rows than A or other columns than B.
    pub fn multiply(&mut self, a: MatRef<'_, T>, b: MatRef<'_, T>, mut c: MatMut<'_, T>) {
        assert_eq!(a.cols(), b.rows(), "columns of A, rows of B");
        assert_eq!(a.rows(), c.rows(), "rows of A, rows of C");
        assert_eq!(b.cols(), c.cols(), "columns of B, columns of C");
        let (rows, depth, cols) = (a.rows(), a.cols(), b.cols());
        if depth == 0 {
            (0..rows).for_each(|i| c.row(i).fill(T::ZERO));
        }
        if rows == 0 || cols == 0 {
            return;
        }
        let slab_cols = cols
            .div_ceil(cols.div_ceil(SLAB_COLS_MAX))
            .next_multiple_of(self.kernel.nr());
        let block_len = self.kernel.packed_b_len(T::KC, slab_cols);
        let slab_depth = self.packed_b.as_slice::<T>().len() / block_len * T::KC;
        for jc in (0..cols).step_by(slab_cols) {
            let jc = jc..cols.min(jc + slab_cols);
            for pc in (0..depth).step_by(slab_depth) {
                let pc = pc..depth.min(pc + slab_depth);
                let accumulate = pc.start > 0;
                let c = c.block(0, jc.start, rows, jc.len());
                self.multiply_slab(a.sub(0..rows, pc.clone()), b.sub(pc, jc.clone()), c, accumulate);
            }
        }
    }

    /// `C (+)= A·B` where B fits its buffer: all threads pack it, then all multiply.
    fn multiply_slab(&mut self, a: MatRef<'_, T>, b: MatRef<'_, T>, c: MatMut<'_, T>, accumulate: bool) {
        let kernel = &self.kernel;
        let multiply_adds = a.rows().saturating_mul(a.cols()).saturating_mul(b.cols());
        let n_threads = if multiply_adds < PARALLEL_MULTIPLY_ADDS_MIN {
            1
        } else {
            self.scratch.len()
        };
        let scratch = &mut self.scratch[..n_threads];
        let packed_b = &mut self.packed_b.as_mut_slice::<T>()[..kernel.packed_b_len(b.rows(), b.cols())];
        {
            let panels = Mutex::new(Panels {
                kernel,
                b,
                row: 0,
                col: 0,
                rest: packed_b,
            });
            self.threads.run(scratch, |_| {
                while let Some((panel, out)) = take_turn(&panels) {
                    kernel.pack_b_panel(panel, out);
                }
            });
        }
        let right = PackedSlab {
            packed_b,
            cols: b.cols(),
        };
        let pieces = Mutex::new(Pieces::new(kernel, c, n_threads));
        self.threads.run(scratch, |scratch| {
            while let Some(piece) = take_turn(&pieces) {
                right.multiply(kernel, a, piece, accumulate, scratch.as_mut_slice());
            }
        });
    }
}

/// What is next of something that all threads take from.
fn take_turn<I: Iterator>(things: &Mutex<I>) -> Option<I::Item> {
    things.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// The column panels of B, depth block after depth block, and where each is packed.
struct Panels<'a, T> {
    kernel: &'a Kernel<T>,
    b: MatRef<'a, T>,
    row: usize,
    col: usize,
    rest: &'a mut [T],
}

impl<'a, T: Element> Iterator for Panels<'a, T> {
    type Item = (MatRef<'a, T>, &'a mut [T]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.row == self.b.rows() {
            return None;
        }
        let nr = self.kernel.nr();
        let rows = self.row..self.b.rows().min(self.row + T::KC);
        let cols = self.col..self.b.cols().min(self.col + nr);
        let out = self.rest.split_off_mut(..rows.len() * nr)?;
        (self.row, self.col) = if cols.end == self.b.cols() {
            (rows.end, 0)
        } else {
            (self.row, cols.end)
        };
        Some((self.b.sub(rows, cols), out))
    }
}

/// A part of C whose first element is `(row, col)`.
struct Piece<'a, T> {
    row: usize,
    col: usize,
    c: MatMut<'a, T>,
}

/// Pieces of C that get smaller towards the end, so that threads which began at different times end together.
struct Pieces<'a, T> {
    rest: Option<Piece<'a, T>>,
    /// Across rows if there are enough of them: each piece packs its rows of A, so pieces across columns pack all of A each.
    by_rows: bool,
    /// What a piece's rows or columns are a multiple of.
    step: usize,
    len_max: usize,
    /// The share of what is left that a piece gets.
    divisor: usize,
}

impl<'a, T: Element> Pieces<'a, T> {
    fn new(kernel: &Kernel<T>, c: MatMut<'a, T>, n_threads: usize) -> Pieces<'a, T> {
        let alone = n_threads == 1;
        // Two tiles of rows at least, so that a panel of B is not fetched for one alone.
        let row_step = 2 * kernel.mr();
        let by_rows = alone || c.rows() >= n_threads * row_step;
        Pieces {
            rest: Some(Piece { row: 0, col: 0, c }),
            by_rows,
            step: if by_rows { row_step } else { kernel.nr() },
            len_max: if alone || !by_rows {
                usize::MAX
            } else {
                kernel.row_block()
            },
            divisor: if alone { 1 } else { 2 * n_threads },
        }
    }
}

impl<'a, T> Iterator for Pieces<'a, T> {
    type Item = Piece<'a, T>;

    fn next(&mut self) -> Option<Piece<'a, T>> {
        let Piece { row, col, c } = self.rest.take()?;
        let left = if self.by_rows { c.rows() } else { c.cols() };
        let share = left.div_ceil(self.divisor).next_multiple_of(self.step);
        let len = share.min(self.len_max);
        if len >= left {
            return Some(Piece { row, col, c });
        }
        let ((c, rest), row_after, col_after) = if self.by_rows {
            (c.split_at_row(len), row + len, col)
        } else {
            (c.split_at_col(len), row, col + len)
        };
        self.rest = Some(Piece {
            row: row_after,
            col: col_after,
            c: rest,
        });
        Some(Piece { row, col, c })
    }
}

/// Packed B: depth blocks one after another, each with all columns.
struct PackedSlab<'a, T> {
    packed_b: &'a [T],
    cols: usize,
}

impl<T: Element> PackedSlab<'_, T> {
    /// Multiplies the piece's rows of A with its columns of B.
    fn multiply(
        &self,
        kernel: &Kernel<T>,
        a: MatRef<'_, T>,
        piece: Piece<'_, T>,
        accumulate: bool,
        scratch: &mut [T],
    ) {
        let Piece { row, col, mut c } = piece;
        for pc in (0..a.cols()).step_by(T::KC) {
            let pc = pc..a.cols().min(pc + T::KC);
            // Panels are as long as the block is deep, so a piece's columns begin that much deeper.
            let begin = kernel.packed_b_len(pc.start, self.cols) + pc.len() * col;
            let accumulate = accumulate || pc.start > 0;
            let a = a.sub(row..row + c.rows(), pc);
            kernel.multiply_band(a, &self.packed_b[begin..], c.reborrow(), accumulate, scratch);
        }
    }
}
