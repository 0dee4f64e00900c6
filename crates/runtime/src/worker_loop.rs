//! Executes a worker machine's effects: one thread for the machine, one that runs tasks, one that writes outputs.
//!
//! The next task runs while the last one's output is written and synced.

use crate::engine::WorkerPort;
use crate::job::{Job, TaskContext, TaskSummary};
use crate::journal_writer::JournalHandle;
use crate::run::Observer;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::failure::{Cause, Failure};
use tilework_core::ids::{Attempt, JobId, Millis, TaskIdx, WorkerIdx};
use tilework_core::limits::IDLE_WAIT_MS;
use tilework_core::message::JobAttempt;
use tilework_core::record::{Commit, Record};
use tilework_core::worker::{Worker, WorkerEffect, WorkerEvent, WorkerStart};
use tilework_store::disk::is_disk_full;

/// What all workers of a run share.
pub(crate) struct Shared<'a, J: Job> {
    pub(crate) job: &'a J,
    pub(crate) journal: JournalHandle,
    pub(crate) observer: &'a dyn Observer,
    /// Work done by each worker, in the job's own unit.
    pub(crate) work_done: &'a [AtomicU64],
    /// Tasks computed by each worker, and the time that took.
    pub(crate) computed: &'a [Mutex<(u64, Duration)>],
    pub(crate) id: JobId,
    /// Memory of each worker.
    pub(crate) memory_bytes: u64,
}

impl<J: Job> Shared<'_, J> {
    fn named(&self, attempt: Attempt) -> JobAttempt {
        JobAttempt {
            job: self.id,
            attempt,
        }
    }
}

impl<J: Job> Clone for Shared<'_, J> {
    fn clone(&self) -> Self {
        Shared {
            journal: self.journal.clone(),
            ..*self
        }
    }
}

/// A computed output on its way to the disk, with what its commit will say.
struct Computed<O> {
    output: Option<O>,
    commit: Commit,
}

type InHand<O> = Mutex<BTreeMap<Attempt, Computed<O>>>;

/// Works until the driver says that the run is over.
pub(crate) fn work<J: Job>(shared: &Shared<'_, J>, mut port: Box<dyn WorkerPort>) {
    let in_hand: InHand<J::Output> = Mutex::new(BTreeMap::new());
    let worker = port.worker();
    let (to_runner, at_runner) = channel();
    let (to_writer, at_writer) = channel();
    thread::scope(|scope| {
        let in_hand = &in_hand;
        let inbox = port.inbox();
        scope.spawn(move || run_tasks(shared, worker, in_hand, &at_runner, &inbox));
        let inbox = port.inbox();
        scope.spawn(move || write_outputs(shared, in_hand, &at_writer, &inbox));
        let _ = port.inbox().send(WorkerEvent::Connected);
        let mut machine = Worker::new(WorkerStart {
            worker,
            memory_bytes: shared.memory_bytes,
            looks_ahead: false,
        });
        let started = Instant::now();
        let mut wait = Duration::from_millis(IDLE_WAIT_MS);
        let mut cancel_running = Arc::new(AtomicBool::new(false));
        let mut effects = Vec::new();
        loop {
            let event = port.next(wait).unwrap_or(WorkerEvent::Tick);
            let now = Millis(started.elapsed().as_millis() as u64);
            machine.on_event(now, event, &mut effects);
            for effect in effects.drain(..) {
                match effect {
                    WorkerEffect::Fetch => port.fetch(),
                    WorkerEffect::Prepare(_) => {}
                    WorkerEffect::Run(attempt) => {
                        cancel_running = Arc::new(AtomicBool::new(false));
                        hand_over(&to_runner, (attempt.attempt, Arc::clone(&cancel_running)));
                    }
                    // One attempt runs at a time, and this is the one.
                    WorkerEffect::CancelRun(_) => cancel_running.store(true, Ordering::Relaxed),
                    WorkerEffect::WriteOutput(attempt) => hand_over(&to_writer, attempt.attempt),
                    WorkerEffect::AppendCommit(attempt) => {
                        append_commit(shared, in_hand, attempt.attempt, port.inbox());
                    }
                    WorkerEffect::Renew(attempt) => port.renew(attempt),
                    WorkerEffect::Ack(attempt) => port.ack(attempt),
                    WorkerEffect::Send(message) => port.send(message),
                    WorkerEffect::WakeAt(at) => wait = Duration::from_millis(at.0.saturating_sub(now.0)),
                    WorkerEffect::End => {
                        drop((to_runner, to_writer));
                        return;
                    }
                }
            }
        }
    });
}

/// A worker that is slow on purpose, for tests and measurements of assignment.
mod slow {
    use crate::job::TaskContext;
    use std::time::{Duration, Instant};
    use tilework_core::ids::WorkerIdx;

    /// Makes what took so long take longer, by what `TILEWORK_TEST_SLOW` says of this worker: `1:4x` for four times as long,
    /// `1:600ms` for so much longer.
    pub(super) fn dawdle(worker: WorkerIdx, took: Duration, context: &TaskContext<'_>) {
        let until = Instant::now() + extra(worker, took);
        while Instant::now() < until && context.check_cancelled().is_ok() {
            std::thread::sleep((until - Instant::now()).min(Duration::from_millis(5)));
        }
    }

