//! A job on many machines: what driver, workers and clients say to each other beside core's messages, and how each does its part.
//!
//! - [`protocol`]: requests and their answers; [`record`]: what the cluster keeps of a job; [`board`]: what anyone may see of it all
//! - [`driving`]: the driver process and its lease; `desk`: requests; `host`: jobs, events and the board, around the driver machine
//! - `undertaking`: what a driver has to know of a job, whatever it computes
//! - [`conductor`]: one job at its driver, from its `submission` or `takeover` to its `ending`, `keeping` its record; [`ground`]: what all of them stand on
//! - [`fleet`]: who the workers are; [`numbers`]: what they are called
//! - [`working`]: the worker process; [`opened`]: the jobs that a worker has open
//! - [`clients`]: submitting, watching; [`account`]: a job in words; [`examination`]: whether all of it is fit for work
//! - [`joining`]: from a join file to a connection

pub mod account;
pub mod board;
mod board_writer;
pub mod clients;
pub mod conductor;
pub mod desk;
pub mod driving;
pub mod ending;
pub mod events;
pub mod examination;
pub mod fleet;
pub mod ground;
mod host;
pub mod joining;
mod keeping;
pub mod numbers;
pub mod opened;
mod preparations;
pub mod protocol;
pub mod record;
pub mod submission;
mod takeover;
pub mod to_host;
mod undertaking;
pub mod working;

/// This release, which all processes of a cluster must have in common.
pub const TILEWORK: &str = env!("CARGO_PKG_VERSION");
