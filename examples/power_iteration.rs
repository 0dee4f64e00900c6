//! The eigenvalue of largest magnitude of a symmetric matrix that need not fit in memory, and its eigenvector, by power iteration.
//! `cargo run --release --example power_iteration -- run power-iteration --set matrix=S.npy --set tasks=8 --memory 64MiB`

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;
use tilework::{Files, Job, Matrix, Needs, Next, Report, TaskContext, TaskError};

#[derive(Serialize, Deserialize)]
struct PowerIteration {
    /// Symmetric: that is taken on trust.
    matrix: PathBuf,
    tasks: u64,
    /// Of the residual, as a share of the eigenvalue.
    #[serde(default = "tolerance")]
    tolerance: f64,
    #[serde(default = "rounds_max")]
    rounds_max: u64,
}

fn tolerance() -> f64 {
    1e-9
}

fn rounds_max() -> u64 {
    1000
}

#[derive(Serialize, Deserialize)]
struct State {
    round: u64,
    /// Of length 1.
    vector: Vec<f64>,
}

impl Job for PowerIteration {
    const KIND: &'static str = "power-iteration";
    const VERSION: u32 = 1;
    type State = State;
    /// Some elements of matrix·vector.
    type Output = Vec<f64>;

    fn start(&self, files: &Files) -> Result<State, TaskError> {
        let matrix = files.matrix(&self.matrix)?;
        let n = matrix.n_rows();
        if matrix.n_cols() != n || n == 0 || self.tasks == 0 {
            return Err(TaskError::fatal(
                "the matrix must be square, and tasks at least 1",
            ));
        }
        // Random, so that it is hardly ever perpendicular to the eigenvector; the same numbers every time.
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let vector = (0..n).map(|_| f64::from(random.next_u32()) / f64::from(u32::MAX) - 0.5);
        Ok(State {
            round: 0,
            vector: normalized(vector.collect()),
        })
    }

    fn inputs(&self) -> Vec<PathBuf> {
        vec![self.matrix.clone()]
    }

    fn tasks(&self, _: &State) -> u64 {
        self.tasks
    }

    /// A piece of the matrix at a time, and some vectors.
    fn needs(&self, state: &State) -> Needs {
        Needs {
            memory_bytes: Matrix::TIMES_BYTES + 32 * state.vector.len() as u64,
            ..Needs::default()
        }
    }

    fn run(&self, state: &State, task: u64, context: &TaskContext<'_>) -> Result<Vec<f64>, TaskError> {
        let matrix = context.files().matrix(&self.matrix)?;
        let at = |task: u64| task * matrix.n_rows() / self.tasks;
        Ok(matrix.times(at(task)..at(task + 1), &state.vector)?)
    }

    fn advance(
        &self,
        state: &State,
        products: &mut dyn Iterator<Item = Vec<f64>>,
    ) -> Result<Next<State>, TaskError> {
        let product: Vec<f64> = products.flatten().collect();
        let eigenvalue = dot(&state.vector, &product);
        // A symmetric matrix has an eigenvalue at most so far from this one (Parlett 1980, 4.5).
        let off = product.iter().zip(&state.vector).map(|(y, x)| y - eigenvalue * x);
        let residual = norm(&off.collect::<Vec<_>>());
        if !residual.is_finite() {
            return Err(TaskError::fatal(
                "the matrix has elements that are not finite, or too large",
            ));
        }
        let round = state.round + 1;
        let is_within = residual <= self.tolerance * eigenvalue.abs();
        if is_within || round >= self.rounds_max {
            return Ok(Next::Done(Report::json(&json!({
                "eigenvalue": eigenvalue,
                "residual": residual,
                "within_tolerance": is_within,
                "rounds": round,
                "eigenvector": state.vector,
            }))?));
        }
        Ok(Next::Round(State {
            round,
            vector: normalized(product),
        }))
    }
}

fn dot(one: &[f64], two: &[f64]) -> f64 {
    one.iter().zip(two).map(|(x, y)| x * y).sum()
}

fn norm(vector: &[f64]) -> f64 {
    dot(vector, vector).sqrt()
}

fn normalized(vector: Vec<f64>) -> Vec<f64> {
    let norm = norm(&vector);
    vector.into_iter().map(|x| x / norm).collect()
}

fn main() -> std::process::ExitCode {
    tilework::main(tilework::jobs![PowerIteration])
}
