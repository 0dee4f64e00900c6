//! Records, requests and events of a cluster: who may write, read, ask and hear what, and what is left of it after a server's end.

use crate::cluster::Cluster;
use crate::harness::{JOB, SOON, TestServer, wait_until};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::ids::JobId;
use tilework_nats::limits::{EVENT_BYTES_MAX, RECORD_BYTES_MAX};
use tilework_nats::streams::event_subject;
use tilework_nats::{Bucket, Control, ControlError, Entry, Heard, Role};

const BRIEF: Duration = Duration::from_millis(300);

fn entry(revision: u64, value: &[u8]) -> Option<Entry> {
    let value = value.to_vec();
    Some(Entry { revision, value })
}

fn payloads(events: Vec<(u64, Vec<u8>)>) -> Vec<Vec<u8>> {
    assert!(events.is_sorted_by(|(one, _), (next, _)| one < next));
    events.into_iter().map(|(_, payload)| payload).collect()
}

fn events_of(control: &Control, after: u64, max: usize) -> Vec<Vec<u8>> {
    payloads(control.events_of(JOB, after, max).expect("they are there"))
}

/// Waits for the stream to hold so many events.
fn wait_for_events(control: &Control, n_events: usize) {
    wait_until("all events are stored", SOON, || {
        control
            .events_of(JOB, 0, usize::MAX)
            .is_ok_and(|events| events.len() == n_events)
    });
}

fn next(heard: &Receiver<Heard>) -> (String, Vec<u8>) {
    let Heard { subject, payload } = heard.recv_timeout(SOON).expect("it is heard");
    (subject, payload)
}

#[test]
fn a_record_changes_only_from_the_revision_that_was_read() {
    let server = TestServer::start();
    let driver = server.control(Role::Driver, "d1");
    let other = server.control(Role::Driver, "d2");
    for bucket in [Bucket::Jobs, Bucket::Workers, Bucket::Members, Bucket::Lease] {
        assert_eq!(
            driver.get(bucket, "k.1"),
            Ok(None),
            "the stores are made when they are missing"
        );
        let first = driver.set(bucket, "k.1", b"one", 0).expect("it is new");
        assert_eq!(other.set(bucket, "k.1", b"two", 0), Err(ControlError::Changed));
        let second = other.set(bucket, "k.1", b"two", first).expect("it was read");
        assert_eq!(
            driver.set(bucket, "k.1", b"three", first),
            Err(ControlError::Changed)
        );
        assert_eq!(driver.get(bucket, "k.1"), Ok(entry(second, b"two")));
        let third = driver.put(bucket, "k.1", b"").expect("whatever it was");
        assert!(first < second && second < third);
        assert_eq!(driver.look_up(bucket, "k.1"), Ok(entry(third, b"")));
    }
    driver.create_stores().expect("they exist");
    assert!(driver.is_connected() && driver.n_reconnects() == 0 && driver.role() == Role::Driver);
}

#[test]
fn a_deleted_record_is_no_more() {
    let server = TestServer::start();
    let driver = server.control(Role::Driver, "d1");
    assert_eq!(driver.keys(Bucket::Jobs), Ok(Vec::new()));
    for key in ["c", "a", "b.x"] {
        driver.put(Bucket::Jobs, key, b"1").expect("it is written");
    }
    let heard = driver.listen("tw.kv.jobs.>").expect("it listens");
    driver.delete(Bucket::Jobs, "a").expect("it is there");
    driver
        .delete(Bucket::Jobs, "nothing")
        .expect("nor is this there any more");
    assert_eq!(next(&heard), ("tw.kv.jobs.a".to_owned(), Vec::new()));
    assert_eq!(
        driver.keys(Bucket::Jobs),
        Ok(vec!["b.x".to_owned(), "c".to_owned()])
    );
    assert_eq!(driver.get(Bucket::Jobs, "a"), Ok(None));
    assert_eq!(driver.look_up(Bucket::Jobs, "a"), Ok(None));
    let anew = driver.set(Bucket::Jobs, "a", b"2", 0).expect("it does not exist");
    assert_eq!(driver.get(Bucket::Jobs, "a"), Ok(entry(anew, b"2")));
}

#[test]
fn a_deletion_that_was_cut_short_is_one() {
    let server = TestServer::start();
    let driver = server.control(Role::Driver, "d1");
    driver.put(Bucket::Jobs, "a", b"1").expect("it is written");
    crate::harness::Stranger::connect(&server).publish_deletion("$KV.tw_jobs.a");
    wait_until("the trace is stored", SOON, || {
        driver.get(Bucket::Jobs, "a") == Ok(None)
    });
    assert_eq!(driver.look_up(Bucket::Jobs, "a"), Ok(None));
    driver.set(Bucket::Jobs, "a", b"2", 0).expect("it does not exist");
    assert_eq!(driver.set(Bucket::Jobs, "a", b"3", 0), Err(ControlError::Changed));
}

