//! Chaos on a cluster: rounds of faults on real processes, drawn from a seed, several of them at a time. One round is a part of the normal
//! tests; `cargo xtask chaos --minutes N --seed S` runs them for as long as it is told to.
//!
//! A round is a cluster with a stream of jobs, and has each kind of fault once. After its faults everything comes back, and then every job must
//! end with the bytes of an undisturbed run, no commit may be lost, no file be left beside the outputs, and no process.

#![expect(clippy::print_stdout, reason = "its figures are kept with the results")]

#[path = "../common/mod.rs"]
mod common;

#[path = "../cluster/harness.rs"]
mod harness;

#[path = "../cluster/proxy.rs"]
mod proxy;

mod disk;
mod ears;
mod ledger;
mod parts;
mod round;
mod schedule;
mod specs;
mod stream;
mod tally;
mod verdict;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use tally::Tally;

fn number(variable: &str, default: u64) -> u64 {
    let set = std::env::var(variable).ok();
    set.map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn jobs_outlive_whatever_happens_at_once() {
    if let Some(status) = disk::run_inside("jobs_outlive_whatever_happens_at_once") {
        assert!(status.success(), "{status}");
        return;
    }
    if !disk::is_inside() {
        println!("no mounts here: no disk will be full");
    }
    let first = number("TILEWORK_CHAOS_SEED", 1);
    let minutes = number("TILEWORK_CHAOS_MINUTES", 2);
    let started = Instant::now();
    let mut tally = Tally::default();
    let mut longest = Duration::ZERO;
    for seed in first.. {
        println!("round of seed {seed}");
        let begun = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| round::run(seed))) {
            Ok(outcome) => tally.add(outcome),
            Err(why) => {
                println!("FAILED; again: cargo xtask chaos --minutes 1 --seed {seed}");
                tally.fail(seed, &*why);
            }
        }
        longest = longest.max(begun.elapsed());
        // The last one ends before the time is over, or not long after it.
        if started.elapsed() + longest / 2 > Duration::from_secs(60 * minutes) {
            break;
        }
    }
    tally.print(started.elapsed());
    tally.judge(&round::kinds(), minutes);
}
