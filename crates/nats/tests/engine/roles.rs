//! What each role may do on a cluster's own server: its work, and nothing else; and nobody without a key.

use crate::harness::{JOB, SOON, attempt, found_server};
use async_nats::jetstream::{self, stream};
use async_nats::{Client, Event};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;
use tilework_core::driver::{DriverEvent, Queue};
use tilework_core::ids::WorkerIdx;
use tilework_core::message::{ToDriver, ToWorker, WorkerReport};
use tilework_core::worker::WorkerEvent;
use tilework_nats::cluster_folder::ClusterPlan;
use tilework_nats::connection::Secret;
use tilework_nats::streams::{TASK_STREAM, task_subject};
use tilework_nats::wire::encode_task;
use tilework_nats::{
    ChildServer, ClusterFolder, ConnectError, JoinFile, NatsDriverPort, NatsOptions, NatsWorkerPort, Role,
};
use tilework_runtime::engine::{DriverPort, WorkerPort};

/// A cluster's folder and its running server.
struct Cluster {
    folder: ClusterFolder,
    _server: ChildServer,
    _dir: TempDir,
}

impl Cluster {
    fn start() -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        // Somebody else may take a port between its being found free and its use.
        for n in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let folder = made(&dir, &format!("cluster{n}"), free);
            if let Ok(server) = ChildServer::of_cluster(&found_server().path, &folder) {
                assert_eq!(server.port(), free.port());
                return Cluster {
                    folder,
                    _server: server,
                    _dir: dir,
                };
            }
        }
        panic!("the server did not start at any of five ports");
    }

    fn join(&self, role: Role) -> JoinFile {
        JoinFile::read(&self.folder.join(role), role).unwrap()
    }

    fn options(&self, role: Role, name: &str) -> NatsOptions {
        NatsOptions::joining(&self.join(role), name)
    }

    fn driver(&self) -> NatsDriverPort {
        NatsDriverPort::connect(&self.options(Role::Driver, "driver")).expect("the driver joins")
    }

    fn worker(&self) -> NatsWorkerPort {
        let options = self.options(Role::Worker, "w0");
        NatsWorkerPort::connect(&options, WorkerIdx(0)).expect("the worker joins")
    }
}

fn made(dir: &TempDir, name: &str, listen: SocketAddr) -> ClusterFolder {
    let plan = ClusterPlan {
        listen,
        hosts: Vec::new(),
    };
    ClusterFolder::init(&dir.path().join(name), &plan).unwrap()
}

/// Somebody with a role's key and no good intentions.
struct Intruder {
    runtime: tokio::runtime::Runtime,
    client: Client,
    errors: Receiver<String>,
}

/// Nobody may say this, so its refusal shows that all before it was judged.
const MARK: &str = "tw.mark";

impl Intruder {
    fn with(join: &JoinFile) -> Intruder {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (to_here, errors) = channel();
        let pem = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(pem.path(), &join.authority).unwrap();
        let client = async_nats::ConnectOptions::with_nkey(join.seed.clone())
            .add_root_certificates(pem.path().to_path_buf())
            .require_tls(true)
            .custom_inbox_prefix(join.role.inboxes())
            .event_callback(move |event| {
                if let Event::ServerError(error) = &event {
                    let _ = to_here.send(error.to_string());
                }
                async {}
            });
        let client = runtime.block_on(client.connect(join.servers.clone())).unwrap();
        Intruder {
            runtime,
            client,
            errors,
        }
    }

