//! The numbers of workers: who has which, as records that outlive the driver. None is given out twice.
//!
//! A store that was lost begins again at 0 while workers go on under the numbers that they had. A driver that has heard of them gives
//! out higher ones; and a worker says its number again after each reconnect, which keeps it, or gets another one if it is taken by then.

use super::joining::unanswered;
use super::protocol::Join;
use crate::failure::{CliError, Exit};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use tilework_core::ids::WorkerIdx;
use tilework_nats::{Bucket, Control, ControlError};

/// Where the number of the next worker is kept.
const NEXT_KEY: &str = "next-worker";
/// Times that a number is asked for while other drivers hand out theirs.
const NUMBER_TRIES: u32 = 20;
/// No cluster gets that far: whoever says so has made it up, and is not believed.
const HEARD_MAX: u32 = 1_000_000;

/// The numbers that this process has heard of, through all losses of the lease and of the store.
#[derive(Debug, Default)]
pub struct HeardNumbers {
    /// Above all of them.
    next: AtomicU32,
}

impl HeardNumbers {
    /// Somebody has this number.
    pub fn hear(&self, worker: WorkerIdx) {
        if worker.0 < HEARD_MAX {
            self.next.fetch_max(worker.0 + 1, Ordering::Relaxed);
        }
    }

    /// One that nobody has who was heard.
    pub fn next(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }
}

/// Why a worker got no number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// More would leave no room for what is kept of them.
    #[error("the cluster knows {known} workers, and at most {known_max} at once")]
    Full {
        /// Workers whose records are kept.
        known: usize,
        /// How many may be.
        known_max: usize,
    },
    /// The records can't be read or written.
    #[error(transparent)]
    Records(#[from] ControlError),
}

impl From<AdmitError> for CliError {
    fn from(error: AdmitError) -> CliError {
        match error {
            AdmitError::Full { .. } => CliError::new(Exit::Unreachable, error.to_string()).with_next(
                "those that left in good order are forgotten at once, lost ones after 10 minutes; give few workers many threads",
            ),
            AdmitError::Records(error) => unanswered(&error),
        }
    }
}

fn key_of(worker: WorkerIdx) -> String {
    format!("worker.{worker}")
}

fn worker_of(key: &str) -> Option<WorkerIdx> {
    key.strip_prefix("worker.")?.parse().ok().map(WorkerIdx)
}

/// Gives a worker the number that it has already, or one that nobody else has, and keeps who it is for other drivers; of at most
/// `known_max` workers.
///
/// # Errors
/// If so many are known, or the records can't be read or written.
pub fn admit(
    control: &Control,
    heard: &HeardNumbers,
    join: &Join,
    known_max: usize,
) -> Result<WorkerIdx, AdmitError> {
    if let Some(worker) = join.worker.map(WorkerIdx)
        && claim(control, worker, join, known_max)?
    {
        heard.hear(worker);
        return Ok(worker);
    }
    has_room(control, known_max)?;
    for _ in 0..NUMBER_TRIES {
        let entry = control.get(Bucket::Members, NEXT_KEY)?;
        let (revision, kept) = entry.map_or((0, 0), |entry| {
            let text = String::from_utf8_lossy(&entry.value).into_owned();
            (entry.revision, text.parse::<u32>().unwrap_or(0))
        });
        let next = kept.max(heard.next());
        let text = next.saturating_add(1).to_string();
        match control.set(Bucket::Members, NEXT_KEY, text.as_bytes(), revision) {
            // Where records were lost, somebody may have it who was not heard yet.
            Ok(_) if claim(control, WorkerIdx(next), join, known_max)? => return Ok(WorkerIdx(next)),
            Ok(_) | Err(ControlError::Changed) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ControlError::Changed.into())
}

/// Keeps who has a number; whether nobody else does.
fn claim(control: &Control, worker: WorkerIdx, join: &Join, known_max: usize) -> Result<bool, AdmitError> {
    let said = Join {
        worker: Some(worker.0),
        ..join.clone()
    };
    let has = |entry: &[u8]| serde_json::from_slice::<Join>(entry).is_ok_and(|known| known == said);
    if let Some(entry) = control.get(Bucket::Members, &key_of(worker))? {
        return Ok(has(&entry.value));
    }
    has_room(control, known_max)?;
    let text = serde_json::to_vec(&said).expect("plain data becomes JSON");
    match control.set(Bucket::Members, &key_of(worker), &text, 0) {
        Ok(_) => Ok(true),
        Err(ControlError::Changed) => {
            let known = control.get(Bucket::Members, &key_of(worker))?;
            Ok(known.is_some_and(|entry| has(&entry.value)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Refuses where a stolen key, or a fleet that comes and goes, would fill the store.
fn has_room(control: &Control, known_max: usize) -> Result<(), AdmitError> {
    let keys = control.keys(Bucket::Members)?;
    let known = keys.iter().filter_map(|key| worker_of(key)).count();
    if known >= known_max {
        return Err(AdmitError::Full { known, known_max });
    }
    Ok(())
}

/// Who has which number, under this driver or others.
///
/// `on_each` is called now and then: there may be many.
pub fn admitted(control: &Control, on_each: &dyn Fn()) -> Result<BTreeMap<WorkerIdx, Join>, ControlError> {
    let mut joined = BTreeMap::new();
    for key in control.keys(Bucket::Members)? {
        on_each();
        let Some(worker) = worker_of(&key) else {
            continue;
        };
        let Some(entry) = control.get(Bucket::Members, &key)? else {
            continue;
        };
        match serde_json::from_slice(&entry.value) {
            Ok(join) => {
                joined.insert(worker, join);
            }
            Err(error) => tracing::warn!(%worker, %error, "the record of a worker can't be read"),
        }
    }
    Ok(joined)
}

/// Removes what is kept of workers that are gone; returns those whose records are still there.
pub fn dismiss(control: &Control, workers: impl IntoIterator<Item = WorkerIdx>) -> Vec<WorkerIdx> {
    let mut workers = workers.into_iter();
    let mut kept = Vec::new();
    for worker in workers.by_ref() {
        if let Err(error) = control.delete(Bucket::Members, &key_of(worker)) {
            tracing::debug!(%worker, %error, "the record of a worker that is gone stays for now");
            kept.push(worker);
            break;
        }
    }
    // Each further one would wait as long for a server that is away.
    kept.extend(workers);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_number_is_above_all_that_were_heard() {
        let heard = HeardNumbers::default();
        assert_eq!(heard.next(), 0);
        for worker in [4, 2, u32::MAX, HEARD_MAX] {
            heard.hear(WorkerIdx(worker));
        }
        assert_eq!(heard.next(), 5, "and what is made up counts for nothing");
    }

    #[test]
    fn only_records_of_workers_are_theirs() {
        assert_eq!(worker_of(&key_of(WorkerIdx(7))), Some(WorkerIdx(7)));
        assert_eq!(worker_of(NEXT_KEY), None);
        assert_eq!(worker_of("worker.x"), None);
    }
}
