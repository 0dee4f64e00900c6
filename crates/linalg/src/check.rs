//! Freivalds' check of one tile while its panels stream by: C·x against A·(B·x), row by row (R. Freivalds, "Probabilistic
//! machines can use less running time", IFIP 1977), with x random in ±[0.5, 1).
//!
//! The bound is deterministic: no correct result is ever refused. For row i it is `coefficient · (|A|·|B|·|x|)_i`, where the
//! coefficient counts the roundings on both sides (Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed.,
//! section 3.5). docs/numerics.md has the derivation and the detection limit that follows from it.
//!
//! What rounding does in practice is hundreds of times less, and much alike in all rows of a tile. So rows that are within their
//! bound but stand out are named: a second look (`second_look.rs`) computes them once more.

use crate::matvec::{Weighted, WeightedMut, chain_len, dot};
use crate::operand::{Number, Operand};
use crate::plan::Algorithm;
use crate::recompute::ROWS_PER_PASS;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use std::ops::RangeInclusive;
use tilework_kernel::Element;

/// Second-order terms of the error analysis, generously.
const SECOND_ORDER: f64 = 1.05;

/// What rounding adds to an element of C at most: in parts of the element of |A|·|B| for the classical algorithm, and in parts of
/// k·max|A|·max|B| for Strassen's. docs/numerics.md derives both.
pub fn element_error_bound<T: Number>(algorithm: Algorithm, k: usize) -> f64 {
    let roundings = match algorithm {
        Algorithm::Classical => (T::KC.min(k) + k.div_ceil(T::KC) + 1) as f64,
        Algorithm::Strassen => 16.0 * strassen_roundings::<T>(k) as f64,
    };
    SECOND_ORDER * roundings * T::UNIT_ROUNDOFF
}

/// What alpha, beta and the sum add to that where C is more than op(A)·op(B): all is then in parts of |alpha| times what it was in
/// parts of, plus |beta|·|D|.
pub fn formula_error_bound<T: Number>() -> f64 {
    SECOND_ORDER * T::UNIT_ROUNDOFF
}

/// Roundings of a term on its way through one of Strassen's products to C.
fn strassen_roundings<T: Number>(k: usize) -> usize {
    let n_pairs = k.div_ceil(2 * T::KC);
    T::KC.min(k) + 3 + 4 * n_pairs
}

/// What Strassen's algorithm adds to the coefficient of a residual, whose magnitudes then count twin rows and twin depths too; that twin
/// columns count three times at most is in here.
pub(crate) fn strassen_residual_bound<T: Number>(k: usize) -> f64 {
    SECOND_ORDER * (6 * strassen_roundings::<T>(k)) as f64 * T::UNIT_ROUNDOFF
}

/// Times that Strassen's algorithm loses what the classical one may lose by underflow.
pub(crate) const STRASSEN_UNDERFLOWS: f64 = 4.0;

/// What decides the roundings on the way from inputs to residual.
#[derive(Debug, Clone, Copy)]
pub struct ErrorModel {
    /// Relative bound of one row's residual.
    pub coefficient: f64,
    /// Inner dimension.
    pub k: usize,
    /// Columns of the widest tile.
    pub n_cols: usize,
    /// Distance of the two rows that Strassen's algorithm adds to each other; their errors mix.
    pub twin_distance: Option<usize>,
    /// Spacing of the dtype's smallest numbers: what one underflow loses.
    underflow: f64,
    /// Roundings of A·(B·x), in f64.
    check_chain: usize,
}

