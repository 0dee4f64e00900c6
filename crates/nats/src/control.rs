//! What processes of a cluster share beside tasks and reports: records, which drivers write and all may read; requests, which drivers
//! answer; and events, which are kept for who comes later.
//!
//! Records are hints to all but drivers: a listener that was cut off, or too slow, looks up what it needs anew after a reconnect.

use crate::connection::{ConnectError, Connection, NatsOptions};
use crate::events::Events;
use crate::limits::{CONTROL_WAIT, CONTROL_WAIT_REPLICATED, HEARD_WAITING_MAX};
use crate::requests::Requests;
use crate::role::Role;
use crate::stores::{StoreError, Stores};
use crate::streams::event_subject;
use async_nats::{HeaderMap, Message, Subscriber};
use futures_util::StreamExt;
use std::sync::mpsc::{Receiver, TrySendError, sync_channel};
use std::time::Duration;
use tilework_core::ids::JobId;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// A process's part in that. Calls wait for the network, with a bound; they may come from any thread.
#[derive(Debug)]
pub struct Control {
    role: Role,
    stores: Stores,
    events: Events,
    /// Last: its threads carry all of the above.
    connection: Connection,
    /// How long anything that concerns records may take.
    wait: Duration,
}

/// A place for records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// Jobs; survives the server.
    Jobs,
    /// Workers; gone with the server, for they say again who they are.
    Workers,
    /// Which workers have which numbers; only drivers see it.
    Members,
    /// Who drives; only drivers see it. Nothing else is kept there, so that nothing can take the room of the lease.
    Lease,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Grows with every change of any record in the bucket.
    pub revision: u64,
    /// What it says.
    pub value: Vec<u8>,
}

/// What was said where a process listens. A record that was deleted is an empty message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Where.
    pub subject: String,
    /// What.
    pub payload: Vec<u8>,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// There is no connection, or no answer in time: it may have been done or not, or be forbidden.
    #[error("the NATS server does not answer")]
    Silent,
    /// Nobody listens to such requests now.
    #[error("nobody answers")]
    NobodyAnswers,
    /// Another revision came first.
    #[error("the record has changed meanwhile")]
    Changed,
    /// Longer than anything of its kind.
    #[error("{bytes} bytes, at most {bytes_max} can be sent")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What is allowed.
        bytes_max: usize,
    },
    /// The server won't do it.
    #[error("the NATS server refuses it: {cause}")]
    Refused {
        /// Why, in its words.
        cause: String,
    },
}

impl Control {
    /// Connects.
    ///
    /// # Errors
    /// If there is no server that is new enough and lets us in.
    pub fn connect(options: &NatsOptions) -> Result<Control, ConnectError> {
        let connection = Connection::open(options)?;
        let stores = Stores {
            link: connection.link().clone(),
            n_replicas: options.n_replicas,
        };
        let events = Events::start(&connection, stores.clone());
        let wait = if options.n_replicas > 1 {
            CONTROL_WAIT_REPLICATED
        } else {
            CONTROL_WAIT
        };
        Ok(Control {
            wait,
            role: options.role,
            stores,
            events,
            connection,
        })
    }

    /// What this process does.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The version of the server that it is, or was last, connected to, in the server's own words.
    pub fn server_version(&self) -> String {
        self.stores.link.client.server_info().version
    }

