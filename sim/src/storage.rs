//! The shared storage: the journal and the tasks' outputs. For checking, the journal is the real one on the disk that crashes; for
//! planning, only what is committed is remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tilework_core::failure::{Cause, Failure};
use tilework_core::ids::{JobId, RoundIdx, RunEpoch, TaskIdx};
use tilework_core::record::{Barrier, Commit, Record, RunStart, Winner};
use tilework_store::disk::Disk;
use tilework_store::fake_disk::{CrashMode, FakeDisk};
use tilework_store::journal::recover::job_id;
use tilework_store::journal::{JobFiles, Recovered, SegmentWriter, make_durable, recover};

const JOB_TEXT: &[u8] = b"{\"kind\":\"simulated\"}";
const OUTPUT: &str = "/out/C.npy";

/// The job that all simulations run.
pub(crate) fn job() -> JobId {
    job_id(JOB_TEXT)
}

/// What a task's output must be, as its checksum: another one each time the job is started afresh, as if its inputs had changed.
pub(crate) fn right_output(generation: usize, round: RoundIdx, task: TaskIdx) -> u32 {
    let numbers = [generation as u64, u64::from(round.0), task.0];
    crc32c::crc32c(&numbers.map(u64::to_le_bytes).concat())
}

/// The storage that all processes share.
#[derive(Debug)]
pub(crate) struct Storage {
    journal: Journal,
    /// Whether nothing more can be written.
    pub(crate) full: bool,
    /// The run with which the job was last started afresh: what earlier ones write goes to files that have no name any more.
    pub(crate) fresh_since: RunEpoch,
    last_epoch: RunEpoch,
    outputs: BTreeMap<(RoundIdx, TaskIdx), u32>,
    barriers: BTreeMap<RoundIdx, Barrier>,
    /// Outputs of which something else than was checked has been written since all of them were last read back.
    spoiled_late: BTreeSet<(RoundIdx, TaskIdx)>,
    were_read_back: bool,
}

#[derive(Debug)]
enum Journal {
    Real {
        disk: FakeDisk,
        files: JobFiles,
    },
    Counted {
        n_segments: u32,
        winners: BTreeMap<(RoundIdx, TaskIdx), Winner>,
    },
}

/// Where one process appends its records.
#[derive(Debug)]
pub(crate) enum Segment {
    Real(SegmentWriter),
    Counted,
}

impl Storage {
    /// An empty storage with the real journal.
    pub(crate) fn checked(seed: u64) -> Storage {
        let disk = FakeDisk::new(seed);
        let files = JobFiles::beside(Path::new(OUTPUT));
        disk.install(files.folder().join("spec"), JOB_TEXT);
        Storage::of(Journal::Real { disk, files })
    }

    /// An empty storage that only remembers.
    pub(crate) fn counted() -> Storage {
        Storage::of(Journal::Counted {
            n_segments: 0,
            winners: BTreeMap::new(),
        })
    }

    fn of(journal: Journal) -> Storage {
        Storage {
            journal,
            full: false,
            fresh_since: RunEpoch(1),
            last_epoch: RunEpoch(0),
            outputs: BTreeMap::new(),
            barriers: BTreeMap::new(),
            spoiled_late: BTreeSet::new(),
            were_read_back: false,
        }
    }

    fn space(&self) -> Result<(), Failure> {
        if self.full {
            Err(Failure::fatal(Cause::DiskFull, "the disk is full"))
        } else {
            Ok(())
        }
    }

    /// A new segment, with a number that nobody else has.
    pub(crate) fn open_segment(&mut self) -> Result<(RunEpoch, Segment), Failure> {
        self.space()?;
        match &mut self.journal {
            Journal::Counted { n_segments, .. } => {
                *n_segments += 1;
                Ok((RunEpoch(*n_segments), Segment::Counted))
            }
            Journal::Real { disk, files } => {
                let epoch = match recover(disk, files).map_err(failed)? {
                    Some((recovered, highest)) => recovered.next_epoch(highest),
                    None => RunEpoch(1),
                };
                let epoch = epoch.max(RunEpoch(self.last_epoch.0 + 1));
                let run = RunStart {
                    job: job(),
                    epoch,
                    started_unix_ms: 0,
                    pid: 0,
                };
                let segment = SegmentWriter::create(disk, files, JOB_TEXT, &run).map_err(failed)?;
                self.last_epoch = epoch;
                Ok((epoch, Segment::Real(segment)))
            }
        }
    }

    /// Appends a record; not durable before [`sync`](Storage::sync).
    pub(crate) fn append(&mut self, segment: &mut Segment, record: Record) -> Result<(), Failure> {
        self.space()?;
        match (segment, &mut self.journal) {
            (Segment::Real(segment), _) => segment.append(&[record]).map_err(failed),
            (Segment::Counted, Journal::Counted { winners, .. }) => {
                if let Record::Commit(commit) = record {
                    let attempt = commit.attempt;
                    winners.insert((attempt.round, attempt.task), winner_of(&commit));
                }
                Ok(())
            }
            (Segment::Counted, Journal::Real { .. }) => unreachable!("segments are of their storage"),
        }
    }

    pub(crate) fn sync(&self, segment: &mut Segment) -> Result<(), Failure> {
        match segment {
            Segment::Real(segment) => segment.sync().map_err(failed),
            Segment::Counted => Ok(()),
        }
    }

