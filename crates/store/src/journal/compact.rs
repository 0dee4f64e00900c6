//! One file after success: what is worth keeping of all segments, under a name of its own, and the segments removed.

use super::frame;
use super::layout::JobFiles;
use super::recover::Recovered;
use crate::disk::{Disk, DiskFileExt};
use std::io;
use tilework_core::record::Record;

/// Replaces all segments by one file with the job, its runs, the winning commits, the barriers and the report.
///
/// Each step may be repeated after a crash: the segments go only once the compacted file is durable under its name.
pub fn compact(disk: &dyn Disk, files: &JobFiles, recovered: &Recovered) -> io::Result<()> {
    let (path, path_new) = files.compacted();
    if disk.stat(&path_new)?.is_some() {
        disk.remove_file(&path_new)?;
    }
    let file = disk.create_new(&path_new)?;
    file.write_all_at(&bytes(recovered), 0)?;
    file.sync_data()?;
    disk.rename(&path_new, &path)?;
    disk.sync_dir(&files.folder())?;
    for name in disk.read_dir(&files.folder())? {
        let old = files.folder().join(&name);
        if old != path && JobFiles::segment_epoch(&name).is_some() {
            disk.remove_file(&old)?;
        }
    }
    disk.sync_dir(&files.folder())
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
