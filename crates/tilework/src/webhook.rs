//! `--alert-webhook`: each alarm as one HTTP POST. A job neither waits for the receiver nor fails with it.
//!
//! Alarms go through a bounded queue to a thread of their own. When the job has ended, what is left gets a few seconds; then
//! the user is told how many alarms did not arrive, and why.
//!
//! # Layout
//! - [`address`]: where to
//! - `client`: one POST, and whether another try may help

pub mod address;
mod client;

use self::address::WebhookUrl;
use self::client::Client;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tilework_core::alarm::Alarm;
use tilework_core::limits::{
    WEBHOOK_ATTEMPTS_MAX, WEBHOOK_BACKOFF_FIRST_MS, WEBHOOK_FLUSH_MS, WEBHOOK_QUEUE_MAX,
};
use tilework_runtime::LoggedAlarm;

/// Where the alarms of one job go, or of all jobs of a driver.
#[derive(Debug)]
pub struct Webhook {
    url: WebhookUrl,
    output: Option<PathBuf>,
    queue: SyncSender<Vec<u8>>,
    shared: Arc<Shared>,
}

/// What became of the alarms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Scheme and host of the receiver; the rest of an address may be a secret.
    pub receiver: String,
    /// Alarms of the job.
    pub n_alarms: u64,
    /// Alarms that the receiver has acknowledged.
    pub n_delivered: u64,
    /// Why the others were not; the latest cause if there are several.
    pub cause: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    tally: Mutex<Tally>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Tally {
    n_alarms: u64,
    n_delivered: u64,
    cause: Option<String>,
    /// Whether nothing is left to post.
    ended: bool,
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Webhook {
    /// Starts the thread that posts the alarms of the job that makes `output`.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(url: WebhookUrl, output: &Path) -> std::io::Result<Webhook> {
        let output = std::path::absolute(output).unwrap_or_else(|_| output.to_path_buf());
        Webhook::started(url, Some(output))
    }

    /// Starts the thread that posts the alarms of many jobs.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start_for_all(url: WebhookUrl) -> std::io::Result<Webhook> {
        Webhook::started(url, None)
    }

    fn started(url: WebhookUrl, output: Option<PathBuf>) -> std::io::Result<Webhook> {
        let (queue, posts) = sync_channel(WEBHOOK_QUEUE_MAX);
        let shared = Arc::new(Shared::default());
        let (client, of_thread) = (Client::new(url.clone()), Arc::clone(&shared));
        thread::Builder::new()
            .name("webhook".to_owned())
            .spawn(move || post_all(&client, &posts, &of_thread))?;
        Ok(Webhook {
            url,
            output,
            queue,
            shared,
        })
    }

    /// Queues an alarm of the one job; returns at once.
    pub fn send(&self, alarm: &Alarm, logged: &LoggedAlarm) {
        let output = self.output.as_ref().map(|output| output.display().to_string());
        self.send_of(output.as_deref(), alarm, logged);
    }

    /// Queues an alarm of the job that makes `output`, or of no job; returns at once.
    pub fn send_of(&self, output: Option<&str>, alarm: &Alarm, logged: &LoggedAlarm) {
        let document = json!({
            "job": alarm.job.map(|job| job.to_string()),
            "output": output,
            "alarm": logged,
        });
        let queued = self.queue.try_send(document.to_string().into_bytes());
        let mut tally = self.shared.tally();
        tally.n_alarms += 1;
        if queued.is_err() {
            tally.cause = Some(format!("the queue of {WEBHOOK_QUEUE_MAX} alarms was full"));
        }
    }

    /// Waits for the alarms that are under way, no longer than [`WEBHOOK_FLUSH_MS`].
    pub fn finish(self) -> Delivery {
        let Webhook {
            url, queue, shared, ..
        } = self;
        drop(queue);
        let limit = Duration::from_millis(WEBHOOK_FLUSH_MS);
        let waited = shared
            .ended
            .wait_timeout_while(shared.tally(), limit, |tally| !tally.ended);
        let (tally, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let late = || format!("no answer within {} s after the job's end", limit.as_secs());
        Delivery {
            receiver: url.to_string(),
            n_alarms: tally.n_alarms,
            n_delivered: tally.n_delivered,
            cause: (tally.n_delivered < tally.n_alarms).then(|| tally.cause.clone().unwrap_or_else(late)),
        }
    }
}

impl Delivery {
    /// Says once what did not arrive.
    pub fn warn(&self) {
        if let Some(cause) = &self.cause {
            tracing::warn!(
                "{} of {} alarms did not reach the webhook at {}: {cause}",
                self.n_alarms - self.n_delivered,
                self.n_alarms,
                self.receiver
            );
        }
    }

    /// As `webhook` in the job's report.
    pub fn to_json(&self) -> Value {
        json!({
            "alarms": self.n_alarms,
            "delivered": self.n_delivered,
            "error": self.cause,
        })
    }
}

fn post_all(client: &Client, posts: &Receiver<Vec<u8>>, shared: &Shared) {
    for document in posts {
        let posted = post_patiently(client, &document);
        let mut tally = shared.tally();
        match posted {
            Ok(()) => tally.n_delivered += 1,
            Err(cause) => tally.cause = Some(cause),
        }
    }
    shared.tally().ended = true;
    shared.ended.notify_all();
}

/// Posts until it is acknowledged or another try can't help, at most [`WEBHOOK_ATTEMPTS_MAX`] times.
fn post_patiently(client: &Client, document: &[u8]) -> Result<(), String> {
    let mut delay = Duration::from_millis(WEBHOOK_BACKOFF_FIRST_MS);
    let mut n_attempts = 1;
    loop {
        let Err(refusal) = client.post(document) else {
            return Ok(());
        };
        tracing::debug!(n_attempts, "the webhook: {}", refusal.cause);
        if !refusal.may_pass || n_attempts == WEBHOOK_ATTEMPTS_MAX {
            return Err(refusal.cause);
        }
        thread::sleep(delay);
        delay *= 2;
        n_attempts += 1;
    }
}
