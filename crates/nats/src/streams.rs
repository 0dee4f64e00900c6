//! Subjects, the task stream and its consumers. Only drivers create these; nothing that exists is ever re-configured.
//!
//! ```text
//! tw.task.<job>.<queue>   tasks, in the work-queue stream TW_TASKS; <queue> is `shared` or `w<worker>`
//! tw.report.w<worker>     what a worker says, to whoever drives
//! tw.ctl.w.w<worker>      what the driver says to a worker
//! tw.ctl.all              what the driver says to all workers
//! tw.join                 a worker asks to be let in
//! tw.request.<verb>       a client asks for something
//! tw.event.<job>          what happened, in the stream TW_EVENTS
//! tw.kv.<bucket>.<key>    a record of `jobs` or `workers` that was just changed
//! ```
//!
//! There is one consumer for each *queue*, not for each job and queue: core releases a window of a few tasks per worker, divided
//! among the jobs, so one job's tasks never lie in front of another's for long; a worker asks two consumers however many jobs there
//! are; and a cluster has as many consumers as workers. Their filters are disjoint, as a work-queue stream demands.

use crate::limits;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{self, DiscardPolicy, RetentionPolicy, StorageType};
use std::time::Duration;
use tilework_core::driver::Queue;
use tilework_core::ids::{JobId, WorkerIdx};

/// The stream that tasks lie in until they are acknowledged.
pub const TASK_STREAM: &str = "TW_TASKS";
/// Where all workers are told things.
pub const CONTROL_OF_ALL: &str = "tw.ctl.all";
/// Where a worker asks to be let in.
pub const JOIN: &str = "tw.join";
/// Where clients ask for something.
pub const REQUESTS: &str = "tw.request.*";
/// What all workers say.
pub const REPORTS: &str = "tw.report.*";

/// Where an attempt of `job` is released to.
pub fn task_subject(job: JobId, queue: Queue) -> String {
    format!("tw.task.{}.{}", job_token(job), queue_token(queue))
}

/// The job and queue of a subject that [`task_subject`] made.
pub fn parse_task_subject(subject: &str) -> Option<(JobId, Queue)> {
    let (job, queue) = subject.strip_prefix("tw.task.")?.split_once('.')?;
    Some((job_of_token(job)?, queue_of_token(queue)?))
}

/// Where `worker` says what it has to say.
pub fn report_subject(worker: WorkerIdx) -> String {
    format!("tw.report.{}", worker_token(worker))
}

/// Where `worker` is told things.
pub fn control_subject(worker: WorkerIdx) -> String {
    format!("tw.ctl.w.{}", worker_token(worker))
}

/// Where is told what happened to `job`.
pub fn event_subject(job: JobId) -> String {
    format!("tw.event.{}", job_token(job))
}

/// All subjects of a queue, whatever the job.
pub fn queue_filter(queue: Queue) -> String {
    format!("tw.task.*.{}", queue_token(queue))
}

/// The name of the queue's consumer.
pub fn consumer_name(queue: Queue) -> String {
    format!("q-{}", queue_token(queue))
}

/// Where a pull from the queue is sent.
pub fn pull_subject(queue: Queue) -> String {
    format!("$JS.API.CONSUMER.MSG.NEXT.{TASK_STREAM}.{}", consumer_name(queue))
}

/// A job's hash as 32 hexadecimal digits.
pub fn job_token(job: JobId) -> String {
    job.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The job that [`job_token`] wrote.
pub fn job_of_token(token: &str) -> Option<JobId> {
    let is_hex = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if token.len() != 32 || !token.bytes().all(is_hex) {
        return None;
    }
    let mut job = [0; 16];
    for (byte, digits) in job.iter_mut().zip(token.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(JobId(job))
}

fn worker_token(worker: WorkerIdx) -> String {
    format!("w{worker}")
}

pub(crate) fn queue_token(queue: Queue) -> String {
    match queue {
        Queue::Shared => "shared".to_string(),
        Queue::Worker(worker) => worker_token(worker),
    }
}

fn queue_of_token(token: &str) -> Option<Queue> {
    if token == "shared" {
        return Some(Queue::Shared);
    }
    let worker = token.strip_prefix('w')?.parse().ok()?;
    let queue = Queue::Worker(WorkerIdx(worker));
    // Numbers have other spellings, and nothing is released there.
    (queue_token(queue) == token).then_some(queue)
}

/// The task stream on so many servers.
pub(crate) fn task_stream(n_replicas: usize) -> stream::Config {
    stream::Config {
        name: TASK_STREAM.to_string(),
        subjects: vec!["tw.task.*.*".to_string()],
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        max_bytes: limits::TASK_STREAM_BYTES_MAX,
        max_message_size: limits::STREAM_MESSAGE_BYTES_MAX,
        duplicate_window: limits::DUPLICATE_WINDOW,
        storage: StorageType::File,
        num_replicas: n_replicas,
        ..stream::Config::default()
    }
}

/// The consumer of a queue. It delivers without end: a message that the server stops to deliver stays in a work-queue stream for
/// ever, so it is the worker that takes one out that came too often.
pub(crate) fn queue_consumer(queue: Queue, ack_wait: Duration) -> pull::Config {
    pull::Config {
        durable_name: Some(consumer_name(queue)),
        filter_subject: queue_filter(queue),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait,
        max_ack_pending: limits::ACK_PENDING_MAX,
        max_waiting: limits::PULLS_WAITING_MAX,
        ..pull::Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_subject_says_what_it_was_made_of() {
        let job = JobId([0xa7; 16]);
        for queue in [Queue::Shared, Queue::Worker(WorkerIdx(17))] {
            assert_eq!(parse_task_subject(&task_subject(job, queue)), Some((job, queue)));
        }
    }

    #[test]
    fn other_subjects_are_no_task_subjects() {
        let upper = "A7".repeat(16);
        let lower = "a7".repeat(16);
        for subject in [
            "tw.task".to_string(),
            format!("tw.task.{upper}.shared"),
            format!("tw.task.{lower}.x3"),
            format!("tw.task.{lower}.w"),
            format!("tw.task.{lower}.w1.w2"),
            format!("tw.task.{lower}.w+1"),
            format!("tw.task.{lower}.w01"),
            format!("tw.report.{lower}.shared"),
        ] {
            assert_eq!(parse_task_subject(&subject), None, "{subject}");
        }
    }
}
