//! `plan multiply` and `plan gram`: what they would do, without doing it.

use super::multiply::resources;
use super::{clustered, gram, multiply};
use crate::args::multiply::{PlanArgs, PlanJob, ResourceArgs, RunArgs};
use crate::failure::CliError;
use crate::output::Output;
use crate::product::inputs::InputRequest;
use crate::product::report::{plan_json, write_plan};
use crate::product::request::ProductRequest;
use crate::settings::Settings;
use std::path::Path;
use std::sync::Arc;
use tilework_linalg::AlgorithmChoice;
use tilework_store::disk::{Disk, RealDisk};
use tilework_store::element_type::Dtype;

/// Runs the command.
pub fn run(args: &PlanArgs, output: &Output) -> Result<(), CliError> {
    match &args.job {
        PlanJob::Multiply(args) => {
            let request = multiply::input_request(&args.product)?;
            let (algorithm, destination) = (args.product.algorithm, args.output.as_deref());
            plan_product(
                &request,
                algorithm,
                destination,
                &args.run,
                &args.resources,
                output,
            )
        }
        PlanJob::Gram(args) => {
            let request = gram::input_request(&args.operand);
            let (algorithm, destination) = (gram::ALGORITHM, args.output.as_deref());
            plan_product(
                &request,
                algorithm,
                destination,
                &args.run,
                &args.resources,
                output,
            )
        }
    }
}

fn plan_product(
    input_request: &InputRequest,
    algorithm: AlgorithmChoice,
    destination: Option<&Path>,
    run: &RunArgs,
    allowed: &ResourceArgs,
    output: &Output,
) -> Result<(), CliError> {
    if let Some(cluster) = &run.cluster.cluster {
        return clustered::plan(
            cluster,
            input_request,
            algorithm,
            destination,
            run,
            allowed,
            output,
        );
    }
    let settings = Settings::resolve(allowed, run.time_limit, output.started())?;
    let resources = resources(&settings)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let inputs = input_request.open(&disk)?;
    let plan = match inputs.spec.dtype {
        Dtype::F64 => resources.plan::<f64>(&inputs, algorithm, None),
        Dtype::F32 => resources.plan::<f32>(&inputs, algorithm, None),
    }?;
    if let Some(destination) = destination {
        let request = ProductRequest {
            inputs: input_request.clone(),
            output: destination.to_path_buf(),
            resources,
            overwrite: run.overwrite,
            restart: run.restart,
            algorithm,
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
