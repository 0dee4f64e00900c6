//! The processes of a cluster that are killed and come back: each a place that a process has, or had, with a network of its own to the server.

use crate::common::PATIENCE;
use crate::harness::{Cluster, Process};
use crate::proxy::Proxy;
use rustix::process::Signal;
use std::time::{Duration, Instant};
use tilework_nats::Role;

/// Makes tasks so long that jobs outlast some of their faults; the last worker is slow.
const SLOW: &str = "*:900ms";
const SLOWER: &str = "*:2500ms";

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
    slow: &'static str,
    n_starts: usize,
    process: Option<Process>,
    state: State,
    proxy: Proxy,
    joins: String,
    network_is_whole: bool,
    /// Until when it could not reach the server, if it ever could not.
    network_was_away_until: Option<Instant>,
    started: Instant,
    told_to_end: Instant,
}

impl Part {
    /// Not started yet.
    pub(crate) fn driver(number: usize, cluster: &Cluster) -> Part {
        Part::new(Role::Driver, format!("driver{number}"), "", cluster)
    }

    /// Not started yet.
    pub(crate) fn worker(number: usize, is_slow: bool, cluster: &Cluster) -> Part {
        let slow = if is_slow { SLOWER } else { SLOW };
        Part::new(Role::Worker, format!("worker{number}"), slow, cluster)
    }

    fn new(role: Role, name: String, slow: &'static str, cluster: &Cluster) -> Part {
        let proxy = Proxy::to(cluster.port());
        let join = cluster.join_through(role, proxy.port());
        Part {
            role,
            name,
            slow,
            n_starts: 0,
            process: None,
            state: State::Down,
            joins: format!("--cluster {} --data-root data=data", join.display()),
            proxy,
            network_is_whole: true,
            network_was_away_until: None,
            started: Instant::now(),
            told_to_end: Instant::now(),
        }
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Whether it is at work and has a connection that can be harmed.
    pub(crate) fn is_connected(&self) -> bool {
        self.state == State::Up && self.network_is_whole && self.proxy.n_open() > 0
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
            "hang: {} does not end: {took:?}",
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
            Role::Driver => cluster.driver_with(&name, &self.joins),
            _ => cluster.worker_without_number(&name, self.slow, &self.joins),
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

    /// Ends its connections; it may make new ones.
    pub(crate) fn reset_network(&self) {
        self.proxy.reset();
    }

    /// Nothing passes for a while, and nobody is told.
    pub(crate) fn freeze_network(&mut self, for_ms: u64) {
        self.proxy.freeze();
        self.network_goes(for_ms);
    }

    /// Ends its connections, and lets it make none for a while.
    pub(crate) fn take_network_away(&mut self, for_ms: u64) {
        self.proxy.take_away();
        self.network_goes(for_ms);
    }

    fn network_goes(&mut self, for_ms: u64) {
        self.network_is_whole = false;
        self.network_was_away_until = Some(Instant::now() + Duration::from_millis(for_ms));
    }

    /// All passes again.
    pub(crate) fn mend_network(&mut self) {
        self.proxy.heal();
        self.proxy.bring_back();
        self.network_is_whole = true;
        self.network_was_away_until = Some(Instant::now());
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
        let away_until = server_was_away_until.max(self.network_was_away_until);
        let had_no_server = away_until.is_some_and(|until| self.started < until);
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
