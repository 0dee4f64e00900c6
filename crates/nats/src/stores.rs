//! Where the server keeps records and events: four key-value buckets, which are streams that hold the last message of each subject,
//! and the stream of events. What is here has no bound of its own on how long it waits for a connection; callers have.

use crate::connection::Link;
use crate::control::{Bucket, ControlError, Entry};
use crate::limits::{
    self, RECORD_BYTES_MAX, REQUEST_TRY_WAIT, REQUEST_WAIT, STORE_PAUSE_FIRST, STORE_PAUSE_MAX,
};
use crate::outbox::doubled;
use crate::role::Role;
use crate::streams::TASK_STREAM;
use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID, NATS_SEQUENCE};
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RawMessage, Republish, StorageType};
use async_nats::{HeaderMap, Message, RequestErrorKind, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::sleep;

/// The stream of what happened.
pub(crate) const EVENT_STREAM: &str = "TW_EVENTS";
/// The header that says that a message takes a record away.
const OPERATION: &str = "KV-Operation";
const DELETED: &str = "DEL";

/// Why a store did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// The server has no such store, or none that has a leader.
    Missing,
    /// The servers elect who leads the store, or themselves.
    Leaderless,
    /// Anything else.
    Control(ControlError),
}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> ControlError {
        match error {
            StoreError::Missing => ControlError::NobodyAnswers,
            StoreError::Leaderless => ControlError::Silent,
            StoreError::Control(error) => error,
        }
    }
}

impl Bucket {
    const ALL: [Bucket; 4] = [Bucket::Jobs, Bucket::Workers, Bucket::Members, Bucket::Lease];

    fn name(self) -> &'static str {
        match self {
            Bucket::Jobs => "jobs",
            Bucket::Workers => "workers",
            Bucket::Members => "members",
            Bucket::Lease => "lease",
        }
    }

    pub(crate) fn stream(self) -> String {
        format!("KV_tw_{}", self.name())
    }

    /// Where a record is written.
    pub(crate) fn subject(self, key: &str) -> String {
        format!("$KV.tw_{}.{key}", self.name())
    }

    fn config(self, n_replicas: usize) -> Config {
        let (storage, max_bytes) = match self {
            Bucket::Jobs => (StorageType::File, limits::JOBS_BYTES_MAX),
            Bucket::Workers => (StorageType::Memory, limits::WORKERS_BYTES_MAX),
            Bucket::Members => (StorageType::File, limits::MEMBERS_BYTES_MAX),
            Bucket::Lease => (StorageType::File, limits::LEASE_BYTES_MAX),
        };
        let is_drivers_own = matches!(self, Bucket::Members | Bucket::Lease);
        let republish = (!is_drivers_own).then(|| Republish {
            source: self.subject(">"),
            destination: format!("tw.kv.{}.>", self.name()),
            headers_only: false,
        });
        let max_message_size = match self {
            Bucket::Members => limits::STORED_MEMBER_BYTES_MAX,
            Bucket::Lease => limits::STREAM_MESSAGE_BYTES_MAX,
            Bucket::Jobs | Bucket::Workers => limits::STORED_RECORD_BYTES_MAX,
        };
        Config {
            name: self.stream(),
            subjects: vec![self.subject(">")],
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            max_bytes,
            max_message_size,
            allow_direct: true,
            republish,
            storage,
            num_replicas: n_replicas,
            ..Config::default()
        }
    }
}

fn event_stream(n_replicas: usize) -> Config {
    Config {
        name: EVENT_STREAM.to_owned(),
        subjects: vec!["tw.event.*".to_owned()],
        discard: DiscardPolicy::Old,
        max_bytes: limits::EVENTS_BYTES_MAX,
        max_age: limits::EVENTS_KEPT_FOR,
        max_message_size: limits::STREAM_MESSAGE_BYTES_MAX,
        duplicate_window: limits::DUPLICATE_WINDOW,
        allow_direct: true,
        storage: StorageType::File,
        num_replicas: n_replicas,
        ..Config::default()
    }
}

/// The stores of a cluster, through one client. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Stores {
    pub(crate) link: Link,
    pub(crate) n_replicas: usize,
}

impl Stores {
    /// Makes what is missing; what exists stays as it is.
    pub(crate) async fn create(&self) -> Result<(), StoreError> {
        self.create_one(event_stream(self.n_replicas)).await?;
        for bucket in Bucket::ALL {
            self.create_one(bucket.config(self.n_replicas)).await?;
        }
        Ok(())
    }

