//! What no round needs any more once another one has begun, durably: the commits before it, and the beginnings of the rounds between.
//!
//! None of it counts any more, so a removal need not be durable, and may be cut off anywhere. Nobody removes what another process may
//! append to: a worker sheds its own segments, a driver those of runs before its own.

use super::frame;
use super::layout::{JobFiles, SegmentOwner};
use crate::disk::{Disk, read_if_there, remove_if_there};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use tilework_core::ids::{RoundIdx, RunEpoch};
use tilework_core::record::Record;

/// Removes the segments that `goes` names, but for those with a commit that counts in `round` or later. A run's own segment stays as long
/// as one of its workers' does, which counts with it only.
pub fn shed_segments(
    disk: &dyn Disk,
    files: &JobFiles,
    round: RoundIdx,
    goes: &dyn Fn(SegmentOwner) -> bool,
) -> io::Result<()> {
    let names = disk.read_dir(&files.folder())?;
    let owned = names
        .iter()
        .filter_map(|name| Some((JobFiles::segment_owner(name)?, files.folder().join(name))));
    let mut owned: Vec<_> = owned.collect();
    // Workers before their run.
    owned.sort_by(|(one, _), (other, _)| other.cmp(one));
    let mut kept: BTreeSet<RunEpoch> = BTreeSet::new();
    for (owner, path) in owned {
        let has_workers = owner.worker.is_none() && kept.contains(&owner.epoch);
        if !has_workers && goes(owner) && is_superseded(disk, &path, round)? {
            remove_if_there(disk, &path)?;
        } else {
            kept.insert(owner.epoch);
        }
    }
    Ok(())
}

fn is_superseded(disk: &dyn Disk, path: &Path, round: RoundIdx) -> io::Result<bool> {
    let bytes = read_if_there(disk, path)?.unwrap_or_default();
    let counts = |record: &Record| match record {
        Record::Commit(commit) => commit.attempt.round >= round,
        Record::Done(_) => true,
        Record::Job(_) | Record::Run(_) | Record::Barrier(_) | Record::Round(_) => false,
    };
    Ok(!frame::scan(&bytes).records.iter().any(counts))
}

