//! Who leaves takes nothing along: a driver its workers, a worker its tasks.

use crate::harness::{Stranger, TestServer, attempt, says, take, wait_for};
use std::time::Duration;
use tilework_core::driver::{DriverEvent, Queue};
use tilework_core::ids::WorkerIdx;
use tilework_core::message::WorkerReport;
use tilework_core::worker::WorkerEvent;
use tilework_runtime::engine::{DriverPort, WorkerPort};

const A_MOMENT: Duration = Duration::from_millis(100);

#[test]
fn a_dropped_driver_leaves_its_workers_and_tasks_to_the_next() {
    let server = TestServer::start();
    let (mut driver, mut worker) = (server.driver(), server.worker(0));
    driver.release(attempt(0), Queue::Shared);
    driver.release(attempt(1), Queue::Shared);
    assert_eq!(take(&mut worker), attempt(0));
    drop(driver);
    assert_eq!(worker.next(A_MOMENT), None, "nobody sends the worker home");
    assert_eq!(take(&mut worker), attempt(1));
    let mut next_driver = server.driver();
    says(&mut next_driver, &mut worker, WorkerReport::Started(attempt(1)));
    next_driver.release(attempt(2), Queue::Shared);
    assert_eq!(take(&mut worker), attempt(2));
}

#[test]
fn a_task_that_reached_only_the_port_of_a_worker_that_leaves_goes_to_another_at_once() {
    let server = TestServer::start();
    let (mut driver, mut leaving, mut staying) = (server.driver(), server.worker(0), server.worker(1));
    leaving.fetch();
    driver.release(attempt(0), Queue::Shared);
    driver.release(attempt(1), Queue::Worker(WorkerIdx(0)));
    let stranger = Stranger::connect(&server);
    stranger.wait_for_counts(2, 2);
    drop(leaving);
    wait_for(
        |timeout| driver.next(timeout),
        |event| *event == DriverEvent::WorkerLost(WorkerIdx(0)),
    );
    staying.fetch();
    let soon = crate::harness::ACK_WAIT / 2;
    assert_eq!(staying.next(soon), Some(WorkerEvent::Assigned(attempt(0))));
    staying.ack(attempt(0));
    // Its own queue is gone, with what lay there.
    stranger.wait_for_counts(0, 1);
}

#[test]
fn a_worker_that_leaves_holds_back_nothing_that_its_machine_took() {
    let server = TestServer::start();
    let (mut driver, mut leaving) = (server.driver(), server.worker(0));
    driver.release(attempt(0), Queue::Shared);
    assert_eq!(take(&mut leaving), attempt(0));
    drop(leaving);
    // The driver releases it anew when it hears this, so the queue needs to keep nothing.
    let lost = DriverEvent::WorkerLost(WorkerIdx(0));
    wait_for(|timeout| driver.next(timeout), |event| *event == lost);
    Stranger::connect(&server).wait_for_counts(0, 1);
}

#[test]
fn a_worker_that_is_heard_has_a_queue_of_its_own() {
    let server = TestServer::start();
    let (mut driver, mut worker) = (server.driver(), server.worker(3));
    says(&mut driver, &mut worker, WorkerReport::Joined { memory_bytes: 1 });
    Stranger::connect(&server).wait_for_counts(0, 2);
}
