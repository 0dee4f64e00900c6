//! Rows of a product computed plainly, one chain per element as the kernel defines it, for the rows that a weighted sum
//! can't judge: those with infinities, or that overflow; and for those that stand out in it.

use crate::certify::KeepOn;
use crate::formula::Formula;
use crate::operand::{Number, Operand};
use pulp::Arch;
use std::ops::Range;
use tilework_core::failure::Failure;
use tilework_kernel::{Element, MatRef};

/// Rows computed in one pass over B.
pub const ROWS_PER_PASS: usize = 4;

/// Plain results of some rows, and the magnitude |alpha|·|A|·|B| + |beta|·|D| of every element.
#[derive(Debug)]
pub struct PlainRows<T> {
    /// Elements, row by row.
    pub values: Vec<T>,
    /// Their magnitudes, for an error bound.
    pub magnitudes: Vec<f64>,
}

/// Computes `rows` (at most [`ROWS_PER_PASS`]) of what `formula` makes of op(A)·op(B), over `cols`. `buffer` holds what is
/// read at a time.
///
/// # Errors
/// If an input can't be read, or the work should stop.
pub fn plain_rows<T: Number>(
    a: &Operand,
    b: &Operand,
    formula: &Formula,
    rows: &[u64],
    cols: Range<u64>,
    buffer: &mut [T],
    keep_on: KeepOn<'_>,
) -> Result<PlainRows<T>, Failure> {
    let n_cols = (cols.end - cols.start) as usize;
    let len = rows.len() * n_cols;
    let mut plain = PlainRows {
        values: vec![T::ZERO; len],
        magnitudes: vec![0.0; len],
    };
    let mut chains = vec![T::ZERO; len];
    for block_start in (0..a.cols()).step_by(T::KC) {
        let depth = block_start..a.cols().min(block_start + T::KC as u64);
        let a_rows = read_rows(a, rows, &depth)?;
        chains.fill(T::ZERO);
        for (part, in_cols) in parts(&depth, n_cols, buffer.len(), b.is_row_contiguous()) {
            keep_on()?;
            let read_cols = cols.start + in_cols.start as u64..cols.start + in_cols.end as u64;
            let view = b.read(part.clone(), read_cols, buffer)?;
            let of_a = (part.start - depth.start) as usize..(part.end - depth.start) as usize;
            for (row, a_row) in a_rows.iter().enumerate() {
                let to = row * n_cols + in_cols.start..row * n_cols + in_cols.end;
                let (chains, magnitudes) = (&mut chains[to.clone()], &mut plain.magnitudes[to]);
                // The same operations in the same order on any instruction set: only their width differs.
                Arch::new().dispatch(|| extend_chains(&a_row[of_a.clone()], view, chains, magnitudes));
            }
        }
        for (value, chain) in plain.values.iter_mut().zip(&chains) {
            *value = if block_start == 0 { *chain } else { *value + *chain };
        }
    }
    if !formula.is_plain() {
        scale(&mut plain, formula);
        add(&mut plain, formula, rows, cols, buffer)?;
    }
    Ok(plain)
}

/// Depths and columns of a depth block that are read at a time, each column's from its first depth to its last: as wide as fits where rows are
/// contiguous.
fn parts(
    depth: &Range<u64>,
    n_cols: usize,
    len: usize,
    row_contiguous: bool,
) -> impl Iterator<Item = (Range<u64>, Range<usize>)> + use<> {
    let n_deep = (depth.end - depth.start) as usize;
    let cols_each = if row_contiguous { len } else { len / n_deep };
    let cols_each = cols_each.clamp(1, n_cols.max(1));
    let deep_each = (len / cols_each).clamp(1, n_deep);
    let depth = depth.clone();
    (0..n_cols).step_by(cols_each).flat_map(move |col| {
        let cols = col..n_cols.min(col + cols_each);
        let depths = depth.clone().step_by(deep_each);
        let end = depth.end;
        depths.map(move |at| (at..end.min(at + deep_each as u64), cols.clone()))
    })
}

/// Takes some depths of op(B) into the chains of one row.
#[inline(always)]
fn extend_chains<T: Number>(a_row: &[T], b: MatRef<'_, T>, chains: &mut [T], magnitudes: &mut [f64]) {
    for (p, element) in a_row.iter().enumerate() {
        let mut step = |at: usize, other: T| {
            chains[at] = Element::mul_add(*element, other, chains[at]);
            magnitudes[at] += (Element::to_f64(*element) * Element::to_f64(other)).abs();
        };
        if b.col_stride() == 1 {
            let row = &b.data()[p * b.row_stride()..][..b.cols()];
            row.iter().enumerate().for_each(|(at, other)| step(at, *other));
        } else {
            (0..b.cols()).for_each(|at| step(at, b.get(p, at)));
        }
    }
}

/// Rows of op(A)·op(B) become those of alpha·op(A)·op(B), unless D will be added to them.
fn scale<T: Number>(plain: &mut PlainRows<T>, formula: &Formula) {
    let factors = formula.factors::<T>();
    if formula.addend().is_none() {
        plain
            .values
            .iter_mut()
            .for_each(|value| *value = factors.scale(*value));
    }
    // What underflow lost is scaled too.
    let underflow = T::SMALLEST / T::UNIT_ROUNDOFF;
    plain
        .magnitudes
        .iter_mut()
        .for_each(|magnitude| *magnitude = formula.alpha().abs() * (*magnitude + underflow));
}

/// Adds beta·D to rows of op(A)·op(B), which are scaled in the same operation.
fn add<T: Number>(
    plain: &mut PlainRows<T>,
    formula: &Formula,
    rows: &[u64],
    cols: Range<u64>,
    buffer: &mut [T],
) -> Result<(), Failure> {
    let Some(addend) = formula.addend() else {
        return Ok(());
    };
    let factors = formula.factors::<T>();
    let n_cols = (cols.end - cols.start) as usize;
    for (i, row) in rows.iter().enumerate() {
        for start in cols.clone().step_by(buffer.len()) {
            let end = cols.end.min(start + buffer.len() as u64);
            let d = addend.d.read(*row..row + 1, start..end, buffer)?;
            for j in 0..d.cols() {
                let at = i * n_cols + (start - cols.start) as usize + j;
                plain.values[at] = factors.combine(plain.values[at], d.get(0, j));
                plain.magnitudes[at] += (addend.beta * Element::to_f64(d.get(0, j))).abs();
            }
        }
    }
    Ok(())
}

fn read_rows<T: Number>(a: &Operand, rows: &[u64], depth: &Range<u64>) -> Result<Vec<Vec<T>>, Failure> {
    let mut buffer = vec![T::ZERO; (depth.end - depth.start) as usize];
    let read = |row: &u64| {
        let view = a.read(*row..row + 1, depth.clone(), &mut buffer)?;
        Ok((0..view.cols()).map(|p| view.get(0, p)).collect())
    };
    rows.iter().map(read).collect()
}

/// Whether `computed` agrees with the plain result: the same kind of non-finite value, or a finite one within rounding.
pub fn agrees<T: Number>(computed: T, plain: T, magnitude: f64, k: u64) -> bool {
    let (computed, plain) = (Element::to_f64(computed), Element::to_f64(plain));
    if plain.is_nan() || computed.is_nan() {
        return plain.is_nan() && computed.is_nan();
    }
    if !plain.is_finite() || !computed.is_finite() {
        return plain == computed;
    }
    (computed - plain).abs() <= 2.0 * (k + 2) as f64 * (T::UNIT_ROUNDOFF * magnitude + T::SMALLEST)
}
