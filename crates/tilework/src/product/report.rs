//! What is told about a plan and a finished product: the same names in both, for people and as JSON.

use super::inputs::Inputs;
use serde_json::{Value, json};
use std::io::{self, Write};
use tilework_linalg::check::{element_error_bound, formula_error_bound};
use tilework_linalg::{Algorithm, MultiplySpec, Plan};
use tilework_runtime::AlarmsTold;
use tilework_runtime::run::WorkerShare;
use tilework_store::element_type::Dtype;
use tilework_store::npy::header::npy_len;

/// A finished product.
#[derive(Debug, Clone)]
pub struct ProductReport {
    /// Kind of job.
    pub job: &'static str,
    /// What was computed.
    pub spec: MultiplySpec,
    /// From process start to the durable rename.
    pub seconds: f64,
    /// Tasks committed by this process.
    pub n_tasks_run: u64,
    /// Tasks kept from earlier runs.
    pub n_tasks_resumed: u64,
    /// Attempts that had to be made again.
    pub n_retries: u64,
    /// Bytes read by this process.
    pub bytes_read: u64,
    /// Bytes of output written by this process.
    pub bytes_written: u64,
    /// Largest resident memory of this process.
    pub memory_peak_bytes: u64,
    /// Largest residual of all tiles.
    pub residual_max: f64,
    /// What it was held against.
    pub residual_bound: f64,
    /// Tiles of all runs that could only be computed classically, though the plan says otherwise.
    pub n_tiles_fallen_back: u64,
    /// What users were told of in this process.
    pub alarms: AlarmsTold,
    /// What each worker of this process did.
    pub workers: Vec<WorkerShare>,
    /// The plan.
    pub plan: Plan,
}

/// Largest resident memory of this process so far; 0 if the system does not tell.
pub fn memory_peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

impl ProductReport {
    /// Sustained rate of the work that this process did.
    pub fn gflops(&self) -> f64 {
        let n_tasks = self.plan.grid.n_tiles().max(1) as f64;
        self.plan.flops() * (self.n_tasks_run as f64 / n_tasks) / self.seconds / 1e9
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let grid = &self.plan.grid;
        json!({
            "job": self.job,
            "status": "done",
            "m": grid.m,
            "n": grid.n,
            "k": self.plan.k,
            "dtype": self.spec.dtype.to_string(),
            "alpha": self.spec.alpha,
            "beta": self.spec.beta,
            "seconds": self.seconds,
            "gflops": self.gflops(),
            "tasks": grid.n_tiles(),
            "tasks_run": self.n_tasks_run,
            "tasks_resumed": self.n_tasks_resumed,
            "retries": self.n_retries,
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "bytes_bound": self.plan.bytes_bound,
            "memory_planned_bytes": self.plan.memory_planned_bytes,
            "memory_peak_bytes": self.memory_peak_bytes,
            "residual_max": self.residual_max,
            "residual_bound": self.residual_bound,
            "algorithm": self.plan.layout.algorithm.to_string(),
            "tiles_fallen_back": self.n_tiles_fallen_back,
            "alarms": self.alarms.latest,
            "alarms_total": self.alarms.n_alarms,
            "workers": self.workers.iter().map(|worker| self.worker_json(worker)).collect::<Vec<_>>(),
        })
    }

    fn worker_json(&self, worker: &WorkerShare) -> Value {
        json!({
            "worker": worker.worker.0,
            "tasks": worker.n_tasks,
            "seconds_busy": worker.busy.as_secs_f64(),
            "gflops": worker_gflops(worker),
            "share": self.share(worker),
        })
    }

    /// A worker's part of the work of all.
    fn share(&self, worker: &WorkerShare) -> f64 {
        let total: u64 = self.workers.iter().map(|worker| worker.work).sum();
        worker.work as f64 / total.max(1) as f64
    }

    fn write_workers(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.workers.len() < 2 {
            return Ok(());
        }
        self.workers.iter().try_for_each(|worker| {
            writeln!(
                out,
                "  worker {} {} tasks, {:.2} s busy, {:.1} GF/s, {:.0} % of the work",
                worker.worker,
                worker.n_tasks,
                worker.busy.as_secs_f64(),
                worker_gflops(worker),
                100.0 * self.share(worker)
            )
        })
    }

    /// For people.
    pub fn write(&self, out: &mut dyn Write, output: &str) -> io::Result<()> {
        let grid = &self.plan.grid;
        writeln!(
            out,
            "{output}: {} x {} {}, done in {:.2} s ({:.1} GF/s)",
            grid.m,
            grid.n,
            self.spec.dtype,
            self.seconds,
            self.gflops()
        )?;
        if !self.spec.is_plain() {
            writeln!(out, "  formula  {}", self.spec.formula())?;
        }
        let resumed = if self.n_tasks_resumed > 0 {
            format!(", {} kept from before", self.n_tasks_resumed)
        } else {
            String::new()
        };
        let retries = if self.n_retries > 0 {
            format!(", {} retried", self.n_retries)
        } else {
            String::new()
        };
        writeln!(out, "  tasks    {} run{resumed}{retries}", self.n_tasks_run)?;
        self.write_workers(out)?;
        if self.n_tiles_fallen_back > 0 {
            writeln!(
                out,
                "  method   {}; {} of {} tiles classically: not finite, or too near overflow",
                method(self.plan.layout.algorithm),
                self.n_tiles_fallen_back,
                grid.n_tiles()
            )?;
        }
        writeln!(
            out,
            "  checked  every tile; largest residual {:.1e}, bound {:.1e}",
            self.residual_max, self.residual_bound
        )?;
        writeln!(
            out,
            "  memory   {} peak of {} planned",
            mib(self.memory_peak_bytes),
            mib(self.plan.memory_planned_bytes)
        )?;
        writeln!(
            out,
            "  moved    {} read, {} written",
            mib(self.bytes_read),
            mib(self.bytes_written)
        )
    }
}