    async fn create_one(&self, config: Config) -> Result<(), StoreError> {
        let verb = format!("STREAM.INFO.{}", config.name);
        match self.api::<Value>(&verb, json!({})).await {
            Err(StoreError::Missing) => {}
            found => return found.map(drop),
        }
        tracing::info!(store = config.name, "a store is made");
        let verb = format!("STREAM.CREATE.{}", config.name);
        let config = serde_json::to_value(&config).map_err(refused)?;
        self.api::<Value>(&verb, config).await.map(drop)
    }

    /// Does `act`, and again if the store had to be made: a server that lost its store has none. What it writes has to carry a message
    /// id, so that what was written although nobody said so is not written twice.
    pub(crate) async fn in_existing<T>(
        &self,
        act: impl AsyncFn() -> Result<T, StoreError>,
    ) -> Result<T, ControlError> {
        let made_and_done = async || {
            self.create().await?;
            act().await
        };
        match act().await {
            Err(StoreError::Missing) => self.until_led(made_and_done).await,
            Err(error) if self.may_be_led_later(&error) => self.until_led(act).await,
            done => Ok(done?),
        }
    }

    /// Does `act`; on several servers again and again while the store has no leader, which is for the caller to bound.
    pub(crate) async fn until_led<T>(
        &self,
        act: impl AsyncFn() -> Result<T, StoreError>,
    ) -> Result<T, ControlError> {
        let mut n_failures = 0;
        loop {
            match act().await {
                Err(error) if self.may_be_led_later(&error) => {
                    n_failures += 1;
                    sleep(doubled(STORE_PAUSE_FIRST, n_failures, STORE_PAUSE_MAX)).await;
                }
                done => return Ok(done?),
            }
        }
    }

    fn may_be_led_later(&self, error: &StoreError) -> bool {
        let is_led = match error {
            StoreError::Missing | StoreError::Leaderless | StoreError::Control(ControlError::Silent) => false,
            StoreError::Control(_) => true,
        };
        self.link.is_replicated && !is_led
    }

    /// What no other write has.
    pub(crate) fn message_id(&self) -> String {
        self.link.client.new_inbox()
    }

    /// How long one try may take.
    fn try_wait(&self) -> Duration {
        if self.link.is_replicated {
            REQUEST_TRY_WAIT
        } else {
            REQUEST_WAIT
        }
    }

    /// The record as the store's leader has it.
    pub(crate) async fn get(&self, bucket: Bucket, key: &str) -> Result<Option<Entry>, StoreError> {
        let last = self.last(bucket, key).await?;
        Ok(last.filter(|last| !is_deleted(&last.headers)).map(|last| Entry {
            revision: last.sequence,
            value: last.payload.to_vec(),
        }))
    }

    async fn last(&self, bucket: Bucket, key: &str) -> Result<Option<StreamMessage>, StoreError> {
        #[derive(Deserialize)]
        struct Found {
            message: RawMessage,
        }
        let verb = format!("STREAM.MSG.GET.{}", bucket.stream());
        let asked = json!({ "last_by_subj": bucket.subject(key) });
        match self.answer(&verb, asked).await? {
            Response::Ok(Found { message }) => Ok(Some(StreamMessage::try_from(message).map_err(refused)?)),
            Response::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
            Response::Err { error } => Err(said(&error)),
        }
    }

    /// The record as the nearest server has it, which may be older than what the leader has.
    pub(crate) async fn look_up(&self, bucket: Bucket, key: &str) -> Result<Option<Entry>, StoreError> {
        let subject = format!("$JS.API.DIRECT.GET.{}.{}", bucket.stream(), bucket.subject(key));
        let found = self.direct(subject, Vec::new()).await?;
        Ok(found.and_then(|(revision, message)| {
            let headers = message.headers.unwrap_or_default();
            (!is_deleted(&headers)).then(|| Entry {
                revision,
                value: message.payload.to_vec(),
            })
        }))
    }

