//! Which worker has which number: as drivers keep it, and what becomes of it.

use crate::harness::Cluster;
use rustix::process::Signal;
use std::time::Duration;
use tilework::cluster::numbers::{AdmitError, HeardNumbers, admit, admitted, dismiss};
use tilework::cluster::protocol::{JOIN, Join, Welcome, ask, read_answer};
use tilework_core::ids::WorkerIdx;
use tilework_nats::{Bucket, Control, Role};

const WAIT: Duration = Duration::from_secs(10);

fn join(pid: u32, worker: Option<u32>) -> Join {
    Join {
        tilework: tilework::cluster::TILEWORK.to_owned(),
        host: "h".to_owned(),
        pid,
        threads: 1,
        memory_bytes: 1 << 24,
        data_roots: vec!["data".to_owned()],
        started_unix_ms: 1,
        worker,
        kinds: Vec::new(),
    }
}

#[test]
fn a_number_is_nobody_elses_and_there_are_so_many() {
    const MAX: usize = 3;
    let cluster = Cluster::start();
    let driver = Control::connect(&cluster.options(Role::Driver, "d1")).expect("it joins");
    let heard = HeardNumbers::default();
    let numbered = |heard: &HeardNumbers, join: &Join| admit(&driver, heard, join, MAX);
    assert_eq!(numbered(&heard, &join(10, None)), Ok(WorkerIdx(0)));
    assert_eq!(numbered(&heard, &join(11, None)), Ok(WorkerIdx(1)));
    // One that was there before the store was lost, and says so.
    assert_eq!(numbered(&heard, &join(12, Some(2))), Ok(WorkerIdx(2)));
    assert_eq!(
        numbered(&heard, &join(10, Some(0))),
        Ok(WorkerIdx(0)),
        "it has it"
    );
    let full = AdmitError::Full {
        known: MAX,
        known_max: MAX,
    };
    assert_eq!(numbered(&heard, &join(13, None)), Err(full.clone()));
    assert_eq!(numbered(&heard, &join(13, Some(9))), Err(full));
    assert_eq!(dismiss(&driver, [WorkerIdx(0)]), []);
    // 2 was claimed: the next one is 3, also where only the records tell.
    assert_eq!(
        numbered(&heard, &join(13, Some(1))),
        Ok(WorkerIdx(3)),
        "1 is taken"
    );
    let numbers: Vec<WorkerIdx> = admitted(&driver, &|| ())
        .expect("it answers")
        .into_keys()
        .collect();
    assert_eq!(numbers, [1, 2, 3].map(WorkerIdx));
    for worker in [1, 2, 3] {
        assert_eq!(dismiss(&driver, [WorkerIdx(worker)]), []);
    }
    assert_eq!(
        numbered(&HeardNumbers::default(), &join(14, None)),
        Ok(WorkerIdx(4))
    );
    // All records are gone, and a worker was heard that has not said its number yet.
    driver.delete(Bucket::Members, "next-worker").expect("it answers");
    heard.hear(WorkerIdx(8));
    assert_eq!(numbered(&heard, &join(15, None)), Ok(WorkerIdx(9)));
}

#[test]
fn a_worker_that_says_too_much_of_itself_is_refused_by_name() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let _worker = cluster.worker("w1", "");
    let worker = Control::connect(&cluster.options(Role::Worker, "w")).expect("it joins");
    let told =
        |join: Join| read_answer::<Welcome>(&worker.request(JOIN, ask(join), WAIT).expect("an answer"));
    let refused = told(Join {
        host: "h".repeat(60_000),
        ..join(1, None)
    });
    let refused = refused.expect_err("nobody has such a host");
    assert!(
        refused.message.contains("a host name of 60000 bytes"),
        "{refused:?}"
    );
    assert_eq!(told(join(1, None)), Ok(Welcome { worker: 1 }));
}

#[test]
fn what_is_kept_of_a_worker_that_left_goes_with_the_driver() {
    let cluster = Cluster::start();
    let records = Control::connect(&cluster.options(Role::Driver, "d1")).expect("it joins");
    let mut driver = cluster.driver("driver");
    let mut workers = [cluster.worker("w1", ""), cluster.worker("w2", "")];
    let known = || {
        admitted(&records, &|| ())
            .expect("it answers")
            .into_keys()
            .collect::<Vec<_>>()
    };
    assert_eq!(known(), [WorkerIdx(0), WorkerIdx(1)]);
    workers[0].signal(Signal::TERM);
    assert_eq!(workers[0].end().code(), Some(0), "{}", workers[0].said());
    driver.signal(Signal::TERM);
    assert_eq!(driver.end().code(), Some(0), "{}", driver.said());
    assert_eq!(known(), [WorkerIdx(1)]);
}