/// Removes the beginnings of the rounds before `round`. They have names that a later job's may have too: so `may_go_on` is asked before
/// each.
pub fn shed_rounds(
    disk: &dyn Disk,
    files: &JobFiles,
    round: RoundIdx,
    may_go_on: &dyn Fn() -> bool,
) -> io::Result<()> {
    for name in disk.read_dir(&files.folder())? {
        if JobFiles::begun_round(&name).is_some_and(|begun| begun < round) && may_go_on() {
            remove_if_there(disk, &files.folder().join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::recover::job_id;
    use super::super::{SegmentWriter, begin_round, recover};
    use super::*;
    use crate::fake_disk::{CrashMode, FakeDisk};
    use tilework_core::ids::{Attempt, AttemptNo, TaskIdx, WorkerIdx};
    use tilework_core::record::{Barrier, Commit, RoundStart, RunStart};

    const JOB: &[u8] = b"{}";

    fn run(epoch: u32) -> RunStart {
        RunStart {
            job: job_id(JOB),
            epoch: RunEpoch(epoch),
            started_unix_ms: 0,
            pid: epoch,
        }
    }

    fn commit(epoch: u32, round: u32, task: u64, n_bytes: usize) -> Record {
        Record::Commit(Commit {
            attempt: Attempt {
                epoch: RunEpoch(epoch),
                round: RoundIdx(round),
                task: TaskIdx(task),
                attempt: AttemptNo(0),
            },
            worker: WorkerIdx(0),
            checked: false,
            crc32c: 0,
            residual: 0.0,
            residual_bound: 0.0,
            seconds: 0.0,
            output: vec![7; n_bytes],
        })
    }

    fn folder() -> (FakeDisk, JobFiles) {
        let disk = FakeDisk::new(1);
        let files = JobFiles::beside(Path::new("/c"));
        disk.create_dir(&files.folder()).unwrap();
        disk.sync_dir(&files.parent()).unwrap();
        (disk, files)
    }

    fn append(mut segment: SegmentWriter, records: &[Record]) -> SegmentWriter {
        segment.append(records).unwrap();
        segment.sync().unwrap();
        segment
    }

    fn begin(disk: &FakeDisk, files: &JobFiles, epoch: u32, round: u32) {
        let barrier = Barrier {
            round: RoundIdx(round - 1),
            epoch: RunEpoch(epoch),
            winners: Vec::new(),
        };
        let start = RoundStart {
            round: RoundIdx(round),
            n_tasks: 3,
            state: vec![round as u8],
        };
        begin_round(disk, files, &run(epoch), barrier, start).unwrap();
    }

    fn names(disk: &FakeDisk, files: &JobFiles) -> Vec<String> {
        let names = disk.read_dir(&files.folder()).unwrap().into_iter();
        names.map(|name| name.into_string().unwrap()).collect()
    }

    fn tasks(disk: &FakeDisk, files: &JobFiles) -> (u32, Vec<u64>, Vec<u32>) {
        let (recovered, _) = recover(disk, files).unwrap().unwrap();
        let tasks = recovered.commits.keys().map(|(_, task)| task.0).collect();
        let runs = recovered.runs.iter().map(|run| run.epoch.0).collect();
        (recovered.current_round().0, tasks, runs)
    }

    #[test]
    fn what_a_round_needs_stays_and_what_counts_with_it() {
        let (disk, files) = folder();
        let of_worker = |epoch: u32, worker: u32, records: &[Record]| {
            let worker = WorkerIdx(worker);
            let segment = SegmentWriter::create_for_worker(&disk, &files, JOB, &run(epoch), worker);
            append(segment.unwrap(), records);
        };
        for epoch in 1..=3 {
            SegmentWriter::create(&disk, &files, JOB, &run(epoch)).unwrap();
        }
        // Of the first run nothing counts; of the second, what a worker did for a round that another driver had begun.
        of_worker(1, 0, &[commit(1, 0, 0, 8)]);
        of_worker(2, 0, &[commit(2, 0, 1, 8)]);
        of_worker(2, 1, &[commit(2, 0, 2, 8), commit(2, 1, 2, 8)]);
        of_worker(3, 0, &[commit(3, 0, 0, 8)]);
        begin(&disk, &files, 3, 1);
        let before = tasks(&disk, &files);
        shed_segments(&disk, &files, RoundIdx(1), &|owner| owner.epoch < RunEpoch(3)).unwrap();
        assert_eq!(
            names(&disk, &files),
            [
                "000002-w1-0.segment",
                "000002.segment",
                "000003-w0-0.segment",
                "000003.segment",
                "round-000001"
            ]
        );
        assert_eq!((before.0, before.1), (1, vec![2]));
        assert_eq!(tasks(&disk, &files), (1, vec![2], vec![2, 3]));
        begin(&disk, &files, 3, 2);
        shed_rounds(&disk, &files, RoundIdx(2), &|| false).unwrap();
        assert_eq!(names(&disk, &files).len(), 6);
        shed_rounds(&disk, &files, RoundIdx(2), &|| true).unwrap();
        assert_eq!(names(&disk, &files)[4..], ["round-000002"]);
    }

    /// The round has begun, and what led to it goes: whatever a power cut leaves of that, the round goes on with its own commits.
    #[test]
    fn a_crash_anywhere_in_shedding_leaves_the_round_and_the_runs() {
        for mode in CrashMode::ALL {
            for n_syncs in 1.. {
                let (disk, files) = folder();
                append(
                    SegmentWriter::create(&disk, &files, JOB, &run(1)).unwrap(),
                    &[commit(1, 0, 0, 8)],
                );
                let segment = SegmentWriter::create(&disk, &files, JOB, &run(2)).unwrap();
                let segment = append(segment, &[commit(2, 0, 1, 70_000)]);
                begin(&disk, &files, 2, 1);
                begin(&disk, &files, 2, 2);
                assert!(segment.is_superseded_by(RoundIdx(2)) && !segment.is_superseded_by(RoundIdx(0)));
                disk.crash_after_syncs(n_syncs);
                let replaced = SegmentWriter::replace(&disk, &files, JOB, &run(2), &[run(1)]);
                if let Ok(mut segment) = replaced {
                    let _ = shed_segments(&disk, &files, RoundIdx(2), &|owner| owner.epoch < RunEpoch(2));
                    let _ = shed_rounds(&disk, &files, RoundIdx(2), &|| true);
                    segment.append(&[commit(2, 2, 2, 8)]).unwrap();
                    let is_durable = segment.sync().is_ok();
                    let left = disk.after_crash(mode);
                    let (round, tasks, runs) = tasks(&left, &files);
                    assert_eq!((round, runs), (2, vec![1, 2]), "{mode:?} after {n_syncs}");
                    assert!(tasks == [2] || tasks.is_empty() && !is_durable, "{tasks:?}");
                    if is_durable {
                        assert!(n_syncs > 3);
                        break;
                    }
                } else {
                    assert_eq!(tasks(&disk.after_crash(mode), &files), (2, vec![], vec![1, 2]));
                }
            }
        }
    }

    /// Nobody should take a job whose latest state is lost for one that has just begun.
    #[test]
    fn a_damaged_beginning_is_told_and_another_jobs_is_none() {
        let (disk, files) = folder();
        SegmentWriter::create(&disk, &files, JOB, &run(1)).unwrap();
        begin(&disk, &files, 1, 1);
        let mut bytes = disk.contents(files.round(RoundIdx(1))).unwrap();
        disk.install(files.round(RoundIdx(4)), &{
            let stray = Record::Run(RunStart {
                job: job_id(b"other"),
                ..run(1)
            });
            let mut bytes = Vec::new();
            frame::append(&stray, &mut bytes);
            bytes
        });
        assert_eq!(tasks(&disk, &files).0, 1);
        *bytes.last_mut().unwrap() ^= 1;
        disk.install(files.round(RoundIdx(1)), &bytes);
        let (recovered, _) = recover(&disk, &files).unwrap().unwrap();
        assert_eq!(
            (recovered.round, recovered.damaged_round),
            (None, Some(RoundIdx(1)))
        );
    }
}
