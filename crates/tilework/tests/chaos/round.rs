//! One round: jobs are submitted, faults come when they are due, everything comes back, and all must be well.

use crate::harness::{Cluster, Process, begun, wait_for};
use crate::parts::{Part, Role, State};
use crate::schedule::{Fault, N_JOBS, N_WORKERS, Planned, drawn};
use crate::verdict;
use serde_json::Value;
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};
use tilework::cluster::record::unix_ms;

/// Between two looks at what is due and who lives.
const LOOK: Duration = Duration::from_millis(10);
/// After which time what has not ended yet is looked at again.
const AGAIN_MS: u64 = 100;
/// After which time a process that found no server is started again.
const RESTART: Duration = Duration::from_millis(500);
/// A job that does not end well although everything is there is tried so often.
const TRIES: usize = 8;
/// How a client of a job may end: done, there already, nobody there, cancelled by another.
const CLIENT_ENDS: [i32; 4] = [0, 2, 6, 7];
/// A job failed, and its report says how to go on.
const JOB_FAILED: i32 = 4;

/// What a round came to.
pub(crate) struct Outcome {
    pub(crate) struck: Vec<Struck>,
    /// From when everything was back until all jobs were done.
    pub(crate) recovered_in: Duration,
    /// How often a job had ended without being done, and was resumed.
    pub(crate) n_resumed: usize,
    /// How many processes had ended because there was no server, and were started again.
    pub(crate) n_began_anew: usize,
}

/// A fault that happened.
pub(crate) struct Struck {
    pub(crate) fault: Fault,
    unix_ms: u64,
    /// The numbers of the workers that it concerned.
    workers: Vec<u32>,
    /// The job, if it concerned one.
    job: Option<usize>,
    /// What the journals had right after it.
    committed: Vec<BTreeSet<u64>>,
    /// A job and a task of it that was begun and not committed.
    pub(crate) hit: Option<(usize, u64)>,
}

/// What comes back, and when.
#[derive(Debug, Clone, Copy)]
enum Return {
    Server,
    Driver(usize),
    Worker(usize),
    Client { job: usize, by_resume: bool },
}

struct Client {
    job: usize,
    line: String,
    process: Process,
}

struct Round {
    cluster: Cluster,
    drivers: Vec<Part>,
    workers: Vec<Part>,
    clients: Vec<Client>,
    n_clients: usize,
    server_is_up: bool,
    /// Until when there was no server.
    server_was_away_until: Option<Instant>,
    returns: Vec<(Instant, Return)>,
    struck: Vec<Struck>,
    n_resumed: usize,
    n_began_anew: usize,
    submitted: Instant,
}

/// The output of a job.
pub(crate) fn output(job: usize) -> String {
    format!("C{job}.npy")
}

/// A job's command without its output, where files are in `data`.
pub(crate) fn product(job: usize, data: &str) -> String {
    match job {
        0 => format!("multiply {data}/A.npy {data}/B.npy"),
        1 => format!("multiply {data}/A2.npy {data}/B.npy"),
        _ => format!("gram {data}/B.npy"),
    }
}

fn command(job: usize, by_resume: bool) -> String {
    if by_resume {
        format!("resume data:/{}", output(job))
    } else {
        format!("{} -o data:/{}", product(job, "data:"), output(job))
    }
}

/// Runs the round of a seed to its end.
pub(crate) fn run(seed: u64) -> Outcome {
    let planned = drawn(seed);
    let mut round = Round::start();
    let kept = verdict::KeptOnFailure::of(seed, round.cluster.stage.folder());
    for fault in planned {
        round.live_until(round.submitted + fault.at);
        round.strike(fault);
    }
    round.live_until_all_is_back();
    let back = Instant::now();
    for job in 0..N_JOBS {
        round.settle(job);
    }
    let recovered_in = back.elapsed();
    println!(
        "  all done {:.1} s after everything was back",
        recovered_in.as_secs_f64()
    );
    round.find_hits();
    let outcome = round.end(recovered_in);
    drop(kept);
    outcome
}