impl ErrorModel {
    /// For tiles of at most `n_cols` columns of op(A)·op(B), with B's rows read in `n_col_chunks` and summed in `n_col_groups`.
    pub fn new<T: Number>(
        a: &Operand,
        b: &Operand,
        n_cols: usize,
        n_col_chunks: usize,
        n_col_groups: usize,
    ) -> ErrorModel {
        let k = a.cols() as usize;
        let depth_block = T::KC.clamp(1, k.max(1));
        // C: one chain of at most KC fused multiply-adds per depth block, then the sum of the blocks.
        let product = T::KC.min(k) + k.div_ceil(T::KC) + 1;
        // The check's three sums, in f64: C·x, B·x and A·y.
        let c_x = chain_len(n_cols, true) + 1;
        let b_x = chain_len(n_cols, b.is_row_contiguous()) + n_col_chunks + n_col_groups;
        let a_y = if a.is_row_contiguous() {
            chain_len(depth_block, true) + k.div_ceil(depth_block)
        } else {
            k
        } + 1;
        let roundings = product as f64 * T::UNIT_ROUNDOFF + (c_x + b_x + a_y) as f64 * f64::UNIT_ROUNDOFF;
        ErrorModel {
            coefficient: SECOND_ORDER * roundings,
            k,
            n_cols,
            twin_distance: None,
            underflow: T::SMALLEST,
            check_chain: b_x + a_y,
        }
    }

    /// For alpha·op(A)·op(B) + beta·D, with D read in `n_pieces` of each row, whose products with x are sums of `d_x` additions.
    /// Both are 0 where nothing is added.
    ///
    /// C has one rounding more, that of the last fused multiply-add (and beta·D two, which are never more than C's). On the
    /// other side alpha·A·(B·x) has the multiplication and one addition for each piece, beta·D·x those and its own sums.
    #[must_use]
    pub fn enlarged<T: Number>(self, d_x: usize, n_pieces: usize) -> ErrorModel {
        let check_chain = self.check_chain.max(d_x) + n_pieces + 1;
        let longer = (check_chain - self.check_chain) as f64;
        let roundings = T::UNIT_ROUNDOFF + longer * f64::UNIT_ROUNDOFF;
        ErrorModel {
            coefficient: self.coefficient + SECOND_ORDER * roundings,
            check_chain,
            ..self
        }
    }

    /// The same tile computed with one level of Strassen's algorithm on rows `twin_distance` apart. The magnitudes of B·x are then
    /// those of [`share_between_halves`], and the bound of a row counts both rows.
    ///
    /// Each product is a chain of at most KC fused multiply-adds on sums that were rounded once; at most four products for each two
    /// depth blocks go to an element of C; and no pair of elements of A and B occurs in more than two of them. docs/numerics.md has
    /// the derivation. A·y is summed over two depth blocks at a time.
    pub fn strassen<T: Number>(self, twin_distance: usize) -> ErrorModel {
        let chain = |n_blocks: usize| chain_len((n_blocks * T::KC).min(self.k), true);
        let longer = chain(2) - chain(1);
        let roundings = SECOND_ORDER * longer as f64 * f64::UNIT_ROUNDOFF;
        ErrorModel {
            coefficient: self.coefficient + strassen_residual_bound::<T>(self.k) + roundings,
            twin_distance: Some(twin_distance),
            check_chain: self.check_chain + longer,
            underflow: STRASSEN_UNDERFLOWS * self.underflow,
            ..self
        }
    }

    /// Residuals of rows of `n_cols` elements that are no reason for suspicion by themselves, up to those that always are one.
    ///
    /// Of n roundings that err up as often as down the root of n remains (Higham and Mary, "A new approach to probabilistic rounding
    /// error analysis", SIAM J. Sci. Comput. 41(5), 2019): as much may be left where one element is all of its row. In a row of many
    /// alike their errors cancel in the same way. The check's own sums leave a part of one rounding in f64, however long the row is.
    fn usual_residuals<T: Number>(&self, n_cols: usize) -> RangeInclusive<f64> {
        let of_an_element = (self.coefficient * T::UNIT_ROUNDOFF).sqrt();
        let of_an_even_row = of_an_element / (n_cols.max(1) as f64).sqrt();
        let of_the_check = f64::UNIT_ROUNDOFF / 4.0;
        of_an_even_row.max(of_the_check)..=of_an_element.max(of_the_check)
    }

