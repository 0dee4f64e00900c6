//! Many seeds on all processors. What is told comes in the order of the seeds, and is the same for any number of threads.

use crate::coverage::Coverage;
use crate::scenario::{Kind, Scenario};
use crate::verdict::{Counts, Outcome};
use crate::world::simulate;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

/// Outcomes that may wait for that of an earlier seed.
const WAITING_MAX: usize = 1_000;

/// What came of many seeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    /// Seeds that were run.
    pub n_seeds: u64,
    /// Those whose run broke.
    pub n_broken: u64,
    /// What was counted in all runs.
    pub counts: Counts,
    /// What the machines met in all runs.
    pub coverage: Coverage,
    /// Runs that had a kind of fault.
    pub n_with: [u64; Kind::N],
    /// Runs that had so many kinds.
    pub n_by_kinds: [u64; Kind::N + 1],
}

impl Campaign {
    fn new() -> Campaign {
        Campaign {
            n_seeds: 0,
            n_broken: 0,
            counts: Counts::default(),
            coverage: Coverage::default(),
            n_with: [0; Kind::N],
            n_by_kinds: [0; Kind::N + 1],
        }
    }

    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.n_seeds += 1;
        self.n_broken += u64::from(outcome.violation.is_some());
        self.counts.add(&outcome.counts);
        self.coverage.add(&outcome.coverage);
        let faults = Scenario::of_seed(seed).faults;
        let kinds = Kind::ALL.into_iter().filter(|kind| faults[*kind] > 0);
        let n_kinds = kinds.map(|kind| self.n_with[kind as usize] += 1).count();
        self.n_by_kinds[n_kinds] += 1;
    }
}

/// Runs all seeds. `tell` hears of each in order, and of what came of all up to there.
pub fn run(
    seeds: Range<u64>,
    keeps_log: bool,
    n_threads: usize,
    mut tell: impl FnMut(u64, &Outcome, &Campaign),
) -> Campaign {
    let next = AtomicU64::new(seeds.start);
    let (sender, ended) = sync_channel(WAITING_MAX);
    let simulate_some = |sender: std::sync::mpsc::SyncSender<(u64, Outcome)>| {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end
                || sender
                    .send((seed, simulate(&Scenario::of_seed(seed), keeps_log)))
                    .is_err()
            {
                return;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..n_threads.max(1) {
            let sender = sender.clone();
            scope.spawn(|| simulate_some(sender));
        }
        drop(sender);
        let (mut campaign, mut early, mut due) = (Campaign::new(), BTreeMap::new(), seeds.start);
        for (seed, outcome) in ended {
            early.insert(seed, outcome);
            while let Some(outcome) = early.remove(&due) {
                campaign.add(due, &outcome);
                tell(due, &outcome, &campaign);
                due += 1;
            }
        }
        campaign
    })
}

/// What was counted, which faults happened, and what was never met, in Markdown.
impl fmt::Display for Campaign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        let numbers = [
            ("tasks", counts.n_tasks),
            ("attempts", counts.n_started),
            ("attempts that failed", counts.n_failed),
            ("attempts that hung", counts.n_hung),
            (
                "attempts that failed for good, and were made again elsewhere",
                counts.n_elsewhere,
            ),
            ("backup attempts", counts.n_backups),
            ("commits", counts.n_committed),
            ("workers held for lost", counts.n_lost),
            ("runs that drivers began", counts.n_take_overs),
            ("runs that failed or were stopped", counts.n_resubmits),
            ("events during which two led, with an excuse", counts.n_overlaps),
            ("messages", counts.n_messages),
            ("events of both machines", counts.n_events),
        ];
        writeln!(f, "\n| counted | |\n| --- | --- |")?;
        for (what, number) in numbers {
            writeln!(f, "| {what} | {number} |")?;
        }
        writeln!(f, "\n| kinds of fault in a run | runs |\n| --- | --- |")?;
        for (n_kinds, n_runs) in self.n_by_kinds.iter().enumerate() {
            writeln!(f, "| {n_kinds} | {n_runs} |")?;
        }
        writeln!(
            f,
            "\n| kind of fault | runs that had it | times it happened |\n| --- | --- | --- |"
        )?;
        for kind in Kind::ALL {
            let (n_with, fired) = (self.n_with[kind as usize], self.counts.fired(kind));
            writeln!(f, "| {kind:?} | {n_with} | {fired} |")?;
        }
        writeln!(f, "{}", self.coverage)?;
        let gaps = self.coverage.gaps();
        writeln!(f, "never met, and not impossible: {} pairs", gaps.len())?;
        for (machine, state, event) in gaps {
            writeln!(f, "  {machine:?}: {state} x {event}")?;
        }
        Ok(())
    }
}
