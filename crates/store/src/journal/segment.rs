//! Writing a segment: frames are appended to a file of this run's own, and count once a sync has returned.

use super::frame;
use super::layout::JobFiles;
use crate::disk::{Disk, DiskFile, DiskFileExt, remove_if_there};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tilework_core::ids::{RoundIdx, RunEpoch, WorkerIdx};
use tilework_core::record::{Record, RunStart};

/// Segments that one worker makes in one run, at most.
const OPENINGS_MAX: u32 = 10_000;
/// Bytes of commits that no round needs any more, before a new segment takes their place: it costs two syncs, and each barrier reads what
/// there is.
const SUPERSEDED_BYTES_MIN: u64 = 64 * 1024;

/// Where the numbers of runs end. No run has it, for none could follow, and who looks for the next number ends up here.
const NO_RUN: RunEpoch = RunEpoch(u32::MAX);

/// The open segment of a run.
#[derive(Debug)]
pub struct SegmentWriter {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    offset: u64,
    /// Where the records that opened it end.
    opened_at: u64,
    /// Of its commits.
    latest_round: Option<RoundIdx>,
}

impl SegmentWriter {
    /// Creates the run's segment with the records that open it, durably.
    ///
    /// Job and run are written twice: one flipped bit can't orphan the commits that follow.
    pub fn create(
        disk: &dyn Disk,
        files: &JobFiles,
        job_text: &[u8],
        run: &RunStart,
    ) -> io::Result<SegmentWriter> {
        if run.epoch == NO_RUN {
            return Err(io::Error::other("no number is left for another run"));
        }
        SegmentWriter::create_at(disk, files, &files.segment(run.epoch), job_text, run)
    }

    /// Creates the segment of a worker that has a process of its own, durably. It counts as long as the run's own segment is there.
    pub fn create_for_worker(
        disk: &dyn Disk,
        files: &JobFiles,
        job_text: &[u8],
        run: &RunStart,
        worker: WorkerIdx,
    ) -> io::Result<SegmentWriter> {
        for opening in 0..OPENINGS_MAX {
            let path = files.worker_segment(run.epoch, worker, opening);
            match SegmentWriter::create_at(disk, files, &path, job_text, run) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => return created,
            }
        }
        Err(io::Error::other("a worker opened its job too often in one run"))
    }

    /// Puts a new segment in the place of the run's own, durably, with the earlier runs of the job in it: what stood there counts no more.
    /// An error may have come after the new one got the name: then nothing that is appended to either is durable.
    pub fn replace(
        disk: &dyn Disk,
        files: &JobFiles,
        job_text: &[u8],
        run: &RunStart,
        runs: &[RunStart],
    ) -> io::Result<SegmentWriter> {
        let (path, path_new) = (files.segment(run.epoch), files.replacing_segment(run.epoch));
        remove_if_there(disk, &path_new)?;
        let mut segment = SegmentWriter::write(disk, &path_new, job_text, run, runs)?;
        disk.rename(&path_new, &path)?;
        disk.sync_dir(&files.folder())?;
        segment.path = path;
        Ok(segment)
    }

    fn create_at(
        disk: &dyn Disk,
        files: &JobFiles,
        path: &Path,
        job_text: &[u8],
        run: &RunStart,
    ) -> io::Result<SegmentWriter> {
        let segment = SegmentWriter::write(disk, path, job_text, run, &[])?;
        if let Err(error) = disk.sync_dir(&files.folder()) {
            let _ = disk.remove_file(path);
            return Err(error);
        }
        Ok(segment)
    }

    /// A new file with the records that open a segment, which are durable when it gets its name.
    fn write(
        disk: &dyn Disk,
        path: &Path,
        job_text: &[u8],
        run: &RunStart,
        runs: &[RunStart],
    ) -> io::Result<SegmentWriter> {
        let mut segment = SegmentWriter {
            file: disk.create_new(path)?,
            path: path.to_path_buf(),
            offset: 0,
            opened_at: 0,
            latest_round: None,
        };
        let opening = [Record::Job(job_text.to_vec()), Record::Run(run.clone())];
        let runs: Vec<Record> = runs.iter().cloned().map(Record::Run).collect();
        let opened = segment
            .append(&opening)
            .and_then(|()| segment.append(&opening))
            .and_then(|()| segment.append(&runs))
            .and_then(|()| segment.sync());
        if let Err(error) = opened {
            // Whoever tries again, on a full disk for hours, must not leave a file each time.
            let _ = disk.remove_file(path);
            return Err(error);
        }
        segment.opened_at = segment.offset;
        Ok(segment)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether much stands in it, and nothing that counts once `round` has begun.
    pub fn is_superseded_by(&self, round: RoundIdx) -> bool {
        let is_earlier = self.latest_round.is_some_and(|latest| latest < round);
        is_earlier && self.offset - self.opened_at >= SUPERSEDED_BYTES_MIN
    }

    /// Appends records; they are durable after the next [`sync`](Self::sync).
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            frame::append(record, &mut bytes);
            if let Record::Commit(commit) = record {
                self.latest_round = self.latest_round.max(Some(commit.attempt.round));
            }
        }
        self.file.write_all_at(&bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Makes what was appended durable.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_disk::FakeDisk;

    #[test]
    fn a_segment_that_cannot_be_begun_leaves_no_file() {
        let run = RunStart {
            job: super::super::recover::job_id(b"{}"),
            epoch: RunEpoch(1),
            started_unix_ms: 0,
            pid: 1,
        };
        for nth in 2.. {
            let disk = FakeDisk::new(1);
            let files = JobFiles::beside(Path::new("/c.npy"));
            disk.create_dir(&files.folder()).unwrap();
            disk.fail_nth(nth, io::ErrorKind::StorageFull);
            let created = SegmentWriter::create(&disk, &files, b"{}", &run);
            if created.is_ok() {
                assert!(nth > 4, "some calls failed");
                break;
            }
            assert!(disk.read_dir(&files.folder()).unwrap().is_empty(), "call {nth}");
        }
    }
}
