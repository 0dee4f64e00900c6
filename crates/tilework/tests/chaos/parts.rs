//! The processes of a cluster that are killed and come back: each a place that a process has, or had.

use crate::common::PATIENCE;
use crate::harness::{Cluster, Process};
use rustix::process::Signal;
use std::time::Instant;

/// Makes tasks so long that jobs outlast most of their faults.
const SLOW: &str = "*:900ms";

/// What a part does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Driver,
    Worker,
}

/// How a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Up,
    Stopped,
    /// It was told to end, and what comes next starts it again.
    Ending,
    Down,
}

/// A driver or a worker.
pub(crate) struct Part {
    role: Role,
    name: String,
    n_starts: usize,
    process: Option<Process>,
    state: State,
    started: Instant,
    told_to_end: Instant,
}

impl Part {
    /// Not started yet.
    pub(crate) fn new(role: Role, name: String) -> Part {
        Part {
            role,
            name,
            n_starts: 0,
            process: None,
            state: State::Down,
            started: Instant::now(),
            told_to_end: Instant::now(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// The numbers that a worker has had since its process was started, for it may get another one.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        let said = self.process.as_ref().map(Process::said).unwrap_or_default();
        let numbers = said.lines().filter_map(|line| {
            let (number, rest) = line.strip_prefix("worker ")?.split_once(' ')?;
            rest.starts_with("takes tasks").then(|| number.parse().ok())?
        });
        numbers.collect()
    }

    /// Whether it is about to end as it was told to; it must not take for ever.
    pub(crate) fn is_ending(&mut self) -> bool {
        let is_ending = self.state == State::Ending && self.process.as_mut().unwrap().is_alive();
        let took = self.told_to_end.elapsed();
        assert!(
            !is_ending || took < PATIENCE,
            "{} does not end: {took:?}",
            self.name
        );
        is_ending
    }

    /// Starts it, unless it is there.
    pub(crate) fn start(&mut self, cluster: &Cluster) {
        if self.state == State::Ending {
            self.await_end();
        }
        if self.state != State::Down {
            return;
        }
        self.n_starts += 1;
        let name = format!("{}-{}", self.name, self.n_starts);
        self.started = Instant::now();
        self.process = Some(match self.role {
            Role::Driver => cluster.driver(&name),
            Role::Worker => {
                cluster.worker_without_number(&name, SLOW, "--cluster c/worker.join --data-root data=data")
            }
        });
        self.state = State::Up;
    }

    /// Kills it, stopped or not.
    pub(crate) fn kill(&mut self) {
        if self.state != State::Ending {
            self.still_lives();
        }
        self.process.as_mut().unwrap().kill();
        self.process = None;
        self.state = State::Down;
    }

    /// Stops it where it is.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::STOP);
        self.state = State::Stopped;
    }

    /// Wakes it, if it is stopped still.
    pub(crate) fn wake(&mut self) {
        if self.state == State::Stopped {
            self.signal(Signal::CONT);
            self.state = State::Up;
        }
    }

    /// Tells it to end.
    pub(crate) fn tell_to_end(&mut self) {
        self.signal(Signal::TERM);
        self.told_to_end = Instant::now();
        self.state = State::Ending;
    }

    /// Waits until it has ended as it was told to.
    pub(crate) fn await_end(&mut self) {
        let process = self.process.as_mut().unwrap();
        let status = process.end();
        assert_eq!(status.code(), Some(0), "{}: {}", self.name, process.said());
        self.process = None;
        self.state = State::Down;
    }

    fn signal(&mut self, signal: Signal) {
        self.still_lives();
        self.process.as_ref().unwrap().signal(signal);
    }

    fn still_lives(&mut self) {
        let process = self.process.as_mut().unwrap();
        assert!(
            process.is_alive(),
            "{} ended by itself: {}",
            self.name,
            process.said()
        );
    }

    /// Whether it ended because it found no server, which nothing else may do; a service manager would start it again.
    pub(crate) fn found_no_server(&mut self, server_was_away_until: Option<Instant>) -> bool {
        let Some(process) = &mut self.process else {
            return false;
        };
        if self.state != State::Up || process.is_alive() {
            return false;
        }
        let code = process.end().code();
        let had_no_server = server_was_away_until.is_some_and(|until| self.started < until);
        assert!(
            code == Some(6) && had_no_server,
            "{} ended by itself with {code:?}: {}",
            self.name,
            process.said()
        );
        self.process = None;
        self.state = State::Down;
        true
    }
}