    /// The stores that this role can see: the name of each, and whether it is there.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn stores_seen(&self) -> Result<Vec<(String, bool)>, ControlError> {
        self.within(CONTROL_WAIT, async { Ok(self.stores.seen(self.role).await?) })
    }

    /// Whether the server can be reached, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.connection.link().is_connected()
    }

    /// How often the connection was lost and came back. After each time what was heard may have gaps: look up again.
    pub fn n_reconnects(&self) -> u64 {
        *self.connection.link().reconnects.borrow()
    }

    /// For drivers: makes the stores that are missing, and leaves alone those that are there.
    ///
    /// # Errors
    /// If the server does not answer or has no room.
    pub fn create_stores(&self) -> Result<(), ControlError> {
        self.within(
            self.wait,
            self.stores.until_led(async || self.stores.create().await),
        )
    }

    /// For drivers: a record, as new as any: good to decide what to [`set`](Self::set).
    ///
    /// # Errors
    /// If the server does not answer, or the key can't be one.
    pub fn get(&self, bucket: Bucket, key: &str) -> Result<Option<Entry>, ControlError> {
        check_key(key)?;
        self.in_stores(async || self.stores.get(bucket, key).await)
    }

    /// For drivers: the keys of all records, sorted. One whose deletion was cut short may still be among them.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn keys(&self, bucket: Bucket) -> Result<Vec<String>, ControlError> {
        self.in_stores(async || self.stores.keys(bucket).await)
    }

    /// For drivers: writes a record, whatever it was; returns its revision. The key has letters, digits, `-`, `_`, `=`, `/` and, between
    /// others, `.`.
    ///
    /// # Errors
    /// If the value is too large for [`RECORD_BYTES_MAX`](crate::limits::RECORD_BYTES_MAX), the key can't be one, the bucket is full, or the server does not answer.
    pub fn put(&self, bucket: Bucket, key: &str, value: &[u8]) -> Result<u64, ControlError> {
        check_key(key)?;
        let id = self.stores.message_id();
        self.in_stores(async || self.stores.put(bucket, key, value, &id).await)
    }

    /// For drivers: writes a record if its revision is still the expected one, where 0 is that of a record that does not exist or was
    /// deleted; returns the new revision. After [`ControlError::Silent`] it may be written or not, even later.
    ///
    /// # Errors
    /// [`ControlError::Changed`], and as [`put`](Self::put).
    pub fn set(
        &self,
        bucket: Bucket,
        key: &str,
        value: &[u8],
        expected_revision: u64,
    ) -> Result<u64, ControlError> {
        check_key(key)?;
        let id = self.stores.message_id();
        self.in_stores(async || {
            let setting = self.stores.set(bucket, key, value, expected_revision, &id);
            setting.await
        })
    }

    /// For drivers: deletes a record, if it is there; who listens hears an empty message.
    ///
    /// # Errors
    /// If the server does not answer, or the key can't be one.
    pub fn delete(&self, bucket: Bucket, key: &str) -> Result<(), ControlError> {
        check_key(key)?;
        let id = self.stores.message_id();
        self.in_stores(async || self.stores.delete(bucket, key, None, &id).await)
    }

    /// The same, if its revision is still this one.
    ///
    /// # Errors
    /// [`ControlError::Changed`], and as [`delete`](Self::delete).
    pub fn delete_unchanged(&self, bucket: Bucket, key: &str, revision: u64) -> Result<(), ControlError> {
        let id = self.stores.message_id();
        self.in_stores(async || self.stores.delete(bucket, key, Some(revision), &id).await)
    }

    /// For drivers: tells who listens to the job's events, and keeps it for who comes later. Returns at once; events are stored in order
    /// and once each, however often the connection breaks, though who listens may hear one twice. One that is longer than [`EVENT_BYTES_MAX`](crate::limits::EVENT_BYTES_MAX), or comes
    /// when too many wait, is dropped with a warning.
    pub fn publish_event(&self, job: JobId, payload: Vec<u8>) {
        self.events.publish(job, payload);
    }

    /// For drivers: listens to what clients ask at `tw.request.<verb>` and workers at `tw.join`, until it is dropped.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn requests(&self) -> Result<Requests, ControlError> {
        Requests::listen(&self.connection)
    }

    /// For every role: a record as the nearest server has it. On a cluster with least rights workers see jobs only, and what a role
    /// may not see is silent.
    ///
    /// # Errors
    /// If the server does not answer, no driver has made the bucket yet, or the key can't be one.
    pub fn look_up(&self, bucket: Bucket, key: &str) -> Result<Option<Entry>, ControlError> {
        check_key(key)?;
        let looking = self
            .stores
            .until_led(async || self.stores.look_up(bucket, key).await);
        self.within(self.wait, looking)
    }

    /// For clients at `tw.request.<verb>`, and workers at `tw.join`: asks once, and waits that long for an answer.
    ///
    /// # Errors
    /// [`ControlError::NobodyAnswers`] at once if no driver listens, and if the answer does not come or the request is too large.
    pub fn request(&self, subject: &str, payload: Vec<u8>, wait: Duration) -> Result<Vec<u8>, ControlError> {
        self.within(wait, async {
            let asked = self
                .stores
                .ask(subject.to_owned(), HeaderMap::new(), payload, wait);
            Ok(asked.await?.payload.to_vec())
        })
    }

    /// For clients and viewers: hears what is said at `subject` from now on, through reconnects, until the receiver is dropped. What is
    /// said while there is no connection, or while too much waits here unheard, is lost.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn listen(&self, subject: &str) -> Result<Receiver<Heard>, ControlError> {
        let subscribed = self.connection.subscribe(subject.to_owned());
        let subscriber = subscribed.map_err(|_| ControlError::Silent)?;
        let (sender, receiver) = sync_channel(HEARD_WAITING_MAX);
        let subject = subject.to_owned();
        self.connection.spawn(hear_all(subscriber, move |message| {
            let heard = Heard {
                subject: message.subject.to_string(),
                payload: message.payload.to_vec(),
            };
            match sender.try_send(heard) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    tracing::warn!(subject, "a message is dropped: too many wait to be heard");
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            }
        }));
        Ok(receiver)
    }

    /// For clients and viewers: at most `max` events of the job that came after that number, in order, each with its number.
    ///
    /// # Errors
    /// If the server does not answer, or no driver has made the stream yet.
    pub fn events_of(
        &self,
        job: JobId,
        after_seq: u64,
        max: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, ControlError> {
        let subject = event_subject(job);
        let mut events: Vec<(u64, Vec<u8>)> = Vec::new();
        while events.len() < max {
            let after = events.last().map_or(after_seq, |(seq, _)| *seq);
            let next = self
                .stores
                .until_led(async || self.stores.event_after(&subject, after).await);
            match self.within(self.wait, next)? {
                Some(event) => events.push(event),
                None => break,
            }
        }
        Ok(events)
    }

    /// For clients and viewers: the number of the job's last event, 0 if there is none.
    ///
    /// # Errors
    /// As [`events_of`](Self::events_of).
    pub fn last_event_of(&self, job: JobId) -> Result<u64, ControlError> {
        let subject = event_subject(job);
        self.within(CONTROL_WAIT, async {
            Ok(self.stores.last_event(&subject).await?)
        })
    }

    /// Hears what is said at `subject` as soon as there is a connection, while `hear` returns true.
    pub(crate) fn overhear(
        &self,
        subject: String,
        hear: impl FnMut(Message) -> bool + Send + 'static,
    ) -> AbortHandle {
        let client = self.connection.link().client.clone();
        self.connection.spawn(async move {
            if let Ok(subscriber) = client.subscribe(subject).await {
                hear_all(subscriber, hear).await;
            }
        })
    }

    pub(crate) fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Does what may need stores that have to be made first.
    fn in_stores<T>(&self, act: impl AsyncFn() -> Result<T, StoreError>) -> Result<T, ControlError> {
        self.within(self.wait, self.stores.in_existing(act))
    }

    pub(crate) fn within<T>(
        &self,
        wait: Duration,
        act: impl Future<Output = Result<T, ControlError>>,
    ) -> Result<T, ControlError> {
        let bounded = async { timeout(wait, act).await.unwrap_or(Err(ControlError::Silent)) };
        self.connection.wait_for(bounded)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.events.close();
    }
}

async fn hear_all(mut subscriber: Subscriber, mut hear: impl FnMut(Message) -> bool) {
    while let Some(message) = subscriber.next().await {
        if !hear(message) {
            return;
        }
    }
}

fn check_key(key: &str) -> Result<(), ControlError> {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '=' | '/' | '.');
    let is_key = !key.is_empty()
        && key.chars().all(is_fit)
        && !key.starts_with('.')
        && !key.ends_with('.')
        && !key.contains("..");
    if !is_key {
        let cause = format!("`{key}` can't be a record's key");
        return Err(ControlError::Refused { cause });
    }
    Ok(())
}
