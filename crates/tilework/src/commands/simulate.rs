//! `simulate`: how long a job would take on a cluster that need not exist, what failures would cost, and what would bound it.
//!
//! The cluster's machines are those that real clusters run: tilework-sim drives them under virtual time. Only a task's duration is
//! a model: its flops at the worker's rate, or its bytes at its share of the storage's, whichever takes longer.

use crate::args::multiply::AssignArg;
use crate::args::simulate::{ClusterArgs, SimulateArgs, SimulatedJob};
use crate::failure::{CliError, Exit};
use crate::human;
use crate::output::Output;
use serde_json::json;
use std::io::{self, Write};
use tilework_core::driver::Assign;
use tilework_core::limits::{HEARTBEAT_MS, TASKS_MAX};
use tilework_sim::forecast::{Cluster, Forecast, Quartiles, forecast};
use tilework_store::element_type::Dtype;

/// Part of a worker's memory that its tile takes; panels, packed blocks and the process take the rest.
const TILE_SHARE: f64 = 0.6;
/// A grid that takes no longer than this times the quickest may be chosen for the bytes that it saves.
const HARDLY_LONGER: f64 = 1.02;
/// Most strips of rows or columns that are tried.
const STRIPS_MAX: u64 = 20_000;
/// Simulations of so many workers may take so long that someone who waits wants to know.
const SLOW_FROM_WORKERS: u64 = 2_000;
/// Most heartbeats that are simulated in a run: what takes most of the time of a simulation, about 2 µs each.
const HEARTBEATS_MAX: f64 = 1e9;
/// What the driver keeps of a worker and its attempts in flight, roughly; the example `driver_rate` of tilework-sim measures it.
const DRIVER_BYTES_PER_WORKER: u64 = 2_000;

/// Runs the command.
pub fn run(args: &SimulateArgs, output: &Output) -> Result<(), CliError> {
    let SimulatedJob::Multiply { m, k, n, dtype } = args.job;
    let cluster = &args.cluster;
    let split = Split::best(cluster, [m, k, n], dtype).ok_or_else(|| too_little_memory(cluster))?;
    let n_busy = split.n_tasks.min(u64::from(cluster.workers));
    let seconds_at_most = split.seconds_at_most(cluster);
    let heartbeats = seconds_at_most * 1e3 / HEARTBEAT_MS as f64 * n_busy as f64;
    if heartbeats > HEARTBEATS_MAX {
        return Err(too_long(seconds_at_most));
    }
    if n_busy >= SLOW_FROM_WORKERS {
        output.note(&format!(
            "simulating {} of about {} on {}: this can take minutes; --seeds 1 is the quickest",
            human::counted(cluster.seeds, "run"),
            human::seconds(split.seconds(cluster)),
            human::counted(u64::from(cluster.workers), "worker")
        ));
    }
    let found = forecast(&split.cluster(cluster), args.cluster.seeds)
        .map_err(|error| CliError::new(Exit::JobFailed, format!("the simulated job failed: {error}")))?;
    output.result(split.to_json(cluster, &found), |out| {
        split.write(out, cluster, [m, k, n], &found)
    })
}

fn too_long(seconds: f64) -> CliError {
    let text = format!(
        "the job would take about {:.0} days: too long to simulate on so many workers",
        (seconds / 86_400.0).ceil()
    );
    CliError::new(Exit::Resources, text)
        .with_next("check --worker-gflops and --store-bandwidth, or simulate a smaller product")
}

fn too_little_memory(cluster: &ClusterArgs) -> CliError {
    let text = format!(
        "{} for each worker are too few for any number of tiles that can be simulated",
        human::bytes(cluster.worker_memory)
    );
    CliError::new(Exit::Resources, text).with_next("give workers more: --worker-memory 16GiB")
}

/// How the product is split, and what a task then takes.
#[derive(Debug, Clone, Copy)]
struct Split {
    n_tasks: u64,
    tile_rows: u64,
    tile_cols: u64,
    bytes: f64,
    compute_s: f64,
    store_s: f64,
}

