//! `status` and `explain` of a job that a cluster knows. One that it does not know is looked for beside its output.

use super::clustered::{job_head, job_line};
use super::explain::{alarm_line, most_telling};
use crate::args::inspect::JobArgs;
use crate::cluster::account::{Account, Known, WorkerOnJob};
use crate::cluster::board::{Board, JobOnBoard};
use crate::cluster::clients::{Client, find_at, find_on};
use crate::cluster::record::unix_ms;
use crate::failure::CliError;
use crate::human;
use crate::output::Output;
use serde_json::{Value, json};
use std::path::Path;
use tilework_nats::streams::job_of_token;
use tilework_store::journal::JobFiles;

/// A job of a cluster.
pub(crate) struct JobOnCluster {
    client: Client,
    board: Board,
    job: JobOnBoard,
}

impl JobOnCluster {
    /// The job, if a cluster is named and knows it. That a cluster can't be asked is an error only where nothing of the job is here.
    pub(crate) fn find(args: &JobArgs, output: &Output) -> Result<Option<JobOnCluster>, CliError> {
        let Some(cluster) = &args.cluster else {
            return Ok(None);
        };
        let found = find(cluster, &args.output);
        let note = match found {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => format!("the cluster knows no job `{}`", args.output.display()),
            Err(error) if is_known_here(&args.output) => {
                format!(
                    "the cluster of `{}` could not be asked: {}",
                    cluster.display(),
                    error.message
                )
            }
            Err(error) => return Err(error),
        };
        output.note(&format!("{note}: this is what stands beside the output here"));
        Ok(None)
    }

    /// As `status` tells it.
    pub(crate) fn tell_status(&self, output: &Output) -> Result<(), CliError> {
        output.result(self.to_json(), |out| writeln!(out, "{}", job_line(&self.job)))
    }

    /// As `explain` tells it.
    pub(crate) fn tell(&self, output: &Output) -> Result<(), CliError> {
        let account = self.account()?;
        let mut json = self.to_json();
        let told = serde_json::to_value(&account).unwrap_or_default();
        if let (Value::Object(json), Value::Object(told)) = (&mut json, told) {
            json.extend(told);
        }
        output.result(json, |out| {
            writeln!(out, "{}", job_head(&self.job))?;
            let Account {
                why,
                waits_for,
                workers,
                alarms,
                then,
                next,
            } = &account;
            why.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
            workers
                .iter()
                .try_for_each(|worker| writeln!(out, "  {}", worker_line(worker)))?;
            alarms
                .iter()
                .try_for_each(|alarm| writeln!(out, "  {}", alarm_line(alarm)))?;
            waits_for
                .iter()
                .try_for_each(|wait| writeln!(out, "waits for {wait}"))?;
            writeln!(out, "then: {then}")?;
            next.as_ref().map_or(Ok(()), |next| writeln!(out, "next: {next}"))
        })
    }

    fn account(&self) -> Result<Account, CliError> {
        let events = match job_of_token(&self.job.id) {
            Some(id) => self.client.latest_events(id)?,
            None => Vec::new(),
        };
        let record = self.client.record(&self.job.id)?;
        let known = Known {
            board: &self.board,
            job: &self.job,
            driver_trouble: self.client.driver_trouble(),
            record: record.as_ref(),
            events: &events,
            now_unix_ms: unix_ms(),
        };
        let mut account = known.account();
        account.alarms = most_telling(account.alarms);
        Ok(account)
    }

    fn to_json(&self) -> Value {
        let mut json = serde_json::to_value(&self.job).unwrap_or_default();
        json["status"] = json!("done");
        json
    }
}

fn find(cluster: &Path, named: &Path) -> Result<Option<JobOnCluster>, CliError> {
    let client = Client::look(cluster)?;
    let board = client.board()?;
    let Some((board, named)) = board.zip(named.to_str()) else {
        return Ok(None);
    };
    let path = Path::new(named);
    let job = match find_at(&board, path) {
        Some(job) => Some(job),
        // Its name may also be the beginning of an id.
        None if is_known_here(path) => None,
        None => find_on(&board, named)?,
    };
    let job = job.cloned();
    Ok(job.map(|job| JobOnCluster { client, board, job }))
}

fn is_known_here(path: &Path) -> bool {
    JobFiles::beside(path).folder().is_dir()
}

fn worker_line(worker: &WorkerOnJob) -> String {
    let host = worker
        .host
        .as_ref()
        .map_or(String::new(), |host| format!(" on `{host}`"));
    let holds: Vec<String> = worker.holds.iter().map(u64::to_string).collect();
    let holds = match holds.len() {
        0 => String::new(),
        1 => format!(", has task {}", holds[0]),
        _ => format!(", has tasks {}", holds.join(", ")),
    };
    format!(
        "worker {}{host}: {}, {} committed{holds}",
        worker.worker,
        worker.state,
        human::counted(worker.tasks, "task")
    )
}
