//! A product on a cluster: submitted, and watched until it is over, unless somebody prefers to leave.

use super::run::checked;
use crate::args::clients::ClusterArgs;
use crate::args::multiply::{AssignArg, ResourceArgs, RunArgs};
use crate::cluster::board::JobOnBoard;
use crate::cluster::clients::{Client, Sight, outcome};
use crate::cluster::protocol::{
    AssignName, PLAN, Planned, ProductWanted, Submit, Submitted, Wanted, algorithm_name,
};
use crate::failure::{CliError, Exit};
use crate::human;
use crate::job_state::is_product;
use crate::output::Output;
use crate::product::inputs::{AddRequest, InputRequest};
use crate::progress::RoundBar;
use crate::signals;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use tilework_linalg::AlgorithmChoice;
use tilework_runtime::StopSwitch;

/// How long a driver or worker is waited for if nothing is said.
const WAIT: Duration = Duration::from_secs(30);

/// Computes a product on the cluster.
pub(crate) fn run_product(
    cluster: &Path,
    inputs: &InputRequest,
    algorithm: AlgorithmChoice,
    destination: &Path,
    run: &RunArgs,
    resources: &ResourceArgs,
    output: &Output,
) -> Result<(), CliError> {
    check_is_for_clusters(run, resources)?;
    if destination == Path::new("-") {
        return Err(CliError::usage("`-o -` prints a product that is computed here")
            .with_next("write it to a file with -o, or leave --cluster out"));
    }
    let submit = submit_of(inputs, algorithm, Some(destination), run, resources)?;
    submit_and_watch(cluster, submit, &run.cluster, output)
}

/// Submits, and watches unless the user wants to go.
pub(crate) fn submit_and_watch(
    cluster: &Path,
    submit: Submit,
    args: &ClusterArgs,
    output: &Output,
) -> Result<(), CliError> {
    let client = Client::join(cluster)?;
    let stop = StopSwitch::default();
    let _signals = signals::leave_on_signals(&stop, output)?;
    let wait = args.wait.unwrap_or(WAIT);
    let submitted = client.submit(&submit, wait, &stop, &|note| output.note(note))?;
    submitted.notes.iter().for_each(|note| output.note(note));
    if submitted.was_running {
        output.note("the job runs already: watching it");
    } else if submitted.tasks_resumed > 0 {
        output.note(&format!(
            "resuming: {} of {} tasks are committed already",
            submitted.tasks_resumed, submitted.tasks
        ));
    }
    if args.detach {
        return tell_detached(&submitted, output);
    }
    watch(&client, &submitted.job, Some(wait), &stop, output)
}

/// Watches a job to its end, and reports it as the command that began it would.
pub(crate) fn watch(
    client: &Client,
    job: &str,
    patience: Option<Duration>,
    stop: &StopSwitch,
    output: &Output,
) -> Result<(), CliError> {
    let bar = RoundBar::new(output);
    let mut waiting = Waiting::default();
    let ended = client.watch(job, stop, &mut |sight| {
        bar.show(0, sight.job.tasks_committed, sight.job.tasks);
        waiting.tell(sight, output);
        waiting.is_too_long(patience)
    });
    bar.finish();
    if waiting.is_too_long(patience) {
        let why = waiting.since.map(|(_, why)| why).unwrap_or_default();
        return Err(CliError::new(Exit::Unreachable, why).with_next(format!(
            "the job goes on when they are back; watch it: tilework watch {job}"
        )));
    }
    match ended? {
        Some(record) => {
            let report = outcome(record)?;
            output.report(report.clone(), |out| write_report(out, &report))
        }
        None => Err(
            CliError::new(Exit::Interrupted, "left; the job goes on").with_next(format!(
                "watch it: tilework watch {job}; end it: tilework cancel {job}"
            )),
        ),
    }
}

/// What keeps a job from going on, and since when.
#[derive(Default)]
struct Waiting {
    since: Option<(Instant, String)>,
}

impl Waiting {
    /// Says what is new.
    fn tell(&mut self, sight: &Sight, output: &Output) {
        let trouble = sight.trouble.clone().map(|trouble| (trouble.since, trouble.why));
        let why = trouble.or_else(|| Some((Instant::now(), sight.job.waits_for.clone()?)));
        match (&self.since, why) {
            (Some((_, told)), Some((_, why))) if *told == why => {}
            (before, Some((since, why))) => {
                output.note(&format!("note: {why}"));
                // Another cause, or the same in other words: it has stood still all the time.
                let since = before.as_ref().map_or(since, |(before, _)| since.min(*before));
                self.since = Some((since, why));
            }
            (Some(_), None) => {
                output.note("note: the job goes on");
                self.since = None;
            }
            (None, None) => {}
        }
    }

