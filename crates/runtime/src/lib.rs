//! The world around the state machines: what a job is to the runtime, worker and driver loops, engines, journal writing.
//!
//! # Layout
//! - [`job`]: what a job must offer
//! - [`description`]: what a job *is*, as the journal stores it and a resume compares it
//! - [`folder`]: the job's folder beside its output: lock, journal, and what they say
//! - [`journal_writer`]: group commit
//! - [`alarm_log`]: what a user was told of
//! - [`engine`]: how driver and workers reach each other; [`local`] is the one within a process
//! - [`worker_loop`], [`driver_loop`]: execute the machines' effects; [`served`] is how a worker knows its jobs
//! - [`steps`]: what a driver does for a job itself; `one_job`: the surroundings of a driver with one job
//! - [`wall_clock`]: the time of day, which nothing waits by
//! - [`threads`]: threads that the system may refuse
//! - `under_way`: what ran when a process ended without a word
//! - [`mod@run`]: all of it together, for one job in one process
//! - `fuzzing`: all that reads bytes of others, for tests and fuzzers only

#![forbid(unsafe_code)]

pub mod alarm_log;
pub mod contract;
pub mod description;
pub mod driver_loop;
pub mod engine;
pub mod folder;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod job;
pub mod journal_writer;
pub mod local;
mod one_job;
pub mod run;
pub mod served;
pub mod steps;
pub mod threads;
mod under_way;
pub mod wall_clock;
pub mod worker_loop;

pub use alarm_log::{AlarmsTold, LoggedAlarm};
pub use description::JobDescription;
pub use driver_loop::{DriverHost, drive};
pub use folder::{FolderState, JobFolder};
pub use job::{Job, Next, TaskContext, TaskSummary};
pub use run::{Observer, RunOptions, RunReport, StopSwitch, enter_round, run};
