//! Multinomial logistic regression by gradient descent with momentum (Polyak 1964): many rounds, whose state is the model.
//! `cargo run --release --example logistic_regression -- run logistic-regression --spec examples/logistic_regression.json`

use serde::{Deserialize, Serialize};
use serde_json::json;
use std::ops::Range;
use std::path::PathBuf;
use tilework::{Files, Job, Next, Report, TaskContext, TaskError};

#[derive(Serialize, Deserialize)]
struct LogisticRegression {
    /// An example a row.
    matrix: PathBuf,
    /// One column: the class of each row, counted from 0.
    labels: PathBuf,
    /// What every number in `matrix` is multiplied by.
    scale: f64,
    /// So many rows are learned from, the first ones. The model is tested with the others.
    train_rows: u64,
    tasks: u64,
    rounds: u64,
    step: f64,
    momentum: f64,
    /// Of squared weights, in the loss; the intercepts are free.
    penalty: f64,
}

/// For each class a weight for each column, and the intercept.
type Model = Vec<Vec<f64>>;

#[derive(Serialize, Deserialize)]
struct State {
    round: u64,
    model: Model,
    velocity: Model,
}

/// What a task found of its rows.
#[derive(Serialize, Deserialize)]
struct Found {
    gradient: Model,
    loss: f64,
    n_rows: u64,
    n_correct: u64,
}

impl LogisticRegression {
    /// The last round looks at the rows that were not learned from.
    fn rows_of(&self, state: &State, n_rows: u64) -> Range<u64> {
        if state.round < self.rounds {
            0..self.train_rows
        } else {
            self.train_rows..n_rows
        }
    }
}

impl Job for LogisticRegression {
    const KIND: &'static str = "logistic-regression";
    const VERSION: u32 = 1;
    type State = State;
    type Output = Found;

    fn start(&self, files: &Files) -> Result<State, TaskError> {
        let (matrix, labels) = (files.matrix(&self.matrix)?, files.matrix(&self.labels)?);
        let n_rows = matrix.n_rows();
        if (labels.n_rows(), labels.n_cols()) != (n_rows, 1) {
            return Err(TaskError::fatal(format!(
                "labels must have {n_rows} rows and 1 column"
            )));
        }
        if !(1..n_rows).contains(&self.train_rows) || self.tasks == 0 {
            return Err(TaskError::fatal(format!(
                "train_rows must be less than {n_rows}, and it and tasks at least 1"
            )));
        }
        let labels = labels.rows(0..n_rows)?;
        let is_class = |label: &f64| label.fract() == 0.0 && (0.0..1000.0).contains(label);
        if !labels.iter().all(is_class) {
            return Err(TaskError::fatal("labels must be whole numbers from 0 to 999"));
        }
        let n_classes = labels.into_iter().fold(0.0, f64::max) as usize + 1;
        let zero = vec![vec![0.0; matrix.n_cols() as usize + 1]; n_classes];
        Ok(State {
            round: 0,
            model: zero.clone(),
            velocity: zero,
        })
    }

    fn inputs(&self) -> Vec<PathBuf> {
        vec![self.matrix.clone(), self.labels.clone()]
    }

    fn tasks(&self, _: &State) -> u64 {
        self.tasks
    }

    fn run(&self, state: &State, task: u64, context: &TaskContext<'_>) -> Result<Found, TaskError> {
        let matrix = context.files().matrix(&self.matrix)?;
        let labels = context.files().matrix(&self.labels)?;
        let all = self.rows_of(state, matrix.n_rows());
        let at = |task: u64| all.start + task * (all.end - all.start) / self.tasks;
        let rows = at(task)..at(task + 1);
        let mut found = Found {
            gradient: vec![vec![0.0; matrix.n_cols() as usize + 1]; state.model.len()],
            loss: 0.0,
            n_rows: rows.end - rows.start,
            n_correct: 0,
        };
        let values = matrix.rows(rows.clone())?;
        for (row, label) in values
            .chunks_exact(matrix.n_cols() as usize)
            .zip(labels.rows(rows)?)
        {
            let mut row: Vec<f64> = row.iter().map(|value| value * self.scale).collect();
            row.push(1.0);
            let scores: Vec<f64> = state.model.iter().map(|weights| dot(weights, &row)).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
            let label = label as usize;
            found.loss += sum.ln() + largest - scores[label];
            found.n_correct += u64::from(scores[label] == largest);
            for (class, gradient) in found.gradient.iter_mut().enumerate() {
                let probability = (scores[class] - largest).exp() / sum;
                add(gradient, probability - f64::from(u8::from(class == label)), &row);
            }
        }
        Ok(found)
    }

    fn advance(
        &self,
        state: &State,
        found: &mut dyn Iterator<Item = Found>,
    ) -> Result<Next<State>, TaskError> {
        let mut all = found
            .next()
            .ok_or_else(|| TaskError::fatal("there are no tasks"))?;
        for task in found {
            all.loss += task.loss;
            all.n_rows += task.n_rows;
            all.n_correct += task.n_correct;
            for (sum, gradient) in all.gradient.iter_mut().zip(&task.gradient) {
                add(sum, 1.0, gradient);
            }
        }
        if state.round == self.rounds {
            return Ok(Next::Done(Report::json(&json!({
                "accuracy": all.n_correct as f64 / all.n_rows as f64,
                "correct": all.n_correct,
                "tested": all.n_rows,
                "loss": all.loss / all.n_rows as f64,
                "model": state.model,
            }))?));
        }
        let (mut model, mut velocity) = (state.model.clone(), state.velocity.clone());
        for ((weights, velocity), gradient) in model.iter_mut().zip(&mut velocity).zip(&all.gradient) {
            velocity.iter_mut().for_each(|v| *v *= self.momentum);
            add(velocity, -self.step / self.train_rows as f64, gradient);
            let n_cols = weights.len() - 1;
            add(
                &mut velocity[..n_cols],
                -self.step * self.penalty,
                &weights[..n_cols],
            );
            add(weights, 1.0, velocity);
        }
        Ok(Next::Round(State {
            round: state.round + 1,
            model,
            velocity,
        }))
    }
}

fn dot(one: &[f64], two: &[f64]) -> f64 {
    one.iter().zip(two).map(|(x, y)| x * y).sum()
}

/// `sum` += `factor`·`terms`
fn add(sum: &mut [f64], factor: f64, terms: &[f64]) {
    sum.iter_mut()
        .zip(terms)
        .for_each(|(sum, term)| *sum += factor * term);
}

fn main() -> std::process::ExitCode {
    tilework::main(tilework::jobs![LogisticRegression])
}
