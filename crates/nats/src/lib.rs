//! tilework on NATS JetStream.
//!
//! # Layout
//! - [`role`] says who connects, and what each may say and hear
//! - [`authority`] makes certificates
//! - [`join`] is the file that lets a process join
//! - [`server_config`] writes the configuration of nats-server
//! - [`cluster_folder`] keeps all of these in one folder, made once

#![forbid(unsafe_code)]

pub mod authority;
pub mod cluster_folder;
pub mod join;
pub mod role;
pub mod server_config;

pub use cluster_folder::ClusterFolder;
pub use join::JoinFile;
pub use role::Role;
