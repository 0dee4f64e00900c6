//! The certificate C·x = alpha·A·(B·x) + beta·D·x for any block of any C, whatever its elements are.
//!
//! Used by `verify`, and for tiles whose panels hold infinities or NaNs, or whose sums overflow. Non-finite inputs are taken
//! out first: a NaN in a row of A or a column of B makes all of that row or column of C NaN; rows and columns with
//! infinities, those with a non-finite element of D, and rows of C that overflow, are computed plainly and compared by kind.
//! All else goes through Freivalds' check, with A, B, D and C scaled by powers of two so that no sum can overflow.

use crate::check::{STRASSEN_UNDERFLOWS, random_vector, share_between_halves, strassen_residual_bound};
use crate::formula::{Addend, Formula};
use crate::operand::{Number, Operand};
use crate::plan::Algorithm;
use crate::recompute::{ROWS_PER_PASS, RowsOf, agrees, plain_rows};
use std::ops::Range;
use tilework_core::failure::Failure;
use tilework_store::element_type::Scalar;

/// The product to be certified, read in blocks of whole element rows.
pub trait Product<T> {
    /// Reads a block, row by row and without gaps, into the start of `out`.
    fn read(&self, rows: Range<u64>, cols: Range<u64>, out: &mut [T]) -> Result<(), Failure>;
}

/// Fails when the work should stop; called every few milliseconds to seconds.
pub type KeepOn<'a> = &'a dyn Fn() -> Result<(), Failure>;

/// What is certified: rows and columns of what a formula makes of op(A)·op(B), both in indices of the whole product.
#[derive(Debug, Clone)]
pub struct Claim<'a> {
    /// op(A).
    pub a: &'a Operand,
    /// op(B).
    pub b: &'a Operand,
    /// alpha, beta and D.
    pub formula: &'a Formula,
    /// Rows of the block.
    pub rows: Range<u64>,
    /// Columns of the block.
    pub cols: Range<u64>,
    /// What computed it: Strassen's bound is for the rows and columns of one tile, the classical one for any.
    pub algorithm: Algorithm,
    /// Seed of x.
    pub seed: [u8; 32],
}

/// The outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate {
    /// Largest residual of a row, as a share of |alpha|·|A|·|B|·|x| + |beta|·|D|·|x|.
    pub residual_max: f64,
    /// What it was held against.
    pub residual_bound: f64,
    /// Rows (of the whole product) that are wrong, in order.
    pub bad_rows: Vec<u64>,
    /// Rows and columns that were computed plainly.
    pub n_plain: usize,
}

impl Certificate {
    /// Whether nothing is wrong.
    pub fn holds(&self) -> bool {
        self.bad_rows.is_empty()
    }
}

/// What the elements of a row of A, or a column of B, are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Finite,
    /// Holds an infinity, or meets a non-finite element of D: computed plainly.
    Plain,
    NotANumber,
}

/// Rows of an operand by class, and the power of two above all finite elements; `None` if all of those are 0.
struct Classes {
    lines: Vec<Class>,
    exponent: Option<i32>,
}

impl Classes {
    /// What the operand is scaled by.
    fn scale(&self) -> f64 {
        exp2(-self.exponent.unwrap_or(0))
    }
}