    /// Which of these it may publish to.
    fn may_publish<'s>(&self, subjects: &[&'s str]) -> Vec<&'s str> {
        self.allowed(subjects, |subject| {
            self.runtime
                .block_on(self.client.publish(subject.to_owned(), "x".into()))
                .unwrap();
        })
    }

    /// Which of these it may subscribe to.
    fn may_subscribe<'s>(&self, subjects: &[&'s str]) -> Vec<&'s str> {
        self.allowed(subjects, |subject| {
            let subscribed = self.runtime.block_on(self.client.subscribe(subject.to_owned()));
            // Dropping it would take it back before it was judged.
            std::mem::forget(subscribed.unwrap());
        })
    }

    fn allowed<'s>(&self, subjects: &[&'s str], act: impl Fn(&str)) -> Vec<&'s str> {
        subjects.iter().for_each(|subject| act(subject));
        self.runtime
            .block_on(self.client.publish(MARK, "".into()))
            .unwrap();
        let mut refused = Vec::new();
        loop {
            let error = self.errors.recv_timeout(SOON).expect("the mark is refused");
            if error.contains(&format!("\"{MARK}\"")) {
                break;
            }
            refused.push(error);
        }
        let is_refused = |subject: &str| {
            refused
                .iter()
                .any(|error| error.contains(&format!("\"{subject}\"")))
        };
        subjects
            .iter()
            .copied()
            .filter(|subject| !is_refused(subject))
            .collect()
    }
}

#[test]
fn a_task_goes_through_with_least_rights() {
    let cluster = Cluster::start();
    let (mut driver, mut worker) = (cluster.driver(), cluster.worker());
    let joined = ToDriver {
        worker: WorkerIdx(0),
        body: WorkerReport::Joined { memory_bytes: 7 },
    };
    worker.send(joined.clone());
    assert_eq!(driver.next(SOON), Some(DriverEvent::Received(joined)));
    for queue in [Queue::Shared, Queue::Worker(WorkerIdx(0))] {
        let task = attempt(u64::from(queue == Queue::Shared));
        worker.fetch();
        driver.release(task, queue);
        assert_eq!(worker.next(SOON), Some(WorkerEvent::Assigned(task)));
        worker.renew(task);
        worker.ack(task);
    }
    driver.send(WorkerIdx(0), ToWorker::Drain);
    assert_eq!(worker.next(SOON), Some(WorkerEvent::Received(ToWorker::Drain)));
    drop(worker);
    assert_eq!(driver.next(SOON), Some(DriverEvent::WorkerLost(WorkerIdx(0))));
}

#[test]
fn no_role_can_do_anothers_work() {
    let cluster = Cluster::start();
    let _driver = cluster.driver();
    let task = task_subject(JOB, Queue::Shared);
    let api = |verb: &str| format!("$JS.API.{verb}.{TASK_STREAM}");
    let forbidden = [
        task,
        api("STREAM.PURGE"),
        api("STREAM.DELETE"),
        api("STREAM.UPDATE"),
        api("STREAM.MSG.DELETE"),
        api("STREAM.MSG.GET"),
        api("STREAM.SNAPSHOT"),
        api("CONSUMER.CREATE"),
        format!("$JS.API.CONSUMER.CREATE.{TASK_STREAM}.mine.tw.task.>"),
        format!("$JS.API.CONSUMER.DURABLE.CREATE.{TASK_STREAM}.mine"),
        format!("$JS.API.CONSUMER.DELETE.{TASK_STREAM}.q-shared"),
        "$JS.API.STREAM.CREATE.MINE".to_owned(),
        "$KV.tw_jobs.j1".to_owned(),
        "tw.ctl.all".to_owned(),
        "tw.ctl.w.w0".to_owned(),
        "tw.event.forged".to_owned(),
        "tw.kv.jobs.j1".to_owned(),
        "_INBOX.driver.x".to_owned(),
        "_INBOX.worker.w1.x".to_owned(),
        "_INBOX.client.x".to_owned(),
    ];
    let forbidden: Vec<&str> = forbidden.iter().map(String::as_str).collect();
    let overheard = [
        ">",
        "tw.>",
        "tw.task.>",
        "tw.report.*",
        "_INBOX.>",
        "_INBOX.driver.>",
        "$JS.>",
        "$SYS.>",
    ];
    for role in [Role::Worker, Role::Client, Role::Viewer] {
        let intruder = Intruder::with(&cluster.join(role));
        assert_eq!(intruder.may_publish(&forbidden), [""; 0], "{role}");
        assert_eq!(intruder.may_subscribe(&overheard), [""; 0], "{role}");
        let reports = intruder.may_publish(&["tw.report.w0"]);
        assert_eq!(reports.is_empty(), role != Role::Worker, "{role}");
        let inboxes = ["_INBOX.worker.>", "_INBOX.client.>", "_INBOX.viewer.>"];
        let own = [format!("{}.>", role.inboxes())];
        assert_eq!(intruder.may_subscribe(&inboxes), own, "{role}");
    }
}

