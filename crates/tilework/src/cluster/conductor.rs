//! One job at its driver: a thread that opens it, holds its folder, and takes the steps that the driver machine asks for, so that
//! reading a large output back never keeps the driver from hearing its workers.

use super::ground::{Ground, request_of};
use super::protocol::{Submit, Submitted, answer};
use super::record::{JobRecord, JobStands, NewJob, PlannedFor, key_of, unix_ms};
use crate::failure::{CliError, Exit};
use crate::product::inputs::{Inputs, Paths};
use crate::product::report::write_plan;
use crate::product::request::{Course, Description, ProductRequest, stored_inputs};
use crate::product::running::{Prepared, Residuals, failed, multiply, prepare, stopped};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::Duration;
use tilework_core::driver::{DriverEvent, JobStart, Needs, WhenFull};
use tilework_core::failure::{JobEnd, StopCause};
use tilework_core::ids::{JobId, RoundIdx, RunEpoch, TaskIdx};
use tilework_linalg::{AlgorithmChoice, Multiply, Number, Plan};
use tilework_nats::{Bucket, Request};
use tilework_runtime::journal_writer::JournalWriter;
use tilework_runtime::steps::{JobSteps, Step, StepWatch};
use tilework_runtime::{FolderState, Job, JobFolder};
use tilework_store::element_type::Dtype;
use tilework_store::journal::{JobFiles, Recovered};

/// Pause before the end of a job is told the cluster again.
const KEEP_PAUSE: Duration = Duration::from_millis(500);

/// How a job comes to its driver.
pub enum Begin {
    /// Somebody asks for it.
    Submitted(Box<Submission>),
    /// Another driver left it.
    TakenOver(Box<JobRecord>),
}

/// A job that is asked for.
pub struct Submission {
    /// What is asked.
    pub submit: Box<Submit>,
    /// The output's name in the cluster.
    pub output: String,
    /// The workers that are there.
    pub planned_for: PlannedFor,
    /// The job that runs to that output already.
    pub running: Option<JobId>,
    /// Who asks.
    pub request: Request,
}

/// What the driver tells a job's thread.
pub enum Order {
    /// Take a step.
    Step(Step),
    /// The run is over.
    End {
        /// How.
        end: JobEnd,
        /// Whether somebody cancelled it.
        cancelled: bool,
        /// What is told of the run beside what the journal knows.
        facts: serde_json::Value,
    },
}

/// What a job's thread tells the driver.
pub enum Told {
    /// It can begin.
    Opened(Box<OpenedJob>),
    /// Its record says how it ended.
    Ended(Box<JobRecord>),
}

/// A job that can begin.
pub struct OpenedJob {
    /// What the machine starts from.
    pub start: JobStart,
    /// As it is stored.
    pub record: JobRecord,
    /// Where its steps are ordered.
    pub orders: Sender<Order>,
    /// Makes its steps stop early.
    pub stop: Arc<AtomicBool>,
    /// What it computes.
    pub kind: String,
    /// Its files.
    pub files: JobFiles,
    /// Tasks kept from earlier runs.
    pub n_resumed: u64,
}

/// Opens a job and conducts it to its end. Returns when it is over, or can't begin.
pub fn conduct(ground: &Ground, begin: Begin, driver: &Sender<Told>, inbox: &Sender<DriverEvent>) {
    match begin {
        Begin::Submitted(submission) => submitted(ground, *submission, driver, inbox),
        Begin::TakenOver(record) => {
            if let Err(error) = take_over(ground, &record, driver, inbox) {
                tracing::error!(
                    output = record.output,
                    "a job can't be taken over: {}",
                    error.message
                );
                end_record(ground, driver, *record, JobStands::Failed, None, Some(error));
            }
        }
    }
}

