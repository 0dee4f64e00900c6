//! One file after success: what is worth keeping of all segments, under a name of its own, and the segments removed.

use super::frame;
use super::layout::JobFiles;
use super::recover::{Recovered, latest_run};
use super::task_files::clear_task_files;
use crate::disk::{Disk, DiskFileExt, remove_if_there};
use std::io;
use tilework_core::ids::RunEpoch;
use tilework_core::record::Record;

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compacted {
    /// One file is left.
    Done,
    /// The journal is a later run's, or another driver's, by now: nothing of theirs was touched.
    NotOurs,
}

/// Replaces the segments of runs up to `epoch`, the caller's own, by one file with the job, its runs, the winning commits, the barriers
/// and the report. The files that their tasks wrote go with them.
///
/// Each step may be repeated after a crash: the segments go only once the compacted file is durable under its name. Before whatever
/// can't be taken back, `may_go_on` is asked and later runs are looked for: the caller may have slept since it asked the last time.
pub fn compact(
    disk: &dyn Disk,
    files: &JobFiles,
    recovered: &Recovered,
    epoch: RunEpoch,
    may_go_on: &dyn Fn() -> bool,
) -> io::Result<Compacted> {
    let is_ours = || Ok::<bool, io::Error>(latest_run(disk, files)? <= Some(epoch) && may_go_on());
    let (path, path_new) = (files.compacted(), files.compacting(epoch));
    remove_if_there(disk, &path_new)?;
    let file = disk.create_new(&path_new)?;
    file.write_all_at(&bytes(recovered), 0)?;
    file.sync_data()?;
    if !is_ours()? {
        // A later run may have cleared it away.
        remove_if_there(disk, &path_new)?;
        return Ok(Compacted::NotOurs);
    }
    disk.rename(&path_new, &path)?;
    disk.sync_dir(&files.folder())?;
    // The output has its name by now: nobody needs what it was made of.
    clear_task_files(disk, files, &|name| name.attempt.epoch <= epoch && may_go_on())?;
    for name in disk.read_dir(&files.folder())? {
        let old = files.folder().join(&name);
        let run = JobFiles::segment_epoch(&name).or(JobFiles::writing_epoch(&name));
        if old == path || !JobFiles::is_journal(&name) || run.is_some_and(|run| run > epoch) {
            continue;
        }
        if !may_go_on() {
            return Ok(Compacted::NotOurs);
        }
        disk.remove_file(&old)?;
    }
    disk.sync_dir(&files.folder())?;
    Ok(Compacted::Done)
}

