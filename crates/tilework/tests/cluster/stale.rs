//! A worker wakes up in a world that has moved on: what it still does must not reach the next job's output.

use crate::cost::Cost;
use crate::harness::{Cluster, Job, MULTIPLY, Process, SLOW, of_kind, recovered, wait_for};
use crate::proxy::Proxy;
use rustix::process::Signal;
use std::thread;
use std::time::Duration;
use tilework::cluster::events::JobEvent;
use tilework::cluster::record::unix_ms;
use tilework_nats::Role;

/// Bytes of the answers that there is no task yet, at least; those of a ping are fewer.
const NO_TASK_BYTES: u64 = 100;
/// In which time they come together, and the worker asks anew.
const ASK: Duration = Duration::from_millis(40);

/// What two idle workers are sent first.
const FIRST_TASKS: [u64; 2] = [0, 1];

/// A cluster with a third matrix, of A's extents.
fn start() -> Cluster {
    let cluster = Cluster::start();
    cluster
        .stage
        .succeed("generate normal 1200x300 -o data/A2.npy --seed 3");
    cluster
}

/// Waits until an idle worker has heard that there is no task, and has asked again.
fn wait_for_ask(proxy: &Proxy) {
    let mut n_before = proxy.n_answer_bytes();
    wait_for("an answer that there is no task", || {
        thread::sleep(ASK); // waits: answers that belong together
        let n_now = proxy.n_answer_bytes();
        let n_new = n_now - std::mem::replace(&mut n_before, n_now);
        (n_new >= NO_TASK_BYTES).then_some(())
    });
    thread::sleep(ASK); // waits: the worker asks again
}

/// Cancels `job`, computes another product to the same output, and wakes `stopped` while that runs, after it has committed `tasks`: what is
/// written to their tiles from then on is harm that no later attempt undoes.
fn move_on_and_wake(cluster: &Cluster, job: &mut Job, stopped: &Process, tasks: &[u64]) -> MovedOn {
    let mut watcher = cluster.staying_client("watcher", &format!("watch {}", job.id));
    let asked = unix_ms();
    let cancelled = cluster.succeed(&format!("cancel {}", job.id));
    assert_eq!(cancelled["state"], "cancelled");
    recovered(
        "cancelled with a stopped worker",
        asked,
        unix_ms(),
        Duration::from_secs(9),
    );
    assert_eq!(watcher.end().code(), Some(7), "{}", watcher.said());
    let other = "multiply data:/A2.npy data:/B.npy -o data:/C.npy";
    let refused = cluster.fail(other, 2);
    assert!(
        refused["next"].as_str().unwrap().contains("--restart"),
        "{refused}"
    );
    let mut next = cluster.submit(&format!("{other} --restart"));
    for &task in tasks {
        next.wait_for_commit(task, None);
    }
    let hit = next.wait_for_begun(None);
    stopped.signal(Signal::CONT);
    let woken = unix_ms();
    cluster.assert_uncommitted(&next, hit);
    cluster.report(&next);
    cluster.has_product_of("A2.npy", "B.npy", "C.npy");
    let ended = job.wait_for("how the woken worker's task of the old job ended", |events| {
        let is_its = |event: &&JobEvent| {
            event.worker == Some(stopped.number())
                && event.unix_ms >= woken
                && !["took", "started"].contains(&event.what.as_str())
        };
        events.iter().find(is_its).cloned()
    });
    println!("the woken worker: {ended:?}");
    MovedOn { woken, ended, next }
}

/// What came of it.
struct MovedOn {
    woken: u64,
    /// What the woken worker said at last of its task of the old job.
    ended: JobEvent,
    next: Job,
}

#[test]
fn a_worker_that_slept_over_a_cancel_does_not_touch_the_next_job() {
    let cluster = start();
    let _driver = cluster.driver("driver");
    let stopped = cluster.worker("stopped", SLOW);
    let _other = cluster.worker("other", SLOW);
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    job.wait_for_commits(1);
    let hit = job.wait_for_begun(Some(stopped.number()));
    stopped.signal(Signal::STOP);
    cluster.assert_uncommitted(&job, hit);
    let MovedOn { woken, mut next, .. } = move_on_and_wake(&cluster, &mut job, &stopped, &[hit.task]);
    // It is there for the next one.
    let mut third = cluster.submit(&format!("{MULTIPLY} data:/D.npy"));
    let is_its = |event: &&JobEvent| event.worker == Some(hit.worker) && event.unix_ms >= woken;
    let commit = third.wait_for("a commit of the woken worker", |events| {
        of_kind(events, "committed").find(is_its).cloned()
    });
    cluster.is_right(&third);
    let in_next = of_kind(next.all_events(), "committed").find(is_its).cloned();
    let back = in_next.unwrap_or(commit).unix_ms;
    Cost::of("worker-woke-later", woken)
        .recovered(back, Duration::from_secs(30))
        .tell(&cluster, &mut next);
}

#[test]
fn a_worker_that_slept_before_it_opened_the_output_does_not_open_the_next_jobs() {
    let cluster = start();
    let _driver = cluster.driver("driver");
    let proxy = Proxy::to(cluster.port());
    let join = cluster.join_through(Role::Worker, proxy.port());
    let joins = format!("--cluster {} --data-root data=data", join.display());
    let stopped = cluster.worker_with("stopped", SLOW, &joins);
    let _other = cluster.worker("other", SLOW);
    // It has just asked for a task, which is sent to it while it sleeps.
    wait_for_ask(&proxy);
    stopped.signal(Signal::STOP);
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    job.wait_for_begun(None);
    let MovedOn { ended, .. } = move_on_and_wake(&cluster, &mut job, &stopped, &FIRST_TASKS);
    assert!(ended.task.is_some_and(|task| FIRST_TASKS.contains(&task)));
    assert_ne!(ended.what, "committed");
}

#[test]
fn a_job_whose_files_were_removed_is_computed_anew() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let _worker = cluster.worker("w1", "");
    for _ in 0..2 {
        // The same job both times, and the worker has it open still.
        let job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
        cluster.is_right(&job);
        std::fs::remove_file(cluster.data("C.npy")).unwrap();
        std::fs::remove_dir_all(cluster.data("C.npy.tilework")).unwrap();
    }
}
