//! Reading all segments of a job into what is known of it.

use super::frame;
use super::layout::{JobFiles, SegmentOwner};
use super::rounds::{Beginning, read_beginning};
use crate::disk::{Disk, DiskFileExt, read_if_there};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use tilework_core::ids::{JobId, RoundIdx, RunEpoch, TaskIdx};
use tilework_core::record::{Barrier, Commit, Record, RoundStart, RunStart};

/// Bytes of the records that open a segment, at most: the job's description and the run, twice.
const OPENING_BYTES_MAX: u64 = 1 << 20;
/// How often the folder is listed while each list is out of date when it is used, at most.
const LISTINGS_MAX: u32 = 100;

/// What the journal says about a job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recovered {
    /// The job's description; `None` if no segment has an intact one.
    pub job_text: Option<Vec<u8>>,
    /// All runs, oldest first.
    pub runs: Vec<RunStart>,
    /// The last commit of every task.
    pub commits: BTreeMap<(RoundIdx, TaskIdx), Commit>,
    /// Barriers by round; those before the latest round's beginning are gone.
    pub barriers: BTreeMap<RoundIdx, Barrier>,
    /// The latest round that has begun, but for the first one. Commits of other rounds are left out: its state stands for them.
    pub round: Option<RoundStart>,
    /// The latest round's beginning is there and can't be read: its state is lost, and with it the rounds before.
    pub damaged_round: Option<RoundIdx>,
    /// The report, if the job's outputs are complete.
    pub report: Option<Vec<u8>>,
    /// Bytes that belong to no intact record; what they held is lost and will be computed again.
    pub n_damaged_bytes: u64,
}

