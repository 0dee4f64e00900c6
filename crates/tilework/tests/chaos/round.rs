//! One round: a stream of jobs, faults that come when they are due, then everything comes back, and all must be well.

use crate::disk::{self, SmallDisk};
use crate::ears::Ears;
use crate::harness::{Cluster, begun, wait_for};
use crate::ledger::Ledger;
use crate::parts::{Part, State};
use crate::schedule::{Dice, Fault, Kind, N_WORKERS};
use crate::stream::Stream;
use crate::verdict;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};
use tilework::cluster::record::unix_ms;
use tilework_nats::Role;

/// Driver processes of a cluster.
const N_DRIVERS: usize = 2;
/// Between two looks at what is due and who lives.
const LOOK: Duration = Duration::from_millis(10);
/// How long a fault waits for a task that is begun after the one before it: it should hit something, and chaos should not be over.
const WAITS_MAX: Duration = Duration::from_secs(5);
/// After which time what has not ended yet is looked at again.
const AGAIN_MS: u64 = 100;
/// After which time a process that found no server is started again.
const RESTART: Duration = Duration::from_millis(500);
/// How often a fault is put off for which nobody is there.
const PUT_OFF_MAX: usize = 60;
/// No job takes longer once everything is back. A client that waits for an answer that never comes asks again after a minute.
const HANG: Duration = Duration::from_secs(180);

/// What a round came to.
pub(crate) struct Outcome {
    pub(crate) struck: Vec<Struck>,
    /// From when everything was back until all jobs were done.
    pub(crate) recovered_in: Duration,
    /// Jobs that are done, by kind.
    pub(crate) done: BTreeMap<&'static str, usize>,
    /// How often somebody was told that a job was not done, by what was told.
    pub(crate) told: BTreeMap<String, usize>,
    /// How many processes had ended because there was no server, and were started again.
    pub(crate) n_began_anew: usize,
    /// Commits that were seen, and how often a later run kept one.
    pub(crate) n_commits: usize,
    pub(crate) n_kept: usize,
}

/// A fault that happened.
pub(crate) struct Struck {
    pub(crate) kind: Kind,
    unix_ms: u64,
    /// The numbers of the workers that it concerned.
    workers: Vec<u32>,
    /// The job, if it concerned one.
    job: Option<usize>,
    /// What the journals had right after it.
    committed: Vec<BTreeSet<u64>>,
    /// Whether a task was begun and not committed.
    pub(crate) is_hit: bool,
}

/// What comes back, and when.
#[derive(Debug, Clone)]
enum Return {
    Server,
    Part(usize),
    Network(usize),
    Disk,
    Store,
    /// A command for a job that was cancelled.
    Command(String),
}

/// Whom a fault concerned: all workers, unless it says which one.
#[derive(Default)]
struct Concerned {
    worker: Option<usize>,
    job: Option<usize>,
    whom: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Up,
    Stopped,
    Down,
}

struct Round {
    ears: Ears,
    stream: Stream,
    /// Drivers, then workers.
    parts: Vec<Part>,
    server: Server,
    /// Until when there was no server.
    server_was_away_until: Option<Instant>,
    returns: Vec<(Instant, Return)>,
    struck: Vec<Struck>,
    n_began_anew: usize,
    dice: Dice,
    is_disk_full: bool,
    begun: Instant,
    disk: Option<SmallDisk>,
    cluster: Cluster,
}

/// The kinds of faults that there can be here.
pub(crate) fn kinds() -> Vec<Kind> {
    let here = |kind: &Kind| *kind != Kind::DiskFull || disk::is_inside();
    Kind::ALL.into_iter().filter(here).collect()
}

