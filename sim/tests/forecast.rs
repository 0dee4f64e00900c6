//! What the planner says of clusters.

use tilework_core::driver::Assign;
use tilework_sim::forecast::{Cluster, forecast};

const CLUSTER: Cluster = Cluster {
    n_workers: 50,
    n_tasks: 1_000,
    task_ms: 5_000,
    slow_factor: 1,
    assign: Assign::Dynamic,
    backups: true,
    mtbf_ms: 0,
};

#[test]
fn without_failures_it_is_the_work_over_the_workers() {
    let found = forecast(&CLUSTER, 5).expect("every run ends");
    assert!((100.0..=115.0).contains(&found.seconds[1]), "{found:?}");
    assert!(found.n_lost[2] == 0.0 && found.extra_work[2] < 0.06, "{found:?}");
}

#[test]
fn backups_cut_what_a_very_slow_worker_costs() {
    let slow = Cluster {
        n_tasks: 200,
        task_ms: 30_000,
        slow_factor: 10,
        ..CLUSTER
    };
    let with = forecast(&slow, 5).expect("every run ends");
    let without = Cluster {
        backups: false,
        ..slow
    };
    let without = forecast(&without, 5).expect("every run ends");
    // The slow worker's first task takes 300 s, and all others are done after 120.
    assert!(without.seconds[1] > 250.0, "{without:?}");
    assert!(with.seconds[1] < 200.0, "{with:?}");
    assert!(with.extra_work[2] <= 0.06, "{with:?}");
}

#[test]
fn workers_without_a_task_only_beat_and_fail() {
    let crowd = Cluster {
        n_workers: 100_000,
        n_tasks: 20,
        task_ms: 600_000,
        mtbf_ms: 100 * 3_600_000,
        ..CLUSTER
    };
    let found = forecast(&crowd, 3).expect("every run ends");
    // A heartbeat of each every 2 s; a hundred thousand workers for 10 minutes lose one in 600.
    assert!(
        (50_000.0..=51_000.0).contains(&found.messages_per_s[1]),
        "{found:?}"
    );
    assert!((150.0..=220.0).contains(&found.n_lost[1]), "{found:?}");
}

#[test]
fn failures_cost_what_was_running() {
    let failing = Cluster {
        mtbf_ms: 600_000,
        ..CLUSTER
    };
    let found = forecast(&failing, 5).expect("every run ends");
    assert!(found.n_lost[1] >= 3.0, "{found:?}");
    let peaceful = forecast(&CLUSTER, 5).expect("every run ends");
    assert!(found.seconds[1] > peaceful.seconds[1], "{found:?} {peaceful:?}");
    assert!(found.seconds[1] <= 140.0, "{found:?}");
}