fn submitted(ground: &Ground, submission: Submission, driver: &Sender<Told>, inbox: &Sender<DriverEvent>) {
    let Submission {
        submit,
        output,
        planned_for,
        running,
        request,
    } = submission;
    let refuse = |request: Request, error| request.answer(answer::<Submitted>(Err(error)));
    let (asked, inputs) = match request_of(ground, &submit, &output, planned_for) {
        Ok(asked) => asked,
        Err(error) => return refuse(request, error),
    };
    if let Some(job) = running {
        let same = same_as_running(ground, &asked, &inputs, job, &output);
        return request.answer(answer(same));
    }
    let conducting = Conducting {
        ground,
        asked,
        inputs,
        driver,
        inbox,
    };
    match conducting.inputs.spec.dtype {
        Dtype::F64 => conducting.submitted::<f64>(&submit, &output, planned_for, request),
        Dtype::F32 => conducting.submitted::<f32>(&submit, &output, planned_for, request),
    }
}

/// Whether what is asked is what runs to that output already.
fn same_as_running(
    ground: &Ground,
    asked: &ProductRequest,
    inputs: &Inputs,
    running: JobId,
    output: &str,
) -> Result<Submitted, CliError> {
    let disk = ground.disk();
    let state = tilework_runtime::folder::inspect(&*disk, &JobFiles::beside(&asked.output))?;
    let cancel_first =
        || format!("wait for it: tilework watch {output}; or end it: tilework cancel {output}");
    if asked.restart {
        return Err(CliError::usage(format!("`{output}` is being computed")).with_next(cancel_first()));
    }
    let course = asked
        .course(&state, &*disk, inputs, &mut Vec::new())
        .map_err(|error| error.with_next(cancel_first()))?;
    match course {
        Course::Resume(description) if description.id() == running => Ok(Submitted {
            job: key_of(running),
            run: 0,
            output: output.to_owned(),
            tasks: description.plan.grid.n_tiles(),
            tasks_resumed: 0,
            was_running: true,
            notes: Vec::new(),
        }),
        _ => Err(CliError::usage(format!("another job computes `{output}`")).with_next(cancel_first())),
    }
}

fn take_over(
    ground: &Ground,
    record: &JobRecord,
    driver: &Sender<Told>,
    inbox: &Sender<DriverEvent>,
) -> Result<(), CliError> {
    let disk = ground.disk();
    let output = PathBuf::from(&record.output);
    let unreadable = |error: serde_json::Error| CliError::new(Exit::JobFailed, error.to_string());
    let description = Description::from_text(record.job_text.as_bytes()).map_err(unreadable)?;
    let request = ProductRequest {
        inputs: stored_inputs(&description, &output, Paths::Named),
        output,
        resources: ground.resources(record.planned_for),
        overwrite: record.may_replace_output,
        restart: false,
        algorithm: AlgorithmChoice::Only(description.plan.algorithm),
    };
    let inputs = request.inputs.open(&disk)?;
    let conducting = Conducting {
        ground,
        asked: request,
        inputs,
        driver,
        inbox,
    };
    match description.spec.dtype {
        Dtype::F64 => conducting.taken_over::<f64>(record, &description),
        Dtype::F32 => conducting.taken_over::<f32>(record, &description),
    }
}

struct Conducting<'a> {
    ground: &'a Ground,
    asked: ProductRequest,
    inputs: Inputs,
    driver: &'a Sender<Told>,
    inbox: &'a Sender<DriverEvent>,
}

/// A job whose run has its number.
struct Begun<'f> {
    folder: &'f JobFolder,
    writer: JournalWriter,
    record: JobRecord,
    committed: Vec<TaskIdx>,
    took_over: bool,
}

