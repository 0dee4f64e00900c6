//! The driver and worker machines, the lease and the journal under virtual time: one seed is one run, with workers that die, sleep,
//! lie or are slow, networks that lose, repeat and delay, disks that fill and tear, and two drivers at once.
//!
//! What decides is the code that runs in production: tilework-core's machines and tilework-store's journal, on its disk that crashes.
//! What is simulated is what carries them: clocks, network, work queue, lease store, and the task's own work.
//!
//! # Layout
//! - [`scenario`]: what a seed stands for: sizes, speeds, and which faults happen
//! - [`world`]: the processes and what lies between them, event by event
//! - [`verdict`]: what must hold at every step and at the end
//! - [`coverage`]: which pairs of a state and an event the machines have met
//! - [`campaign`]: many seeds on all processors, told in their order
//! - [`forecast`]: the same world for planning: how long will a job take on a cluster?
//! - `agenda`, `dice`, `network`, `queue`, `storage`: the parts of the world

#![forbid(unsafe_code)]

mod agenda;
pub mod campaign;
pub mod coverage;
mod dice;
pub mod forecast;
mod network;
mod queue;
pub mod scenario;
mod storage;
pub mod verdict;
pub mod world;
