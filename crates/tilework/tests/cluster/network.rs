//! The network between one worker and the server is frozen, healed and cut.

use crate::cost::Cost;
use crate::harness::{Cluster, MULTIPLY, Process, SLOW, of_kind, recovered, wait_for};
use crate::proxy::Proxy;
use std::time::Duration;
use tilework::cluster::record::unix_ms;
use tilework_nats::Role;

/// A worker behind a network of its own.
fn worker_behind(cluster: &Cluster, proxy: &Proxy, name: &str) -> Process {
    let join = cluster.join_through(Role::Worker, proxy.port());
    let joins = format!("--cluster {} --data-root data=data", join.display());
    cluster.worker_with(name, SLOW, &joins)
}

#[test]
fn a_frozen_network_costs_its_workers_task_and_heals() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let proxy = Proxy::to(cluster.port());
    let behind = worker_behind(&cluster, &proxy, "behind");
    let _other = cluster.worker("other", SLOW);
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    let hit = job.wait_for_begun(Some(behind.number()));
    proxy.freeze();
    let frozen = unix_ms();
    cluster.assert_uncommitted(&job, hit);
    wait_for("the worker counts as lost", || {
        (cluster.state_of(hit.worker)? == "lost").then_some(())
    });
    // The worker finished what it had, but could tell nobody: the journal knows, or another commits it again.
    let lost = unix_ms();
    assert!(lost - frozen > 5_000, "lost after {} ms", lost - frozen);
    assert!(
        of_kind(job.events(), "committed")
            .all(|event| event.task != Some(hit.task) || event.worker != Some(hit.worker))
    );
    let commit = job.wait_for_commit(hit.task, Some(hit.worker));
    let cost = Cost::of("worker-cut-off", frozen)
        .noticed(job.alarmed("worker-lost", frozen))
        .recovered(commit.unix_ms, Duration::from_secs(10));
    proxy.heal();
    let healed = unix_ms();
    cluster.is_right(&job);
    cost.tell(&cluster, &mut job);
    let mut next = cluster.submit(&format!("{MULTIPLY} data:/D.npy"));
    let by_it = next.wait_for("a task of the worker behind", |events| {
        let mut commits = of_kind(events, "committed");
        commits
            .find(|event| event.worker == Some(behind.number()))
            .cloned()
    });
    recovered("network healed", healed, by_it.unix_ms, Duration::from_secs(20));
    cluster.is_right(&next);
}

#[test]
fn connections_that_are_cut_again_and_again_cost_nothing() {
    let cluster = Cluster::start();
    let _driver = cluster.driver("driver");
    let proxy = Proxy::to(cluster.port());
    let behind = worker_behind(&cluster, &proxy, "behind");
    let mut job = cluster.submit(&format!("{MULTIPLY} data:/C.npy"));
    for cut in 0..4 {
        let hit = job.wait_for_begun(Some(behind.number()));
        let n_connections = proxy.n_connections();
        proxy.reset();
        let at = unix_ms();
        cluster.assert_uncommitted(&job, hit);
        let commit = job.wait_for_commit(hit.task, None);
        assert!(proxy.n_connections() > n_connections);
        assert_eq!(commit.worker, Some(behind.number()));
        recovered(
            &format!("connections cut, {cut}"),
            at,
            commit.unix_ms,
            Duration::from_secs(5),
        );
    }
    cluster.is_right(&job);
}