impl Conducting<'_> {
    fn submitted<T: Number>(self, submit: &Submit, output: &str, planned_for: PlannedFor, request: Request) {
        let prepared = self
            .asked
            .check_output(&*self.ground.disk(), &self.inputs)
            .and_then(|()| prepare::<T>(&self.ground.disk(), &self.asked, &self.inputs))
            .and_then(|prepared| check_is_of_a_cluster(prepared, output));
        let Prepared {
            mut folder,
            plan,
            description,
            notes,
        } = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return request.answer(answer::<Submitted>(Err(error))),
        };
        let id = description.id();
        let files = folder.files().clone();
        let job = multiply::<T>(
            &self.ground.disk(),
            &self.inputs,
            &plan,
            self.ground.simd,
            id,
            &files,
        );
        let committed = committed_tasks(&folder, plan.grid.n_tiles());
        let n_committed = committed.len() as u64;
        let may_replace = submit.overwrite
            || self
                .ground
                .disk()
                .stat(files.output())
                .is_ok_and(|stat| stat.is_some());
        let started = self
            .after_last_run(id)
            .and_then(|at_least| begin_run(&job, &mut folder, &description, n_committed > 0, at_least));
        let (epoch, writer) = match started {
            Ok(started) => started,
            Err(error) => {
                if n_committed == 0 {
                    folder.abandon();
                }
                return request.answer(answer::<Submitted>(Err(error)));
            }
        };
        let record = JobRecord::new(NewJob {
            job_text: String::from_utf8_lossy(&description.to_text()).into_owned(),
            output: output.to_owned(),
            run: epoch.0,
            assign: submit.assign,
            may_replace_output: may_replace,
            planned_for,
            deadline_unix_ms: submit.deadline_unix_ms,
        });
        if let Err(error) = self.store(&record) {
            return request.answer(answer::<Submitted>(Err(error)));
        }
        let submitted = Submitted {
            job: key_of(id),
            run: epoch.0,
            output: output.to_owned(),
            tasks: plan.grid.n_tiles(),
            tasks_resumed: n_committed,
            was_running: false,
            notes: told_of_plan(&plan, &self.inputs, notes),
        };
        let begun = Begun {
            folder: &folder,
            writer,
            record,
            committed,
            took_over: false,
        };
        let is_done = self.conduct::<T>(begun, &job, &plan, &description, || {
            request.answer(answer(Ok(submitted)));
        });
        if is_done {
            finish(folder);
        }
    }

    fn taken_over<T: Number>(self, record: &JobRecord, description: &Description) -> Result<(), CliError> {
        let disk = self.ground.disk();
        let mut folder = JobFolder::take_over(Arc::clone(&disk), &self.asked.output)?;
        let plan = self
            .asked
            .resources
            .plan::<T>(&self.inputs, self.asked.algorithm, Some(description))?;
        match folder.state() {
            FolderState::Finished(recovered) if is_job(recovered, description) => {
                finish(folder);
                // Who did what, only the driver before knew.
                self.tell_end(record.clone(), &plan, JobEnd::Done, false, json!({}));
                return Ok(());
            }
            FolderState::Unfinished(recovered) if is_job(recovered, description) => {}
            _ => {
                return Err(CliError::new(
                    Exit::JobFailed,
                    format!("what was begun of `{}` is gone", record.output),
                )
                .with_next("submit it again"));
            }
        }
        let files = folder.files().clone();
        let id = description.id();
        let job = multiply::<T>(&disk, &self.inputs, &plan, self.ground.simd, id, &files);
        let committed = committed_tasks(&folder, plan.grid.n_tiles());
        let after_last = RunEpoch(record.run + 1);
        let (epoch, writer) = begin_run(&job, &mut folder, description, true, after_last)?;
        let mut record = record.clone();
        record.run = epoch.0;
        self.store(&record)?;
        let begun = Begun {
            folder: &folder,
            writer,
            record,
            committed,
            took_over: true,
        };
        if self.conduct::<T>(begun, &job, &plan, description, || ()) {
            finish(folder);
        }
        Ok(())
    }

    /// Workers know a run by its job and number, also one whose files somebody has removed since.
    fn after_last_run(&self, job: JobId) -> Result<RunEpoch, CliError> {
        let key = key_of(job);
        let entry = self.ground.control.get(Bucket::Jobs, &key);
        let entry = entry.map_err(|error| super::joining::unanswered(&error))?;
        let record = entry.and_then(|entry| JobRecord::from_bytes(&key, &entry.value).ok());
        Ok(RunEpoch(record.map_or(0, |record| record.run + 1)))
    }

    fn store(&self, record: &JobRecord) -> Result<(), CliError> {
        let stored = self
            .ground
            .control
            .put(Bucket::Jobs, &key_of(record.id()), &record.to_bytes());
        stored.map(drop).map_err(|error| {
            CliError::new(
                Exit::Unreachable,
                format!("the job can't be kept in the cluster: {error}"),
            )
            .with_next("submit it again; see `tilework doctor`")
        })
    }

    /// Takes steps until the run is over; whether the output is complete.
    fn conduct<T: Number>(
        &self,
        begun: Begun<'_>,
        job: &Multiply<T>,
        plan: &Plan,
        description: &Description,
        on_begun: impl FnOnce(),
    ) -> bool {
        let Begun {
            folder,
            writer,
            record,
            committed,
            took_over,
        } = begun;
        let (id, epoch) = (description.id(), RunEpoch(record.run));
        let (orders, at_orders) = std::sync::mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let n_resumed = committed.len() as u64;
        let start = JobStart {
            job: id,
            epoch,
            adopts_from: RunEpoch(record.adopts_from),
            round: RoundIdx(0),
            n_tasks: job.n_tasks(),
            needs: Needs {
                // What is compared with the memory of a whole process.
                memory_bytes: self.asked.resources.bytes_needed::<T>(&self.inputs, plan),
                expected_ms: job.needs().expected_ms,
            },
            committed,
            // Nobody knows what other machines left in the file: all of it is read back.
            resumed: true,
            took_over,
            one_machine: false,
            assign: record.assign.with(record.planned_for.workers),
            backups: true,
            when_full: WhenFull::Stop,
            deadline: None,
        };
        let opened = OpenedJob {
            start,
            record: record.clone(),
            orders,
            stop: Arc::clone(&stop),
            kind: description.kind.clone(),
            files: folder.files().clone(),
            n_resumed,
        };
        if self.driver.send(Told::Opened(Box::new(opened))).is_err() {
            return false;
        }
        // The driver looks for it at its next event.
        let _ = self.inbox.send(DriverEvent::Tick);
        on_begun();
        let watch = Watch {
            stop,
            leads: &*self.ground.leads,
        };
        let mut steps = JobSteps {
            job,
            disk: Arc::clone(folder.disk()),
            files: folder.files().clone(),
            journal: writer.handle(),
            id,
            epoch,
            n_tasks: job.n_tasks(),
            may_replace_output: record.may_replace_output,
            n_verifiers: thread::available_parallelism().map_or(1, usize::from),
            watch: &watch,
        };
        let ended = take_steps(&mut steps, &at_orders, self.inbox);
        drop(steps);
        drop(writer);
        let Some((end, cancelled, facts)) = ended else {
            // This driver drives no more: the next one goes on.
            return false;
        };
        let is_done = end == JobEnd::Done;
        self.tell_end(record, plan, end, cancelled, facts);
        is_done
    }

    fn tell_end(
        &self,
        record: JobRecord,
        plan: &Plan,
        end: JobEnd,
        cancelled: bool,
        facts: serde_json::Value,
    ) {
        let output = Path::new(&record.output);
        let (stands, report, error) = match end {
            JobEnd::Done => {
                let report = self.report(&record, plan, &facts);
                (JobStands::Done, Some(report), None)
            }
            JobEnd::Stopped(_) if cancelled => {
                let error = CliError::new(Exit::Cancelled, "cancelled: what was committed is kept")
                    .with_next(format!("go on with: tilework resume {}", output.display()));
                (JobStands::Cancelled, None, Some(error))
            }
            JobEnd::Stopped(cause) => (JobStands::Stopped, None, Some(stopped(cause, output, None))),
            JobEnd::Failed(failure) => (JobStands::Failed, None, Some(failed(&failure, output))),
        };
        let error = error.map(|error| error.with_facts(facts));
        end_record(self.ground, self.driver, record, stands, report, error);
    }

    /// What is told of a finished product: the names are those of one machine's report.
    fn report(&self, record: &JobRecord, plan: &Plan, facts: &serde_json::Value) -> serde_json::Value {
        let disk = self.ground.disk();
        let files = JobFiles::beside(Path::new(&record.output));
        let recovered = tilework_store::journal::recover(&*disk, &files);
        let recovered = recovered.ok().flatten().map(|(recovered, _)| recovered);
        let residuals = recovered.as_ref().map(Residuals::of).unwrap_or_default();
        let seconds = unix_ms().saturating_sub(record.submitted_unix_ms) as f64 / 1e3;
        let spec = &self.inputs.spec;
        let mut report = json!({
            "job": spec.kind(),
            "status": "done",
            "id": key_of(record.id()),
            "output": record.output,
            "m": plan.grid.m,
            "n": plan.grid.n,
            "k": plan.k,
            "dtype": spec.dtype.to_string(),
            "alpha": spec.alpha,
            "beta": spec.beta,
            "seconds": seconds,
            "gflops": plan.flops() / seconds.max(1e-3) / 1e9,
            "tasks": plan.grid.n_tiles(),
            "residual_max": residuals.max,
            "residual_bound": residuals.bound,
            "algorithm": plan.layout.algorithm.to_string(),
        });
        if let (Some(report), Some(facts)) = (report.as_object_mut(), facts.as_object()) {
            report.extend(facts.clone());
        }
        for worker in report["workers"].as_array_mut().into_iter().flatten() {
            let commits = recovered.iter().flat_map(|recovered| recovered.commits.values());
            let number = worker["worker"].as_u64();
            let its = commits.filter(|commit| Some(commit.worker.0.into()) == number);
            let seconds: f64 = its.map(|commit| commit.seconds).sum();
            worker["seconds_busy"] = json!(seconds);
        }
        report
    }
}

