//! How many task transitions a second the driver machine takes, and how much memory a task costs it.
//!
//! ```text
//! cargo run --release -p tilework-sim --example driver_rate -- [TASKS WORKERS]
//! ```
//! Every task is released, started and committed: three transitions. Memory is what the process grew by, read from the system.
#![allow(clippy::print_stdout, reason = "a benchmark prints what it found")]

use std::collections::VecDeque;
use std::time::Instant;
use tilework_core::driver::{Assign, Driver, DriverEffect, DriverEvent, JobStart, Needs, WhenFull};
use tilework_core::ids::{JobId, Millis, RoundIdx, RunEpoch, WorkerIdx};
use tilework_core::message::{JobAttempt, ToDriver, WorkerReport};

const JOB: JobId = JobId([1; 16]);

fn main() {
    let mut args = std::env::args()
        .skip(1)
        .map(|arg| arg.parse().expect("TASKS WORKERS"));
    let n_tasks: u64 = args.next().unwrap_or(10_000_000);
    let n_workers = args.next().unwrap_or(1_000) as u32;
    for assign in [Assign::Dynamic, Assign::RoundRobin { n_workers }] {
        measure(n_tasks, n_workers, assign);
    }
}

fn measure(n_tasks: u64, n_workers: u32, assign: Assign) {
    let before = resident_bytes();
    let mut driver = Driver::new();
    let mut effects = Vec::new();
    let mut released: VecDeque<JobAttempt> = VecDeque::new();
    let say = |driver: &mut Driver, worker: u32, body: WorkerReport, effects: &mut Vec<DriverEffect>| {
        let worker = WorkerIdx(worker);
        driver.on_event(
            Millis(0),
            DriverEvent::Received(ToDriver { worker, body }),
            effects,
        );
    };
    for worker in 0..n_workers {
        say(
            &mut driver,
            worker,
            WorkerReport::Joined { memory_bytes: 1 },
            &mut effects,
        );
    }
    driver.on_event(
        Millis(0),
        DriverEvent::Submitted(job(n_tasks, assign)),
        &mut effects,
    );
    let started = Instant::now();
    let (mut n_committed, mut peak) = (0, 0);
    while n_committed < n_tasks {
        for effect in effects.drain(..) {
            if let DriverEffect::Release(attempt, _) = effect {
                released.push_back(attempt);
            }
        }
        let attempt = released.pop_front().expect("the driver keeps the window full");
        let worker = match assign {
            Assign::Dynamic => n_committed as u32 % n_workers,
            Assign::RoundRobin { .. } => attempt.attempt.task.0 as u32 % n_workers,
        };
        say(&mut driver, worker, WorkerReport::Started(attempt), &mut effects);
        say(
            &mut driver,
            worker,
            WorkerReport::Committed(attempt),
            &mut effects,
        );
        n_committed += 1;
        if n_committed % (n_tasks / 10).max(1) == 0 {
            peak = resident_bytes().max(peak);
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{assign:?}, {n_tasks} tasks, {n_workers} workers: {:.0} transitions a second, {:.2} bytes a task",
        3.0 * n_tasks as f64 / seconds,
        peak.saturating_sub(before) as f64 / n_tasks as f64
    );
}

fn job(n_tasks: u64, assign: Assign) -> JobStart {
    JobStart {
        job: JOB,
        epoch: RunEpoch(1),
        adopts_from: RunEpoch(1),
        round: RoundIdx(0),
        n_tasks,
        needs: Needs {
            memory_bytes: 1,
            expected_ms: 1_000,
            deadline_ms: None,
        },
        committed: Vec::new(),
        resumed: false,
        took_over: false,
        one_machine: false,
        assign,
        backups: true,
        when_full: WhenFull::Stop,
        deadline: None,
        unable: Default::default(),
    }
}

/// What the process has in memory; 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
