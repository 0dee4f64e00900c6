//! How core's messages are written: `{"v":3,"body":...}`, JSON, so that `nats sub "tw.>"` shows what is said.
//!
//! Reading never panics and never trusts: size first, then the version, then the body, and no field that is not known. The shapes
//! in `shape` mirror core's types, and the compiler holds them to it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tilework_core::ids::WorkerIdx;
use tilework_core::message::{JobAttempt, MESSAGE_VERSION, ToDriver, ToWorker, WorkerReport};

mod shape;

/// Bytes of one task: it is nothing but ids.
pub const TASK_BYTES_MAX: usize = 1024;
/// Bytes of one message.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a failure's text; what is longer is cut. Escaped, they may become six times as many.
pub const FAILURE_TEXT_BYTES_MAX: usize = 4 * 1024;

/// Why a message was not read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Longer than any message of its kind.
    #[error("{bytes} bytes, at most {bytes_max} are read")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What is allowed.
        bytes_max: usize,
    },
    /// Written by a program that speaks another version.
    #[error("message version {found}, this program speaks {MESSAGE_VERSION}")]
    OtherVersion {
        /// Its version.
        found: u64,
    },
    /// Anything else than a message.
    #[error("not a message: {cause}")]
    Malformed {
        /// What the reader stumbled on.
        cause: String,
    },
    /// It names another job, queue or worker than the subject on which it came.
    #[error("it does not belong to its subject")]
    Misplaced,
}

/// What the driver's port tells a worker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FromDriver {
    /// A message of the driver machine.
    Command(#[serde(with = "shape::ToWorkerShape")] ToWorker),
    /// To all workers: the driver was cut off and may not have heard what you reported last.
    SayAgain,
}

/// What a worker's port tells the driver's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FromWorker {
    /// A message of the worker machine.
    Report(#[serde(with = "shape::ToDriverShape")] ToDriver),
    /// The port is closed in good order: whatever the worker held, it works at nothing more.
    Gone(#[serde(with = "shape::WorkerIdxShape")] WorkerIdx),
}

impl FromWorker {
    /// Who says it.
    pub fn worker(&self) -> WorkerIdx {
        match self {
            FromWorker::Report(message) => message.worker,
            FromWorker::Gone(worker) => *worker,
        }
    }
}

/// Writes a task.
///
/// # Errors
/// Never, in fact: ids are short.
pub fn encode_task(attempt: JobAttempt) -> Result<Vec<u8>, WireError> {
    encode(&shape::TaskBody(attempt), TASK_BYTES_MAX)
}

/// Reads a task.
///
/// # Errors
/// If it is not a task of this version.
pub fn decode_task(bytes: &[u8]) -> Result<JobAttempt, WireError> {
    decode::<shape::TaskBody>(bytes, TASK_BYTES_MAX).map(|body| body.0)
}

/// Writes what the driver tells a worker.
///
/// # Errors
/// Never, in fact: ids are short.
pub fn encode_from_driver(message: FromDriver) -> Result<Vec<u8>, WireError> {
    encode(&message, MESSAGE_BYTES_MAX)
}

/// Reads what the driver tells a worker.
///
/// # Errors
/// If it is not a command of this version.
pub fn decode_from_driver(bytes: &[u8]) -> Result<FromDriver, WireError> {
    decode(bytes, MESSAGE_BYTES_MAX)
}

/// Writes what a worker tells the driver; the text of a failure is cut at [`FAILURE_TEXT_BYTES_MAX`].
///
/// # Errors
/// If a heartbeat holds more attempts than fit.
pub fn encode_from_worker(mut message: FromWorker) -> Result<Vec<u8>, WireError> {
    if let FromWorker::Report(ToDriver {
        body: WorkerReport::Failed(_, failure),
        ..
    }) = &mut message
    {
        let end = failure.text.floor_char_boundary(FAILURE_TEXT_BYTES_MAX);
        failure.text.truncate(end);
    }
    encode(&message, MESSAGE_BYTES_MAX)
}

/// Reads what a worker tells the driver.
///
/// # Errors
/// If it is not a report of this version.
pub fn decode_from_worker(bytes: &[u8]) -> Result<FromWorker, WireError> {
    decode(bytes, MESSAGE_BYTES_MAX)
}

#[derive(Serialize)]
struct Written<'a, B> {
    v: u16,
    body: &'a B,
}

/// All versions have this in common.
#[derive(Deserialize)]
struct Version {
    v: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read<B> {
    #[serde(rename = "v")]
    _version: u64,
    body: B,
}

fn encode<B: Serialize>(body: &B, bytes_max: usize) -> Result<Vec<u8>, WireError> {
    let written = Written {
        v: MESSAGE_VERSION,
        body,
    };
    let bytes = serde_json::to_vec(&written).map_err(|error| malformed(&error))?;
    fits(&bytes, bytes_max)?;
    Ok(bytes)
}

fn decode<B: DeserializeOwned>(bytes: &[u8], bytes_max: usize) -> Result<B, WireError> {
    fits(bytes, bytes_max)?;
    let version: Version = serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
    if version.v != u64::from(MESSAGE_VERSION) {
        return Err(WireError::OtherVersion { found: version.v });
    }
    let read: Read<B> = serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
    Ok(read.body)
}

fn fits(bytes: &[u8], bytes_max: usize) -> Result<(), WireError> {
    if bytes.len() > bytes_max {
        return Err(WireError::TooLarge {
            bytes: bytes.len(),
            bytes_max,
        });
    }
    Ok(())
}

fn malformed(error: &serde_json::Error) -> WireError {
    WireError::Malformed {
        cause: error.to_string(),
    }
}

#[cfg(test)]
mod tests;
