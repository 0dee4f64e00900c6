//! Writing a segment: frames are appended to a file of this run's own, and count once a sync has returned.

use super::frame;
use super::layout::JobFiles;
use crate::disk::{Disk, DiskFile, DiskFileExt};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tilework_core::ids::{RunEpoch, WorkerIdx};
use tilework_core::record::{Record, RunStart};

/// Segments that one worker makes in one run, at most.
const OPENINGS_MAX: u32 = 10_000;

/// Where the numbers of runs end. No run has it, for none could follow, and who looks for the next number ends up here.
const NO_RUN: RunEpoch = RunEpoch(u32::MAX);

/// The open segment of a run.
#[derive(Debug)]
pub struct SegmentWriter {
    file: Arc<dyn DiskFile>,
    offset: u64,
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

    fn create_at(
        disk: &dyn Disk,
        files: &JobFiles,
        path: &Path,
        job_text: &[u8],
        run: &RunStart,
    ) -> io::Result<SegmentWriter> {
        let file = disk.create_new(path)?;
        let mut segment = SegmentWriter { file, offset: 0 };
        let opened = segment
            .append_opening(job_text, run)
            .and_then(|()| disk.sync_dir(&files.folder()));
        if let Err(error) = opened {
            // Whoever tries again, on a full disk for hours, must not leave a file each time.
            let _ = disk.remove_file(path);
            return Err(error);
        }
        Ok(segment)
    }

    fn append_opening(&mut self, job_text: &[u8], run: &RunStart) -> io::Result<()> {
        let opening = [Record::Job(job_text.to_vec()), Record::Run(run.clone())];
        for _ in 0..2 {
            self.append(&opening)?;
        }
        self.sync()
    }

    /// Appends records; they are durable after the next [`sync`](Self::sync).
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let mut bytes = Vec::new();
        records
            .iter()
            .for_each(|record| frame::append(record, &mut bytes));
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
