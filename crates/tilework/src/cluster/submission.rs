//! A job that somebody asks for: it begins, goes on where an earlier run stopped, or is refused with the reason.

use super::board::JobOnBoard;
use super::conductor::{Begun, Conducting, Resumed, leads_no_more};
use super::ground::{Ground, name_of, request_of, request_to_resume};
use super::joining::unanswered;
use super::keeping::{Kept, after_last_run, keep};
use super::protocol::{JobWanted, Submit, Submitted, Wanted, answer};
use super::record::{JobRecord, NewJob, PlannedFor, key_of, unix_ms};
use super::to_host::ToHost;
use super::undertaking::{OwnJob, Product, Undertaking, kind_of};
use crate::failure::{CliError, Exit};
use crate::job::kinds::Kinds;
use crate::job::running::{Description, Destination, another_job, describe, version_difference};
use crate::job_state::is_product;
use crate::product::inputs::Inputs;
use crate::product::request::{Course, ProductRequest};
use crate::product::running::{Prepared, prepare};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tilework_core::ids::JobId;
use tilework_linalg::Number;
use tilework_nats::{Bucket, Request};
use tilework_runtime::{FolderState, Job, JobFolder, folder};
use tilework_store::element_type::Dtype;
use tilework_store::journal::JobFiles;
use tilework_store::journal::recover::job_id;

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
    /// The last one that ended there.
    pub ended: Option<JobOnBoard>,
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
        ended,
        request,
    } = submission;
    if let Some(answered) = answered_before(ground, ended, &submit).transpose() {
        return request.answer(answer(answered));
    }
    let conducting = Conducting {
        ground,
        output: PathBuf::from(&output),
        stop,
        to_host,
    };
    let to_begin = ToBegin {
        submit: &submit,
        output: &output,
        planned_for,
        running,
    };
    let asked = match &submit.wanted {
        Wanted::Product(wanted) => {
            request_of(ground, wanted, &submit, &output, planned_for).map(Asked::product)
        }
        Wanted::Job(wanted) => AskedJob::new(ground, wanted, &submit, &output).map(Asked::Job),
        Wanted::Unfinished => unfinished(ground, &to_begin),
    };
    match asked {
        Ok(Asked::Product(asked)) => match asked.inputs.spec.dtype {
            Dtype::F64 => conducting.begin::<Product<f64>>(*asked, to_begin, request),
            Dtype::F32 => conducting.begin::<Product<f32>>(*asked, to_begin, request),
        },
        Ok(Asked::Job(asked)) => conducting.begin(asked, to_begin, request),
        Err(error) => request.answer(answer::<Submitted>(Err(error))),
    }
}

/// What was asked for before, by somebody who did not hear the answer, and has ended meanwhile: done twice, a sum would be wrong.
fn answered_before(
    ground: &Ground,
    ended: Option<JobOnBoard>,
    submit: &Submit,
) -> Result<Option<Submitted>, CliError> {
    let Some(ended) = ended.filter(|_| !submit.token.is_empty()) else {
        return Ok(None);
    };
    let entry = ground.control.get(Bucket::Jobs, &ended.id);
    let entry = entry.map_err(|error| unanswered(&error))?;
    let record = entry.and_then(|entry| JobRecord::from_bytes(&ended.id, &entry.value).ok());
    let is_same = record.is_some_and(|record| record.token == submit.token);
    Ok(is_same.then(|| Submitted::running(&ended)))
}

/// What is asked for, understood.
enum Asked {
    Product(Box<AskedProduct>),
    Job(AskedJob),
}

impl Asked {
    fn product((request, inputs): (ProductRequest, Inputs)) -> Asked {
        Asked::Product(Box::new(AskedProduct { request, inputs }))
    }
}

/// Where a job is to begin, and for whom.
struct ToBegin<'a> {
    submit: &'a Submit,
    output: &'a str,
    planned_for: PlannedFor,
    running: Option<JobId>,
}

/// Something asked for that becomes an undertaking.
trait Asking<U: Undertaking> {
    /// Whether it is what runs to that output already; then its tasks.
    fn is_running(&self, ground: &Ground, running: JobId) -> Result<Option<u64>, CliError>;
    /// Whether it may begin: nothing is touched.
    fn check(&self, ground: &Ground) -> Result<(), CliError>;
    /// Makes it ready to begin or to go on, in its folder.
    fn claim(self, ground: &Ground, output: &str) -> Result<(JobFolder, U), CliError>;
}

struct AskedProduct {
    request: ProductRequest,
    inputs: Inputs,
}

