//! `worker` and `driver`: the processes of a cluster.

use super::values::parse_size;
use crate::webhook::address::WebhookUrl;
use clap::Args;
use clap::builder::FalseyValueParser;
use std::path::PathBuf;
use tilework_store::data_roots::NamedRoot;

const WORKER_HELP: &str = "\
Examples:
  tilework worker --cluster worker.join --data-root data=/srv/matrices
  tilework worker --cluster worker.join --data-root data=/mnt/nfs --threads 8 --memory 16GiB

worker.join comes from the cluster's folder: copy it to this machine, readable by its owner only. Data roots have the
same names everywhere, and may be in different places. SIGTERM and Ctrl-C let it finish or give back what it has.";

/// Arguments of `worker`.
#[derive(Debug, Clone, Args)]
#[command(after_help = WORKER_HELP)]
pub struct WorkerArgs {
    /// What it joins, and where its files are.
    #[command(flatten)]
    pub process: ProcessArgs,
    /// Threads that compute [default: all that the process may use]
    #[arg(long, env = "TILEWORK_THREADS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Memory of the whole process, for example 8GiB [default: half of what the process may use]
    #[arg(long, env = "TILEWORK_MEMORY", value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
}

const DRIVER_HELP: &str = "\
Examples:
  tilework driver --cluster driver.join --data-root data=/srv/matrices

Several may run: one drives, the others take over within seconds when it is gone. The driver needs the data roots of the
outputs, for it reads them back before they get their names.";

/// Arguments of `driver`.
#[derive(Debug, Clone, Args)]
#[command(after_help = DRIVER_HELP)]
pub struct DriverArgs {
    /// What it joins, and where its files are.
    #[command(flatten)]
    pub process: ProcessArgs,
    /// Post each alarm of all jobs to this http(s) address as JSON, while this driver drives; no job waits for it, nor fails with it
    #[arg(
        long,
        env = "TILEWORK_ALERT_WEBHOOK",
        value_name = "URL",
        hide_env_values = true
    )]
    pub alert_webhook: Option<WebhookUrl>,
}

/// What both have in common.
#[derive(Debug, Clone, Args)]
pub struct ProcessArgs {
    /// The join file of this role, from the cluster's folder
    #[arg(long, env = "TILEWORK_CLUSTER", value_name = "FILE")]
    pub cluster: PathBuf,
    /// A directory whose files jobs may use, and its name on all machines; may be repeated
    #[arg(long, env = "TILEWORK_DATA_ROOT", value_name = "NAME=DIR", required = true)]
    pub data_root: Vec<NamedRoot>,
    /// End at once when the standard input closes, as it does when the process ends that started this one
    #[arg(long, env = "TILEWORK_UNTIL_STDIN_CLOSES", hide = true, value_parser = FalseyValueParser::new())]
    pub until_stdin_closes: bool,
}