    /// The winning attempt of every committed task of a round; whoever asks builds on it.
    pub(crate) fn winners(&self, round: RoundIdx) -> Vec<(TaskIdx, Winner)> {
        match &self.journal {
            Journal::Counted { winners, .. } => {
                let of_round = winners.range((round, TaskIdx(0))..=(round, TaskIdx(u64::MAX)));
                of_round.map(|((_, task), winner)| (*task, *winner)).collect()
            }
            Journal::Real { disk, files } => {
                let recovered = recovered(disk, files);
                make_durable(disk, files).expect("the simulated disk can be written");
                let commits = recovered.commits.values();
                let of_round = commits.filter(|commit| commit.attempt.round == round);
                of_round
                    .map(|commit| (commit.attempt.task, winner_of(commit)))
                    .collect()
            }
        }
    }

    /// Whether these tasks would still be committed if the power failed now and took with it all that was not synced; the first that
    /// would not.
    pub(crate) fn first_lost(
        &self,
        mut tasks: impl Iterator<Item = (RoundIdx, TaskIdx)>,
    ) -> Option<(RoundIdx, TaskIdx)> {
        let Journal::Real { disk, files } = &self.journal else {
            return None;
        };
        let durable = recovered(&disk.after_crash(CrashMode::Vanish), files);
        tasks.find(|task| !durable.commits.contains_key(task))
    }

    /// Publishes a barrier, unless another driver did: what counts is what this returns. Atomic, as setting a key that is absent is.
    pub(crate) fn publish(&mut self, barrier: Barrier) -> Result<&Barrier, Failure> {
        self.space()?;
        Ok(self.barriers.entry(barrier.round).or_insert(barrier))
    }

    /// A published barrier.
    pub(crate) fn barrier(&self, round: RoundIdx) -> Option<&Barrier> {
        self.barriers.get(&round)
    }

    /// Writes a task's output durably.
    pub(crate) fn write_output(
        &mut self,
        round: RoundIdx,
        task: TaskIdx,
        output: u32,
        is_right: bool,
    ) -> Result<(), Failure> {
        self.space()?;
        if matches!(self.journal, Journal::Real { .. }) {
            self.outputs.insert((round, task), output);
            if is_right {
                self.spoiled_late.remove(&(round, task));
            } else if self.were_read_back {
                self.spoiled_late.insert((round, task));
            }
        }
        Ok(())
    }

    /// Tasks of a round whose outputs are not what their commits say.
    pub(crate) fn damaged(&mut self, round: RoundIdx) -> Vec<TaskIdx> {
        self.were_read_back = true;
        self.spoiled_late.clear();
        let Journal::Real { disk, files } = &self.journal else {
            return Vec::new();
        };
        let recovered = recovered(disk, files);
        let commits = recovered.commits.values();
        let of_round = commits.filter(|commit| commit.attempt.round == round);
        let is_damaged = |commit: &&Commit| {
            let output = self.outputs.get(&(round, commit.attempt.task));
            output != Some(&commit.crc32c)
        };
        of_round
            .filter(is_damaged)
            .map(|commit| commit.attempt.task)
            .collect()
    }

    /// The first task of a finished round whose output is wrong. What a late attempt spoiled after the last reading back can be found by
    /// nobody but `verify`, and is not counted.
    pub(crate) fn wrong(&self, generation: usize, round: RoundIdx, n_tasks: u64) -> Option<TaskIdx> {
        let is_wrong = |task: &TaskIdx| {
            !self.spoiled_late.contains(&(round, *task))
                && self.outputs.get(&(round, *task)) != Some(&right_output(generation, round, *task))
        };
        match self.journal {
            Journal::Real { .. } => (0..n_tasks).map(TaskIdx).find(is_wrong),
            Journal::Counted { .. } => None,
        }
    }

    /// The job is started afresh: its journal and outputs are no more. Numbers of runs go on.
    pub(crate) fn discard(&mut self) {
        self.fresh_since = RunEpoch(self.last_epoch.0 + 1);
        self.outputs.clear();
        self.barriers.clear();
        self.spoiled_late.clear();
        self.were_read_back = false;
        let Journal::Real { disk, files } = &self.journal else {
            return;
        };
        let folder = files.folder();
        for name in disk.read_dir(&folder).expect("the simulated disk can be read") {
            if JobFiles::segment_epoch(&name).is_some() {
                disk.remove_file(&folder.join(name)).expect("it was just there");
            }
        }
        disk.sync_dir(&folder).expect("the simulated disk can be written");
    }

    /// The power fails: what was not synced may be there, or torn, or not.
    pub(crate) fn power_cut(&mut self) {
        if let Journal::Real { disk, .. } = &mut self.journal {
            *disk = disk.after_crash(CrashMode::Tear);
        }
    }
}

fn failed(error: std::io::Error) -> Failure {
    Failure::retry(Cause::Storage, error.to_string())
}

fn winner_of(commit: &Commit) -> Winner {
    Winner {
        epoch: commit.attempt.epoch,
        attempt: commit.attempt.attempt,
    }
}

fn recovered(disk: &FakeDisk, files: &JobFiles) -> Recovered {
    let found = recover(disk, files).expect("the simulated disk can be read");
    found.map(|(recovered, _)| recovered).unwrap_or_default()
}
