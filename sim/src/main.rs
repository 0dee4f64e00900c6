//! `tilework-sim --seeds A..B [--log]`: runs the simulation of each seed on all processors, and says what broke and what was met.

#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for developers: its output is its result"
)]

use std::ops::Range;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};
use tilework_sim::campaign;

const USAGE: &str = "usage: tilework-sim --seeds A..B [--log]";
/// How often a line says how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

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
    let mut told = started;
    let n_threads = available_parallelism().map_or(1, usize::from);
    let campaign = campaign::run(seeds.clone(), keeps_log, n_threads, |seed, outcome, so_far| {
        outcome.log.iter().for_each(|line| println!("{line}"));
        if let Some(violation) = &outcome.violation {
            println!("seed {seed}: {violation}");
            println!("  replay: cargo xtask sim --seeds {seed}..{} --log", seed + 1);
        }
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            let (n_seeds, n_broken) = (so_far.n_seeds, so_far.n_broken);
            let rate = n_seeds as f64 / started.elapsed().as_secs_f64();
            eprintln!("{n_seeds} seeds at {rate:.0} a second, {n_broken} broken");
        }
    });
    print!("{campaign}");
    eprintln!(
        "on {n_threads} threads in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    println!("{} seeds, {} broken", campaign.n_seeds, campaign.n_broken);
    campaign.n_broken
}
