//! Executes a worker machine's effects: one thread for the machine, one that runs tasks, one that writes outputs.
//!
//! The next task runs while the last one's output is written and synced. The thread that runs tasks owns all that it uses: a task that
//! hangs keeps it, and the worker ends without it.

use crate::engine::WorkerPort;
use crate::job::{TaskContext, TaskSummary};
use crate::run::Observer;
use crate::served::{Jobs, Opaque, Served};
use crate::steps::storage_failure;
use crate::threads;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::failure::{Cause, Failure};
use tilework_core::ids::{Attempt, JobId, Millis, RunEpoch, WorkerIdx};
use tilework_core::limits::{HEARTBEAT_MS, IDLE_WAIT_MS};
use tilework_core::message::JobAttempt;
use tilework_core::record::{Commit, Record};
use tilework_core::worker::{Worker, WorkerEffect, WorkerEvent, WorkerStart};

/// How long a worker without tasks keeps its workspace and its jobs open: files that somebody removes meanwhile take room.
const KEPT_READY: Duration = Duration::from_secs(30);

/// What all workers of a process share.
#[derive(Clone)]
pub struct Shared<'s> {
    /// Where they find jobs.
    pub jobs: Arc<dyn Jobs<'static>>,
    /// Who watches.
    pub observer: &'s dyn Observer,
    /// Memory of each worker.
    pub memory_bytes: u64,
}

/// Where one worker counts what it does.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Work done, in the job's own unit.
    pub work_done: Arc<AtomicU64>,
    /// Tasks computed, and the time that took.
    pub computed: Arc<Mutex<(u64, Duration)>>,
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worked {
    /// It was told to, or its driver is gone.
    Drained,
    /// This attempt hangs, and its thread with it: only the end of the process ends that.
    Hung(JobAttempt),
}

/// A computed output on its way to the disk, with what its commit will say.
struct Computed {
    of: Arc<Served<'static>>,
    output: Option<Opaque>,
    commit: Commit,
}

type InHand = Mutex<BTreeMap<JobAttempt, Computed>>;

/// What the loop and the thread that runs tasks tell each other of an attempt.
#[derive(Default)]
struct Told {
    /// It is to stop.
    cancel: AtomicBool,
    /// When its code began, and how long that may take in milliseconds.
    begun: OnceLock<(Instant, Option<u64>)>,
}

/// Bytes of records that are not durable yet: small outputs stand in them.
#[derive(Default)]
struct Unsynced {
    bytes: AtomicUsize,
    lock: Mutex<()>,
    has_room: Condvar,
}

impl Unsynced {
    const BYTES_MAX: usize = tilework_core::limits::UNSYNCED_BYTES_MAX;

    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    fn take(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        if before > Unsynced::BYTES_MAX && before - bytes <= Unsynced::BYTES_MAX {
            drop(self.lock.lock());
            self.has_room.notify_all();
        }
    }

