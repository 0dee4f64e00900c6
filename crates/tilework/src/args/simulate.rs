//! `simulate`: a cluster that need not exist, and a job for it.

use super::multiply::AssignArg;
use super::values::{dtypes, parse_bandwidth, parse_duration, parse_gflops, parse_size};
use clap::{Args, Subcommand};
use std::time::Duration;
use tilework_store::element_type::Dtype;

const SIMULATE_HELP: &str = "\
Examples:
  tilework simulate --workers 8 --worker-memory 16GiB --worker-gflops 150 \\
      multiply 100000 100000 100000
  tilework simulate --workers 500 --worker-memory 64GiB --worker-gflops 2000 \\
      --store-bandwidth 50GB/s --mtbf 500h multiply 400000 400000 400000
  tilework simulate --workers 8 --worker-memory 16GiB --worker-gflops 150 \\
      --one-slow 4 --assign round-robin multiply 100000 100000 100000

The extents M K N are those of A (M x K), B (K x N) and C (M x N). The options stand before `multiply`.
Driver and workers are the program's own; only the time of a task is a model: its arithmetic at the worker's rate, or its
bytes at its share of the storage's, whichever takes longer, and up to a fifth more or less. A worker that fails loses its
task and comes back. A result is the median of the runs, with the lower and the upper quartile: half of the runs lie
between them. The same arguments give the same answer. 10,000 busy workers for hours take minutes to simulate.
In JSON, \"seconds\", \"extra_work\" (a share of the tasks), \"workers_lost\" and \"messages_per_second\" are
[lower quartile, median, upper quartile].";

/// Arguments of `simulate`.
#[derive(Debug, Clone, Args)]
#[command(after_help = SIMULATE_HELP)]
pub struct SimulateArgs {
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// The job.
    #[command(subcommand)]
    pub job: SimulatedJob,
}

/// A cluster.
#[derive(Debug, Clone, Args)]
pub struct ClusterArgs {
    /// Worker processes, one on each machine
    #[arg(long, env = "TILEWORK_WORKERS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub workers: u32,
    /// Memory of each worker, for example 64GiB
    #[arg(long, env = "TILEWORK_WORKER_MEMORY", value_name = "SIZE", value_parser = parse_size)]
    pub worker_memory: u64,
    /// Rate of each worker in GF/s, as `tilework multiply` reports it: 150 is 150e9 additions and multiplications a second
    #[arg(long, env = "TILEWORK_WORKER_GFLOPS", value_name = "GFLOPS", value_parser = parse_gflops)]
    pub worker_gflops: f64,
    /// What the storage brings to all workers together, for example 2GB/s [default: without limit]
    #[arg(long, env = "TILEWORK_STORE_BANDWIDTH", value_name = "RATE", value_parser = parse_bandwidth)]
    pub store_bandwidth: Option<u64>,
    /// Mean time between failures of one worker, for example 500h [default: none fails]
    #[arg(long, env = "TILEWORK_MTBF", value_name = "TIME", value_parser = parse_duration)]
    pub mtbf: Option<Duration>,
    /// How many times as long one of the workers takes: 1 is none, 4 makes one four times as slow
    #[arg(long, env = "TILEWORK_ONE_SLOW", value_name = "TIMES", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub one_slow: u64,
    /// How tasks find their workers
    #[arg(long, env = "TILEWORK_ASSIGN", value_name = "HOW", value_enum, default_value_t = AssignArg::Dynamic)]
    pub assign: AssignArg,
    /// Leave stragglers to themselves, to see what backup attempts bring
    #[arg(long, env = "TILEWORK_NO_BACKUPS")]
    pub no_backups: bool,
    /// Simulated runs, which differ in failures and durations; the same N gives the same answer
    #[arg(long, env = "TILEWORK_SEEDS", value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub seeds: u64,
}

/// The jobs that can be simulated.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum SimulatedJob {
    /// C (M x N) = A (M x K) · B (K x N)
    Multiply {
        /// Rows of A and C
        #[arg(value_name = "M", value_parser = clap::value_parser!(u64).range(1..))]
        m: u64,
        /// Columns of A, rows of B
        #[arg(value_name = "K", value_parser = clap::value_parser!(u64).range(1..))]
        k: u64,
        /// Columns of B and C
        #[arg(value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        n: u64,
        /// Type of the elements
        #[arg(long, env = "TILEWORK_DTYPE", value_name = "TYPE", default_value = "f64", value_parser = dtypes())]
        dtype: Dtype,
    },
}