/// Certifies a block. `buffer` holds what is read at a time: at least 1024 elements; more is faster.
pub fn certify<T: Number>(
    claim: &Claim<'_>,
    c: &dyn Product<T>,
    buffer: &mut [T],
    keep_on: KeepOn<'_>,
) -> Result<Certificate, Failure> {
    let mut a_classes = classify(claim.a, claim.rows.clone(), buffer)?;
    let mut b_classes = classify(&claim.b.transpose(), claim.cols.clone(), buffer)?;
    keep_on()?;
    let d_exponent = match claim.formula.addend() {
        Some(addend) => classify_d(claim, addend, &mut a_classes, &mut b_classes, buffer)?,
        None => None,
    };
    keep_on()?;
    let weights = Weights::new(claim, &a_classes, &b_classes, d_exponent, buffer)?;
    keep_on()?;
    let mut bad = vec![false; a_classes.lines.len()];
    let mut outcome = compare(claim, c, &a_classes, &b_classes, &weights, &mut bad, buffer)?;
    let rows_to_compute = a_classes
        .lines
        .iter()
        .enumerate()
        .filter(|(_, class)| **class == Class::Plain);
    outcome
        .plain_rows
        .extend(rows_to_compute.map(|(i, _)| claim.rows.start + i as u64));
    let cols_to_compute = b_classes
        .lines
        .iter()
        .enumerate()
        .filter(|(_, class)| **class == Class::Plain);
    let plain_cols: Vec<u64> = cols_to_compute
        .map(|(j, _)| claim.cols.start + j as u64)
        .collect();
    for rows in outcome.plain_rows.chunks(ROWS_PER_PASS) {
        compare_plain_rows(claim, c, rows, &mut bad, buffer, keep_on)?;
    }
    for cols in plain_cols.chunks(ROWS_PER_PASS) {
        compare_plain_cols(claim, c, cols, &mut bad, buffer, keep_on)?;
    }
    let bad_rows = (claim.rows.clone())
        .zip(&bad)
        .filter(|(_, bad)| **bad)
        .map(|(row, _)| row)
        .collect();
    Ok(Certificate {
        residual_max: outcome.residual_max,
        residual_bound: weights.coefficient,
        bad_rows,
        n_plain: outcome.plain_rows.len() + plain_cols.len(),
    })
}

/// Blocks of an operand's rows that fit `len` elements, whole in their contiguous direction where that is possible.
fn blocks(
    n_rows: u64,
    n_cols: u64,
    len: usize,
    row_contiguous: bool,
) -> impl Iterator<Item = (Range<u64>, Range<u64>)> {
    let len = len as u64;
    let (rows_each, cols_each) = if row_contiguous {
        let cols = n_cols.clamp(1, len);
        ((len / cols).clamp(1, n_rows.max(1)), cols)
    } else {
        let rows = n_rows.clamp(1, len);
        (rows, (len / rows).clamp(1, n_cols.max(1)))
    };
    (0..n_rows).step_by(rows_each as usize).flat_map(move |row| {
        let cols = (0..n_cols).step_by(cols_each as usize);
        cols.map(move |col| (row..n_rows.min(row + rows_each), col..n_cols.min(col + cols_each)))
    })
}

fn classify<T: Number>(operand: &Operand, rows: Range<u64>, buffer: &mut [T]) -> Result<Classes, Failure> {
    let n_rows = rows.end - rows.start;
    let mut lines = vec![Class::Finite; n_rows as usize];
    let mut largest = 0.0f64;
    for (block_rows, cols) in blocks(n_rows, operand.cols(), buffer.len(), operand.is_row_contiguous()) {
        let shifted = rows.start + block_rows.start..rows.start + block_rows.end;
        let view = operand.read(shifted, cols, buffer)?;
        for i in 0..view.rows() {
            let line = &mut lines[block_rows.start as usize + i];
            for p in 0..view.cols() {
                let element = Scalar::to_f64(view.get(i, p));
                if element.is_nan() {
                    *line = Class::NotANumber;
                } else if element.is_infinite() {
                    *line = (*line).max(Class::Plain);
                } else {
                    largest = largest.max(element.abs());
                }
            }
        }
    }
    Ok(Classes {
        lines,
        exponent: exponent_above(largest),
    })
}

/// The power of two above a magnitude, as far as scaling by it stays within the numbers; `None` for 0.
fn exponent_above(magnitude: f64) -> Option<i32> {
    (magnitude != 0.0).then(|| (magnitude.log2().ceil() as i32).clamp(-1000, 1000))
}

