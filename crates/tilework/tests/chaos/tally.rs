//! What rounds came to, and whether that was chaos enough.

use crate::round::Outcome;
use crate::schedule::Kind;
use std::any::Any;
use std::collections::BTreeMap;
use std::time::Duration;

/// Faults of each kind that an hour must have.
const FAULTS_PER_HOUR: u64 = 20;

/// All rounds.
#[derive(Default)]
pub(crate) struct Tally {
    /// How many there were, and how many hit a task that was begun and not committed.
    faults: BTreeMap<Kind, (u64, u64)>,
    jobs: BTreeMap<&'static str, usize>,
    told: BTreeMap<String, usize>,
    /// Seeds, and what was wrong.
    failed: Vec<(u64, String)>,
    recovered_in: Vec<Duration>,
    n_began_anew: usize,
    n_commits: usize,
    n_kept: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, outcome: Outcome) {
        for struck in &outcome.struck {
            let (n, n_hit) = self.faults.entry(struck.kind).or_default();
            *n += 1;
            *n_hit += u64::from(struck.is_hit);
        }
        for (kind, n) in outcome.done {
            *self.jobs.entry(kind).or_default() += n;
        }
        for (what, n) in outcome.told {
            *self.told.entry(what).or_default() += n;
        }
        self.recovered_in.push(outcome.recovered_in);
        self.n_began_anew += outcome.n_began_anew;
        self.n_commits += outcome.n_commits;
        self.n_kept += outcome.n_kept;
    }

    pub(crate) fn fail(&mut self, seed: u64, why: &(dyn Any + Send)) {
        let text = why.downcast_ref::<String>().cloned();
        let text = text.or_else(|| why.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        self.failed.push((seed, text.unwrap_or_default()));
    }

    pub(crate) fn print(&mut self, took: Duration) {
        let (n_passed, n_failed) = (self.recovered_in.len(), self.failed.len());
        let minutes = took.as_secs_f64() / 60.0;
        println!(
            "\n{} rounds in {minutes:.1} min, {n_failed} failed",
            n_passed + n_failed
        );
        let with = |what: &str| {
            self.failed
                .iter()
                .filter(|(_, why)| why.starts_with(what))
                .count()
        };
        println!(
            "lost commits: {}, commits run again: {}, wrong bytes: {}, hangs: {}, left over: {}",
            with("lost commits"),
            with("run again"),
            with("wrong bytes"),
            with("hang") + with("not seen in"),
            with("left over")
        );
        println!(
            "commits seen in journals: {}; kept by a later run: {}",
            self.n_commits, self.n_kept
        );
        self.recovered_in.sort_unstable();
        let seconds = |at: Option<&Duration>| at.map_or(0.0, Duration::as_secs_f64);
        println!(
            "all jobs done after everything was back: median {:.1} s, worst {:.1} s",
            seconds(self.recovered_in.get(n_passed / 2)),
            seconds(self.recovered_in.last())
        );
        println!("processes that ended without a server: {}", self.n_began_anew);
        println!("| fault | times | hit a task that was begun and not committed |\n| --- | --- | --- |");
        for (kind, (n, n_hit)) in &self.faults {
            println!("| {kind} | {n} | {n_hit} |");
        }
        let all = self
            .faults
            .values()
            .fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        println!("| all | {} | {} |", all.0, all.1);
        println!("| job | done |\n| --- | --- |");
        for (kind, n) in &self.jobs {
            println!("| {kind} | {n} |");
        }
        println!("| all | {} |", self.jobs.values().sum::<usize>());
        println!("| whoever watched was told | times |\n| --- | --- |");
        for (what, n) in &self.told {
            println!("| {what} | {n} |");
        }
    }

    /// Fails if a round did, or if there were too few faults of a kind for so many minutes.
    pub(crate) fn judge(&self, kinds: &[Kind], minutes: u64) {
        assert!(self.failed.is_empty(), "failed: {:?}", self.failed);
        let least = (FAULTS_PER_HOUR * minutes / 60).max(u64::from(minutes >= 2));
        let of_kind = |kind: &Kind| self.faults.get(kind).map_or(0, |(n, _)| *n);
        let lacking: Vec<_> = kinds.iter().filter(|kind| of_kind(kind) < least).collect();
        assert!(lacking.is_empty(), "fewer than {least} faults of {lacking:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(n_slow: u64) -> Tally {
        Tally {
            faults: [(Kind::WorkerKilled, (20, 0)), (Kind::StoreSlow, (n_slow, 0))].into(),
            ..Tally::default()
        }
    }

    const KINDS: &[Kind] = &[Kind::WorkerKilled, Kind::StoreSlow];

    #[test]
    fn enough_faults_of_each_kind_pass() {
        tally(20).judge(KINDS, 60);
        tally(1).judge(KINDS, 2);
        tally(0).judge(KINDS, 1);
    }

    #[test]
    #[should_panic(expected = "fewer than 20 faults of [StoreSlow]")]
    fn too_few_faults_of_a_kind_fail() {
        tally(19).judge(KINDS, 60);
    }

    #[test]
    #[should_panic(expected = "fewer than 1 faults of [StoreSlow]")]
    fn a_kind_that_did_not_happen_in_two_minutes_fails() {
        tally(0).judge(KINDS, 2);
    }
}