impl Round {
    fn start() -> Round {
        let cluster = Cluster::start();
        let third = "generate normal 1200x300 -o data/A2.npy --seed 3";
        cluster.stage.succeed(third);
        let parts = |role, name: &str, n: usize| -> Vec<Part> {
            (1..=n).map(|i| Part::new(role, format!("{name}{i}"))).collect()
        };
        let mut round = Round {
            drivers: parts(Role::Driver, "driver", 2),
            workers: parts(Role::Worker, "worker", N_WORKERS),
            cluster,
            clients: Vec::new(),
            n_clients: 0,
            server_is_up: true,
            server_was_away_until: None,
            returns: Vec::new(),
            struck: Vec::new(),
            n_resumed: 0,
            n_began_anew: 0,
            submitted: Instant::now(),
        };
        for part in round.drivers.iter_mut().chain(&mut round.workers) {
            part.start(&round.cluster);
        }
        wait_for("all workers on the board", || {
            (round.cluster.workers_on_board()?.len() == N_WORKERS).then_some(())
        });
        for job in 0..N_JOBS {
            round.submit(job, false);
        }
        for job in 0..N_JOBS {
            round.cluster.running_job(&output(job));
        }
        round.submitted = Instant::now();
        round
    }

    fn submit(&mut self, job: usize, by_resume: bool) {
        self.ask(job, command(job, by_resume));
    }

    /// A client that stays until it has its answer.
    fn ask(&mut self, job: usize, line: String) {
        self.n_clients += 1;
        let name = format!("client{}", self.n_clients);
        let process = self.cluster.staying_client(&name, &format!("{line} --json"));
        self.clients.push(Client { job, line, process });
    }

    /// Lets everything go on until then, brings back what is due, and sees that nothing ends that should not.
    fn live_until(&mut self, until: Instant) {
        loop {
            let now = Instant::now();
            let due = self.returns.iter().position(|(at, _)| *at <= now);
            if let Some(due) = due {
                let (_, what) = self.returns.remove(due);
                self.bring_back(what);
                continue;
            }
            self.restart_those_without_a_server();
            if now >= until {
                return;
            }
            thread::sleep(LOOK); // waits: what the schedule has next
        }
    }

    /// Also what was started just before the server was back, and ended because of that.
    fn live_until_all_is_back(&mut self) {
        loop {
            let last = self.returns.iter().map(|(at, _)| *at).max();
            self.live_until(last.unwrap_or_else(|| Instant::now() + 2 * RESTART));
            if last.is_none() && self.returns.is_empty() {
                return;
            }
        }
    }

    fn restart_those_without_a_server(&mut self) {
        let away_until = self.server_was_away_until;
        let drivers = self
            .drivers
            .iter_mut()
            .enumerate()
            .map(|(idx, part)| (part, Return::Driver(idx)));
        let workers = self
            .workers
            .iter_mut()
            .enumerate()
            .map(|(idx, part)| (part, Return::Worker(idx)));
        let gone = drivers
            .chain(workers)
            .filter_map(|(part, back)| part.found_no_server(away_until).then_some(back));
        let at = Instant::now() + RESTART;
        let back: Vec<_> = gone.map(|back| (at, back)).collect();
        self.n_began_anew += back.len();
        self.returns.extend(back);
    }

    fn bring_back(&mut self, what: Return) {
        match what {
            Return::Server if self.server_is_up => {}
            Return::Server => {
                self.cluster.start_server();
                self.server_is_up = true;
                self.server_was_away_until = Some(Instant::now());
            }
            Return::Driver(idx) if self.drivers[idx].is_ending() => self.later(AGAIN_MS, what),
            Return::Worker(idx) if self.workers[idx].is_ending() => self.later(AGAIN_MS, what),
            Return::Driver(idx) => back(&mut self.drivers[idx], &self.cluster),
            Return::Worker(idx) => back(&mut self.workers[idx], &self.cluster),
            Return::Client { job, by_resume } => self.submit(job, by_resume),
        }
    }

