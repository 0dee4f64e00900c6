//! Rows of a product computed plainly, one chain per element as the kernel defines it, for the rows that a weighted sum
//! can't judge: those with infinities, or that overflow.

use crate::formula::Formula;
use crate::operand::{Number, Operand};
use std::ops::Range;
use tilework_core::failure::Failure;
use tilework_kernel::Element;

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
pub fn plain_rows<T: Number>(
    a: &Operand,
    b: &Operand,
    formula: &Formula,
    rows: &[u64],
    cols: Range<u64>,
    buffer: &mut [T],
) -> Result<PlainRows<T>, Failure> {
    let n_cols = (cols.end - cols.start) as usize;
    let len = rows.len() * n_cols;
    let mut plain = PlainRows {
        values: vec![T::ZERO; len],
        magnitudes: vec![0.0; len],
    };
    let mut chains = vec![T::ZERO; len];
    let cols_each = (buffer.len() / T::KC).clamp(1, n_cols.max(1));
    for block_start in (0..a.cols()).step_by(T::KC) {
        let depth = block_start..a.cols().min(block_start + T::KC as u64);
        let a_rows = read_rows(a, rows, &depth)?;
        chains.fill(T::ZERO);
        for col_start in (0..n_cols).step_by(cols_each) {
            let col_end = n_cols.min(col_start + cols_each);
            let view = b.read(
                depth.clone(),
                cols.start + col_start as u64..cols.start + col_end as u64,
                buffer,
            )?;
            for (i, a_row) in a_rows.iter().enumerate() {
                for (p, element) in a_row.iter().enumerate() {
                    for j in col_start..col_end {
                        let (at, other) = (i * n_cols + j, view.get(p, j - col_start));
                        chains[at] = fma(*element, other, chains[at]);
                        plain.magnitudes[at] += (Element::to_f64(*element) * Element::to_f64(other)).abs();
                    }
                }
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

fn fma<T: Number>(a: T, b: T, sum: T) -> T {
    Element::mul_add(a, b, sum)
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
