//! The global options and the list of commands.

use super::clients::{DoctorArgs, ListArgs, NamedJobArgs, WatchArgs};
use super::cluster::ClusterVerbs;
use super::gram::GramArgs;
use super::inspect::{
    CleanArgs, CompareArgs, CompletionsArgs, DemoArgs, GenerateArgs, InspectArgs, JobArgs, ManArgs,
    RepairArgs, VerifyArgs,
};
use super::multiply::{MultiplyArgs, PlanArgs, ResumeArgs};
use super::processes::{DriverArgs, WorkerArgs};
use super::run::RunJobArgs;
use super::simulate::SimulateArgs;
use clap::builder::FalseyValueParser;
use clap::{ArgAction, Parser, Subcommand};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Examples:
  tilework demo
  tilework generate normal 8192x8192 -o A.npy
  tilework multiply A.npy B.npy -o C.npy
  tilework multiply A.npy B.npy -o C.npy --memory 2GiB --time-limit 55m

The same `multiply` again resumes what was interrupted.
Options can also be set as TILEWORK_<OPTION> in the environment.
Exit codes: 0 done, 2 bad input or usage, 3 not enough memory or disk, 4 job failed,
5 verification or comparison failed, 6 cluster unreachable or without workers, 7 cancelled, 75 stopped by the
time limit, 130 interrupted.";

/// Multiply matrices larger than memory, file to file: planned, checked, resumable
#[derive(Debug, Clone, Parser)]
#[command(name = "tilework", version, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Args {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do; a short introduction if nothing is given.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options of every command.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct GlobalArgs {
    /// Print exactly one JSON object on one line to stdout, also on failure
    #[arg(long, global = true, env = "TILEWORK_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, env = "TILEWORK_QUIET", value_parser = FalseyValueParser::new())]
    pub quiet: bool,
    /// Log to stderr what happens; twice for every step
    #[arg(short, long, global = true, env = "TILEWORK_VERBOSE", action = ArgAction::Count)]
    pub verbose: u8,
    /// Append a detailed log to this file
    #[arg(long, global = true, env = "TILEWORK_LOG_FILE", value_name = "PATH")]
    pub log_file: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Multiply two matrices, file to file; the same command again resumes
    Multiply(MultiplyArgs),
    /// Multiply a matrix with its own transpose, at half the work
    Gram(GramArgs),
    /// Show what a job would do, without doing it
    Plan(PlanArgs),
    /// Run a job of this program's own; the same command again resumes
    Run(RunJobArgs),
    /// List this program's own jobs, with the fields of their specs
    Kinds,
    /// Forecast a job on a cluster that need not exist: time, failures, bytes, messages
    Simulate(SimulateArgs),
    /// Make, start, stop and show a cluster
    Cluster(ClusterVerbs),
    /// Go on with an unfinished output
    Resume(ResumeArgs),
    /// Show how far an output is
    Status(JobArgs),
    /// Explain the state of an output, and what to do next
    Explain(JobArgs),
    /// Check a product: C = A·B, or C against its journal
    Verify(VerifyArgs),
    /// Compute the damaged parts of a finished output again, in its file
    Repair(RepairArgs),
    /// Compare two matrices element by element
    Compare(CompareArgs),
    /// Remove what unfinished jobs left behind
    Clean(CleanArgs),
    /// Show a matrix: shape, type, a corner of its elements
    Inspect(InspectArgs),
    /// Write a matrix of random or simple elements
    Generate(GenerateArgs),
    /// See it work: multiply, kill, resume, verify, in a temporary folder
    Demo(DemoArgs),
    /// List the jobs of a cluster
    Jobs(ListArgs),
    /// Watch a job of a cluster until it is over
    Watch(WatchArgs),
    /// End a job of a cluster; what is committed is kept
    Cancel(NamedJobArgs),
    /// List the workers of a cluster
    Workers(ListArgs),
    /// Show what happened to a job of a cluster: every task taken, committed, lost
    Logs(NamedJobArgs),
    /// Check a cluster: server, certificate, key, rights, driver, workers, data roots
    Doctor(DoctorArgs),
    /// Take tasks of a cluster's jobs, until told to stop
    Worker(WorkerArgs),
    /// Drive a cluster's jobs, or stand by to do so
    Driver(DriverArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
}
