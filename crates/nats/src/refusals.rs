//! What the server would not let this client do. It says so in passing: whoever published hears nothing, whoever asked waits in vain.

use async_nats::ServerError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// Refusals that are remembered while somebody looks for them.
const REMEMBERED_MAX: usize = 64;

/// The refusals of one connection.
#[derive(Debug)]
pub(crate) struct Refusals {
    heard: watch::Sender<Vec<String>>,
    is_looked_for: AtomicBool,
}

impl Refusals {
    pub(crate) fn new() -> Refusals {
        Refusals {
            heard: watch::Sender::new(Vec::new()),
            is_looked_for: AtomicBool::new(false),
        }
    }

    /// The server says it. Whoever looks for refusals asked for them, so they are no trouble then.
    pub(crate) fn on_error(&self, error: &ServerError) {
        if !self.is_looked_for.load(Ordering::Relaxed) {
            tracing::error!(%error, "NATS refused something");
            return;
        }
        self.heard.send_modify(|heard| {
            if heard.len() < REMEMBERED_MAX {
                heard.push(error.to_string());
            }
        });
    }

    /// From now on, or no longer.
    pub(crate) fn look_for(&self, looked_for: bool) {
        self.heard.send_modify(Vec::clear);
        self.is_looked_for.store(looked_for, Ordering::Relaxed);
    }

    /// All that were heard, once `is_enough` says so or the time is up.
    pub(crate) async fn until(&self, wait: Duration, is_enough: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut heard = self.heard.subscribe();
        let _ = timeout(wait, heard.wait_for(|heard| is_enough(heard))).await;
        self.heard.borrow().clone()
    }
}
