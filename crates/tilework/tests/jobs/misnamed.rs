//! A job whose name is a path.

#![allow(unreachable_pub, missing_docs, reason = "a part of a test")]

use serde::{Deserialize, Serialize};
use tilework::{Files, Job, Next, Report, TaskContext, TaskError};

#[derive(Serialize, Deserialize)]
pub struct Misnamed {}

impl Job for Misnamed {
    const KIND: &'static str = "a/b";
    const VERSION: u32 = 1;
    type State = ();
    type Output = ();

    fn start(&self, _: &Files) -> Result<(), TaskError> {
        Ok(())
    }

    fn tasks(&self, (): &()) -> u64 {
        1
    }

    fn run(&self, (): &(), _: u64, _: &TaskContext<'_>) -> Result<(), TaskError> {
        Ok(())
    }

    fn advance(&self, (): &(), _: &mut dyn Iterator<Item = ()>) -> Result<Next<()>, TaskError> {
        Ok(Next::Done(Report::json(&())?))
    }
}