/// Finds the power of two above D's finite elements, and has those rows or columns computed plainly that meet the others,
/// whichever is less work. What A or B decide already is left alone.
fn classify_d<T: Number>(
    claim: &Claim<'_>,
    addend: &Addend,
    a: &mut Classes,
    b: &mut Classes,
    buffer: &mut [T],
) -> Result<Option<i32>, Failure> {
    let mut rows_met = vec![false; a.lines.len()];
    let mut cols_met = vec![false; b.lines.len()];
    let mut largest = 0.0f64;
    for_each_of_d(claim, addend, a, b, buffer, |row, col, element| {
        if element.is_finite() {
            largest = largest.max(element.abs());
        } else {
            rows_met[row] = true;
            cols_met[col] = true;
        }
    })?;
    let count = |met: &[bool]| met.iter().filter(|met| **met).count();
    let by_rows = count(&rows_met) * cols_met.len() <= count(&cols_met) * rows_met.len();
    let (met, lines) = if by_rows {
        (rows_met, &mut a.lines)
    } else {
        (cols_met, &mut b.lines)
    };
    for (line, _) in lines.iter_mut().zip(met).filter(|(_, met)| *met) {
        *line = (*line).max(Class::Plain);
    }
    Ok(exponent_above(largest))
}

/// Calls `each` with the elements of D whose row and column are finite, and where they are in the block.
fn for_each_of_d<T: Number>(
    claim: &Claim<'_>,
    addend: &Addend,
    a: &Classes,
    b: &Classes,
    buffer: &mut [T],
    mut each: impl FnMut(usize, usize, f64),
) -> Result<(), Failure> {
    let (n_rows, n_cols) = (a.lines.len() as u64, b.lines.len() as u64);
    let (from_row, from_col) = (claim.rows.start, claim.cols.start);
    for (rows, cols) in blocks(n_rows, n_cols, buffer.len(), addend.d.is_row_contiguous()) {
        let view = addend.d.read(
            from_row + rows.start..from_row + rows.end,
            from_col + cols.start..from_col + cols.end,
            buffer,
        )?;
        for i in 0..view.rows() {
            let row = rows.start as usize + i;
            for j in 0..view.cols() {
                let col = cols.start as usize + j;
                if a.lines[row].max(b.lines[col]) == Class::Finite {
                    each(row, col, Scalar::to_f64(view.get(i, j)));
                }
            }
        }
    }
    Ok(())
}

/// x, and alpha·A·(B·x) + beta·D·x with its magnitudes, in units of 2^exponent.
struct Weights {
    x: Vec<f64>,
    expected: Vec<f64>,
    magnitude: Vec<f64>,
    coefficient: f64,
    exponent: i32,
}

impl Weights {
    fn new<T: Number>(
        claim: &Claim<'_>,
        a: &Classes,
        b: &Classes,
        d_exponent: Option<i32>,
        buffer: &mut [T],
    ) -> Result<Weights, Failure> {
        let (k, n_cols) = (claim.a.cols() as usize, b.lines.len());
        let mut x = vec![0.0; n_cols];
        random_vector(claim.seed, &mut x);
        let finite_cols: Vec<bool> = b.lines.iter().map(|class| *class == Class::Finite).collect();
        x.iter_mut()
            .zip(&finite_cols)
            .filter(|(_, finite)| !**finite)
            .for_each(|(x, _)| *x = 0.0);
        let coefficient = coefficient::<T>(claim, n_cols);
        // What underflow can lose, in the scaled units: it must not count as an error.
        let tiny = f64::MIN_POSITIVE * (n_cols + k + 1) as f64;
        let (b_x, mut b_x_magnitude) = {
            let weight = |p: usize| if finite_cols[p] { Some(x[p]) } else { None };
            let b_transposed = claim.b.transpose();
            weigh_transposed(
                &b_transposed,
                claim.cols.clone(),
                k,
                b.scale(),
                &weight,
                tiny / coefficient,
                buffer,
            )?
        };
        if claim.algorithm == Algorithm::Strassen {
            for pair in b_x_magnitude.chunks_mut(2 * T::KC) {
                let half = pair.len().div_ceil(2);
                share_between_halves(pair, half);
            }
        }
        let mut a_b_x = vec![0.0; a.lines.len()];
        let mut magnitude = vec![tiny * 4.0 / coefficient; a.lines.len()];
        let scale = a.scale();
        for (rows, depth) in blocks(
            a.lines.len() as u64,
            k as u64,
            buffer.len(),
            claim.a.is_row_contiguous(),
        ) {
            let shifted = claim.rows.start + rows.start..claim.rows.start + rows.end;
            let view = claim.a.read(shifted, depth.clone(), buffer)?;
            for i in 0..view.rows() {
                let row = rows.start as usize + i;
                if a.lines[row] == Class::Finite {
                    for p in 0..view.cols() {
                        let element = Scalar::to_f64(view.get(i, p)) * scale;
                        a_b_x[row] += element * b_x[depth.start as usize + p];
                        magnitude[row] += element.abs() * b_x_magnitude[depth.start as usize + p];
                    }
                }
            }
        }
        if claim.algorithm == Algorithm::Strassen {
            share_among_rows(&mut magnitude);
        }
        let mut weights = Weights {
            x,
            expected: a_b_x,
            magnitude,
            coefficient,
            exponent: 0,
        };
        weights.apply_formula(claim, a, b, d_exponent, tiny, buffer)?;
        Ok(weights)
    }

