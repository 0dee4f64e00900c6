//! Workers are killed, stopped, told to end, and join late.

use crate::cost::Cost;
use crate::harness::{Cluster, MULTIPLY, SLOW, of_kind, recovered, wait_for};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tilework::cluster::events::JobEvent;
use tilework::cluster::record::unix_ms;

#[test]
fn a_killed_workers_task_is_committed_by_another() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let mut workers = [cluster.worker("w1", SLOW), cluster.worker("w2", SLOW)];
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    job.wait_for_commits(1);
    let hit = job.wait_for_begun(None);
    let victim = workers.iter_mut().find(|worker| worker.number() == hit.worker);
    let killed = victim.unwrap().kill();
    cluster.assert_uncommitted(&job, hit);
    let commit = job.wait_for_commit(hit.task, Some(hit.worker));
    let cost = Cost::of("worker-killed", killed)
        .noticed(job.alarmed("worker-lost", killed))
        .recovered(commit.unix_ms, Duration::from_secs(10));
    cluster.is_right(&job);
    cost.tell(&cluster, &mut job);
}

#[test]
fn a_stopped_worker_is_lost_and_wakes_without_harm() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let workers = [cluster.worker("w1", SLOW), cluster.worker("w2", SLOW)];
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    let hit = job.wait_for_begun(Some(workers[0].number()));
    workers[0].signal(Signal::STOP);
    let stopped = unix_ms();
    cluster.assert_uncommitted(&job, hit);
    let commit = job.wait_for_commit(hit.task, Some(hit.worker));
    let cost = Cost::of("worker-hung", stopped)
        .noticed(job.alarmed("worker-lost", stopped))
        .recovered(commit.unix_ms, Duration::from_secs(10));
    wait_for("the worker counts as lost", || {
        (cluster.state_of(hit.worker)? == "lost").then_some(())
    });
    workers[0].signal(Signal::CONT);
    let woken = unix_ms();
    cluster.is_right(&job);
    cost.tell(&cluster, &mut job);
    // It goes on: with this job if something is left of it, else with the next one.
    let mut next = cluster.submit(&format!("{MULTIPLY} data:/D.npy"));
    let by_it = next.wait_for("a task of the woken worker", |events| {
        let mut commits = of_kind(events, "committed");
        commits.find(|event| event.worker == Some(hit.worker)).cloned()
    });
    recovered("worker woken", woken, by_it.unix_ms, Duration::from_secs(20));
    cluster.is_right(&next);
}

/// The job is held up from when nothing else is left to do.
#[test]
fn a_stragglers_task_is_done_again_by_another() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let _fast = cluster.worker("fast", "*:200ms");
    let straggler = cluster.worker("straggler", "*:60000ms");
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    let hit = job.wait_for_begun(Some(straggler.number()));
    let backup = job.wait_for("the straggler's task begins elsewhere", |events| {
        let mut starts = of_kind(events, "started");
        starts
            .find(|event| event.task == Some(hit.task) && event.worker != Some(hit.worker))
            .cloned()
    });
    cluster.assert_uncommitted(&job, hit);
    let commit = job.wait_for_commit(hit.task, Some(hit.worker));
    let others = of_kind(job.events(), "committed").filter(|event| event.task != Some(hit.task));
    let held_up = others.map(|event| event.unix_ms).max().unwrap();
    let cost = Cost::of("worker-slow", held_up.min(backup.unix_ms))
        .noticed(backup.unix_ms)
        .recovered(commit.unix_ms, Duration::from_secs(5));
    let report = cluster.is_right(&job);
    assert!(report["backups"].as_u64() >= Some(1), "{report}");
    // What was done twice.
    cost.tell_lost(&[commit.unix_ms - backup.unix_ms]);
}

#[test]
fn a_worker_that_joins_late_gets_a_task_at_once() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let _first = cluster.worker("w1", SLOW);
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    job.wait_for_commits(1);
    let second = cluster.worker("w2", SLOW);
    let joined = unix_ms();
    let started = job.wait_for("the new worker's first task", |events| {
        let mut starts = of_kind(events, "started");
        starts
            .find(|event| event.worker == Some(second.number()))
            .cloned()
    });
    recovered("worker joined", joined, started.unix_ms, Duration::from_secs(2));
    cluster.is_right(&job);
}

#[test]
fn a_worker_that_is_told_to_end_finishes_its_task() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let mut workers = vec![cluster.worker("w1", SLOW), cluster.worker("w2", SLOW)];
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    job.wait_for_commits(1);
    let hit = job.wait_for_begun(None);
    let at = workers
        .iter()
        .position(|worker| worker.number() == hit.worker)
        .unwrap();
    let mut leaving = workers.remove(at);
    leaving.signal(Signal::TERM);
    let told = unix_ms();
    assert!(!cluster.committed(&job.output).contains(&hit.task));
    let status = leaving.end();
    assert_eq!(status.code(), Some(0), "{status}");
    recovered("worker drained", told, unix_ms(), Duration::from_secs(5));
    // Its task is its own still: nothing was lost or begun anew.
    let commit = job.wait_for_commit(hit.task, None);
    assert_eq!(
        (commit.worker, commit.attempt),
        (Some(hit.worker), Some(hit.attempt))
    );
    let report = cluster.is_right(&job);
    assert_eq!(report["retries"], 0, "{report}");
    let starts = job.started_in(1);
    assert_eq!(
        starts.len(),
        starts.iter().collect::<BTreeSet<_>>().len(),
        "{starts:?}"
    );
    wait_for("it is gone from the board", || {
        cluster
            .state_of(hit.worker)
            .is_none_or(|state| state == "draining")
            .then_some(())
    });
}

