//! Multiply matrices larger than memory, file to file: planned, checked, resumable.
//!
//! This crate is the `tilework` program as a library. The pieces underneath are crates of their own: `tilework-linalg`
//! plans and runs products, `tilework-store` reads and writes matrices, `tilework-runtime` runs any job of tasks.
//!
//! # Layout
//! - [`args`]: the command line, parsed and typed; [`settings`]: what it means on this machine
//! - [`cli`]: from the raw command line to the exit code
//! - [`commands`]: one file per verb
//! - [`job_state`]: what stands beside an output, and what its journal says
//! - [`failure`]: every way a command can fail, with its exit code and the next step
//! - [`output`], [`human`]: results as JSON or for people
//! - [`progress`], [`signals`], [`logging`]: while a command runs
//! - [`blocks`]: going through a matrix in bounded memory

#![forbid(unsafe_code)]

pub mod args;
pub mod blocks;
pub mod cli;
pub mod commands;
pub mod failure;
pub mod human;
pub mod job_state;
pub mod logging;
pub mod output;
pub mod progress;
pub mod settings;
pub mod signals;

/// Runs the program with the arguments and the environment of this process.
pub fn main() -> std::process::ExitCode {
    cli::run(std::env::args_os().collect())
}
