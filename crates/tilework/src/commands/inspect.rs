//! `inspect`: what a matrix file is, a corner of it, and, for our outputs, how it was made.

use crate::args::inspect::InspectArgs;
use crate::blocks::{Blocks, READ_LEN_MAX};
use crate::failure::CliError;
use crate::human::{self, json_float};
use crate::job_state::{JobState, KnownJob, State};
use crate::output::Output;
use crate::progress::ByteBar;
use serde_json::{Value, json};
use std::io::{self, Write};
use tilework_store::disk::RealDisk;
use tilework_store::element_type::ByteOrder;
use tilework_store::matrix::{MatrixInfo, MatrixSource};

/// Rows and columns of the corner.
const CORNER: u64 = 5;

/// Runs the command.
pub fn run(args: &InspectArgs, output: &Output) -> Result<(), CliError> {
    let matrix = MatrixSource::open(&RealDisk, &args.path)?;
    let corner = read_corner(&matrix)?;
    let range = if args.scan {
        Some(scan(&matrix, output)?)
    } else {
        None
    };
    let state = JobState::read(&RealDisk, &args.path)?;
    // An unfinished job under this name speaks of a file to come, not of this one.
    let job = state.job.filter(|_| state.state == State::Done);
    let mut json = info_json(matrix.info());
    json["corner"] = corner
        .iter()
        .map(|row| row.iter().map(|x| json_float(*x)).collect::<Value>())
        .collect();
    json["scan"] = range.as_ref().map_or(Value::Null, Range::to_json);
    json["made_by"] = job.as_ref().map_or(Value::Null, KnownJob::to_json);
    output.result(json, |out| {
        write_info(out, matrix.info())?;
        write_corner(out, matrix.info(), &corner)?;
        range.map_or(Ok(()), |range| range.write(out))?;
        job.map_or(Ok(()), |job| write_job(out, &job))
    })
}

fn byte_order(info: &MatrixInfo) -> &'static str {
    match info.byte_order {
        ByteOrder::Little => "little-endian",
        ByteOrder::Big => "big-endian",
    }
}

fn info_json(info: &MatrixInfo) -> Value {
    json!({
        "status": "done",
        "path": info.path.display().to_string(),
        "rows": info.rows,
        "cols": info.cols,
        "dtype": info.element.to_string(),
        "order": info.order.to_string(),
        "byte_order": byte_order(info),
        "format": info.format.to_string(),
        "bytes": info.file_len,
    })
}

fn write_info(out: &mut dyn Write, info: &MatrixInfo) -> io::Result<()> {
    let (path, order, size) = (info.path.display(), byte_order(info), human::bytes(info.file_len));
    writeln!(
        out,
        "{path}: {} x {}, {}, {}, {order}, {}, {size}",
        info.rows, info.cols, info.element, info.order, info.format
    )
}

/// The upper left elements, row by row.
fn read_corner(matrix: &MatrixSource) -> Result<Vec<Vec<f64>>, CliError> {
    let (n_rows, n_cols) = (matrix.info().rows.min(CORNER), matrix.info().cols.min(CORNER));
    let mut values = vec![0.0; (n_rows * n_cols) as usize];
    let (row_stride, col_stride) = matrix.read_block(0..n_rows, 0..n_cols, &mut values)?;
    let row = |i: usize| {
        (0..n_cols as usize)
            .map(|j| values[i * row_stride + j * col_stride])
            .collect()
    };
    Ok((0..n_rows as usize).map(row).collect())
}

/// Right-aligned columns, with marks where the matrix goes on.
fn write_corner(out: &mut dyn Write, info: &MatrixInfo, corner: &[Vec<f64>]) -> io::Result<()> {
    let text: Vec<Vec<String>> = corner
        .iter()
        .map(|row| row.iter().map(|x| human::float(*x)).collect())
        .collect();
    let width = |col: usize| text.iter().map(|row| row[col].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..text.first().map_or(0, Vec::len)).map(width).collect();
    for row in &text {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:>width$}"))
            .collect();
        writeln!(
            out,
            "  {}{}",
            cells.join("  "),
            if info.cols > CORNER { "  ..." } else { "" }
        )?;
    }
    if info.rows > CORNER && !text.is_empty() {
        writeln!(out, "  ...")
    } else {
        Ok(())
    }
}

