//! What the planner says of clusters.

use tilework_core::driver::Assign;
use tilework_sim::forecast::{Cluster, forecast};

const CLUSTER: Cluster = Cluster {
    n_workers: 50,
    n_tasks: 1_000,
    task_ms: 5_000,
    slow_factor: 1,
    assign: Assign::Dynamic,
    mtbf_ms: 0,
};

#[test]
fn without_failures_it_is_the_work_over_the_workers() {
    let found = forecast(&CLUSTER, 5).expect("every run ends");
    assert!((100.0..=115.0).contains(&found.seconds[1]), "{found:?}");
    assert!(found.n_lost[2] == 0.0 && found.extra_work[2] < 0.06, "{found:?}");
}

#[test]
fn failures_cost_what_was_running() {
    let failing = Cluster {
        mtbf_ms: 600_000,
        ..CLUSTER
    };
    let found = forecast(&failing, 5).expect("every run ends");
    assert!(found.n_lost[1] >= 3.0, "{found:?}");
    assert!((105.0..=140.0).contains(&found.seconds[1]), "{found:?}");
}
