//! The driver process: it waits for the lease, and drives all jobs of the cluster while it has it.

use super::conductor::leads_no_more;
use super::desk::receive;
use super::fleet::FleetView;
use super::ground::Ground;
use super::host::ClusterHost;
use super::joining::{name_here, unreachable};
use super::numbers::{self, HeardNumbers};
use super::record::unix_ms;
use crate::failure::{CliError, Exit};
use crate::job::kinds::Kinds;
use crate::webhook::Webhook;
use crate::webhook::address::WebhookUrl;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SendError, channel};
use std::thread;
use std::time::Duration;
use tilework_core::driver::DriverEvent;
use tilework_core::lease::DriverIdx;
use tilework_kernel::Simd;
use tilework_nats::{Control, JoinFile, LeaseKeeper, NatsDriverPort, NatsOptions, Role};
use tilework_runtime::engine::DriverPort;
use tilework_runtime::{StopSwitch, drive};
use tilework_store::data_roots::DataRoots;
use tilework_store::lock::Owner;

/// How long a standby waits for a change before it looks whether it should end.
const STANDBY_POLL: Duration = Duration::from_millis(200);
/// Pause after the cluster could not be reached, before the next try.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What a driver is started with.
pub struct DriverSettings {
    /// How it joins.
    pub join: JoinFile,
    /// Where matrices are.
    pub roots: Arc<DataRoots>,
    /// Instruction set that plans count on.
    pub simd: Simd,
    /// Jobs of the program's own.
    pub kinds: &'static Kinds,
    /// Where the alarms of all jobs are posted, if anywhere.
    pub webhook: Option<WebhookUrl>,
}

/// What outlasts the lease.
struct Lasting {
    numbers: Arc<HeardNumbers>,
    webhook: Option<Arc<Webhook>>,
}

/// Drives whenever it has the lease, until it is told to stop.
pub fn run(settings: &DriverSettings, stop: &StopSwitch) -> Result<(), CliError> {
    let name = name_here(Role::Driver);
    let webhook = settings.webhook.clone().map(Webhook::start_for_all).transpose();
    let webhook =
        webhook.map_err(|error| CliError::new(Exit::JobFailed, format!("cannot start a thread: {error}")))?;
    let lasting = Lasting {
        numbers: Arc::default(),
        webhook: webhook.map(Arc::new),
    };
    let control = super::joining::connect(&settings.join, &name)?;
    while let Err(error) = control.create_stores() {
        if stop.requested().is_some() {
            return Ok(());
        }
        tracing::warn!(%error, "the cluster's stores can't be made yet");
        thread::sleep(RETRY_PAUSE);
    }
    let keeper = LeaseKeeper::start(Arc::clone(&control), driver_idx(), name.clone());
    let keeper = Arc::new(keeper);
    tracing::info!(name, "waits for the lease");
    while stop.requested().is_none() {
        if !keeper.changed(STANDBY_POLL) {
            continue;
        }
        tracing::info!(name, "drives");
        if let Err(error) = lead(settings, &name, &control, &keeper, &lasting, stop) {
            tracing::error!("can't drive: {}", error.message);
            thread::sleep(RETRY_PAUSE);
        }
        tracing::info!(name, "drives no more");
    }
    if let Some(webhook) = lasting.webhook.and_then(Arc::into_inner) {
        webhook.finish().warn();
    }
    Ok(())
}

/// A number that no other driver has: the lease only tells whose it is by it.
fn driver_idx() -> DriverIdx {
    let name = format!("{:?} {}", Owner::current(), unix_ms());
    let hash = tilework_store::journal::recover::job_id(name.as_bytes());
    DriverIdx(u32::from_le_bytes([hash.0[0], hash.0[1], hash.0[2], hash.0[3]]))
}

fn lead(
    settings: &DriverSettings,
    name: &str,
    control: &Arc<Control>,
    keeper: &Arc<LeaseKeeper>,
    lasting: &Lasting,
    stop: &StopSwitch,
) -> Result<(), CliError> {
    let kept = |error| super::joining::unanswered(&error);
    let options = NatsOptions::joining(&settings.join, format!("{name}-drives"));
    let mut port = NatsDriverPort::connect(&options).map_err(unreachable)?;
    let Some(turn) = keeper.turn() else {
        return Ok(());
    };
    // Where the lease was lost and won again at once, another may have driven in between, or all records are gone.
    let leads = {
        // A thread that is left in a job's own code must not keep the lease of a driver that has ended.
        let keeper = Arc::downgrade(keeper);
        Arc::new(move || keeper.upgrade().and_then(|keeper| keeper.turn()) == Some(turn))
    };
    let ground = Ground {
        control: Arc::clone(control),
        roots: Arc::clone(&settings.roots),
        simd: settings.simd,
        kinds: settings.kinds,
        webhook: lasting.webhook.clone(),
        leads,
    };
    let requests = control.requests().map_err(kept)?;
    let (to_host, asked) = channel();
    let closing = Arc::new(AtomicBool::new(false));
    let joined = numbers::admitted(control, &|| keeper.alive()).map_err(kept)?;
    let fleet = FleetView::new(joined, Arc::clone(&lasting.numbers));
    let mut host = ClusterHost::new(ground, stop, keeper, asked, fleet, name, port.inbox());
    if let Err(error) = host.take_over_all() {
        host.close();
        return Err(kept(error));
    }
    let desk = {
        let (control, closing, inbox) = (Arc::clone(control), Arc::clone(&closing), port.inbox());
        let numbers = Arc::clone(&lasting.numbers);
        thread::spawn(move || {
            while !closing.load(Ordering::Relaxed) {
                let Some(request) = requests.next(STANDBY_POLL) else {
                    continue;
                };
                if let Some(asked) = receive(&control, &numbers, request) {
                    if let Err(SendError(asked)) = to_host.send(asked) {
                        asked.refuse(leads_no_more());
                    }
                    let _ = inbox.send(DriverEvent::Tick);
                }
            }
        })
    };
    drive(&mut port, &mut host);
    closing.store(true, Ordering::Relaxed);
    host.close();
    let _ = desk.join();
    Ok(())
}
