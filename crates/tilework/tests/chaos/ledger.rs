//! What the journal beside one output has said, look after look: nothing that it had is ever lost, and no later run does it again.

use crate::common;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use tilework::cluster::record::unix_ms;
use tilework_core::ids::{RoundIdx, RunEpoch, TaskIdx};
use tilework_store::journal::Recovered;

/// A run that begins so much later has read what was seen before: its beginning is noted when it has.
const READ_MS: u64 = 5_000;
/// A journal that is compacted while it is read can't be read; it can a moment later.
const TRIES: usize = 20;
const AGAIN: Duration = Duration::from_millis(50);

type Task = (RoundIdx, TaskIdx);

/// One output's journal.
pub(crate) struct Ledger {
    output: PathBuf,
    /// When a commit was first seen.
    seen: BTreeMap<Task, u64>,
    round: RoundIdx,
    /// Commits that a later run kept.
    kept: BTreeSet<(Task, RunEpoch)>,
    n_seen: usize,
}

impl Ledger {
    /// Of a job that has not begun.
    pub(crate) fn beside(output: PathBuf) -> Ledger {
        Ledger {
            output,
            seen: BTreeMap::new(),
            round: RoundIdx(0),
            kept: BTreeSet::new(),
            n_seen: 0,
        }
    }

    /// Reads it and holds it against what was seen before. The tasks of its round that are committed.
    pub(crate) fn look(&mut self) -> BTreeSet<u64> {
        let mut lost = Vec::new();
        for _ in 0..TRIES {
            let journal = self.read();
            lost = self.lost_in(&journal);
            if lost.is_empty() {
                return self.take(&journal);
            }
            thread::sleep(AGAIN); // waits: for the end of a compaction
        }
        panic!("lost commits: {} has no {lost:?} any more", self.output.display());
    }

    /// Whether the job is done: its journal says so, and its output has its name.
    pub(crate) fn is_done(&self) -> bool {
        self.read().report.is_some() && !self.partial().exists() && self.output.exists()
    }

    /// Whether there is something that `resume` goes on with.
    pub(crate) fn is_begun(&self) -> bool {
        self.partial().exists()
    }

    fn partial(&self) -> PathBuf {
        self.output.with_added_extension("partial")
    }

    fn read(&self) -> Recovered {
        common::journal(&self.output).unwrap_or_default()
    }

    fn lost_in(&self, journal: &Recovered) -> Vec<Task> {
        let round = round_of(journal);
        let seen = self.seen.keys().filter(|(of, _)| *of >= round);
        seen.filter(|task| !journal.commits.contains_key(task))
            .copied()
            .collect()
    }

    fn take(&mut self, journal: &Recovered) -> BTreeSet<u64> {
        let (now, round) = (unix_ms(), round_of(journal));
        if round > self.round {
            self.round = round;
            // Its state stands for all that was committed before.
            self.seen.retain(|(of, _), _| *of >= round);
        }
        for (task, commit) in &journal.commits {
            self.n_seen += usize::from(!self.seen.contains_key(task));
            let seen = *self.seen.entry(*task).or_insert(now);
            let later = journal
                .runs
                .iter()
                .filter(|run| run.started_unix_ms > seen + READ_MS);
            for run in later {
                assert!(
                    commit.attempt.epoch < run.epoch,
                    "run again: task {task:?} of {} was committed {} ms before run {} began, which computed it again: {commit:?}",
                    self.output.display(),
                    run.started_unix_ms - seen,
                    run.epoch.0
                );
                self.kept.insert((*task, run.epoch));
            }
        }
        let of_round = journal.commits.keys().filter(|(of, _)| *of == round);
        of_round.map(|(_, task)| task.0).collect()
    }

    /// Commits that were ever seen.
    pub(crate) fn n_seen(&self) -> usize {
        self.n_seen
    }

    /// How often a later run began and kept one.
    pub(crate) fn n_kept(&self) -> usize {
        self.kept.len()
    }
}

/// The files by which rounds begin are gone once a job is done.
fn round_of(journal: &Recovered) -> RoundIdx {
    let of_commits = journal.commits.keys().map(|(round, _)| *round).max();
    of_commits.unwrap_or(RoundIdx(0)).max(journal.current_round())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;
    use tilework_core::ids::{Attempt, AttemptNo, WorkerIdx};
    use tilework_core::record::{Commit, Record, RunStart};
    use tilework_store::disk::RealDisk;
    use tilework_store::journal::recover::job_id;
    use tilework_store::journal::{JobFiles, SegmentWriter};

    const JOB: &[u8] = b"{}";

    /// A journal, and what is seen of it.
    fn begun() -> (TempDir, JobFiles, Ledger) {
        let place = tempfile::tempdir().unwrap();
        let output = place.path().join("C.npy");
        let files = JobFiles::beside(&output);
        fs::create_dir(files.folder()).unwrap();
        (place, files, Ledger::beside(output))
    }

    /// A run that began then and has committed task 7.
    fn commits(files: &JobFiles, epoch: u32, started_unix_ms: u64) {
        let run = RunStart {
            job: job_id(JOB),
            epoch: RunEpoch(epoch),
            started_unix_ms,
            pid: 1,
        };
        let commit = Commit {
            attempt: Attempt {
                epoch: RunEpoch(epoch),
                round: RoundIdx(0),
                task: TaskIdx(7),
                attempt: AttemptNo(0),
            },
            worker: WorkerIdx(0),
            checked: true,
            crc32c: 0,
            residual: 0.0,
            residual_bound: 0.0,
            seconds: 0.0,
            output: Vec::new(),
        };
        let mut segment = SegmentWriter::create(&RealDisk, files, JOB, &run).unwrap();
        segment.append(&[Record::Commit(commit)]).unwrap();
        segment.sync().unwrap();
    }

    #[test]
    #[should_panic(expected = "lost commits")]
    fn what_a_journal_does_not_have_any_more_is_noticed() {
        let (_place, files, mut ledger) = begun();
        commits(&files, 1, 0);
        assert_eq!(ledger.look(), [7].into());
        fs::remove_file(files.segment(RunEpoch(1))).unwrap();
        ledger.look();
    }

    #[test]
    #[should_panic(expected = "run again")]
    fn what_a_later_run_computes_again_is_noticed() {
        let (_place, files, mut ledger) = begun();
        commits(&files, 1, 0);
        ledger.look();
        commits(&files, 2, unix_ms() + 2 * READ_MS);
        ledger.look();
    }
}
