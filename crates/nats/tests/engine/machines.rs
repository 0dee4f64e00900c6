//! Core's two machines over this engine: a job ends although a worker hangs and the server is killed.

use crate::harness::{JOB, TestServer};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::driver::{Assign, Driver, DriverEffect, DriverEvent, JobStart, Needs, WhenFull};
use tilework_core::failure::JobEnd;
use tilework_core::ids::{Millis, RoundIdx, RunEpoch, TaskIdx};
use tilework_core::message::{JobAttempt, ToWorker};
use tilework_core::worker::{Worker, WorkerEffect, WorkerEvent, WorkerStart};
use tilework_nats::{NatsDriverPort, NatsWorkerPort};
use tilework_runtime::engine::{DriverPort, WorkerPort};

const N_TASKS: u64 = 60;
const TASK_TIME: Duration = Duration::from_millis(30);
const POLL: Duration = Duration::from_millis(5);
/// A hung worker is missed after 6 s.
const JOB_BOUND: Duration = Duration::from_secs(40);

/// Tasks that are committed.
type Journal = Arc<Mutex<BTreeSet<TaskIdx>>>;

fn n_committed(journal: &Journal) -> usize {
    journal.lock().unwrap().len()
}

fn since(started: Instant) -> Millis {
    Millis(started.elapsed().as_millis() as u64)
}

fn start_of_job() -> JobStart {
    JobStart {
        job: JOB,
        epoch: RunEpoch(1),
        adopts_from: RunEpoch(1),
        round: RoundIdx(0),
        n_tasks: N_TASKS,
        needs: Needs {
            memory_bytes: 1,
            expected_ms: TASK_TIME.as_millis() as u64,
            deadline_ms: None,
        },
        committed: Vec::new(),
        resumed: false,
        took_over: false,
        one_machine: false,
        assign: Assign::Dynamic,
        backups: true,
        when_full: WhenFull::Stop,
        deadline: None,
        unable: Default::default(),
    }
}

fn drive(mut port: NatsDriverPort, journal: &Journal) -> JobEnd {
    let started = Instant::now();
    let mut machine = Driver::new();
    let mut effects = Vec::new();
    let mut workers = BTreeSet::new();
    let mut event = DriverEvent::Submitted(start_of_job());
    loop {
        assert!(
            started.elapsed() < JOB_BOUND,
            "{} committed",
            n_committed(journal)
        );
        if let DriverEvent::Received(message) = &event {
            workers.insert(message.worker);
        }
        machine.on_event(since(started), event, &mut effects);
        for effect in effects.drain(..) {
            let answer = match effect {
                DriverEffect::Release(attempt, queue) => {
                    port.release(attempt, queue);
                    continue;
                }
                DriverEffect::Send(worker, message) => {
                    port.send(worker, message);
                    continue;
                }
                DriverEffect::Alarm(_) | DriverEffect::WakeAt(_) => continue,
                DriverEffect::End(_, end) => {
                    workers
                        .iter()
                        .for_each(|worker| port.send(*worker, ToWorker::Drain));
                    return end;
                }
                DriverEffect::Advance(job, _) => DriverEvent::RoundsDone(job),
                DriverEffect::ReadCommits(job, _) => {
                    DriverEvent::CommitsRead(job, journal.lock().unwrap().iter().copied().collect())
                }
                DriverEffect::VerifyOutputs(job) => DriverEvent::OutputsVerified(job, Vec::new()),
                DriverEffect::FinishOutputs(job) => DriverEvent::OutputsFinished(job),
            };
            port.inbox().send(answer).unwrap();
        }
        event = port.next(POLL).unwrap_or(DriverEvent::Tick);
    }
}

/// Works until it is sent home; with `hangs_at`, falls silent for ever as it is about to run so many tasks.
fn work(mut port: NatsWorkerPort, journal: &Journal, hangs_at: Option<u32>) {
    let started = Instant::now();
    let mut machine = Worker::new(WorkerStart {
        worker: port.worker(),
        memory_bytes: 1,
        looks_ahead: false,
    });
    let mut effects = Vec::new();
    let mut running: Option<(JobAttempt, Instant)> = None;
    let mut n_run = 0;
    port.inbox().send(WorkerEvent::Connected).unwrap();
    while started.elapsed() < JOB_BOUND {
        let ended = running.take_if(|(_, since)| since.elapsed() >= TASK_TIME);
        let event = match ended {
            Some((attempt, _)) => WorkerEvent::RunEnded(attempt, Ok(())),
            None => port.next(POLL).unwrap_or(WorkerEvent::Tick),
        };
        machine.on_event(since(started), event, &mut effects);
        for effect in effects.drain(..) {
            let durable = match effect {
                WorkerEffect::Fetch => {
                    port.fetch();
                    continue;
                }
                WorkerEffect::Run(attempt) => {
                    n_run += 1;
                    if hangs_at == Some(n_run) {
                        // Connected and silent, with a task in hand.
                        std::mem::forget(port);
                        return;
                    }
                    running = Some((attempt, Instant::now()));
                    continue;
                }
                WorkerEffect::Ack(attempt) => {
                    port.ack(attempt);
                    continue;
                }
                WorkerEffect::Renew(attempt) => {
                    port.renew(attempt);
                    continue;
                }
                WorkerEffect::Send(message) => {
                    port.send(message);
                    continue;
                }
                WorkerEffect::Prepare(_)
                | WorkerEffect::CancelRun(_)
                | WorkerEffect::GiveUpRun(_)
                | WorkerEffect::WakeAt(_) => continue,
                WorkerEffect::End => return,
                WorkerEffect::WriteOutput(attempt) => WorkerEvent::OutputDurable(attempt, Ok(())),
                WorkerEffect::AppendCommit(attempt) => {
                    journal.lock().unwrap().insert(attempt.attempt.task);
                    WorkerEvent::CommitDurable(attempt, Ok(()))
                }
            };
            port.inbox().send(durable).unwrap();
        }
    }
    panic!("nobody sent the worker home");
}

#[test]
fn a_job_ends_although_a_worker_hangs_and_the_server_is_killed() {
    let mut server = TestServer::start();
    let journal = Journal::default();
    let driver = server.driver();
    let workers = [None, None, Some(5)].into_iter().zip(0..);
    let workers: Vec<_> = workers
        .map(|(hangs_at, worker)| {
            let (port, journal) = (server.worker(worker), Arc::clone(&journal));
            thread::spawn(move || work(port, &journal, hangs_at))
        })
        .collect();
    let driving = {
        let journal = Arc::clone(&journal);
        thread::spawn(move || drive(driver, &journal))
    };
    let began = Instant::now();
    while n_committed(&journal) < 20 {
        assert!(began.elapsed() < JOB_BOUND, "{} committed", n_committed(&journal));
        thread::sleep(POLL); // waits: a third of the job
    }
    server.kill();
    assert!(
        (n_committed(&journal) as u64) < N_TASKS,
        "it is killed in the middle"
    );
    server.start_again();
    assert_eq!(driving.join().expect("the driver"), JobEnd::Done);
    assert_eq!(n_committed(&journal) as u64, N_TASKS);
    workers
        .into_iter()
        .for_each(|worker| worker.join().expect("a worker"));
}
