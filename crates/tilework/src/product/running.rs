//! From request to report.

use super::inputs::Inputs;
use super::report::ProductReport;
use super::request::{Course, Description, ProductRequest, describe};
use crate::failure::{CliError, Exit};
use serde_json::json;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tilework_core::failure::{Cause, Failure, JobEnd, StopCause};
use tilework_core::ids::JobId;
use tilework_core::record::Commit;
use tilework_kernel::Simd;
use tilework_linalg::multiply::{MultiplySettings, is_computed_with};
use tilework_linalg::{Multiply, MultiplySpec, Number, Plan};
use tilework_runtime::{FolderState, Job, JobFolder, Observer, RunOptions, RunReport, StopSwitch, run};
use tilework_store::disk::Disk;
use tilework_store::element_type::Dtype;
use tilework_store::journal::{JobFiles, Recovered};

/// What a run is told, and tells, while it goes on.
pub trait Audience {
    /// The plan is made; work begins. `n_committed` tasks are kept from earlier runs.
    fn on_plan(&self, plan: &Plan, inputs: &Inputs, n_committed: u64);
    /// Something worth knowing.
    fn on_note(&self, note: &str);
    /// Who watches the run.
    fn observer(&self) -> &dyn Observer;
}

/// Computes the product.
///
/// `started` is when the process began; seconds are counted from there.
pub fn compute(
    disk: &Arc<dyn Disk>,
    request: &ProductRequest,
    stop: &StopSwitch,
    audience: &dyn Audience,
    started: Instant,
) -> Result<ProductReport, CliError> {
    let inputs = request.inputs.open(disk)?;
    inputs.notes.iter().for_each(|note| audience.on_note(note));
    request.check_output(&**disk, &inputs)?;
    match inputs.spec.dtype {
        Dtype::F64 => compute_as::<f64>(disk, request, inputs, stop, audience, started),
        Dtype::F32 => compute_as::<f32>(disk, request, inputs, stop, audience, started),
    }
}

fn compute_as<T: Number>(
    disk: &Arc<dyn Disk>,
    request: &ProductRequest,
    inputs: Inputs,
    stop: &StopSwitch,
    audience: &dyn Audience,
    started: Instant,
) -> Result<ProductReport, CliError> {
    let Prepared {
        mut folder,
        plan,
        description,
        notes,
    } = prepare::<T>(disk, request, &inputs)?;
    notes.iter().for_each(|note| audience.on_note(note));
    audience.on_plan(&plan, &inputs, folder.n_committed());
    let outcome = run_job::<T>(
        disk,
        request,
        &inputs,
        &mut folder,
        &plan,
        &description,
        stop,
        audience,
    );
    let error = match &outcome.run.end {
        JobEnd::Done => {
            finish(folder, audience.observer());
            return Ok(outcome.report(plan, inputs.spec, started));
        }
        JobEnd::Stopped(cause) => stopped(*cause, &request.output, folder_after(disk, request)),
        JobEnd::Failed(failure) => {
            let begun = is_begun(&folder);
            if !begun || (outcome.run.n_tasks_run == 0 && failure.cause == Cause::DiskFull) {
                folder.abandon();
            }
            failed(failure, &request.output, begun)
        }
    };
    let alarms = &outcome.run.alarms;
    Err(error.with_facts(json!({ "alarms": alarms.latest, "alarms_total": alarms.n_alarms })))
}

