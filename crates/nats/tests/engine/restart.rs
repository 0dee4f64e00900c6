//! The server is killed and comes back with its store: nothing that was released is lost, and the ports go on by themselves.

use crate::harness::{SOON, TestServer, attempt, says, take, wait_for};
use std::time::{Duration, Instant};
use tilework_core::driver::{DriverEvent, Queue};
use tilework_core::ids::WorkerIdx;
use tilework_core::message::{ToDriver, ToWorker, WorkerReport};
use tilework_core::worker::WorkerEvent;
use tilework_runtime::engine::{DriverPort, WorkerPort};

#[test]
fn tasks_without_an_acknowledgement_come_again_after_the_server_was_killed() {
    let mut server = TestServer::start();
    let (mut driver, mut worker) = (server.driver(), server.worker(0));
    (0..3).for_each(|task| driver.release(attempt(task), Queue::Shared));
    let done = take(&mut worker);
    worker.ack(done);
    let held = take(&mut worker);
    assert_eq!((done, held), (attempt(0), attempt(1)));

    server.kill();
    let killed = Instant::now();
    server.start_again();

    let mut came = vec![take(&mut worker), take(&mut worker)];
    came.sort();
    assert_eq!(came, [attempt(1), attempt(2)]);
    assert!(killed.elapsed() < SOON, "{:?}", killed.elapsed());
}

#[test]
fn an_ask_and_messages_survive_a_restart_of_the_server() {
    let mut server = TestServer::start();
    let (mut driver, mut worker) = (server.driver(), server.worker(0));
    says(&mut driver, &mut worker, WorkerReport::Joined { memory_bytes: 1 });
    worker.fetch();
    assert_eq!(worker.next(Duration::from_millis(100)), None);

    server.kill();
    // It is released while the server is away, and stored when it is back.
    driver.release(attempt(5), Queue::Shared);
    let killed = Instant::now();
    server.start_again();

    let assigned = WorkerEvent::Assigned(attempt(5));
    let mut reconnected = false;
    wait_for(
        |timeout| {
            let event = worker.next(timeout);
            reconnected |= event == Some(WorkerEvent::Connected);
            event
        },
        |event| *event == assigned,
    );
    assert!(
        reconnected,
        "the machine is told, so that it introduces itself again"
    );
    says(&mut driver, &mut worker, WorkerReport::Started(attempt(5)));
    driver.send(WorkerIdx(0), ToWorker::Recall(attempt(5)));
    wait_for(
        |timeout| worker.next(timeout),
        |event| matches!(event, WorkerEvent::Received(ToWorker::Recall(_))),
    );
    assert!(killed.elapsed() < SOON, "{:?}", killed.elapsed());
}

#[test]
fn reports_around_a_crash_of_the_server_are_heard() {
    let mut server = TestServer::start();
    let (mut driver, mut worker) = (server.driver(), server.worker(0));
    let mut report = |body| {
        let message = ToDriver {
            worker: WorkerIdx(0),
            body,
        };
        worker.send(message.clone());
        DriverEvent::Received(message)
    };
    let before = report(WorkerReport::Started(attempt(0)));
    server.kill();
    let meanwhile = report(WorkerReport::Committed(attempt(0)));
    server.start_again();
    for heard in [before, meanwhile] {
        wait_for(|timeout| driver.next(timeout), |event| *event == heard);
    }
}

#[test]
fn a_task_that_was_acknowledged_to_a_dead_server_is_not_run_again() {
    let mut server = TestServer::start();
    let (mut driver, mut worker) = (server.driver(), server.worker(0));
    driver.release(attempt(0), Queue::Shared);
    let held = take(&mut worker);
    server.kill();
    worker.ack(held);
    server.start_again();
    // The server may have forgotten the delivery with the acknowledgement, and deliver the task again.
    worker.fetch();
    let stranger = crate::harness::Stranger::connect(&server);
    stranger.wait_for_counts(0, 1);
    driver.release(attempt(1), Queue::Shared);
    wait_for(
        |timeout| worker.next(timeout),
        |event| match event {
            WorkerEvent::Assigned(assigned) => {
                assert_eq!(*assigned, attempt(1));
                true
            }
            _ => false,
        },
    );
}

#[test]
fn a_task_is_kept_by_signs_of_work_and_redelivered_without_them() {
    let server = TestServer::start();
    let (mut driver, mut busy, mut idle) = (server.driver(), server.worker(0), server.worker(1));
    driver.release(attempt(0), Queue::Shared);
    assert_eq!(take(&mut busy), attempt(0));
    idle.fetch();
    let started = Instant::now();
    while started.elapsed() < 2 * crate::harness::ACK_WAIT {
        busy.renew(attempt(0));
        assert_eq!(idle.next(crate::harness::ACK_WAIT / 5), None, "it is worked at");
    }
    let again = wait_for(|timeout| idle.next(timeout), |_| true);
    assert_eq!(again, WorkerEvent::Assigned(attempt(0)));
    // Both may finish it; the second acknowledgement changes nothing.
    busy.ack(attempt(0));
    idle.ack(attempt(0));
    assert_eq!(driver.next(Duration::from_millis(50)), None::<DriverEvent>);
}
