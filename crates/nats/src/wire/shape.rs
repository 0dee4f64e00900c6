//! The shapes of core's types as they are written. Each mirrors its type field by field: a change there that this file does not
//! follow does not compile, and one that it follows needs a new `MESSAGE_VERSION`.

use serde::{Deserialize, Serialize};
use tilework_core::failure::{Cause, Failure, Remedy};
use tilework_core::ids::{Attempt, AttemptNo, JobId, RoundIdx, RunEpoch, TaskIdx, WorkerIdx};
use tilework_core::message::{Holding, JobAttempt, ToDriver, ToWorker, WorkerReport};

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct TaskBody(#[serde(with = "JobAttemptShape")] pub(super) JobAttempt);

#[derive(Serialize, Deserialize)]
#[serde(remote = "WorkerIdx")]
pub(super) struct WorkerIdxShape(u32);

#[derive(Serialize, Deserialize)]
#[serde(remote = "RunEpoch")]
struct RunEpochShape(u32);

#[derive(Serialize, Deserialize)]
#[serde(remote = "RoundIdx")]
struct RoundIdxShape(u32);

#[derive(Serialize, Deserialize)]
#[serde(remote = "TaskIdx")]
struct TaskIdxShape(u64);

#[derive(Serialize, Deserialize)]
#[serde(remote = "AttemptNo")]
struct AttemptNoShape(u8);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Attempt", deny_unknown_fields)]
struct AttemptShape {
    #[serde(with = "RunEpochShape")]
    epoch: RunEpoch,
    #[serde(with = "RoundIdxShape")]
    round: RoundIdx,
    #[serde(with = "TaskIdxShape")]
    task: TaskIdx,
    #[serde(with = "AttemptNoShape")]
    attempt: AttemptNo,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "JobAttempt", deny_unknown_fields)]
struct JobAttemptShape {
    #[serde(with = "job_hex")]
    job: JobId,
    #[serde(with = "AttemptShape")]
    attempt: Attempt,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ToWorker", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum ToWorkerShape {
    CancelJob {
        #[serde(with = "job_hex")]
        job: JobId,
        #[serde(with = "RunEpochShape")]
        epoch: RunEpoch,
    },
    Abandon(#[serde(with = "JobAttemptShape")] JobAttempt),
    Recall(#[serde(with = "JobAttemptShape")] JobAttempt),
    Drain,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ToDriver", deny_unknown_fields)]
pub(super) struct ToDriverShape {
    #[serde(with = "WorkerIdxShape")]
    worker: WorkerIdx,
    #[serde(with = "WorkerReportShape")]
    body: WorkerReport,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "WorkerReport", rename_all = "snake_case", deny_unknown_fields)]
enum WorkerReportShape {
    Joined {
        memory_bytes: u64,
    },
    Heartbeat {
        memory_bytes: u64,
        #[serde(with = "holdings")]
        holding: Vec<Holding>,
    },
    Took(#[serde(with = "JobAttemptShape")] JobAttempt),
    Started(#[serde(with = "JobAttemptShape")] JobAttempt),
    Committed(#[serde(with = "JobAttemptShape")] JobAttempt),
    Failed(
        #[serde(with = "JobAttemptShape")] JobAttempt,
        #[serde(with = "FailureShape")] Failure,
    ),
    GaveBack(#[serde(with = "JobAttemptShape")] JobAttempt),
    Left(#[serde(with = "job_hex")] JobId),
    Drained,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Holding", deny_unknown_fields)]
struct HoldingShape {
    #[serde(with = "JobAttemptShape")]
    attempt: JobAttempt,
    started: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Failure", deny_unknown_fields)]
struct FailureShape {
    #[serde(with = "RemedyShape")]
    remedy: Remedy,
    #[serde(with = "CauseShape")]
    cause: Cause,
    text: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Remedy", rename_all = "snake_case")]
enum RemedyShape {
    Retry,
    Fatal,
    Corrupt,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Cause", rename_all = "snake_case")]
enum CauseShape {
    Storage,
    DiskFull,
    OutOfMemory,
    InputChanged,
    Check,
    Panic,
    Job,
    WorkerLost,
    Cancelled,
    Deadline,
    Hung,
}

/// A list of a shape.
mod holdings {
    use super::{Holding, HoldingShape};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Item(#[serde(with = "HoldingShape")] Holding);

    pub(super) fn serialize<S: Serializer>(holding: &[Holding], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(holding.iter().map(|held| Item(*held)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Holding>, D::Error> {
        let items = Vec::<Item>::deserialize(deserializer)?;
        Ok(items.into_iter().map(|item| item.0).collect())
    }
}

/// A job's hash as 32 hexadecimal digits, as it stands in subjects.
mod job_hex {
    use super::JobId;
    use crate::streams::{job_of_token, job_token};
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(job: &JobId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&job_token(*job))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<JobId, D::Error> {
        let token = String::deserialize(deserializer)?;
        job_of_token(&token).ok_or_else(|| de::Error::custom("a job is 32 hexadecimal digits"))
    }
}
