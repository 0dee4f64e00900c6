//! The jobs that a worker has open: learned from the record that a task's id names, checked in every respect, and kept for the next
//! task.

use super::record::{JobRecord, key_of};
use crate::product::inputs::{Inputs, Paths};
use crate::product::request::{Description, Resources, stored_inputs};
use crate::product::running::multiply;
use shelf::{Opened, Shelf};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tilework_core::driver::Assign;
use tilework_core::failure::{Cause, Failure};
use tilework_core::ids::{JobId, RunEpoch, WorkerIdx};
use tilework_core::message::JobAttempt;
use tilework_core::record::RunStart;
use tilework_kernel::Simd;
use tilework_linalg::multiply::NUMERICS_VERSION;
use tilework_linalg::{AlgorithmChoice, Number, Plan};
use tilework_nats::{Bucket, Control};
use tilework_runtime::Job;
use tilework_runtime::description::FORMAT_VERSION;
use tilework_runtime::journal_writer::JournalWriter;
use tilework_runtime::served::{Jobs, Served};
use tilework_store::data_roots::DataRoots;
use tilework_store::disk::{Disk, is_disk_full};
use tilework_store::element_type::Dtype;
use tilework_store::journal::{JobFiles, SegmentWriter, run_of_segment};

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
pub struct OpenJobs(Mutex<Shelf<Served<'static>>>);

impl OpenJobs {
    /// None yet.
    pub fn none() -> OpenJobs {
        OpenJobs(Mutex::new(Shelf::new()))
    }

    fn lock(&self) -> MutexGuard<'_, Shelf<Served<'static>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Jobs<'static> for OpenedJobs {
    fn open(&self, attempt: JobAttempt) -> Result<Arc<Served<'static>>, Failure> {
        let (job, run) = (attempt.job, attempt.attempt.epoch);
        let mut open = self.open.lock();
        if let Some(served) = open.take(job, run) {
            return Ok(served);
        }
        let journal = open.make_room(job, run);
        let opened = self.open_anew(job, run, journal)?;
        Ok(open.put(job, run, opened))
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
    ) -> Result<Opened<Served<'static>>, Failure> {
        let record = self.record(job)?;
        let known = RunEpoch(record.adopts_from)..=RunEpoch(record.run);
        if !known.contains(&run) {
            let text = format!("the task is of run {run}, the job's last one is {}", record.run);
            return Err(Failure::retry(Cause::Job, text));
        }
        let description = checked_description(&record)?;
        let disk = Arc::clone(&self.roots) as Arc<dyn Disk>;
        let output = Path::new(&record.output);
        let request = stored_inputs(&description, output, Paths::Named);
        // Another worker may have the data root that this one lacks, or a file system that is not away.
        let inputs = request
            .open(&disk)
            .map_err(|error| self.input_failure(&error.message))?;
        let identities = inputs
            .identities()
            .map_err(|error| Failure::retry(Cause::Storage, error.message))?;
        record.check_inputs(&identities)?;
        let holds_memory = inputs
            .operands()
            .any(|operand| operand.source().resident_bytes() > 0);
        let opening = Opening {
            jobs: self,
            disk,
            record: &record,
            description: &description,
            inputs,
            job,
            run,
            journal,
        };
        let (served, journal) = match description.spec.dtype {
            Dtype::F64 => opening.open::<f64>(),
            Dtype::F32 => opening.open::<f32>(),
        }?;
        Ok(Opened {
            served: Arc::new(served),
            journal,
            holds_memory,
        })
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

    fn input_failure(&self, message: &str) -> Failure {
        let text = format!(
            "{message} (data roots of this worker: {})",
            self.roots.described()
        );
        Failure::retry(Cause::Storage, text)
    }
}

