//! A job that somebody asks for: it begins, goes on where an earlier run stopped, or is refused with the reason.

use super::conductor::{Begun, Conducting, leads_no_more};
use super::ground::{Ground, request_of};
use super::keeping::{Kept, after_last_run, keep};
use super::protocol::{Submit, Submitted, answer};
use super::record::{JobRecord, NewJob, PlannedFor, key_of};
use super::to_host::ToHost;
use crate::failure::{CliError, Exit};
use crate::product::inputs::Inputs;
use crate::product::report::write_plan;
use crate::product::request::{Course, ProductRequest};
use crate::product::running::{Prepared, multiply, prepare};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tilework_core::ids::JobId;
use tilework_linalg::{Number, Plan};
use tilework_nats::Request;
use tilework_store::element_type::Dtype;
use tilework_store::journal::JobFiles;

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

/// Answers who asks, and conducts the job to its end if it begins.
pub(super) fn submitted(ground: &Ground, submission: Submission, stop: Arc<AtomicBool>, to_host: &ToHost) {
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
        stop,
        to_host,
    };
    let submission = ToBegin {
        submit: &submit,
        output: &output,
        planned_for,
    };
    match conducting.inputs.spec.dtype {
        Dtype::F64 => conducting.begin::<f64>(submission, request),
        Dtype::F32 => conducting.begin::<f32>(submission, request),
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

struct ToBegin<'a> {
    submit: &'a Submit,
    output: &'a str,
    planned_for: PlannedFor,
}

impl Conducting<'_> {
    fn begin<T: Number>(self, submission: ToBegin<'_>, request: Request) {
        let (begun, submitted) = match self.try_begin::<T>(submission) {
            Ok(begun) => begun,
            Err(error) => return request.answer(answer::<Submitted>(Err(error))),
        };
        self.conduct(begun, || request.answer(answer(Ok(submitted))));
    }

    fn try_begin<T: Number>(&self, submission: ToBegin<'_>) -> Result<(Begun<T>, Submitted), CliError> {
        let ToBegin {
            submit,
            output,
            planned_for,
        } = submission;
        let disk = self.ground.disk();
        self.asked.check_output(&*disk, &self.inputs)?;
        self.check_leads()?;
        let prepared = prepare::<T>(&disk, &self.asked, &self.inputs)?;
        let Prepared {
            mut folder,
            plan,
            description,
            notes,
        } = check_is_of_a_cluster(prepared, output)?;
        let id = description.id();
        let files = folder.files().clone();
        let job = multiply::<T>(&disk, &self.inputs, &plan, self.ground.simd, id, &files);
        let committed = folder.committed_tasks(plan.grid.n_tiles());
        let n_committed = committed.len() as u64;
        let may_replace_output =
            submit.overwrite || disk.stat(files.output()).is_ok_and(|stat| stat.is_some());
        let started = after_last_run(self.ground, id)
            .and_then(|at_least| self.begin_run(&job, &mut folder, &description, n_committed > 0, at_least));
        let (epoch, writer) = match started {
            Ok(started) => started,
            Err(error) => {
                if n_committed == 0 {
                    folder.abandon();
                }
                return Err(error);
            }
        };
        let record = JobRecord::new(NewJob {
            job_text: String::from_utf8_lossy(&description.to_text()).into_owned(),
            output: output.to_owned(),
            run: epoch.0,
            inputs: self.inputs.identities()?,
            assign: submit.assign,
            may_replace_output,
            planned_for,
            deadline_unix_ms: submit.deadline_unix_ms,
        });
        match keep(self.ground, &record) {
            Kept::Yes => {}
            Kept::NotOurs => return Err(leads_no_more()),
            Kept::Refused(error) => {
                let message = format!("the job can't be kept in the cluster: {error}");
                return Err(CliError::new(Exit::Unreachable, message)
                    .with_next("submit it again; see `tilework doctor`"));
            }
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
            folder,
            writer,
            record,
            committed,
            took_over: false,
            job,
            plan,
            description,
        };
        Ok((begun, submitted))
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