impl Recovered {
    /// Number of the next run; after the last one a number that no run can have.
    pub fn next_epoch(&self, highest_segment: RunEpoch) -> RunEpoch {
        let highest_run = self.runs.iter().map(|run| run.epoch.0).max().unwrap_or(0);
        RunEpoch(highest_run.max(highest_segment.0).saturating_add(1))
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
/// Records of a segment that belongs to another job than the newest one (left over from a discarded run) don't count, nor do those of
/// a worker whose run has no segment: it woke up after its job had ended.
pub fn recover(disk: &dyn Disk, files: &JobFiles) -> io::Result<Option<(Recovered, RunEpoch)>> {
    let segments = segments(disk, files)?;
    let Some((highest, _)) = segments.last() else {
        return Ok(None);
    };
    let highest = highest.epoch;
    let runs: BTreeSet<RunEpoch> = segments
        .iter()
        .filter(|(owner, _)| owner.worker.is_none())
        .map(|(owner, _)| owner.epoch)
        .collect();
    let segments: Vec<frame::Scan> = segments
        .into_iter()
        .filter(|(owner, _)| runs.contains(&owner.epoch))
        .map(|(_, scan)| scan)
        .collect();
    let newest_job = segments.iter().rev().find_map(|scan| segment_job(&scan.records));
    let mut recovered = Recovered::default();
    for scan in &segments {
        recovered.n_damaged_bytes += scan.n_damaged_bytes;
        if newest_job.is_some() && segment_job(&scan.records) == newest_job {
            scan.records.iter().for_each(|record| recovered.take(record));
        }
    }
    // Written twice, once more by each worker with a process of its own, and by later runs.
    recovered.runs.sort_by_key(|run| run.epoch);
    // Only now: what was gone of the segments is superseded by a round that is there.
    if let Some(job) = newest_job {
        recovered.take_round(disk, files, job)?;
    }
    Ok(Some((recovered, highest)))
}

/// What a run's own segment says of it; `None` if there is none that can be read.
pub fn run_of_segment(disk: &dyn Disk, files: &JobFiles, epoch: RunEpoch) -> io::Result<Option<RunStart>> {
    let runs = opening_runs(disk, &files.segment(epoch))?;
    Ok(runs.into_iter().find(|run| run.epoch == epoch))
}

/// The number of the latest run that the folder knows of, be it under way, discarded or finished.
///
/// A driver that a later one has followed learns it here, however long it slept: a run's segment is there from its beginning until
/// another one takes its place, or until the run is named in the compacted journal.
pub fn latest_run(disk: &dyn Disk, files: &JobFiles) -> io::Result<Option<RunEpoch>> {
    let folder = files.folder();
    if disk.stat(&folder)?.is_none() {
        return Ok(None);
    }
    let names = disk.read_dir(&folder)?;
    let segments = names.iter().filter_map(|name| JobFiles::segment_epoch(name));
    let finished = opening_runs(disk, &files.compacted())?;
    Ok(segments.chain(finished.iter().map(|run| run.epoch)).max())
}

/// The runs that are named where a file of the journal begins; none if it is not there.
fn opening_runs(disk: &dyn Disk, path: &Path) -> io::Result<Vec<RunStart>> {
    if disk.stat(path)?.is_none() {
        return Ok(Vec::new());
    }
    let file = disk.open_read(path)?;
    // Later records are not needed, and may be many.
    let len = file.stat()?.len.min(OPENING_BYTES_MAX);
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0)?;
    let records = frame::scan(&bytes).records.into_iter();
    Ok(records
        .filter_map(|record| match record {
            Record::Run(run) => Some(run),
            _ => None,
        })
        .collect())
}

/// Makes durable what stands in the segments. A process that was killed may have appended records without syncing them: they can be
/// read, and a power cut would take them back. Whoever builds on what [`recover`] returned calls this first.
pub fn make_durable(disk: &dyn Disk, files: &JobFiles) -> io::Result<()> {
    let folder = files.folder();
    for name in disk.read_dir(&folder)? {
        if JobFiles::segment_epoch(&name).is_none() {
            continue;
        }
        match disk.open_write(&folder.join(&name)) {
            // A worker has just shed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => opened?.sync_data()?,
        }
    }
    Ok(())
}

pub(super) fn segments(disk: &dyn Disk, files: &JobFiles) -> io::Result<Vec<(SegmentOwner, frame::Scan)>> {
    let folder = files.folder();
    if disk.stat(&folder)?.is_none() {
        return Ok(Vec::new());
    }
    let mut segments = Vec::new();
    for name in disk.read_dir(&folder)? {
        let Some(owner) = JobFiles::segment_owner(&name) else {
            continue;
        };
        // One that is gone by now was shed: a round has begun that needs nothing of it.
        if let Some(bytes) = read_if_there(disk, &folder.join(&name))? {
            segments.push((owner, frame::scan(&bytes)));
        }
    }
    segments.sort_by_key(|(owner, _)| *owner);
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
                if self.runs.iter().all(|known| known.epoch != run.epoch) {
                    self.runs.push(run.clone());
                }
            }
            Record::Commit(commit) => {
                self.commits
                    .insert((commit.attempt.round, commit.attempt.task), commit.clone());
            }
            Record::Barrier(barrier) => {
                self.barriers.insert(barrier.round, barrier.clone());
            }
            Record::Done(report) => self.report = Some(report.clone()),
            // Rounds begin in files of their own.
            Record::Round(_) => {}
        }
    }

    fn take_round(&mut self, disk: &dyn Disk, files: &JobFiles, job: JobId) -> io::Result<()> {
        // Whoever begins another round meanwhile removes this one's beginning: then the list is old.
        let mut n_tries = 0;
        while !self.try_take_round(disk, files, job)? {
            n_tries += 1;
            if n_tries == LISTINGS_MAX {
                let text = "the folder names the beginning of a round that is not there";
                return Err(io::Error::new(io::ErrorKind::NotFound, text));
            }
        }
        if let Some(current) = self.round.as_ref().map(|start| start.round) {
            self.commits.retain(|(round, _), _| *round == current);
        }
        Ok(())
    }

    /// `false` if the latest round that was there is not there any more.
    fn try_take_round(&mut self, disk: &dyn Disk, files: &JobFiles, job: JobId) -> io::Result<bool> {
        let names = disk.read_dir(&files.folder())?;
        let mut rounds: Vec<RoundIdx> = names
            .iter()
            .filter_map(|name| JobFiles::begun_round(name))
            .collect();
        rounds.sort();
        for round in rounds.into_iter().rev() {
            match read_beginning(disk, files, job, round)? {
                Beginning::Here(barrier, start) => {
                    self.barriers.insert(barrier.round, barrier);
                    self.round = Some(start);
                    return Ok(true);
                }
                Beginning::Damaged => {
                    self.damaged_round = Some(round);
                    return Ok(true);
                }
                Beginning::Absent => return Ok(false),
                Beginning::Foreign => {}
            }
        }
        Ok(true)
    }

    /// The round that is under way.
    pub fn current_round(&self) -> RoundIdx {
        self.round.as_ref().map_or(RoundIdx(0), |start| start.round)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Compacted, SegmentWriter};
    use super::*;
    use crate::fake_disk::FakeDisk;
    use tilework_core::ids::{Attempt, AttemptNo, WorkerIdx};

    const JOB: &[u8] = b"{}";

    fn files(disk: &FakeDisk) -> JobFiles {
        let files = JobFiles::beside(Path::new("/c.npy"));
        disk.create_dir(&files.folder()).unwrap();
        files
    }

    fn run(job_text: &[u8], epoch: u32, pid: u32) -> RunStart {
        RunStart {
            job: job_id(job_text),
            epoch: RunEpoch(epoch),
            started_unix_ms: 0,
            pid,
        }
    }

    fn commit(epoch: u32, task: u64, worker: u32) -> Record {
        Record::Commit(Commit {
            attempt: Attempt {
                epoch: RunEpoch(epoch),
                round: RoundIdx(0),
                task: TaskIdx(task),
                attempt: AttemptNo(0),
            },
            worker: WorkerIdx(worker),
            checked: true,
            crc32c: 0,
            residual: 0.0,
            residual_bound: 0.0,
            seconds: 0.0,
            output: Vec::new(),
        })
    }

    fn worker_commits(
        disk: &FakeDisk,
        files: &JobFiles,
        job_text: &[u8],
        epoch: u32,
        worker: u32,
        task: u64,
    ) {
        let run = run(job_text, epoch, 100 + worker);
        let segment = SegmentWriter::create_for_worker(disk, files, job_text, &run, WorkerIdx(worker));
        let mut segment = segment.unwrap();
        segment.append(&[commit(epoch, task, worker)]).unwrap();
        segment.sync().unwrap();
    }

    /// The number began again at 0, under which the compacted journal counts.
    #[test]
    fn after_the_last_number_no_run_begins() {
        let disk = FakeDisk::new(1);
        let files = files(&disk);
        let last = u32::MAX - 1;
        SegmentWriter::create(&disk, &files, JOB, &run(JOB, last, 1)).unwrap();
        // Of a run that nobody can begin, or its commits would count.
        worker_commits(&disk, &files, JOB, u32::MAX, 0, 5);
        for _ in 0..2 {
            let (recovered, highest) = recover(&disk, &files).unwrap().unwrap();
            assert!(recovered.commits.is_empty());
            let next = recovered.next_epoch(highest);
            let begun = SegmentWriter::create(&disk, &files, JOB, &run(JOB, next.0, 1));
            assert!(begun.unwrap_err().to_string().contains("no number is left"));
        }
    }

    #[test]
    fn workers_with_segments_of_their_own_belong_to_their_run() {
        let disk = FakeDisk::new(1);
        let files = files(&disk);
        SegmentWriter::create(&disk, &files, JOB, &run(JOB, 3, 1)).unwrap();
        worker_commits(&disk, &files, JOB, 3, 0, 5);
        worker_commits(&disk, &files, JOB, 3, 1, 6);
        let (recovered, highest) = recover(&disk, &files).unwrap().unwrap();
        let tasks: Vec<u64> = recovered.commits.keys().map(|(_, task)| task.0).collect();
        assert_eq!((tasks, highest), (vec![5, 6], RunEpoch(3)));
        // One run, of the process that drove it.
        assert_eq!(recovered.runs, [run(JOB, 3, 1)]);
    }

    #[test]
    fn a_worker_that_wakes_up_after_its_job_has_ended_changes_nothing() {
        let disk = FakeDisk::new(1);
        let files = files(&disk);
        let other = b"{ }";
        // Another job has ended and is compacted, or runs.
        for is_compacted in [false, true] {
            let epoch = if is_compacted { 9 } else { 5 };
            SegmentWriter::create(&disk, &files, other, &run(other, epoch, 2)).unwrap();
            if is_compacted {
                let (recovered, _) = recover(&disk, &files).unwrap().unwrap();
                let of_run = RunEpoch(epoch);
                let compacted = super::super::compact(&disk, &files, &recovered, of_run, &|| true).unwrap();
                assert_eq!(compacted, Compacted::Done);
            }
            worker_commits(&disk, &files, JOB, epoch - 1, 0, 5);
            let (recovered, highest) = recover(&disk, &files).unwrap().unwrap();
            assert_eq!(recovered.job_text.as_deref(), Some(&other[..]));
            assert!(recovered.commits.is_empty());
            assert!(recovered.next_epoch(highest) > RunEpoch(epoch));
        }
    }
}