/// Runs the round of a seed to its end.
pub(crate) fn run(seed: u64) -> Outcome {
    let mut dice = Dice::of(seed);
    let mut due: VecDeque<Fault> = dice.faults(&kinds()).into();
    let mut round = Round::start(dice);
    let kept = verdict::KeptOnFailure::of(seed, round.cluster.stage.folder());
    let mut n_put_off = 0;
    while let Some(fault) = due.pop_front() {
        round.live_until(Instant::now() + Duration::from_millis(fault.after_ms), true);
        round.live_until_somebody_is_at_work();
        if !round.strike(fault) && n_put_off < PUT_OFF_MAX {
            n_put_off += 1;
            due.push_back(fault);
        }
    }
    round.live_until_all_is_back();
    let recovered_in = round.live_until_all_is_done();
    round.live_until_all_commands_have_ended();
    round.find_hits();
    let outcome = round.end(recovered_in);
    drop(kept);
    outcome
}

impl Round {
    fn start(dice: Dice) -> Round {
        let cluster = Cluster::start().of_example("relay");
        let cluster = {
            let says_how = cluster.stage.path("slow-store");
            cluster.with_slow_store(says_how)
        };
        for (extents, name, seed) in [("1200x300", "A2", 3), ("1200x1200", "D", 4)] {
            cluster.stage.succeed(&format!(
                "generate normal {extents} -o data/{name}.npy --seed {seed}"
            ));
        }
        let disk = disk::is_inside().then(|| SmallDisk::below(cluster.stage.folder()));
        let drivers = (1..=N_DRIVERS).map(|number| Part::driver(number, &cluster));
        let workers = (1..=N_WORKERS).map(|number| Part::worker(number, number == N_WORKERS, &cluster));
        let mut parts: Vec<Part> = drivers.chain(workers).collect();
        parts.iter_mut().for_each(|part| part.start(&cluster));
        wait_for("all workers on the board", || {
            (cluster.workers_on_board()?.len() == N_WORKERS).then_some(())
        });
        Round {
            ears: Ears::on(&cluster),
            stream: Stream::new(),
            parts,
            server: Server::Up,
            server_was_away_until: None,
            returns: Vec::new(),
            struck: Vec::new(),
            n_began_anew: 0,
            dice,
            is_disk_full: false,
            begun: Instant::now(),
            disk,
            cluster,
        }
    }

    /// Lets everything go on until then, brings back what is due, and sees that nothing ends that should not.
    fn live_until(&mut self, until: Instant, with_new_jobs: bool) {
        loop {
            let now = Instant::now();
            if let Some(due) = self.returns.iter().position(|(at, _)| *at <= now) {
                let (_, what) = self.returns.remove(due);
                self.bring_back(what);
                continue;
            }
            self.restart_those_without_a_server();
            // What a job needs before it begins has no room on a full disk.
            if with_new_jobs && !self.is_disk_full {
                self.stream.fill(&self.cluster, &mut self.dice);
            }
            self.stream.look(&self.cluster);
            if now >= until {
                return;
            }
            thread::sleep(LOOK); // waits: what the schedule has next
        }
    }

    /// A task was begun after the last fault, or that takes too long.
    fn live_until_somebody_is_at_work(&mut self) {
        let last = self.struck.last().map_or(0, |struck| struck.unix_ms);
        let until = Instant::now() + WAITS_MAX;
        while Instant::now() < until && !self.ears.has_begun_since(last) {
            self.live_until(Instant::now() + LOOK, true);
        }
    }

    /// Also what was started just before the server was back, and ended because of that.
    fn live_until_all_is_back(&mut self) {
        loop {
            let last = self.returns.iter().map(|(at, _)| *at).max();
            self.live_until(last.unwrap_or_else(|| Instant::now() + 2 * RESTART), true);
            if last.is_none() && self.returns.is_empty() {
                return;
            }
        }
    }

    /// How long that takes.
    fn live_until_all_is_done(&mut self) -> Duration {
        let back = Instant::now();
        while !self.stream.unfinished().is_empty() {
            self.live_until(Instant::now() + LOOK, false);
            assert!(
                back.elapsed() < HANG,
                "hang: {:?} not done {HANG:?} after everything was back",
                self.stream.unfinished()
            );
        }
        println!(
            "  all done {:.1} s after everything was back",
            back.elapsed().as_secs_f64()
        );
        back.elapsed()
    }

