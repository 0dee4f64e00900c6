//! Reading all segments of a job into what is known of it.

use super::frame;
use super::layout::JobFiles;
use crate::disk::{Disk, DiskFileExt};
use std::collections::BTreeMap;
use std::io;
use tilework_core::ids::{JobId, RoundIdx, RunEpoch, TaskIdx};
use tilework_core::record::{Barrier, Commit, Record, RunStart};

/// What the journal says about a job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recovered {
    /// The job's description; `None` if no segment has an intact one.
    pub job_text: Option<Vec<u8>>,
    /// All runs, oldest first.
    pub runs: Vec<RunStart>,
    /// The last commit of every task.
    pub commits: BTreeMap<(RoundIdx, TaskIdx), Commit>,
    /// Barriers by round.
    pub barriers: BTreeMap<RoundIdx, Barrier>,
    /// The report, if the job's outputs are complete.
    pub report: Option<Vec<u8>>,
    /// Bytes that belong to no intact record; what they held is lost and will be computed again.
    pub n_damaged_bytes: u64,
    /// Commits of every attempt ever made, winners or not.
    pub n_commits_ever: u64,
}

impl Recovered {
    /// Number of the next run.
    pub fn next_epoch(&self, highest_segment: RunEpoch) -> RunEpoch {
        let highest_run = self.runs.iter().map(|run| run.epoch.0).max().unwrap_or(0);
        RunEpoch(highest_run.max(highest_segment.0) + 1)
    }
}

/// The id of the job that `job_text` describes.
pub fn job_id(job_text: &[u8]) -> JobId {
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::hash(job_text).as_bytes()[..16]);
    JobId(id)
}

/// Reads the journal beside an output; `None` if there is none. Also returns the highest segment number in use.
///
/// Records of a segment that belongs to another job than the newest one (left over from a discarded run) don't count.
pub fn recover(disk: &dyn Disk, files: &JobFiles) -> io::Result<Option<(Recovered, RunEpoch)>> {
    let segments = segments(disk, files)?;
    let Some((highest, _)) = segments.last() else {
        return Ok(None);
    };
    let newest_job = segments
        .iter()
        .rev()
        .find_map(|(_, scan)| segment_job(&scan.records));
    let mut recovered = Recovered::default();
    for (_, scan) in &segments {
        recovered.n_damaged_bytes += scan.n_damaged_bytes;
        if newest_job.is_some() && segment_job(&scan.records) == newest_job {
            scan.records.iter().for_each(|record| recovered.take(record));
        }
    }
    Ok(Some((recovered, *highest)))
}

/// Makes durable what stands in the segments. A process that was killed may have appended records without syncing them: they can be
/// read, and a power cut would take them back. Whoever builds on what [`recover`] returned calls this first.
pub fn make_durable(disk: &dyn Disk, files: &JobFiles) -> io::Result<()> {
    let folder = files.folder();
    for name in disk.read_dir(&folder)? {
        if JobFiles::segment_epoch(&name).is_some() {
            disk.open_write(&folder.join(&name))?.sync_data()?;
        }
    }
    Ok(())
}

fn segments(disk: &dyn Disk, files: &JobFiles) -> io::Result<Vec<(RunEpoch, frame::Scan)>> {
    let folder = files.folder();
    if disk.stat(&folder)?.is_none() {
        return Ok(Vec::new());
    }
    let mut segments = Vec::new();
    for name in disk.read_dir(&folder)? {
        let Some(epoch) = JobFiles::segment_epoch(&name) else {
            continue;
        };
        let file = disk.open_read(&folder.join(&name))?;
        let mut bytes = vec![0; file.stat()?.len as usize];
        file.read_exact_at(&mut bytes, 0)?;
        segments.push((epoch, frame::scan(&bytes)));
    }
    segments.sort_by_key(|(epoch, _)| *epoch);
    Ok(segments)
}

/// Whose segment it is: by its job record, or by its run record where that is damaged.
fn segment_job(records: &[Record]) -> Option<JobId> {
    records.iter().find_map(|record| match record {
        Record::Job(text) => Some(job_id(text)),
        Record::Run(run) => Some(run.job),
        _ => None,
    })
}

impl Recovered {
    fn take(&mut self, record: &Record) {
        match record {
            Record::Job(text) => self.job_text = Some(text.clone()),
            Record::Run(run) => {
                if self.runs.last() != Some(run) {
                    self.runs.push(run.clone());
                }
            }
            Record::Commit(commit) => {
                self.n_commits_ever += 1;
                self.commits
                    .insert((commit.attempt.round, commit.attempt.task), commit.clone());
            }
            Record::Barrier(barrier) => {
                self.barriers.insert(barrier.round, barrier.clone());
            }
            Record::Done(report) => self.report = Some(report.clone()),
        }
    }
}
