//! Mean and standard deviation of each column of a matrix file, in two rounds. docs/guide/a-job.md builds it step by step.
//! `cargo run --release --example column_stats -- run column-stats --set matrix=examples/digits.npy`

use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;
use tilework::{Files, Job, Needs, Next, Report, TaskContext, TaskError};

#[derive(Serialize, Deserialize)]
struct ColumnStats {
    matrix: PathBuf,
    #[serde(default = "rows_per_task")]
    rows_per_task: u64,
}

fn rows_per_task() -> u64 {
    10_000
}

/// What a round begins with: the second one knows the means.
#[derive(Serialize, Deserialize)]
struct State {
    n_rows: u64,
    n_cols: u64,
    means: Option<Vec<f64>>,
}

impl Job for ColumnStats {
    const KIND: &'static str = "column-stats";
    const VERSION: u32 = 1;
    type State = State;
    /// For each column a sum over the task's rows: of the values, then of their squared distances from the mean.
    type Output = Vec<f64>;

    fn start(&self, files: &Files) -> Result<State, TaskError> {
        let matrix = files.matrix(&self.matrix)?;
        if matrix.n_rows() < 2 || self.rows_per_task == 0 {
            return Err(TaskError::fatal(
                "the matrix must have 2 rows or more, and rows_per_task must be at least 1",
            ));
        }
        Ok(State {
            n_rows: matrix.n_rows(),
            n_cols: matrix.n_cols(),
            means: None,
        })
    }

    fn inputs(&self) -> Vec<PathBuf> {
        vec![self.matrix.clone()]
    }

    fn tasks(&self, state: &State) -> u64 {
        state.n_rows.div_ceil(self.rows_per_task)
    }

    fn needs(&self, state: &State) -> Needs {
        Needs {
            memory_bytes: 8 * state.n_cols * (self.rows_per_task.min(state.n_rows) + 2),
            ..Needs::default()
        }
    }

    fn run(&self, state: &State, task: u64, context: &TaskContext<'_>) -> Result<Vec<f64>, TaskError> {
        let first = task * self.rows_per_task;
        let rows = first..state.n_rows.min(first + self.rows_per_task);
        let values = context.files().matrix(&self.matrix)?.rows(rows)?;
        let mut sums = vec![0.0; state.n_cols as usize];
        for row in values.chunks_exact(sums.len()) {
            context.check_cancelled()?;
            for (col, value) in row.iter().enumerate() {
                sums[col] += match &state.means {
                    None => *value,
                    Some(means) => (value - means[col]).powi(2),
                };
            }
        }
        Ok(sums)
    }

    fn advance(
        &self,
        state: &State,
        sums: &mut dyn Iterator<Item = Vec<f64>>,
    ) -> Result<Next<State>, TaskError> {
        let mut total = vec![0.0; state.n_cols as usize];
        for sums in sums {
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
        let n_rows = state.n_rows as f64;
        let Some(means) = &state.means else {
            let means = total.iter().map(|sum| sum / n_rows).collect();
            return Ok(Next::Round(State {
                means: Some(means),
                ..*state
            }));
        };
        let deviations: Vec<f64> = total.iter().map(|sum| (sum / (n_rows - 1.0)).sqrt()).collect();
        let report = json!({ "means": means, "standard_deviations": deviations });
        Ok(Next::Done(Report::json(&report)?))
    }
}

fn main() -> std::process::ExitCode {
    tilework::main(tilework::jobs![ColumnStats])
}
