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
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::failure::{Cause, Failure};
use tilework_core::ids::{Attempt, RunEpoch, TaskIdx, WorkerIdx};
use tilework_core::limits::IDLE_WAIT_MS;
use tilework_core::record::{Commit, Record};
use tilework_core::worker::{Worker, WorkerEffect, WorkerEvent};
use tilework_store::disk::is_disk_full;

/// What all workers of a run share.
pub(crate) struct Shared<'a, J: Job> {
    pub(crate) job: &'a J,
    pub(crate) journal: JournalHandle,
    pub(crate) observer: &'a dyn Observer,
    pub(crate) work_done: &'a AtomicU64,
    pub(crate) epoch: RunEpoch,
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
    let cancel = AtomicBool::new(false);
    let worker = port.worker();
    let (to_runner, at_runner) = channel();
    let (to_writer, at_writer) = channel();
    thread::scope(|scope| {
        let (cancel, in_hand) = (&cancel, &in_hand);
        let inbox = port.inbox();
        scope.spawn(move || run_tasks(shared, worker, cancel, in_hand, &at_runner, &inbox));
        let inbox = port.inbox();
        scope.spawn(move || write_outputs(shared, in_hand, &at_writer, &inbox));
        let _ = port.inbox().send(WorkerEvent::Started);
        let mut machine = Worker::new(worker, shared.epoch);
        let mut effects = Vec::new();
        loop {
            let Some(event) = port.next(Duration::from_millis(IDLE_WAIT_MS)) else {
                continue;
            };
            machine.on_event(event, &mut effects);
            for effect in effects.drain(..) {
                match effect {
                    WorkerEffect::Fetch => port.fetch(),
                    WorkerEffect::Run(attempt) => hand_over(&to_runner, attempt),
                    WorkerEffect::CancelRun(_) => cancel.store(true, Ordering::Relaxed),
                    WorkerEffect::WriteOutput(attempt) => hand_over(&to_writer, attempt),
                    WorkerEffect::AppendCommit(attempt) => {
                        append_commit(shared, in_hand, attempt, port.inbox())
                    }
                    WorkerEffect::Ack(attempt) => port.ack(attempt),
                    WorkerEffect::Send(message) => port.send(message),
                    WorkerEffect::End => {
                        drop((to_runner, to_writer));
                        return;
                    }
                }
            }
        }
    });
}

fn hand_over(thread: &Sender<Attempt>, attempt: Attempt) {
    thread
        .send(attempt)
        .expect("the worker's threads live until it ends");
}

fn locked<O>(in_hand: &InHand<O>) -> std::sync::MutexGuard<'_, BTreeMap<Attempt, Computed<O>>> {
    in_hand.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run_tasks<J: Job>(
    shared: &Shared<'_, J>,
    worker: WorkerIdx,
    cancel: &AtomicBool,
    in_hand: &InHand<J::Output>,
    attempts: &Receiver<Attempt>,
    inbox: &Sender<WorkerEvent>,
) {
    let mut workspace: Option<J::Workspace> = None;
    for attempt in attempts {
        let context = TaskContext {
            epoch: attempt.epoch,
            round: attempt.round,
            task: attempt.task,
            attempt: attempt.attempt.0,
            cancel,
            work_done: shared.work_done,
        };
        shared.observer.on_started(attempt);
        let started = Instant::now();
        let result = run_task(shared.job, &mut workspace, &context).map(|(output, summary)| {
            let commit = commit_of(attempt, worker, summary, started.elapsed());
            locked(in_hand).insert(
                attempt,
                Computed {
                    output: Some(output),
                    commit,
                },
            );
        });
        let _ = inbox.send(WorkerEvent::RunEnded(attempt, result));
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
        let _ = inbox.send(WorkerEvent::OutputDurable(attempt, result));
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
            let _ = inbox.send(WorkerEvent::CommitDurable(attempt, result));
        });
}
