//! Two thousand seeds: nothing that must never happen happens, and what should go wrong goes wrong.

use std::ops::Range;
use tilework_core::failure::JobEnd;
use tilework_sim::campaign;
use tilework_sim::scenario::{Kind, Scenario};
use tilework_sim::verdict::Counts;
use tilework_sim::world::simulate;

/// Runs the seeds, and asserts that every kind of trouble was met among them.
fn survive(seeds: Range<u64>) {
    let mut total = Counts::default();
    for seed in seeds {
        let outcome = simulate(&Scenario::of_seed(seed), false);
        if let Some(violation) = outcome.violation {
            panic!(
                "seed {seed}: {violation}\nreplay: cargo xtask sim --seeds {seed}..{} --log",
                seed + 1
            );
        }
        assert_eq!(outcome.end, Some(JobEnd::Done), "seed {seed}");
        total.add(&outcome.counts);
    }
    let met = [
        ("failed attempts", total.n_failed),
        ("hanging attempts", total.n_hung),
        ("attempts made again elsewhere", total.n_elsewhere),
        ("backups", total.n_backups),
        ("lost workers", total.n_lost),
        ("take-overs", total.n_take_overs),
        ("resubmits", total.n_resubmits),
    ];
    for (what, count) in met {
        assert!(count > 0, "no {what} in all these seeds");
    }
    for kind in Kind::ALL {
        assert!(total.fired(kind) > 0, "{kind:?} happened in none of these seeds");
    }
}

#[test]
fn seeds_0_to_500() {
    survive(0..500);
}

#[test]
fn seeds_500_to_1000() {
    survive(500..1_000);
}

#[test]
fn seeds_1000_to_1500() {
    survive(1_000..1_500);
}

#[test]
fn seeds_1500_to_2000() {
    survive(1_500..2_000);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let scenario = Scenario::of_seed(seed);
        let (one, two) = (simulate(&scenario, true), simulate(&scenario, true));
        assert!(one == two, "seed {seed}");
        assert!(one.log != simulate(&Scenario::of_seed(seed + 1), true).log);
    }
}

#[test]
fn what_is_told_of_many_seeds_is_the_same_for_any_number_of_threads() {
    let told = |n_threads| {
        let mut told = Vec::new();
        let campaign = campaign::run(0..60, true, n_threads, |seed, outcome, so_far| {
            told.push((seed, outcome.log.clone(), so_far.n_seeds));
        });
        (told, campaign.to_string())
    };
    assert_eq!(told(1), told(3));
}

#[test]
fn some_seeds_have_no_fault_some_few_and_some_nearly_all() {
    let n_kinds = |seed| {
        let faults = Scenario::of_seed(seed).faults;
        Kind::ALL.into_iter().filter(|kind| faults[*kind] > 0).count()
    };
    let mut n_seeds = [0; Kind::N + 1];
    (0..2_000).for_each(|seed| n_seeds[n_kinds(seed)] += 1);
    assert!(n_seeds[0] >= 100 && n_seeds[1] >= 100, "{n_seeds:?}");
    assert!(n_seeds[Kind::N - 3..].iter().sum::<u64>() >= 10, "{n_seeds:?}");
}

/// Virtual seconds that a round of tasks takes.
fn seconds(scenario: &Scenario) -> (f64, Counts) {
    let outcome = simulate(scenario, false);
    assert_eq!((outcome.violation, outcome.end), (None, Some(JobEnd::Done)));
    (outcome.seconds, outcome.counts)
}

fn peaceful(n_workers: u32, n_tasks: u64, slow_factor: u64) -> Scenario {
    let mut scenario = Scenario {
        n_workers,
        n_drivers: 1,
        rounds: vec![n_tasks],
        task_ms: 1_000,
        assign: tilework_core::driver::Assign::Dynamic,
        backups: true,
        look_ahead: false,
        ..Scenario::of_seed(7)
    }
    .in_peace();
    scenario.faults = scenario.faults.with(Kind::Slows, slow_factor);
    scenario
}

#[test]
fn dynamic_assignment_splits_by_speed() {
    // Three workers and a quarter: 400 tasks of a second would ideally take 123 s.
    let (seconds, counts) = seconds(&peaceful(4, 400, 4));
    assert!(seconds <= 1.10 * 400.0 / 3.25, "{seconds} s, {counts:?}");
}

#[test]
fn backups_keep_a_straggler_from_holding_the_job_up() {
    let (seconds, counts) = seconds(&peaceful(4, 40, 10));
    assert!(counts.n_backups > 0);
    // Without a backup the slow worker's last task alone would end 10 s after it began.
    assert!(seconds <= 17.0, "{seconds} s, {counts:?}");
}