    fn strike(&mut self, planned: Planned) {
        let fault = planned.fault;
        // What is printed and counted is how things stood when it came.
        let numbers = |workers: &[Part]| -> Vec<u32> {
            workers
                .iter()
                .filter(|part| part.state() == State::Up)
                .flat_map(Part::numbers)
                .collect()
        };
        let mut workers = numbers(&self.workers);
        let mut concerned_job = None;
        let mut on_whom = String::new();
        let happened = match fault {
            Fault::KillWorker { worker, away_ms } => self.worker(worker).map(|idx| {
                (workers, on_whom) = (self.workers[idx].numbers(), self.workers[idx].name().to_owned());
                self.workers[idx].kill();
                self.later(away_ms, Return::Worker(idx));
            }),
            Fault::StopWorker { worker, for_ms } => self.worker(worker).map(|idx| {
                (workers, on_whom) = (self.workers[idx].numbers(), self.workers[idx].name().to_owned());
                self.workers[idx].stop();
                self.later(for_ms, Return::Worker(idx));
            }),
            Fault::EndWorker { worker, away_ms } => self.worker(worker).map(|idx| {
                (workers, on_whom) = (self.workers[idx].numbers(), self.workers[idx].name().to_owned());
                self.workers[idx].tell_to_end();
                self.later(away_ms, Return::Worker(idx));
            }),
            Fault::KillDriver { away_ms } => self.leader().map(|idx| {
                self.drivers[idx].name().clone_into(&mut on_whom);
                self.drivers[idx].kill();
                self.later(away_ms, Return::Driver(idx));
            }),
            Fault::StopDriver { for_ms } => self.leader().map(|idx| {
                self.drivers[idx].name().clone_into(&mut on_whom);
                self.drivers[idx].stop();
                self.later(for_ms, Return::Driver(idx));
            }),
            Fault::EndDriver { away_ms } => self.leader().map(|idx| {
                self.drivers[idx].name().clone_into(&mut on_whom);
                self.drivers[idx].tell_to_end();
                self.later(away_ms, Return::Driver(idx));
            }),
            Fault::KillServer { away_ms } => self.server_is_up.then(|| self.kill_server(away_ms)),
            Fault::KillDriverAndWorker { worker, away_ms } => {
                self.leader().zip(self.worker(worker)).map(|(driver, worker)| {
                    on_whom = format!(
                        "{} and {}",
                        self.drivers[driver].name(),
                        self.workers[worker].name()
                    );
                    workers = self.workers[worker].numbers();
                    self.drivers[driver].kill();
                    self.workers[worker].kill();
                    self.later(away_ms, Return::Driver(driver));
                    self.later(away_ms, Return::Worker(worker));
                })
            }
            Fault::KillAll { away_ms } => {
                if self.server_is_up {
                    self.kill_server(away_ms);
                }
                for idx in 0..self.drivers.len() {
                    self.kill_if_there(idx, away_ms, Role::Driver);
                }
                for idx in 0..self.workers.len() {
                    self.kill_if_there(idx, away_ms, Role::Worker);
                }
                Some(())
            }
            Fault::KillClient { job } => {
                concerned_job = Some(job);
                let watching = |client: &mut Client| client.job == job && client.process.is_alive();
                let found = self.clients.iter_mut().position(watching);
                found.map(|at| {
                    self.clients.remove(at).process.kill();
                    self.submit(job, false);
                })
            }
            Fault::SubmitAgain { job } => {
                concerned_job = Some(job);
                self.submit(job, false);
                Some(())
            }
            Fault::Cancel {
                job,
                then_after_ms,
                by_resume,
            } => {
                concerned_job = Some(job);
                self.ask(job, format!("cancel data:/{}", output(job)));
                self.later(then_after_ms, Return::Client { job, by_resume });
                Some(())
            }
        };
        let now = self.submitted.elapsed().as_secs_f64();
        let at = planned.at.as_secs_f64();
        if happened.is_none() {
            println!("  {at:6.3} s  {fault}: nobody is there, at {now:.3} s");
            return;
        }
        println!("  {at:6.3} s  {fault}: {on_whom} at {now:.3} s");
        self.struck.push(Struck {
            fault,
            unix_ms: unix_ms(),
            workers,
            job: concerned_job,
            committed: (0..N_JOBS)
                .map(|job| self.cluster.committed(&output(job)))
                .collect(),
            hit: None,
        });
    }

    fn later(&mut self, after_ms: u64, what: Return) {
        self.returns
            .push((Instant::now() + Duration::from_millis(after_ms), what));
    }

    fn kill_server(&mut self, away_ms: u64) {
        self.cluster.kill_server();
        self.server_is_up = false;
        self.server_was_away_until = Some(Instant::now() + Duration::from_millis(away_ms) + LOOK);
        self.later(away_ms, Return::Server);
    }

    fn kill_if_there(&mut self, idx: usize, away_ms: u64, role: Role) {
        let (parts, back) = match role {
            Role::Driver => (&mut self.drivers, Return::Driver(idx)),
            Role::Worker => (&mut self.workers, Return::Worker(idx)),
        };
        if parts[idx].state() != State::Down {
            parts[idx].kill();
            self.later(away_ms, back);
        }
    }

