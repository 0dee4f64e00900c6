//! What clients of a cluster are told: which one, and how long to wait; and the verbs that only they have.

use super::values::parse_duration;
use clap::Args;
use clap::builder::FalseyValueParser;
use std::path::PathBuf;
use std::time::Duration;

/// Where a job is computed, if not here.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "On a cluster")]
pub struct ClusterArgs {
    /// Compute on the cluster that this join file belongs to; files are then NAME:/path in its data roots, or lie in them here
    #[arg(long, env = "TILEWORK_CLUSTER", value_name = "FILE")]
    pub cluster: Option<PathBuf>,
    /// Return once the job is accepted
    #[arg(long, env = "TILEWORK_DETACH", value_parser = FalseyValueParser::new())]
    pub detach: bool,
    /// How long to wait for a driver or a worker, when there is none, before giving up with exit code 6 [default: 30s]
    #[arg(long, env = "TILEWORK_WAIT", value_name = "TIME", value_parser = parse_duration)]
    pub wait: Option<Duration>,
}

/// The cluster that is asked, by whoever has a join file of any role.
#[derive(Debug, Clone, Args)]
pub struct DoctorAskArgs {
    /// A join file of any role; the client's shows most
    #[arg(long, env = "TILEWORK_CLUSTER", value_name = "FILE", required = true)]
    pub cluster: PathBuf,
}

/// The cluster that is asked.
#[derive(Debug, Clone, Args)]
pub struct AskArgs {
    /// The client's join file, from the cluster's folder
    #[arg(long, env = "TILEWORK_CLUSTER", value_name = "FILE", required = true)]
    pub cluster: PathBuf,
}

/// Arguments of `jobs` and `workers`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  tilework jobs --cluster client.join\n  TILEWORK_CLUSTER=client.join tilework workers --json"
)]
pub struct ListArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
}

const NAMED_HELP: &str = "\
Examples, with TILEWORK_CLUSTER set to the cluster's client.join:
  tilework watch C.npy
  tilework cancel 3f9a
  tilework logs data:/C.npy

JOB is the id that `jobs` shows, the beginning of it, or the output: NAME:/path, or its path here if the driver's data
roots are in the same places on this machine.";

/// Arguments of `cancel` and `logs`.
#[derive(Debug, Clone, Args)]
#[command(after_help = NAMED_HELP)]
pub struct NamedJobArgs {
    /// The job: its id, the beginning of it, or its output
    #[arg(value_name = "JOB")]
    pub job: String,
    /// Whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// Arguments of `watch`.
#[derive(Debug, Clone, Args)]
#[command(after_help = NAMED_HELP)]
pub struct WatchArgs {
    /// The job: its id, the beginning of it, or its output
    #[arg(value_name = "JOB")]
    pub job: String,
    /// Whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
    /// How long the job may be without driver or worker before giving up with exit code 6 [default: for ever]
    #[arg(long, env = "TILEWORK_WAIT", value_name = "TIME", value_parser = parse_duration)]
    pub wait: Option<Duration>,
}

/// Arguments of `doctor`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  tilework doctor --cluster client.join\n  tilework doctor --cluster client.join --json"
)]
pub struct DoctorArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub ask: DoctorAskArgs,
}
