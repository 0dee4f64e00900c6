//! Jobs that are asked for as earlier ones end, and the clients that ask. Whoever is told that a job is not done goes on with it, as a user
//! would: by the same command, or by `resume`.

use crate::harness::{Cluster, Process};
use crate::ledger::Ledger;
use crate::schedule::{Dice, N_JOBS};
use crate::specs::{SPECS, Spec};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

/// How long who was told that a job is not done thinks about it.
const THINKS: Duration = Duration::from_millis(500);
/// How a command may end: done, exists or unknown, no room, failed, nobody there, cancelled by another.
const ENDS: [i32; 6] = [0, 2, 3, 4, 6, 7];

/// A job of the stream.
pub(crate) struct Asked {
    spec: Spec,
    pub(crate) output: String,
    ledger: Ledger,
    state: State,
    /// What was asked last, and how often anything was.
    line: String,
    n_asked: usize,
}

enum State {
    Watched(Process),
    ToBeAsked(Instant),
    Done,
}

/// A command that is nobody's last word on a job.
struct Bystander {
    line: String,
    process: Process,
}

/// All jobs of a round.
pub(crate) struct Stream {
    jobs: Vec<Asked>,
    /// The jobs that are not done.
    slots: [Option<usize>; N_JOBS],
    bystanders: Vec<Bystander>,
    n_clients: usize,
    /// How often somebody was told that a job was not done, by what was told.
    pub(crate) told: BTreeMap<String, usize>,
}

impl Stream {
    pub(crate) fn new() -> Stream {
        Stream {
            jobs: Vec::new(),
            slots: [None; N_JOBS],
            bystanders: Vec::new(),
            n_clients: 0,
            told: BTreeMap::new(),
        }
    }

    pub(crate) fn jobs(&self) -> &[Asked] {
        &self.jobs
    }

    /// Asks for new jobs where others have ended.
    pub(crate) fn fill(&mut self, cluster: &Cluster, dice: &mut Dice) {
        for slot in 0..N_JOBS {
            if self.slots[slot].is_some() {
                continue;
            }
            // Each is asked for before any comes again.
            let n = self.jobs.len();
            let spec = if n < SPECS.len() {
                SPECS[n]
            } else {
                SPECS[dice.one_of(SPECS.len())]
            };
            let output = format!("C{n}.{}", spec.ending());
            if let Some(before) = spec.adds_to {
                fs::copy(cluster.data(before), cluster.data(&output)).unwrap();
            }
            self.jobs.push(Asked {
                spec,
                ledger: Ledger::beside(cluster.data(&output)),
                state: State::ToBeAsked(Instant::now()),
                output,
                line: String::new(),
                n_asked: 0,
            });
            self.slots[slot] = Some(n);
        }
    }

    /// Sees whose clients have ended, and lets them ask again where the job is not done.
    pub(crate) fn look(&mut self, cluster: &Cluster) {
        for slot in 0..N_JOBS {
            let Some(job) = self.slots[slot] else { continue };
            let ended = match &mut self.jobs[job].state {
                State::Watched(client) => !client.is_alive(),
                State::ToBeAsked(at) => {
                    if *at <= Instant::now() {
                        let line = self.jobs[job].next_command();
                        let client = self.client(cluster, &line);
                        let asked = &mut self.jobs[job];
                        asked.n_asked += 1;
                        (asked.line, asked.state) = (line, State::Watched(client));
                    }
                    false
                }
                State::Done => false,
            };
            if ended {
                self.client_ended(job, cluster);
            }
            if matches!(self.jobs[job].state, State::Done) {
                self.slots[slot] = None;
            }
        }
    }

    fn client_ended(&mut self, job: usize, cluster: &Cluster) {
        let asked = &mut self.jobs[job];
        let State::Watched(client) = &mut asked.state else {
            return;
        };
        let code = client.end().code().unwrap_or(-1);
        let told: Value = serde_json::from_str(&client.printed()).unwrap_or_default();
        let said = client.said();
        if code == 0 {
            assert_eq!(told["status"], "done", "{told}");
        }
        // Another command may have brought it to its end.
        if code == 0 || code == 2 && asked.ledger.is_done() {
            asked.state = State::Done;
            println!("  {} is done: {}", asked.output, asked.spec.name);
            return asked.is_right(cluster);
        }
        let error = told["error"].as_str().unwrap_or_default().to_owned();
        println!("  {} is not done: {code}, {error}", asked.output);
        // With NATS' store the records are gone: who holds the output's lock, and is stopped, may be a driver or a run without a cluster.
        let is_locked = code == 2 && error.contains("is being computed by process");
        let is_known = matches!(code, 3 | 4 | 6 | 7) || is_locked;
        assert!(
            is_known || asked.is_unbegun_resume(code),
            "{}: {code}, {told}, {said}",
            asked.output
        );
        asked.state = State::ToBeAsked(Instant::now() + THINKS);
        // Without names and numbers, so that the same counts as the same.
        let words = error
            .split(' ')
            .filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
        let what: Vec<&str> = words.take(8).collect();
        *self
            .told
            .entry(format!("{code}: {}", what.join(" ")))
            .or_default() += 1;
    }