    /// That worker, or the next one that is at work.
    fn worker(&self, first: usize) -> Option<usize> {
        let mut candidates = (0..N_WORKERS).map(|n| (first + n) % N_WORKERS);
        candidates.find(|idx| self.workers[*idx].state() == State::Up)
    }

    /// Who drives, or whoever may.
    fn leader(&self) -> Option<usize> {
        let shown = self.server_is_up.then(|| self.cluster.driving_pid()).flatten();
        let up = || (0..self.drivers.len()).filter(|idx| self.drivers[*idx].state() == State::Up);
        let leads = |idx: &usize| shown.is_some() && self.drivers[*idx].pid() == shown;
        up().find(leads).or_else(|| up().next())
    }

    /// Asks for a job until it is done, by turns with its command and with `resume`.
    fn settle(&mut self, job: usize) {
        for attempt in 0..TRIES {
            let line = command(job, attempt % 2 == 1);
            let ended = self.cluster.client(&format!("{line} --json")).end();
            let told: Value = serde_json::from_slice(&ended.stdout).unwrap_or_default();
            match ended.status.code() {
                Some(0) => {
                    assert_eq!(told["status"], "done", "{told}");
                    return;
                }
                Some(2) if self.cluster.data(&output(job)).exists() => return,
                Some(code) if code == JOB_FAILED || CLIENT_ENDS[2..].contains(&code) => {
                    println!("  job {job} was to be resumed: {code}, {}", told["error"]);
                    self.n_resumed += 1;
                }
                code => panic!(
                    "{line}: {code:?}, {told}, {}",
                    String::from_utf8_lossy(&ended.stderr)
                ),
            }
        }
        panic!("job {job} was not done after {TRIES} tries");
    }

    /// What the faults hit, as the events tell now and the journals told then.
    fn find_hits(&mut self) {
        let listed = self.cluster.succeed("jobs");
        for job in 0..N_JOBS {
            let name = format!("data:/{}", output(job));
            let jobs = listed["jobs"].as_array().unwrap();
            let shown = jobs.iter().find(|shown| shown["output"] == name.as_str());
            let id = shown.unwrap_or_else(|| panic!("{name} is not listed: {listed}"))["id"].clone();
            let mut known = self.cluster.job(id.as_str().unwrap(), &name);
            let events = known.events();
            for struck in &mut self.struck {
                if struck.job.is_some_and(|concerned| concerned != job) {
                    continue;
                }
                let n_before = events.partition_point(|event| event.unix_ms <= struck.unix_ms);
                let is_hit = |task: &u64| !struck.committed[job].contains(task);
                let begun = begun(&events[..n_before]).into_iter();
                let of_concerned = begun.filter(|begun| struck.workers.contains(&begun.worker));
                let hit = of_concerned.map(|begun| begun.task).find(is_hit);
                struck.hit = struck.hit.or(hit.map(|task| (job, task)));
            }
        }
        for struck in &self.struck {
            if let Some((job, task)) = struck.hit {
                println!(
                    "  {} hit task {task} of job {job}, begun and not committed",
                    struck.fault.kind()
                );
            }
        }
    }

    /// Ends every process as it should end, and looks at what is left.
    fn end(&mut self, recovered_in: Duration) -> Outcome {
        wait_for("no job runs any more", || {
            let listed = self.cluster.succeed("jobs");
            let jobs = listed["jobs"].as_array().unwrap();
            jobs.iter().all(|job| job["state"] == "done").then_some(())
        });
        for client in &mut self.clients {
            let code = client.process.end().code().unwrap_or(-1);
            let (line, told) = (&client.line, client.process.printed());
            if code == JOB_FAILED {
                println!("  a client of job {} was told: {told}", client.job);
            } else {
                assert!(
                    CLIENT_ENDS.contains(&code),
                    "{line}: {code}, {told}, {}",
                    client.process.said()
                );
            }
        }
        for part in self.workers.iter_mut().chain(&mut self.drivers) {
            assert_eq!(part.state(), State::Up, "{}", part.name());
            part.tell_to_end();
            part.await_end();
        }
        self.clients.clear();
        self.cluster.kill_server();
        verdict::outputs_are_right(&self.cluster);
        verdict::nothing_is_left(&self.cluster);
        Outcome {
            struck: std::mem::take(&mut self.struck),
            recovered_in,
            n_resumed: self.n_resumed,
            n_began_anew: self.n_began_anew,
        }
    }
}

fn back(part: &mut Part, cluster: &Cluster) {
    part.wake();
    part.start(cluster);
}
