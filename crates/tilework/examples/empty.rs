//! Rounds of tasks that do nothing: what is left is what tilework itself costs (bench/overhead.py).
//! `cargo run --release -p tilework --example empty -- run empty --set tasks=100000 --set rounds=1`

use serde::{Deserialize, Serialize};
use tilework::{Job, Needs, Next, Report, TaskContext, TaskError};

#[derive(Serialize, Deserialize)]
struct Empty {
    /// Of each round.
    tasks: u64,
    rounds: u32,
}

impl Job for Empty {
    const KIND: &'static str = "empty";
    const VERSION: u32 = 1;
    /// Rounds that are over.
    type State = u32;
    type Output = ();

    fn start(&self, _: &tilework::Files) -> Result<u32, TaskError> {
        Ok(0)
    }

    fn tasks(&self, _: &u32) -> u64 {
        self.tasks
    }

    fn needs(&self, _: &u32) -> Needs {
        Needs {
            memory_bytes: 1 << 20,
            expected_s: 0.001,
            ..Needs::default()
        }
    }

    fn run(&self, _: &u32, _: u64, _: &TaskContext<'_>) -> Result<(), TaskError> {
        Ok(())
    }

    fn advance(&self, n_over: &u32, outputs: &mut dyn Iterator<Item = ()>) -> Result<Next<u32>, TaskError> {
        let n_tasks = outputs.count();
        if n_over + 1 < self.rounds {
            return Ok(Next::Round(n_over + 1));
        }
        Ok(Next::Done(Report::json(&n_tasks)?))
    }
}

fn main() -> std::process::ExitCode {
    tilework::main(tilework::jobs![Empty])
}
