//! What happens to a job, for whoever wants to know: one object for each transition that its driver hears of, gathered for a moment
//! and published together, so that a job of many small tasks costs a few messages a second.

use super::record::unix_ms;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tilework_core::driver::DriverEvent;
use tilework_core::ids::JobId;
use tilework_core::message::{JobAttempt, WorkerReport};
use tilework_nats::Control;
use tilework_runtime::LoggedAlarm;

/// How long events are gathered.
const GATHER: Duration = Duration::from_millis(100);
/// How many at most.
const GATHERED_MAX: usize = 500;

/// Something that happened.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JobEvent {
    /// When the driver heard of it, in milliseconds since 1970.
    pub unix_ms: u64,
    /// `took`, `started`, `committed`, `failed`, `gave_back`, `began`, `ended` or `alarm`.
    pub what: String,
    /// Which run.
    pub run: u32,
    /// Which worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<u32>,
    /// Which task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<u64>,
    /// Which attempt at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u8>,
    /// In words, where there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The alarm, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<LoggedAlarm>,
}

impl JobEvent {
    /// Something about the job itself.
    pub fn about_job(what: &str, run: u32, text: Option<String>) -> JobEvent {
        JobEvent {
            unix_ms: unix_ms(),
            what: what.to_owned(),
            run,
            text,
            ..JobEvent::default()
        }
    }

    /// An alarm.
    pub fn alarm(alarm: &LoggedAlarm) -> JobEvent {
        let text = format!("{}: {}", alarm.severity, alarm.text);
        JobEvent {
            alarm: Some(alarm.clone()),
            ..JobEvent::about_job("alarm", alarm.run, Some(text))
        }
    }

    /// What a worker reports of an attempt.
    pub fn reported(event: &DriverEvent) -> Option<(JobId, JobEvent)> {
        let DriverEvent::Received(message) = event else {
            return None;
        };
        let (what, named, text): (&str, &JobAttempt, _) = match &message.body {
            WorkerReport::Took(attempt) => ("took", attempt, None),
            WorkerReport::Started(attempt) => ("started", attempt, None),
            WorkerReport::Committed(attempt) => ("committed", attempt, None),
            WorkerReport::GaveBack(attempt) => ("gave_back", attempt, None),
            WorkerReport::Failed(attempt, failure) => ("failed", attempt, Some(failure.text.clone())),
            WorkerReport::Joined { .. }
            | WorkerReport::Heartbeat { .. }
            | WorkerReport::Left(_)
            | WorkerReport::Drained => return None,
        };
        let attempt = named.attempt;
        let event = JobEvent {
            worker: Some(message.worker.0),
            task: Some(attempt.task.0),
            attempt: Some(attempt.attempt.0),
            ..JobEvent::about_job(what, attempt.epoch.0, text)
        };
        Some((named.job, event))
    }
}

/// Events that wait to be published.
#[derive(Debug, Default)]
pub struct Gathered {
    waiting: BTreeMap<JobId, Vec<JobEvent>>,
    since: Option<Instant>,
    n_waiting: usize,
}

impl Gathered {
    /// Adds one.
    pub fn add(&mut self, job: JobId, event: JobEvent) {
        self.waiting.entry(job).or_default().push(event);
        self.since.get_or_insert_with(Instant::now);
        self.n_waiting += 1;
    }

    /// Publishes what has waited long enough.
    pub fn publish_due(&mut self, control: &Control) {
        let is_due = self.since.is_some_and(|since| since.elapsed() >= GATHER);
        if is_due || self.n_waiting >= GATHERED_MAX {
            self.publish(control);
        }
    }

    /// Publishes all.
    pub fn publish(&mut self, control: &Control) {
        for (job, events) in std::mem::take(self).waiting {
            match serde_json::to_vec(&events) {
                Ok(bytes) => control.publish_event(job, bytes),
                Err(error) => tracing::error!(%error, "events can't be written"),
            }
        }
    }
}

/// Reads what was published together.
pub fn read(bytes: &[u8]) -> Vec<JobEvent> {
    serde_json::from_slice(bytes).unwrap_or_else(|error| {
        tracing::warn!(%error, "events of a job can't be read");
        Vec::new()
    })
}
