//! What clients and workers ask of a driver, and its answers.

use crate::connection::Connection;
use crate::control::ControlError;
use crate::limits::{REQUESTS_WAITING_MAX, SEND_WAIT};
use crate::role::Role;
use crate::streams::{JOIN, REQUESTS};
use async_nats::{Client, Message, Subject};
use futures_util::{StreamExt, stream};
use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// The requests that are made while this is there; without it, who asks is told at once that nobody answers.
#[derive(Debug)]
pub struct Requests {
    waiting: Receiver<Request>,
    listener: AbortHandle,
}

impl Requests {
    pub(crate) fn listen(connection: &Connection) -> Result<Requests, ControlError> {
        let subscribe = |subject: &str| {
            let subscribed = connection.subscribe(subject.to_owned());
            subscribed.map_err(|_| ControlError::Silent)
        };
        let mut asked = stream::select(subscribe(REQUESTS)?, subscribe(JOIN)?);
        let (sender, waiting) = sync_channel(REQUESTS_WAITING_MAX);
        let client = connection.link().client.clone();
        let threads = connection.handle().clone();
        let listener = connection.spawn(async move {
            while let Some(message) = asked.next().await {
                if !put(&sender, message, &client, &threads) {
                    return;
                }
            }
        });
        Ok(Requests { waiting, listener })
    }

    /// The next request, if one is made in time.
    pub fn next(&self, timeout: Duration) -> Option<Request> {
        self.waiting.recv_timeout(timeout).ok()
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Whether anybody still listens.
fn put(sender: &SyncSender<Request>, message: Message, client: &Client, threads: &Handle) -> bool {
    let Some(reply) = message.reply.filter(|reply| is_answerable(reply)) else {
        tracing::warn!(subject = %message.subject, "a request is ignored: its answer would go nowhere, or astray");
        return true;
    };
    let request = Request {
        subject: message.subject.to_string(),
        payload: message.payload.to_vec(),
        received: Instant::now(),
        reply,
        client: client.clone(),
        threads: threads.clone(),
    };
    match sender.try_send(request) {
        Ok(()) => true,
        Err(TrySendError::Full(request)) => {
            tracing::warn!(request.subject, "a request is dropped: too many wait");
            true
        }
        Err(TrySendError::Disconnected(_)) => false,
    }
}

/// An answer carries the driver's rights wherever it goes, which must not be where who asked could not speak: only to an inbox, or
/// to where the server passes it on to another account.
pub(crate) fn is_answerable(reply: &str) -> bool {
    let is_below = |prefix: &str| {
        let rest = reply.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    let askers = [Role::Worker, Role::Client, Role::Viewer];
    is_below("_R_") || askers.iter().any(|role| is_below(role.inboxes()))
}

/// What somebody asks. Who drops it lets him wait in vain.
pub struct Request {
    /// Where it was sent: `tw.request.<verb>` or `tw.join`.
    pub subject: String,
    /// What it says.
    pub payload: Vec<u8>,
    /// When it came.
    pub received: Instant,
    reply: Subject,
    client: Client,
    threads: Handle,
}

impl Request {
    /// Answers, from any thread and without waiting; an answer that is lost is asked for again, or not.
    pub fn answer(self, payload: Vec<u8>) {
        let Request {
            subject,
            reply,
            client,
            ..
        } = self;
        self.threads.spawn(async move {
            match timeout(SEND_WAIT, client.publish(reply, payload.into())).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(subject, %error, "an answer could not be sent"),
                Err(_) => tracing::warn!(subject, "an answer is dropped: NATS is away"),
            }
        });
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_bytes = self.payload.len();
        write!(f, "Request({}, {n_bytes} bytes)", self.subject)
    }
}

#[cfg(test)]
mod tests {
    use super::is_answerable;

    #[test]
    fn answers_go_to_inboxes_only() {
        for reply in ["_INBOX.worker.w1.x", "_INBOX.client.cli.x.y", "_R_.x.y"] {
            assert!(is_answerable(reply), "{reply}");
        }
        for reply in [
            "$JS.API.STREAM.DELETE.TW_TASKS",
            "tw.ctl.all",
            "_INBOX.driver.x",
            "_INBOX.workers",
            "",
        ] {
            assert!(!is_answerable(reply), "{reply}");
        }
    }
}
