//! The verbs that look at outputs and matrices, make some, or explain the program.

use super::multiply::FormulaArgs;
use super::values::{Shape, dtypes, parse_shape, parse_size, parse_tolerance};
use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use tilework_store::element_type::Dtype;

const JOB_HELP: &str = "\
Examples:
  tilework status C.npy
  tilework explain C.npy
  tilework status C.npy --json
  tilework explain 3f9a --cluster client.join    # a job of a cluster";

/// Arguments of `status` and `explain`.
#[derive(Debug, Clone, Args)]
#[command(after_help = JOB_HELP)]
pub struct JobArgs {
    /// The output, under the name that it has or will have; of a cluster's job also its id, or the beginning of it
    #[arg(value_name = "C")]
    pub output: PathBuf,
    /// Ask the cluster that this join file belongs to, a client's or a viewer's; what it does not know is looked for here
    #[arg(long, env = "TILEWORK_CLUSTER", value_name = "FILE")]
    pub cluster: Option<PathBuf>,
}

const VERIFY_HELP: &str = "\
Examples:
  tilework verify C.npy                 # made by tilework: every tile by its journal, then C = A·B
  tilework verify A.npy B.npy C.npy     # any three files
  tilework verify X.npy X.npy S.npy --transpose-b    # also made by gram --rows
  tilework verify A.npy B.npy C.npy --alpha 0.5 --beta -1 --add D.npy";

/// Arguments of `verify`.
#[derive(Debug, Clone, Args)]
#[command(after_help = VERIFY_HELP, override_usage = "tilework verify [OPTIONS] <A> <B> <C>\n       tilework verify [OPTIONS] <C>")]
pub struct VerifyArgs {
    /// A, B and C; or C alone, if tilework made it
    #[arg(value_name = "PATH", required = true, num_args = 1..=3)]
    pub paths: Vec<PathBuf>,
    /// Use the transpose of A
    #[arg(long, env = "TILEWORK_TRANSPOSE_A", value_parser = FalseyValueParser::new())]
    pub transpose_a: bool,
    /// Use the transpose of B
    #[arg(long, env = "TILEWORK_TRANSPOSE_B", value_parser = FalseyValueParser::new())]
    pub transpose_b: bool,
    /// What was made of the product.
    #[command(flatten)]
    pub formula: FormulaArgs,
}

const REPAIR_HELP: &str = "\
Examples:
  tilework repair C.npy
  tilework repair C.npy --memory 1GiB --threads 4

Compares the file with its journal, and computes again what is not as it was committed, from the same inputs: the same bytes, checked as
ever. It works in the file itself and may be stopped and repeated. What a cluster computed is repaired where its files are,
by this process alone.";

/// Arguments of `repair`.
#[derive(Debug, Clone, Args)]
#[command(after_help = REPAIR_HELP)]
pub struct RepairArgs {
    /// A finished output that tilework made
    #[arg(value_name = "C")]
    pub output: PathBuf,
    /// Memory of the whole process, for example 2GiB [default: half of what the process may use]
    #[arg(long, env = "TILEWORK_MEMORY", value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
    /// Threads that compute [default: all that the process may use]
    #[arg(long, env = "TILEWORK_THREADS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
}

const COMPARE_HELP: &str = "\
Examples:
  tilework compare C.npy D.npy                     # exit 0 only if all values are equal
  tilework compare C.npy D.npy --tolerance 1e-12

Two elements x and y agree if |x - y| <= T * max(|x|, |y|). NaN agrees with NaN only, an infinity with itself only.
Values are compared as f64, whatever their types.";

/// Arguments of `compare`.
#[derive(Debug, Clone, Args)]
#[command(after_help = COMPARE_HELP)]
pub struct CompareArgs {
    /// A matrix
    #[arg(value_name = "C")]
    pub c: PathBuf,
    /// Another matrix of the same shape
    #[arg(value_name = "D")]
    pub d: PathBuf,
    /// Largest relative difference of two elements that counts as agreement
    #[arg(long, env = "TILEWORK_TOLERANCE", value_name = "T", default_value = "0",
          allow_negative_numbers = true, value_parser = parse_tolerance)]
    pub tolerance: f64,
}

const CLEAN_HELP: &str = "\
Examples:
  tilework clean C.npy                     # lists what an unfinished C.npy left
  tilework clean C.npy --yes               # removes it
  tilework clean C.npy.tilework --yes      # also the journal of a finished C.npy
  tilework clean .                         # lists every unfinished output in this directory

A finished output is never removed, and its journal only when asked for by its own name.";

/// Arguments of `clean`.
#[derive(Debug, Clone, Args)]
#[command(after_help = CLEAN_HELP)]
pub struct CleanArgs {
    /// An output, its .tilework folder, or a directory of outputs
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Remove what is listed
    #[arg(short, long, env = "TILEWORK_YES", value_parser = FalseyValueParser::new())]
    pub yes: bool,
}

/// Arguments of `inspect`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  tilework inspect A.npy\n  tilework inspect A.npy --scan")]
pub struct InspectArgs {
    /// The matrix
    #[arg(value_name = "A")]
    pub path: PathBuf,
    /// Read all elements: smallest, largest, how many are NaN or infinite
    #[arg(long, env = "TILEWORK_SCAN", value_parser = FalseyValueParser::new())]
    pub scan: bool,
}

const GENERATE_HELP: &str = "\
Examples:
  tilework generate normal 8192x4096 -o A.npy
  tilework generate integers 1000x1000 -o B.npy --dtype f32 --seed 7

The same arguments give the same bytes, with any number of threads.";

/// Arguments of `generate`.
#[derive(Debug, Clone, Args)]
#[command(after_help = GENERATE_HELP)]
pub struct GenerateArgs {
    /// What the elements are
    #[arg(value_name = "KIND")]
    pub kind: Pattern,
    /// Rows and columns, for example 8192x4096
    #[arg(value_name = "ROWSxCOLS", value_parser = parse_shape)]
    pub shape: Shape,
    /// The .npy file to write
    #[arg(short, long, env = "TILEWORK_OUTPUT", value_name = "A")]
    pub output: PathBuf,
    /// Type of the elements
    #[arg(long, env = "TILEWORK_DTYPE", value_name = "TYPE", default_value = "f64", value_parser = dtypes())]
    pub dtype: Dtype,
    /// Start of the random numbers
    #[arg(long, env = "TILEWORK_SEED", value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Replace an existing file; it stays until the new one is complete
    #[arg(long, env = "TILEWORK_OVERWRITE", value_parser = FalseyValueParser::new())]
    pub overwrite: bool,
}

/// What `generate` fills a matrix with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pattern {
    /// Independent standard normal numbers
    Normal,
    /// Independent uniform numbers in [0, 1)
    Uniform,
    /// Ones on the diagonal, zeros elsewhere
    Identity,
    /// Independent whole numbers from -9 to 9
    Integers,
}

/// Arguments of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Rows and columns of the matrices
    #[arg(
        long,
        env = "TILEWORK_SIZE",
        value_name = "N",
        default_value_t = 4096,
        hide = true
    )]
    pub size: u64,
}

/// Arguments of `completions`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  tilework completions bash > ~/.local/share/bash-completion/completions/tilework\n  tilework completions fish > ~/.config/fish/completions/tilework.fish"
)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  tilework man > ~/.local/share/man/man1/tilework.1\n  tilework man multiply | man -l -"
)]
pub struct ManArgs {
    /// The page of one command instead of the whole program
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}