#[test]
fn keys_and_values_that_no_record_can_have_are_refused_at_once() {
    let server = TestServer::start();
    let driver = server.control(Role::Driver, "d1");
    for key in ["", "*", "a.>", ".a", "a.", "a..b", "a b", "ü"] {
        let refused = driver.put(Bucket::Jobs, key, b"1");
        assert!(
            matches!(refused, Err(ControlError::Refused { .. })),
            "{key}: {refused:?}"
        );
        assert!(driver.look_up(Bucket::Jobs, key).is_err(), "{key}");
    }
    let large = vec![7; RECORD_BYTES_MAX + 1];
    let refused = driver.put(Bucket::Jobs, "a", &large);
    assert!(
        matches!(refused, Err(ControlError::TooLarge { .. })),
        "{refused:?}"
    );
    let refused = driver.request("tw.request.x", vec![7; 2 << 20], SOON);
    assert!(
        matches!(refused, Err(ControlError::TooLarge { .. })),
        "{refused:?}"
    );
}

#[test]
fn the_largest_record_and_event_go_all_ways() {
    let cluster = Cluster::start();
    let (driver, client) = (cluster.control(Role::Driver), cluster.control(Role::Client));
    driver.create_stores().expect("there is room");
    let heard = client.listen("tw.kv.>").expect("it may");
    let key = "k".repeat(64);
    for bucket in [Bucket::Jobs, Bucket::Workers] {
        let value = vec![7; RECORD_BYTES_MAX];
        let revision = driver.put(bucket, &key, &value).expect("it fits");
        assert_eq!(driver.get(bucket, &key), Ok(entry(revision, &value)));
        assert_eq!(client.look_up(bucket, &key), Ok(entry(revision, &value)));
        assert_eq!(next(&heard).1, value);
    }
    driver.publish_event(JOB, vec![1; EVENT_BYTES_MAX + 1]);
    driver.publish_event(JOB, vec![2; EVENT_BYTES_MAX]);
    wait_for_events(&client, 1);
    assert_eq!(events_of(&client, 0, 9), [vec![2; EVENT_BYTES_MAX]]);
}

#[test]
fn each_role_reads_and_hears_what_it_needs_with_least_rights() {
    let cluster = Cluster::start();
    let [driver, worker, client, viewer] = Role::ALL.map(|role| cluster.control(role));
    assert_eq!(
        client.look_up(Bucket::Jobs, "j1"),
        Err(ControlError::NobodyAnswers),
        "no driver was there yet"
    );
    driver.create_stores().expect("there is room");
    let hears = |control: &Control, subject: &str| control.listen(subject).expect("it may");
    let jobs_heard = hears(&worker, "tw.kv.jobs.>");
    let records_heard = [hears(&client, "tw.kv.>"), hears(&viewer, "tw.kv.>")];
    let events = event_subject(JOB);
    let events_heard = [hears(&client, &events), hears(&viewer, "tw.event.>")];

    let job = driver.set(Bucket::Jobs, "j1", b"job", 0).expect("it is new");
    let there = driver.put(Bucket::Workers, "w1", b"there").expect("it is new");
    driver.put(Bucket::Lease, "driver", b"me").expect("it is new");
    driver.publish_event(JobId([8; 16]), b"another job's".to_vec());
    for event in ["one", "two", "three"] {
        driver.publish_event(JOB, event.as_bytes().to_vec());
    }

    for control in [&worker, &client, &viewer] {
        assert_eq!(control.look_up(Bucket::Jobs, "j1"), Ok(entry(job, b"job")));
        assert_eq!(control.look_up(Bucket::Jobs, "j2"), Ok(None));
    }
    assert_eq!(next(&jobs_heard), ("tw.kv.jobs.j1".to_owned(), b"job".to_vec()));
    for (control, heard) in [&client, &viewer].into_iter().zip(&records_heard) {
        assert_eq!(control.look_up(Bucket::Workers, "w1"), Ok(entry(there, b"there")));
        assert_eq!(next(heard).0, "tw.kv.jobs.j1");
        assert_eq!(next(heard), ("tw.kv.workers.w1".to_owned(), b"there".to_vec()));
        assert!(
            heard.recv_timeout(BRIEF).is_err(),
            "the lock is no one's business"
        );
    }
    for event in ["one", "two", "three"] {
        assert_eq!(
            next(&events_heard[0]),
            (events.clone(), event.as_bytes().to_vec())
        );
    }
    for control in [&client, &viewer] {
        wait_for_events(control, 3);
        assert_eq!(events_of(control, 0, 2), [b"one".to_vec(), b"two".to_vec()]);
        let (first, _) = control.events_of(JOB, 0, 1).expect("it is there").remove(0);
        assert_eq!(events_of(control, first, 9), [b"two".to_vec(), b"three".to_vec()]);
        assert_eq!(events_of(control, u64::MAX, 9), [b""; 0]);
    }
}