    /// Turns A·(B·x), in units of 2^(exponent of A + exponent of B), into what C·x is held against, in units of the larger of
    /// its two terms.
    fn apply_formula<T: Number>(
        &mut self,
        claim: &Claim<'_>,
        a: &Classes,
        b: &Classes,
        d_exponent: Option<i32>,
        tiny: f64,
        buffer: &mut [T],
    ) -> Result<(), Failure> {
        // A clamped exponent keeps what underflow loses within the numbers when it is scaled.
        const EXPONENT_MIN: i32 = -2000;
        let (alpha, alpha_exponent) = parts(claim.formula.alpha());
        let product_exponent = a.exponent.zip(b.exponent).filter(|_| alpha != 0.0);
        let product_exponent = product_exponent.map(|(a, b)| a + b + alpha_exponent);
        let addend = claim
            .formula
            .addend()
            .zip(d_exponent)
            .map(|(addend, d_exponent)| {
                let (beta, beta_exponent) = parts(addend.beta);
                (addend, beta, d_exponent, d_exponent + beta_exponent)
            });
        let addend = addend.filter(|(_, beta, _, _)| *beta != 0.0);
        let larger = product_exponent.max(addend.map(|(_, _, _, exponent)| exponent));
        self.exponent = larger.unwrap_or(0).max(EXPONENT_MIN);
        // Underflow in C itself, which is in its own units, and what it is compared with is not.
        let (n_cols, k) = (self.x.len(), claim.a.cols() as usize);
        let lost = |count: usize, exponent: i32| {
            Scaling::new(exponent).apply(2.0 * (n_cols * count) as f64 * T::SMALLEST)
        };
        let mut underflow = 0.0;
        if !claim.formula.is_plain() {
            underflow = lost(FORMULA_ROUNDINGS, -self.exponent) + 4.0 * tiny;
        }
        match product_exponent {
            Some(exponent) => {
                let times = match claim.algorithm {
                    Algorithm::Classical => 1.0,
                    Algorithm::Strassen => STRASSEN_UNDERFLOWS,
                };
                underflow += times * lost(k + 1, alpha_exponent - self.exponent) * alpha.abs();
                let scaling = Scaling::new(exponent - self.exponent);
                for (value, magnitude) in self.expected.iter_mut().zip(&mut self.magnitude) {
                    *value = scaling.apply(*value * alpha);
                    *magnitude = scaling.apply(*magnitude * alpha.abs()) + underflow / self.coefficient;
                }
            }
            None => {
                self.expected.fill(0.0);
                self.magnitude.fill(underflow / self.coefficient);
            }
        }
        if let Some((addend, beta, d_exponent, exponent)) = addend {
            let scale = exp2(-d_exponent);
            let scaling = Scaling::new(exponent - self.exponent);
            let (x, expected, magnitude) = (&self.x, &mut self.expected, &mut self.magnitude);
            for_each_of_d(claim, addend, a, b, buffer, |row, col, element| {
                let term = scaling.apply(element * scale * beta) * x[col];
                expected[row] += term;
                magnitude[row] += term.abs();
            })?;
        }
        Ok(())
    }
}

/// Roundings that alpha, beta and the sum may cost, by whoever computed C: both factors rounded to C's dtype, two products, a sum.
const FORMULA_ROUNDINGS: usize = 4;

