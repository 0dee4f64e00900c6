//! Rows of a product computed plainly, one chain per element as the kernel defines it, for the rows that a weighted sum
//! can't judge: those with infinities, or that overflow; and for those that stand out in it.

use crate::certify::KeepOn;
use crate::formula::Formula;
use crate::operand::{Number, Operand};
use pulp::{Arch, NullaryFnOnce};
use std::ops::Range;
use tilework_core::failure::Failure;
use tilework_kernel::{Element, MatRef};

/// Rows computed in one pass over B.
pub const ROWS_PER_PASS: usize = 4;

/// Plain results of some rows, and the magnitude |alpha|·|A|·|B| + |beta|·|D| of every element, where it is wanted.
#[derive(Debug)]
pub struct PlainRows<T> {
    /// Elements, row by row.
    pub values: Vec<T>,
    /// Their magnitudes, for an error bound; none if there is no use for them.
    pub magnitudes: Vec<f64>,
}

/// Rows of what a formula makes of op(A)·op(B).
#[derive(Debug, Clone)]
pub struct RowsOf<'a> {
    /// op(A).
    pub a: &'a Operand,
    /// op(B).
    pub b: &'a Operand,
    /// alpha, beta and D.
    pub formula: &'a Formula,
    /// Which rows, at most [`ROWS_PER_PASS`].
    pub rows: &'a [u64],
    /// Their columns.
    pub cols: Range<u64>,
    /// Whether the elements' magnitudes are wanted.
    pub with_magnitudes: bool,
}

/// Computes rows plainly. `buffer` holds what is read at a time.
///
/// # Errors
/// If an input can't be read, or the work should stop.
pub fn plain_rows<T: Number>(
    of: &RowsOf<'_>,
    buffer: &mut [T],
    keep_on: KeepOn<'_>,
) -> Result<PlainRows<T>, Failure> {
    let RowsOf {
        a,
        b,
        formula,
        rows,
        cols,
        with_magnitudes,
    } = of;
    let n_cols = (cols.end - cols.start) as usize;
    let len = rows.len() * n_cols;
    let mut plain = PlainRows {
        values: vec![T::ZERO; len],
        magnitudes: vec![0.0; if *with_magnitudes { len } else { 0 }],
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
                let (chains, a_row) = (&mut chains[to.clone()], &a_row[of_a.clone()]);
                // The same operations in the same order on any instruction set: only their width differs.
                Arch::new().dispatch(ExtendChains {
                    chains,
                    a_row,
                    b: view,
                });
                if *with_magnitudes {
                    extend(&mut plain.magnitudes[to], a_row, view, |magnitude, a, b| {
                        magnitude + (Element::to_f64(a) * Element::to_f64(b)).abs()
                    });
                }
            }
        }
        for (value, chain) in plain.values.iter_mut().zip(&chains) {
            *value = if block_start == 0 { *chain } else { *value + *chain };
        }
    }
    if !formula.is_plain() {
        scale(&mut plain, formula);
        add(&mut plain, formula, rows, cols.clone(), buffer)?;
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

/// Multiplies and adds, as one instruction where there is one. A closure would not do: it is not inlined, and each multiply-add a call.
struct ExtendChains<'a, T> {
    chains: &'a mut [T],
    a_row: &'a [T],
    b: MatRef<'a, T>,
}

impl<T: Number> NullaryFnOnce for ExtendChains<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        extend(
            self.chains,
            self.a_row,
            self.b,
            #[inline(always)]
            |chain, a, b| Element::mul_add(a, b, chain),
        );
    }
}

/// Takes some depths of op(B) into the sums of one row, element by element.
#[inline(always)]
fn extend<T: Number, S: Copy>(sums: &mut [S], a_row: &[T], b: MatRef<'_, T>, step: impl Fn(S, T, T) -> S) {
    for (p, element) in a_row.iter().enumerate() {
        if b.col_stride() == 1 {
            let row = &b.data()[p * b.row_stride()..][..b.cols()];
            for (sum, other) in sums.iter_mut().zip(row) {
                *sum = step(*sum, *element, *other);
            }
        } else {
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = step(*sum, *element, b.get(p, j));
            }
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
                if let Some(magnitude) = plain.magnitudes.get_mut(at) {
                    *magnitude += (addend.beta * Element::to_f64(d.get(0, j))).abs();
                }
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
