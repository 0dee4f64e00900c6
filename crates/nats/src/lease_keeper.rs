//! Carries out core's `Lease` machine over the record `driver` of the lease bucket, on a thread of its own: nothing that a driver does
//! delays a renewal.
//!
//! Whether this driver leads is told by the clock too: it ends on time even if the thread that would end it is late.

use crate::control::{Bucket, Control, ControlError};
use crate::limits::LEASE_ASK_WAIT;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tilework_core::ids::Millis;
use tilework_core::lease::{DriverIdx, Lease, LeaseEffect, LeaseEvent, LeaseState};
use tilework_core::limits::{LEASE_ALIVE_MS, LEASE_STEP_DOWN_MS};
use tokio::task::AbortHandle;

/// The record that says who drives.
const KEY: &str = "driver";

/// What the record says.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    v: u16,
    /// Nobody, once it was given up.
    holder: Option<u32>,
    /// Who that is, for people.
    name: String,
}

const RECORD_VERSION: u16 = 1;
/// Who holds a record that this program can't read: it is left alone until it is as old as a dead driver's.
const SOMEBODY: DriverIdx = DriverIdx(u32::MAX);

/// Keeps one driver's hold on the lease, or stands by for it. Dropping it gives the lease up.
#[derive(Debug)]
pub struct LeaseKeeper {
    shared: Arc<Shared>,
    wakes: Sender<Wake>,
    thread: Option<JoinHandle<()>>,
    listener: AbortHandle,
}

#[derive(Debug)]
enum Wake {
    /// Somebody renewed the lease, or gave it up.
    Changed,
    Stop,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    /// Until when this driver leads, in milliseconds since the start; 0 while it does not.
    leads_until: AtomicU64,
    /// When the driver last said that it is alive, in milliseconds since the start.
    alive_at: AtomicU64,
    turns: Mutex<Turns>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Turns {
    /// How often it began to lead.
    n_turns: u64,
    /// Which turn was told last to who waits for changes; none if it was told that there is none.
    told: Option<u64>,
}

impl LeaseKeeper {
    /// Begins to stand by, and leads as soon as nobody else does. No other driver may have the same number; `name` describes this
    /// one for people.
    pub fn start(control: Arc<Control>, me: DriverIdx, name: String) -> LeaseKeeper {
        let shared = Arc::new(Shared::new());
        let (wakes, woken) = channel();
        let changed = wakes.clone();
        // Only a hint: without it a standby would see it at its next look, and count the lease's age from there.
        let listener = control.overhear(Bucket::Lease.subject(KEY), move |_| {
            changed.send(Wake::Changed).is_ok()
        });
        let keeper = Keeper {
            control,
            lease: Lease::new(me),
            me,
            name,
            revision: 0,
            asked: Millis(0),
            wake_at: Millis(0),
            hangs: false,
            shared: Arc::clone(&shared),
        };
        let spawned = thread::Builder::new()
            .name("tilework-lease".to_owned())
            .spawn(move || keeper.run(&woken));
        let thread = spawned
            .inspect_err(|error| tracing::error!(%error, "no thread for the lease: this driver never leads"))
            .ok();
        LeaseKeeper {
            shared,
            wakes,
            thread,
            listener,
        }
    }

    /// The driver is alive. One that has not said so, or waited for a change, for [`LEASE_ALIVE_MS`] hangs: its lease lapses, so that
    /// another one can go on.
    pub fn alive(&self) {
        self.shared.alive();
    }

    /// Whether this driver leads. It may stop to at any time.
    pub fn is_leader(&self) -> bool {
        self.shared.is_leader()
    }

    /// The turn in which this driver leads, if it does. In a later turn, another may have driven in between.
    pub fn turn(&self) -> Option<u64> {
        self.shared.turn()
    }