/// The longest chain of roundings in an element of C.
fn chain_len(claim: &Claim<'_>) -> u64 {
    let formula = if claim.formula.is_plain() {
        0
    } else {
        FORMULA_ROUNDINGS as u64
    };
    claim.a.cols() + formula
}

/// Relative bound of a row's residual: the longest chains of additions on both sides, in whatever order they were made.
fn coefficient<T: Number>(claim: &Claim<'_>, n_cols: usize) -> f64 {
    let chain_len = chain_len(claim) as usize;
    // C·x, B·x and D·x.
    let n_sums = if claim.formula.d().is_some() { 3 } else { 2 };
    let check = (n_sums * n_cols + chain_len + 8) as f64 * f64::UNIT_ROUNDOFF;
    let classical = 1.05 * ((chain_len + 1) as f64 * T::UNIT_ROUNDOFF + check);
    match claim.algorithm {
        Algorithm::Classical => classical,
        Algorithm::Strassen => classical + strassen_residual_bound::<T>(claim.a.cols() as usize),
    }
}

/// Adds the largest row's magnitude to every row's: whichever row of the tile is its twin, that one's errors are covered.
fn share_among_rows(magnitudes: &mut [f64]) {
    let largest = magnitudes.iter().copied().fold(0.0, f64::max);
    magnitudes.iter_mut().for_each(|magnitude| *magnitude += largest);
}

/// Sums of weighted columns: B·x and |B|·|x| for B given transposed, skipping columns without a weight.
fn weigh_transposed<T: Number>(
    b_transposed: &Operand,
    cols: Range<u64>,
    k: usize,
    scale: f64,
    weight: &dyn Fn(usize) -> Option<f64>,
    magnitude_start: f64,
    buffer: &mut [T],
) -> Result<(Vec<f64>, Vec<f64>), Failure> {
    let (mut sums, mut magnitudes) = (vec![0.0; k], vec![magnitude_start; k]);
    let n_cols = cols.end - cols.start;
    for (block_cols, depth) in blocks(n_cols, k as u64, buffer.len(), b_transposed.is_row_contiguous()) {
        let shifted = cols.start + block_cols.start..cols.start + block_cols.end;
        let view = b_transposed.read(shifted, depth.clone(), buffer)?;
        for j in 0..view.rows() {
            let Some(x) = weight(block_cols.start as usize + j) else {
                continue;
            };
            for p in 0..view.cols() {
                let element = Scalar::to_f64(view.get(j, p)) * scale;
                sums[depth.start as usize + p] += element * x;
                magnitudes[depth.start as usize + p] += (element * x).abs();
            }
        }
    }
    Ok((sums, magnitudes))
}

/// Rows that Freivalds' check passed over, and the largest residual of the others.
struct Compared {
    residual_max: f64,
    plain_rows: Vec<u64>,
}

fn compare<T: Number>(
    claim: &Claim<'_>,
    c: &dyn Product<T>,
    a: &Classes,
    b: &Classes,
    weights: &Weights,
    bad: &mut [bool],
    buffer: &mut [T],
) -> Result<Compared, Failure> {
    let n_cols = b.lines.len();
    let mut compared = Compared {
        residual_max: 0.0,
        plain_rows: Vec::new(),
    };
    let mut sums = vec![0.0; a.lines.len()];
    let mut overflowed = vec![false; a.lines.len()];
    let scaling = Scaling::new(-weights.exponent);
    for (rows, cols) in blocks(a.lines.len() as u64, n_cols as u64, buffer.len(), true) {
        let (block_rows, block_cols) = ((rows.end - rows.start) as usize, (cols.end - cols.start) as usize);
        let in_product = |range: &Range<u64>, start: u64| start + range.start..start + range.end;
        c.read(
            in_product(&rows, claim.rows.start),
            in_product(&cols, claim.cols.start),
            buffer,
        )?;
        for i in 0..block_rows {
            let row = rows.start as usize + i;
            for j in 0..block_cols {
                let col = cols.start as usize + j;
                let element = Scalar::to_f64(buffer[i * block_cols + j]);
                match a.lines[row].max(b.lines[col]) {
                    Class::NotANumber => bad[row] |= !element.is_nan(),
                    Class::Plain => {}
                    Class::Finite if element.is_finite() => {
                        sums[row] += scaling.apply(element) * weights.x[col];
                    }
                    Class::Finite => overflowed[row] = true,
                }
            }
        }
    }
    for row in 0..a.lines.len() {
        if a.lines[row] != Class::Finite {
            continue;
        }
        if overflowed[row] {
            compared.plain_rows.push(claim.rows.start + row as u64);
            continue;
        }
        let difference = (sums[row] - weights.expected[row]).abs();
        let residual = if difference == 0.0 {
            0.0
        } else {
            difference / weights.magnitude[row]
        };
        bad[row] |= residual.is_nan() || residual > weights.coefficient;
        compared.residual_max = compared.residual_max.max(residual);
    }
    Ok(compared)
}

