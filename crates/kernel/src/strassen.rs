//! One level of Strassen's algorithm on quadrants: seven products of sums instead of eight (V. Strassen, "Gaussian elimination is
//! not optimal", Numer. Math. 13, 1969).
//!
//! No sum and no product is ever stored in full: sums are formed while they are packed, and each product goes from registers
//! to the one or two quadrants of `C` that it belongs to (Huang, Smith, Henry and van de Geijn, "Strassen's algorithm reloaded",
//! SC16, their variant ABC). That is why it is Strassen's own form and not Winograd's with its fewer additions: fused, what counts is
//! how often products go to `C`, and that is 12 times here and 14 times there.
//!
//! Quadrants are numbered row by row: 0 is top left, 1 top right, 2 bottom left, 3 bottom right. Right and bottom ones may be smaller;
//! what is missing counts as zero.

use crate::band::{multiply_row_block, packed_a_len};
use crate::micro::Store;
use crate::pack::{Terms, pack_terms};
use crate::{Element, Kernel, MatMut, MatRef};

/// Number of products, and of sums of `B` that are packed.
const PRODUCTS_LEN: usize = 7;

/// Where a product goes.
#[derive(Debug, Clone, Copy)]
enum Goal {
    /// The first product of all that this quadrant gets.
    First(usize),
    Plus(usize),
    Minus(usize),
}

use Goal::First;
use Terms::{Minus, One, Plus};

/// Strassen's products of sums of quadrants, in the order in which each element of `C` gets them, which is part of the numerics version.
const PRODUCTS: [(Terms<usize>, Terms<usize>, &[Goal]); PRODUCTS_LEN] = [
    (Plus(0, 3), Plus(0, 3), &[First(0), First(3)]),
    (Plus(2, 3), One(0), &[First(2), Goal::Minus(3)]),
    (One(0), Minus(1, 3), &[First(1), Goal::Plus(3)]),
    (One(3), Minus(2, 0), &[Goal::Plus(0), Goal::Plus(2)]),
    (Plus(0, 1), One(3), &[Goal::Minus(0), Goal::Plus(1)]),
    (Minus(2, 0), Plus(0, 1), &[Goal::Plus(3)]),
    (Minus(1, 3), Plus(2, 3), &[Goal::Plus(0)]),
];

impl Goal {
    fn quadrant(self) -> usize {
        match self {
            First(quadrant) | Goal::Plus(quadrant) | Goal::Minus(quadrant) => quadrant,
        }
    }

    fn store(self, accumulate: bool) -> Store {
        match self {
            First(_) if !accumulate => Store::Overwrite,
            First(_) | Goal::Plus(_) => Store::Add,
            Goal::Minus(_) => Store::Subtract,
        }
    }
}

/// Where a chunk of the quadrants of `B` belongs among its packed sums.
#[derive(Debug, Clone, Copy)]
pub struct SumsPlace {
    /// Depth of each quadrant: at most [`Element::KC`].
    pub depth: usize,
    /// Columns of the left quadrants, or what a caller keeps of them.
    pub cols: usize,
    /// First step of the depth.
    pub first_step: usize,
    /// First column, a multiple of [`Kernel::nr`].
    pub first_col: usize,
}

impl<T: Element> Kernel<T> {
    /// Elements of the packed sums of quadrants of `B` of `depth x cols` each.
    pub fn packed_sums_len(&self, depth: usize, cols: usize) -> usize {
        PRODUCTS_LEN * self.packed_b_len(depth, cols)
    }

    /// Elements of scratch for [`pack_b_sums`](Kernel::pack_b_sums).
    pub fn pack_sums_scratch_len(&self) -> usize {
        T::KC * self.nr()
    }

