//! The nats-server is killed, and comes back with all that it kept, or with nothing.

use crate::cost::Cost;
use crate::harness::{Cluster, MULTIPLY, SLOW, wait_for};
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;
use tilework::cluster::record::unix_ms;

#[test]
fn a_killed_server_comes_back_with_what_it_kept() {
    let mut cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let _workers = [cluster.worker("w1", SLOW), cluster.worker("w2", SLOW)];
    let mut client = cluster.staying_client("client", &format!("{MULTIPLY} data:/C.npy"));
    let mut job = cluster.running_job("C.npy");
    job.wait_for_commits(2);
    let hit = job.wait_for_begun(None);
    cluster.kill_server();
    let killed = unix_ms();
    cluster.assert_uncommitted(&job, hit);
    // What is in hand is finished without the server.
    wait_for("the task's commit in the journal", || {
        cluster.committed(&job.output).contains(&hit.task).then_some(())
    });
    cluster.start_server();
    let back = unix_ms();
    let started = job.wait_after("started", back);
    let cost =
        Cost::of("server-killed", killed).recovered_after(back, started.unix_ms, Duration::from_secs(5));
    cluster.is_right(&job);
    cost.tell(&cluster, &mut job);
    assert_eq!(client.end().code(), Some(0), "{}", client.said());
}

#[test]
fn everything_is_killed_at_once_and_goes_on_once_it_is_started_again() {
    let mut cluster = Cluster::start();
    let mut driver = cluster.driver("d1");
    let mut workers = [cluster.worker("w1", SLOW), cluster.worker("w2", SLOW)];
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    job.wait_for_commits(2);
    let hit = job.wait_for_begun(None);
    cluster.kill_server();
    let killed = driver.kill();
    for worker in &mut workers {
        worker.kill();
    }
    cluster.assert_uncommitted(&job, hit);
    let committed = cluster.committed(&job.output);
    cluster.start_server();
    let back = unix_ms();
    let _driver = cluster.driver("d2");
    let _workers = [cluster.worker("w3", SLOW), cluster.worker("w4", SLOW)];
    let began = job.wait_after("began", back);
    assert!(began.run > 1, "{began:?}");
    let commit = job.wait_for_commit(hit.task, Some(hit.worker));
    let cost = Cost::of("power-lost", killed).recovered_after(back, commit.unix_ms, Duration::from_secs(20));
    let report = cluster.is_right(&job);
    assert!(
        report["tasks_resumed"].as_u64() >= Some(committed.len() as u64),
        "{report}"
    );
    cost.tell(&cluster, &mut job);
}

#[test]
fn all_of_nats_is_lost_and_the_journal_has_everything() {
    all_of_nats_is_lost(true);
}

#[test]
fn a_driver_outlives_the_loss_of_all_of_nats() {
    all_of_nats_is_lost(false);
}

fn all_of_nats_is_lost(with_its_driver: bool) {
    let mut cluster = Cluster::start();
    let mut driver = cluster.driver("d1");
    let mut workers = [cluster.worker("w1", SLOW), cluster.worker("w2", SLOW)];
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    let watcher = (!with_its_driver).then(|| cluster.staying_client("watcher", &format!("watch {}", job.id)));
    job.wait_for_commits(2);
    let hit = job.wait_for_begun(None);
    cluster.kill_server();
    let lost = unix_ms();
    if with_its_driver {
        driver.kill();
    }
    cluster.assert_uncommitted(&job, hit);
    fs::remove_dir_all(cluster.folder().join("data")).unwrap();
    cluster.start_server();
    let _driver = with_its_driver.then(|| cluster.driver("d2"));
    if let Some(mut watcher) = watcher {
        watcher.wait_until_said("the cluster has lost its records");
        assert_eq!(watcher.end().code(), Some(6), "{}", watcher.said());
        assert!(
            watcher.said().contains("tilework resume data:/C.npy"),
            "{}",
            watcher.said()
        );
    }
    let back = unix_ms();
    // The store's numbers begin again: nobody may keep one that a worker has who was there before.
    let newcomer = cluster.worker("w3", SLOW);
    if !with_its_driver {
        let before = workers.iter().map(|worker| worker.number()).max();
        assert!(
            Some(newcomer.number()) > before,
            "the driver knows who was there before"
        );
    }
    let committed = cluster.committed(&job.output);
    let line = "resume data:/C.npy";
    let mut resumed = wait_for("somebody knows of workers", || {
        let output = cluster.client(&format!("{line} --detach --json")).end();
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let id = told["id"].as_str()?;
        Some(cluster.job(id, told["output"].as_str()?))
    });
    assert_eq!(resumed.id, job.id);
    let began = resumed.wait_after("began", back);
    assert!(began.run > 1, "{began:?}");
    let started = resumed.wait_after("started", began.unix_ms);
    let row = if with_its_driver {
        "nats-and-driver-lost"
    } else {
        "nats-lost"
    };
    let cost = Cost::of(row, lost).recovered_after(back, started.unix_ms, Duration::from_secs(10));
    let report = cluster.is_right(&resumed);
    cost.tell(&cluster, &mut job);
    let n_kept = report["tasks_resumed"].as_u64().unwrap();
    assert!(n_kept >= committed.len() as u64, "{report}");
    // Workers say again what they reported before: only what the new run began counts.
    for task in resumed.started_in(began.run) {
        assert!(
            !committed.contains(&task),
            "task {task} was committed, and ran again"
        );
    }
    wait_for("all three workers, each with a number of its own", || {
        let shown = cluster.workers_on_board()?;
        let pids: BTreeSet<u32> = shown.iter().map(|worker| worker.pid).collect();
        let own = workers.iter().chain([&newcomer]).map(|worker| worker.pid());
        own.into_iter().all(|pid| pids.contains(&pid)).then_some(())
    });
    assert!(workers.iter_mut().all(|worker| worker.is_alive()));
}