    /// Where |B|·|x| starts, so that underflow in B·x stays within the bound.
    fn magnitude_start_b(&self) -> f64 {
        self.n_cols as f64 * f64::from_bits(1) / self.coefficient
    }

    /// Where |A|·|B|·|x| starts, so that underflow in C, C·x and A·y stays within the bound.
    fn magnitude_start_a(&self) -> f64 {
        2.0 * (self.n_cols * (self.k + 1)) as f64 * self.underflow / self.coefficient
    }

    /// Where |D|·|x| starts, so that underflow in D·x stays within the bound.
    pub(crate) fn magnitude_start_d(&self) -> f64 {
        self.magnitude_start_b()
    }

    /// What is added to |alpha|·|A|·|B|·|x|, so that underflow in beta·d, in the sum, and in scaling both stays within the bound.
    pub(crate) fn magnitude_start_c(&self) -> f64 {
        8.0 * self.n_cols as f64 * self.underflow / self.coefficient
    }
}

/// x: each element random in ±[0.5, 1), so that none can hide behind a small factor.
pub fn random_vector(seed: [u8; 32], out: &mut [f64]) {
    let mut rng = ChaCha8Rng::from_seed(seed);
    for x in out {
        let bits = rng.next_u64();
        let mantissa = f64::from_bits(0x3fe0_0000_0000_0000 | bits >> 12);
        *x = if bits & 1 == 0 { mantissa } else { -mantissa };
    }
}

/// What the check found.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Every row is within its bound.
    Passed {
        /// The largest residual as a share of |A|·|B|·|x|: compare with the model's coefficient.
        residual_max: f64,
        /// Rows within the tile whose residuals stand out, from the largest on; as many as are computed again in one pass at most.
        suspects: Vec<usize>,
    },
    /// Something is infinite or not a number, or would be on the way: [`certify`](crate::certify) decides.
    NotFinite,
    /// A row is outside its bound.
    Failed {
        /// Row within the tile.
        row: usize,
        /// Its residual as a share of |A|·|B|·|x|.
        residual: f64,
    },
    /// A suspect has other bits than the same row computed plainly.
    Differs {
        /// Row within the tile.
        row: usize,
    },
}

/// How many times the median residual of a tile's rows stands out.
const STANDS_OUT: f64 = 16.0;
/// How many times the largest residual that stood out and was right: so the matrices of a job, however uneven, cost a worker a few second looks and
/// no more.
const STANDS_OUT_ANEW: f64 = 4.0;
/// Fewer rows have no median to speak of.
const FEW_ROWS: usize = 2 * ROWS_PER_PASS;

/// The vectors of one tile's check; made once, reused for every tile.
#[derive(Debug)]
pub struct TileCheck {
    x: Vec<f64>,
    x_magnitude: Vec<f64>,
    b_x: Vec<f64>,
    b_x_magnitude: Vec<f64>,
    a_b_x: Vec<f64>,
    a_b_x_magnitude: Vec<f64>,
    residuals: Vec<f64>,
    /// The largest residual that stood out and was right.
    right_residual: f64,
    model: ErrorModel,
}

/// The vectors of a tile's check while it is computed: each thread changes its own part.
#[derive(Debug)]
pub struct CheckParts<'a> {
    /// The random vector, over the tile's columns.
    pub x: Weighted<'a>,
    /// What |B|·|x| starts from, where B·x starts from zero.
    pub y_magnitude_start: f64,
    /// B·x of each group of columns, over the depth of packed B.
    pub y: WeightedMut<'a>,
    /// A·(B·x), over the tile's rows.
    pub rows: WeightedMut<'a>,
}