    /// Waits until that has changed since this last returned, but no longer than `timeout`; returns whether this driver leads.
    /// If it lost the lead and won it again meanwhile, this returns false once: another may have driven in between.
    pub fn changed(&self, timeout: Duration) -> bool {
        self.alive();
        self.shared.wait_for_change(timeout)
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.listener.abort();
        let _ = self.wakes.send(Wake::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn new() -> Shared {
        Shared {
            start: Instant::now(),
            leads_until: AtomicU64::new(0),
            alive_at: AtomicU64::new(0),
            turns: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn alive(&self) {
        self.alive_at.store(self.now().0, Ordering::Relaxed);
    }

    fn hangs(&self, now: Millis) -> bool {
        now.0.saturating_sub(self.alive_at.load(Ordering::Relaxed)) > LEASE_ALIVE_MS
    }

    fn is_leader(&self) -> bool {
        self.now().0 < self.leads_until.load(Ordering::SeqCst)
    }

    fn turn(&self) -> Option<u64> {
        let turns = self.turns();
        self.is_leader().then_some(turns.n_turns)
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A renewal moves the end; only a turn's begin and end are told.
    fn lead_until(&self, until: u64, is_new_turn: bool) {
        let mut turns = self.turns();
        turns.n_turns += u64::from(is_new_turn);
        let before = self.leads_until.swap(until, Ordering::SeqCst);
        if is_new_turn || (before == 0) != (until == 0) {
            self.changed.notify_all();
        }
    }

    fn wait_for_change(&self, timeout: Duration) -> bool {
        let waiting = Instant::now();
        let mut turns = self.turns();
        loop {
            let turn = self.is_leader().then_some(turns.n_turns);
            if turn != turns.told {
                turns.told = if turns.told.is_some() { None } else { turn };
                return turns.told.is_some();
            }
            let rest = timeout.saturating_sub(waiting.elapsed());
            if rest.is_zero() {
                return turn.is_some();
            }
            // Nobody notifies when a turn ends by the clock.
            let until = self.leads_until.load(Ordering::SeqCst);
            let until_end = Duration::from_millis(until.saturating_sub(self.now().0).max(1));
            let rest = if turn.is_some() { rest.min(until_end) } else { rest };
            let waited = self.changed.wait_timeout(turns, rest);
            turns = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// What the thread works with.
struct Keeper {
    control: Arc<Control>,
    lease: Lease,
    me: DriverIdx,
    name: String,
    /// The last that is known.
    revision: u64,
    /// When the last renewal that succeeded was asked for.
    asked: Millis,
    wake_at: Millis,
    /// Whether the driver was seen to hang when the store was to be asked last.
    hangs: bool,
    shared: Arc<Shared>,
}

impl Keeper {
    fn run(mut self, woken: &Receiver<Wake>) {
        self.on_event(LeaseEvent::Tick);
        loop {
            let rest = self.wake_at.0.saturating_sub(self.shared.now().0);
            match woken.recv_timeout(Duration::from_millis(rest)) {
                Ok(Wake::Changed) if self.lease.is_leader() => {}
                Ok(Wake::Changed) => {
                    if let Some(read) = self.read() {
                        self.on_event(read);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.on_event(LeaseEvent::Tick),
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return self.give_up(),
            }
        }
    }

    /// Lets the machine decide, does what it wants, and tells it what came of that.
    fn on_event(&mut self, event: LeaseEvent) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut effects = Vec::new();
            let led = self.lease.is_leader();
            if let LeaseEvent::Taken { revision, asked } = event {
                (self.revision, self.asked) = (revision, asked);
            }
            self.lease.on_event(self.shared.now(), event, &mut effects);
            let leads = self.lease.is_leader();
            let until = if leads {
                self.asked.0 + LEASE_STEP_DOWN_MS
            } else {
                0
            };
            self.shared.lead_until(until, leads && !led);
            for effect in effects {
                match effect {
                    LeaseEffect::Read => events.extend(self.read()),
                    LeaseEffect::CompareAndSet { expected, asked } => {
                        events.extend(self.ask(expected, asked));
                    }
                    LeaseEffect::Lead => tracing::info!(name = self.name, "this driver leads"),
                    LeaseEffect::StepDown => tracing::warn!(name = self.name, "this driver leads no more"),
                    LeaseEffect::WakeAt(at) => self.wake_at = at,
                }
            }
        }
    }

    /// What the store says, if it says anything.
    fn read(&mut self) -> Option<LeaseEvent> {
        let stores = self.control.stores();
        let reading = stores.in_existing(async || stores.get(Bucket::Lease, KEY).await);
        let entry = match self.control.within(LEASE_ASK_WAIT, reading) {
            Ok(entry) => entry,
            Err(error) => {
                tracing::warn!(%error, "the lease can't be read");
                return None;
            }
        };
        let state = entry.map_or(
            LeaseState {
                revision: 0,
                holder: None,
            },
            |entry| LeaseState {
                revision: entry.revision,
                holder: read_holder(&entry.value),
            },
        );
        self.revision = state.revision;
        Some(LeaseEvent::Read(state))
    }

    /// Asks the store; nothing if the driver hangs: the machine takes that for an answer that does not come.
    fn ask(&mut self, expected: u64, asked: Millis) -> Option<LeaseEvent> {
        let hung = std::mem::replace(&mut self.hangs, self.shared.hangs(self.shared.now()));
        if self.hangs {
            if !hung {
                tracing::error!("this driver hangs: it neither keeps the lease nor takes it");
            }
            return None;
        }
        Some(match self.set(Some(self.me), expected) {
            Ok(revision) => LeaseEvent::Taken { revision, asked },
            Err(error) => {
                tracing::debug!(%error, "the lease was not taken");
                LeaseEvent::Refused { asked }
            }
        })
    }

    fn set(&self, holder: Option<DriverIdx>, expected: u64) -> Result<u64, ControlError> {
        let record = Record {
            v: RECORD_VERSION,
            holder: holder.map(|holder| holder.0),
            name: self.name.clone(),
        };
        let record = serde_json::to_vec(&record).map_err(|error| ControlError::Refused {
            cause: error.to_string(),
        })?;
        let stores = self.control.stores();
        let id = stores.message_id();
        let setting =
            stores.in_existing(async || stores.set(Bucket::Lease, KEY, &record, expected, &id).await);
        self.control.within(LEASE_ASK_WAIT, setting)
    }

    /// Lets a standby take over at once; if that fails, it does so when the lease is old.
    fn give_up(self) {
        let led = self.lease.is_leader();
        self.shared.lead_until(0, false);
        if led && let Err(error) = self.set(None, self.revision) {
            tracing::warn!(%error, "the lease could not be given up");
        }
    }
}

pub(crate) fn read_holder(record: &[u8]) -> Option<DriverIdx> {
    match serde_json::from_slice::<Record>(record) {
        Ok(Record {
            v: RECORD_VERSION,
            holder,
            ..
        }) => holder.map(DriverIdx),
        _ => Some(SOMEBODY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: u64 = 60_000;

    #[test]
    fn a_lead_that_was_lost_and_won_again_is_told_as_lost_first() {
        let shared = Shared::new();
        let told = || shared.wait_for_change(Duration::ZERO);
        assert!(!told());
        shared.lead_until(LONG, true);
        assert!(told() && told());
        shared.lead_until(LONG + 1, false);
        assert!(told(), "a renewal changes nothing");
        shared.lead_until(0, false);
        shared.lead_until(LONG, true);
        assert!(shared.is_leader());
        assert_eq!(shared.turn(), Some(2));
        assert!(!told(), "another may have led");
        assert!(told());
        shared.lead_until(0, false);
        assert!(!told() && !told());
    }

    #[test]
    fn a_lead_ends_by_the_clock() {
        let shared = Shared::new();
        shared.lead_until(50, true);
        assert!(shared.wait_for_change(Duration::ZERO));
        assert!(!shared.wait_for_change(Duration::from_millis(LONG)));
        assert!(shared.now().0 >= 50 && !shared.is_leader());
    }

    #[test]
    fn a_driver_hangs_that_has_not_said_otherwise_for_long() {
        let shared = Shared::new();
        assert!(!shared.hangs(Millis(LEASE_ALIVE_MS)));
        assert!(shared.hangs(Millis(LEASE_ALIVE_MS + 1)));
        shared.alive_at.store(5, Ordering::Relaxed);
        assert!(!shared.hangs(Millis(LEASE_ALIVE_MS + 5)));
        shared.alive();
        assert!(!shared.hangs(shared.now()));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_somebodys() {
        assert_eq!(
            read_holder(br#"{"v":1,"holder":3,"name":"d3"}"#),
            Some(DriverIdx(3))
        );
        assert_eq!(read_holder(br#"{"v":1,"holder":null,"name":"d3"}"#), None);
        for record in [&b"{}"[..], b"", br#"{"v":2,"holder":3,"name":"d3"}"#] {
            assert_eq!(read_holder(record), Some(SOMEBODY));
        }
    }
}
