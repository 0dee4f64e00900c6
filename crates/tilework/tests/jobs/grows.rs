//! A job whose rounds need as much memory as its spec says, and that counts how many of its tasks run at a time.

#![allow(unreachable_pub, missing_docs, reason = "a part of a test")]

use serde::{Deserialize, Serialize};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use tilework::{Checked, Files, Job, Needs, Next, Report, TaskContext, TaskError};

/// Tasks of a round.
pub const N_TASKS: u64 = 6;

/// Tasks that run now, and the most that did in each round so far.
static RUNNING: Mutex<(usize, Vec<usize>)> = Mutex::new((0, Vec::new()));

/// The most tasks that ran at a time, in each of the first rounds.
pub fn at_once(n_rounds: usize) -> Vec<usize> {
    let running = RUNNING.lock().unwrap();
    assert_eq!(running.1.len(), n_rounds);
    running.1.clone()
}

#[derive(Serialize, Deserialize)]
pub struct Grows {
    pub needs_mib: Vec<u64>,
}

impl Job for Grows {
    const KIND: &'static str = "grows";
    const VERSION: u32 = 1;
    /// The round.
    type State = usize;
    type Output = ();

    fn start(&self, _: &Files) -> Result<usize, TaskError> {
        Ok(0)
    }

    fn tasks(&self, _: &usize) -> u64 {
        N_TASKS
    }

    fn needs(&self, round: &usize) -> Needs {
        Needs {
            memory_bytes: self.needs_mib[*round] << 20,
            ..Needs::default()
        }
    }

    fn run(&self, round: &usize, _: u64, _: &TaskContext<'_>) -> Result<(), TaskError> {
        let n_before = {
            let mut running = RUNNING.lock().unwrap();
            running.0 += 1;
            if running.1.len() <= *round {
                running.1.resize(round + 1, 0);
            }
            running.1[*round] = running.0.max(running.1[*round]);
            running.0
        };
        assert!(n_before <= 3);
        thread::sleep(Duration::from_millis(30)); // waits: for others to begin meanwhile
        RUNNING.lock().unwrap().0 -= 1;
        Ok(())
    }

    fn check(&self, _: &usize, _: u64, (): &()) -> Result<Checked, TaskError> {
        Ok(Checked::Yes)
    }

    fn advance(&self, round: &usize, _: &mut dyn Iterator<Item = ()>) -> Result<Next<usize>, TaskError> {
        if round + 1 < self.needs_mib.len() {
            return Ok(Next::Round(round + 1));
        }
        Ok(Next::Done(Report::json(round)?))
    }
}
