//! A job of several rounds whose tasks hand each other parts, in files or in the journal. A program of its own too: what the processes of the
//! chaos tests are, for it computes products as well.

use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::process::ExitCode;
use tilework::{Files, Job, Needs, Next, Report, TaskContext, TaskError, TaskFile};

/// Each task of a round passes a part on to each of the next one. The output is all parts of the last round.
#[derive(Serialize, Deserialize)]
struct Relay {
    seed: u64,
    tasks: usize,
    rounds: u64,
    /// Bytes of a part.
    bytes: usize,
    in_files: bool,
}

#[derive(Serialize, Deserialize)]
struct State {
    round: u64,
    passed_on: Vec<PassedOn>,
}

/// What a task made: a part for each task of the next round.
#[derive(Serialize, Deserialize)]
enum PassedOn {
    /// A section each.
    File(TaskFile),
    Parts(Vec<Vec<u8>>),
}

impl PassedOn {
    fn part(&self, of: usize, context: &TaskContext<'_>) -> Result<Vec<u8>, TaskError> {
        let mut part = Vec::new();
        match self {
            PassedOn::File(file) => drop(context.open_section(file, of)?.read_to_end(&mut part)?),
            PassedOn::Parts(parts) => part.clone_from(&parts[of]),
        }
        Ok(part)
    }
}

/// Bytes that depend on every one of `seed`, and on its order.
fn bytes_of(seed: impl IntoIterator<Item = u8>, n: usize) -> Vec<u8> {
    // FNV-1a, then an LCG with the multiplier of Knuth's MMIX.
    let mixed = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let mut state = seed.into_iter().fold(0xcbf2_9ce4_8422_2325, mixed);
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(n).collect()
}

impl Job for Relay {
    const KIND: &'static str = "relay";
    const VERSION: u32 = 1;
    type State = State;
    type Output = PassedOn;

    fn start(&self, _: &Files) -> Result<State, TaskError> {
        Ok(State {
            round: 0,
            passed_on: Vec::new(),
        })
    }

    fn tasks(&self, _: &State) -> u64 {
        self.tasks as u64
    }

    fn needs(&self, _: &State) -> Needs {
        Needs {
            memory_bytes: 1 << 20,
            ..Needs::default()
        }
    }

    fn run(&self, state: &State, task: u64, context: &TaskContext<'_>) -> Result<PassedOn, TaskError> {
        let mut taken = [self.seed, state.round, task].map(u64::to_le_bytes).concat();
        for passed_on in &state.passed_on {
            taken.extend(passed_on.part(task as usize, context)?);
        }
        let part = |to: usize| bytes_of(taken.iter().copied().chain(to.to_le_bytes()), self.bytes);
        if !self.in_files {
            return Ok(PassedOn::Parts((0..self.tasks).map(part).collect()));
        }
        let mut file = context.create_file()?;
        for to in 0..self.tasks {
            file.write_all(&part(to))?;
            file.end_section();
        }
        Ok(PassedOn::File(file.finish()?))
    }

    fn advance(
        &self,
        state: &State,
        passed_on: &mut dyn Iterator<Item = PassedOn>,
    ) -> Result<Next<State>, TaskError> {
        let round = state.round + 1;
        if round < self.rounds {
            return Ok(Next::Round(State {
                round,
                passed_on: passed_on.collect(),
            }));
        }
        let (mut files, mut parts) = (Vec::new(), Vec::new());
        for passed_on in passed_on {
            match passed_on {
                PassedOn::File(file) => files.push(file),
                PassedOn::Parts(of_task) => parts.extend(of_task.concat()),
            }
        }
        Ok(Next::Done(match self.in_files {
            true => Report::files(files),
            false => Report::file(parts),
        }))
    }
}

fn main() -> ExitCode {
    tilework::main(tilework::jobs![Relay])
}