    /// Packs sums of the quadrants of `B`: `b[0]` has some steps of depth and some columns, the others at most as many. `packed`
    /// holds the sums one after another, each as [`Kernel`] says of a block of `B`.
    ///
    /// # Panics
    /// If the chunk does not fit its place, or `packed` or `scratch` are too short.
    pub fn pack_b_sums(&self, b: [MatRef<'_, T>; 4], place: SumsPlace, packed: &mut [T], scratch: &mut [T]) {
        let (nr, n_steps) = (self.nr(), b[0].rows());
        assert!(
            place.first_step + n_steps <= place.depth && place.first_col + b[0].cols() <= place.cols,
            "place of a chunk"
        );
        assert_eq!(place.first_col % nr, 0, "chunks begin with a panel");
        let sum_len = self.packed_b_len(place.depth, place.cols);
        for (sum, packed) in PRODUCTS
            .iter()
            .map(|product| product.1)
            .zip(packed.chunks_exact_mut(sum_len))
        {
            for first in (0..b[0].cols()).step_by(nr) {
                let start = (place.first_col + first) * place.depth + place.first_step * nr;
                let panel = &mut packed[start..start + n_steps * nr];
                let lanes = b.map(|quadrant| {
                    let cols = first.min(quadrant.cols())..(first + nr).min(quadrant.cols());
                    quadrant.sub(0..quadrant.rows(), cols).transposed()
                });
                pack_terms(
                    self.micro(),
                    sum.map(|quadrant| lanes[quadrant]),
                    nr,
                    panel,
                    scratch,
                );
            }
        }
    }

    /// Elements of scratch for [`multiply_strassen`](Kernel::multiply_strassen) with quadrants of `A` of `rows x depth`.
    pub fn strassen_scratch_len(&self, rows: usize, depth: usize) -> usize {
        packed_a_len(self.micro(), self.row_block(), rows, depth) + self.mr() * depth.min(T::KC)
    }

    /// `C = A·B`, or `C += A·B` where `accumulate`, on quadrants.
    ///
    /// - `a[0]`: `rows x depth`, any strides, `depth` at most [`Element::KC`]; the others are at most as large.
    /// - `packed_sums`: packed sums of `B`, of quadrants of `depth x cols` in the sense of [`SumsPlace`], and `first_col` the first column
    ///   that is multiplied, a multiple of [`nr`](Kernel::nr).
    /// - `c[0]`: `rows x c_cols`, the others at most as large.
    /// - `scratch`: at least `strassen_scratch_len(rows, depth)` elements.
    ///
    /// Sums are rounded once; a product is one chain of fused multiply-adds; products are added to `C` in a fixed order. The bits do
    /// not depend on the instruction set, nor on which rows and columns are multiplied together.
    ///
    /// # Panics
    /// If a slice is too short for its shape.
    pub fn multiply_strassen(
        &self,
        a: [MatRef<'_, T>; 4],
        packed_sums: &[T],
        place: SumsPlace,
        mut c: [MatMut<'_, T>; 4],
        accumulate: bool,
        scratch: &mut [T],
    ) {
        let (rows, depth) = (a[0].rows(), place.depth);
        let n_cols = c[0].cols();
        assert_eq!(a[0].cols(), depth, "depth of A and B");
        let (packed_a, temporary) =
            scratch.split_at_mut(packed_a_len(self.micro(), self.row_block(), rows, depth));
        let sum_len = self.packed_b_len(depth, place.cols);
        let first = place.first_col * depth;
        let len = self.packed_b_len(depth, n_cols);
        for ic in (0..rows).step_by(self.row_block()) {
            let block_rows = self.row_block().min(rows - ic);
            let block =
                |quadrant: MatRef<'_, T>| ic.min(quadrant.rows())..(ic + block_rows).min(quadrant.rows());
            let a = a.map(|quadrant| quadrant.sub(block(quadrant), 0..quadrant.cols()));
            for ((sum, _, goals), packed_sum) in PRODUCTS.iter().zip(packed_sums.chunks_exact(sum_len)) {
                let packed_a =
                    &mut packed_a[..packed_a_len(self.micro(), self.row_block(), block_rows, depth)];
                self.pack_a_sum(*sum, a, depth, packed_a, temporary);
                let packed_b = &packed_sum[first..first + len];
                let [c0, c1, c2, c3] = c.each_mut().map(|quadrant| {
                    let first = ic.min(quadrant.rows());
                    let rows = block_rows.min(quadrant.rows() - first);
                    let cols = quadrant.cols();
                    Some(quadrant.block(first, 0, rows, cols))
                });
                let mut blocks = [c0, c1, c2, c3];
                let mut target = |goal: Goal| {
                    let block = blocks[goal.quadrant()]
                        .take()
                        .expect("a product goes to a quadrant once");
                    (block, goal.store(accumulate))
                };
                match goals {
                    [one] => multiply_row_block(self.micro(), depth, packed_a, packed_b, [target(*one)]),
                    [one, two] => {
                        let targets = [target(*one), target(*two)];
                        multiply_row_block(self.micro(), depth, packed_a, packed_b, targets);
                    }
                    _ => unreachable!("a product goes to one or two quadrants"),
                }
            }
        }
    }

    /// Packs a sum of row blocks of `A`'s quadrants.
    fn pack_a_sum(
        &self,
        sum: Terms<usize>,
        a: [MatRef<'_, T>; 4],
        depth: usize,
        packed: &mut [T],
        scratch: &mut [T],
    ) {
        let mr = self.mr();
        for (i, panel) in packed.chunks_exact_mut(depth * mr).enumerate() {
            let lanes = a.map(|quadrant| {
                let rows = (i * mr).min(quadrant.rows())..((i + 1) * mr).min(quadrant.rows());
                quadrant.sub(rows, 0..quadrant.cols())
            });
            pack_terms(
                self.micro(),
                sum.map(|quadrant| lanes[quadrant]),
                mr,
                panel,
                scratch,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Simd;

    fn quadrants(x: MatRef<'_, f64>, rows: usize, cols: usize) -> [MatRef<'_, f64>; 4] {
        [
            x.sub(0..rows, 0..cols),
            x.sub(0..rows, cols..x.cols()),
            x.sub(rows..x.rows(), 0..cols),
            x.sub(rows..x.rows(), cols..x.cols()),
        ]
    }

    /// Strassen's identities themselves: with integers, every sum and product is exact.
    #[test]
    fn the_products_make_the_product() {
        for (m, k, n) in [
            (2, 2, 2),
            (3, 3, 3),
            (17, 9, 50),
            (401, 33, 101),
            (64, 1024, 49),
            (5, 1, 7),
        ] {
            let value = |seed: usize, i: usize, j: usize| ((i * 31 + j * 17 + seed * 7) % 13) as f64 - 6.0;
            let a: Vec<f64> = (0..m * k).map(|at| value(1, at / k, at % k)).collect();
            let b: Vec<f64> = (0..k * n).map(|at| value(2, at / n, at % n)).collect();
            let expected = |i: usize, j: usize| (0..k).map(|p| a[i * k + p] * b[p * n + j]).sum::<f64>();
            for simd in Simd::available() {
                let kernel = Kernel::<f64>::new(simd);
                let (rows, depth, cols) = (m.div_ceil(2), k.div_ceil(2), n.div_ceil(2));
                let place = SumsPlace {
                    depth,
                    cols,
                    first_step: 0,
                    first_col: 0,
                };
                let mut packed = vec![f64::NAN; kernel.packed_sums_len(depth, cols)];
                let mut scratch = vec![f64::NAN; kernel.pack_sums_scratch_len()];
                let b_quadrants = quadrants(MatRef::row_major(&b, k, n), depth, cols);
                kernel.pack_b_sums(b_quadrants, place, &mut packed, &mut scratch);
                let mut c = vec![f64::NAN; m * n];
                let mut scratch = vec![f64::NAN; kernel.strassen_scratch_len(rows, depth)];
                for accumulate in [false, true] {
                    let (top, bottom) = MatMut::new(&mut c, m, n, n).split_at_row(rows);
                    let ((c0, c1), (c2, c3)) = (top.split_at_col(cols), bottom.split_at_col(cols));
                    let a_quadrants = quadrants(MatRef::row_major(&a, m, k), rows, depth);
                    kernel.multiply_strassen(
                        a_quadrants,
                        &packed,
                        place,
                        [c0, c1, c2, c3],
                        accumulate,
                        &mut scratch,
                    );
                    let times = if accumulate { 2.0 } else { 1.0 };
                    for (at, found) in c.iter().enumerate() {
                        assert_eq!(
                            *found,
                            times * expected(at / n, at % n),
                            "{m} x {k} x {n}, {simd}, element {at}"
                        );
                    }
                }
            }
        }
    }
}
