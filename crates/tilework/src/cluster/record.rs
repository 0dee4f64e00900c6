//! What the cluster keeps of a job, so that another driver goes on with it, workers learn what it is, and clients how it ended.

use super::protocol::{AssignName, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::{Duration, Instant};
use tilework_core::failure::{Cause, Failure};
use tilework_core::ids::JobId;
use tilework_nats::streams::{job_of_token, job_token};
pub use tilework_runtime::wall_clock::unix_ms;
use tilework_store::identity::{IdentityDifference, InputIdentity};
use tilework_store::journal::recover::job_id;

/// Version of the record.
const VERSION: u32 = 1;

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStands {
    /// Its tasks are being computed, or wait for workers.
    Running,
    /// Complete.
    Done,
    /// It failed; what was committed is kept.
    Failed,
    /// Somebody cancelled it; what was committed is kept.
    Cancelled,
    /// Its time was up; what was committed is kept.
    Stopped,
}

impl JobStands {
    /// The name in JSON and for people.
    pub fn name(self) -> &'static str {
        match self {
            JobStands::Running => "running",
            JobStands::Done => "done",
            JobStands::Failed => "failed",
            JobStands::Cancelled => "cancelled",
            JobStands::Stopped => "stopped",
        }
    }
}

/// Each worker as the plan was made for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFor {
    /// Memory of a worker.
    pub memory_bytes: u64,
    /// Its threads.
    pub threads: u32,
    /// Workers.
    pub workers: u32,
}

/// A job of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    version: u32,
    /// The token of who asked for the last run.
    #[serde(default)]
    pub token: String,
    /// What it is: the text whose hash is its id.
    pub job_text: String,
    /// C, as it is called in the cluster.
    pub output: String,
    /// The last run of it.
    pub run: u32,
    /// The first run whose tasks are in the output as it is now.
    pub adopts_from: u32,
    /// The inputs as they were when somebody asked for the job, or asked to go on with it.
    #[serde(default)]
    pub inputs: Vec<InputIdentity>,
    /// How it stands.
    pub stands: JobStands,
    /// How tasks find their workers.
    pub assign: AssignName,
    /// Whether an output under the final name may be replaced.
    pub may_replace_output: bool,
    /// What the plan was made for.
    pub planned_for: PlannedFor,
    /// When it was submitted, in milliseconds since 1970.
    pub submitted_unix_ms: u64,
    /// When it stops.
    pub deadline_unix_ms: Option<u64>,
    /// Whether somebody wants its end: whoever drives it ends it.
    #[serde(default)]
    pub cancel_asked: bool,
    /// When it ended.
    pub ended_unix_ms: Option<u64>,
    /// What is reported of it, if it is done.
    pub report: Option<Value>,
    /// Why it is not.
    pub failure: Option<Refusal>,
}

/// What a new job starts with.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// See [`JobRecord`].
    pub token: String,
    /// See [`JobRecord`].
    pub job_text: String,
    /// See [`JobRecord`].
    pub output: String,
    /// See [`JobRecord`].
    pub run: u32,
    /// See [`JobRecord`].
    pub inputs: Vec<InputIdentity>,
    /// See [`JobRecord`].
    pub assign: AssignName,
    /// See [`JobRecord`].
    pub may_replace_output: bool,
    /// See [`JobRecord`].
    pub planned_for: PlannedFor,
    /// See [`JobRecord`].
    pub deadline_unix_ms: Option<u64>,
}

impl JobRecord {
    /// When its time is up. Asked once by whoever drives it: what is done to this machine's clock after that changes nothing.
    pub fn deadline(&self) -> Option<Instant> {
        let left_ms = self.deadline_unix_ms?.saturating_sub(unix_ms());
        // A limit beyond the clock's range is none.
        Instant::now().checked_add(Duration::from_millis(left_ms))
    }

