//! The worker process: it asks a driver for its number, and then takes tasks until it is told to stop.

use super::TILEWORK;
use super::joining::{connect, name_here, unreachable};
use super::opened::{OpenJobs, OpenedJobs, WorkerResources};
use super::protocol::{JOIN, Join, KnownKind, Welcome, ask, read_answer};
use super::record::unix_ms;
use crate::failure::{CliError, Exit};
use crate::job::kinds::Kinds;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;
use tilework_core::ids::WorkerIdx;
use tilework_core::message::{JobAttempt, ToWorker};
use tilework_core::worker::WorkerEvent;
use tilework_nats::{Control, ControlError, JoinFile, NatsOptions, NatsWorkerPort, Role};
use tilework_runtime::engine::WorkerPort;
use tilework_runtime::worker_loop::{Shared, Tally, Worked, work};
use tilework_runtime::{Observer, StopSwitch};
use tilework_store::data_roots::DataRoots;
use tilework_store::lock::Owner;

/// How long one question for a number waits.
const JOIN_WAIT: Duration = Duration::from_secs(3);
/// Pause before the next one.
const JOIN_PAUSE: Duration = Duration::from_millis(500);
/// How often a signal is looked for.
const STOP_POLL: Duration = Duration::from_millis(50);

/// What a worker is started with.
pub struct WorkerSettings {
    /// How it joins.
    pub join: JoinFile,
    /// Where matrices are.
    pub roots: Arc<DataRoots>,
    /// What it may use.
    pub resources: WorkerResources,
    /// Jobs of the program's own.
    pub kinds: &'static Kinds,
}

/// Works until the process is told to stop; then finishes or gives back what it has. `on_joined` hears its number, and any later one.
pub fn run(
    settings: &WorkerSettings,
    stop: &StopSwitch,
    observer: &dyn Observer,
    on_joined: &dyn Fn(WorkerIdx),
) -> Result<(), CliError> {
    let control = connect(&settings.join, &name_here(Role::Worker))?;
    let owner = Owner::current();
    let mut join = Join {
        tilework: TILEWORK.to_owned(),
        host: owner.host,
        pid: owner.pid,
        threads: settings.resources.n_threads as u32,
        memory_bytes: settings.resources.memory_bytes,
        data_roots: settings.roots.names().map(str::to_owned).collect(),
        started_unix_ms: unix_ms(),
        worker: None,
        kinds: KnownKind::all(settings.kinds),
    };
    while let Some(worker) = number(&control, &join, stop)? {
        join.worker = Some(worker.0);
        let Some(port) = port_of(worker, settings, stop) else {
            break;
        };
        on_joined(worker);
        let Some(next) = work_as(&join, port, &control, settings, stop, observer)? else {
            break;
        };
        join.worker = Some(next);
    }
    Ok(())
}

/// Connects under a number; the server may be away for a moment just now. `None` if the process is told to stop before.
fn port_of(worker: WorkerIdx, settings: &WorkerSettings, stop: &StopSwitch) -> Option<NatsWorkerPort> {
    let options = NatsOptions::joining(&settings.join, format!("w{worker}"));
    while stop.requested().is_none() {
        match NatsWorkerPort::connect(&options, worker) {
            Ok(port) => return Some(port),
            Err(error) => tracing::warn!("{}: trying again", unreachable(error).message),
        }
        thread::sleep(JOIN_PAUSE);
    }
    None
}

/// Works under a number until the process is told to stop, a task hangs, or the number is another's; then its next one.
fn work_as(
    join: &Join,
    port: NatsWorkerPort,
    control: &Arc<Control>,
    settings: &WorkerSettings,
    stop: &StopSwitch,
    observer: &dyn Observer,
) -> Result<Option<u32>, CliError> {
    let jobs = OpenedJobs {
        control: Arc::clone(control),
        roots: Arc::clone(&settings.roots),
        worker: port.worker(),
        resources: settings.resources,
        kinds: settings.kinds,
        open: OpenJobs::none(),
    };
    let shared = Shared {
        jobs: Arc::new(jobs),
        observer,
        memory_bytes: settings.resources.memory_bytes,
    };
    let (inbox, silence) = (port.inbox(), port.silence());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| drain_when_stopped(stop, &inbox, &over));
        let keeping = scope.spawn(|| {
            let next = keep_number(control, join, &over)?;
            silence.store(true, Ordering::Release);
            let _ = inbox.send(WorkerEvent::Received(ToWorker::Drain));
            Some(next)
        });
        let worked = work(&shared, &Tally::default(), Box::new(port));
        over.store(true, Ordering::Relaxed);
        let next = keeping.join().unwrap_or_default();
        match worked? {
            Worked::Drained => Ok(next),
            Worked::Hung(attempt) => Err(hung(attempt)),
        }
    })
}

/// Only the end of the process ends the thread that the task keeps.
fn hung(attempt: JobAttempt) -> CliError {
    let (task, job) = (attempt.attempt.task, attempt.job);
    let text = format!("task {task} of job {job} hangs: it is past its deadline and does not stop");
    CliError::new(Exit::JobFailed, text)
        .with_next("start the worker again, unless systemd or `tilework cluster up` does so by itself")
}

/// After each reconnect says again who has which number, for the cluster may have lost its records. Returns the next number if this
/// one is another's by now.
fn keep_number(control: &Control, join: &Join, over: &AtomicBool) -> Option<u32> {
    let mut n_told = control.n_reconnects();
    while !over.load(Ordering::Relaxed) {
        let n_reconnects = control.n_reconnects();
        if n_reconnects == n_told {
            thread::sleep(STOP_POLL);
            continue;
        }
        match control.request(JOIN, ask(join), JOIN_WAIT) {
            Ok(answer) => match read_answer::<Welcome>(&answer) {
                Ok(Welcome { worker }) if join.worker == Some(worker) => n_told = n_reconnects,
                Ok(Welcome { worker }) => {
                    tracing::warn!(
                        worker,
                        "the number is another worker's now: going on with a new one"
                    );
                    return Some(worker);
                }
                Err(error) => {
                    tracing::info!("{}", error.message);
                    thread::sleep(JOIN_PAUSE);
                }
            },
            Err(error) => {
                tracing::debug!(%error, "the number is not confirmed yet");
                thread::sleep(JOIN_PAUSE);
            }
        }
    }
    None
}

fn drain_when_stopped(stop: &StopSwitch, inbox: &Sender<WorkerEvent>, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        if stop.requested().is_some() {
            let _ = inbox.send(WorkerEvent::Received(ToWorker::Drain));
            return;
        }
        thread::sleep(STOP_POLL);
    }
}

/// Asks until a driver answers; `None` if the process is told to stop before.
fn number(control: &Control, join: &Join, stop: &StopSwitch) -> Result<Option<WorkerIdx>, CliError> {
    let mut waits = false;
    while stop.requested().is_none() {
        match control.request(JOIN, ask(join), JOIN_WAIT) {
            Ok(answer) => match read_answer::<Welcome>(&answer) {
                Ok(welcome) => return Ok(Some(WorkerIdx(welcome.worker))),
                // The driver could not give a number just now.
                Err(error) if error.exit == Exit::Unreachable => tracing::info!("{}", error.message),
                Err(error) => return Err(error),
            },
            Err(ControlError::NobodyAnswers) if !waits => {
                waits = true;
                tracing::warn!("the cluster has no driver yet: waiting for one");
            }
            Err(error) => tracing::debug!(%error, "no number yet"),
        }
        thread::sleep(JOIN_PAUSE);
    }
    Ok(None)
}