    /// The job that runs, or the next one that does.
    pub(crate) fn running(&self, first: usize) -> Option<usize> {
        let mut slots = (0..N_JOBS).map(|n| self.slots[(first + n) % N_JOBS]);
        slots.find_map(|job| job.filter(|job| matches!(self.jobs[*job].state, State::Watched(_))))
    }

    /// Kills the client of a job that is watched; it is asked for again at once.
    pub(crate) fn kill_client(&mut self, job: usize) {
        let again = State::ToBeAsked(Instant::now());
        if let State::Watched(mut client) = std::mem::replace(&mut self.jobs[job].state, again) {
            client.kill();
        }
    }

    /// The command that a second one may give for a job beside its own client.
    pub(crate) fn command_again(&self, job: usize, by_resume: bool) -> String {
        let asked = &self.jobs[job];
        match by_resume || asked.spec.adds_to.is_some() {
            true => format!("resume data:/{}", asked.output),
            false => asked.spec.on_cluster(&asked.output),
        }
    }

    /// A command of somebody who does not care what comes of it.
    pub(crate) fn bystander(&mut self, cluster: &Cluster, line: String) {
        let process = self.client(cluster, &line);
        self.bystanders.push(Bystander { line, process });
    }

    fn client(&mut self, cluster: &Cluster, line: &str) -> Process {
        self.n_clients += 1;
        cluster.staying_client(&format!("client{}", self.n_clients), &format!("{line} --json"))
    }

    /// The jobs that are not done.
    pub(crate) fn unfinished(&self) -> Vec<String> {
        let jobs = self.slots.iter().flatten();
        jobs.map(|job| format!("{}: {}", self.jobs[*job].output, self.jobs[*job].spec.name))
            .collect()
    }

    /// Reads all journals: of each job, what is committed of its round.
    pub(crate) fn look_at_journals(&mut self) -> Vec<BTreeSet<u64>> {
        self.jobs.iter_mut().map(|asked| asked.ledger.look()).collect()
    }

    /// Looks at all outputs again.
    pub(crate) fn all_are_right(&mut self, cluster: &Cluster) {
        self.jobs.iter_mut().for_each(|asked| asked.is_right(cluster));
    }

    /// Whether all bystanders have ended, each as it may.
    pub(crate) fn bystanders_have_ended(&mut self) -> bool {
        self.bystanders.retain_mut(|bystander| {
            if bystander.process.is_alive() {
                return true;
            }
            let code = bystander.process.end().code().unwrap_or(-1);
            let (line, told) = (&bystander.line, bystander.process.printed());
            assert!(
                ENDS.contains(&code),
                "{line}: {code}, {told}, {}",
                bystander.process.said()
            );
            false
        });
        self.bystanders.is_empty()
    }
}

impl Asked {
    /// By turns the command and `resume`; what would be added twice is asked for once only.
    fn next_command(&self) -> String {
        let by_resume = match self.spec.adds_to {
            Some(_) => self.ledger.is_begun() || self.ledger.is_done(),
            None => self.n_asked % 2 == 1,
        };
        match by_resume {
            true => format!("resume data:/{}", self.output),
            false => self.spec.on_cluster(&self.output),
        }
    }

    /// Whether `resume` found nothing to go on with: what was asked for before had not begun.
    fn is_unbegun_resume(&self, code: i32) -> bool {
        code == 2 && self.line.starts_with("resume")
    }

    /// Whether its output has the undisturbed bytes, and its journal all commits.
    fn is_right(&mut self, cluster: &Cluster) {
        let written = fs::read(cluster.data(&self.output)).unwrap();
        let (output, name) = (&self.output, self.spec.name);
        assert!(
            written == *self.spec.undisturbed(cluster),
            "wrong bytes: {output}, {name}, is not what an undisturbed process writes"
        );
        assert!(
            self.ledger.is_done(),
            "lost commits: {output} is there, and its journal does not say that it is done"
        );
        self.ledger.look();
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.spec.name
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}
