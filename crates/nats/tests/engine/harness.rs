//! A nats-server of the test's own, and ports to it.

use futures_util::StreamExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tilework_core::driver::DriverEvent;
use tilework_core::ids::{Attempt, AttemptNo, JobId, RoundIdx, RunEpoch, TaskIdx, WorkerIdx};
use tilework_core::message::{JobAttempt, ToDriver, WorkerReport};
use tilework_core::worker::WorkerEvent;
use tilework_nats::server::{FoundServer, Places};
use tilework_nats::streams::TASK_STREAM;
use tilework_nats::{ChildServer, Control, NatsDriverPort, NatsOptions, NatsWorkerPort, Role, ServerConfig};
use tilework_runtime::engine::{DriverPort, WorkerPort};

/// Long enough for whatever must happen.
pub(crate) const SOON: Duration = Duration::from_secs(15);
/// Redelivery in these tests.
pub(crate) const ACK_WAIT: Duration = Duration::from_secs(2);

/// The server that `cargo xtask nats-server` found or installed.
pub(crate) fn found_server() -> FoundServer {
    let mut places = Places::from_env();
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools/nats-server");
    places.also.push(tools.join("bin/nats-server"));
    places
        .find()
        .unwrap_or_else(|error| panic!("{error}, or let `cargo xtask nats-server` install one for the tests"))
}

/// A server and its folder, both gone at the end of the test.
pub(crate) struct TestServer {
    child: Option<ChildServer>,
    config: ServerConfig,
    _folder: TempDir,
}

impl TestServer {
    pub(crate) fn start() -> TestServer {
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = TestServer {
            child: None,
            config: ServerConfig::in_folder(folder.path()),
            _folder: folder,
        };
        server.start_again();
        server
    }

    /// Starts it with its old store, at its old port.
    pub(crate) fn start_again(&mut self) {
        let start = || ChildServer::start(&found_server().path, &self.config);
        // Its old port may be somebody's outgoing one for a moment.
        let again = |_| {
            thread::sleep(Duration::from_secs(1)); // waits: for a port that is in use
            start()
        };
        let child = start().or_else(again).expect("the server starts");
        self.config.port = Some(child.port());
        self.child = Some(child);
    }

    pub(crate) fn kill(&mut self) {
        self.child.take().expect("it runs").kill();
    }

    /// Takes away all that a killed server had stored.
    pub(crate) fn wipe_store(&self) {
        std::fs::remove_dir_all(self.config.folder.join("store")).expect("it had a store");
    }

    pub(crate) fn options(&self, role: Role, name: &str) -> NatsOptions {
        let port = self.config.port.expect("it was started");
        NatsOptions {
            ack_wait: ACK_WAIT,
            ..NatsOptions::single(format!("nats://127.0.0.1:{port}"), role, name)
        }
    }

    pub(crate) fn control(&self, role: Role, name: &str) -> Control {
        Control::connect(&self.options(role, name)).expect("it connects")
    }

    pub(crate) fn driver(&self) -> NatsDriverPort {
        NatsDriverPort::connect(&self.options(Role::Driver, "driver")).expect("the driver connects")
    }

    pub(crate) fn worker(&self, worker: u32) -> NatsWorkerPort {
        let options = self.options(Role::Worker, &format!("w{worker}"));
        NatsWorkerPort::connect(&options, WorkerIdx(worker)).expect("the worker connects")
    }
}

pub(crate) const JOB: JobId = JobId([7; 16]);

pub(crate) fn attempt(task: u64) -> JobAttempt {
    JobAttempt {
        job: JOB,
        attempt: Attempt {
            epoch: RunEpoch(1),
            round: RoundIdx(0),
            task: TaskIdx(task),
            attempt: AttemptNo(0),
        },
    }
}

/// Waits for the event that `wanted` names, and lets others pass.
pub(crate) fn wait_for<E: std::fmt::Debug>(
    mut next: impl FnMut(Duration) -> Option<E>,
    wanted: impl Fn(&E) -> bool,
) -> E {
    let until = Instant::now() + SOON;
    let mut passed = Vec::new();
    while let Some(event) = next(until.saturating_duration_since(Instant::now())) {
        if wanted(&event) {
            return event;
        }
        passed.push(event);
    }
    panic!("it did not come within {SOON:?}, but {passed:?}");
}