    fn is_too_long(&self, patience: Option<Duration>) -> bool {
        let waited = self.since.as_ref().map(|(since, _)| since.elapsed());
        waited
            .zip(patience)
            .is_some_and(|(waited, patience)| waited >= patience)
    }
}

fn tell_detached(submitted: &Submitted, output: &Output) -> Result<(), CliError> {
    let json = json!({
        "status": "running",
        "id": submitted.job,
        "output": submitted.output,
        "tasks": submitted.tasks,
        "tasks_resumed": submitted.tasks_resumed,
    });
    output.report(json, |out| {
        writeln!(
            out,
            "{}: job {} goes on without this command",
            submitted.output, submitted.job
        )?;
        writeln!(out, "  watch it: tilework watch {}", submitted.job)?;
        writeln!(out, "  end it:   tilework cancel {}", submitted.job)
    })
}

/// Shows what a product would take on the cluster.
pub(crate) fn plan(
    cluster: &Path,
    inputs: &InputRequest,
    algorithm: AlgorithmChoice,
    destination: Option<&Path>,
    run: &RunArgs,
    resources: &ResourceArgs,
    output: &Output,
) -> Result<(), CliError> {
    check_resources(resources)?;
    let submit = submit_of(inputs, algorithm, destination, run, resources)?;
    let client = Client::join(cluster)?;
    let stop = StopSwitch::default();
    let wait = run.cluster.wait.unwrap_or(WAIT);
    let planned: Planned = client.ask_patiently(PLAN, &submit, wait, &stop, &|note| output.note(note))?;
    output.result(planned.json, |out| writeln!(out, "{}", planned.text))
}

/// Refuses what belongs to one machine.
pub(crate) fn check_is_for_clusters(run: &RunArgs, resources: &ResourceArgs) -> Result<(), CliError> {
    check_resources(resources)?;
    if run.alert_webhook.is_some() {
        return Err(CliError::usage(
            "--alert-webhook posts from the process that runs the job, which may leave a cluster at any time",
        )
        .with_next("leave it out; on a cluster the drivers post the alarms of all jobs: tilework driver --alert-webhook URL"));
    }
    Ok(())
}

/// Threads and workers are the cluster's own.
pub(crate) fn check_resources(resources: &ResourceArgs) -> Result<(), CliError> {
    for (name, given) in [("--threads", resources.threads), ("--workers", resources.workers)] {
        if given.is_some() {
            return Err(CliError::usage(format!(
                "{name} is what each process of a cluster is started with"
            ))
            .with_next("leave it out; for more of them: tilework worker --cluster worker.join"));
        }
    }
    Ok(())
}

fn submit_of(
    inputs: &InputRequest,
    algorithm: AlgorithmChoice,
    destination: Option<&Path>,
    run: &RunArgs,
    resources: &ResourceArgs,
) -> Result<Submit, CliError> {
    let named = |add: &AddRequest| cluster_path(&add.d).map(|d| (d, add.beta));
    let add = inputs.add.as_ref().map(named);
    let wanted = ProductWanted {
        a: cluster_path(&inputs.a)?,
        b: cluster_path(&inputs.b)?,
        transpose_a: inputs.transpose_a,
        transpose_b: inputs.transpose_b,
        symmetric: inputs.symmetric,
        dtype: inputs.dtype,
        alpha: inputs.alpha,
        add: add.transpose()?,
        algorithm: algorithm_name(algorithm).to_owned(),
    };
    submit(Wanted::Product(wanted), destination, run, resources)
}

/// A job as it is asked for.
pub(crate) fn submit(
    wanted: Wanted,
    destination: Option<&Path>,
    run: &RunArgs,
    resources: &ResourceArgs,
) -> Result<Submit, CliError> {
    Ok(Submit {
        token: Submit::new_token(),
        wanted,
        output: destination.map(cluster_path).transpose()?,
        assign: assign_name(resources.assign),
        memory_bytes: resources.memory,
        overwrite: run.overwrite,
        restart: run.restart,
        time_limit_ms: run.time_limit.map(milliseconds),
    })
}

/// What goes on with an unfinished output.
pub(crate) fn resume_of(
    destination: &Path,
    resources: &ResourceArgs,
    time_limit: Option<Duration>,
) -> Result<Submit, CliError> {
    Ok(Submit {
        token: Submit::new_token(),
        wanted: Wanted::Unfinished,
        output: Some(cluster_path(destination)?),
        assign: assign_name(resources.assign),
        memory_bytes: resources.memory,
        overwrite: false,
        restart: false,
        time_limit_ms: time_limit.map(milliseconds),
    })
}

