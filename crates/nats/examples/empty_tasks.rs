//! How many tasks a second the cluster engine carries: empty ones, through core's two machines and a real nats-server that syncs
//! every write. Nothing is computed and no journal is written: this is what the engine and the driver add.
//!
//! `cargo run --release -p tilework-nats --example empty_tasks -- 100000 2` prints one JSON object.

#![allow(clippy::print_stdout, reason = "that is what it is for")]

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::driver::{Assign, Driver, DriverEffect, DriverEvent, JobStart, Needs, WhenFull};
use tilework_core::ids::{JobId, Millis, RoundIdx, RunEpoch, WorkerIdx};
use tilework_core::message::ToWorker;
use tilework_core::worker::{Worker, WorkerEffect, WorkerEvent, WorkerStart};
use tilework_nats::server::Places;
use tilework_nats::{ChildServer, NatsDriverPort, NatsOptions, NatsWorkerPort, Role, ServerConfig};
use tilework_runtime::engine::{DriverPort, WorkerPort};

const POLL: Duration = Duration::from_millis(100);

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>());
    let n_tasks = args.next().transpose()?.unwrap_or(10_000);
    let n_workers = args.next().transpose()?.unwrap_or(2);
    let folder = std::env::temp_dir().join(format!("tilework-empty-tasks-{}", std::process::id()));
    let program = Places::from_env().find()?;
    let server = ChildServer::start(&program.path, &ServerConfig::in_folder(&folder))?;
    let url = server.url();
    let driver = NatsDriverPort::connect(&NatsOptions::single(&url, Role::Driver, "driver"))?;
    let mut workers = Vec::new();
    for worker in 0..n_workers as u32 {
        let options = NatsOptions::single(&url, Role::Worker, format!("w{worker}"));
        let port = NatsWorkerPort::connect(&options, WorkerIdx(worker))?;
        workers.push(thread::spawn(move || work(port)));
    }
    let resident_before = resident_bytes();
    let started = Instant::now();
    drive(driver, n_tasks);
    let seconds = started.elapsed().as_secs_f64();
    let resident_after = resident_bytes();
    for worker in workers {
        worker.join().map_err(|_| "a worker panicked")?;
    }
    server.stop();
    std::fs::remove_dir_all(&folder)?;
    println!(
        "{{\"tasks\": {n_tasks}, \"workers\": {n_workers}, \"seconds\": {seconds:.3}, \"tasks_per_s\": {:.0}, \
         \"resident_growth_bytes\": {}, \"nats_server\": \"{}\"}}",
        n_tasks as f64 / seconds,
        resident_after.saturating_sub(resident_before),
        program.version
    );
    Ok(())
}

/// Resident memory of driver and workers, which share this process.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

fn drive(mut port: NatsDriverPort, n_tasks: u64) {
    let started = Instant::now();
    let mut machine = Driver::new();
    let mut effects = Vec::new();
    let mut workers = BTreeSet::new();
    let mut event = DriverEvent::Submitted(JobStart {
        job: JobId([7; 16]),
        epoch: RunEpoch(1),
        adopts_from: RunEpoch(1),
        round: RoundIdx(0),
        n_tasks,
        needs: Needs {
            memory_bytes: 1,
            expected_ms: 1,
            deadline_ms: None,
        },
        committed: Vec::new(),
        resumed: false,
        took_over: false,
        one_machine: false,
        assign: Assign::Dynamic,
        backups: false,
        when_full: WhenFull::Stop,
        deadline: None,
        unable: Default::default(),
    });
    loop {
        if let DriverEvent::Received(message) = &event {
            workers.insert(message.worker);
        }
        machine.on_event(Millis(started.elapsed().as_millis() as u64), event, &mut effects);
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
                DriverEffect::End(..) => {
                    for worker in &workers {
                        port.send(*worker, ToWorker::Drain);
                    }
                    return;
                }
                DriverEffect::Advance(job, _) => DriverEvent::RoundsDone(job),
                DriverEffect::ReadCommits(job, _) => DriverEvent::CommitsRead(job, Vec::new()),
                DriverEffect::VerifyOutputs(job) => DriverEvent::OutputsVerified(job, Vec::new()),
                DriverEffect::FinishOutputs(job) => DriverEvent::OutputsFinished(job),
            };
            let _ = port.inbox().send(answer);
        }
        event = port.next(POLL).unwrap_or(DriverEvent::Tick);
    }
}

fn work(mut port: NatsWorkerPort) {
    let started = Instant::now();
    let inbox: Sender<WorkerEvent> = port.inbox();
    let tell = |event| {
        let _ = inbox.send(event);
    };
    let mut machine = Worker::new(WorkerStart {
        worker: port.worker(),
        memory_bytes: 1,
        looks_ahead: true,
    });
    let mut effects = Vec::new();
    tell(WorkerEvent::Connected);
    loop {
        let event = port.next(POLL).unwrap_or(WorkerEvent::Tick);
        machine.on_event(Millis(started.elapsed().as_millis() as u64), event, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                WorkerEffect::Fetch => port.fetch(),
                WorkerEffect::Run(attempt) => tell(WorkerEvent::RunEnded(attempt, Ok(()))),
                WorkerEffect::WriteOutput(attempt) => tell(WorkerEvent::OutputDurable(attempt, Ok(()))),
                WorkerEffect::AppendCommit(attempt) => tell(WorkerEvent::CommitDurable(attempt, Ok(()))),
                WorkerEffect::Ack(attempt) => port.ack(attempt),
                WorkerEffect::Renew(attempt) => port.renew(attempt),
                WorkerEffect::Send(message) => port.send(message),
                WorkerEffect::Prepare(_)
                | WorkerEffect::CancelRun(_)
                | WorkerEffect::GiveUpRun(_)
                | WorkerEffect::WakeAt(_) => {}
                WorkerEffect::End => return,
            }
        }
    }
}
