//! Multiply matrices larger than memory, file to file: planned, checked, resumable.
//!
//! This crate is the `tilework` program as a library. The pieces underneath are crates of their own: `tilework-linalg`
//! plans and runs products, `tilework-store` reads and writes matrices, `tilework-runtime` runs any job of tasks.
//!
//! # Layout
//! - [`cli`]: from the raw command line to the exit code
//! - [`args`]: the command line, parsed and typed; [`settings`]: what it means on this machine
//! - [`commands`]: one file per verb
//! - [`cluster`]: a job on many machines: driver, workers, clients
//! - [`product`]: one product, for the verbs that plan, run, resume and verify it
//! - [`job_state`]: what stands beside an output, and what its journal says; [`leftovers`]: what may be removed of it
//! - [`cluster`]: what processes of a cluster show each other; [`own_program`]: this program as its own child
//! - [`blocks`]: going through a matrix in bounded memory; [`elements`]: what `generate` writes
//! - [`failure`]: every way a command can fail, with its exit code and the next step
//! - [`output`], [`human`]: results as JSON or for people
//! - [`webhook`]: alarms by HTTP
//! - [`progress`], [`signals`], [`logging`]: while a command runs

#![forbid(unsafe_code)]

pub mod args;
pub mod blocks;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod elements;
pub mod failure;
pub mod human;
pub mod job_state;
pub mod leftovers;
pub mod logging;
pub mod output;
pub mod own_program;
pub mod product;
pub mod progress;
pub mod settings;
pub mod signals;
pub mod webhook;

/// Runs the program with the arguments and the environment of this process.
pub fn main() -> std::process::ExitCode {
    cli::run(
        &std::env::args_os().collect::<Vec<_>>(),
        std::time::Instant::now(),
    )
}
