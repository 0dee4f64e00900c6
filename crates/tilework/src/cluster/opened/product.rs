//! A matrix product at a worker.

use super::{OpenJob, Opened, Opening, WorkerResources, refused};
use crate::product::inputs::{Inputs, Paths};
use crate::product::request::{Description, Resources, stored_inputs};
use crate::product::running::multiply;
use std::path::Path;
use std::sync::Arc;
use tilework_core::driver::Assign;
use tilework_core::failure::{Cause, Failure};
use tilework_linalg::multiply::NUMERICS_VERSION;
use tilework_linalg::{AlgorithmChoice, Number, Plan};
use tilework_runtime::description::FORMAT_VERSION;
use tilework_store::element_type::Dtype;

/// Opens it.
pub(super) fn open(opening: Opening<'_>) -> Result<Opened<OpenJob>, Failure> {
    let description = checked_description(&opening.record.job_text)?;
    let output = Path::new(&opening.record.output);
    let request = stored_inputs(&description, output, Paths::Named);
    let inputs = request
        .open(&opening.disk)
        .map_err(|error| opening.input_failure(&error.message))?;
    let identities = inputs
        .identities()
        .map_err(|error| Failure::retry(Cause::Storage, error.message))?;
    opening.check_inputs(&identities)?;
    match description.spec.dtype {
        Dtype::F64 => open_as::<f64>(opening, &description, &inputs),
        Dtype::F32 => open_as::<f32>(opening, &description, &inputs),
    }
}

fn open_as<T: Number>(
    opening: Opening<'_>,
    description: &Description,
    inputs: &Inputs,
) -> Result<Opened<OpenJob>, Failure> {
    let resources = opening.jobs.resources;
    let plan = plan::<T>(resources, inputs, description)?;
    let (id, files) = (opening.job, &opening.files);
    let job = multiply::<T>(&opening.disk, inputs, &plan, resources.simd, id, files);
    let mut operands = inputs.operands();
    let holds_memory = operands.any(|operand| operand.source().resident_bytes() > 0);
    opening.open(Arc::new(job), None, holds_memory)
}

/// The code here must be the code that the job was begun with, as far as its results depend on it.
fn checked_description(text: &str) -> Result<Description, Failure> {
    let description = Description::from_text(text.as_bytes())
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
    Ok(description)
}

/// The stored plan in the memory that is here, with as many threads as that allows.
fn plan<T: Number>(
    resources: WorkerResources,
    inputs: &Inputs,
    description: &Description,
) -> Result<Plan, Failure> {
    let WorkerResources {
        memory_bytes,
        n_threads,
        simd,
    } = resources;
    let only = AlgorithmChoice::Only(description.plan.algorithm);
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
        match resources.plan::<T>(inputs, only, Some(description)) {
            Ok(plan) => return Ok(plan),
            Err(error) => refused = Some(error.message),
        }
    }
    Err(Failure::retry(Cause::OutOfMemory, refused.unwrap_or_default()))
}
