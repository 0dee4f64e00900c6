//! `plan multiply`: what `multiply` would do, without doing it.

use super::multiply::{input_request, resources};
use crate::args::multiply::{PlanArgs, PlanJob, PlanMultiplyArgs};
use crate::failure::CliError;
use crate::output::Output;
use crate::product::report::{plan_json, write_plan};
use crate::product::request::ProductRequest;
use crate::settings::Settings;
use std::sync::Arc;
use tilework_store::disk::{Disk, RealDisk};
use tilework_store::element_type::Dtype;

/// Runs the command.
pub fn run(args: &PlanArgs, output: &Output) -> Result<(), CliError> {
    match &args.job {
        PlanJob::Multiply(args) => plan_multiply(args, output),
    }
}

fn plan_multiply(args: &PlanMultiplyArgs, output: &Output) -> Result<(), CliError> {
    let settings = Settings::resolve(&args.resources, args.run.time_limit, output.started())?;
    let resources = resources(&settings)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let request = input_request(&args.product)?;
    let inputs = request.open(&disk)?;
    let plan = match inputs.spec.dtype {
        Dtype::F64 => resources.plan::<f64>(&inputs, args.product.algorithm, None),
        Dtype::F32 => resources.plan::<f32>(&inputs, args.product.algorithm, None),
    }?;
    if let Some(destination) = &args.output {
        let request = ProductRequest {
            inputs: request,
            output: destination.clone(),
            resources,
            overwrite: args.run.overwrite,
            restart: args.run.restart,
            algorithm: args.product.algorithm,
        };
        request.check_output(&RealDisk, &inputs)?;
        request.check_disk(&RealDisk, &plan, &inputs)?;
    }
    inputs
        .notes
        .iter()
        .for_each(|note| output.note(&format!("note: {note}")));
    output.result(plan_json(&plan, &inputs), |out| write_plan(out, &plan, &inputs))
}