/// A product that may begin.
#[derive(Debug)]
pub struct Prepared {
    /// Its folder, locked.
    pub folder: JobFolder,
    /// How it is split.
    pub plan: Plan,
    /// What the journal will say of it.
    pub description: Description,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// Refuses whatever can be refused before the folder exists; then the same again under the lock.
pub fn prepare<T: Number>(
    disk: &Arc<dyn Disk>,
    request: &ProductRequest,
    inputs: &Inputs,
) -> Result<Prepared, CliError> {
    let mut notes = Vec::new();
    let state = tilework_runtime::folder::inspect(&**disk, &JobFiles::beside(&request.output))?;
    let course = request.course(&state, &**disk, inputs, &mut notes)?;
    request.check_disk(&**disk, &plan_of::<T>(request, inputs, &course)?, inputs)?;
    let mut folder = JobFolder::open(Arc::clone(disk), &request.output)?;
    let course = request.course(folder.state(), &**disk, inputs, &mut Vec::new())?;
    let plan = plan_of::<T>(request, inputs, &course)?;
    let description = match course {
        Course::Fresh => {
            folder.discard()?;
            describe(inputs, &plan, &request.output)?
        }
        Course::Resume(description) => *description,
    };
    Ok(Prepared {
        folder,
        plan,
        description,
        notes,
    })
}

fn plan_of<T: Number>(request: &ProductRequest, inputs: &Inputs, course: &Course) -> Result<Plan, CliError> {
    let stored = match course {
        Course::Fresh => None,
        Course::Resume(description) => Some(&**description),
    };
    request.resources.plan::<T>(inputs, request.algorithm, stored)
}

/// Largest residual relative to its bound over all commits of a job.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Residuals {
    pub(crate) max: f64,
    pub(crate) bound: f64,
}

impl Residuals {
    pub(crate) fn of(recovered: &Recovered) -> Residuals {
        let share = |residuals: &Residuals| {
            if residuals.bound > 0.0 {
                residuals.max / residuals.bound
            } else {
                -1.0
            }
        };
        let commits = recovered.commits.values().map(|commit| Residuals {
            max: commit.residual,
            bound: commit.residual_bound,
        });
        commits
            .max_by(|one, two| share(one).total_cmp(&share(two)))
            .unwrap_or_default()
    }
}

/// The job of a planned product.
pub(crate) fn multiply<T: Number>(
    disk: &Arc<dyn Disk>,
    inputs: &Inputs,
    plan: &Plan,
    simd: Simd,
    id: JobId,
    files: &JobFiles,
) -> Multiply<T> {
    let settings = MultiplySettings {
        plan: plan.clone(),
        simd,
        job: id,
        partial: files.partial(),
        guard: inputs.guard.clone(),
        formula: inputs.formula.clone(),
    };
    Multiply::new(Arc::clone(disk), inputs.a.clone(), inputs.b.clone(), settings)
}

/// What all commits of a job tell together.
#[derive(Debug, Clone, Copy, Default)]
struct Committed {
    residuals: Residuals,
    n_tiles_fallen_back: u64,
}

impl Committed {
    fn of(recovered: &Recovered, plan: &Plan) -> Committed {
        let as_planned = |commit: &&Commit| is_computed_with(commit, plan.layout.algorithm);
        let n_as_planned = recovered.commits.values().filter(as_planned).count();
        Committed {
            residuals: Residuals::of(recovered),
            n_tiles_fallen_back: (recovered.commits.len() - n_as_planned) as u64,
        }
    }
}

/// What a run leaves to be told.
struct Outcome {
    run: RunReport,
    committed: Committed,
    bytes_read: u64,
    bytes_written: u64,
}

#[expect(
    clippy::too_many_arguments,
    reason = "the one place where all parts of a run meet"
)]
fn run_job<T: Number>(
    disk: &Arc<dyn Disk>,
    request: &ProductRequest,
    inputs: &Inputs,
    folder: &mut JobFolder,
    plan: &Plan,
    description: &Description,
    stop: &StopSwitch,
    audience: &dyn Audience,
) -> Outcome {
    let (simd, id) = (request.resources.simd, description.id());
    let job = Arc::new(multiply::<T>(disk, inputs, plan, simd, id, folder.files()));
    let options = RunOptions {
        n_workers: request.resources.n_workers as u32,
        memory_bytes: request.resources.n_workers as u64 * job.needs().memory_bytes,
        assign: request.resources.assign,
        stop: stop.clone(),
        // What is there now was there when the user said --overwrite, by this run or by the one that it resumes.
        may_replace_output: request.overwrite || disk.stat(&request.output).is_ok_and(|stat| stat.is_some()),
    };
    let committed = Mutex::new(Committed::default());
    let report = |recovered: &Recovered| {
        let found = Committed::of(recovered, plan);
        *committed.lock().unwrap_or_else(PoisonError::into_inner) = found;
        let Residuals { max, bound } = found.residuals;
        let report = json!({ "residual_max": max, "residual_bound": bound });
        report.to_string().into_bytes()
    };
    let run = run(
        &job,
        &description.to_text(),
        folder,
        &options,
        audience.observer(),
        &report,
    );
    Outcome {
        run,
        committed: committed.into_inner().unwrap_or_else(PoisonError::into_inner),
        bytes_read: inputs.bytes_read(),
        bytes_written: job.bytes_written(),
    }
}

