//! What a driver has to know of a job to conduct it, whatever it computes: a matrix product, or a job of the program's own.

use super::ground::Ground;
use super::protocol::KnownKind;
use super::record::PlannedFor;
use crate::failure::{CliError, Exit};
use crate::job::kinds::{Kind, Spec};
use crate::job::rounds::{Place, StartedJob};
use crate::job::running::{self, done_report, identities};
use crate::job::tally::{RoundTally, RoundsTally};
use crate::product::inputs::{Inputs, Paths};
use crate::product::report::write_plan;
use crate::product::request::{Description, ProductRequest, stored_inputs};
use crate::product::running::{Residuals, multiply};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;
use tilework_core::driver::Needs;
use tilework_kernel::Simd;
use tilework_linalg::{AlgorithmChoice, Multiply, Number, Plan};
use tilework_runtime::{Job, JobDescription};
use tilework_store::disk::Disk;
use tilework_store::identity::InputIdentity;
use tilework_store::journal::{JobFiles, Recovered};

/// A job before it begins or goes on.
pub(super) trait Undertaking: Sync {
    /// What runs.
    type Job: Job + ?Sized;
    /// What it computes, by name.
    fn kind(&self) -> &str;
    /// What workers must have the code for, beyond what all programs know.
    fn needs_code(&self) -> Option<KnownKind>;
    /// The text whose hash is its id.
    fn text(&self) -> Vec<u8>;
    /// The inputs as they are now.
    fn identities(&self) -> Result<Vec<InputIdentity>, CliError>;
    /// Makes it ready to run; nothing of its output is touched.
    fn start(&self) -> Result<Arc<Self::Job>, CliError>;
    /// What a worker needs.
    fn needs(&self, job: &Self::Job) -> Needs;
    /// What is known of it before it runs.
    fn facts(&self) -> Facts;
    /// What its commits tell, when it is complete.
    fn findings(&self, recovered: &Recovered) -> Value;
    /// How long each worker computed for what counts, in seconds.
    fn seconds_busy(&self, recovered: &Recovered) -> BTreeMap<u32, f64>;
    /// What is worth knowing as it begins.
    fn notes(&self) -> Vec<String>;
}

/// What is reported of a job beside how it went.
pub(super) struct Facts {
    /// Members of the report.
    pub json: Value,
    /// Floating-point operations in all, where that is known.
    pub flops: Option<f64>,
}

/// A product.
pub(super) struct Product<T> {
    disk: Arc<dyn Disk>,
    simd: Simd,
    asked: ProductRequest,
    pub(super) inputs: Inputs,
    plan: Plan,
    description: Description,
    notes: Vec<String>,
    elements: PhantomData<T>,
}

impl<T: Number> Product<T> {
    /// A product that was planned.
    pub(super) fn planned(
        ground: &Ground,
        asked: ProductRequest,
        inputs: Inputs,
        plan: Plan,
        description: Description,
        notes: Vec<String>,
    ) -> Product<T> {
        Product {
            disk: ground.disk(),
            simd: ground.simd,
            asked,
            inputs,
            plan,
            description,
            notes,
            elements: PhantomData,
        }
    }
}

/// A stored product with its inputs open.
pub(super) fn stored_product(
    ground: &Ground,
    description: &Description,
    output: PathBuf,
    planned_for: PlannedFor,
    may_replace_output: bool,
) -> Result<(ProductRequest, Inputs), CliError> {
    let request = ProductRequest {
        inputs: stored_inputs(description, &output, Paths::Named),
        output,
        resources: ground.resources(planned_for),
        overwrite: may_replace_output,
        restart: false,
        algorithm: AlgorithmChoice::Only(description.plan.algorithm),
    };
    let inputs = request.inputs.open(&ground.disk())?;
    Ok((request, inputs))
}

impl<T: Number> Undertaking for Product<T> {
    type Job = Multiply<T>;

    fn kind(&self) -> &str {
        &self.description.kind
    }

    fn needs_code(&self) -> Option<KnownKind> {
        None
    }

    fn text(&self) -> Vec<u8> {
        self.description.to_text()
    }

    fn identities(&self) -> Result<Vec<InputIdentity>, CliError> {
        self.inputs.identities()
    }

    fn start(&self) -> Result<Arc<Multiply<T>>, CliError> {
        let (id, files) = (self.description.id(), JobFiles::beside(&self.asked.output));
        let job = multiply::<T>(&self.disk, &self.inputs, &self.plan, self.simd, id, &files);
        Ok(Arc::new(job))
    }

    fn needs(&self, job: &Multiply<T>) -> Needs {
        Needs {
            // What is compared with the memory of a whole process.
            memory_bytes: self.asked.resources.bytes_needed::<T>(&self.inputs, &self.plan),
            expected_ms: job.needs().expected_ms,
            deadline_ms: job.needs().deadline_ms,
        }
    }

