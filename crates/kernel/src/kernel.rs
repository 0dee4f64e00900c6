//! The public face of the multiplication: packed sizes, packing `B`, and multiplying a band of rows.

use crate::band::{self, Band};
use crate::micro::MicroKernel;
use crate::pack::pack_panel;
use crate::{Element, MatMut, MatRef, Simd};

/// Multiplies with one instruction set.
///
/// `B` is packed once per depth block of at most [`Element::KC`] rows: column panels of [`nr`](Kernel::nr) columns, each
/// `depth x nr` row by row, the last one zero-padded, panels one after another.
#[derive(Debug, Clone, Copy)]
pub struct Kernel<T> {
    simd: Simd,
    micro: MicroKernel<T>,
    row_block: usize,
}

impl<T: Element> Kernel<T> {
    /// A kernel that uses `simd`.
    ///
    /// # Panics
    /// If this machine does not support it (see [`Simd::is_supported`]).
    pub fn new(simd: Simd) -> Kernel<T> {
        Kernel {
            simd,
            micro: MicroKernel::new(simd),
            row_block: band::row_block::<T>(),
        }
    }

    pub(crate) fn micro(&self) -> &MicroKernel<T> {
        &self.micro
    }

    /// Rows of a micro-tile.
    pub fn mr(&self) -> usize {
        self.micro.mr()
    }

    /// Columns of a micro-tile: the width of a packed panel of `B`.
    pub fn nr(&self) -> usize {
        self.micro.nr()
    }

    /// Rows of a band that are packed and multiplied at a time: bands of as many rows, or a multiple, waste nothing.
    pub fn row_block(&self) -> usize {
        self.row_block
    }

    /// The instruction set in use.
    pub fn simd(&self) -> Simd {
        self.simd
    }

    /// Elements of a packed `depth x cols` block of `B`. It is linear in `depth`: consecutive blocks of a deeper `B` take
    /// `packed_b_len(total_depth, cols)` together.
    pub fn packed_b_len(&self, depth: usize, cols: usize) -> usize {
        depth * cols.next_multiple_of(self.nr())
    }

    /// Packs one column panel: `b` is `depth x n` with `n <= nr`, `out` has `depth * nr` elements.
    ///
    /// # Panics
    /// If `b` is too wide or `out` has another length.
    pub fn pack_b_panel(&self, b: MatRef<'_, T>, out: &mut [T]) {
        pack_panel(&self.micro, b.transposed(), self.nr(), out);
    }

    /// Elements of scratch that [`multiply_band`](Kernel::multiply_band) needs for a band of `rows x depth`.
    pub fn scratch_len(&self, rows: usize, depth: usize) -> usize {
        band::packed_a_len(&self.micro, self.row_block, rows, depth)
    }

    /// `C = A·B`, or `C += A·B` where `accumulate`, for one band of rows.
    ///
    /// - `a`: `rows x depth`, any strides, any depth.
    /// - `packed_b`: consecutive blocks of at most [`Element::KC`] rows in depth order, each packed as described at
    ///   [`Kernel`]: `packed_b_len(depth, cols)` elements in all.
    /// - `c`: `rows x cols`.
    /// - `scratch`: at least `scratch_len(rows, depth)` elements of any content.
    ///
    /// Per element and depth block: `acc = 0`, then `acc = fma(a[i][p], b[p][j], acc)` for ascending `p`, then
    /// `c = c + acc`; the first block without `accumulate` stores `c = acc`. The bits (but for NaN payloads) do not depend
    /// on the instruction set or on where the band begins.
    ///
    /// # Panics
    /// If a slice is too short for its shape, or `a` and `c` differ in rows.
    pub fn multiply_band(
        &self,
        a: MatRef<'_, T>,
        packed_b: &[T],
        c: MatMut<'_, T>,
        accumulate: bool,
        scratch: &mut [T],
    ) {
        let (rows, depth, cols) = (a.rows(), a.cols(), c.cols());
        assert_eq!(rows, c.rows(), "rows of A and C");
        if rows == 0 || cols == 0 {
            return;
        }
        assert!(
            self.packed_b_len(depth, cols) <= packed_b.len(),
            "packed B: {} elements",
            packed_b.len()
        );
        assert!(
            self.scratch_len(rows, depth) <= scratch.len(),
            "scratch: {} elements",
            scratch.len()
        );
        Band {
            micro: &self.micro,
            row_block: self.row_block,
            a,
            packed_b,
            c,
        }
        .multiply(accumulate, scratch);
    }
}