    #[cfg(any(debug_assertions, feature = "test-slow"))]
    fn extra(worker: WorkerIdx, took: Duration) -> Duration {
        let setting = std::env::var("TILEWORK_TEST_SLOW").unwrap_or_default();
        match setting.split_once(':') {
            Some((slow, how_much)) if slow.parse() == Ok(worker.0) => {
                parsed(how_much, took).unwrap_or_default()
            }
            _ => Duration::ZERO,
        }
    }

    #[cfg(any(debug_assertions, feature = "test-slow"))]
    fn parsed(how_much: &str, took: Duration) -> Option<Duration> {
        if let Some(factor) = how_much.strip_suffix('x') {
            return Some(took * u32::max(factor.parse().ok()?, 1) - took);
        }
        how_much
            .strip_suffix("ms")?
            .parse()
            .ok()
            .map(Duration::from_millis)
    }

    #[cfg(not(any(debug_assertions, feature = "test-slow")))]
    fn extra(_worker: WorkerIdx, _took: Duration) -> Duration {
        Duration::ZERO
    }
}

fn hand_over<W>(thread: &Sender<W>, work: W) {
    assert!(
        thread.send(work).is_ok(),
        "the worker's threads live until it ends"
    );
}

fn locked<O>(in_hand: &InHand<O>) -> std::sync::MutexGuard<'_, BTreeMap<Attempt, Computed<O>>> {
    in_hand.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run_tasks<J: Job>(
    shared: &Shared<'_, J>,
    worker: WorkerIdx,
    in_hand: &InHand<J::Output>,
    attempts: &Receiver<(Attempt, Arc<AtomicBool>)>,
    inbox: &Sender<WorkerEvent>,
) {
    let mut workspace: Option<J::Workspace> = None;
    for (attempt, cancel) in attempts {
        let context = TaskContext {
            epoch: attempt.epoch,
            round: attempt.round,
            task: attempt.task,
            attempt: attempt.attempt.0,
            cancel: &cancel,
            work_done: &shared.work_done[worker.0 as usize],
        };
        shared.observer.on_started(attempt);
        let started = Instant::now();
        let ran = run_task(shared.job, &mut workspace, &context);
        slow::dawdle(worker, started.elapsed(), &context);
        let result = ran.map(|(output, summary)| {
            let elapsed = started.elapsed();
            let mut computed = shared.computed[worker.0 as usize]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            computed.0 += 1;
            computed.1 += elapsed;
            drop(computed);
            let commit = commit_of(attempt, worker, summary, elapsed);
            locked(in_hand).insert(
                attempt,
                Computed {
                    output: Some(output),
                    commit,
                },
            );
        });
        let _ = inbox.send(WorkerEvent::RunEnded(shared.named(attempt), result));
    }
}

/// Runs one task; a panic costs the workspace that it may have left half-done.
fn run_task<J: Job>(
    job: &J,
    workspace: &mut Option<J::Workspace>,
    context: &TaskContext<'_>,
) -> Result<(J::Output, TaskSummary), Failure> {
    let taken = workspace.take();
    let ran = caught(context.task, || {
        let mut ready = match taken {
            Some(ready) => ready,
            None => job.workspace()?,
        };
        let result = job.run(&mut ready, context);
        Ok((ready, result))
    });
    let (ready, result) = ran?;
    *workspace = Some(ready);
    result
}

/// A panic of the job's code is its failure, not the worker's end.
fn caught<R>(task: TaskIdx, work: impl FnOnce() -> Result<R, Failure>) -> Result<R, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or(panic.downcast_ref::<&str>().copied());
        let text = format!("task {task} panicked: {}", text.unwrap_or("no message"));
        Err(Failure::fatal(Cause::Panic, text))
    })
}

fn commit_of(attempt: Attempt, worker: WorkerIdx, summary: TaskSummary, elapsed: Duration) -> Commit {
    Commit {
        attempt,
        worker,
        checked: summary.checked,
        crc32c: summary.crc32c,
        residual: summary.residual,
        residual_bound: summary.residual_bound,
        seconds: elapsed.as_secs_f64(),
        output: summary.output,
    }
}

fn write_outputs<J: Job>(
    shared: &Shared<'_, J>,
    in_hand: &InHand<J::Output>,
    attempts: &Receiver<Attempt>,
    inbox: &Sender<WorkerEvent>,
) {
    for attempt in attempts {
        let output = locked(in_hand)
            .get_mut(&attempt)
            .and_then(|computed| computed.output.take());
        let result = match output {
            Some(output) => caught(attempt.task, || shared.job.write(attempt.task, output)),
            None => Err(Failure::retry(
                Cause::Job,
                format!("the output of task {} is gone", attempt.task),
            )),
        };
        if result.is_err() {
            locked(in_hand).remove(&attempt);
        }
        let _ = inbox.send(WorkerEvent::OutputDurable(shared.named(attempt), result));
    }
}

fn append_commit<J: Job>(
    shared: &Shared<'_, J>,
    in_hand: &InHand<J::Output>,
    attempt: Attempt,
    inbox: Sender<WorkerEvent>,
) {
    let Some(computed) = locked(in_hand).remove(&attempt) else {
        return;
    };
    let named = shared.named(attempt);
    shared
        .journal
        .append(Record::Commit(computed.commit), move |result| {
            let result = result.map_err(|error| {
                let cause = if is_disk_full(error) {
                    Cause::DiskFull
                } else {
                    Cause::Storage
                };
                Failure::fatal(cause, format!("cannot write the journal: {error}"))
            });
            let _ = inbox.send(WorkerEvent::CommitDurable(named, result));
        });
}
