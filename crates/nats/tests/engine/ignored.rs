//! Whatever a stranger writes to our subjects is counted and ignored, and the engine goes on.

use crate::harness::{JOB, SOON, Stranger, TestServer, attempt, says, take};
use std::time::{Duration, Instant};
use tilework_core::driver::Queue;
use tilework_core::ids::{JobId, WorkerIdx};
use tilework_core::message::{ToWorker, WorkerReport};
use tilework_core::worker::WorkerEvent;
use tilework_nats::IgnoredCounts;
use tilework_nats::streams::{control_subject, report_subject, task_subject};
use tilework_nats::wire::{FromWorker, MESSAGE_BYTES_MAX, TASK_BYTES_MAX, encode_from_worker, encode_task};
use tilework_runtime::engine::{DriverPort, WorkerPort};

const A_MOMENT: Duration = Duration::from_millis(20);
const GARBAGE: &[u8] = b"\xff\x00{";
const OLD: &str = r#"{"v":1,"body":"drain"}"#;
const ONE_OF_EACH: IgnoredCounts = IgnoredCounts {
    malformed: 1,
    too_large: 1,
    other_version: 1,
    misplaced: 0,
};

#[test]
fn a_worker_ignores_commands_that_it_cannot_read() {
    let server = TestServer::start();
    let (mut driver, mut worker) = (server.driver(), server.worker(0));
    let stranger = Stranger::connect(&server);
    let subject = control_subject(WorkerIdx(0));
    stranger.publish(&subject, GARBAGE);
    stranger.publish(&subject, vec![b' '; MESSAGE_BYTES_MAX + 1]);
    stranger.publish(&subject, OLD);
    let until = Instant::now() + SOON;
    while worker.ignored() != ONE_OF_EACH {
        assert_eq!(worker.next(A_MOMENT), None);
        assert!(Instant::now() < until, "{:?}", worker.ignored());
    }
    driver.send(WorkerIdx(0), ToWorker::Drain);
    let drain = WorkerEvent::Received(ToWorker::Drain);
    assert_eq!(worker.next(SOON), Some(drain));
}

#[test]
fn a_driver_ignores_reports_that_it_cannot_read_or_that_speak_for_another() {
    let server = TestServer::start();
    let (mut driver, mut worker) = (server.driver(), server.worker(0));
    let stranger = Stranger::connect(&server);
    let subject = report_subject(WorkerIdx(0));
    stranger.publish(&subject, GARBAGE);
    stranger.publish(&subject, vec![b' '; MESSAGE_BYTES_MAX + 1]);
    stranger.publish(&subject, OLD);
    let of_another = encode_from_worker(FromWorker::Gone(WorkerIdx(1))).unwrap();
    stranger.publish(&subject, of_another);
    let expected = IgnoredCounts {
        misplaced: 1,
        ..ONE_OF_EACH
    };
    let until = Instant::now() + SOON;
    while driver.ignored() != expected {
        assert_eq!(driver.next(A_MOMENT), None);
        assert!(Instant::now() < until, "{:?}", driver.ignored());
    }
    says(&mut driver, &mut worker, WorkerReport::Drained);
}

#[test]
fn a_worker_takes_tasks_that_it_cannot_read_out_of_the_queue() {
    let server = TestServer::start();
    let (mut driver, mut worker) = (server.driver(), server.worker(0));
    let stranger = Stranger::connect(&server);
    let subject = task_subject(JOB, Queue::Shared);
    stranger.publish(&subject, GARBAGE);
    stranger.publish(&subject, vec![b' '; TASK_BYTES_MAX + 1]);
    stranger.publish(&subject, OLD);
    let other_job = task_subject(JobId([8; 16]), Queue::Shared);
    stranger.publish(&other_job, encode_task(attempt(0)).unwrap());
    stranger.publish("tw.task.nonsense.shared", encode_task(attempt(0)).unwrap());
    stranger.wait_for_counts(5, 1);
    driver.release(attempt(1), Queue::Shared);
    assert_eq!(take(&mut worker), attempt(1));
    let expected = IgnoredCounts {
        misplaced: 2,
        ..ONE_OF_EACH
    };
    assert_eq!(worker.ignored(), expected);
    worker.ack(attempt(1));
    stranger.wait_for_counts(0, 1);
}

#[test]
fn a_forged_answer_to_a_pull_is_no_task() {
    let server = TestServer::start();
    let (mut driver, mut worker) = (server.driver(), server.worker(0));
    let stranger = Stranger::connect(&server);
    let forged = encode_task(attempt(0)).unwrap();
    stranger.answer_next_request("$JS.API.CONSUMER.MSG.NEXT.>", forged, || worker.fetch());
    driver.release(attempt(2), Queue::Shared);
    let assigned = WorkerEvent::Assigned(attempt(2));
    assert_eq!(worker.next(SOON), Some(assigned));
}