impl Outcome {
    fn report(&self, plan: Plan, spec: MultiplySpec, started: Instant) -> ProductReport {
        ProductReport {
            job: spec.kind(),
            spec,
            seconds: started.elapsed().as_secs_f64(),
            n_tasks_run: self.run.n_tasks_run,
            n_tasks_resumed: self.run.n_tasks_resumed,
            n_retries: self.run.n_retries,
            bytes_read: self.bytes_read,
            bytes_written: self.bytes_written,
            memory_peak_bytes: crate::product::report::memory_peak_bytes(),
            residual_max: self.committed.residuals.max,
            residual_bound: self.committed.residuals.bound,
            n_tiles_fallen_back: self.committed.n_tiles_fallen_back,
            alarms: self.run.alarms.clone(),
            workers: self.run.workers.clone(),
            plan,
        }
    }
}

/// Tasks committed by now, of all.
fn folder_after(disk: &Arc<dyn Disk>, request: &ProductRequest) -> Option<usize> {
    let files = JobFiles::beside(&request.output);
    let (recovered, _) = tilework_store::journal::recover(&**disk, &files).ok()??;
    Some(recovered.commits.len())
}

pub(crate) fn stopped(cause: StopCause, output: &Path, n_committed: Option<usize>) -> CliError {
    let (exit, why) = match cause {
        StopCause::Interrupted => (Exit::Interrupted, "interrupted"),
        StopCause::TimeLimit => (Exit::TimeLimit, "stopped by the time limit"),
    };
    let kept = n_committed.map_or(String::new(), |count| {
        format!("; {count} committed tasks are kept")
    });
    CliError::new(exit, format!("{why}{kept}"))
        .with_next(format!("go on with: tilework resume {}", output.display()))
}

/// Lets go of a finished job's folder; the job is done, whatever the disk says of the lock.
pub(crate) fn finish(folder: JobFolder, observer: &dyn Observer) {
    if let Err(error) = folder.finish() {
        observer.on_note(&format!("the lock stays: {error}"));
    }
}

/// Whether the journal speaks of a job, so that `resume` finds it.
pub(crate) fn is_begun(folder: &JobFolder) -> bool {
    let found = tilework_runtime::folder::inspect(&**folder.disk(), folder.files());
    !matches!(found, Ok(FolderState::Empty))
}

/// A run that failed; `begun` says whether [`is_begun`] something that may be gone on with.
pub(crate) fn failed(failure: &Failure, output: &Path, begun: bool) -> CliError {
    let go_on = if begun {
        format!("tilework resume {}", output.display())
    } else {
        "the same command again".to_owned()
    };
    let (exit, next) = match failure.cause {
        Cause::DiskFull => (Exit::Resources, format!("make room, then: {go_on}")),
        Cause::OutOfMemory => (
            Exit::Resources,
            format!("allow less with --memory or --threads, then: {go_on}"),
        ),
        Cause::InputChanged => (
            Exit::Usage,
            format!("put the input back, then: {go_on}; or start again with --restart"),
        ),
        _ if begun => (
            Exit::JobFailed,
            format!("what was committed is kept; try again: {go_on}"),
        ),
        _ => (Exit::JobFailed, format!("nothing was begun; try {go_on}")),
    };
    CliError {
        exit,
        ..CliError::from(failure.clone())
    }
    .with_next(next)
}