#[test]
fn requests_are_answered_by_drivers() {
    let cluster = Cluster::start();
    let [driver, worker, client, viewer] = Role::ALL.map(|role| cluster.control(role));
    let asks = [(&client, "tw.request.submit"), (&worker, "tw.join")];
    let nobody_answers = |(control, subject): (&Control, &str)| {
        let start = Instant::now();
        let answer = control.request(subject, b"?".to_vec(), SOON);
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{subject} {:?}",
            start.elapsed()
        );
        answer == Err(ControlError::NobodyAnswers)
    };
    assert!(asks.into_iter().all(nobody_answers));

    let requests = driver.requests().expect("it listens");
    thread::scope(|scope| {
        for (control, subject) in asks {
            let asking = scope.spawn(|| control.request(subject, b"ask".to_vec(), SOON));
            let request = requests.next(SOON).expect("it is asked");
            assert_eq!(
                (request.subject.as_str(), &request.payload[..]),
                (subject, &b"ask"[..])
            );
            let later = scope.spawn(move || request.answer(b"answer".to_vec()));
            later.join().expect("from another thread");
            let answer = asking.join().expect("it returns");
            assert_eq!(answer, Ok(b"answer".to_vec()));
        }
    });
    assert_eq!(
        viewer.request("tw.request.submit", Vec::new(), BRIEF),
        Err(ControlError::Silent),
        "it may not"
    );
    assert!(requests.next(BRIEF).is_none());
    assert_eq!(
        client.request("tw.request.x", Vec::new(), BRIEF),
        Err(ControlError::Silent)
    );
    drop(requests);
    wait_until("nobody listens", SOON, || {
        client.request("tw.request.x", Vec::new(), BRIEF) == Err(ControlError::NobodyAnswers)
    });
    assert!(asks.into_iter().all(nobody_answers));
}

#[test]
fn events_outlive_the_server_and_come_in_order_and_once() {
    let mut server = TestServer::start();
    let (driver, viewer) = (
        server.control(Role::Driver, "d1"),
        server.control(Role::Viewer, "v1"),
    );
    let heard = viewer.listen("tw.event.>").expect("it listens");
    let event = |n: u8| vec![n; 3];
    (0..50).for_each(|n| driver.publish_event(JOB, event(n)));
    assert_eq!(next(&heard).1, event(0));
    server.kill();
    (50..100).for_each(|n| driver.publish_event(JOB, event(n)));
    assert_eq!(
        viewer.request("tw.request.x", Vec::new(), BRIEF),
        Err(ControlError::Silent),
        "the server is away"
    );
    server.start_again();
    wait_for_events(&viewer, 100);
    assert_eq!(
        events_of(&viewer, 0, 200),
        (0..100).map(event).collect::<Vec<_>>()
    );
    let mut last = Vec::new();
    while last != event(99) {
        last = next(&heard).1;
    }
    assert_eq!((driver.n_reconnects(), viewer.n_reconnects()), (1, 1));
}

#[test]
fn records_outlive_the_server_but_for_those_of_workers() {
    let mut server = TestServer::start();
    let driver = server.control(Role::Driver, "d1");
    let job = driver.put(Bucket::Jobs, "j1", b"job").expect("it is new");
    driver.put(Bucket::Workers, "w1", b"there").expect("it is new");
    server.kill();
    server.start_again();
    assert_eq!(driver.get(Bucket::Jobs, "j1"), Ok(entry(job, b"job")));
    assert_eq!(driver.get(Bucket::Workers, "w1"), Ok(None));
}

#[test]
fn stores_that_the_server_lost_are_made_again() {
    let mut server = TestServer::start();
    let (driver, viewer) = (
        server.control(Role::Driver, "d1"),
        server.control(Role::Viewer, "v1"),
    );
    let mut lose = || {
        server.kill();
        server.wipe_store();
        server.start_again();
    };
    driver.put(Bucket::Jobs, "j1", b"job").expect("it is new");
    // The server answers for a missing stream that nobody is there, but not where somebody listens to its subjects.
    let _heard = viewer.listen("tw.event.>").expect("it listens");
    driver.publish_event(JOB, b"before".to_vec());
    wait_for_events(&viewer, 1);
    lose();
    driver
        .put(Bucket::Jobs, "j2", b"job")
        .expect("the bucket is made again");
    assert_eq!(driver.keys(Bucket::Jobs), Ok(vec!["j2".to_owned()]));
    lose();
    driver
        .set(Bucket::Lease, "driver", b"me", 0)
        .expect("the bucket is made again");
    lose();
    assert_eq!(
        driver.set(Bucket::Lease, "driver", b"me", 1),
        Err(ControlError::Changed)
    );
    lose();
    driver.publish_event(JOB, b"event".to_vec());
    wait_for_events(&viewer, 1);
}
