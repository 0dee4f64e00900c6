//! `multiply`, `plan` and `resume`: they share operands and resources.

use super::clients::ClusterArgs;
use super::gram::PlanGramArgs;
use super::values::{algorithms, dtypes, parse_duration, parse_factor, parse_size};
use crate::webhook::address::WebhookUrl;
use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;
use tilework_linalg::AlgorithmChoice;
use tilework_store::element_type::Dtype;

const MULTIPLY_HELP: &str = "\
Examples:
  tilework multiply A.npy B.npy -o C.npy
  tilework multiply X.npy X.npy --transpose-b -o similarity.npy
  tilework multiply A.npy B.npy -o C.npy --memory 2GiB --threads 8
  tilework multiply A.npy B.npy -o C.npy --algorithm auto    # faster if both are large
  tilework multiply A.npy B.npy -o C.npy --time-limit 55m    # then exit 75; run it again to go on
  tilework multiply A.npy B.npy -o C.npy --alert-webhook https://alerts.example.com/tilework
  tilework multiply a.csv b.csv -o -                         # small matrices, printed
  tilework multiply A.npy B.npy -o C.npy --alpha 0.5 --beta -1 --add D.npy   # C = 0.5·A·B - D
  tilework multiply A.npy B.npy -o C.npy --add C.npy --overwrite             # C += A·B

With --add C -o C the old C is read until the new one is complete. After a stop, `tilework resume C` goes on and never
adds twice; the command itself would add once more if the run had just ended.
Inputs: .npy files, or text with one row per line.
The output appears under its name only when it is complete.";

/// Arguments of `multiply`.
#[derive(Debug, Clone, Args)]
#[command(after_help = MULTIPLY_HELP)]
pub struct MultiplyArgs {
    /// The two matrices, and how to use them.
    #[command(flatten)]
    pub product: ProductArgs,
    /// Where C goes: a .npy file, or `-` to print a small result
    #[arg(short, long, env = "TILEWORK_OUTPUT", value_name = "C")]
    pub output: PathBuf,
    /// How an earlier or unfinished output is treated.
    #[command(flatten)]
    pub run: RunArgs,
    /// What the run may use.
    #[command(flatten)]
    pub resources: ResourceArgs,
}

/// The operands of a product.
#[derive(Debug, Clone, Args)]
pub struct ProductArgs {
    /// The left matrix
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// The right matrix
    #[arg(value_name = "B")]
    pub b: PathBuf,
    /// Use the transpose of A
    #[arg(long, env = "TILEWORK_TRANSPOSE_A", value_parser = FalseyValueParser::new())]
    pub transpose_a: bool,
    /// Use the transpose of B
    #[arg(long, env = "TILEWORK_TRANSPOSE_B", value_parser = FalseyValueParser::new())]
    pub transpose_b: bool,
    /// Compute in this type and convert inputs to it [default: the inputs' type, if both are f64 or both f32]
    #[arg(long, env = "TILEWORK_DTYPE", value_name = "TYPE", value_parser = dtypes())]
    pub dtype: Option<Dtype>,
    /// How to multiply: classical, strassen (faster on large matrices, larger rounding errors), or auto, which is whichever is estimated
    /// to be faster
    #[arg(long, env = "TILEWORK_ALGORITHM", value_name = "NAME", default_value = "classical", value_parser = algorithms())]
    pub algorithm: AlgorithmChoice,
    /// What is made of the product.
    #[command(flatten)]
    pub formula: FormulaArgs,
}

/// Factors, and what is added.
#[derive(Debug, Clone, Args)]
pub struct FormulaArgs {
    /// Multiply the product by X
    #[arg(long, env = "TILEWORK_ALPHA", value_name = "X", default_value = "1",
          allow_negative_numbers = true, value_parser = parse_factor)]
    pub alpha: f64,
    /// Add D, a matrix of C's shape; it may be C itself, with --overwrite
    #[arg(long, env = "TILEWORK_ADD", value_name = "D")]
    pub add: Option<PathBuf>,
    /// Multiply D by Y [default: 1]
    #[arg(long, env = "TILEWORK_BETA", value_name = "Y",
          allow_negative_numbers = true, value_parser = parse_factor)]
    pub beta: Option<f64>,
}

