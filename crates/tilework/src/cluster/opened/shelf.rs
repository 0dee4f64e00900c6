//! What a worker keeps open for the next task: the jobs that it worked on last, each with the journal of its commits.
//!
//! A job that is closed for what may be this machine's fault leaves its journal here, which is as good as it was: a worker that fails
//! again and again begins no further segment.

use std::sync::Arc;
use tilework_core::ids::{JobId, RunEpoch};
use tilework_runtime::journal_writer::JournalWriter;

/// Jobs that are kept open, the latest: a worker takes tasks of several in turn.
const OPEN_MAX: usize = 4;

/// A job that was opened.
pub(super) struct Opened<S> {
    /// The job.
    pub(super) served: Arc<S>,
    /// Of its commits.
    pub(super) journal: Arc<JournalWriter>,
    /// Whether its inputs are in memory.
    pub(super) holds_memory: bool,
}

struct Kept<S> {
    job: JobId,
    run: RunEpoch,
    /// Nothing where it is to be opened anew.
    served: Option<Arc<S>>,
    journal: Arc<JournalWriter>,
    holds_memory: bool,
}

impl<S> Kept<S> {
    fn is_of(&self, job: JobId, run: RunEpoch) -> bool {
        self.job == job && self.run == run
    }
}

/// Jobs in one of their runs each, the latest used last.
pub(super) struct Shelf<S> {
    kept: Vec<Kept<S>>,
}

impl<S> Shelf<S> {
    /// With nothing.
    pub(super) fn new() -> Shelf<S> {
        Shelf { kept: Vec::new() }
    }

    /// The job, if it is open.
    pub(super) fn take(&mut self, job: JobId, run: RunEpoch) -> Option<Arc<S>> {
        let is_open = |kept: &Kept<S>| kept.is_of(job, run) && kept.served.is_some();
        let at = self.kept.iter().position(is_open)?;
        let found = self.kept.remove(at);
        let served = found.served.clone();
        self.kept.push(found);
        served
    }

    /// Closes what can't stay open beside this job; returns its journal, if it has one that can be written.
    pub(super) fn make_room(&mut self, job: JobId, run: RunEpoch) -> Option<Arc<JournalWriter>> {
        self.kept.retain(|kept| {
            // An earlier run of the job is over; and text is held in memory, of which there is only enough for one job.
            kept.is_of(job, run) && !kept.journal.is_broken() || kept.job != job && !kept.holds_memory
        });
        let ours = self.kept.iter().find(|kept| kept.is_of(job, run));
        ours.map(|kept| Arc::clone(&kept.journal))
    }

    /// Keeps a job for the next task.
    pub(super) fn put(&mut self, job: JobId, run: RunEpoch, opened: Opened<S>) -> Arc<S> {
        let served = Arc::clone(&opened.served);
        self.kept.retain(|kept| !kept.is_of(job, run));
        if opened.holds_memory {
            self.kept.clear();
        }
        if self.kept.len() >= OPEN_MAX {
            self.kept.remove(0);
        }
        self.kept.push(Kept {
            job,
            run,
            served: Some(opened.served),
            journal: opened.journal,
            holds_memory: opened.holds_memory,
        });
        served
    }

    /// Closes a job, to be opened anew; its journal stays.
    pub(super) fn close(&mut self, job: JobId, run: RunEpoch) {
        for kept in self.kept.iter_mut().filter(|kept| kept.is_of(job, run)) {
            kept.served = None;
            kept.holds_memory = false;
        }
    }

    /// Closes everything.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use tilework_core::ids::WorkerIdx;
    use tilework_core::record::{Record, RunStart};
    use tilework_store::disk::Disk;
    use tilework_store::fake_disk::FakeDisk;
    use tilework_store::journal::{JobFiles, SegmentWriter};

    const JOB: JobId = JobId([1; 16]);
    const RUN: RunEpoch = RunEpoch(2);

    fn journal(disk: &FakeDisk, files: &JobFiles) -> Arc<JournalWriter> {
        let run = RunStart {
            job: JOB,
            epoch: RUN,
            started_unix_ms: 0,
            pid: 1,
        };
        let segment = SegmentWriter::create_for_worker(disk, files, b"", &run, WorkerIdx(0)).unwrap();
        Arc::new(JournalWriter::start(segment).unwrap())
    }

    fn opened(journal: Arc<JournalWriter>, holds_memory: bool) -> Opened<&'static str> {
        Opened {
            served: Arc::new("a job"),
            journal,
            holds_memory,
        }
    }

    #[test]
    fn a_job_that_is_opened_anew_goes_on_with_its_journal_while_that_can_be_written() {
        let (disk, files) = (FakeDisk::new(1), JobFiles::beside(Path::new("C")));
        disk.create_dir(&files.folder()).unwrap();
        let n_segments = || disk.read_dir(&files.folder()).unwrap().len();
        let record = || Record::Job(b"text".to_vec());
        let mut shelf = Shelf::new();
        for _ in 0..20 {
            assert!(shelf.take(JOB, RUN).is_none());
            let journal = shelf
                .make_room(JOB, RUN)
                .unwrap_or_else(|| journal(&disk, &files));
            shelf.put(JOB, RUN, opened(Arc::clone(&journal), true));
            assert!(shelf.take(JOB, RUN).is_some());
            journal.handle().append_and_wait(record()).unwrap();
            shelf.close(JOB, RUN);
        }
        assert_eq!(n_segments(), 1);
        let broken = shelf.make_room(JOB, RUN).expect("it can be written");
        disk.fail_nth(1, std::io::ErrorKind::StorageFull);
        let failed = broken.handle().append_and_wait(record());
        assert!(failed.is_err() && disk.failed_count() == 1, "{failed:?}");
        assert!(broken.handle().append_and_wait(record()).is_err(), "it stays so");
        assert!(shelf.make_room(JOB, RUN).is_none());
        shelf.put(JOB, RUN, opened(journal(&disk, &files), false));
        assert_eq!(n_segments(), 2);
        assert!(
            shelf.make_room(JOB, RunEpoch(3)).is_none(),
            "another run has its own"
        );
        assert!(shelf.take(JOB, RUN).is_none());
    }

    #[test]
    fn few_jobs_stay_open_and_only_one_that_holds_its_inputs() {
        let (disk, files) = (FakeDisk::new(1), JobFiles::beside(Path::new("C")));
        disk.create_dir(&files.folder()).unwrap();
        let journal = journal(&disk, &files);
        let id = |number: usize| JobId([number as u8; 16]);
        let mut shelf = Shelf::new();
        for number in 0..=OPEN_MAX {
            shelf.put(id(number), RUN, opened(Arc::clone(&journal), false));
        }
        let open: Vec<bool> = (0..=OPEN_MAX)
            .map(|number| shelf.take(id(number), RUN).is_some())
            .collect();
        assert_eq!(open, [false, true, true, true, true]);
        shelf.put(id(0), RUN, opened(Arc::clone(&journal), true));
        assert!(shelf.take(id(1), RUN).is_none() && shelf.take(id(0), RUN).is_some());
        shelf.make_room(id(1), RUN);
        assert!(shelf.take(id(0), RUN).is_none());
    }
}