fn compare_plain_rows<T: Number>(
    claim: &Claim<'_>,
    c: &dyn Product<T>,
    rows: &[u64],
    bad: &mut [bool],
    buffer: &mut [T],
    keep_on: KeepOn<'_>,
) -> Result<(), Failure> {
    let n_cols = (claim.cols.end - claim.cols.start) as usize;
    let rows_of = RowsOf {
        a: claim.a,
        b: claim.b,
        formula: claim.formula,
        rows,
        cols: claim.cols.clone(),
        with_magnitudes: true,
    };
    let plain = plain_rows(&rows_of, buffer, keep_on)?;
    let mut computed = vec![T::ZERO; n_cols];
    for (i, row) in rows.iter().enumerate() {
        c.read(*row..row + 1, claim.cols.clone(), &mut computed)?;
        let range = i * n_cols..(i + 1) * n_cols;
        let mut triples = computed
            .iter()
            .zip(&plain.values[range.clone()])
            .zip(&plain.magnitudes[range]);
        let agree = triples
            .all(|((computed, plain), magnitude)| agrees(*computed, *plain, *magnitude, chain_len(claim)));
        bad[(row - claim.rows.start) as usize] |= !agree;
    }
    Ok(())
}

/// Columns of the product are rows of op(B)'·op(A)'.
fn compare_plain_cols<T: Number>(
    claim: &Claim<'_>,
    c: &dyn Product<T>,
    cols: &[u64],
    bad: &mut [bool],
    buffer: &mut [T],
    keep_on: KeepOn<'_>,
) -> Result<(), Failure> {
    let n_rows = (claim.rows.end - claim.rows.start) as usize;
    let rows_of = RowsOf {
        a: &claim.b.transpose(),
        b: &claim.a.transpose(),
        formula: &claim.formula.transpose(),
        rows: cols,
        cols: claim.rows.clone(),
        with_magnitudes: true,
    };
    let plain = plain_rows(&rows_of, buffer, keep_on)?;
    let mut computed = vec![T::ZERO; n_rows];
    for (i, col) in cols.iter().enumerate() {
        c.read(claim.rows.clone(), *col..col + 1, &mut computed)?;
        for (row, computed) in computed.iter().enumerate() {
            let at = i * n_rows + row;
            bad[row] |= !agrees(
                *computed,
                plain.values[at],
                plain.magnitudes[at],
                chain_len(claim),
            );
        }
    }
    Ok(())
}

/// A factor 2^exponent in parts, so that a number near the end of the range is not scaled out of it on the way.
#[derive(Debug, Clone, Copy)]
struct Scaling([f64; 4]);

impl Scaling {
    /// For exponents of at most ±4000: beyond that, everything is out of range anyway.
    fn new(exponent: i32) -> Scaling {
        let exponent = exponent.clamp(-4000, 4000);
        let quarter = exponent / 4;
        Scaling([quarter, quarter, quarter, exponent - 3 * quarter].map(exp2))
    }

    fn apply(self, value: f64) -> f64 {
        self.0.into_iter().fold(value, |value, factor| value * factor)
    }
}

/// A normal number as a magnitude from 1 up to 2, with its sign, and an exponent; 0 stays 0.
fn parts(value: f64) -> (f64, i32) {
    if value == 0.0 {
        return (0.0, 0);
    }
    let exponent = (value.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    (Scaling::new(-exponent).apply(value), exponent)
}

/// 2^exponent for exponents that give normal numbers.
fn exp2(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}
