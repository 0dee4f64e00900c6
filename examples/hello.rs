//! The smallest job: a task for each name. `cargo run --example hello -- run hello --set 'names=["Ada", "Alan"]'`

use serde::{Deserialize, Serialize};
use tilework::{Files, Job, Next, Report, TaskContext, TaskError};

#[derive(Serialize, Deserialize)]
struct Hello {
    names: Vec<String>,
}

impl Job for Hello {
    const KIND: &'static str = "hello";
    const VERSION: u32 = 1;
    type State = ();
    type Output = String;

    fn start(&self, _: &Files) -> Result<(), TaskError> {
        Ok(())
    }

    fn tasks(&self, _: &()) -> u64 {
        self.names.len() as u64
    }

    fn run(&self, _: &(), task: u64, _: &TaskContext<'_>) -> Result<String, TaskError> {
        Ok(format!("Hello, {}!", self.names[task as usize]))
    }

    fn advance(&self, _: &(), greetings: &mut dyn Iterator<Item = String>) -> Result<Next<()>, TaskError> {
        Ok(Next::Done(Report::json(&greetings.collect::<Vec<_>>())?))
    }
}

fn main() -> std::process::ExitCode {
    tilework::main(tilework::jobs![Hello])
}