/// How a run ended, whether somebody cancelled it, and what is told of it.
type Ended = (JobEnd, bool, serde_json::Value);

fn take_steps<J: Job>(
    steps: &mut JobSteps<'_, J>,
    orders: &Receiver<Order>,
    inbox: &Sender<DriverEvent>,
) -> Option<Ended> {
    for order in orders {
        match order {
            Order::Step(step) => {
                let _ = inbox.send(steps.take(step));
            }
            Order::End {
                end,
                cancelled,
                facts,
            } => return Some((end, cancelled, facts)),
        }
    }
    None
}

struct Watch<'a> {
    stop: Arc<AtomicBool>,
    leads: &'a (dyn Fn() -> bool + Send + Sync),
}

impl StepWatch for Watch<'_> {
    fn stop_requested(&self) -> Option<StopCause> {
        self.stop
            .load(Ordering::Relaxed)
            .then_some(StopCause::Interrupted)
    }

    fn on_damaged_output(&self, task: TaskIdx) {
        tracing::warn!(task = task.0, "the stored tile is damaged and is computed again");
    }

    fn may_finish(&self) -> bool {
        (self.leads)()
    }

    fn report(&self, recovered: &Recovered) -> Vec<u8> {
        let Residuals { max, bound } = Residuals::of(recovered);
        json!({ "residual_max": max, "residual_bound": bound })
            .to_string()
            .into_bytes()
    }
}