    fn live_until_all_commands_have_ended(&mut self) {
        let since = Instant::now();
        while !self.stream.bystanders_have_ended() {
            self.live_until(Instant::now() + LOOK, false);
            assert!(since.elapsed() < HANG, "hang: a command does not end");
        }
    }

    fn restart_those_without_a_server(&mut self) {
        let away_until = self.server_was_away_until;
        for part in 0..self.parts.len() {
            if self.parts[part].found_no_server(away_until) {
                self.n_began_anew += 1;
                self.returns.push((Instant::now() + RESTART, Return::Part(part)));
            }
        }
    }

    fn bring_back(&mut self, what: Return) {
        match what {
            Return::Server => {
                match self.server {
                    Server::Up => return,
                    Server::Stopped => self.signal_server(Signal::CONT),
                    Server::Down => self.cluster.start_server(),
                }
                self.server = Server::Up;
                self.server_was_away_until = Some(Instant::now());
            }
            Return::Part(part) if self.parts[part].is_ending() => self.later(AGAIN_MS, what),
            Return::Part(part) => {
                self.parts[part].wake();
                self.parts[part].start(&self.cluster);
            }
            Return::Network(part) => self.parts[part].mend_network(),
            Return::Disk => {
                self.disk.as_ref().unwrap().empty();
                self.is_disk_full = false;
            }
            Return::Store => fs::remove_file(self.cluster.stage.path("slow-store")).unwrap(),
            Return::Command(line) => self.stream.bystander(&self.cluster, line),
        }
    }

    fn later(&mut self, after_ms: u64, what: Return) {
        self.returns
            .push((Instant::now() + Duration::from_millis(after_ms), what));
    }

    /// Whether there was something that it could happen to.
    fn strike(&mut self, fault: Fault) -> bool {
        let at_s = self.begun.elapsed().as_secs_f64();
        // What is counted is how things stood when it came.
        let numbers: Vec<(usize, Vec<u32>)> = (0..self.parts.len())
            .filter(|part| self.is_up(*part, Role::Worker))
            .map(|part| (part, self.parts[part].numbers()))
            .collect();
        let Some(concerned) = self.happens(fault) else {
            println!("  {at_s:6.3} s  {fault}: put off, nobody is there");
            return false;
        };
        println!("  {at_s:6.3} s  {fault}{}", concerned.whom);
        let of_concerned = numbers
            .into_iter()
            .filter(|(part, _)| concerned.worker.is_none_or(|worker| worker == *part));
        self.struck.push(Struck {
            kind: fault.kind,
            unix_ms: unix_ms(),
            workers: of_concerned.flat_map(|(_, numbers)| numbers).collect(),
            job: concerned.job,
            committed: self.stream.look_at_journals(),
            is_hit: false,
        });
        true
    }