/// Waits until `is_so`.
pub(crate) fn wait_until(what: &str, within: Duration, is_so: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        thread::sleep(Duration::from_millis(10)); // waits: for another process or thread
    }
    start.elapsed()
}

/// Takes one task: asks and waits.
pub(crate) fn take(worker: &mut NatsWorkerPort) -> JobAttempt {
    worker.fetch();
    let event = wait_for(
        |timeout| worker.next(timeout),
        |event| matches!(event, WorkerEvent::Assigned(_)),
    );
    match event {
        WorkerEvent::Assigned(attempt) => attempt,
        other => unreachable!("{other:?}"),
    }
}

/// Says something, and hears it at the driver.
pub(crate) fn says(driver: &mut NatsDriverPort, worker: &mut NatsWorkerPort, body: WorkerReport) {
    let message = ToDriver {
        worker: worker.worker(),
        body,
    };
    worker.send(message.clone());
    let heard = DriverEvent::Received(message);
    wait_for(|timeout| driver.next(timeout), |event| *event == heard);
}

/// A plain client without any of our rules, for what only a stranger would send.
pub(crate) struct Stranger {
    runtime: tokio::runtime::Runtime,
    client: async_nats::Client,
}

impl Stranger {
    pub(crate) fn connect(server: &TestServer) -> Stranger {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads");
        let url = server.options(Role::Worker, "stranger").servers.remove(0);
        let client = runtime.block_on(async_nats::connect(url)).expect("it connects");
        Stranger { runtime, client }
    }

    pub(crate) fn publish(&self, subject: &str, payload: impl Into<Vec<u8>>) {
        let payload = payload.into().into();
        let sending = async {
            self.client.publish(subject.to_string(), payload).await?;
            self.client.flush().await?;
            Ok::<(), async_nats::Error>(())
        };
        self.runtime.block_on(sending).expect("it is sent");
    }

    /// Does the first half of a record's deletion.
    pub(crate) fn publish_deletion(&self, subject: &str) {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("KV-Operation", "DEL");
        let sending = async {
            let publishing = self
                .client
                .publish_with_headers(subject.to_string(), headers, "".into());
            publishing.await?;
            self.client.flush().await?;
            Ok::<(), async_nats::Error>(())
        };
        self.runtime.block_on(sending).expect("it is sent");
    }

    /// Listens to `subject` while `asking` makes someone ask there, and answers what was asked.
    pub(crate) fn answer_next_request(&self, subject: &str, answer: Vec<u8>, asking: impl FnOnce()) {
        let listening = async {
            let requests = self.client.subscribe(subject.to_string()).await?;
            self.client.flush().await?;
            // The server has heard of it when it answers anything.
            async_nats::jetstream::new(self.client.clone())
                .query_account()
                .await?;
            Ok::<_, async_nats::Error>(requests)
        };
        let mut requests = self.runtime.block_on(listening).expect("it listens");
        asking();
        let next = async { tokio::time::timeout(SOON, requests.next()).await };
        let request = self
            .runtime
            .block_on(next)
            .expect("someone asks")
            .expect("a request");
        self.publish(&request.reply.expect("where to answer"), answer);
    }

    /// Messages in the task stream, and consumers of it.
    pub(crate) fn stream_counts(&self) -> (u64, usize) {
        let jetstream = async {
            let context = async_nats::jetstream::new(self.client.clone());
            let stream = context.get_stream(TASK_STREAM).await?;
            let state = &stream.cached_info().state;
            Ok::<_, async_nats::Error>((state.messages, state.consumer_count))
        };
        self.runtime.block_on(jetstream).expect("the stream is there")
    }

    /// Waits until the stream holds so much.
    pub(crate) fn wait_for_counts(&self, n_messages: u64, n_consumers: usize) {
        let until = Instant::now() + SOON;
        while self.stream_counts() != (n_messages, n_consumers) {
            assert!(Instant::now() < until, "{:?}", self.stream_counts());
            thread::sleep(Duration::from_millis(20)); // waits: an acknowledgement to reach the stream
        }
    }
}