/// Workers find inputs by the names in the description: one of a single machine has other paths.
fn check_is_of_a_cluster(prepared: Prepared, output: &str) -> Result<Prepared, CliError> {
    if prepared.description.output.as_deref() == Some(output) {
        return Ok(prepared);
    }
    let message = match &prepared.description.output {
        None => format!("the unfinished `{output}` was begun on one machine, without a cluster"),
        Some(other) => format!("the unfinished `{output}` was begun under the name `{other}`"),
    };
    Err(CliError::usage(message)
        .with_next("finish it there: tilework resume; or discard it: add --restart to the command"))
}

fn is_job(recovered: &Recovered, description: &Description) -> bool {
    recovered.job_text.as_deref() == Some(&description.to_text()[..])
}

fn committed_tasks(folder: &JobFolder, n_tasks: u64) -> Vec<TaskIdx> {
    match folder.state() {
        FolderState::Unfinished(recovered) => {
            let tasks = recovered.commits.keys().map(|(_, task)| *task);
            tasks.filter(|task| task.0 < n_tasks).collect()
        }
        FolderState::Empty | FolderState::Finished(_) => Vec::new(),
    }
}

/// Opens the output and the run's segment; in this order, so that whoever sees the segment sees this run's output.
fn begin_run<J: Job>(
    job: &J,
    folder: &mut JobFolder,
    description: &Description,
    resumed: bool,
    at_least: RunEpoch,
) -> Result<(RunEpoch, JournalWriter), CliError> {
    if !resumed {
        folder.discard()?;
    }
    job.open_outputs(resumed)?;
    let (epoch, segment) = folder
        .start_run(at_least, &description.to_text(), unix_ms())
        .map_err(|error| CliError::io("start the journal in", &folder.files().folder(), &error))?;
    Ok((epoch, JournalWriter::start(segment)))
}

