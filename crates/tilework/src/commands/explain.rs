//! `explain`: the state of an output, why it is so, what happens next, and the command for it.

use super::job_on_cluster::JobOnCluster;
use super::status;
use crate::args::inspect::JobArgs;
use crate::failure::CliError;
use crate::human;
use crate::job_state::{JobState, KnownJob, State};
use crate::output::Output;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};
use tilework_core::alarm::Severity;
use tilework_core::record::RunStart;
use tilework_runtime::alarm_log::{self, LoggedAlarm};
use tilework_store::disk::RealDisk;
use tilework_store::identity::InputIdentity;

/// Runs that are told of, the latest.
const RUNS_SHOWN_MAX: usize = 5;
/// Alarms that are told of.
const ALARMS_SHOWN_MAX: usize = 10;

/// Runs the command.
pub fn run(args: &JobArgs, output: &Output) -> Result<(), CliError> {
    if let Some(job) = JobOnCluster::find(args, output)? {
        return job.tell(output);
    }
    let (disk, path) = (RealDisk, args.output.as_path());
    let state = JobState::read(&disk, path)?;
    let troubles = match &state.job {
        Some(job) => job
            .inputs
            .iter()
            .filter(|input| !is_replaced(&state, path, input))
            .filter_map(|input| job.input_trouble(&disk, input))
            .collect(),
        None => Vec::new(),
    };
    let why = why(&state, &troubles);
    let (then, next) = outlook(&state, path, &troubles);
    let alarms = alarm_log::read(&disk, &state.files)
        .map_err(|error| CliError::io("read", &state.files.alarms(), &error))?;
    let alarms = most_telling(alarms);
    let runs: Vec<String> = state.job.as_ref().map(last_runs).unwrap_or_default();
    let mut json = status::to_json(&state, path);
    json["why"] = json!(why);
    json["then"] = json!(then);
    json["next"] = json!(next);
    json["inputs_changed"] = json!(troubles);
    json["alarms"] = json!(alarms);
    json["damaged_bytes"] = json!(state.n_damaged_bytes);
    output.result(json, |out| {
        writeln!(out, "{}", status::describe(&state, path))?;
        why.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
        if let Some(job) = &state.job {
            job.inputs
                .iter()
                .try_for_each(|input| writeln!(out, "  input {} ({})", input.path, input.header))?;
        }
        runs.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
        alarms
            .iter()
            .try_for_each(|alarm| writeln!(out, "  {}", alarm_line(alarm)))?;
        writeln!(out, "then: {then}")?;
        next.map_or(Ok(()), |next| writeln!(out, "next: {next}"))
    })
}

/// Whether the finished output stands where this input was: a matrix that the product was added to.
fn is_replaced(state: &JobState, output: &Path, input: &InputIdentity) -> bool {
    state.state == State::Done
        && std::path::absolute(output).is_ok_and(|output| output == Path::new(&input.path))
}

fn why(state: &JobState, troubles: &[String]) -> Vec<String> {
    let mut why = Vec::new();
    match state.state {
        State::None if state.folder_exists => {
            why.push("its folder holds no intact description of a job".to_owned())
        }
        State::None if state.partial_exists => {
            why.push("an incomplete file is there, but no journal of it".to_owned())
        }
        State::None => why.push("no journal stands beside it".to_owned()),
        State::Unfinished if !state.partial_exists => {
            why.push(
                "the incomplete output is gone, and with it what was committed; the plan is kept".to_owned(),
            );
        }
        State::Unfinished => why.push("the last run ended before all tasks were committed".to_owned()),
        State::Running => why.push("a process holds its lock".to_owned()),
        State::Done => why.push("all tasks are committed and the output has its name".to_owned()),
    }
    if state.n_damaged_bytes > 0 {
        why.push(format!(
            "{} of the journal are damaged; what they said is computed again",
            human::bytes(state.n_damaged_bytes)
        ));
    }
    why.extend_from_slice(troubles);
    why
}

/// What happens next, and the command that makes it happen.
fn outlook(state: &JobState, path: &Path, troubles: &[String]) -> (&'static str, Option<String>) {
    let name = path.display();
    match state.state {
        State::None if state.folder_exists => (
            "nothing can be resumed; a new `multiply` starts again",
            Some(format!("tilework clean {name} --yes")),
        ),
        State::None if state.output_exists => ("nothing; tilework does not know how it was made", None),
        State::None => (
            "nothing until a job is started",
            Some(format!("tilework multiply A.npy B.npy -o {name}")),
        ),
        State::Unfinished if !troubles.is_empty() => (
            "a resume refuses as long as an input differs from what the job began with",
            Some(format!(
                "put the input back, or discard the job: tilework clean {name} --yes"
            )),
        ),
        State::Unfinished if !state.job.as_ref().is_none_or(KnownJob::is_product) => (
            "the program that began it goes on with what is committed",
            Some("the command that began it, once more".to_owned()),
        ),
        State::Unfinished => (
            "a resume reads the journal and runs the tasks that are missing",
            Some(format!("tilework resume {name}")),
        ),
        State::Running => (
            "the run goes on; Ctrl-C in it stops it so that it can be resumed",
            Some(format!("tilework status {name}")),
        ),
        State::Done if !state.job.as_ref().is_none_or(KnownJob::is_product) => ("nothing", None),
        State::Done => (
            "nothing; it can be verified at any time",
            Some(format!("tilework verify {name}")),
        ),
    }
}

fn last_runs(job: &KnownJob) -> Vec<String> {
    let skipped = job.runs.len().saturating_sub(RUNS_SHOWN_MAX);
    job.runs.iter().skip(skipped).map(run_line).collect()
}

/// The latest alarms; where there are many, warnings and errors before notes.
pub(super) fn most_telling(alarms: Vec<LoggedAlarm>) -> Vec<LoggedAlarm> {
    let (notes, grave): (Vec<_>, Vec<_>) = alarms
        .into_iter()
        .rev()
        .partition(|alarm| alarm.severity == Severity::Note.to_string());
    let mut shown: Vec<LoggedAlarm> = grave.into_iter().chain(notes).take(ALARMS_SHOWN_MAX).collect();
    // The sort is stable: of the same millisecond, the one that came first stays first.
    shown.reverse();
    shown.sort_by_key(|alarm| alarm.unix_ms);
    shown
}

pub(super) fn alarm_line(alarm: &LoggedAlarm) -> String {
    let when = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(alarm.unix_ms));
    let next = alarm
        .next
        .as_ref()
        .map_or(String::new(), |next| format!("; {next}"));
    format!(
        "{} {when}, run {}: {}{next}",
        alarm.severity, alarm.run, alarm.text
    )
}

fn run_line(run: &RunStart) -> String {
    let started = UNIX_EPOCH + Duration::from_millis(run.started_unix_ms);
    format!(
        "run {} started {} as process {}",
        run.epoch.0,
        humantime::format_rfc3339_seconds(started),
        run.pid
    )
}
