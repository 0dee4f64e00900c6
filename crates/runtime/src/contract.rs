//! What engines must do: one suite that each engine's tests call.
//!
//! Every engine keeps [`check`]. Only an engine within one process keeps [`check_embedded`] too: where the driver ends with its
//! process, nobody else would send the workers home. On a cluster another driver takes over, and workers must stay at work.

use crate::engine::{DriverPort, WorkerPort};
use std::time::Duration;
use tilework_core::driver::{DriverEvent, Queue};
use tilework_core::ids::{Attempt, AttemptNo, JobId, RoundIdx, RunEpoch, TaskIdx, WorkerIdx};
use tilework_core::message::{JobAttempt, ToDriver, ToWorker, WorkerReport};
use tilework_core::worker::WorkerEvent;

/// The ports of a fresh engine.
pub type Ports = (Box<dyn DriverPort>, Vec<Box<dyn WorkerPort>>);

const SOON: Duration = Duration::from_secs(10);
const NEVER: Duration = Duration::from_millis(50);

/// Runs what every engine keeps; `engine` makes a fresh engine with that many workers.
///
/// # Panics
/// If the engine breaks the contract.
pub fn check(engine: impl Fn(u32) -> Ports) {
    tasks_reach_exactly_one_fetcher_each_in_order(engine(2));
    a_fetch_waits_for_a_release(engine(1));
    nothing_is_assigned_without_a_fetch(engine(1));
    a_workers_own_queue_is_its_alone_and_comes_first(engine(3));
    a_fetch_said_twice_brings_one_task(engine(1));
    messages_arrive_in_order_both_ways(engine(2));
    own_events_come_through_the_inbox(engine(1));
    a_dropped_worker_is_reported_and_gets_no_task(engine(2));
    a_forgotten_worker_finds_nothing_of_before(engine(2));
}

/// Runs the whole suite for an engine within one process; `engine` makes a fresh engine with that many workers.
///
/// # Panics
/// If the engine breaks the contract.
pub fn check_embedded(engine: impl Fn(u32) -> Ports) {
    check(&engine);
    a_dropped_driver_drains_its_workers(engine(2));
}

const JOB: JobId = JobId([1; 16]);

fn attempt(task: u64) -> JobAttempt {
    JobAttempt {
        job: JOB,
        attempt: Attempt {
            epoch: RunEpoch(1),
            round: RoundIdx(0),
            task: TaskIdx(task),
            attempt: AttemptNo(0),
        },
    }
}

fn tasks_reach_exactly_one_fetcher_each_in_order((mut driver, mut workers): Ports) {
    (0..4).for_each(|task| driver.release(attempt(task), Queue::Shared));
    for task in 0..4 {
        let worker = &mut workers[task as usize % 2];
        worker.fetch();
        assert_eq!(worker.next(SOON), Some(WorkerEvent::Assigned(attempt(task))));
        worker.ack(attempt(task));
    }
    workers.iter_mut().for_each(|worker| worker.fetch());
    assert!(
        workers.iter_mut().all(|worker| worker.next(NEVER).is_none()),
        "each task goes out once"
    );
}

fn a_fetch_waits_for_a_release((mut driver, mut workers): Ports) {
    workers[0].fetch();
    assert_eq!(workers[0].next(NEVER), None);
    driver.release(attempt(7), Queue::Shared);
    assert_eq!(workers[0].next(SOON), Some(WorkerEvent::Assigned(attempt(7))));
}

fn nothing_is_assigned_without_a_fetch((mut driver, mut workers): Ports) {
    driver.release(attempt(0), Queue::Shared);
    assert_eq!(workers[0].next(NEVER), None);
}

fn a_workers_own_queue_is_its_alone_and_comes_first((mut driver, mut workers): Ports) {
    workers[1].fetch();
    driver.release(attempt(0), Queue::Shared);
    assert_eq!(workers[1].next(SOON), Some(WorkerEvent::Assigned(attempt(0))));
    driver.release(attempt(2), Queue::Worker(WorkerIdx(0)));
    driver.release(attempt(3), Queue::Worker(WorkerIdx(1)));
    driver.release(attempt(1), Queue::Shared);
    driver.release(attempt(6), Queue::Shared);
    // Who got one of them knows that what was released before it is there.
    workers[2].fetch();
    assert_eq!(workers[2].next(SOON), Some(WorkerEvent::Assigned(attempt(1))));
    for (worker, expected) in [(0, 2), (1, 3), (1, 6)] {
        workers[worker].fetch();
        let expected = WorkerEvent::Assigned(attempt(expected));
        assert_eq!(workers[worker].next(SOON), Some(expected));
    }
    workers[1].fetch();
    driver.release(attempt(4), Queue::Worker(WorkerIdx(0)));
    assert_eq!(workers[1].next(NEVER), None);
    driver.release(attempt(5), Queue::Worker(WorkerIdx(1)));
    assert_eq!(workers[1].next(SOON), Some(WorkerEvent::Assigned(attempt(5))));
}

