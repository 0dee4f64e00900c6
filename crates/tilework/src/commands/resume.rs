//! `resume`: goes on with an unfinished output, with inputs and plan from its journal.

use super::clustered;
use super::multiply::{compute_and_report, resources, stop_switch};
use crate::args::multiply::ResumeArgs;
use crate::failure::CliError;
use crate::output::Output;
use crate::product::inputs::Paths;
use crate::product::request::resume_request;
use crate::settings::Settings;
use tilework_store::disk::RealDisk;

/// Runs the command.
pub fn run(args: &ResumeArgs, output: &Output) -> Result<(), CliError> {
    if let Some(cluster) = &args.cluster.cluster {
        clustered::check_resources(&args.resources)?;
        let submit = clustered::resume_of(&args.output, &args.resources, args.time_limit)?;
        return clustered::submit_and_watch(cluster, submit, &args.cluster, output);
    }
    let settings = Settings::resolve(&args.resources, args.time_limit, output.started())?;
    let request = resume_request(&RealDisk, &args.output, resources(&settings)?, Paths::Local)?;
    compute_and_report(
        &request,
        &stop_switch(&args.resources, args.time_limit, output)?,
        args.alert_webhook.as_ref(),
        output,
    )
}
