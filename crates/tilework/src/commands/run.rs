//! `run` and `kinds`: jobs of the program's own, by name.

use super::audience::RoundTeller;
use super::clustered;
use super::multiply::{started, told, with_members};
use crate::args::run::RunJobArgs;
use crate::cluster::protocol::{JobWanted, Wanted};
use crate::failure::{CliError, Exit};
use crate::human;
use crate::job::kinds::{Kind, Kinds, find};
use crate::job::running::{Destination, JobRequest, run_job};
use crate::output::Output;
use crate::settings::Settings;
use crate::signals;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use tilework_core::driver::Assign;
use tilework_runtime::StopSwitch;

/// Runs `run`.
pub fn run(args: &RunJobArgs, kinds: &Kinds, output: &Output) -> Result<(), CliError> {
    let kind = find(kinds, &args.kind)?;
    if let Some(cluster) = &args.run.cluster.cluster {
        return run_on_cluster(cluster, kind, args, output);
    }
    let spec = kind.read(Value::Object(spec(args)?))?;
    let settings = Settings::resolve(&args.resources, args.run.time_limit, output.started())?;
    let request = JobRequest {
        destination: Destination {
            output: destination(args),
            overwrite: args.run.overwrite,
            restart: args.run.restart,
        },
        // A task has one thread: so there is a worker for each, unless fewer are asked for.
        n_threads: args.resources.workers.map_or(settings.n_threads, |n| n as usize),
        memory_bytes: settings.memory_bytes,
        round_robin: matches!(settings.assign, Assign::RoundRobin { .. }),
    };
    let stop = StopSwitch::with_deadline(settings.deadline);
    let _signals = signals::stop_on_signals(&stop, output)?;
    let webhook = args.run.alert_webhook.as_ref();
    let destination = &request.destination.output;
    let webhook = webhook.map(|url| started(url, destination)).transpose()?;
    let teller = RoundTeller::new(output, webhook);
    let finished = run_job(kind, spec, &request, &stop, &teller);
    let facts = told(teller.finish().as_ref());
    let finished = finished.map_err(|error| error.with_facts(facts.clone()))?;
    let file = destination.display().to_string();
    let json = json!({
        "status": "done",
        "job": args.kind,
        "output": file,
        "seconds": finished.elapsed.as_secs_f64(),
        "tasks_run": finished.tasks_run,
        "tasks_checked": finished.tasks_checked,
        "tasks_resumed": finished.tasks_resumed,
        "retries": finished.retries,
        "tasks_by_worker": finished.tasks_by_worker,
        "alarms": finished.alarms.latest,
        "alarms_total": finished.alarms.n_alarms,
    });
    output.report(with_members(json, facts), |out| {
        let seconds = human::seconds(finished.elapsed.as_secs_f64());
        writeln!(out, "{file}: {} done in {seconds}", args.kind)?;
        write!(out, "  tasks    {} run", finished.tasks_run)?;
        write!(out, "{}", checked(finished.tasks_checked))?;
        if finished.tasks_resumed > 0 {
            write!(out, ", {} kept from before", finished.tasks_resumed)?;
        }
        if finished.retries > 0 {
            write!(out, ", {} retried", finished.retries)?;
        }
        writeln!(out)
    })
}

/// How many tasks were checked, for a line that says how many there were.
pub(crate) fn checked(n_checked: u64) -> String {
    match n_checked {
        0 => ", unchecked".to_owned(),
        n_checked => format!(", {n_checked} checked"),
    }
}

/// Where the report goes.
fn destination(args: &RunJobArgs) -> PathBuf {
    let name = || PathBuf::from(format!("{}.json", args.kind));
    args.output.clone().unwrap_or_else(name)
}

/// Drivers and workers of the same program do it; the files that the spec names are those that they find in their data roots.
fn run_on_cluster(
    cluster: &Path,
    kind: &dyn Kind,
    args: &RunJobArgs,
    output: &Output,
) -> Result<(), CliError> {
    clustered::check_is_for_clusters(&args.run, &args.resources)?;
    let spec = kind.read(Value::Object(spec(args)?))?;
    let wanted = Wanted::Job(JobWanted {
        kind: kind.name().to_owned(),
        version: kind.version(),
        spec: spec.with_inputs_named(&clustered::cluster_path)?,
    });
    let submit = clustered::submit(wanted, Some(&destination(args)), &args.run, &args.resources)?;
    clustered::submit_and_watch(cluster, submit, &args.run.cluster, output)
}

/// Runs `kinds`.
pub fn kinds(kinds: &Kinds, output: &Output) -> Result<(), CliError> {
    let listed: Vec<Value> = kinds
        .iter()
        .map(|kind| {
            let fields = kind.fields();
            let fields: Map<String, Value> = fields
                .into_iter()
                .map(|field| (field.name, field.type_name.into()))
                .collect();
            json!({ "kind": kind.name(), "version": kind.version(), "fields": fields })
        })
        .collect();
    output.result(json!({ "status": "done", "kinds": listed }), |out| {
        if kinds.is_empty() {
            writeln!(out, "none but matrix products: tilework multiply, tilework gram")?;
        }
        for kind in kinds {
            writeln!(out, "{}, version {}", kind.name(), kind.version())?;
            for field in kind.fields() {
                writeln!(out, "  {field}")?;
            }
        }
        Ok(())
    })
}

/// The spec as it is given: the file's fields, and over them those that are set.
pub(crate) fn spec(args: &RunJobArgs) -> Result<Map<String, Value>, CliError> {
    let mut spec = args
        .spec
        .as_deref()
        .map(read_spec)
        .transpose()?
        .unwrap_or_default();
    for set in &args.set {
        let Some((name, value)) = set.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(CliError::usage(format!("`--set {set}` has no value"))
                .with_next("write it so: --set FIELD=VALUE"));
        };
        spec.insert(name.trim().to_owned(), value_of(value));
    }
    Ok(spec)
}

fn read_spec(path: &Path) -> Result<Map<String, Value>, CliError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let failure = CliError::io("read", path, &error);
        if failure.next.is_some() {
            return failure;
        }
        failure.with_next("check the path, and whether you may read it")
    })?;
    parse_spec(path, &text)
}

pub(crate) fn parse_spec(path: &Path, text: &str) -> Result<Map<String, Value>, CliError> {
    serde_json::from_str(text).map_err(|error| {
        CliError::new(
            Exit::Usage,
            format!("`{}` is no JSON object: {error}", path.display()),
        )
        .with_next(r#"write the spec so: {"field": value, ...}"#)
    })
}

/// JSON, or else a text. Whole numbers may be written as people write large ones: `1e9`.
fn value_of(text: &str) -> Value {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Number(number)) => match number.as_f64() {
            Some(real) if number.is_f64() && real.fract() == 0.0 && real.abs() < 9e15 => json!(real as i64),
            _ => Value::Number(number),
        },
        Ok(value) => value,
        Err(_) => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_or_else_texts() {
        assert_eq!(value_of("1e9"), json!(1_000_000_000));
        assert_eq!(value_of("0.5"), json!(0.5));
        assert_eq!(value_of("-3"), json!(-3));
        assert_eq!(value_of("true"), json!(true));
        assert_eq!(value_of("[1, 2]"), json!([1, 2]));
        assert_eq!(value_of("\"7\""), json!("7"));
        assert_eq!(value_of("a text"), json!("a text"));
    }
}
