//! The worker process: it asks a driver for its number, and then takes tasks until it is told to stop.

use super::TILEWORK;
use super::joining::{connect, name_here, unreachable};
use super::opened::{OpenedJobs, WorkerResources};
use super::protocol::{JOIN, Join, Welcome, ask, read_answer};
use crate::failure::{CliError, Exit};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tilework_core::ids::WorkerIdx;
use tilework_core::message::ToWorker;
use tilework_core::worker::WorkerEvent;
use tilework_nats::{Control, ControlError, JoinFile, NatsOptions, NatsWorkerPort, Role};
use tilework_runtime::engine::WorkerPort;
use tilework_runtime::worker_loop::{Shared, Tally, work};
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
}

/// Works until the process is told to stop; then finishes or gives back what it has. `on_joined` hears its number.
pub fn run(
    settings: &WorkerSettings,
    stop: &StopSwitch,
    observer: &dyn Observer,
    on_joined: &dyn Fn(WorkerIdx),
) -> Result<(), CliError> {
    let control = connect(&settings.join, &name_here(Role::Worker))?;
    let Some(worker) = number(&control, settings, stop)? else {
        return Ok(());
    };
    on_joined(worker);
    let options = NatsOptions::joining(&settings.join, format!("w{worker}"));
    let port = NatsWorkerPort::connect(&options, worker).map_err(unreachable)?;
    let jobs = OpenedJobs {
        control,
        roots: Arc::clone(&settings.roots),
        worker,
        resources: settings.resources,
        open: Mutex::new(Vec::new()),
    };
    let shared = Shared {
        jobs: &jobs,
        observer,
        memory_bytes: settings.resources.memory_bytes,
    };
    let tally = Tally {
        work_done: &AtomicU64::new(0),
        computed: &Mutex::default(),
    };
    let inbox = port.inbox();
    let over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| drain_when_stopped(stop, &inbox, &over));
        work(shared, tally, Box::new(port));
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    Ok(())
}

fn drain_when_stopped(stop: &StopSwitch, inbox: &Sender<WorkerEvent>, over: &std::sync::atomic::AtomicBool) {
    while !over.load(std::sync::atomic::Ordering::Relaxed) {
        if stop.requested().is_some() {
            let _ = inbox.send(WorkerEvent::Received(ToWorker::Drain));
            return;
        }
        thread::sleep(STOP_POLL);
    }
}

/// Asks until a driver answers; `None` if the process is told to stop before.
fn number(
    control: &Control,
    settings: &WorkerSettings,
    stop: &StopSwitch,
) -> Result<Option<WorkerIdx>, CliError> {
    let owner = Owner::current();
    let join = Join {
        tilework: TILEWORK.to_owned(),
        host: owner.host,
        pid: owner.pid,
        threads: settings.resources.n_threads as u32,
        memory_bytes: settings.resources.memory_bytes,
        data_roots: settings.roots.names().map(str::to_owned).collect(),
    };
    let mut waits = false;
    while stop.requested().is_none() {
        match control.request(JOIN, ask(&join), JOIN_WAIT) {
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