impl Split {
    /// Of the square-ish grids that take hardly longer than the quickest, the one that moves fewest bytes: larger tiles read less,
    /// smaller ones keep all workers busy.
    fn best(cluster: &ClusterArgs, [m, k, n]: [u64; 3], dtype: Dtype) -> Option<Split> {
        let itemsize = dtype.size() as f64;
        let tile_elements = cluster.worker_memory as f64 * TILE_SHARE / itemsize;
        let candidates = (1..=STRIPS_MAX.min(m.max(n))).map(|strips| {
            let (tile_rows, tile_cols) = (m.div_ceil(strips.min(m)), n.div_ceil(strips.min(n)));
            let n_tasks = m.div_ceil(tile_rows) * n.div_ceil(tile_cols);
            let tile = tile_rows as f64 * tile_cols as f64;
            let task_bytes = (tile_rows + tile_cols) as f64 * k as f64 * itemsize + tile * itemsize;
            let n_busy = n_tasks.min(u64::from(cluster.workers)) as f64;
            let store_s = cluster
                .store_bandwidth
                .map_or(0.0, |bandwidth| task_bytes * n_busy / bandwidth as f64);
            Split {
                n_tasks,
                tile_rows,
                tile_cols,
                bytes: task_bytes * n_tasks as f64,
                compute_s: 2.0 * tile * k as f64 / (cluster.worker_gflops * 1e9),
                store_s,
            }
        });
        let fitting: Vec<Split> = candidates
            .filter(|split| split.tile_rows as f64 * split.tile_cols as f64 <= tile_elements)
            .filter(|split| split.n_tasks <= TASKS_MAX)
            .collect();
        let seconds = fitting.iter().map(|split| split.seconds(cluster));
        let quickest = seconds.min_by(f64::total_cmp)?;
        fitting
            .into_iter()
            .filter(|split| split.seconds(cluster) <= quickest * HARDLY_LONGER)
            .min_by(|x, y| x.bytes.total_cmp(&y.bytes))
    }

    fn task_seconds(&self) -> f64 {
        self.compute_s.max(self.store_s)
    }

    /// Without failures and messages.
    fn seconds(&self, cluster: &ClusterArgs) -> f64 {
        self.task_seconds() * self.n_tasks.div_ceil(u64::from(cluster.workers)) as f64
    }

    /// Without failures, if everybody waits for the slow worker: for all of its share round-robin, else for one task.
    fn seconds_at_most(&self, cluster: &ClusterArgs) -> f64 {
        let slow = cluster.one_slow as f64;
        match cluster.assign {
            AssignArg::RoundRobin => self.seconds(cluster) * slow,
            AssignArg::Dynamic => self.seconds(cluster) + self.task_seconds() * slow,
        }
    }

    fn cluster(&self, args: &ClusterArgs) -> Cluster {
        Cluster {
            n_workers: args.workers,
            n_tasks: self.n_tasks,
            task_ms: (self.task_seconds() * 1e3).ceil() as u64,
            slow_factor: args.one_slow,
            assign: match args.assign {
                AssignArg::Dynamic => Assign::Dynamic,
                AssignArg::RoundRobin => Assign::RoundRobin {
                    n_workers: args.workers,
                },
            },
            backups: !args.no_backups,
            mtbf_ms: args.mtbf.map_or(0, |mtbf| mtbf.as_millis() as u64),
        }
    }

    fn driver_bytes(&self, cluster: &ClusterArgs) -> u64 {
        self.n_tasks + u64::from(cluster.workers) * DRIVER_BYTES_PER_WORKER
    }

    fn to_json(self, cluster: &ClusterArgs, found: &Forecast) -> serde_json::Value {
        json!({
            "status": "simulated",
            "workers": cluster.workers,
            "tasks": self.n_tasks,
            "tile_rows": self.tile_rows,
            "tile_cols": self.tile_cols,
            "task_seconds": self.task_seconds(),
            "task_seconds_compute": self.compute_s,
            "task_seconds_store": self.store_s,
            "bytes": self.bytes,
            "driver_bytes": self.driver_bytes(cluster),
            "seeds": cluster.seeds,
            "seconds": found.seconds,
            "extra_work": found.extra_work,
            "workers_lost": found.n_lost,
            "messages_per_second": found.messages_per_s,
        })
    }