impl TileCheck {
    /// Vectors for tiles of at most this size, and sums over at most `n_col_groups` groups of their columns.
    pub fn new(tile_rows: usize, tile_cols: usize, packed_depth: usize, n_col_groups: usize) -> TileCheck {
        TileCheck {
            x: vec![0.0; tile_cols],
            x_magnitude: vec![0.0; tile_cols],
            b_x: vec![0.0; packed_depth * n_col_groups],
            b_x_magnitude: vec![0.0; packed_depth * n_col_groups],
            a_b_x: vec![0.0; tile_rows],
            a_b_x_magnitude: vec![0.0; tile_rows],
            residuals: vec![0.0; tile_rows],
            right_residual: 0.0,
            model: ErrorModel {
                coefficient: 0.0,
                k: 0,
                n_cols: 0,
                twin_distance: None,
                underflow: 0.0,
                check_chain: 0,
            },
        }
    }

    /// Chooses x for columns of B that are about to be read; it serves every tile that finds them packed.
    pub fn start_columns(&mut self, model: ErrorModel, seed: [u8; 32]) {
        self.model = model;
        random_vector(seed, &mut self.x[..model.n_cols]);
        self.x_magnitude
            .iter_mut()
            .zip(&self.x)
            .for_each(|(magnitude, x)| *magnitude = x.abs());
    }

    /// Starts a tile of the columns that were started last; the model may differ in what concerns the tile's rows.
    pub fn start_tile(&mut self, model: ErrorModel) {
        self.model = model;
        self.a_b_x.fill(0.0);
        self.a_b_x_magnitude.fill(self.model.magnitude_start_a());
    }

    /// Splits the vectors for the threads that work on a tile of `n_rows` rows.
    pub fn split(&mut self, n_rows: usize) -> CheckParts<'_> {
        CheckParts {
            x: Weighted {
                value: &self.x[..self.model.n_cols],
                magnitude: &self.x_magnitude[..self.model.n_cols],
            },
            y_magnitude_start: self.model.magnitude_start_b(),
            y: WeightedMut {
                value: &mut self.b_x,
                magnitude: &mut self.b_x_magnitude,
            },
            rows: WeightedMut {
                value: &mut self.a_b_x[..n_rows],
                magnitude: &mut self.a_b_x_magnitude[..n_rows],
            },
        }
    }

    /// Finishes a tile of the first `n_cols` columns: makes NaNs canonical, takes the CRC32C of its rows (without padding), and
    /// compares every row.
    pub fn finish_tile<T: Number>(
        &mut self,
        c: &mut [T],
        n_cols: usize,
        leading_dimension: usize,
        band_rows: usize,
    ) -> (Verdict, u32) {
        let n_rows = c.len() / leading_dimension.max(1);
        let mut residuals = std::mem::take(&mut self.residuals);
        let x = Weighted {
            value: &self.x[..n_cols],
            magnitude: &self.x_magnitude[..n_cols],
        };
        let crcs: Vec<(u32, usize)> = c
            .par_chunks_mut(band_rows * leading_dimension)
            .zip(residuals[..n_rows].par_chunks_mut(band_rows))
            .enumerate()
            .map(|(i, (band, residuals))| {
                let mut crc = 0;
                let rows = band.chunks_mut(leading_dimension).zip(&mut *residuals);
                for (r, (row, residual)) in rows.enumerate() {
                    let row = &mut row[..n_cols];
                    let c_x = dot(row, x).0;
                    if !c_x.is_finite() {
                        canonicalize_nans(row);
                    }
                    crc = crc32c::crc32c_append(crc, bytemuck::cast_slice(row));
                    *residual = self.residual(i * band_rows + r, c_x);
                }
                (crc, residuals.len() * n_cols * size_of::<T>())
            })
            .collect();
        let crc = crcs
            .into_iter()
            .fold(0, |crc, (next, len)| crc32c::crc32c_combine(crc, next, len));
        let verdict = self.judge::<T>(&residuals[..n_rows], n_cols);
        self.residuals = residuals;
        (verdict, crc)
    }

    /// The tile's suspects are right: later rows are held against them too.
    pub fn trust(&mut self, suspects: &[usize]) {
        let residuals = suspects.iter().map(|row| self.residuals[*row]);
        self.right_residual = residuals.fold(self.right_residual, f64::max);
    }

    /// The graver first: a row outside its bound, then one that is not finite.
    fn judge<T: Number>(&self, residuals: &[f64], n_cols: usize) -> Verdict {
        let coefficient = self.model.coefficient;
        if let Some(row) = residuals.iter().position(|residual| *residual > coefficient) {
            return Verdict::Failed {
                row,
                residual: residuals[row],
            };
        }
        if residuals.iter().any(|residual| residual.is_nan()) {
            return Verdict::NotFinite;
        }
        Verdict::Passed {
            residual_max: residuals.iter().copied().fold(0.0, f64::max),
            suspects: suspects(
                residuals,
                self.model.usual_residuals::<T>(n_cols),
                STANDS_OUT_ANEW * self.right_residual,
            ),
        }
    }

    /// |A|·|B|·|x| of a row, and of its twin.
    fn magnitude_of(&self, row: usize) -> f64 {
        let own = self.a_b_x_magnitude[row];
        let twin = self.model.twin_distance.map(|distance| {
            if row < distance {
                row + distance
            } else {
                row - distance
            }
        });
        own + twin
            .and_then(|twin| self.a_b_x_magnitude.get(twin))
            .copied()
            .unwrap_or(0.0)
    }

    /// A row's residual as a share of |A|·|B|·|x|; NaN where something is not finite.
    fn residual(&self, row: usize, c_x: f64) -> f64 {
        let magnitude = self.magnitude_of(row);
        let difference = (c_x - self.a_b_x[row]).abs();
        if !(magnitude.is_finite() && difference.is_finite()) {
            f64::NAN
        } else if difference == 0.0 {
            0.0
        } else {
            difference / magnitude
        }
    }
}