fn finish(folder: JobFolder) {
    if let Err(error) = folder.finish() {
        tracing::warn!(%error, "the folder of a finished job keeps its lock file");
    }
}

fn told_of_plan(plan: &Plan, inputs: &Inputs, notes: Vec<String>) -> Vec<String> {
    let mut text = Vec::new();
    let written = write_plan(&mut text, plan, inputs);
    let plan = written
        .is_ok()
        .then(|| String::from_utf8_lossy(&text).trim_end().to_owned());
    let notes = inputs
        .notes
        .iter()
        .cloned()
        .chain(notes)
        .map(|note| format!("note: {note}"));
    plan.into_iter().chain(notes).collect()
}

fn end_record(
    ground: &Ground,
    driver: &Sender<Told>,
    record: JobRecord,
    stands: JobStands,
    report: Option<serde_json::Value>,
    error: Option<CliError>,
) {
    let mut record = record;
    record.stands = stands;
    record.ended_unix_ms = Some(unix_ms());
    record.report = report;
    record.failure = error.map(Into::into);
    // A driver that does not lead any more says nothing: the next one sees at the output how far it is.
    if keep_end(ground, &record) {
        let _ = driver.send(Told::Ended(Box::new(record)));
    }
}

/// Keeps how a job ended, for as long as it takes, unless another driver has gone on with it.
fn keep_end(ground: &Ground, record: &JobRecord) -> bool {
    let key = key_of(record.id());
    let try_once = || {
        let entry = ground.control.get(Bucket::Jobs, &key)?;
        let (revision, last_run) = entry.map_or((0, 0), |entry| {
            let kept = JobRecord::from_bytes(&key, &entry.value);
            (entry.revision, kept.map_or(0, |kept| kept.run))
        });
        if last_run > record.run {
            return Ok(false);
        }
        let kept = ground
            .control
            .set(Bucket::Jobs, &key, &record.to_bytes(), revision);
        kept.map(|_| true)
    };
    while (ground.leads)() {
        match try_once() {
            Ok(is_ours) => return is_ours,
            Err(error) => tracing::warn!(job = key, %error, "the end of a job is not kept yet"),
        }
        thread::sleep(KEEP_PAUSE);
    }
    false
}
