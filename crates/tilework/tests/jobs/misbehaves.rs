//! A job of five tasks, of which the third does something that no task should. A program of its own too, for what ends a process.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "a program and a part of a test"
)]

use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;
use tilework::{Checked, Files, Job, Needs, Next, Report, TaskContext, TaskError};

/// What the third task does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Deed {
    Panics,
    PanicsOnce,
    IsTooLarge,
    FailsOnce,
    Refuses,
    IsWrong,
    /// Takes longer than its deadline, and stops when it is told to.
    IsLate,
    IsLateOnce,
    /// Never ends.
    Hangs,
    HangsOnce,
    /// Ends its process as if all were well.
    Exits,
    ExitsOnce,
    /// What is called where jobs are driven panics, or gives too much.
    StartPanics,
    AdvancePanics,
    AdvanceHangs,
    HasTooManyTasks,
    HasNoTime,
    HasNegativeTime,
    HasNoNumberForItsTime,
    ExpectsNoNumber,
    StateIsTooLarge,
    /// Has no deadline, may take for ever, and takes a while, as all the others do.
    TakesItsTime,
}

/// How long a task may take, in seconds.
pub const DEADLINE_S: f64 = 0.1;

#[derive(Serialize, Deserialize)]
pub struct Misbehaves<const VERSION: u32> {
    pub deed: Deed,
    /// Where it is noted that it was done once.
    pub folder: PathBuf,
}

impl<const VERSION: u32> Misbehaves<VERSION> {
    /// Whether this was asked before.
    fn is_done(&self) -> Result<bool, TaskError> {
        let mark = self.folder.join("done");
        let is_done = mark.exists();
        fs::write(mark, b"")?;
        Ok(is_done)
    }
}

fn is_late(context: &TaskContext<'_>) -> Result<Vec<u8>, TaskError> {
    loop {
        context.check_cancelled()?;
        thread::sleep(Duration::from_millis(1)); // waits: for its deadline
    }
}

fn hang() -> ! {
    loop {
        thread::park();
    }
}

impl<const VERSION: u32> Job for Misbehaves<VERSION> {
    const KIND: &'static str = "misbehaves";
    const VERSION: u32 = VERSION;
    /// Ballast.
    type State = Vec<u8>;
    type Output = Vec<u8>;

    fn start(&self, _: &Files) -> Result<Vec<u8>, TaskError> {
        assert_ne!(self.deed, Deed::StartPanics, "on purpose");
        Ok(Vec::new())
    }

    fn tasks(&self, _: &Vec<u8>) -> u64 {
        match self.deed {
            Deed::HasTooManyTasks => 1 << 40,
            _ => 5,
        }
    }

    fn needs(&self, _: &Vec<u8>) -> Needs {
        Needs {
            memory_bytes: 1 << 20,
            expected_s: match self.deed {
                Deed::ExpectsNoNumber => f64::NAN,
                Deed::TakesItsTime => f64::INFINITY,
                _ => 1.0,
            },
            deadline_s: match self.deed {
                Deed::HasNoTime => 0.0,
                Deed::HasNegativeTime => -1.0,
                Deed::HasNoNumberForItsTime => f64::NAN,
                Deed::TakesItsTime => f64::INFINITY,
                _ => DEADLINE_S,
            },
        }
    }

    fn run(&self, _: &Vec<u8>, task: u64, context: &TaskContext<'_>) -> Result<Vec<u8>, TaskError> {
        if task != 2 && self.deed != Deed::TakesItsTime {
            return Ok(vec![1]);
        }
        if matches!(self.deed, Deed::Exits | Deed::ExitsOnce) && !self.folder.join("done").exists() {
            thread::sleep(Duration::from_millis(50)); // waits: for the syncs of other tasks' records
        }
        match self.deed {
            Deed::Panics => panic!("the task panicked on purpose"),
            Deed::IsTooLarge => Ok(vec![200; 2 << 20]),
            Deed::Refuses => Err(TaskError::fatal("the task refuses")),
            Deed::IsWrong => Ok(vec![0]),
            Deed::IsLate => is_late(context),
            Deed::Hangs => hang(),
            Deed::Exits => std::process::exit(0),
            Deed::FailsOnce | Deed::PanicsOnce | Deed::IsLateOnce | Deed::HangsOnce | Deed::ExitsOnce
                if self.is_done()? =>
            {
                Ok(vec![1])
            }
            Deed::PanicsOnce => panic!("the task panicked once"),
            // `?` makes any error one that may pass.
            Deed::FailsOnce => Ok(fs::read(self.folder.join("none"))?),
            Deed::IsLateOnce => is_late(context),
            Deed::HangsOnce => hang(),
            Deed::ExitsOnce => std::process::exit(0),
            Deed::StartPanics
            | Deed::AdvancePanics
            | Deed::AdvanceHangs
            | Deed::HasTooManyTasks
            | Deed::HasNoTime
            | Deed::HasNegativeTime
            | Deed::HasNoNumberForItsTime
            | Deed::ExpectsNoNumber
            | Deed::StateIsTooLarge => Ok(vec![1]),
            Deed::TakesItsTime => {
                thread::sleep(Duration::from_millis(1_200)); // waits: until the driver looks for what is slow
                Ok(vec![1])
            }
        }
    }

    fn check(&self, _: &Vec<u8>, _: u64, output: &Vec<u8>) -> Result<Checked, TaskError> {
        match output[..] {
            [0] => Err(TaskError::Corrupt("the output is 0".to_owned())),
            _ => Ok(Checked::Yes),
        }
    }

    fn advance(
        &self,
        _: &Vec<u8>,
        outputs: &mut dyn Iterator<Item = Vec<u8>>,
    ) -> Result<Next<Vec<u8>>, TaskError> {
        assert_ne!(self.deed, Deed::AdvancePanics, "on purpose");
        if self.deed == Deed::AdvanceHangs {
            hang();
        }
        if self.deed == Deed::StateIsTooLarge {
            return Ok(Next::Round(vec![200; 16 << 20]));
        }
        Ok(Next::Done(Report::json(&outputs.count())?))
    }
}

fn main() -> ExitCode {
    tilework::main(tilework::jobs![Misbehaves<1>])
}
