//! The command line: options parsed and typed, nothing looked up yet.
//!
//! Every option can also be given as an environment variable `TILEWORK_<OPTION>`; the command line wins.
//!
//! - [`Args`]: global options and [`Command`], one variant per verb
//! - [`multiply`]: `multiply`, `plan` and `resume`, which share their resources; [`gram`]: the same with one operand
//! - [`run`]: any other job
//! - [`simulate`]: a cluster that need not exist
//! - [`cluster`]: makes, starts, stops and shows a cluster
//! - [`inspect`]: the verbs that look at outputs and matrices
//! - [`clients`]: what clients of a cluster are told
//! - [`processes`]: `worker` and `driver`
//! - [`values`]: sizes, durations and shapes

pub mod clients;
pub mod cluster;
mod command;
pub mod gram;
pub mod inspect;
pub mod multiply;
pub mod processes;
pub mod run;
pub mod simulate;
pub mod values;

pub use command::{Args, Command, GlobalArgs};
