//! Pi by throwing darts: one round, whose tasks have random numbers of their own.
//! `cargo run --release --example pi -- run pi --set samples=1e9 --set tasks=100`

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tilework::{Files, Job, Next, Report, TaskContext, TaskError};

#[derive(Serialize, Deserialize)]
struct Pi {
    /// Darts in all.
    samples: u64,
    tasks: u64,
    #[serde(default)]
    seed: u64,
}

impl Pi {
    /// Darts of a task: they come out even, but for one.
    fn samples_of(&self, task: u64) -> u64 {
        self.samples / self.tasks + u64::from(task < self.samples % self.tasks)
    }
}

impl Job for Pi {
    const KIND: &'static str = "pi";
    const VERSION: u32 = 1;
    type State = ();
    /// Darts within the circle.
    type Output = u64;

    fn start(&self, _: &Files) -> Result<(), TaskError> {
        if self.samples == 0 || self.tasks == 0 {
            return Err(TaskError::fatal("samples and tasks must be at least 1"));
        }
        Ok(())
    }

    fn tasks(&self, _: &()) -> u64 {
        self.tasks
    }

    fn run(&self, _: &(), task: u64, context: &TaskContext<'_>) -> Result<u64, TaskError> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        // The same numbers whoever runs the task, and no other task's.
        random.set_stream(task);
        let mut n_within = 0;
        for dart in 0..self.samples_of(task) {
            if dart % 1_000_000 == 0 {
                context.check_cancelled()?;
            }
            let [x, y] = [(); 2].map(|()| f64::from(random.next_u32()) / f64::from(u32::MAX));
            n_within += u64::from(x * x + y * y <= 1.0);
        }
        Ok(n_within)
    }

    fn advance(&self, _: &(), n_within: &mut dyn Iterator<Item = u64>) -> Result<Next<()>, TaskError> {
        let n_within: u64 = n_within.sum();
        let pi = 4.0 * n_within as f64 / self.samples as f64;
        Ok(Next::Done(Report::json(
            &json!({ "pi": pi, "within": n_within }),
        )?))
    }
}

fn main() -> std::process::ExitCode {
    tilework::main(tilework::jobs![Pi])
}
