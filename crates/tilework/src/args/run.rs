//! `run` and `kinds`: jobs that are no matrix products.

use super::multiply::{ResourceArgs, RunArgs};
use clap::Args;
use std::path::PathBuf;

const RUN_HELP: &str = "\
Examples, for a program that knows a job `pi` with the fields samples and tasks:
  my-jobs run pi --set samples=1e9 --set tasks=100
  my-jobs run pi --spec pi.json -o pi-large.json
  my-jobs run pi --spec pi.json --set samples=1e6    # what is set comes before what the file says
  my-jobs kinds                                      # which jobs it knows, and their fields

The same command again goes on with what was interrupted.
A field's value is JSON, or else a text: --set name=word --set 'names=[\"a\", \"b\"]'.";

/// Arguments of `run`.
#[derive(Debug, Clone, Args)]
#[command(after_help = RUN_HELP)]
pub struct RunJobArgs {
    /// The job, as `kinds` lists it
    #[arg(value_name = "KIND")]
    pub kind: String,
    /// A field of its spec
    #[arg(long, env = "TILEWORK_SET", value_name = "FIELD=VALUE")]
    pub set: Vec<String>,
    /// A file with the spec as a JSON object
    #[arg(long, env = "TILEWORK_SPEC", value_name = "FILE")]
    pub spec: Option<PathBuf>,
    /// Where the report goes [default: KIND.json]
    #[arg(short, long, env = "TILEWORK_OUTPUT", value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How an earlier or unfinished output is treated.
    #[command(flatten)]
    pub run: RunArgs,
    /// What the run may use; a task has one thread.
    #[command(flatten)]
    pub resources: ResourceArgs,
}
