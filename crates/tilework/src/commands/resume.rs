//! `resume`: goes on with an unfinished output, with inputs and plan from its journal.

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
    let settings = Settings::resolve(&args.resources, args.time_limit, output.started())?;
    let request = resume_request(&RealDisk, &args.output, resources(&settings)?, Paths::Local)?;
    compute_and_report(
        &request,
        &stop_switch(&args.resources, args.time_limit, output)?,
        args.alert_webhook.as_ref(),
        output,
    )
}
