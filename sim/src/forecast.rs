//! How long a job takes on a cluster whose workers fail: many runs of the simulated world, without its checks.

use crate::scenario::{Faults, Kind, LastWorker, Scenario};
use crate::verdict::Outcome;
use crate::world::simulate;
use std::iter;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use tilework_core::driver::{Assign, WhenFull};
use tilework_core::failure::JobEnd;
use tilework_core::limits::HEARTBEAT_MS;

/// Workers are simulated up to so many for each task: one that has it, and one to take its place. Further ones never have a task,
/// and only their failures and heartbeats count.
const WORKERS_PER_TASK: u64 = 2;

/// A job and the cluster that runs it.
#[derive(Debug, Clone, Copy)]
pub struct Cluster {
    /// Worker processes.
    pub n_workers: u32,
    /// Tasks of the job's one round.
    pub n_tasks: u64,
    /// What a task takes a worker, in milliseconds.
    pub task_ms: u64,
    /// The first worker takes so many times as long.
    pub slow_factor: u64,
    /// How tasks find their workers.
    pub assign: Assign,
    /// Whether stragglers are backed up.
    pub backups: bool,
    /// Mean time between failures of one worker, in milliseconds; 0: none fails.
    pub mtbf_ms: u64,
}

/// Lower quartile, median, upper quartile.
pub type Quartiles = [f64; 3];

/// What came of the runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// From the first worker's start to the end of the job.
    pub seconds: Quartiles,
    /// Attempts beyond one for each task, as a share of the tasks: work that was lost or done twice.
    pub extra_work: Quartiles,
    /// Workers lost in a run.
    pub n_lost: Quartiles,
    /// Messages a second, heartbeats and queue not counted apart.
    pub messages_per_s: Quartiles,
}

/// Simulates the job once for each seed, several at a time. What comes of it depends on the arguments only.
///
/// # Errors
/// The run of the lowest seed that did not end, in words.
pub fn forecast(cluster: &Cluster, n_seeds: u64) -> Result<Forecast, String> {
    let n_seeds = n_seeds.max(1);
    let n_threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(n_seeds as usize);
    let next = AtomicU64::new(0);
    let simulate_some = || {
        let seeds =
            iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < n_seeds));
        seeds
            .map(|seed| (seed, run_of(cluster, seed)))
            .collect::<Vec<_>>()
    };
    let mut runs = thread::scope(|scope| {
        let threads: Vec<_> = (0..n_threads).map(|_| scope.spawn(simulate_some)).collect();
        let ended = threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("a simulation does not panic"));
        ended.collect::<Vec<_>>()
    });
    runs.sort_by_key(|(seed, _)| *seed);
    let runs = runs
        .into_iter()
        .map(|(_, run)| run)
        .collect::<Result<Vec<_>, _>>()?;
    let of = |value: &dyn Fn(&Outcome) -> f64| quartiles(runs.iter().map(value).collect());
    let n_idle = f64::from(cluster.n_workers - cluster.n_simulated());
    let idle_lost = |seconds: f64| match cluster.mtbf_ms {
        0 => 0.0,
        mtbf_ms => n_idle * seconds * 1e3 / mtbf_ms as f64,
    };
    let idle_messages_per_s = n_idle * 1e3 / HEARTBEAT_MS as f64;
    let n_tasks = cluster.n_tasks.max(1) as f64;
    Ok(Forecast {
        seconds: of(&|run| run.seconds),
        extra_work: of(&|run| run.counts.n_started as f64 / n_tasks - 1.0),
        n_lost: of(&|run| run.counts.n_lost as f64 + idle_lost(run.seconds)),
        messages_per_s: of(&|run| run.counts.n_messages as f64 / run.seconds.max(1e-3) + idle_messages_per_s),
    })
}

impl Cluster {
    fn n_simulated(&self) -> u32 {
        let n_useful = self.n_tasks.max(1).saturating_mul(WORKERS_PER_TASK);
        u32::try_from(n_useful).map_or(self.n_workers, |n_useful| self.n_workers.min(n_useful))
    }
}

fn run_of(cluster: &Cluster, seed: u64) -> Result<Outcome, String> {
    let outcome = simulate(&scenario(cluster, seed), false);
    match (&outcome.violation, &outcome.end) {
        (Some(violation), _) => Err(format!("seed {seed}: {violation}")),
        (None, Some(JobEnd::Done)) => Ok(outcome),
        (None, _) => Err(format!("seed {seed}: the job did not end")),
    }
}

fn scenario(cluster: &Cluster, seed: u64) -> Scenario {
    Scenario {
        seed,
        n_workers: cluster.n_simulated(),
        n_drivers: 1,
        rounds: vec![cluster.n_tasks],
        task_ms: cluster.task_ms.max(1),
        assign: match cluster.assign {
            Assign::Dynamic => Assign::Dynamic,
            Assign::RoundRobin { .. } => Assign::RoundRobin {
                n_workers: cluster.n_simulated(),
            },
        },
        backups: cluster.backups,
        look_ahead: true,
        one_machine: false,
        when_full: WhenFull::Wait,
        last_worker: LastWorker::Able,
        delay_ms: 5,
        checks: false,
        faults: Faults {
            // Nothing of this is ever left in peace.
            until_ms: u64::MAX / 2,
            mtbf_ms: cluster.mtbf_ms,
            ..Faults::default()
        }
        .with(Kind::Slows, cluster.slow_factor),
    }
}

fn quartiles(mut values: Vec<f64>) -> Quartiles {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    [at(0.25), at(0.5), at(0.75)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Busy workers took the few tasks ahead, gave them back for idle ones, and were the first to take them again: until a task
    /// had been tried too often, and the job failed.
    #[test]
    fn few_tasks_on_many_workers_are_not_passed_around() {
        let cluster = Cluster {
            n_workers: 200,
            n_tasks: 30,
            task_ms: 100_000,
            slow_factor: 1,
            assign: Assign::Dynamic,
            backups: true,
            mtbf_ms: 0,
        };
        let found = forecast(&cluster, 3).expect("the job ends");
        // All tasks at once; simulated durations vary by a fifth.
        assert!(found.seconds[2] < 125.0, "{found:?}");
        assert_eq!(found.extra_work, [0.0; 3]);
    }
}
