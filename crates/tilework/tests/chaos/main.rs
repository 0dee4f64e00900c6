//! Chaos on a cluster: rounds of faults on real processes, drawn from a seed, several of them at a time. `cargo xtask soak cluster` runs it,
//! for as many rounds as it is told to.
//!
//! A round has three jobs, three workers, two drivers, a server and clients. After its faults everything comes back, and then every job
//! must end with the bytes of an undisturbed run, no file may be left beside the outputs, and no process.

#![expect(clippy::print_stdout, reason = "its figures are kept with the results")]

#[path = "../common/mod.rs"]
mod common;

#[path = "../cluster/harness.rs"]
mod harness;

mod parts;
mod round;
mod schedule;
mod verdict;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// What rounds came to.
#[derive(Default)]
struct Tally {
    /// Of each kind of fault: how many there were, and how many hit a task that was begun and not committed.
    faults: BTreeMap<&'static str, (usize, usize)>,
    failed: Vec<u64>,
    slowest: Duration,
    resumed: usize,
    began_anew: usize,
}

fn number(variable: &str, default: u64) -> u64 {
    let set = std::env::var(variable).ok();
    set.map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn jobs_of_a_cluster_outlive_whatever_happens_at_once() {
    let seed = number("TILEWORK_SOAK_SEED", 0);
    let n_rounds = number("TILEWORK_SOAK_ROUNDS", 10);
    let started = Instant::now();
    let mut tally = Tally::default();
    for seed in seed..seed + n_rounds {
        println!("round of seed {seed}");
        match catch_unwind(AssertUnwindSafe(|| round::run(seed))) {
            Ok(outcome) => tally.add(&outcome),
            Err(_) => {
                println!("FAILED; again: cargo xtask soak cluster --rounds 1 --seed {seed}");
                tally.failed.push(seed);
            }
        }
    }
    tally.print(n_rounds, started.elapsed());
    assert!(tally.failed.is_empty(), "failed seeds: {:?}", tally.failed);
}

impl Tally {
    fn add(&mut self, outcome: &round::Outcome) {
        for struck in &outcome.struck {
            let (n, n_hit) = self.faults.entry(struck.fault.kind()).or_default();
            *n += 1;
            *n_hit += usize::from(struck.hit.is_some());
        }
        self.slowest = self.slowest.max(outcome.recovered_in);
        self.resumed += outcome.n_resumed;
        self.began_anew += outcome.n_began_anew;
    }

    fn print(&self, n_rounds: u64, took: Duration) {
        println!(
            "\n{n_rounds} rounds in {:.0} s, {} failed; all jobs done at most {:.1} s after everything was back",
            took.as_secs_f64(),
            self.failed.len(),
            self.slowest.as_secs_f64()
        );
        println!(
            "jobs that had ended without being done, and were resumed: {}; processes that had ended without a server: {}",
            self.resumed, self.began_anew
        );
        println!("| fault | times | hit a task that was begun and not committed |\n| --- | --- | --- |");
        for (kind, (n, n_hit)) in &self.faults {
            println!("| {kind} | {n} | {n_hit} |");
        }
        let (n, n_hit) = self
            .faults
            .values()
            .fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        println!("| all | {n} | {n_hit} |");
    }
}