/// The code here must be the code that the job was begun with, as far as its results depend on it.
fn checked_description(record: &JobRecord) -> Result<Description, Failure> {
    let refused = |text: String| Failure::fatal(Cause::Job, text);
    let description = Description::from_text(record.job_text.as_bytes())
        .map_err(|error| refused(format!("the job's description can't be read: {error}")))?;
    let here = [description.spec.version(), FORMAT_VERSION, NUMERICS_VERSION];
    let stored = [
        description.version,
        description.format_version,
        description.numerics_version,
    ];
    if description.kind != description.spec.kind() || here != stored {
        return Err(refused(format!(
            "this worker computes `{}` of versions {here:?}, the job is `{}` of versions {stored:?}",
            description.spec.kind(),
            description.kind
        )));
    }
    if description.output.as_deref() != Some(&record.output) {
        return Err(refused(
            "the job's record names another output than its description".to_owned(),
        ));
    }
    Ok(description)
}

struct Opening<'a> {
    jobs: &'a OpenedJobs,
    disk: Arc<dyn Disk>,
    record: &'a JobRecord,
    description: &'a Description,
    inputs: Inputs,
    job: JobId,
    run: RunEpoch,
    journal: Option<Arc<JournalWriter>>,
}

impl Opening<'_> {
    fn open<T: Number>(self) -> Result<(Served<'static>, Arc<JournalWriter>), Failure> {
        let files = JobFiles::beside(Path::new(&self.record.output));
        let simd = self.jobs.resources.simd;
        let plan = self.plan::<T>()?;
        let job = multiply::<T>(&self.disk, &self.inputs, &plan, simd, self.job, &files);
        job.open_outputs(true)
            .map_err(|failure| Failure::retry(failure.cause, failure.text))?;
        // Only now: a run's segment is gone before its output is, so the output that is open is this run's.
        self.check_run(&files)?;
        let journal = match &self.journal {
            Some(journal) => Arc::clone(journal),
            None => Arc::new(JournalWriter::start(self.begin_segment(&files)?)),
        };
        Ok((Served::with_journal(Arc::new(job), Arc::clone(&journal)), journal))
    }

    fn begin_segment(&self, files: &JobFiles) -> Result<SegmentWriter, Failure> {
        let run = RunStart {
            job: self.job,
            epoch: self.run,
            started_unix_ms: super::record::unix_ms(),
            pid: std::process::id(),
        };
        let text = self.description.to_text();
        let segment = SegmentWriter::create_for_worker(&*self.disk, files, &text, &run, self.jobs.worker);
        segment.map_err(|error| {
            let cause = if is_disk_full(&error) {
                Cause::DiskFull
            } else {
                Cause::Storage
            };
            Failure::retry(cause, format!("cannot open a journal beside the output: {error}"))
        })
    }

    /// The stored plan in the memory that is here, with as many threads as that allows.
    fn plan<T: Number>(&self) -> Result<Plan, Failure> {
        let WorkerResources {
            memory_bytes,
            n_threads,
            simd,
        } = self.jobs.resources;
        let only = AlgorithmChoice::Only(self.description.plan.algorithm);
        let halved = std::iter::successors(Some(n_threads), |n| Some(n / 2).filter(|n| *n > 0));
        let mut refused = None;
        for n_threads in halved {
            let resources = Resources {
                memory_bytes,
                n_threads,
                n_workers: 1,
                n_processes: 1,
                assign: Assign::Dynamic,
                simd,
            };
            match resources.plan::<T>(&self.inputs, only, Some(self.description)) {
                Ok(plan) => return Ok(plan),
                Err(error) => refused = Some(error.message),
            }
        }
        Err(Failure::retry(Cause::OutOfMemory, refused.unwrap_or_default()))
    }

    /// The run is the one whose task this is, and no later job has taken its place.
    fn check_run(&self, files: &JobFiles) -> Result<(), Failure> {
        let found = run_of_segment(&*self.disk, files, self.run).map_err(|error| {
            Failure::retry(Cause::Storage, format!("cannot read the run's journal: {error}"))
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
