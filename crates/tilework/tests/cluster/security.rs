//! What a worker's or a client's key can't do to a job, though its requests and reports are heard.

use crate::harness::{Cluster, MULTIPLY, SLOW, of_kind};
use std::time::Duration;
use tilework::cluster::protocol::{CANCEL, PING, Ping, Pong, SUBMIT, ask, read_answer};
use tilework_core::ids::{Attempt, AttemptNo, JobId, RoundIdx, RunEpoch, TaskIdx, WorkerIdx};
use tilework_core::message::{JobAttempt, ToDriver, WorkerReport};
use tilework_nats::streams::job_of_token;
use tilework_nats::{Control, NatsWorkerPort, Role};
use tilework_runtime::engine::WorkerPort;

const WAIT: Duration = Duration::from_secs(10);

/// A commit is a record in the journal: whoever says that there is one, in whatever name, is believed only if it is there.
#[test]
fn what_is_reported_in_another_workers_name_commits_nothing() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let worker = cluster.worker("w1", SLOW);
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    let begun = job.wait_for_begun(None);
    let shown = job.on_board().expect("the job is on the board");
    let id: JobId = job_of_token(&job.id).unwrap();
    let named = WorkerIdx(worker.number());
    let mut impostor =
        NatsWorkerPort::connect(&cluster.options(Role::Worker, "impostor"), named).expect("it joins");
    for task in (0..shown.tasks).filter(|task| *task != begun.task) {
        let attempt = Attempt {
            epoch: RunEpoch(shown.run),
            round: RoundIdx(0),
            task: TaskIdx(task),
            attempt: AttemptNo(0),
        };
        let body = WorkerReport::Committed(JobAttempt { job: id, attempt });
        impostor.send(ToDriver { worker: named, body });
    }
    job.wait_for("the forged reports", |events| {
        (of_kind(events, "committed").count() as u64 >= shown.tasks - 1).then_some(())
    });
    assert!(
        (cluster.committed(&job.output).len() as u64) < shown.tasks,
        "the forgery came before the end"
    );
    cluster.is_right(&job);
    let alarms: Vec<String> = of_kind(job.all_events(), "alarm")
        .filter_map(|event| event.text.clone())
        .collect();
    assert!(
        alarms
            .iter()
            .any(|text| text.contains("journal does not have them")),
        "{alarms:?}"
    );
    // Its end would be the worker's, whose name it has.
    std::mem::forget(impostor);
}

#[test]
fn requests_that_make_no_sense_are_refused_and_the_driver_goes_on() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let _worker = cluster.worker("w1", "");
    let client = Control::connect(&cluster.options(Role::Client, "client")).expect("it joins");
    let other_release = br#"{"tilework":"0.0.1-other","body":{}}"#.to_vec();
    for subject in [SUBMIT, CANCEL, PING, "tw.request.plan", "tw.request.unheard-of"] {
        for payload in [
            b"".to_vec(),
            b"{".to_vec(),
            vec![0xff; 100],
            vec![b' '; 512 * 1024],
            other_release.clone(),
            br#"{"tilework":1,"body":[]}"#.to_vec(),
        ] {
            let answered = client.request(subject, payload, WAIT).expect("an answer");
            let refused = read_answer::<serde_json::Value>(&answered).expect_err(subject);
            assert_eq!(refused.exit.code(), 2, "{subject}: {refused:?}");
        }
    }
    let answered = client.request(PING, ask(Ping::ASKED), WAIT).expect("an answer");
    read_answer::<Pong>(&answered).expect("the driver is there");
    let job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    cluster.is_right(&job);
}
