//! What all jobs of a driver stand on: the cluster's records, the data roots, and how what is asked becomes a product of files there.

use super::protocol::{AssignName, Planned, ProductWanted, Submit, Wanted, algorithm_of};
use super::record::PlannedFor;
use crate::failure::CliError;
use crate::job::kinds::Kinds;
use crate::product::inputs::{AddRequest, InputRequest, Inputs, Paths};
use crate::product::report::{plan_json, write_plan};
use crate::product::request::{ProductRequest, Resources, resume_request};
use crate::webhook::Webhook;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tilework_kernel::Simd;
use tilework_nats::Control;
use tilework_store::data_roots::DataRoots;
use tilework_store::disk::Disk;
use tilework_store::element_type::Dtype;

/// What all jobs of a driver share.
#[derive(Clone)]
pub struct Ground {
    /// Records of jobs.
    pub control: Arc<Control>,
    /// Where matrices are.
    pub roots: Arc<DataRoots>,
    /// Instruction set that plans count on.
    pub simd: Simd,
    /// Jobs of the program's own.
    pub kinds: &'static Kinds,
    /// Where alarms are posted, if anywhere.
    pub webhook: Option<Arc<Webhook>>,
    /// Whether this process still drives.
    pub leads: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Ground {
    pub(super) fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.roots) as Arc<dyn Disk>
    }

    pub(super) fn resources(&self, planned_for: PlannedFor) -> Resources {
        Resources {
            memory_bytes: planned_for.memory_bytes,
            n_threads: planned_for.threads as usize,
            n_workers: 1,
            n_processes: planned_for.workers as usize,
            assign: AssignName::Dynamic.with(planned_for.workers),
            simd: self.simd,
        }
    }
}

/// What goes on with the unfinished product at `output`.
pub(super) fn request_to_resume(
    ground: &Ground,
    submit: &Submit,
    output: &str,
    planned_for: PlannedFor,
) -> Result<(ProductRequest, Inputs), CliError> {
    let disk = ground.disk();
    let mut resources = ground.resources(planned_for);
    resources.assign = submit.assign.with(planned_for.workers);
    let request = resume_request(&*disk, Path::new(output), resources, Paths::Named)?;
    let inputs = request.inputs.open(&disk)?;
    Ok((request, inputs))
}

/// What is asked for, as a product of files in data roots.
pub(super) fn request_of(
    ground: &Ground,
    wanted: &ProductWanted,
    submit: &Submit,
    output: &str,
    planned_for: PlannedFor,
) -> Result<(ProductRequest, Inputs), CliError> {
    let disk = ground.disk();
    let output = PathBuf::from(output);
    let mut resources = ground.resources(planned_for);
    resources.assign = submit.assign.with(planned_for.workers);
    let named = |path: &str| name_of(&ground.roots, path).map(PathBuf::from);
    let algorithm = algorithm_of(&wanted.algorithm)
        .ok_or_else(|| CliError::usage(format!("there is no algorithm `{}`", wanted.algorithm)))?;
    let add = wanted
        .add
        .as_ref()
        .map(|(d, beta)| named(d).map(|d| AddRequest { d, beta: *beta }));
    let inputs = InputRequest {
        a: named(&wanted.a)?,
        b: named(&wanted.b)?,
        paths_are: Paths::Named,
        transpose_a: wanted.transpose_a,
        transpose_b: wanted.transpose_b,
        symmetric: wanted.symmetric,
        dtype: wanted.dtype,
        alpha: wanted.alpha,
        add: add.transpose()?,
    };
    let opened = inputs.open(&disk)?;
    let request = ProductRequest {
        inputs,
        output,
        resources,
        overwrite: submit.overwrite,
        restart: submit.restart,
        algorithm,
    };
    Ok((request, opened))
}

/// What a path is called in the cluster: as given if it names a root, else by where this machine has its roots.
pub(super) fn name_of(roots: &DataRoots, path: &str) -> Result<String, CliError> {
    if !path.starts_with('/') {
        return Ok(path.to_owned());
    }
    let named = roots.name_of_canonical(Path::new(path));
    named
        .map(|named| named.to_string_lossy().into_owned())
        .ok_or_else(|| {
            let dir = Path::new(path).parent().unwrap_or(Path::new("/"));
            CliError::usage(format!(
                "`{path}` is in no data root of the cluster, which has {}",
                roots.described()
            ))
            .with_next(format!(
                "start driver and workers with one that holds it: --data-root NAME={}; or name the file as they see it: NAME:/relative/path",
                dir.display()
            ))
        })
}

/// What a product would take.
pub(super) fn plan(ground: &Ground, submit: &Submit, planned_for: PlannedFor) -> Result<Planned, CliError> {
    // A plan needs no place for its output; where one is given, it is only looked at.
    let output = match &submit.output {
        Some(output) => name_of(&ground.roots, output)?,
        None => String::new(),
    };
    let Wanted::Product(wanted) = &submit.wanted else {
        return Err(CliError::usage("only products have plans"));
    };
    let (request, inputs) = request_of(ground, wanted, submit, &output, planned_for)?;
    let resources = request.resources;
    let plan = match inputs.spec.dtype {
        Dtype::F64 => resources.plan::<f64>(&inputs, request.algorithm, None),
        Dtype::F32 => resources.plan::<f32>(&inputs, request.algorithm, None),
    }?;
    if submit.output.is_some() {
        request.check_output(&*ground.roots, &inputs)?;
        request.check_disk(&*ground.roots, &plan, &inputs)?;
    }
    let mut json = plan_json(&plan, &inputs);
    json["workers"] = json!(planned_for.workers);
    let mut text = Vec::new();
    let _ = write_plan(&mut text, &plan, &inputs);
    let text = format!(
        "{}\nworkers {}, each with {} threads",
        String::from_utf8_lossy(&text).trim_end(),
        planned_for.workers,
        planned_for.threads
    );
    Ok(Planned { json, text })
}