    /// The first event of `subject` after that one, and its number.
    pub(crate) async fn event_after(
        &self,
        subject: &str,
        after: u64,
    ) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let asked = json!({ "seq": after.saturating_add(1), "next_by_subj": subject });
        let asked = asked.to_string().into_bytes();
        let found = self.direct(format!("$JS.API.DIRECT.GET.{EVENT_STREAM}"), asked);
        Ok(found.await?.map(|(seq, message)| (seq, message.payload.to_vec())))
    }

    /// The number of the last event of `subject`; 0 if there is none.
    pub(crate) async fn last_event(&self, subject: &str) -> Result<u64, StoreError> {
        let asked = json!({ "last_by_subj": subject }).to_string().into_bytes();
        let found = self.direct(format!("$JS.API.DIRECT.GET.{EVENT_STREAM}"), asked);
        Ok(found.await?.map_or(0, |(seq, _)| seq))
    }

    /// Each store that the role can see, and whether it is there.
    pub(crate) async fn seen(&self, role: Role) -> Result<Vec<(String, bool)>, StoreError> {
        let buckets: &[Bucket] = match role {
            Role::Driver => &Bucket::ALL,
            Role::Worker => &[Bucket::Jobs],
            Role::Client | Role::Viewer => &[Bucket::Jobs, Bucket::Workers],
        };
        let mut seen = Vec::new();
        for bucket in buckets {
            let found = self.look_up(*bucket, "none").await;
            seen.push((bucket.stream(), is_there(found)?));
        }
        if role != Role::Worker {
            let found = self.last_event("tw.event.none").await;
            seen.push((EVENT_STREAM.to_owned(), is_there(found)?));
        }
        if role == Role::Driver {
            let verb = format!("STREAM.INFO.{TASK_STREAM}");
            let found = self.api::<Value>(&verb, json!({})).await;
            seen.push((TASK_STREAM.to_owned(), is_there(found)?));
        }
        Ok(seen)
    }

    async fn direct(&self, subject: String, asked: Vec<u8>) -> Result<Option<(u64, Message)>, StoreError> {
        let message = self
            .ask(subject, HeaderMap::new(), asked, self.try_wait())
            .await?;
        match message.status {
            Some(StatusCode::NOT_FOUND) => return Ok(None),
            Some(StatusCode::OK) | None => {}
            Some(_) => return Err(refused(message.description.unwrap_or_default())),
        }
        let headers = message.headers.as_ref();
        let seq = headers.and_then(|headers| headers.get(NATS_SEQUENCE)?.as_str().parse().ok());
        let seq = seq.ok_or_else(|| refused("an answer without a revision"))?;
        Ok(Some((seq, message)))
    }

    pub(crate) async fn keys(&self, bucket: Bucket) -> Result<Vec<String>, StoreError> {
        #[derive(Deserialize)]
        struct Page {
            state: State,
        }
        #[derive(Deserialize)]
        struct State {
            #[serde(default)]
            subjects: BTreeMap<String, u64>,
        }
        let (verb, prefix) = (format!("STREAM.INFO.{}", bucket.stream()), bucket.subject(""));
        let mut keys = Vec::new();
        loop {
            let asked = json!({ "subjects_filter": bucket.subject(">"), "offset": keys.len() });
            let page: Page = self.api(&verb, asked).await?;
            if page.state.subjects.is_empty() {
                break;
            }
            let found = page.state.subjects.into_keys();
            keys.extend(found.filter_map(|subject| Some(subject.strip_prefix(&prefix)?.to_owned())));
        }
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    pub(crate) async fn put(
        &self,
        bucket: Bucket,
        key: &str,
        value: &[u8],
        id: &str,
    ) -> Result<u64, StoreError> {
        fits(value)?;
        self.store(bucket.subject(key), carrying(id), value.to_vec())
            .await
    }

    /// Writes the record if its revision is still the expected one; 0 is that of a record that is not there.
    pub(crate) async fn set(
        &self,
        bucket: Bucket,
        key: &str,
        value: &[u8],
        expected: u64,
        id: &str,
    ) -> Result<u64, StoreError> {
        fits(value)?;
        let set = async |expected: u64, id: &str| {
            let mut headers = carrying(id);
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
            self.store(bucket.subject(key), headers, value.to_vec()).await
        };
        match set(expected, id).await {
            Err(StoreError::Control(ControlError::Changed)) if expected == 0 => {}
            done => return done,
        }
        // Of a deletion that was cut short there is a trace.
        match self.last(bucket, key).await? {
            Some(last) if is_deleted(&last.headers) => set(last.sequence, &format!("{id}.anew")).await,
            _ => Err(ControlError::Changed.into()),
        }
    }

    /// Tells listeners that the record is gone, with an empty message, and then takes that message away too.
    /// With an expected revision only if the record still has that.
    pub(crate) async fn delete(
        &self,
        bucket: Bucket,
        key: &str,
        expected: Option<u64>,
        id: &str,
    ) -> Result<(), StoreError> {
        let mut headers = carrying(id);
        headers.insert(OPERATION, DELETED);
        if let Some(expected) = expected {
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
        }
        let seq = self.store(bucket.subject(key), headers, Vec::new()).await?;
        let verb = format!("STREAM.MSG.DELETE.{}", bucket.stream());
        let taken = self.api::<Value>(&verb, json!({ "seq": seq, "no_erase": true }));
        if let Err(error) = taken.await {
            tracing::debug!(
                key,
                ?error,
                "the trace of a deleted record stays, or a new one replaced it"
            );
        }
        Ok(())
    }

    /// Publishes, and waits until it is stored.
    pub(crate) async fn store(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Vec<u8>,
    ) -> Result<u64, StoreError> {
        let message = self.ask(subject, headers, payload, self.try_wait()).await?;
        match serde_json::from_slice(&message.payload).map_err(refused)? {
            Response::Ok(PublishAck { sequence, .. }) => Ok(sequence),
            Response::Err { error } => Err(said(&error)),
        }
    }

    async fn api<A: DeserializeOwned>(&self, verb: &str, asked: Value) -> Result<A, StoreError> {
        match self.answer(verb, asked).await? {
            Response::Ok(answer) => Ok(answer),
            Response::Err { error } => Err(said(&error)),
        }
    }

    async fn answer<A: DeserializeOwned>(&self, verb: &str, asked: Value) -> Result<Response<A>, StoreError> {
        let asked = asked.to_string().into_bytes();
        let subject = format!("$JS.API.{verb}");
        let message = self
            .ask(subject, HeaderMap::new(), asked, self.try_wait())
            .await?;
        serde_json::from_slice(&message.payload).map_err(refused)
    }

    /// Sends a request once there is a connection, and waits that long for the answer.
    pub(crate) async fn ask(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Vec<u8>,
        wait: Duration,
    ) -> Result<Message, StoreError> {
        self.link.until_connected().await;
        let bytes = payload.len();
        let request = async_nats::Request::new()
            .headers(headers)
            .payload(payload.into())
            .timeout(Some(wait));
        let answer = self.link.client.send_request(subject, request).await;
        answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => StoreError::Missing,
            RequestErrorKind::TimedOut => ControlError::Silent.into(),
            RequestErrorKind::MaxPayloadExceeded => {
                let bytes_max = self.link.client.server_info().max_payload;
                ControlError::TooLarge { bytes, bytes_max }.into()
            }
            RequestErrorKind::InvalidSubject | RequestErrorKind::Other => refused(error),
        })
    }
}

