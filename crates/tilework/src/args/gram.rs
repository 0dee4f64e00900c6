//! `gram`: one operand, used twice.

use super::multiply::{ResourceArgs, RunArgs};
use super::values::dtypes;
use clap::Args;
use clap::builder::FalseyValueParser;
use std::path::PathBuf;
use tilework_store::element_type::Dtype;

const GRAM_HELP: &str = "\
Examples:
  tilework gram X.npy -o G.npy                     # X'·X: columns with columns, as for least squares
  tilework gram X.npy -o similarity.npy --rows     # X·X': rows with rows
  tilework gram X.npy -o G.npy --memory 2GiB --threads 8

The same result as `multiply X X` with a transpose, bit for bit, in about half the time.";

/// Arguments of `gram`.
#[derive(Debug, Clone, Args)]
#[command(after_help = GRAM_HELP)]
pub struct GramArgs {
    /// The matrix, and how to use it.
    #[command(flatten)]
    pub operand: OperandArgs,
    /// Where the product goes: a .npy file, or `-` to print a small result
    #[arg(short, long, env = "TILEWORK_OUTPUT", value_name = "G")]
    pub output: PathBuf,
    /// How an earlier or unfinished output is treated.
    #[command(flatten)]
    pub run: RunArgs,
    /// What the run may use.
    #[command(flatten)]
    pub resources: ResourceArgs,
}

/// The operand.
#[derive(Debug, Clone, Args)]
pub struct OperandArgs {
    /// The matrix
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// Compute A·A', the products of rows, instead of A'·A, those of columns
    #[arg(long, env = "TILEWORK_ROWS", value_parser = FalseyValueParser::new())]
    pub rows: bool,
    /// Compute in this type and convert the input to it [default: the input's type, if it is f64 or f32]
    #[arg(long, env = "TILEWORK_DTYPE", value_name = "TYPE", value_parser = dtypes())]
    pub dtype: Option<Dtype>,
}

const PLAN_HELP: &str = "\
Examples:
  tilework plan gram X.npy
  tilework plan gram X.npy --rows -o /data/G.npy --memory 512MiB";

/// Arguments of `plan gram`: those of `gram`, so that the word `plan` can be put before any command.
#[derive(Debug, Clone, Args)]
#[command(after_help = PLAN_HELP)]
pub struct PlanGramArgs {
    /// The matrix, and how to use it.
    #[command(flatten)]
    pub operand: OperandArgs,
    /// Where the product would go, to see whether it fits there
    #[arg(short, long, env = "TILEWORK_OUTPUT", value_name = "G")]
    pub output: Option<PathBuf>,
    /// Accepted as `gram` takes them.
    #[command(flatten)]
    pub run: RunArgs,
    /// What the run may use.
    #[command(flatten)]
    pub resources: ResourceArgs,
}