    /// Lets it happen, if it can.
    fn happens(&mut self, fault: Fault) -> Option<Concerned> {
        let Fault { kind, for_ms, .. } = fault;
        let worker = self.first(Role::Worker, fault.worker);
        match kind {
            Kind::WorkerKilled | Kind::WorkerStoppedBriefly | Kind::WorkerStopped | Kind::WorkerToldToEnd => {
                let worker = worker?;
                self.fails(kind, worker, for_ms);
                Some(self.concerned(None, Some(worker)))
            }
            Kind::DriverKilled | Kind::DriverStoppedBriefly | Kind::DriverStopped | Kind::DriverToldToEnd => {
                let driver = self.leader()?;
                self.fails(kind, driver, for_ms);
                Some(self.concerned(Some(driver), None))
            }
            Kind::DriverAndWorkerKilled => {
                let (driver, worker) = (self.leader()?, worker?);
                self.fails(kind, driver, for_ms);
                self.fails(kind, worker, for_ms);
                Some(self.concerned(Some(driver), Some(worker)))
            }
            Kind::WorkerReset | Kind::WorkerFrozen => {
                let worker = worker.filter(|worker| self.parts[*worker].is_connected())?;
                self.network_fails(kind, worker, for_ms);
                Some(self.concerned(None, Some(worker)))
            }
            Kind::DriverReset | Kind::DriverFrozen => {
                let driver = self
                    .leader()
                    .filter(|driver| self.parts[*driver].is_connected())?;
                self.network_fails(kind, driver, for_ms);
                Some(self.concerned(Some(driver), None))
            }
            Kind::DriverAndWorkerCutOff => {
                let both = [self.leader()?, worker?];
                if !both.iter().all(|part| self.parts[*part].is_connected()) {
                    return None;
                }
                for part in both {
                    self.network_fails(kind, part, for_ms);
                }
                Some(self.concerned(Some(both[0]), Some(both[1])))
            }
            Kind::ServerKilled | Kind::ServerStopped | Kind::NatsLost => {
                (self.server == Server::Up).then(|| self.server_fails(kind, for_ms))?;
                Some(Concerned::default())
            }
            Kind::AllKilled => {
                if self.server != Server::Down {
                    self.server_fails(kind, for_ms);
                }
                for part in 0..self.parts.len() {
                    if self.parts[part].state() != State::Down {
                        self.fails(kind, part, for_ms);
                    }
                }
                Some(Concerned::default())
            }
            Kind::DiskFull => {
                let disk = self.disk.as_ref().filter(|_| worker.is_some())?;
                disk.fill();
                self.is_disk_full = true;
                self.later(for_ms, Return::Disk);
                Some(Concerned::default())
            }
            Kind::StoreSlow => {
                worker?;
                fs::write(self.cluster.stage.path("slow-store"), fault.slow_ms.to_string()).unwrap();
                self.later(for_ms, Return::Store);
                Some(Concerned::default())
            }
            Kind::ClientKilled | Kind::SubmittedAgain | Kind::Cancelled => self.client_acts(fault),
        }
    }

    fn concerned(&self, driver: Option<usize>, worker: Option<usize>) -> Concerned {
        let whom = driver
            .into_iter()
            .chain(worker)
            .map(|part| self.parts[part].name());
        Concerned {
            worker,
            job: None,
            whom: format!(": {}", whom.collect::<Vec<_>>().join(" and ")),
        }
    }

    fn fails(&mut self, kind: Kind, part: usize, for_ms: u64) {
        let failing = &mut self.parts[part];
        match kind {
            Kind::WorkerStoppedBriefly
            | Kind::WorkerStopped
            | Kind::DriverStoppedBriefly
            | Kind::DriverStopped => failing.stop(),
            Kind::WorkerToldToEnd | Kind::DriverToldToEnd => failing.tell_to_end(),
            _ => failing.kill(),
        }
        self.later(for_ms, Return::Part(part));
    }

    fn network_fails(&mut self, kind: Kind, part: usize, for_ms: u64) {
        let failing = &mut self.parts[part];
        match kind {
            Kind::WorkerFrozen | Kind::DriverFrozen => failing.freeze_network(for_ms),
            Kind::DriverAndWorkerCutOff => failing.take_network_away(for_ms),
            _ => return failing.reset_network(),
        }
        self.later(for_ms, Return::Network(part));
    }

    fn server_fails(&mut self, kind: Kind, for_ms: u64) {
        if kind == Kind::ServerStopped {
            self.signal_server(Signal::STOP);
            self.server = Server::Stopped;
        } else {
            self.cluster.kill_server();
            self.server = Server::Down;
        }
        if kind == Kind::NatsLost {
            fs::remove_dir_all(self.cluster.folder().join("data")).unwrap();
            self.ears.store_was_lost();
        }
        self.server_was_away_until = Some(Instant::now() + Duration::from_millis(for_ms));
        self.later(for_ms, Return::Server);
    }