impl From<ControlError> for StoreError {
    fn from(error: ControlError) -> StoreError {
        StoreError::Control(error)
    }
}

/// Stored once however often it is sent.
fn carrying(id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, id);
    headers
}

fn is_there<T>(found: Result<T, StoreError>) -> Result<bool, StoreError> {
    match found {
        Ok(_) => Ok(true),
        Err(StoreError::Missing) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_deleted(headers: &HeaderMap) -> bool {
    headers
        .get(OPERATION)
        .is_some_and(|operation| operation.as_str() == DELETED)
}

fn fits(value: &[u8]) -> Result<(), ControlError> {
    if value.len() > RECORD_BYTES_MAX {
        return Err(ControlError::TooLarge {
            bytes: value.len(),
            bytes_max: RECORD_BYTES_MAX,
        });
    }
    Ok(())
}

fn said(error: &async_nats::jetstream::Error) -> StoreError {
    match error.error_code() {
        ErrorCode::STREAM_NOT_FOUND => StoreError::Missing,
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
            ControlError::Changed.into()
        }
        // The last: what was sent before is not stored yet, so this is not a second one yet.
        ErrorCode::CLUSTER_NOT_AVAILABLE
        | ErrorCode::CLUSTER_NOT_LEADER
        | ErrorCode::STREAM_OFFLINE
        | ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT => StoreError::Leaderless,
        _ => refused(error),
    }
}

fn refused(cause: impl ToString) -> StoreError {
    let cause = cause.to_string();
    ControlError::Refused { cause }.into()
}
