//! The part of tilework that decides: jobs, messages, journal records, limits, and the two state machines.
//!
//! Events go in, effects come out. Nothing here knows a matrix, a clock, a file or a random number, and `no_std`
//! makes the compiler hold it to that: a simulator can run exactly the code that runs in production.
//!
//! # Layout
//! - [`ids`]: who and what: jobs, rounds, tasks, attempts, workers
//! - [`limits`]: every bound on a queue, a retry or a wait
//! - [`failure`]: how an attempt can fail, and how a job can end
//! - [`alarm`]: what a user is told of
//! - [`message`]: what driver and workers say to each other
//! - [`record`]: what the journal holds
//! - [`task_table`]: one byte per task
//! - [`driver`], [`worker`]: the two machines; [`lease`]: which driver drives

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod alarm;
pub mod driver;
pub mod failure;
pub mod ids;
pub mod lease;
pub mod limits;
pub mod message;
pub mod record;
pub mod task_table;
pub mod worker;
