//! The jobs that a worker has open: learned from the record that a task's id names, checked in every respect, and kept for the next
//! task.

use super::record::{JobRecord, key_of};
use super::undertaking::any_description;
use crate::job::kinds::Kinds;
use crate::job_state::is_product;
use segments::Segments;
use shelf::{Opened, Shelf};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tilework_core::failure::{Cause, Failure};
use tilework_core::ids::{JobId, RoundIdx, RunEpoch, WorkerIdx};
use tilework_core::message::JobAttempt;
use tilework_kernel::Simd;
use tilework_nats::{Bucket, Control};
use tilework_runtime::Job;
use tilework_runtime::journal_writer::{JournalHandle, JournalWriter};
use tilework_runtime::served::{Jobs, Served};
use tilework_store::data_roots::DataRoots;
use tilework_store::disk::{Disk, is_disk_full};
use tilework_store::identity::InputIdentity;
use tilework_store::journal::{JobFiles, run_of_segment};

mod own_job;
mod product;
mod segments;
mod shelf;

/// A worker's jobs.
pub struct OpenedJobs {
    /// Where records are.
    pub control: Arc<Control>,
    /// Where matrices are.
    pub roots: Arc<DataRoots>,
    /// Who we are.
    pub worker: WorkerIdx,
    /// What the process may use.
    pub resources: WorkerResources,
    /// Jobs of the program's own.
    pub kinds: &'static Kinds,
    /// Open jobs.
    pub open: OpenJobs,
}

/// What a worker process may use.
#[derive(Debug, Clone, Copy)]
pub struct WorkerResources {
    /// The whole process's memory.
    pub memory_bytes: u64,
    /// Threads that compute.
    pub n_threads: usize,
    /// Instruction set.
    pub simd: Simd,
}

/// The jobs that a worker has open.
pub struct OpenJobs(Mutex<Shelf<OpenJob>>);

/// A job that is open for tasks of any of its rounds.
struct OpenJob {
    served: Arc<Served<'static>>,
    /// Of its commits.
    journal: JournalHandle,
    /// Enters the round of the next task; nothing where there is only one.
    enter: Option<Enter>,
}

/// Enters a round, whose commits go to the journal.
type Enter = Box<dyn Fn(RoundIdx, &JournalHandle) -> Result<(), Failure> + Send + Sync>;

impl OpenJobs {
    /// None yet.
    pub fn none() -> OpenJobs {
        OpenJobs(Mutex::new(Shelf::new()))
    }

    fn lock(&self) -> MutexGuard<'_, Shelf<OpenJob>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Jobs<'static> for OpenedJobs {
    fn open(&self, attempt: JobAttempt) -> Result<Arc<Served<'static>>, Failure> {
        let (job, run) = (attempt.job, attempt.attempt.epoch);
        let mut open = self.open.lock();
        let opened = match open.take(job, run) {
            Some(opened) => opened,
            None => {
                let journal = open.make_room(job, run);
                let opened = self.open_anew(job, run, journal)?;
                open.put(job, run, opened)
            }
        };
        if let Some(enter) = &opened.enter {
            enter(attempt.attempt.round, &opened.journal)?;
        }
        Ok(Arc::clone(&opened.served))
    }

    fn on_failed(&self, attempt: JobAttempt) {
        self.open.lock().close(attempt.job, attempt.attempt.epoch);
    }

    fn on_idle(&self) {
        self.open.lock().clear();
    }
}

impl OpenedJobs {
    /// The job, whose commits go on in `journal` if this run has one already.
    fn open_anew(
        &self,
        job: JobId,
        run: RunEpoch,
        journal: Option<Arc<JournalWriter>>,
    ) -> Result<Opened<OpenJob>, Failure> {
        let record = self.record(job)?;
        let known = RunEpoch(record.adopts_from)..=RunEpoch(record.run);
        if !known.contains(&run) {
            let text = format!("the task is of run {run}, the job's last one is {}", record.run);
            return Err(Failure::retry(Cause::Job, text));
        }
        let opening = Opening {
            jobs: self,
            disk: Arc::clone(&self.roots) as Arc<dyn Disk>,
            files: JobFiles::beside(Path::new(&record.output)),
            record: &record,
            job,
            run,
            journal,
        };
        let description = any_description(&record.job_text)
            .map_err(|error| refused(format!("the job's description can't be read: {error}")))?;
        if description.output.as_deref() != Some(&record.output) {
            return Err(refused(
                "the job's record names another output than its description".to_owned(),
            ));
        }
        if is_product(&description.kind) {
            product::open(opening)
        } else {
            own_job::open(opening, &description)
        }
    }

