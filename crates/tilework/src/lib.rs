//! Multiply matrices larger than memory, file to file: planned, checked, resumable. And any other job that splits into tasks.
//!
//! To write a job of your own, start at [`mod@job`]. Beyond that, this crate is the `tilework` program as a library. The pieces underneath are
//! crates of their own: `tilework-linalg` plans and runs products, `tilework-store` reads and writes matrices, `tilework-runtime` runs any
//! job of tasks.
//!
//! What is documented here is for users, and kept: `docs/public-api.txt` lists it. The rest of the crate is the program itself, reachable for its
//! own tests only.
//!
//! # Layout
//! - [`mod@job`]: jobs of library users; [`failure`]: how running one can fail, with its exit code and the next step
//! - `cli`: from the raw command line to the exit code
//! - `args`: the command line, parsed and typed; `settings`: what it means on this machine
//! - `commands`: one file per verb
//! - `cluster`: a job on many machines: driver, workers, clients
//! - `product`: one product, for the verbs that plan, run, resume and verify it
//! - `job_state`: what stands beside an output, and what its journal says; `leftovers`: what may be removed of it
//! - `own_program`: this program as its own child
//! - `blocks`: going through a matrix in bounded memory; `elements`: what `generate` writes
//! - `output`, `human`: results as JSON or for people
//! - `webhook`: alarms by HTTP
//! - `progress`, `signals`, `logging`: while a command runs
//! - `fuzzing`: all that reads bytes of others, for tests and fuzzers only

#![forbid(unsafe_code)]

pub mod failure;
pub mod job;

#[doc(hidden)]
pub mod args;
#[doc(hidden)]
pub mod blocks;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod cluster;
#[doc(hidden)]
pub mod commands;
#[doc(hidden)]
pub mod elements;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
#[doc(hidden)]
pub mod human;
#[doc(hidden)]
pub mod job_state;
#[doc(hidden)]
pub mod leftovers;
#[doc(hidden)]
pub mod logging;
#[doc(hidden)]
pub mod output;
#[doc(hidden)]
pub mod own_program;
#[doc(hidden)]
pub mod product;
#[doc(hidden)]
pub mod progress;
#[doc(hidden)]
pub mod settings;
#[doc(hidden)]
pub mod signals;
#[doc(hidden)]
pub mod webhook;

pub use job::{
    Cancelled, Checked, Files, Finished, InputFile, Job, Matrix, Needs, Next, Report, Runner, TaskContext,
    TaskError, TaskFile, TaskFileReader, TaskFileWriter,
};
pub use tilework_runtime::StopSwitch;

/// Runs the program with the arguments and the environment of this process. Beside matrix products it knows the jobs that [`jobs!`] lists.
///
/// ```no_run
/// # use tilework::{Files, Job, Next, Report, TaskContext, TaskError};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Hello {}
/// # impl Job for Hello {
/// #     const KIND: &'static str = "hello";
/// #     const VERSION: u32 = 1;
/// #     type State = ();
/// #     type Output = ();
/// #     fn start(&self, _: &Files) -> Result<(), TaskError> { Ok(()) }
/// #     fn tasks(&self, _: &()) -> u64 { 1 }
/// #     fn run(&self, _: &(), _: u64, _: &TaskContext<'_>) -> Result<(), TaskError> { Ok(()) }
/// #     fn advance(&self, _: &(), _: &mut dyn Iterator<Item = ()>) -> Result<Next<()>, TaskError> { Ok(Next::Done(Report::json(&1)?)) }
/// # }
/// fn main() -> std::process::ExitCode {
///     tilework::main(tilework::jobs![Hello])
/// }
/// ```
pub fn main(kinds: &'static job::kinds::Kinds) -> std::process::ExitCode {
    cli::run(
        &std::env::args_os().collect::<Vec<_>>(),
        kinds,
        std::time::Instant::now(),
    )
}