/// The server answers with its own rights, wherever the request says that the answer goes. Within the account where the work is done
/// an answer can so be stored as a task, as a worker shows; from the others it can't.
#[test]
fn only_within_its_account_can_an_answer_become_a_task() {
    let cluster = Cluster::start();
    let mut driver = cluster.driver();
    let mut worker = cluster.worker();
    let (forged, as_task) = (attempt(9), task_subject(JOB, Queue::Shared));
    let value = encode_task(forged).unwrap();
    let owner = Intruder::with(&cluster.join(Role::Driver));
    owner.runtime.block_on(async {
        let jobs = stream::Config {
            name: "KV_tw_jobs".to_owned(),
            subjects: vec!["$KV.tw_jobs.>".to_owned()],
            allow_direct: true,
            ..stream::Config::default()
        };
        let jetstream = jetstream::new(owner.client.clone());
        jetstream.create_stream(jobs).await.unwrap();
        let stored = jetstream.publish("$KV.tw_jobs.x", value.into()).await.unwrap();
        stored.await.unwrap();
    });
    let ask = |role: Role| {
        let intruder = Intruder::with(&cluster.join(role));
        let asked = "$JS.API.DIRECT.GET.KV_tw_jobs.$KV.tw_jobs.x".to_owned();
        let answer = intruder.client.request(asked.clone(), "".into());
        let answer = intruder.runtime.block_on(answer).expect("it may look this up");
        assert!(!answer.payload.is_empty(), "{role}");
        let publishing = intruder
            .client
            .publish_with_reply(asked, as_task.clone(), "".into());
        intruder.runtime.block_on(publishing).unwrap();
        assert_eq!(intruder.may_publish(&["tw.ping"]), ["tw.ping"], "{role}");
    };
    worker.fetch();
    for role in [Role::Client, Role::Viewer] {
        ask(role);
        assert_eq!(worker.next(Duration::from_secs(1)), None, "{role}");
    }
    ask(Role::Worker);
    assert_eq!(worker.next(SOON), Some(WorkerEvent::Assigned(forged)));
    worker.ack(forged);
    worker.fetch();
    driver.release(attempt(5), Queue::Shared);
    assert_eq!(worker.next(SOON), Some(WorkerEvent::Assigned(attempt(5))));
}

#[test]
fn nobody_joins_without_key_authority_and_tls() {
    let cluster = Cluster::start();
    let _driver = cluster.driver();
    let good = cluster.options(Role::Worker, "w0");
    let other_dir = tempfile::tempdir().unwrap();
    let other = made(&other_dir, "other", "127.0.0.1:4222".parse().unwrap());
    let other = JoinFile::read(&other.join(Role::Worker), Role::Worker).unwrap();
    let plain = good.servers[0].replace("tls://", "nats://");
    for (what, options) in [
        (
            "no key",
            NatsOptions {
                nkey_seed: None,
                ..good.clone()
            },
        ),
        (
            "another cluster's key",
            NatsOptions {
                nkey_seed: Some(Secret(other.seed.clone())),
                ..good.clone()
            },
        ),
        (
            "another authority",
            NatsOptions {
                authority: Some(other.authority.clone()),
                ..good.clone()
            },
        ),
        (
            "the system's authorities",
            NatsOptions {
                authority: None,
                ..good.clone()
            },
        ),
        (
            "plaintext",
            NatsOptions {
                servers: vec![plain],
                authority: None,
                ..good.clone()
            },
        ),
    ] {
        let refused = NatsWorkerPort::connect(&options, WorkerIdx(0));
        assert!(
            matches!(refused, Err(ConnectError::Refused { .. })),
            "{what}: {refused:?}"
        );
    }
    NatsWorkerPort::connect(&good, WorkerIdx(0)).expect("with all of them it does");
}