fn bytes(recovered: &Recovered) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |record: Record| frame::append(&record, &mut bytes);
    recovered
        .job_text
        .iter()
        .for_each(|text| put(Record::Job(text.clone())));
    recovered
        .runs
        .iter()
        .for_each(|run| put(Record::Run(run.clone())));
    recovered
        .commits
        .values()
        .for_each(|commit| put(Record::Commit(commit.clone())));
    recovered
        .barriers
        .values()
        .for_each(|barrier| put(Record::Barrier(barrier.clone())));
    recovered
        .report
        .iter()
        .for_each(|report| put(Record::Done(report.clone())));
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::SegmentWriter;
    use super::super::recover::{job_id, recover};
    use super::*;
    use crate::fake_disk::FakeDisk;
    use std::cell::Cell;
    use std::path::Path;
    use tilework_core::ids::WorkerIdx;
    use tilework_core::record::RunStart;

    const JOB: &[u8] = b"{}";
    const OURS: RunEpoch = RunEpoch(3);
    const LATER: RunEpoch = RunEpoch(4);

    fn begin(disk: &FakeDisk, files: &JobFiles, epoch: RunEpoch) {
        let run = RunStart {
            job: job_id(JOB),
            epoch,
            started_unix_ms: 0,
            pid: epoch.0,
        };
        SegmentWriter::create(disk, files, JOB, &run).unwrap();
        SegmentWriter::create_for_worker(disk, files, JOB, &run, WorkerIdx(1)).unwrap();
    }

    fn folder() -> (FakeDisk, JobFiles, Recovered) {
        let disk = FakeDisk::new(1);
        let files = JobFiles::beside(Path::new("/c.npy"));
        disk.create_dir(&files.folder()).unwrap();
        begin(&disk, &files, RunEpoch(2));
        begin(&disk, &files, OURS);
        let (recovered, _) = recover(&disk, &files).unwrap().unwrap();
        (disk, files, recovered)
    }

    fn names(disk: &FakeDisk, files: &JobFiles) -> Vec<String> {
        let names = disk.read_dir(&files.folder()).unwrap().into_iter();
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn one_file_is_left_of_all_runs_and_of_what_a_crash_left() {
        let (disk, files, recovered) = folder();
        disk.install(files.compacting(RunEpoch(2)), b"half");
        disk.install(files.compacting(OURS), b"half");
        let compacted = compact(&disk, &files, &recovered, OURS, &|| true).unwrap();
        assert_eq!(compacted, Compacted::Done);
        assert_eq!(names(&disk, &files), ["journal"]);
        assert_eq!(recover(&disk, &files).unwrap().unwrap().0, recovered);
        assert_eq!(latest_run(&disk, &files).unwrap(), Some(OURS));
    }

    /// A run may begin right after the last look: its tasks' files are not an earlier run's to remove.
    #[test]
    fn tasks_files_go_with_the_segments_but_for_a_later_runs() {
        let (disk, files, recovered) = folder();
        let of_run = |epoch: RunEpoch| {
            let name = format!("{:06}-r000001-t7-a0-0", epoch.0);
            files.task_files().join(name)
        };
        let epochs = [RunEpoch(2), OURS, LATER];
        epochs
            .iter()
            .for_each(|epoch| disk.install(of_run(*epoch), b"words"));
        compact(&disk, &files, &recovered, OURS, &|| true).unwrap();
        let is_there = |epoch: &RunEpoch| disk.stat(&of_run(*epoch)).unwrap().is_some();
        assert_eq!(
            epochs.iter().map(is_there).collect::<Vec<_>>(),
            [false, false, true]
        );
        compact(&disk, &files, &recovered, LATER, &|| true).unwrap();
        assert_eq!(names(&disk, &files), ["journal"]);
    }

    #[test]
    fn a_later_runs_segments_survive_a_late_driver() {
        let (disk, files, recovered) = folder();
        begin(&disk, &files, LATER);
        let before = names(&disk, &files);
        let compacted = compact(&disk, &files, &recovered, OURS, &|| true).unwrap();
        assert_eq!(compacted, Compacted::NotOurs);
        assert_eq!(names(&disk, &files), before);
    }

    #[test]
    fn a_later_runs_compacted_journal_survives_a_late_driver() {
        let (disk, files, ours) = folder();
        begin(&disk, &files, LATER);
        let (theirs, _) = recover(&disk, &files).unwrap().unwrap();
        compact(&disk, &files, &theirs, LATER, &|| true).unwrap();
        let compacted = compact(&disk, &files, &ours, OURS, &|| true).unwrap();
        assert_eq!(compacted, Compacted::NotOurs);
        assert_eq!(names(&disk, &files), ["journal"]);
        assert_eq!(recover(&disk, &files).unwrap().unwrap().0, theirs);
    }

    /// The driver may sleep, and a later run begin, wherever it asks: what it does next must harm nothing of that run's.
    #[test]
    fn a_run_that_begins_before_any_irreversible_act_loses_nothing() {
        for begins_at in 1.. {
            let (disk, files, recovered) = folder();
            let n_asked = Cell::new(0);
            let may_go_on = || {
                n_asked.set(n_asked.get() + 1);
                if n_asked.get() == begins_at {
                    begin(&disk, &files, LATER);
                }
                n_asked.get() < begins_at
            };
            let compacted = compact(&disk, &files, &recovered, OURS, &may_go_on).unwrap();
            if n_asked.get() < begins_at {
                assert_eq!((compacted, begins_at), (Compacted::Done, 6));
                break;
            }
            assert_eq!(compacted, Compacted::NotOurs, "asked {begins_at} times");
            let left = names(&disk, &files);
            for of_later in ["000004.segment", "000004-w1-0.segment"] {
                assert!(left.iter().any(|name| name == of_later), "{left:?}");
            }
            let (found, highest) = recover(&disk, &files).unwrap().unwrap();
            assert_eq!((found.commits, highest), (recovered.commits, LATER));
        }
    }
}