    fn facts(&self) -> Facts {
        let (spec, plan) = (&self.inputs.spec, &self.plan);
        let json = json!({
            "job": spec.kind(),
            "m": plan.grid.m,
            "n": plan.grid.n,
            "k": plan.k,
            "dtype": spec.dtype.to_string(),
            "alpha": spec.alpha,
            "beta": spec.beta,
            "tasks": plan.grid.n_tiles(),
            "algorithm": plan.layout.algorithm.to_string(),
        });
        Facts {
            json,
            flops: Some(plan.flops()),
        }
    }

    fn findings(&self, recovered: &Recovered) -> Value {
        let Residuals { max, bound } = Residuals::of(recovered);
        json!({ "residual_max": max, "residual_bound": bound })
    }

    fn seconds_busy(&self, recovered: &Recovered) -> BTreeMap<u32, f64> {
        let mut tally = RoundTally::default();
        recovered.commits.values().for_each(|commit| tally.add(commit));
        tally.seconds_busy
    }

    fn notes(&self) -> Vec<String> {
        let mut text = Vec::new();
        let written = write_plan(&mut text, &self.plan, &self.inputs);
        let plan = written
            .is_ok()
            .then(|| String::from_utf8_lossy(&text).trim_end().to_owned());
        let notes = self.inputs.notes.iter().chain(&self.notes);
        let notes = notes.map(|note| format!("note: {note}"));
        plan.into_iter().chain(notes).collect()
    }
}

/// A job of the program's own.
pub(super) struct OwnJob {
    pub(super) kind: &'static dyn Kind,
    pub(super) spec: Spec,
    pub(super) description: running::Description,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) files: JobFiles,
    /// Of the rounds that this driver saw completed.
    pub(super) tally: Arc<RoundsTally>,
}

impl OwnJob {
    /// As its journal describes it.
    pub(super) fn stored(
        ground: &Ground,
        description: running::Description,
        output: PathBuf,
    ) -> Result<OwnJob, CliError> {
        let kind = kind_of(ground, &description.kind, description.version)?;
        Ok(OwnJob {
            kind,
            spec: kind.read(description.spec.clone())?,
            description,
            disk: ground.disk(),
            files: JobFiles::beside(&output),
            tally: Arc::default(),
        })
    }

    /// Where it is, with inputs as they are now.
    pub(super) fn place(&self) -> Result<Place, CliError> {
        Ok(Place {
            disk: Arc::clone(&self.disk),
            files: self.files.clone(),
            inputs: self.identities()?,
            tally: Arc::clone(&self.tally),
        })
    }
}

/// The job's code, of the version that is asked for.
pub(super) fn kind_of(ground: &Ground, name: &str, version: u32) -> Result<&'static dyn Kind, CliError> {
    let found = ground.kinds.iter().find(|kind| kind.name() == name).copied();
    let problem = match found {
        Some(kind) if kind.version() == version => return Ok(kind),
        Some(kind) => format!(
            "the driver's program has version {} of the job `{name}`, and this is of version {version}",
            kind.version()
        ),
        None => format!("the driver's program knows no job `{name}`"),
    };
    Err(CliError::new(Exit::Usage, problem).with_next(
        "start drivers and workers with the program that has the job: PROGRAM cluster up, or PROGRAM driver and PROGRAM worker",
    ))
}

impl Undertaking for OwnJob {
    type Job = StartedJob;

    fn kind(&self) -> &str {
        self.kind.name()
    }

    fn needs_code(&self) -> Option<KnownKind> {
        Some(KnownKind {
            name: self.kind.name().to_owned(),
            version: self.kind.version(),
        })
    }

    fn text(&self) -> Vec<u8> {
        self.description.to_text()
    }

    fn identities(&self) -> Result<Vec<InputIdentity>, CliError> {
        identities(&self.spec.inputs, &*self.disk)
    }

    fn start(&self) -> Result<Arc<StartedJob>, CliError> {
        self.kind.start(&self.spec, self.place()?)
    }

    fn needs(&self, job: &StartedJob) -> Needs {
        job.needs()
    }

    fn facts(&self) -> Facts {
        Facts {
            json: json!({ "job": self.kind.name() }),
            flops: None,
        }
    }

    fn findings(&self, recovered: &Recovered) -> Value {
        // What a driver before this one completed, only that one counted.
        let told = recovered.report.as_deref();
        told.and_then(|report| serde_json::from_slice(report).ok())
            .unwrap_or_else(|| done_report(&self.tally))
    }

    fn seconds_busy(&self, _recovered: &Recovered) -> BTreeMap<u32, f64> {
        self.tally.total().seconds_busy
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What a job's text says, whatever the job.
pub(super) fn any_description(text: &str) -> Result<JobDescription<Value, Value>, serde_json::Error> {
    JobDescription::from_text(text.as_bytes())
}