impl<T: Number> Asking<Product<T>> for AskedProduct {
    fn is_running(&self, ground: &Ground, running: JobId) -> Result<Option<u64>, CliError> {
        let (disk, asked) = (ground.disk(), &self.request);
        let state = folder::inspect(&*disk, &JobFiles::beside(&asked.output))?;
        match asked.course(&state, &*disk, &self.inputs, &mut Vec::new())? {
            Course::Resume(description) if description.id() == running => {
                Ok(Some(description.plan.grid.n_tiles()))
            }
            _ => Ok(None),
        }
    }

    fn check(&self, ground: &Ground) -> Result<(), CliError> {
        self.request.check_output(&*ground.disk(), &self.inputs)
    }

    fn claim(self, ground: &Ground, output: &str) -> Result<(JobFolder, Product<T>), CliError> {
        let prepared = prepare::<T>(&ground.disk(), &self.request, &self.inputs)?;
        let Prepared {
            folder,
            plan,
            description,
            notes,
        } = check_is_of_a_cluster(prepared, output)?;
        let product = Product::planned(ground, self.request, self.inputs, plan, description, notes);
        Ok((folder, product))
    }
}

struct AskedJob {
    destination: Destination,
    fresh: Description,
}

impl AskedJob {
    fn new(ground: &Ground, wanted: &JobWanted, submit: &Submit, output: &str) -> Result<AskedJob, CliError> {
        let kind = kind_of(ground, &wanted.kind, wanted.version)?;
        let spec = kind.read(wanted.spec.clone())?;
        let named = |path: &Path| name_of(&ground.roots, &path.to_string_lossy());
        let spec = kind.read(spec.with_inputs_named(&named)?)?;
        let fresh = describe(kind, &spec, &*ground.disk(), Some(output.to_owned()))?;
        Ok(AskedJob {
            destination: Destination {
                output: PathBuf::from(output),
                overwrite: submit.overwrite,
                restart: submit.restart,
            },
            fresh,
        })
    }
}

impl Asking<OwnJob> for AskedJob {
    fn is_running(&self, ground: &Ground, running: JobId) -> Result<Option<u64>, CliError> {
        let disk = ground.disk();
        let state = folder::inspect(&*disk, &JobFiles::beside(&self.destination.output))?;
        let stored = self.destination.to_go_on_with(&state, &self.fresh, &*disk)?;
        Ok(stored.filter(|stored| stored.id() == running).map(|_| 0))
    }

    fn check(&self, ground: &Ground) -> Result<(), CliError> {
        // Whatever is wrong with the spec, before anything is written.
        let output = self.destination.output.clone();
        OwnJob::stored(ground, self.fresh.clone(), output)?
            .start()
            .map(drop)
    }

    fn claim(self, ground: &Ground, _output: &str) -> Result<(JobFolder, OwnJob), CliError> {
        let (folder, description) = self.destination.claim(&ground.disk(), self.fresh)?;
        let job = OwnJob::stored(ground, description, self.destination.output)?;
        Ok((folder, job))
    }
}

/// What goes on with what the journal beside the output says.
fn unfinished(ground: &Ground, to_begin: &ToBegin<'_>) -> Result<Asked, CliError> {
    let ToBegin {
        submit,
        output,
        planned_for,
        ..
    } = to_begin;
    let path = PathBuf::from(output);
    let state = folder::inspect(&*ground.disk(), &JobFiles::beside(&path))?;
    let stored = match &state {
        FolderState::Unfinished(recovered) => recovered.job_text.as_deref(),
        FolderState::Empty | FolderState::Finished(_) => None,
    };
    // What can't be read is refused where products are.
    let stored = stored.and_then(|text| Description::from_text(text).ok());
    match stored.filter(|stored| !is_product(&stored.kind)) {
        Some(stored) => {
            check_version(ground.kinds, &stored, &path)?;
            let job = OwnJob::stored(ground, stored, path.clone())?;
            let disk = ground.disk();
            Ok(Asked::Job(AskedJob {
                destination: Destination {
                    output: path,
                    overwrite: false,
                    restart: false,
                },
                fresh: describe(job.kind, &job.spec, &*disk, Some((*output).to_owned()))?,
            }))
        }
        None => request_to_resume(ground, submit, output, *planned_for).map(Asked::product),
    }
}

/// An unfinished job goes on with code of the version that began it.
fn check_version(kinds: &Kinds, stored: &Description, output: &Path) -> Result<(), CliError> {
    let known = kinds.iter().find(|kind| kind.name() == stored.kind);
    let difference = known.and_then(|kind| version_difference(stored.version, kind.version()));
    difference.map_or(Ok(()), |difference| Err(another_job(output, &[difference])))
}