/// The rows that stand out from the others by their residuals, from the largest on.
///
/// The median of the rows that are not exact is what they are held against, for those that stand out do not move it; but where few are inexact.
/// Where most are wrong it says nothing, and it is not believed outside of what is usual.
fn suspects(residuals: &[f64], usual: RangeInclusive<f64>, trusted: f64) -> Vec<usize> {
    let mut inexact: Vec<f64> = residuals
        .iter()
        .copied()
        .filter(|residual| *residual > 0.0)
        .collect();
    let n_inexact = inexact.len();
    let median = if n_inexact < FEW_ROWS {
        0.0
    } else {
        *inexact.select_nth_unstable_by(n_inexact / 2, f64::total_cmp).1
    };
    let threshold = (STANDS_OUT * median).clamp(*usual.start(), *usual.end());
    let threshold = threshold.max(trusted);
    let mut suspects = Vec::with_capacity(ROWS_PER_PASS + 1);
    for row in (0..residuals.len()).filter(|row| residuals[*row] > threshold) {
        let at = suspects.partition_point(|other: &usize| residuals[*other] >= residuals[row]);
        suspects.insert(at, row);
        suspects.truncate(ROWS_PER_PASS);
    }
    suspects
}

/// Gives both halves of a pair of depth blocks the sum of their magnitudes: Strassen's algorithm adds elements of one to elements of
/// the other. The second half may be shorter.
pub fn share_between_halves(magnitudes: &mut [f64], half: usize) {
    let (first, second) = magnitudes.split_at_mut(half.min(magnitudes.len()));
    for (one, two) in first.iter_mut().zip(second) {
        let sum = *one + *two;
        (*one, *two) = (sum, sum);
    }
}

/// Gives every NaN the one pattern that is written: the quiet, positive one without payload.
pub fn canonicalize_nans<T: Number>(row: &mut [T]) {
    let nan = <T as Element>::from_f64(f64::NAN);
    for element in row {
        #[expect(clippy::eq_op, reason = "only a NaN differs from itself")]
        if *element != *element {
            *element = nan;
        }
    }
}

#[cfg(test)]
mod tests;
