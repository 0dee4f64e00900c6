//! What the cluster says of itself, gathered by a thread of its own: a server that is away must not hold the faults up, nor what was heard of
//! jobs be lost with its store.

use crate::harness::Cluster;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tilework::cluster::clients::Client;
use tilework::cluster::events::{self, JobEvent};
use tilework_nats::streams::job_of_token;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(150);
/// Messages of one page.
const PAGE: usize = 100;

/// What is known.
#[derive(Default)]
struct Heard {
    /// The process of the driver that was seen last.
    driving: Mutex<Option<u32>>,
    /// Events by outputs, such as `data:/C.npy`.
    events: Mutex<BTreeMap<String, Vec<JobEvent>>>,
    n_losses: AtomicU64,
    is_over: AtomicBool,
}

/// Listens until it is dropped.
pub(crate) struct Ears {
    heard: Arc<Heard>,
    thread: Option<JoinHandle<()>>,
}

impl Ears {
    pub(crate) fn on(cluster: &Cluster) -> Ears {
        let client = Client::join(&cluster.stage.path("c/client.join")).unwrap();
        let heard = Arc::new(Heard::default());
        let shared = Arc::clone(&heard);
        Ears {
            heard,
            thread: Some(thread::spawn(move || listen(&client, &shared))),
        }
    }

    /// The process that drives, or drove last.
    pub(crate) fn driving_pid(&self) -> Option<u32> {
        *self.heard.driving.lock().unwrap()
    }

    /// The server's store was lost, and its events are numbered anew.
    pub(crate) fn store_was_lost(&self) {
        self.heard.n_losses.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether a task was begun after that time.
    pub(crate) fn has_begun_since(&self, unix_ms: u64) -> bool {
        let events = self.heard.events.lock().unwrap();
        let mut events = events.values().flatten();
        events.any(|event| event.what == "started" && event.unix_ms > unix_ms)
    }

    /// What happened to the job that computes `output`, the oldest first.
    pub(crate) fn events_of(&self, output: &str) -> Vec<JobEvent> {
        let events = self.heard.events.lock().unwrap();
        let mut events = events
            .get(&format!("data:/{output}"))
            .cloned()
            .unwrap_or_default();
        events.sort_by_key(|event| event.unix_ms);
        events
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.heard.is_over.store(true, Ordering::SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn listen(client: &Client, heard: &Heard) {
    let mut n_losses = 0;
    // The number of the last event of each job, and jobs of which nothing more will come.
    let mut after: BTreeMap<String, u64> = BTreeMap::new();
    let mut over: BTreeSet<String> = BTreeSet::new();
    while !heard.is_over.load(Ordering::SeqCst) {
        let now = heard.n_losses.load(Ordering::SeqCst);
        if now != n_losses {
            n_losses = now;
            after.clear();
            over.clear();
        }
        let board = client.board().ok().flatten().unwrap_or_default();
        if let Some(driver) = &board.driver {
            *heard.driving.lock().unwrap() = Some(driver.pid);
        }
        for job in board.jobs {
            let has_ended = job.ended_unix_ms.is_some();
            if !has_ended {
                over.remove(&job.id);
            } else if over.contains(&job.id) {
                continue;
            }
            let Some(token) = job_of_token(&job.id) else {
                continue;
            };
            let after = after.entry(job.id.clone()).or_default();
            let Ok(page) = client.control().events_of(token, *after, PAGE) else {
                continue;
            };
            *after = page.last().map_or(*after, |(last, _)| *last);
            if page.is_empty() && has_ended {
                over.insert(job.id);
            }
            let read = page.iter().flat_map(|(_, bytes)| events::read(bytes));
            let mut events = heard.events.lock().unwrap();
            events.entry(job.output).or_default().extend(read);
        }
        thread::sleep(LOOK); // waits: what the cluster says next
    }
}
