//! `status`: how far an output is.

use super::job_on_cluster::JobOnCluster;
use crate::args::inspect::JobArgs;
use crate::failure::CliError;
use crate::human;
use crate::job_state::{JobState, State};
use crate::output::Output;
use serde_json::{Value, json};
use std::path::Path;
use tilework_store::disk::RealDisk;

/// Runs the command.
pub fn run(args: &JobArgs, output: &Output) -> Result<(), CliError> {
    if let Some(job) = JobOnCluster::find(args, output)? {
        return job.tell_status(output);
    }
    let state = JobState::read(&RealDisk, &args.output)?;
    output.result(to_json(&state, &args.output), |out| {
        writeln!(out, "{}", describe(&state, &args.output))
    })
}

/// The members that `status` and `explain` share.
pub(crate) fn to_json(state: &JobState, path: &Path) -> Value {
    let mut json = state.job.as_ref().map_or_else(|| json!({}), |job| job.to_json());
    json["status"] = json!("done");
    json["state"] = json!(state.state.name());
    json["output"] = json!(path.display().to_string());
    json["output_exists"] = json!(state.output_exists);
    json["pid"] = json!(state.owner.as_ref().map(|owner| owner.pid));
    json
}

/// One line.
pub(crate) fn describe(state: &JobState, path: &Path) -> String {
    let path = path.display();
    let tasks = state.job.as_ref().map(|job| {
        let runs = human::counted(job.runs.len() as u64, "run");
        match job.n_tasks {
            Some(n_tasks) => format!(
                "{} of {} committed ({} %), {runs} so far",
                human::count(job.n_committed),
                human::counted(n_tasks, "task"),
                human::percent(job.n_committed, n_tasks)
            ),
            None => format!(
                "{} committed, {runs} so far",
                human::counted(job.n_committed, "task")
            ),
        }
    });
    let formula = state.job.as_ref().and_then(|job| job.formula());
    let formula = formula.map_or(String::new(), |formula| format!("; {formula}"));
    let tasks = tasks.map_or(String::new(), |tasks| format!(": {tasks}{formula}"));
    match state.state {
        State::None if state.output_exists => format!("{path}: a file without a job"),
        State::None => format!("{path}: nothing was started"),
        State::Unfinished => format!("{path}: unfinished{tasks}"),
        State::Running => {
            let owner = state
                .owner
                .as_ref()
                .map_or("another process".to_owned(), ToString::to_string);
            format!("{path}: running, {owner}{tasks}")
        }
        State::Done => format!("{path}: done{tasks}"),
    }
}