#[test]
fn round_robin_deals_by_turns_whoever_is_slow() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let workers = [cluster.worker("w1", "*:50ms"), cluster.worker("w2", "*:500ms")];
    let shares = |line: &str, output: &str| {
        let mut job = cluster.submit(&format!("{MULTIPLY} data:/{output} {line}"));
        cluster.is_right(&job);
        let mut shares = BTreeMap::<u32, usize>::new();
        for commit in of_kind(job.all_events(), "committed") {
            *shares.entry(commit.worker.unwrap()).or_default() += 1;
        }
        workers
            .each_ref()
            .map(|worker| shares.get(&worker.number()).copied().unwrap_or_default())
    };
    let by_load = shares("", "C.npy");
    let by_turns = shares("--assign round-robin", "D.npy");
    println!("fast and slow worker: {by_load:?} by load, {by_turns:?} by turns");
    assert!(by_load[0] > 2 * by_load[1], "{by_load:?}");
    // A backup of the slow one's last task may be the fast one's.
    assert!(by_turns[0] <= by_turns[1] + 2, "{by_turns:?}");
}

#[test]
fn two_jobs_share_the_workers() {
    let cluster = Cluster::with_inputs("1500x300", "300x1500");
    let _driver = cluster.driver("driver");
    let _workers = [cluster.worker("w1", "*:100ms"), cluster.worker("w2", "*:100ms")];
    let lines = ["C.npy", "D.npy"].map(|output| format!("{MULTIPLY} data:/{output} --detach --json"));
    let submitted = lines.map(|line| cluster.client(&line));
    let mut jobs = submitted.map(|client| {
        let output = client.end();
        assert!(output.status.success(), "{output:?}");
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        cluster.job(told["id"].as_str().unwrap(), told["output"].as_str().unwrap())
    });
    for job in &jobs {
        cluster.is_right(job);
    }
    let commits = jobs.each_mut().map(|job| {
        let times = of_kind(job.all_events(), "committed").map(|event| event.unix_ms);
        times.collect::<Vec<_>>()
    });
    // How far each is when the first has done one half since both are there.
    let both_there = commits.iter().map(|times| times[0]).max().unwrap();
    let half = commits.iter().map(|times| times[times.len() / 2]).min().unwrap();
    let done = commits.each_ref().map(|times| {
        times
            .iter()
            .filter(|at| (both_there..=half).contains(*at))
            .count()
    });
    println!("two jobs, commits until the first was half done: {done:?}");
    assert!(
        done[0] <= 2 * done[1].max(1) && done[1] <= 2 * done[0].max(1),
        "{done:?}"
    );
}

#[test]
fn a_cancelled_task_stops_at_once() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let worker = cluster.worker("w1", "*:20000ms");
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    let hit = job.wait_for_begun(Some(worker.number()));
    let asked = unix_ms();
    let cancelled = cluster.succeed(&format!("cancel {}", job.id));
    assert_eq!(cancelled["state"], "cancelled");
    recovered("cancelled", asked, unix_ms(), Duration::from_secs(2));
    wait_for("the worker is idle", || {
        (cluster.state_of(hit.worker)? == "idle").then_some(())
    });
    recovered("idle after a cancel", asked, unix_ms(), Duration::from_secs(5));
}

#[test]
fn three_kills_cost_only_what_was_in_flight() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let mut job = None;
    let mut killed = Vec::new();
    for kill in 0..3 {
        let mut workers = [
            cluster.worker(&format!("a{kill}"), SLOW),
            cluster.worker(&format!("b{kill}"), SLOW),
        ];
        let job = job.get_or_insert_with(|| cluster.submit(&format!("{MULTIPLY} data:/C.npy")));
        for worker in &mut workers {
            job.wait_for_begun(Some(worker.number()));
        }
        let before = cluster.committed(&job.output);
        workers.iter_mut().for_each(|worker| {
            worker.kill();
        });
        killed.extend(workers.each_ref().map(|worker| worker.number()));
        assert!(cluster.committed(&job.output).is_superset(&before));
    }
    let mut job = job.unwrap();
    let _worker = cluster.worker("last", "");
    let last_kill = unix_ms();
    let report = cluster.is_right(&job);
    let events = job.all_events();
    let n_of_killed = |what: &str| {
        let is_theirs = |event: &&JobEvent| event.worker.is_some_and(|worker| killed.contains(&worker));
        of_kind(events, what).filter(is_theirs).count() as u64
    };
    let n_lost = n_of_killed("started") - n_of_killed("committed");
    let n_started = of_kind(events, "started").count() as u64;
    // Who is left makes each of them once more, be it as a backup before its worker counts as lost.
    let n_allowed = report["tasks"].as_u64().unwrap() + n_lost;
    assert!(n_started <= n_allowed, "{n_started} started, {n_allowed} allowed");
    println!(
        "six workers killed: {n_lost} tasks were in flight, {} tasks, done {:.1} s after the last",
        report["tasks"],
        (unix_ms() - last_kill) as f64 / 1e3
    );
}
