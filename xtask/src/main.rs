//! Development commands: `cargo xtask test [--no-lints]`, `tidy`, `api`, `sim`, `soak`, `chaos`, `failure-matrix`, `memcheck`, `nats-server` and
//! `picture`.
//!
//! `test` is the whole check of a commit, the same here and in CI. `tidy` is its part that reads the sources and
//! holds them to the rules that no compiler knows, `api` lists what library users may rely on. `soak` runs what takes
//! minutes, `chaos` faults on a cluster's processes, `failure-matrix` measures what each fault costs, `sim` simulated runs by their seeds, `memcheck` the kernel under valgrind, `nats-server` finds or
//! installs the server that the cluster engine's tests need; `picture` draws a terminal for the README.

#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    reason = "a command for developers: its output is its result"
)]

mod api;
mod chaos;
mod deny;
mod failure_matrix;
mod fuzz;
mod junit;
mod libtest;
mod memcheck;
mod nats_server;
mod picture;
mod report;
mod sim;
mod soak;
mod step;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask test [--no-lints] | cargo xtask tidy | cargo xtask api | cargo xtask soak [fuzz [--minutes N] [--target T] | lies | resources | sim [--seeds A..B]] | cargo xtask chaos [--minutes N] [--seed S] | cargo xtask failure-matrix [--page | --runs N | --row NAME] | cargo xtask sim --seeds A..B [--log] | cargo xtask memcheck | cargo xtask nats-server | cargo xtask picture < text > svg";

fn main() -> anyhow::Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let root = workspace::root()?;
    let passed = match args[..] {
        ["test"] => test::run(&root, test::Lints::Run)?,
        ["test", "--no-lints"] => test::run(&root, test::Lints::Skip)?,
        ["api"] => api::write(&root)?,
        ["tidy"] => tidy::run(&root)?,
        ["soak"] => soak::run(&root)?,
        ["soak", "fuzz", ref args @ ..] => fuzz::run(&root, args)?,
        ["soak", "lies"] => soak::run_lies(&root)?,
        ["soak", "resources"] => soak::run_resources(&root)?,
        ["soak", "sim", ref args @ ..] => sim::soak(&root, args)?,
        ["chaos", ref args @ ..] => chaos::run(&root, args)?,
        ["failure-matrix", ref args @ ..] => failure_matrix::run(&root, args)?,
        ["sim", ref args @ ..] => sim::run(&root, args)?,
        ["memcheck"] => memcheck::run(&root)? == step::Verdict::Passed,
        ["nats-server"] => nats_server::run(&root, &mut None)? == step::Verdict::Passed,
        ["picture"] => picture::run().map(|()| true)?,
        _ => anyhow::bail!(USAGE),
    };
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