fn assign_name(assign: Option<AssignArg>) -> AssignName {
    match assign {
        Some(AssignArg::RoundRobin) => AssignName::RoundRobin,
        Some(AssignArg::Dynamic) | None => AssignName::Dynamic,
    }
}

fn milliseconds(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}

/// A path as the cluster may understand it: `NAME:/path` as it is, any other as an absolute one without links.
pub(crate) fn cluster_path(path: &Path) -> Result<String, CliError> {
    let text = path.to_str().ok_or_else(|| {
        CliError::usage(format!(
            "`{}` is not UTF-8, as paths in a cluster have to be",
            path.display()
        ))
    })?;
    if let Some((name, inner)) = text.split_once(':')
        && !name.is_empty()
        && !name.contains('/')
        && !path.exists()
    {
        return Ok(format!("{name}:/{}", inner.trim_start_matches('/')));
    }
    let (parent, name) = (tilework_store::disk::parent_dir(path), path.file_name());
    let name = name.ok_or_else(|| CliError::usage(format!("`{text}` names no file")))?;
    let parent = std::fs::canonicalize(parent).map_err(|error| CliError::io("look at", parent, &error))?;
    let absolute = parent.join(name);
    let absolute = absolute.to_str().map(str::to_owned);
    absolute.ok_or_else(|| CliError::usage(format!("the folder of `{text}` is not UTF-8")))
}

/// A finished job of a cluster, for people.
fn write_report(out: &mut dyn Write, report: &Value) -> io::Result<()> {
    let text = |name: &str| report[name].as_str().unwrap_or_default().to_owned();
    let number = |name: &str| report[name].as_u64().unwrap_or_default();
    let real = |name: &str| report[name].as_f64().unwrap_or_default();
    let (output, seconds) = (text("output"), real("seconds"));
    let is_product = is_product(&text("job"));
    if is_product {
        writeln!(
            out,
            "{output}: {} x {} {}, done in {seconds:.2} s ({:.1} GF/s)",
            number("m"),
            number("n"),
            text("dtype"),
            real("gflops")
        )?;
    } else {
        writeln!(out, "{output}: {} done in {seconds:.2} s", text("job"))?;
    }
    let counted = |n: u64, what: &str| {
        if n > 0 {
            format!(", {n} {what}")
        } else {
            String::new()
        }
    };
    writeln!(
        out,
        "  tasks    {} run{}{}{}{}",
        number("tasks_run"),
        if is_product {
            String::new()
        } else {
            checked(number("tasks_checked"))
        },
        counted(number("tasks_resumed"), "kept from before"),
        counted(number("retries"), "retried"),
        counted(number("backups"), "done twice for speed")
    )?;
    for worker in report["workers"].as_array().into_iter().flatten() {
        writeln!(
            out,
            "  worker {} on `{}`: {}",
            worker["worker"],
            worker["host"].as_str().unwrap_or("?"),
            human::counted(worker["tasks"].as_u64().unwrap_or_default(), "task")
        )?;
    }
    if is_product {
        writeln!(
            out,
            "  checked  every tile; largest residual {:.1e}, allowed {:.1e}; read back before it got its name",
            real("residual_max"),
            real("residual_bound")
        )?;
    }
    let n_alarms = number("alarms_total");
    if n_alarms > 0 {
        writeln!(
            out,
            "  alarms   {n_alarms}; see them: tilework logs {}",
            text("id")
        )?;
    }
    Ok(())
}

/// A line about a job, and what keeps it from going on.
pub(crate) fn job_line(job: &JobOnBoard) -> String {
    let waits = job.waits_for.as_deref().or(job.error.as_deref());
    let waits = waits.map_or(String::new(), |waits| format!("\n  {waits}"));
    job_head(job) + &waits
}

/// A line about a job.
pub(crate) fn job_head(job: &JobOnBoard) -> String {
    let round = match job.round {
        0 => String::new(),
        round => format!(", round {}", round + 1),
    };
    let done = match job.tasks {
        // An ended job of a program's own, which the driver of then counted.
        0 => String::new(),
        n_tasks => format!(
            "{:>4} %  {:>7} of {}",
            human::percent(job.tasks_committed, n_tasks),
            job.tasks_committed,
            human::counted(n_tasks, "task")
        ),
    };
    let id = &job.id[..job.id.len().min(12)];
    format!("{id}  {:<9} {done:<29} {}{round}", job.state, job.output)
}
