//! Faults of a cluster with real processes: each part is killed, stopped or cut off while it is at work, and the answer is the undisturbed
//! one.
//!
//! How far a job is, is read from its events and from the journal beside its output. Each test shows that its fault hit a task that was
//! begun and not committed, and prints how long it took to go on.

#![expect(clippy::print_stdout, reason = "recovery times are kept with the results")]

#[path = "../common/mod.rs"]
mod common;

mod cost;
mod harness;
mod proxy;

mod alarms;
mod clients;
mod clock;
mod drivers;
mod inputs;
mod lies;
mod network;
mod numbers;
mod own_jobs;
mod security;
mod servers;
mod stale;
mod takeovers;
mod two_hosts;
mod workers;