    fn signal_server(&self, signal: Signal) {
        let pid = self
            .cluster
            .server_pid()
            .and_then(|pid| Pid::from_raw(pid as i32));
        kill_process(pid.unwrap(), signal).unwrap();
    }

    fn client_acts(&mut self, fault: Fault) -> Option<Concerned> {
        let job = self.stream.running(fault.job)?;
        let output = self.stream.jobs()[job].output.clone();
        match fault.kind {
            Kind::ClientKilled => self.stream.kill_client(job),
            Kind::SubmittedAgain => {
                let line = self.stream.command_again(job, false);
                self.stream.bystander(&self.cluster, line);
            }
            _ => {
                let again = self.stream.command_again(job, fault.by_resume);
                self.stream
                    .bystander(&self.cluster, format!("cancel data:/{output}"));
                self.later(fault.for_ms, Return::Command(again));
            }
        }
        Some(Concerned {
            worker: None,
            job: Some(job),
            whom: format!(": {output}"),
        })
    }

    fn is_up(&self, part: usize, role: Role) -> bool {
        self.parts[part].role() == role && self.parts[part].state() == State::Up
    }

    /// That one of its role, or the next one that is at work.
    fn first(&self, role: Role, number: usize) -> Option<usize> {
        let mut of_role: Vec<usize> = (0..self.parts.len())
            .filter(|part| self.parts[*part].role() == role)
            .collect();
        let n = of_role.len();
        of_role.rotate_left(number % n);
        of_role.into_iter().find(|part| self.is_up(*part, role))
    }

    /// Who drives, or whoever may.
    fn leader(&self) -> Option<usize> {
        let driving = self.ears.driving_pid();
        let drives = |part: &usize| self.parts[*part].pid() == driving && self.is_up(*part, Role::Driver);
        (0..self.parts.len())
            .find(drives)
            .or_else(|| self.first(Role::Driver, 0))
    }

    /// What the faults hit, as the events told and the journals told then.
    fn find_hits(&mut self) {
        for (job, asked) in self.stream.jobs().iter().enumerate() {
            let events = self.ears.events_of(&asked.output);
            for struck in &mut self.struck {
                let Some(committed) = struck.committed.get(job) else {
                    continue;
                };
                if struck.is_hit || struck.job.is_some_and(|concerned| concerned != job) {
                    continue;
                }
                let n_before = events.partition_point(|event| event.unix_ms <= struck.unix_ms);
                struck.is_hit = begun(&events[..n_before])
                    .iter()
                    .any(|begun| struck.workers.contains(&begun.worker) && !committed.contains(&begun.task));
            }
        }
    }

    /// Ends every process as it should end, and looks at what is left.
    fn end(&mut self, recovered_in: Duration) -> Outcome {
        wait_for("no job runs any more", || {
            let listed = self.cluster.succeed("jobs");
            let jobs = listed["jobs"].as_array().unwrap();
            jobs.iter().all(|job| job["state"] != "running").then_some(())
        });
        for part in self.parts.iter_mut().rev() {
            assert_eq!(part.state(), State::Up, "{}", part.name());
            part.tell_to_end();
            part.await_end();
        }
        self.cluster.kill_server();
        self.stream.all_are_right(&self.cluster);
        let outputs = self.stream.jobs().iter().map(|asked| asked.output.as_str());
        verdict::nothing_is_left(&self.cluster, outputs);
        let ledgers = || self.stream.jobs().iter().map(|asked| asked.ledger());
        let (n_commits, n_kept) = (
            ledgers().map(Ledger::n_seen).sum(),
            ledgers().map(Ledger::n_kept).sum(),
        );
        let mut done = BTreeMap::new();
        for asked in self.stream.jobs() {
            *done.entry(asked.kind()).or_default() += 1;
        }
        Outcome {
            struck: std::mem::take(&mut self.struck),
            recovered_in,
            done,
            told: std::mem::take(&mut self.stream.told),
            n_began_anew: self.n_began_anew,
            n_commits,
            n_kept,
        }
    }
}