    /// A job that begins now.
    pub fn new(job: NewJob) -> JobRecord {
        JobRecord {
            version: VERSION,
            token: job.token,
            job_text: job.job_text,
            output: job.output,
            run: job.run,
            adopts_from: job.run,
            inputs: job.inputs,
            stands: JobStands::Running,
            assign: job.assign,
            may_replace_output: job.may_replace_output,
            planned_for: job.planned_for,
            submitted_unix_ms: unix_ms(),
            deadline_unix_ms: job.deadline_unix_ms,
            cancel_asked: false,
            ended_unix_ms: None,
            report: None,
            failure: None,
        }
    }

    /// The job's id: nobody can make a record say another text than the one that its tasks name.
    pub fn id(&self) -> JobId {
        job_id(self.job_text.as_bytes())
    }

    /// Whether there is more than how it stands to tell of its end.
    pub fn has_details(&self) -> bool {
        self.report.is_some() || (self.failure.iter()).any(|failure| !failure.facts.is_empty())
    }

    /// Leaves out all but how it stands and why.
    pub fn drop_details(&mut self) {
        self.report = None;
        self.failure.iter_mut().for_each(|failure| failure.facts.clear());
    }

    /// Fails if an input is not what it was, or was only written to: what is computed of it now may not fit what is committed.
    pub fn check_inputs(&self, now: &[InputIdentity]) -> Result<(), Failure> {
        let mut changes = Vec::new();
        for (then, now) in self.inputs.iter().zip(now) {
            match then.difference(now) {
                IdentityDifference::Same => {}
                IdentityDifference::Touched => {
                    changes.push(format!("`{}` was written to while it was used", now.path));
                }
                IdentityDifference::Changed { what } => changes.push(format!("`{}`: {what}", now.path)),
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        let text = format!("inputs are not what they were: {}", changes.join("; "));
        Err(Failure::fatal(Cause::InputChanged, text))
    }

    /// As it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data becomes JSON")
    }

    /// Reads what was stored under `key`.
    pub fn from_bytes(key: &str, bytes: &[u8]) -> Result<JobRecord, String> {
        let record: JobRecord = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if record.version != VERSION {
            return Err(format!("record version {}, not {VERSION}", record.version));
        }
        if job_of_token(key) != Some(record.id()) {
            return Err("it describes another job".to_owned());
        }
        Ok(record)
    }
}

/// Where a job's record is kept.
pub fn key_of(job: JobId) -> String {
    job_token(job)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> JobRecord {
        JobRecord::new(NewJob {
            token: String::new(),
            job_text: "{}".to_owned(),
            output: "data:/C.npy".to_owned(),
            run: 3,
            inputs: vec![input(7)],
            assign: AssignName::RoundRobin,
            may_replace_output: false,
            planned_for: PlannedFor {
                memory_bytes: 1,
                threads: 1,
                workers: 1,
            },
            deadline_unix_ms: None,
        })
    }

    fn input(mtime_ns: i64) -> InputIdentity {
        InputIdentity {
            path: "data:/A.npy".to_owned(),
            len: 1,
            mtime_ns,
            header: String::new(),
            sample_hash: String::new(),
        }
    }

    #[test]
    fn an_input_that_is_only_written_to_is_another_one() {
        assert_eq!(record().check_inputs(&[input(7)]), Ok(()));
        let touched = record().check_inputs(&[input(8)]).unwrap_err();
        assert_eq!(touched.cause, Cause::InputChanged);
        assert!(touched.text.contains("A.npy"), "{}", touched.text);
    }

    #[test]
    fn a_record_is_read_under_its_own_key_only() {
        let record = record();
        let key = key_of(record.id());
        assert_eq!(
            JobRecord::from_bytes(&key, &record.to_bytes()),
            Ok(record.clone())
        );
        let other = key_of(JobId([7; 16]));
        assert!(JobRecord::from_bytes(&other, &record.to_bytes()).is_err());
        let newer = JobRecord {
            version: VERSION + 1,
            ..record
        };
        assert!(JobRecord::from_bytes(&key, &newer.to_bytes()).is_err());
    }
}