fn a_fetch_said_twice_brings_one_task((mut driver, mut workers): Ports) {
    workers[0].fetch();
    workers[0].fetch();
    driver.release(attempt(0), Queue::Shared);
    driver.release(attempt(1), Queue::Shared);
    assert_eq!(workers[0].next(SOON), Some(WorkerEvent::Assigned(attempt(0))));
    assert_eq!(workers[0].next(NEVER), None);
}

fn messages_arrive_in_order_both_ways((mut driver, mut workers): Ports) {
    driver.send(WorkerIdx(1), ToWorker::Drain);
    driver.send(WorkerIdx(1), ToWorker::Recall(attempt(3)));
    assert_eq!(
        workers[1].next(SOON),
        Some(WorkerEvent::Received(ToWorker::Drain))
    );
    assert_eq!(
        workers[1].next(SOON),
        Some(WorkerEvent::Received(ToWorker::Recall(attempt(3))))
    );
    assert_eq!(workers[0].next(NEVER), None);
    let messages = [
        WorkerReport::Joined { memory_bytes: 7 },
        WorkerReport::Started(attempt(0)),
        WorkerReport::Committed(attempt(0)),
        WorkerReport::Started(attempt(1)),
    ];
    let messages = messages.map(|body| ToDriver {
        worker: WorkerIdx(0),
        body,
    });
    messages
        .iter()
        .for_each(|message| workers[0].send(message.clone()));
    assert_eq!(workers[0].next(NEVER), None);
    for message in messages {
        assert_eq!(driver.next(SOON), Some(DriverEvent::Received(message)));
    }
}

fn own_events_come_through_the_inbox((mut driver, mut workers): Ports) {
    driver
        .inbox()
        .send(DriverEvent::RoundsDone(JOB))
        .expect("the driver is there");
    assert_eq!(driver.next(SOON), Some(DriverEvent::RoundsDone(JOB)));
    workers[0]
        .inbox()
        .send(WorkerEvent::Tick)
        .expect("the worker is there");
    assert_eq!(workers[0].next(SOON), Some(WorkerEvent::Tick));
}

fn a_dropped_worker_is_reported_and_gets_no_task((mut driver, mut workers): Ports) {
    workers[0].fetch();
    workers.remove(0);
    assert_eq!(driver.next(SOON), Some(DriverEvent::WorkerLost(WorkerIdx(0))));
    driver.release(attempt(0), Queue::Shared);
    workers[0].fetch();
    assert_eq!(workers[0].next(SOON), Some(WorkerEvent::Assigned(attempt(0))));
}

fn a_forgotten_worker_finds_nothing_of_before((mut driver, mut workers): Ports) {
    let introduce = |driver: &mut Box<dyn DriverPort>, worker: &mut Box<dyn WorkerPort>| {
        let message = ToDriver {
            worker: WorkerIdx(0),
            body: WorkerReport::Joined { memory_bytes: 7 },
        };
        worker.send(message.clone());
        assert_eq!(driver.next(SOON), Some(DriverEvent::Received(message)));
    };
    introduce(&mut driver, &mut workers[0]);
    driver.release(attempt(0), Queue::Worker(WorkerIdx(0)));
    driver.forget(WorkerIdx(0));
    // Who is not lost after all is heard again.
    introduce(&mut driver, &mut workers[0]);
    driver.release(attempt(1), Queue::Worker(WorkerIdx(0)));
    workers[0].fetch();
    assert_eq!(workers[0].next(SOON), Some(WorkerEvent::Assigned(attempt(1))));
    workers[0].ack(attempt(1));
    workers[0].fetch();
    assert_eq!(workers[0].next(NEVER), None);
}

fn a_dropped_driver_drains_its_workers((driver, mut workers): Ports) {
    drop(driver);
    for worker in &mut workers {
        assert_eq!(worker.next(SOON), Some(WorkerEvent::Received(ToWorker::Drain)));
    }
}