    fn record(&self, job: JobId) -> Result<JobRecord, Failure> {
        let key = key_of(job);
        let failed = |text: String| Failure::retry(Cause::Job, text);
        let entry = self
            .control
            .look_up(Bucket::Jobs, &key)
            .map_err(|error| failed(format!("the job's record can't be read: {error}")))?;
        let entry = entry.ok_or_else(|| failed(format!("the cluster has no record of the job {key}")))?;
        JobRecord::from_bytes(&key, &entry.value)
            .map_err(|cause| failed(format!("the record of the job {key} can't be used: {cause}")))
    }
}

/// Trying again can't help.
fn refused(text: String) -> Failure {
    Failure::fatal(Cause::Job, text)
}

/// A job that a worker is about to open.
struct Opening<'a> {
    jobs: &'a OpenedJobs,
    disk: Arc<dyn Disk>,
    files: JobFiles,
    record: &'a JobRecord,
    job: JobId,
    run: RunEpoch,
    journal: Option<Arc<JournalWriter>>,
}

impl Opening<'_> {
    /// Fails if what is read here is not what the job began with.
    fn check_inputs(&self, now: &[InputIdentity]) -> Result<(), Failure> {
        self.record.check_inputs(now)
    }

    /// Another worker may have the data root that this one lacks, or a file system that is not away.
    fn input_failure(&self, message: &str) -> Failure {
        let text = format!(
            "{message} (data roots of this worker: {})",
            self.jobs.roots.described()
        );
        Failure::retry(Cause::Storage, text)
    }

    /// Opens its output and this worker's journal of it.
    fn open<J: Job + ?Sized + 'static>(
        self,
        job: Arc<J>,
        enter: Option<Enter>,
        holds_memory: bool,
    ) -> Result<Opened<OpenJob>, Failure> {
        job.open_outputs(true)
            .map_err(|failure| Failure::retry(failure.cause, failure.text))?;
        // Only now: a run's segment is gone before its output is, so the output that is open is this run's.
        self.check_run()?;
        let journal = match &self.journal {
            Some(journal) => Arc::clone(journal),
            None => Arc::new(self.begin_journal()?),
        };
        let served = Arc::new(Served::with_journal(job, Arc::clone(&journal)));
        Ok(Opened {
            served: Arc::new(OpenJob {
                served,
                journal: journal.handle(),
                enter,
            }),
            journal,
            holds_memory,
        })
    }

    fn segments(&self) -> Segments {
        Segments {
            disk: Arc::clone(&self.disk),
            files: self.files.clone(),
            job_text: self.record.job_text.clone(),
            job: self.job,
            run: self.run,
            worker: self.jobs.worker,
        }
    }

    fn begin_journal(&self) -> Result<JournalWriter, Failure> {
        let segment = self.segments().begin().map_err(|error| {
            let cause = if is_disk_full(&error) {
                Cause::DiskFull
            } else {
                Cause::Storage
            };
            Failure::retry(
                cause,
                format!(
                    "cannot open a journal in `{}`: {error}",
                    self.files.folder().display()
                ),
            )
        })?;
        JournalWriter::start(segment)
    }

    /// The run is the one whose task this is, and no later job has taken its place.
    fn check_run(&self) -> Result<(), Failure> {
        let found = run_of_segment(&*self.disk, &self.files, self.run).map_err(|error| {
            Failure::retry(
                Cause::Storage,
                format!(
                    "cannot read the run's journal in `{}`: {error}",
                    self.files.folder().display()
                ),
            )
        })?;
        match found {
            Some(run) if run.job == self.job => Ok(()),
            _ => {
                let text = format!(
                    "run {} of the job is over, or is not seen on this machine",
                    self.run
                );
                Err(Failure::retry(Cause::Job, text))
            }
        }
    }
}
