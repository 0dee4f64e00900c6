//! The cluster engine: core's messages and tasks over NATS JetStream.
//!
//! A thin carrier. Queues, redelivery and replication are the server's; every decision stays with core's machines; what arrives
//! malformed is counted and ignored. Asynchronous code ends at the ports: their callers see plain, blocking calls.
//!
//! # Layout
//! - [`driver_port`], [`worker_port`]: the two sides of the engine
//! - `fetcher`: how a worker asks for its next task; `releases`: how a driver's releases reach the stream
//! - `outbox`: what either side says, in order
//! - [`streams`]: subjects, the task stream and its consumers
//! - [`wire`]: how messages are written; [`ignored`]: what could not be read
//! - [`control`]: records, requests and events of a cluster; `stores`: where the server keeps them; `events`, [`requests`]: their ways
//! - [`rights`]: whether a key opens what its role may do; `refusals`: how a client learns what it may not
//! - [`lease_keeper`]: which of several drivers drives
//! - [`connection`]: a client, and the threads that it runs on
//! - [`server`]: finds a nats-server; [`child_server`]: runs one
//! - [`limits`]: the bounds of all of that
//! - [`role`]: who connects, and what each may say and hear; [`join`]: the file that lets a process join as one of them
//! - [`cluster_folder`], [`three_servers`]: certificates (`authority`), keys and the servers' configuration (`cluster_config`), made once
//!   (`new_folder`); [`server_address`]: where a server is
//! - `fuzzing`: all that reads bytes of others, for tests and fuzzers only

#![forbid(unsafe_code)]

mod authority;
pub mod child_server;
mod cluster_config;
pub mod cluster_folder;
pub mod connection;
pub mod control;
pub mod driver_port;
mod events;
mod fetcher;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod ignored;
pub mod join;
pub mod lease_keeper;
pub mod limits;
mod new_folder;
mod outbox;
mod refusals;
mod releases;
pub mod requests;
pub mod rights;
pub mod role;
pub mod server;
pub mod server_address;
mod stores;
pub mod streams;
pub mod three_servers;
pub mod wire;
pub mod worker_port;

pub use child_server::{ChildServer, ServerConfig};
pub use cluster_folder::ClusterFolder;
pub use connection::{Came, ConnectError, NatsOptions};
pub use control::{Bucket, Control, ControlError, Entry, Heard};
pub use driver_port::NatsDriverPort;
pub use ignored::IgnoredCounts;
pub use join::JoinFile;
pub use lease_keeper::LeaseKeeper;
pub use requests::{Request, Requests};
pub use rights::Right;
pub use role::Role;
pub use server_address::ServerAddress;
pub use three_servers::ThreeServersFolder;
pub use worker_port::NatsWorkerPort;
