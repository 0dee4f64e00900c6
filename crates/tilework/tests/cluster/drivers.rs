//! Drivers are killed: another goes on, now or later.

use crate::cost::Cost;
use crate::harness::{Cluster, Job, MULTIPLY, Process, SLOW, of_kind, recovered, wait_for};
use std::collections::BTreeSet;
use std::time::Duration;
use tilework::cluster::record::unix_ms;

/// The process that drives, of two; the other one stays.
fn leading(job: &mut Job, drivers: [Process; 2]) -> (Process, Process) {
    let name = job.wait_for("the driver's name", |events| {
        of_kind(events, "began").next()?.text.clone()
    });
    let [one, two] = drivers;
    if name.ends_with(&format!("-{}", one.pid())) {
        (one, two)
    } else {
        (two, one)
    }
}

/// What another driver did: it went on with all that was committed, and computed none of it again. `from` is when it could begin.
fn went_on(
    cluster: &Cluster,
    job: &mut Job,
    cost: Cost,
    from: u64,
    committed: &BTreeSet<u64>,
    allowed: Duration,
) {
    let began = job.wait_after("began", from);
    assert!(began.run > 1, "{began:?}");
    let commit = job.wait_after("committed", began.unix_ms);
    let cost = cost.recovered_after(from, commit.unix_ms, allowed);
    let report = cluster.is_right(job);
    cost.tell(cluster, job);
    assert_eq!(report["status"], "done");
    ran_none_again(job, from, committed);
}

fn ran_none_again(job: &mut Job, from: u64, committed: &BTreeSet<u64>) {
    let began = job.wait_after("began", from);
    assert!(began.run > 1, "{began:?}");
    for task in job.started_in(began.run) {
        assert!(
            !committed.contains(&task),
            "task {task} was committed, and ran again"
        );
    }
}

#[test]
fn a_killed_drivers_jobs_go_on_with_another() {
    let cluster = Cluster::start();
    let drivers = [cluster.driver("d1"), cluster.driver("d2")];
    let _workers = [cluster.worker("w1", SLOW), cluster.worker("w2", SLOW)];
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    let (mut leader, _standby) = leading(&mut job, drivers);
    job.wait_for_commits(2);
    let hit = job.wait_for_begun(None);
    let killed = leader.kill();
    cluster.assert_uncommitted(&job, hit);
    let committed = cluster.committed(&job.output);
    let cost = Cost::of("driver-killed", killed).noticed(job.wait_after("began", killed).unix_ms);
    went_on(
        &cluster,
        &mut job,
        cost,
        killed,
        &committed,
        Duration::from_secs(10),
    );
}

#[test]
fn without_a_driver_the_client_says_so_and_waits() {
    let cluster = Cluster::start();
    let mut driver = cluster.driver("d1");
    let _workers = [cluster.worker("w1", SLOW), cluster.worker("w2", SLOW)];
    let mut client = cluster.staying_client("client", &format!("{MULTIPLY} data:/C.npy"));
    let mut job = cluster.running_job("C.npy");
    job.wait_for_commits(2);
    let hit = job.wait_for_begun(None);
    let killed = driver.kill();
    cluster.assert_uncommitted(&job, hit);
    client.wait_until_said("the cluster has no driver");
    let said = unix_ms();
    println!("no driver: said after {:.1} s", (said - killed) as f64 / 1e3);
    let _next = cluster.driver("d2");
    // It knows nothing of the lease yet, and waits for all of it.
    let started = unix_ms();
    let committed = cluster.committed(&job.output);
    went_on(
        &cluster,
        &mut job,
        Cost::of("no-driver", killed).noticed(said),
        started,
        &committed,
        Duration::from_secs(12),
    );
    assert_eq!(client.end().code(), Some(0), "{}", client.said());
    assert!(client.said().contains("the job goes on"), "{}", client.said());
}

#[test]
fn a_driver_and_a_worker_die_at_once() {
    let cluster = Cluster::start();
    let drivers = [cluster.driver("d1"), cluster.driver("d2")];
    let mut victim = cluster.worker("w1", SLOW);
    let _other = cluster.worker("w2", SLOW);
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    let (mut leader, _standby) = leading(&mut job, drivers);
    job.wait_for_commits(2);
    let hit = job.wait_for_begun(Some(victim.number()));
    let killed = leader.kill();
    victim.kill();
    cluster.assert_uncommitted(&job, hit);
    let committed = cluster.committed(&job.output);
    let commit = job.wait_for_commit(hit.task, Some(hit.worker));
    let cost = Cost::of("driver-and-worker-killed", killed)
        .noticed(job.wait_after("began", killed).unix_ms)
        .recovered(commit.unix_ms, Duration::from_secs(20));
    cluster.is_right(&job);
    cost.tell(&cluster, &mut job);
    ran_none_again(&mut job, killed, &committed);
}

#[test]
fn two_jobs_are_handed_over_in_good_order() {
    let cluster = Cluster::start();
    let drivers = [cluster.driver("d1"), cluster.driver("d2")];
    let _workers = [cluster.worker("w1", SLOW), cluster.worker("w2", SLOW)];
    let mut jobs = ["C.npy", "D.npy"].map(|output| cluster.submit(&format!("{MULTIPLY} data:/{output}")));
    let (mut leader, _standby) = leading(&mut jobs[0], drivers);
    for job in &mut jobs {
        job.wait_for_commits(1);
    }
    leader.signal(rustix::process::Signal::TERM);
    let told = unix_ms();
    assert_eq!(leader.end().code(), Some(0), "{}", leader.said());
    for job in &mut jobs {
        let began = job.wait_after("began", told);
        // A lease that is not given up is good for 4 s at least: it was renewed within the last 2.
        let allowed = Duration::from_millis(3500);
        recovered("driver handed over", told, began.unix_ms, allowed);
    }
    for job in &mut jobs {
        cluster.is_right(job);
    }
    wait_for("both are done on the board", || {
        let mut states = jobs.iter().map(|job| job.on_board().map(|shown| shown.state));
        states.all(|state| state.as_deref() == Some("done")).then_some(())
    });
}
