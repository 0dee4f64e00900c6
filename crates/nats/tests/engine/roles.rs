//! What each role may do on a cluster's own server: its work, and nothing else; and nobody without a key.

use crate::cluster::{Cluster, Intruder, made};
use crate::harness::{JOB, SOON, TestServer, attempt};
use async_nats::jetstream::{self, stream};
use std::time::{Duration, Instant};
use tilework_core::driver::{DriverEvent, Queue};
use tilework_core::ids::WorkerIdx;
use tilework_core::message::{ToDriver, ToWorker, WorkerReport};
use tilework_core::worker::WorkerEvent;
use tilework_nats::connection::Secret;
use tilework_nats::streams::{TASK_STREAM, task_subject};
use tilework_nats::wire::encode_task;
use tilework_nats::{Came, ConnectError, Control, JoinFile, NatsOptions, NatsWorkerPort, Role};
use tilework_runtime::engine::{DriverPort, WorkerPort};

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
    // It asked before it left: what is released now must not be sent to it any more.
    worker.fetch();
    drop(worker);
    assert_eq!(driver.next(SOON), Some(DriverEvent::WorkerLost(WorkerIdx(0))));
    let mut next = cluster.worker();
    driver.release(attempt(2), Queue::Shared);
    let released = Instant::now();
    next.fetch();
    assert_eq!(next.next(SOON), Some(WorkerEvent::Assigned(attempt(2))));
    assert!(
        released.elapsed() < Duration::from_secs(2),
        "{:?}",
        released.elapsed()
    );
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
        "$KV.tw_workers.w0".to_owned(),
        "$KV.tw_lease.driver".to_owned(),
        "$KV.tw_members.next-worker".to_owned(),
        "$JS.API.DIRECT.GET.KV_tw_members.$KV.tw_members.next-worker".to_owned(),
        "$JS.API.DIRECT.GET.KV_tw_lease.$KV.tw_lease.driver".to_owned(),
        "$JS.API.STREAM.MSG.GET.KV_tw_jobs".to_owned(),
        "$JS.API.STREAM.DELETE.TW_EVENTS".to_owned(),
        "$JS.API.STREAM.PURGE.KV_tw_jobs".to_owned(),
        "tw.ctl.all".to_owned(),
        "tw.ctl.w.w0".to_owned(),
        "tw.event.forged".to_owned(),
        "tw.kv.workers.w0".to_owned(),
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
        "tw.request.>",
        "tw.join",
        "$KV.>",
        "_INBOX.>",
        "_INBOX.driver.>",
        "$JS.>",
        "$SYS.>",
    ];
    for role in [Role::Worker, Role::Client, Role::Viewer] {
        let intruder = Intruder::with(&cluster.join(role));
        assert_eq!(intruder.may_publish(&forbidden), [""; 0], "{role}");
        assert_eq!(intruder.may_subscribe(&overheard), [""; 0], "{role}");
        for (subject, speakers) in [
            ("tw.report.w0", &[Role::Worker][..]),
            ("tw.join", &[Role::Worker]),
            ("tw.request.x", &[Role::Client]),
            ("$JS.API.DIRECT.GET.TW_EVENTS", &[Role::Client, Role::Viewer]),
            (
                "$JS.API.DIRECT.GET.KV_tw_workers.$KV.tw_workers.w0",
                &[Role::Client, Role::Viewer],
            ),
        ] {
            let may = !intruder.may_publish(&[subject]).is_empty();
            assert_eq!(may, speakers.contains(&role), "{role} {subject}");
        }
        let inboxes = ["_INBOX.worker.>", "_INBOX.client.>", "_INBOX.viewer.>"];
        let own = [format!("{}.>", role.inboxes())];
        assert_eq!(intruder.may_subscribe(&inboxes), own, "{role}");
    }
}

/// The server answers with its own rights, wherever the request says that the answer goes, but within the account of who asked.
#[test]
fn an_answer_becomes_no_task() {
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
    for role in [Role::Worker, Role::Client, Role::Viewer] {
        ask(role);
        assert_eq!(worker.next(Duration::from_secs(1)), None, "{role}");
    }
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

#[test]
fn each_role_finds_its_rights_and_no_others() {
    let cluster = Cluster::start();
    let _driver = cluster.driver();
    for role in [Role::Worker, Role::Client, Role::Viewer] {
        let control = cluster.control(role);
        let rights = control.try_rights().unwrap();
        assert!(rights.iter().any(|right| right.is_due) && rights.iter().any(|right| !right.is_due));
        for right in rights {
            assert_eq!(right.is_due, right.is_had, "{role}: {right}");
        }
    }
    assert_eq!(cluster.control(Role::Driver).try_rights(), Ok(Vec::new()));
}

#[test]
fn a_server_without_roles_shows_rights_that_nobody_should_have() {
    let server = TestServer::start();
    let rights = server.control(Role::Viewer, "viewer").try_rights().unwrap();
    assert!(rights.iter().all(|right| right.is_had), "{rights:?}");
    assert!(rights.iter().any(|right| !right.is_due));
}

#[test]
fn stores_are_seen_once_a_driver_has_made_them() {
    let cluster = Cluster::start();
    let roles = [Role::Driver, Role::Worker, Role::Client, Role::Viewer];
    let n_there = |role| {
        let seen = cluster.control(role).stores_seen().unwrap();
        (seen.iter().filter(|(_, is_there)| *is_there).count(), seen.len())
    };
    assert_eq!(roles.map(n_there), [(0, 6), (0, 1), (0, 3), (0, 3)]);
    let _driver = cluster.driver();
    cluster.control(Role::Driver).create_stores().unwrap();
    assert_eq!(roles.map(n_there), [(6, 6), (1, 1), (3, 3), (3, 3)]);
}

#[test]
fn a_join_that_fails_says_how_far_it_came() {
    let (cluster, other) = (Cluster::start(), Cluster::start());
    let came = |join: &JoinFile| {
        Control::connect(&NatsOptions::joining(join, "c"))
            .unwrap_err()
            .came()
    };
    let join = cluster.join(Role::Client);
    let of_other = other.join(Role::Client);
    let (mut untrusted, mut unknown) = (join.clone(), join.clone());
    untrusted.authority = of_other.authority;
    assert_eq!(came(&untrusted), Came::ToTheServer);
    unknown.seed = of_other.seed;
    assert_eq!(came(&unknown), Came::ToTheLock);
    drop(cluster);
    assert_eq!(came(&join), Came::Nowhere);
}
