//! `jobs`, `workers`, `watch`, `cancel`, `logs`: what clients ask of a cluster.

use super::clustered::{self, job_line};
use crate::args::clients::{ListArgs, NamedJobArgs, WatchArgs};
use crate::cluster::clients::Client;
use crate::cluster::events::{self, JobEvent};
use crate::cluster::protocol::{CANCEL, Cancel, Submitted};
use crate::cluster::record::{JobStands, unix_ms};
use crate::failure::{CliError, Exit};
use crate::human;
use crate::output::Output;
use crate::signals;
use serde_json::json;
use std::time::Duration;
use tilework_nats::streams::job_of_token;
use tilework_runtime::StopSwitch;

/// How long a cancelled job may take to end.
const CANCEL_WAIT: Duration = Duration::from_secs(30);
/// Messages of events that are read at a time.
const EVENTS_AT_A_TIME: usize = 256;

/// Runs `jobs`.
pub fn jobs(args: &ListArgs, output: &Output) -> Result<(), CliError> {
    let board = Client::look(&args.ask.cluster)?.board_of_driver()?;
    output.result(json!({ "status": "done", "jobs": board.jobs }), |out| {
        if board.jobs.is_empty() {
            return writeln!(out, "no jobs");
        }
        board
            .jobs
            .iter()
            .try_for_each(|job| writeln!(out, "{}", job_line(job)))
    })
}

/// Runs `workers`.
pub fn workers(args: &ListArgs, output: &Output) -> Result<(), CliError> {
    let board = Client::look(&args.ask.cluster)?.board_of_driver()?;
    output.result(json!({ "status": "done", "workers": board.workers }), |out| {
        if board.workers.is_empty() {
            return writeln!(out, "no workers");
        }
        board.workers.iter().try_for_each(|worker| {
            writeln!(
                out,
                "{:>4}  {:<8} {:>7} done  {}, {}, process {} on `{}`, data roots {}",
                worker.id,
                worker.state,
                human::counted(worker.tasks_done, "task"),
                human::counted(worker.threads.into(), "thread"),
                human::bytes(worker.memory_bytes),
                worker.pid,
                worker.host,
                worker.data_roots.join(", ")
            )
        })
    })
}

/// Runs `watch`.
pub fn watch(args: &WatchArgs, output: &Output) -> Result<(), CliError> {
    let client = Client::look(&args.ask.cluster)?;
    let job = client.find(&args.job)?;
    let stop = StopSwitch::default();
    let _signals = signals::leave_on_signals(&stop, output)?;
    clustered::watch(&client, &job.id, args.wait, &stop, output)
}

/// Runs `cancel`.
pub fn cancel(args: &NamedJobArgs, output: &Output) -> Result<(), CliError> {
    let client = Client::join(&args.ask.cluster)?;
    let job = client.find(&args.job)?;
    let cancelled: Submitted = client.ask(CANCEL, Cancel { job: job.id })?;
    let stop = StopSwitch::with_deadline(std::time::Instant::now().checked_add(CANCEL_WAIT));
    let ended = client.watch(&cancelled.job, &stop, &mut |_| false)?;
    let Some(record) = ended else {
        let message = format!("the job has not ended within {} s", CANCEL_WAIT.as_secs());
        return Err(CliError::new(Exit::Unreachable, message)
            .with_next(format!("see what it waits for: tilework watch {}", cancelled.job)));
    };
    let json = json!({
        "status": "done",
        "id": cancelled.job,
        "output": record.output,
        "state": record.stands.name(),
    });
    output.report(json, |out| {
        writeln!(out, "{}: {}", record.output, record.stands.name())?;
        if record.stands == JobStands::Done {
            return writeln!(out, "  it was complete before it could be cancelled");
        }
        writeln!(
            out,
            "  what was committed is kept; go on with: tilework resume {}",
            record.output
        )
    })
}

/// Runs `logs`.
pub fn logs(args: &NamedJobArgs, output: &Output) -> Result<(), CliError> {
    let client = Client::look(&args.ask.cluster)?;
    let job = client.find(&args.job)?;
    let id = job_of_token(&job.id)
        .ok_or_else(|| CliError::new(Exit::Unreachable, format!("`{}` is no job's id", job.id)))?;
    let mut found: Vec<JobEvent> = Vec::new();
    let mut after = 0;
    loop {
        let page = client.control().events_of(id, after, EVENTS_AT_A_TIME);
        let page = page.map_err(|error| crate::cluster::joining::unanswered(&error))?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        found.extend(page.iter().flat_map(|(_, bytes)| events::read(bytes)));
    }
    let json = json!({ "status": "done", "id": job.id, "output": job.output, "events": found });
    output.result(json, |out| {
        let now = unix_ms();
        found.iter().try_for_each(|event| {
            let ago = human::seconds(now.saturating_sub(event.unix_ms) as f64 / 1e3);
            let mut line = format!("{ago:>9} ago  run {}  {:<9}", event.run, event.what);
            if let Some(task) = event.task {
                line += &format!(" task {task}.{}", event.attempt.unwrap_or_default());
            }
            if let Some(worker) = event.worker {
                line += &format!(" worker {worker}");
            }
            if let Some(text) = &event.text {
                line += &format!(" {text}");
            }
            writeln!(out, "{line}")
        })
    })
}