impl Conducting<'_> {
    fn begin<U: Undertaking>(self, asked: impl Asking<U>, to_begin: ToBegin<'_>, request: Request) {
        if let Some(running) = to_begin.running {
            let same = self.same_as_running(&asked, running, &to_begin);
            return request.answer(answer(same));
        }
        let (begun, submitted) = match self.try_begin(asked, to_begin) {
            Ok(begun) => begun,
            Err(error) => return request.answer(answer::<Submitted>(Err(error))),
        };
        self.conduct(begun, || request.answer(answer(Ok(submitted))));
    }

    /// Whether what is asked is what runs to that output already.
    fn same_as_running<U: Undertaking>(
        &self,
        asked: &impl Asking<U>,
        running: JobId,
        to_begin: &ToBegin<'_>,
    ) -> Result<Submitted, CliError> {
        let output = to_begin.output;
        let cancel_first =
            || format!("wait for it: tilework watch {output}; or end it: tilework cancel {output}");
        if to_begin.submit.restart {
            return Err(CliError::usage(format!("`{output}` is being computed")).with_next(cancel_first()));
        }
        let tasks = asked
            .is_running(self.ground, running)
            .map_err(|error| error.with_next(cancel_first()))?;
        let tasks = tasks.ok_or_else(|| {
            CliError::usage(format!("another job computes `{output}`")).with_next(cancel_first())
        })?;
        Ok(Submitted {
            job: key_of(running),
            run: 0,
            output: output.to_owned(),
            tasks,
            tasks_resumed: 0,
            was_running: true,
            notes: Vec::new(),
        })
    }

    fn try_begin<U: Undertaking>(
        &self,
        asked: impl Asking<U>,
        to_begin: ToBegin<'_>,
    ) -> Result<(Begun<U>, Submitted), CliError> {
        let ToBegin {
            submit,
            output,
            planned_for,
            ..
        } = to_begin;
        let disk = self.ground.disk();
        asked.check(self.ground)?;
        self.check_leads()?;
        let (mut folder, undertaking) = asked.claim(self.ground, output)?;
        let text = undertaking.text();
        let files = folder.files().clone();
        let job = undertaking.start()?;
        let resumed = Resumed::of(&*job, &folder)?;
        let may_replace_output =
            submit.overwrite || disk.stat(files.output()).is_ok_and(|stat| stat.is_some());
        let id = job_id(&text);
        let started = after_last_run(self.ground, id)
            .and_then(|at_least| self.begin_run(&*job, &mut folder, &text, resumed.is_some(), at_least));
        let (epoch, writer) = match started {
            Ok(started) => started,
            Err(error) => {
                if !resumed.is_some() {
                    folder.abandon();
                }
                return Err(error);
            }
        };
        let record = JobRecord::new(NewJob {
            token: submit.token.clone(),
            job_text: String::from_utf8_lossy(&text).into_owned(),
            output: output.to_owned(),
            run: epoch.0,
            inputs: undertaking.identities()?,
            assign: submit.assign,
            may_replace_output,
            planned_for,
            deadline_unix_ms: submit.time_limit_ms.map(|limit| unix_ms().saturating_add(limit)),
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
            tasks: job.n_tasks(),
            tasks_resumed: resumed.committed.len() as u64,
            was_running: false,
            notes: undertaking.notes(),
        };
        let begun = Begun {
            folder,
            writer,
            record,
            resumed,
            took_over: false,
            job,
            undertaking,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::kinds::{Field, Kind, Spec};
    use crate::job::rounds::{Place, StartedJob};
    use serde_json::Value;

    struct Words;

    impl Kind for Words {
        fn name(&self) -> &'static str {
            "words"
        }

        fn version(&self) -> u32 {
            2
        }

        fn fields(&self) -> Vec<Field> {
            Vec::new()
        }

        fn read(&self, _spec: Value) -> Result<Spec, CliError> {
            Err(CliError::usage("another version's spec may have other fields"))
        }

        fn start(&self, _spec: &Spec, _place: Place) -> Result<Arc<StartedJob>, CliError> {
            Err(CliError::usage("it is not read"))
        }
    }

    #[test]
    fn what_other_code_began_is_refused_with_the_way_to_begin_anew() {
        let of_version = |version: u32| {
            let stored = Description {
                format_version: 1,
                kind: "words".to_owned(),
                version,
                numerics_version: 0,
                spec: Value::Null,
                plan: Value::Null,
                inputs: Vec::new(),
                output: None,
            };
            check_version(&[&Words], &stored, Path::new("data:/out"))
        };
        assert_eq!(of_version(2).err().map(|error| error.message), None);
        let error = of_version(1).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        assert!(
            error.message.contains("`data:/out` is unfinished")
                && error.message.contains("version 1, now of 2"),
            "{error}"
        );
        assert!(error.next.unwrap().contains("--restart"));
    }
}
