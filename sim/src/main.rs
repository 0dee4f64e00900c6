//! `tilework-sim --seeds A..B [--log]`: runs the simulation of each seed and says what broke.

#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    reason = "a command for developers: its output is its result"
)]

use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;
use tilework_sim::scenario::Scenario;
use tilework_sim::verdict::Counts;
use tilework_sim::world::simulate;

const USAGE: &str = "usage: tilework-sim --seeds A..B [--log]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (seeds, keeps_log) = match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--seeds", seeds] => (parse(seeds), false),
        ["--seeds", seeds, "--log"] => (parse(seeds), true),
        _ => (None, false),
    };
    let Some(seeds) = seeds else {
        println!("{USAGE}");
        return ExitCode::from(2);
    };
    if run(seeds, keeps_log) == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn parse(seeds: &str) -> Option<Range<u64>> {
    let (start, end) = seeds.split_once("..")?;
    Some(start.parse().ok()?..end.parse().ok()?)
}

/// Runs all seeds; how many broke.
fn run(seeds: Range<u64>, keeps_log: bool) -> u64 {
    std::panic::set_hook(Box::new(|_| {}));
    let started = Instant::now();
    let (mut n_broken, mut total) = (0, Counts::default());
    for seed in seeds.clone() {
        let outcome = simulate(&Scenario::of_seed(seed), keeps_log);
        outcome.log.iter().for_each(|line| println!("{line}"));
        total.add(&outcome.counts);
        if let Some(violation) = outcome.violation {
            n_broken += 1;
            println!("seed {seed}: {violation}");
            println!("  replay: cargo xtask sim --seeds {seed}..{} --log", seed + 1);
        }
    }
    println!(
        "{} seeds in {:.1} s, {n_broken} broken; {total:?}",
        seeds.count(),
        started.elapsed().as_secs_f64()
    );
    n_broken
}
