//! This worker's segments of one run: what only earlier rounds needed goes as a round begins.

use super::super::record::unix_ms;
use std::io;
use std::sync::Arc;
use tilework_core::ids::{JobId, RoundIdx, RunEpoch, WorkerIdx};
use tilework_core::record::RunStart;
use tilework_store::disk::Disk;
use tilework_store::journal::{JobFiles, SegmentOwner, SegmentWriter, shed_segments};

/// Begins them.
#[derive(Clone)]
pub(super) struct Segments {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) files: JobFiles,
    pub(super) job_text: String,
    pub(super) job: JobId,
    pub(super) run: RunEpoch,
    pub(super) worker: WorkerIdx,
}

impl Segments {
    /// Another one.
    pub(super) fn begin(&self) -> io::Result<SegmentWriter> {
        let run = RunStart {
            job: self.job,
            epoch: self.run,
            started_unix_ms: unix_ms(),
            pid: std::process::id(),
        };
        let text = self.job_text.as_bytes();
        SegmentWriter::create_for_worker(&*self.disk, &self.files, text, &run, self.worker)
    }

    /// The one that follows `current` as `round` begins, if that holds much and nothing that counts. Those before it, which nobody appends
    /// to, go as soon as nothing in them counts.
    pub(super) fn follow(
        &self,
        current: &SegmentWriter,
        round: RoundIdx,
    ) -> io::Result<Option<SegmentWriter>> {
        let is_over = current.is_superseded_by(round);
        let following = is_over.then(|| self.begin()).transpose()?;
        let in_use = following.as_ref().unwrap_or(current).path();
        let is_before = |owner: SegmentOwner| {
            let of_worker = owner.worker.filter(|(worker, _)| *worker == self.worker);
            of_worker.is_some_and(|(worker, opening)| {
                let path = self.files.worker_segment(owner.epoch, worker, opening);
                owner.epoch == self.run && path != in_use
            })
        };
        // What stays counts no more, and is tried again with the next round.
        let _ = shed_segments(&*self.disk, &self.files, round, &is_before);
        Ok(following)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use tilework_core::ids::{Attempt, AttemptNo, TaskIdx};
    use tilework_core::record::{Commit, Record};
    use tilework_runtime::journal_writer::JournalWriter;
    use tilework_store::fake_disk::FakeDisk;
    use tilework_store::journal::recover::job_id;

    const TEXT: &str = "{}";

    fn commit(round: u32, n_bytes: usize) -> Record {
        Record::Commit(Commit {
            attempt: Attempt {
                epoch: RunEpoch(2),
                round: RoundIdx(round),
                task: TaskIdx(0),
                attempt: AttemptNo(0),
            },
            worker: WorkerIdx(1),
            checked: false,
            crc32c: 0,
            residual: 0.0,
            residual_bound: 0.0,
            seconds: 0.0,
            output: vec![7; n_bytes],
        })
    }

    #[test]
    fn a_worker_keeps_what_counts_in_the_round_and_nothing_of_others_is_touched() {
        let disk = FakeDisk::new(1);
        let files = JobFiles::beside(Path::new("/out"));
        disk.create_dir(&files.folder()).unwrap();
        let of_worker = |worker: u32| Segments {
            disk: Arc::new(disk.clone()),
            files: files.clone(),
            job_text: TEXT.to_owned(),
            job: job_id(TEXT.as_bytes()),
            run: RunEpoch(2),
            worker: WorkerIdx(worker),
        };
        let names = || {
            let names = disk.read_dir(&files.folder()).unwrap().into_iter();
            names.map(|name| name.into_string().unwrap()).collect::<Vec<_>>()
        };
        let segments = of_worker(1);
        let begun = |records: &[Record]| {
            let writer = JournalWriter::start(segments.begin().unwrap()).unwrap();
            let append = |record: &Record| writer.handle().append_and_wait(record.clone());
            records.iter().for_each(|record| append(record).unwrap());
            writer
        };
        let enter = |writer: &JournalWriter, round: u32| {
            let segments = segments.clone();
            writer
                .handle()
                .follow(move |current| segments.follow(current, RoundIdx(round)));
            writer.handle().append_and_wait(commit(round, 8)).unwrap();
        };
        of_worker(0)
            .begin()
            .unwrap()
            .append(&[commit(0, 70_000)])
            .unwrap();
        // It was idle now and then, and closed the job: two segments that are written no more.
        drop(begun(&[commit(0, 70_000)]));
        drop(begun(&[commit(0, 8), commit(1, 8)]));
        let writer = begun(&[commit(0, 8)]);
        enter(&writer, 1);
        let others = "000002-w0-0.segment";
        let (second, third) = ("000002-w1-1.segment", "000002-w1-2.segment");
        assert_eq!(
            names(),
            [others, second, third],
            "little stands in the one that goes on"
        );
        writer.handle().append_and_wait(commit(1, 70_000)).unwrap();
        enter(&writer, 1);
        assert_eq!(
            names(),
            [others, second, third],
            "opened anew in the round that it was in"
        );
        enter(&writer, 2);
        let first = "000002-w1-0.segment";
        assert_eq!(names(), [others, first], "its name was free");
        assert!(!writer.is_broken());
    }
}