fn write_job(out: &mut dyn Write, job: &KnownJob) -> io::Result<()> {
    let inputs: Vec<&str> = job.inputs.iter().map(|input| input.path.as_str()).collect();
    writeln!(out, "made by {} of {}", job.kind, inputs.join(" and "))?;
    if let Some(formula) = job.formula() {
        writeln!(out, "  {formula}")?;
    }
    if let Some(grid) = job.grid() {
        let (n_row_strips, n_col_strips) = (grid.n_row_strips, grid.n_col_strips);
        let part = if grid.symmetric { "the lower half of " } else { "" };
        let (tasks, runs) = (job.n_tasks.unwrap_or_default(), job.runs.len() as u64);
        let (tasks, runs) = (human::counted(tasks, "task"), human::counted(runs, "run"));
        writeln!(
            out,
            "  {tasks} ({part}{n_row_strips} x {n_col_strips} tiles) in {runs}"
        )?;
    }
    let (residual_max, residual_bound) = (human::float(job.residual_max), human::float(job.residual_bound));
    writeln!(
        out,
        "  every tile checked: largest residual {residual_max}, bound {residual_bound}"
    )
}

/// What a scan of all elements found.
#[derive(Debug, Clone, PartialEq)]
struct Range {
    /// Smallest and largest finite element; infinite the other way round if there is none.
    min: f64,
    max: f64,
    n_nan: u64,
    n_inf: u64,
}

impl Range {
    const EMPTY: Range = Range {
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        n_nan: 0,
        n_inf: 0,
    };

    fn take(&mut self, values: &[f64]) {
        for value in values {
            if value.is_finite() {
                self.min = self.min.min(*value);
                self.max = self.max.max(*value);
            } else if value.is_nan() {
                self.n_nan += 1;
            } else {
                self.n_inf += 1;
            }
        }
    }

    fn has_finite(&self) -> bool {
        self.min <= self.max
    }

    fn to_json(&self) -> Value {
        let finite = |value: f64| {
            if self.has_finite() {
                json!(value)
            } else {
                Value::Null
            }
        };
        json!({ "min": finite(self.min), "max": finite(self.max), "nan": self.n_nan, "inf": self.n_inf })
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.has_finite() {
            write!(
                out,
                "smallest {}, largest {}, ",
                human::float(self.min),
                human::float(self.max)
            )?;
        } else {
            write!(out, "no finite elements, ")?;
        }
        writeln!(
            out,
            "{} NaN, {} infinite",
            human::count(self.n_nan),
            human::count(self.n_inf)
        )
    }
}

fn scan(matrix: &MatrixSource, output: &Output) -> Result<Range, CliError> {
    let blocks = Blocks::in_file_order(matrix.info(), READ_LEN_MAX);
    let mut values = vec![0.0; blocks.len_max()];
    let bar = ByteBar::new(output, "scanning", matrix.info().file_len);
    let mut range = Range::EMPTY;
    for block in blocks.iter() {
        let values = &mut values[..block.len()];
        matrix.read_block(block.rows.clone(), block.cols.clone(), values)?;
        range.take(values);
        bar.add(block.len() as u64 * matrix.info().element.size());
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_counts_what_is_not_finite_and_ranges_over_the_rest() {
        let mut range = Range::EMPTY;
        range.take(&[1.0, f64::NAN, -3.5, f64::INFINITY, f64::NEG_INFINITY]);
        assert_eq!(
            range,
            Range {
                min: -3.5,
                max: 1.0,
                n_nan: 1,
                n_inf: 2
            }
        );
        assert_eq!(Range::EMPTY.to_json()["min"], Value::Null);
    }
}