    /// A named wait: for the journal, whose failure ends it too.
    fn wait_for_room(&self) {
        if self.bytes.load(Ordering::Acquire) <= Unsynced::BYTES_MAX {
            return;
        }
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while self.bytes.load(Ordering::Acquire) > Unsynced::BYTES_MAX {
            let waited = self.has_room.wait(guard);
            guard = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Works until the driver says that the run is over, or a task hangs.
///
/// # Errors
/// The system has no thread left for it.
pub fn work(shared: &Shared<'_>, tally: &Tally, mut port: Box<dyn WorkerPort>) -> Result<Worked, Failure> {
    let in_hand: Arc<InHand> = Arc::default();
    let unsynced: Arc<Unsynced> = Arc::default();
    let worker = port.worker();
    let (to_runner, at_runner) = channel();
    let (to_writer, at_writer) = channel();
    thread::scope(|scope| {
        let runner = Runner {
            jobs: Arc::clone(&shared.jobs),
            tally: tally.clone(),
            worker,
            in_hand: Arc::clone(&in_hand),
            unsynced: Arc::clone(&unsynced),
            inbox: port.inbox(),
        };
        let running = threads::start("runs tasks", move || runner.run_tasks(&at_runner))?;
        let mut hung = None;
        let in_hand = &*in_hand;
        let inbox = port.inbox();
        threads::start_scoped(scope, "writes outputs", move || {
            write_outputs(in_hand, &at_writer, &inbox);
        })?;
        let _ = port.inbox().send(WorkerEvent::Connected);
        let mut machine = Worker::new(WorkerStart {
            worker,
            memory_bytes: shared.memory_bytes,
            looks_ahead: false,
        });
        let started = Instant::now();
        let mut wait = Duration::from_millis(IDLE_WAIT_MS);
        let mut told: Arc<Told> = Arc::default();
        // Of which the machine does not know that it has begun.
        let mut beginning: Option<JobAttempt> = None;
        let mut effects = Vec::new();
        // What needs no other thread.
        let mut own_events = Vec::new();
        loop {
            let event = own_events.pop().or_else(|| port.next(wait));
            let event = event.unwrap_or(WorkerEvent::Tick);
            if let Some(attempt) = failed_for_the_machine(&event) {
                shared.jobs.on_failed(attempt);
            }
            let now = Millis(started.elapsed().as_millis() as u64);
            if let Some((at, deadline_ms)) = told.begun.get()
                && let Some(attempt) = beginning.take()
            {
                let at = Millis(at.saturating_duration_since(started).as_millis() as u64);
                let begun = WorkerEvent::Begun(attempt, at, *deadline_ms);
                machine.on_event(now, begun, &mut effects);
            }
            machine.on_event(now, event, &mut effects);
            for effect in effects.drain(..) {
                match effect {
                    WorkerEffect::Fetch => port.fetch(),
                    WorkerEffect::Prepare(_) => {}
                    WorkerEffect::Run(attempt) => {
                        shared.observer.on_started(attempt.attempt);
                        told = Arc::default();
                        beginning = Some(attempt);
                        hand_over(&to_runner, (attempt, Arc::clone(&told)));
                    }
                    // One attempt runs at a time, and this is the one.
                    WorkerEffect::CancelRun(_) => told.cancel.store(true, Ordering::Relaxed),
                    WorkerEffect::GiveUpRun(attempt) => hung = Some(attempt),
                    WorkerEffect::WriteOutput(attempt) if has_nothing_to_write(in_hand, attempt) => {
                        own_events.push(WorkerEvent::OutputDurable(attempt, Ok(())));
                    }
                    WorkerEffect::WriteOutput(attempt) => hand_over(&to_writer, attempt),
                    WorkerEffect::AppendCommit(attempt) => {
                        append_commit(in_hand, attempt, &unsynced, port.inbox());
                    }
                    WorkerEffect::Renew(attempt) => port.renew(attempt),
                    WorkerEffect::Ack(attempt) => port.ack(attempt),
                    WorkerEffect::Send(message) => port.send(message),
                    WorkerEffect::WakeAt(at) => wait = Duration::from_millis(at.0.saturating_sub(now.0)),
                    WorkerEffect::End => {
                        drop((to_runner, to_writer));
                        if let Some(attempt) = hung {
                            return Ok(Worked::Hung(attempt));
                        }
                        // It keeps nothing open once this worker has ended.
                        if let Err(panic) = running.join() {
                            resume_unwind(panic);
                        }
                        return Ok(Worked::Drained);
                    }
                }
            }
        }
    })
}

/// The attempt that failed for a cause that may be this machine's.
fn failed_for_the_machine(event: &WorkerEvent) -> Option<JobAttempt> {
    match event {
        WorkerEvent::RunEnded(attempt, Err(failure))
        | WorkerEvent::OutputDurable(attempt, Err(failure))
        | WorkerEvent::CommitDurable(attempt, Err(failure)) => {
            failure.cause.is_of_machine().then_some(*attempt)
        }
        _ => None,
    }
}

/// A worker that is slow on purpose, for tests and measurements of assignment.
mod slow {
    use crate::job::TaskContext;
    use std::time::{Duration, Instant};
    use tilework_core::ids::WorkerIdx;

    /// Makes what took so long take longer, by what `TILEWORK_TEST_SLOW` says of this worker: `1:4x` for four times as long,
    /// `1:600ms` for so much longer; `*` is every worker.
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
            Some((slow, how_much)) if slow == "*" || slow.parse() == Ok(worker.0) => {
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

fn locked(in_hand: &InHand) -> MutexGuard<'_, BTreeMap<JobAttempt, Computed>> {
    in_hand.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the thread that runs tasks has.
struct Runner {
    jobs: Arc<dyn Jobs<'static>>,
    tally: Tally,
    worker: WorkerIdx,
    in_hand: Arc<InHand>,
    unsynced: Arc<Unsynced>,
    inbox: Sender<WorkerEvent>,
}

impl Runner {
    fn run_tasks(&self, attempts: &Receiver<(JobAttempt, Arc<Told>)>) {
        let mut bench = Bench::default();
        loop {
            let (named, told) = match attempts.recv_timeout(KEPT_READY) {
                Ok(next) => next,
                Err(RecvTimeoutError::Timeout) => {
                    bench = Bench::default();
                    self.jobs.on_idle();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let attempt = named.attempt;
            let context = TaskContext {
                epoch: attempt.epoch,
                round: attempt.round,
                task: attempt.task,
                attempt: attempt.attempt.0,
                worker: self.worker,
                cancel: &told.cancel,
                work_done: &self.tally.work_done,
            };
            self.unsynced.wait_for_room();
            let started = Instant::now();
            self.jobs.on_run(self.worker, attempt);
            let begins = |deadline_ms| self.begins(&told, deadline_ms);
            let ran = bench.run_task(&*self.jobs, named, &context, &begins);
            slow::dawdle(self.worker, started.elapsed(), &context);
            let result = ran.map(|(of, output, summary)| {
                let elapsed = started.elapsed();
                let mut computed = self.tally.computed.lock().unwrap_or_else(PoisonError::into_inner);
                computed.0 += 1;
                computed.1 += elapsed;
                drop(computed);
                let commit = commit_of(attempt, self.worker, summary, elapsed);
                let output = Some(output);
                locked(&self.in_hand).insert(named, Computed { of, output, commit });
            });
            let _ = self.inbox.send(WorkerEvent::RunEnded(named, result));
        }
    }

    /// The loop sees it when it next looks, which it does for its heartbeat at the latest: to wake it for each short task would cost more
    /// than the task.
    fn begins(&self, told: &Told, deadline_ms: Option<u64>) {
        let _ = told.begun.set((Instant::now(), deadline_ms));
        if deadline_ms.is_some_and(|ms| ms < HEARTBEAT_MS) {
            let _ = self.inbox.send(WorkerEvent::Tick);
        }
    }
}

/// The workspace of the job that a worker computed for last: it holds the worker's memory, so there is one at most.
#[derive(Default)]
struct Bench {
    of: Option<(JobId, RunEpoch)>,
    ready: Option<(Arc<Served<'static>>, Opaque)>,
}

impl Bench {
    /// Runs one task, and says when its code begins, which may then take so long in milliseconds; a panic costs the workspace that it may
    /// have left half-done.
    fn run_task(
        &mut self,
        jobs: &dyn Jobs<'static>,
        attempt: JobAttempt,
        context: &TaskContext<'_>,
        begins: &dyn Fn(Option<u64>),
    ) -> Result<(Arc<Served<'static>>, Opaque, TaskSummary), Failure> {
        let of = Some((attempt.job, attempt.attempt.epoch));
        // Another job's memory is given back before this one's inputs are opened.
        let last = self.ready.take().filter(|_| self.of == of);
        // So is this one's, if it was closed to be opened anew: nobody else has it then.
        let last = last.filter(|(job, _)| Arc::strong_count(job) > 1);
        self.of = of;
        let ran = caught(&format_args!("task {}", context.task), || {
            let job = jobs.open(attempt)?;
            let last = last.filter(|(of, _)| Arc::ptr_eq(of, &job));
            let mut workspace = match last {
                Some((_, workspace)) => workspace,
                None => job.workspace()?,
            };
            begins(job.needs().deadline_ms);
            let result = job.run(&mut workspace, context);
            Ok((job, workspace, result))
        });
        let (job, workspace, result) = ran?;
        self.ready = Some((Arc::clone(&job), workspace));
        result.map(|(output, summary)| (job, output, summary))
    }
}

/// A panic of the job's code is its failure, not the end of who called it. `what` did. Trying again may help: what panicked may have been
/// an `unwrap` of trouble that passes.
pub fn caught<R>(what: &dyn Display, work: impl FnOnce() -> Result<R, Failure>) -> Result<R, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or(panic.downcast_ref::<&str>().copied());
        let text = format!("{what} panicked: {}", text.unwrap_or("no message"));
        Err(Failure::retry(Cause::Panic, text))
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

fn has_nothing_to_write(in_hand: &InHand, attempt: JobAttempt) -> bool {
    let in_hand = locked(in_hand);
    in_hand
        .get(&attempt)
        .is_some_and(|computed| !computed.of.writes_outputs())
}

fn write_outputs(in_hand: &InHand, attempts: &Receiver<JobAttempt>, inbox: &Sender<WorkerEvent>) {
    for attempt in attempts {
        let task = attempt.attempt.task;
        let taken = locked(in_hand)
            .get_mut(&attempt)
            .and_then(|computed| Some((Arc::clone(&computed.of), computed.output.take()?)));
        let result = match taken {
            Some((job, output)) => caught(&format_args!("task {task}"), || job.write(task, output)),
            None => Err(Failure::retry(
                Cause::Job,
                format!("the output of task {task} is gone"),
            )),
        };
        if result.is_err() {
            locked(in_hand).remove(&attempt);
        }
        let _ = inbox.send(WorkerEvent::OutputDurable(attempt, result));
    }
}

fn append_commit(
    in_hand: &InHand,
    attempt: JobAttempt,
    unsynced: &Arc<Unsynced>,
    inbox: Sender<WorkerEvent>,
) {
    let Some(computed) = locked(in_hand).remove(&attempt) else {
        return;
    };
    let bytes = computed.commit.output.len();
    unsynced.add(bytes);
    let unsynced = Arc::clone(unsynced);
    let record = Record::Commit(computed.commit);
    let journal = &computed.of.journal;
    let path = journal.path().to_owned();
    journal.append(record, move |result| {
        unsynced.take(bytes);
        let result = result.map_err(|error| storage_failure("write the journal", &path, error));
        let _ = inbox.send(WorkerEvent::CommitDurable(attempt, result));
    });
}
