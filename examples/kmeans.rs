//! k-means (Lloyd 1982) on the rows of a matrix file: many rounds, whose state is the centres.
//! `cargo run --release --example kmeans -- run kmeans --set matrix=examples/digits.npy --set k=10 --set tasks=4`

use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;
use tilework::{Files, Job, Next, Report, TaskContext, TaskError};

#[derive(Serialize, Deserialize)]
struct KMeans {
    matrix: PathBuf,
    k: usize,
    tasks: u64,
    #[serde(default = "rounds_max")]
    rounds_max: u64,
}

fn rounds_max() -> u64 {
    100
}

/// What a round begins with.
#[derive(Serialize, Deserialize)]
struct State {
    round: u64,
    centres: Vec<Vec<f64>>,
}

/// What a task found of its rows.
#[derive(Serialize, Deserialize)]
struct Found {
    sums: Vec<Vec<f64>>,
    counts: Vec<u64>,
    /// Squared distances to the nearest centres, summed up.
    inertia: f64,
}

impl Job for KMeans {
    const KIND: &'static str = "kmeans";
    const VERSION: u32 = 1;
    type State = State;
    type Output = Found;

    /// The first centres are rows that lie evenly in the file.
    fn start(&self, files: &Files) -> Result<State, TaskError> {
        let matrix = files.matrix(&self.matrix)?;
        let (n_rows, k) = (matrix.n_rows(), self.k as u64);
        if k == 0 || k > n_rows || self.tasks == 0 {
            return Err(TaskError::fatal(format!(
                "k must be 1 to {n_rows}, and tasks at least 1"
            )));
        }
        let row = |i: u64| matrix.rows(i * n_rows / k..i * n_rows / k + 1);
        let centres = (0..k).map(row).collect::<Result<_, _>>()?;
        Ok(State { round: 0, centres })
    }

    fn inputs(&self) -> Vec<PathBuf> {
        vec![self.matrix.clone()]
    }

    fn tasks(&self, _: &State) -> u64 {
        self.tasks
    }

    fn run(&self, state: &State, task: u64, context: &TaskContext<'_>) -> Result<Found, TaskError> {
        let matrix = context.files().matrix(&self.matrix)?;
        let (n_rows, n_cols) = (matrix.n_rows(), matrix.n_cols() as usize);
        let rows = matrix.rows(task * n_rows / self.tasks..(task + 1) * n_rows / self.tasks)?;
        let mut found = Found {
            sums: vec![vec![0.0; n_cols]; self.k],
            counts: vec![0; self.k],
            inertia: 0.0,
        };
        for row in rows.chunks_exact(n_cols) {
            let distance =
                |centre: &Vec<f64>| -> f64 { centre.iter().zip(row).map(|(c, x)| (c - x) * (c - x)).sum() };
            let distances = state.centres.iter().map(distance).enumerate();
            let nearest = distances.min_by(|one, two| one.1.total_cmp(&two.1));
            let (nearest, squared) = nearest.expect("k is at least 1");
            found.counts[nearest] += 1;
            found.inertia += squared;
            found.sums[nearest]
                .iter_mut()
                .zip(row)
                .for_each(|(sum, x)| *sum += x);
        }
        Ok(found)
    }

    fn advance(
        &self,
        state: &State,
        found: &mut dyn Iterator<Item = Found>,
    ) -> Result<Next<State>, TaskError> {
        let mut found = found;
        let mut all = found
            .next()
            .ok_or_else(|| TaskError::fatal("there are no tasks"))?;
        for task in &mut found {
            all.inertia += task.inertia;
            for (i, (sums, count)) in task.sums.iter().zip(task.counts).enumerate() {
                all.counts[i] += count;
                all.sums[i].iter_mut().zip(sums).for_each(|(sum, x)| *sum += x);
            }
        }
        // A centre that nobody is nearest to stays where it is.
        let centre = |i: usize| match all.counts[i] {
            0 => state.centres[i].clone(),
            count => all.sums[i].iter().map(|sum| sum / count as f64).collect(),
        };
        let centres: Vec<Vec<f64>> = (0..self.k).map(centre).collect();
        let round = state.round + 1;
        if centres != state.centres && round < self.rounds_max {
            return Ok(Next::Round(State { round, centres }));
        }
        Ok(Next::Done(Report::json(&json!({
            "rounds": round,
            "inertia": all.inertia,
            "counts": all.counts,
            "centres": centres,
        }))?))
    }
}

fn main() -> std::process::ExitCode {
    tilework::main(tilework::jobs![KMeans])
}