    fn write(
        self,
        out: &mut dyn Write,
        cluster: &ClusterArgs,
        [m, k, n]: [u64; 3],
        found: &Forecast,
    ) -> io::Result<()> {
        writeln!(
            out,
            "simulated: C ({m} x {n}) = A ({m} x {k}) · B ({k} x {n}) on {}",
            human::counted(u64::from(cluster.workers), "worker"),
        )?;
        let bound = if self.store_s > self.compute_s {
            "storage"
        } else {
            "arithmetic"
        };
        writeln!(
            out,
            "  tasks    {} of up to {} x {}, {} each, bounded by {bound}",
            human::count(self.n_tasks),
            self.tile_rows,
            self.tile_cols,
            human::seconds(self.task_seconds())
        )?;
        if self.n_tasks < u64::from(cluster.workers) {
            let why = match cluster.store_bandwidth {
                Some(_) => {
                    "; more and smaller tiles would move more than --store-bandwidth allows in that time"
                }
                None => "; the product has no more elements to share",
            };
            writeln!(
                out,
                "  idle     {}{why}",
                human::counted(u64::from(cluster.workers) - self.n_tasks, "worker")
            )?;
        }
        writeln!(out, "  time     {}", spread(found.seconds, human::seconds))?;
        writeln!(
            out,
            "  lost     {} workers; {} % of the work done again or in vain",
            range(found.n_lost, 1.0, 0),
            range(found.extra_work, 100.0, 2)
        )?;
        writeln!(
            out,
            "  moved    {} between workers and storage",
            human::bytes(self.bytes as u64)
        )?;
        writeln!(
            out,
            "  driver   about {} of memory, {} messages a second",
            human::bytes(self.driver_bytes(cluster)),
            range(found.messages_per_s, 1.0, 0)
        )?;
        match cluster.seeds {
            1 => writeln!(out, "one run; --seeds 5 shows how much runs differ"),
            n_seeds => writeln!(
                out,
                "medians of {n_seeds} runs (in brackets the quartiles: half of the runs lie between them)"
            ),
        }
    }
}

fn range(quartiles: Quartiles, scale: f64, digits: usize) -> String {
    spread(quartiles, |value| format!("{:.digits$}", value * scale))
}

/// The median, and the quartiles if they look different.
fn spread(quartiles: Quartiles, show: impl Fn(f64) -> String) -> String {
    let [low, mid, high] = quartiles.map(show);
    if low == high {
        mid
    } else {
        format!("{mid} ({low} to {high})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(worker_memory: u64) -> ClusterArgs {
        ClusterArgs {
            workers: 8,
            worker_memory,
            worker_gflops: 150.0,
            store_bandwidth: None,
            mtbf: None,
            one_slow: 1,
            assign: AssignArg::Dynamic,
            no_backups: false,
            seeds: 1,
        }
    }

    #[test]
    fn what_waits_for_a_slow_worker_counts_its_time() {
        let shape = [100_000, 100_000, 100_000];
        let mut slow = cluster(1 << 34);
        let split = Split::best(&slow, shape, Dtype::F64).expect("16 GiB are enough");
        slow.one_slow = 1_000;
        assert!(split.seconds_at_most(&slow) >= 1_000.0 * split.task_seconds());
        slow.assign = AssignArg::RoundRobin;
        assert!(split.seconds_at_most(&slow) >= 1_000.0 * split.seconds(&slow));
    }

    #[test]
    fn the_split_fits_the_workers_and_the_driver() {
        let shape = [100_000, 100_000, 100_000];
        assert!(Split::best(&cluster(1 << 10), shape, Dtype::F64).is_none());
        let split = Split::best(&cluster(1 << 34), shape, Dtype::F64).expect("16 GiB are enough");
        let tile_bytes = split.tile_rows * split.tile_cols * 8;
        assert!(tile_bytes <= 1 << 34 && split.n_tasks >= 8, "{split:?}");
        // All workers are busy nearly all the time, and not a hundred times over.
        let ideal = 2.0 * 1e15 / (8.0 * 150e9);
        assert!(split.seconds(&cluster(1 << 34)) <= 1.05 * ideal, "{split:?}");
        assert!(split.n_tasks < 5_000, "{split:?}");
    }
}