/// Rate of a worker while it was busy.
fn worker_gflops(worker: &WorkerShare) -> f64 {
    worker.work as f64 / worker.busy.as_secs_f64().max(f64::MIN_POSITIVE) / 1e9
}

/// A plan as JSON, with the report's names for what it predicts.
pub fn plan_json(plan: &Plan, inputs: &Inputs) -> Value {
    let moved = (plan.bytes_read + plan.bytes_written) as f64;
    json!({
        "job": inputs.spec.kind(),
        "status": "planned",
        "m": plan.grid.m,
        "n": plan.grid.n,
        "k": plan.k,
        "dtype": inputs.spec.dtype.to_string(),
        "alpha": inputs.spec.alpha,
        "beta": inputs.spec.beta,
        "seconds": plan.seconds,
        "gflops": plan.flops() / plan.seconds / 1e9,
        "tasks": plan.grid.n_tiles(),
        "tile_rows": plan.grid.tile_rows_max(),
        "tile_cols": plan.grid.tile_cols_max(),
        "bytes_read": plan.bytes_read,
        "bytes_written": plan.bytes_written,
        "bytes_bound": plan.bytes_bound,
        "bytes_ratio": moved / plan.bytes_bound,
        "memory_planned_bytes": plan.memory_planned_bytes,
        "algorithm": plan.layout.algorithm.to_string(),
        "error_bound": error_bound(plan, inputs),
        "disk_bytes": npy_len(plan.grid.m, plan.grid.n, inputs.spec.dtype),
    })
}

/// A plan for people.
pub fn write_plan(out: &mut dyn Write, plan: &Plan, inputs: &Inputs) -> io::Result<()> {
    let grid = &plan.grid;
    let moved = (plan.bytes_read + plan.bytes_written) as f64;
    let (m, n, k, dtype) = (grid.m, grid.n, plan.k, inputs.spec.dtype);
    match (grid.symmetric, inputs.spec.transpose_a) {
        (false, _) => writeln!(
            out,
            "plan: C ({m} x {n}) = A ({m} x {k}) · B ({k} x {n}), {dtype}"
        ),
        (true, true) => writeln!(
            out,
            "plan: G ({n} x {n}) = A'·A, A is {k} x {n}, half of it computed, {dtype}"
        ),
        (true, false) => writeln!(
            out,
            "plan: G ({n} x {n}) = A·A', A is {n} x {k}, half of it computed, {dtype}"
        ),
    }?;
    if !inputs.spec.is_plain() {
        writeln!(out, "  formula  {}", inputs.spec.formula())?;
    }
    writeln!(
        out,
        "  tiles    {} of up to {} x {}, one task each",
        grid.n_tiles(),
        grid.tile_rows_max(),
        grid.tile_cols_max()
    )?;
    writeln!(
        out,
        "  memory   {} at most, the whole process",
        mib(plan.memory_planned_bytes)
    )?;
    let ratio = moved / plan.bytes_bound.max(1.0);
    writeln!(
        out,
        "  moves    {} read, {} written: {ratio:.2} times the least that this memory allows",
        mib(plan.bytes_read),
        mib(plan.bytes_written)
    )?;
    writeln!(
        out,
        "  disk     {} for the output",
        mib(npy_len(grid.m, grid.n, inputs.spec.dtype))
    )?;
    let scale = match plan.layout.algorithm {
        Algorithm::Classical => "|A|·|B|",
        Algorithm::Strassen => "k·max|A|·max|B|",
    };
    let scale = match (inputs.spec.is_plain(), inputs.spec.beta) {
        (true, _) => scale.to_owned(),
        (false, None) => format!("|alpha|·{scale}"),
        (false, Some(_)) => format!("(|alpha|·{scale} + |beta|·|D|)"),
    };
    writeln!(
        out,
        "  method   {}; an element's error is at most {:.1e} · {scale}",
        method(plan.layout.algorithm),
        error_bound(plan, inputs)
    )?;
    writeln!(out, "  time     about {}", crate::human::seconds(plan.seconds))
}

/// An algorithm for people.
fn method(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Classical => "classical",
        Algorithm::Strassen => "Strassen's, one level",
    }
}

/// The promised error of an element, see [`element_error_bound`].
fn error_bound(plan: &Plan, inputs: &Inputs) -> f64 {
    let (algorithm, k) = (plan.layout.algorithm, plan.k as usize);
    let (product, formula) = match inputs.spec.dtype {
        Dtype::F64 => (
            element_error_bound::<f64>(algorithm, k),
            formula_error_bound::<f64>(),
        ),
        Dtype::F32 => (
            element_error_bound::<f32>(algorithm, k),
            formula_error_bound::<f32>(),
        ),
    };
    if inputs.spec.is_plain() {
        product
    } else {
        product + formula
    }
}

/// Bytes in the unit that fits.
fn mib(bytes: u64) -> String {
    crate::human::bytes(bytes)
}
