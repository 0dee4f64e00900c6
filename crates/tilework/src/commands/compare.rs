//! `compare`: the largest differences of two matrices, and where they are.

use crate::args::inspect::CompareArgs;
use crate::blocks::{Blocks, READ_LEN_MAX};
use crate::failure::{CliError, Exit};
use crate::human::{self, json_float};
use crate::output::Output;
use crate::progress::ByteBar;
use serde_json::{Value, json};
use std::io::{self, Write};
use tilework_store::disk::RealDisk;
use tilework_store::matrix::MatrixSource;

/// Runs the command.
pub fn run(args: &CompareArgs, output: &Output) -> Result<(), CliError> {
    let c = MatrixSource::open(&RealDisk, &args.c)?;
    let d = MatrixSource::open(&RealDisk, &args.d)?;
    let shape = |matrix: &MatrixSource| (matrix.info().rows, matrix.info().cols);
    if shape(&c) != shape(&d) {
        let ((c_rows, c_cols), (d_rows, d_cols)) = (shape(&c), shape(&d));
        let (c, d) = (args.c.display(), args.d.display());
        return Err(CliError::usage(format!(
            "the shapes differ: `{c}` is {c_rows} x {c_cols}, `{d}` is {d_rows} x {d_cols}"
        ))
        .with_next("compare matrices of the same shape"));
    }
    let differences = compare(&c, &d, output)?;
    let facts = differences.to_json(&c, args.tolerance);
    if differences.relative.value <= args.tolerance {
        return output.result(facts, |out| differences.write(out));
    }
    output.before_failure(|out| differences.write(out))?;
    let message = format!(
        "`{}` and `{}` differ by {} of the larger element, more than {}",
        args.c.display(),
        args.d.display(),
        human::float(differences.relative.value),
        args.tolerance
    );
    Err(CliError::new(Exit::CheckFailed, message).with_facts(facts))
}

/// A difference and its place.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Largest {
    value: f64,
    /// Row and column; `None` as long as nothing differs.
    at: Option<(u64, u64)>,
}

impl Largest {
    fn take(&mut self, value: f64, row: u64, col: u64) {
        if value > self.value {
            *self = Largest {
                value,
                at: Some((row, col)),
            };
        }
    }
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq)]
struct Differences {
    n_elements: u64,
    n_different: u64,
    /// Elements that are NaN in one matrix only.
    n_nan: u64,
    absolute: Largest,
    relative: Largest,
}

impl Differences {
    /// NaN equals NaN; against a number it is infinitely far away, as is an infinity.
    fn take(&mut self, x: f64, y: f64, row: u64, col: u64) {
        self.n_elements += 1;
        if x == y || (x.is_nan() && y.is_nan()) {
            return;
        }
        self.n_different += 1;
        self.n_nan += u64::from(x.is_nan() || y.is_nan());
        if !x.is_finite() || !y.is_finite() {
            self.absolute.take(f64::INFINITY, row, col);
            self.relative.take(f64::INFINITY, row, col);
            return;
        }
        self.absolute.take((x - y).abs(), row, col);
        // Scaled first: the difference of two large elements may overflow.
        let scale = x.abs().max(y.abs());
        self.relative.take((x / scale - y / scale).abs(), row, col);
    }

    fn to_json(&self, matrix: &MatrixSource, tolerance: f64) -> Value {
        json!({
            "status": "done",
            "rows": matrix.info().rows,
            "cols": matrix.info().cols,
            "elements_different": self.n_different,
            "nan_different": self.n_nan,
            "absolute_max": json_float(self.absolute.value),
            "absolute_at": self.absolute.at,
            "relative_max": json_float(self.relative.value),
            "relative_at": self.relative.at,
            "tolerance": tolerance,
        })
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.n_different == 0 {
            return writeln!(out, "equal: all {}", human::counted(self.n_elements, "element"));
        }
        writeln!(
            out,
            "different: {} of {}",
            human::count(self.n_different),
            human::counted(self.n_elements, "element")
        )?;
        for (name, largest) in [("absolute", self.absolute), ("relative", self.relative)] {
            let (row, col) = largest.at.unwrap_or_default();
            writeln!(
                out,
                "largest {name} difference: {} at row {row}, column {col}",
                human::float(largest.value)
            )?;
        }
        if self.n_nan > 0 {
            writeln!(
                out,
                "NaN in one of them only: {}",
                human::counted(self.n_nan, "element")
            )?;
        }
        Ok(())
    }
}

fn compare(c: &MatrixSource, d: &MatrixSource, output: &Output) -> Result<Differences, CliError> {
    let blocks = Blocks::for_both(c.info(), d.info(), READ_LEN_MAX / 2);
    let mut buffers = [vec![0.0; blocks.len_max()], vec![0.0; blocks.len_max()]];
    let bar = ByteBar::new(output, "comparing", c.info().file_len + d.info().file_len);
    let mut differences = Differences::default();
    for block in blocks.iter() {
        let [c_values, d_values] = buffers.each_mut().map(|buffer| &mut buffer[..block.len()]);
        let c_strides = c.read_block(block.rows.clone(), block.cols.clone(), c_values)?;
        let d_strides = d.read_block(block.rows.clone(), block.cols.clone(), d_values)?;
        for (i, row) in block.rows.clone().enumerate() {
            for (j, col) in block.cols.clone().enumerate() {
                let x = c_values[i * c_strides.0 + j * c_strides.1];
                let y = d_values[i * d_strides.0 + j * d_strides.1];
                differences.take(x, y, row, col);
            }
        }
        bar.add(block.len() as u64 * (c.info().element.size() + d.info().element.size()));
    }
    Ok(differences)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences(pairs: &[(f64, f64)]) -> Differences {
        let mut differences = Differences::default();
        for (col, (x, y)) in (0..).zip(pairs) {
            differences.take(*x, *y, 0, col);
        }
        differences
    }

    #[test]
    fn equal_values_agree_whatever_they_are() {
        let inf = f64::INFINITY;
        let same = differences(&[
            (1.0, 1.0),
            (0.0, -0.0),
            (f64::NAN, -f64::NAN),
            (inf, inf),
            (-inf, -inf),
        ]);
        assert_eq!(
            (same.n_elements, same.n_different, same.relative.value),
            (5, 0, 0.0)
        );
    }

    #[test]
    fn the_largest_absolute_and_relative_differences_may_be_elsewhere() {
        let found = differences(&[(1000.0, 1001.0), (1e-3, 2e-3), (5.0, 5.0)]);
        assert_eq!(
            found.absolute,
            Largest {
                value: 1.0,
                at: Some((0, 0))
            }
        );
        assert_eq!(
            found.relative,
            Largest {
                value: 0.5,
                at: Some((0, 1))
            }
        );
        assert_eq!(found.n_different, 2);
    }

    #[test]
    fn nan_and_infinity_against_a_number_are_infinitely_different() {
        let found = differences(&[(1.0, 2.0), (f64::NAN, 1.0), (f64::INFINITY, f64::NEG_INFINITY)]);
        assert_eq!(
            found.relative,
            Largest {
                value: f64::INFINITY,
                at: Some((0, 1))
            }
        );
        assert_eq!((found.n_nan, found.n_different), (1, 3));
        let huge = differences(&[(f64::MAX, -f64::MAX)]);
        assert_eq!(huge.relative.value, 2.0);
    }
}