/// How an earlier or unfinished output is treated, and when to stop.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// Replace a finished output; the old file stays until the new one is complete
    #[arg(long, env = "TILEWORK_OVERWRITE", value_parser = FalseyValueParser::new())]
    pub overwrite: bool,
    /// Discard an unfinished output and start again
    #[arg(long, env = "TILEWORK_RESTART", value_parser = FalseyValueParser::new())]
    pub restart: bool,
    /// Stop cleanly after this long, with exit code 75; for example 55m
    #[arg(long, env = "TILEWORK_TIME_LIMIT", value_name = "TIME", value_parser = parse_duration)]
    pub time_limit: Option<Duration>,
    /// Post each alarm of the job to this http(s) address as JSON; the job never waits for it, nor fails with it
    #[arg(
        long,
        env = "TILEWORK_ALERT_WEBHOOK",
        value_name = "URL",
        hide_env_values = true
    )]
    pub alert_webhook: Option<WebhookUrl>,
    /// Where it is computed.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// What a run may use. May differ from run to run of the same job.
#[derive(Debug, Clone, Default, Args)]
pub struct ResourceArgs {
    /// Memory of the whole process, for example 2GiB [default: half of what the process may use]
    #[arg(long, env = "TILEWORK_MEMORY", value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
    /// Threads that compute [default: all that the process may use]
    #[arg(long, env = "TILEWORK_THREADS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Workers in this process, which share the threads [default: 1]
    #[arg(long, env = "TILEWORK_WORKERS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: Option<u32>,
    /// How tasks find their workers: by load, or task i to worker i mod n [default: dynamic]
    #[arg(long, env = "TILEWORK_ASSIGN", value_name = "HOW")]
    pub assign: Option<AssignArg>,
}

/// How tasks find their workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AssignArg {
    /// Whoever has room takes the next task
    Dynamic,
    /// Task i goes to worker i mod n; nothing is taken over but from lost workers
    RoundRobin,
}

/// Arguments of `plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// The job to plan.
    #[command(subcommand)]
    pub job: PlanJob,
}

/// The jobs that can be planned.
#[derive(Debug, Clone, Subcommand)]
pub enum PlanJob {
    /// What `multiply` would do: tiles, peak memory, bytes and their ratio to the bound, disk, time
    Multiply(PlanMultiplyArgs),
    /// What `gram` would do
    Gram(PlanGramArgs),
}

const PLAN_HELP: &str = "\
Examples:
  tilework plan multiply A.npy B.npy
  tilework plan multiply A.npy B.npy -o /data/C.npy --memory 512MiB
  tilework plan multiply A.npy B.npy --alpha 0.5 --add D.npy";

/// Arguments of `plan multiply`: those of `multiply`, so that the word `plan` can be put before any command.
#[derive(Debug, Clone, Args)]
#[command(after_help = PLAN_HELP)]
pub struct PlanMultiplyArgs {
    /// The two matrices, and how to use them.
    #[command(flatten)]
    pub product: ProductArgs,
    /// Where C would go, to see whether it fits there
    #[arg(short, long, env = "TILEWORK_OUTPUT", value_name = "C")]
    pub output: Option<PathBuf>,
    /// Accepted as `multiply` takes them.
    #[command(flatten)]
    pub run: RunArgs,
    /// What the run may use.
    #[command(flatten)]
    pub resources: ResourceArgs,
}

const RESUME_HELP: &str = "\
Examples:
  tilework resume C.npy
  tilework resume C.npy --memory 1GiB --threads 4";

/// Arguments of `resume`.
#[derive(Debug, Clone, Args)]
#[command(after_help = RESUME_HELP)]
pub struct ResumeArgs {
    /// The unfinished output, under the name that it will have
    #[arg(value_name = "C")]
    pub output: PathBuf,
    /// What the run may use.
    #[command(flatten)]
    pub resources: ResourceArgs,
    /// Where it is computed.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Stop cleanly after this long, with exit code 75; for example 55m
    #[arg(long, env = "TILEWORK_TIME_LIMIT", value_name = "TIME", value_parser = parse_duration)]
    pub time_limit: Option<Duration>,
    /// Post each alarm of the job to this http(s) address as JSON; the job never waits for it, nor fails with it
    #[arg(
        long,
        env = "TILEWORK_ALERT_WEBHOOK",
        value_name = "URL",
        hide_env_values = true
    )]
    pub alert_webhook: Option<WebhookUrl>,
}
