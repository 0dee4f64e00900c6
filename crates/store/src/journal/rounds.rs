//! How one round follows another: the barrier of the one and the state of the other are published under a name that is given once.
//!
//! Whoever comes second, be it a driver that slept or one that took over, goes on with what is there: its own state may rest on other
//! attempts' outputs.

use super::frame;
use super::layout::JobFiles;
use crate::disk::{Disk, DiskFileExt, read_if_there, remove_if_there};
use std::io;
use tilework_core::ids::{JobId, RoundIdx};
use tilework_core::record::{Barrier, Record, RoundStart, RunStart};

/// Publishes the barrier of a round and the beginning of the next one, durably, unless that has begun already. The state that it begins
/// with: the caller's, or the one that came first.
pub fn begin_round(
    disk: &dyn Disk,
    files: &JobFiles,
    run: &RunStart,
    barrier: Barrier,
    start: RoundStart,
) -> io::Result<RoundStart> {
    let (path, path_new) = (
        files.round(start.round),
        files.beginning_round(start.round, run.epoch),
    );
    let records = [
        Record::Run(run.clone()),
        Record::Barrier(barrier),
        Record::Round(start.clone()),
    ];
    let mut bytes = Vec::new();
    records
        .iter()
        .for_each(|record| frame::append(record, &mut bytes));
    remove_if_there(disk, &path_new)?;
    let file = disk.create_new(&path_new)?;
    file.write_all_at(&bytes, 0)?;
    file.sync_data()?;
    let linked = disk.hard_link(&path_new, &path);
    remove_if_there(disk, &path_new)?;
    disk.sync_dir(&files.folder())?;
    match linked {
        Ok(()) => Ok(start),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let begun = begun_round(disk, files, run.job, start.round)?;
            begun.map(|(_, start)| start).ok_or_else(|| {
                let text = format!("`{}` is another job's, or damaged", path.display());
                io::Error::new(io::ErrorKind::InvalidData, text)
            })
        }
        Err(error) => Err(error),
    }
}

/// The barrier and the beginning of a round of the job, if it has begun.
pub fn begun_round(
    disk: &dyn Disk,
    files: &JobFiles,
    job: JobId,
    round: RoundIdx,
) -> io::Result<Option<(Barrier, RoundStart)>> {
    Ok(match read_beginning(disk, files, job, round)? {
        Beginning::Here(barrier, start) => Some((barrier, start)),
        Beginning::Absent | Beginning::Foreign | Beginning::Damaged => None,
    })
}

/// What stands in the file of a round's beginning.
pub(super) enum Beginning {
    Here(Barrier, RoundStart),
    /// There is none, or there is none any more.
    Absent,
    /// Another job's.
    Foreign,
    Damaged,
}

pub(super) fn read_beginning(
    disk: &dyn Disk,
    files: &JobFiles,
    job: JobId,
    round: RoundIdx,
) -> io::Result<Beginning> {
    let Some(bytes) = read_if_there(disk, &files.round(round))? else {
        return Ok(Beginning::Absent);
    };
    let records = frame::scan(&bytes).records;
    Ok(match &records[..] {
        [Record::Run(run), ..] if run.job != job => Beginning::Foreign,
        [Record::Run(_), Record::Barrier(barrier), Record::Round(start)] if start.round == round => {
            Beginning::Here(barrier.clone(), start.clone())
        }
        _ => Beginning::Damaged,
    })
}

#[cfg(test)]
mod tests {
    use super::super::recover::job_id;
    use super::super::{SegmentWriter, recover};
    use super::*;
    use crate::fake_disk::{CrashMode, FakeDisk};
    use std::path::Path;
    use tilework_core::ids::RunEpoch;

    const JOB: &[u8] = b"{}";

    fn run(epoch: u32) -> RunStart {
        RunStart {
            job: job_id(JOB),
            epoch: RunEpoch(epoch),
            started_unix_ms: 0,
            pid: 1,
        }
    }

    fn folder() -> (FakeDisk, JobFiles) {
        let disk = FakeDisk::new(1);
        let files = JobFiles::beside(Path::new("/c.npy"));
        disk.create_dir(&files.folder()).unwrap();
        disk.sync_dir(&files.parent()).unwrap();
        SegmentWriter::create(&disk, &files, JOB, &run(1)).unwrap();
        (disk, files)
    }

    fn start(state: &[u8]) -> RoundStart {
        RoundStart {
            round: RoundIdx(1),
            n_tasks: 7,
            state: state.to_vec(),
        }
    }

    fn begin(disk: &dyn Disk, files: &JobFiles, epoch: u32, state: &[u8]) -> io::Result<RoundStart> {
        let barrier = Barrier {
            round: RoundIdx(0),
            epoch: RunEpoch(epoch),
            winners: Vec::new(),
        };
        begin_round(disk, files, &run(epoch), barrier, start(state))
    }

    #[test]
    fn a_round_begins_once_and_who_comes_second_goes_on_with_that() {
        let (disk, files) = folder();
        assert_eq!(begin(&disk, &files, 1, b"first").unwrap(), start(b"first"));
        assert_eq!(begin(&disk, &files, 2, b"second").unwrap(), start(b"first"));
        let (barrier, begun) = begun_round(&disk, &files, job_id(JOB), RoundIdx(1))
            .unwrap()
            .unwrap();
        assert_eq!((barrier.epoch, begun.state), (RunEpoch(1), b"first".to_vec()));
        let (recovered, _) = recover(&disk, &files).unwrap().unwrap();
        assert_eq!(recovered.round, Some(start(b"first")));
        assert_eq!(
            begun_round(&disk, &files, job_id(b"other"), RoundIdx(1)).unwrap(),
            None
        );
    }

    fn begun(disk: &dyn Disk, files: &JobFiles) -> Option<Vec<u8>> {
        let found = begun_round(disk, files, job_id(JOB), RoundIdx(1)).unwrap();
        found.map(|(_, start)| start.state)
    }

    #[test]
    fn a_crash_anywhere_leaves_the_whole_beginning_or_none() {
        let mut n_whole = 0;
        for mode in [CrashMode::Vanish, CrashMode::Keep, CrashMode::Tear] {
            for n_syncs in 1.. {
                let (disk, files) = folder();
                disk.crash_after_syncs(n_syncs);
                let acknowledged = begin(&disk, &files, 1, b"state").is_ok();
                assert_ne!(acknowledged, disk.is_frozen());
                let left = disk.after_crash(mode);
                let found = begun(&left, &files);
                assert!(found.as_ref().is_none_or(|found| found == b"state"));
                n_whole += usize::from(found.is_some());
                // Another driver goes on wherever this one stopped.
                let gone_on = begin(&left, &files, 2, b"other").unwrap();
                assert_eq!(gone_on.state, found.unwrap_or(b"other".to_vec()));
                if acknowledged {
                    assert_eq!(gone_on.state, b"state");
                    break;
                }
            }
        }
        assert!(
            n_whole > 3,
            "some crashes come after the name was given: {n_whole}"
        );
    }

    #[test]
    fn an_error_anywhere_may_be_tried_again() {
        for nth in 1.. {
            let (disk, files) = folder();
            disk.fail_nth(nth, io::ErrorKind::Other);
            let first = begin(&disk, &files, 1, b"state");
            assert_eq!(first.is_err(), disk.failed_count() == 1);
            if first.is_ok() {
                assert!(nth > 6, "some calls failed");
                break;
            }
            assert_eq!(begin(&disk, &files, 1, b"state").unwrap().state, b"state");
        }
    }
}
