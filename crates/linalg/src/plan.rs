//! How a product is split, decided once from shapes and resources (DESIGN: plan), in time and space that do not depend on
//! the number of tasks.
//!
//! Out of core, reading is what costs, so the grid that moves fewest bytes wins. In core, modelled time decides: large
//! tiles re-read less, small ones touch less fresh memory, leave less to write at the end and lose less in a crash.

use crate::bound::{bytes_bound, bytes_bound_symmetric};
use crate::classical::DIAGONAL_ROWS;
use crate::layout::{Layout, LayoutRequest, PackedB};
use crate::operand::{Number, Operand};
use crate::tiles::Grid;
use serde::{Deserialize, Serialize};
use std::fmt;
use tilework_core::limits::TASKS_MAX;
use tilework_kernel::{Kernel, Simd};

/// A task takes no longer than this at the estimated rate ...
const TASK_SECONDS_MAX: f64 = 10.0;
/// ... or than this where C does not fit the memory: larger tiles move fewer bytes.
const TASK_SECONDS_MAX_OUT_OF_CORE: f64 = 20.0;
/// A job that takes longer than this ...
const SHORT_JOB_SECONDS: f64 = 5.0;
/// ... has at least this many tasks, so that a crash loses little, unless that takes longer by more than this factor; out of core
/// the bytes come first.
const LONG_JOB_TASKS_MIN: u64 = 8;
const LONG_JOB_TASKS_COST_MAX: f64 = 1.03;
/// A job that several processes share has so many for each, whatever it takes: the last ones decide how long the others wait.
const TASKS_PER_PROCESS_MIN: u64 = 4;
/// Seconds for each GiB of memory that is touched for the first time.
const FIRST_TOUCH_S_PER_GIB: f64 = 0.3;
/// Bytes per second that one core brings from the page cache to where they are multiplied: copied, checked and packed.
const INTAKE_BYTES_PER_S: f64 = 2.5e9;
/// Bytes per second that one core copies to the page cache.
const COPY_BYTES_PER_S: f64 = 4e9;
/// Bytes per second to durable storage at the end, when nothing is left to compute.
const SYNC_BYTES_PER_S: f64 = 1e9;
/// Seconds for each task beside its arithmetic: threads that end before others, sync, commit, hand-over.
const TASK_OVERHEAD_S: f64 = 8e-3;
/// Measured time of Strassen's algorithm at f64 8192, in parts of the classical one's (bench/results/file_to_file.json); 7/8
/// would be ideal.
const STRASSEN_TIME: f64 = 0.97;
/// Slowdown for each step from the best layout.
const LAYOUT_STEP_COST: f64 = 2e-3;

/// How a tile is computed. Part of the plan, because the bits of the result depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Every element is one sum of products.
    Classical,
    /// One level of Strassen's algorithm: an eighth of the multiplications less, larger rounding errors.
    Strassen,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Algorithm::Classical => "classical",
            Algorithm::Strassen => "strassen",
        })
    }
}

/// Which algorithms a plan may choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlgorithmChoice {
    /// This one.
    Only(Algorithm),
    /// The one that is estimated to be faster.
    Auto,
}

impl AlgorithmChoice {
    /// Whether a stored plan's algorithm will do.
    pub fn accepts(self, algorithm: Algorithm) -> bool {
        self.candidates().contains(&algorithm)
    }

    fn candidates(self) -> &'static [Algorithm] {
        match self {
            AlgorithmChoice::Only(Algorithm::Classical) => &[Algorithm::Classical],
            AlgorithmChoice::Only(Algorithm::Strassen) => &[Algorithm::Strassen],
            AlgorithmChoice::Auto => &[Algorithm::Classical, Algorithm::Strassen],
        }
    }
}

/// What is to be planned.
#[derive(Debug, Clone)]
pub struct PlanRequest<'a> {
    /// op(A), m x k.
    pub a: &'a Operand,
    /// op(B), k x n.
    pub b: &'a Operand,
    /// D, m x n, where something is added.
    pub d: Option<&'a Operand>,
    /// Whether op(B) is op(A)', so that half of C is the mirror image of the other.
    pub symmetric: bool,
    /// The whole process's memory.
    pub memory_bytes: u64,
    /// Threads of all workers together.
    pub n_threads: usize,
    /// Workers in the process.
    pub n_workers: usize,
    /// Processes like this one that share the job, each with that memory and those threads.
    pub n_processes: usize,
    /// Instruction set.
    pub simd: Simd,
    /// How tiles may be computed.
    pub algorithm: AlgorithmChoice,
}

impl Plan {
    /// What a resume keeps.
    pub fn stored(&self) -> StoredPlan {
        StoredPlan {
            grid: self.grid,
            algorithm: self.layout.algorithm,
        }
    }

    /// Flops of the classical product; of a symmetric one, those of the lower triangle.
    pub fn flops(&self) -> f64 {
        let Grid { m, n, symmetric, .. } = self.grid;
        let n_elements = if symmetric {
            m as f64 * (m + 1) as f64 / 2.0
        } else {
            m as f64 * n as f64
        };
        2.0 * n_elements * self.k as f64
    }

    /// Estimated seconds that the longest task takes one worker.
    pub fn task_seconds_on_a_worker(&self) -> f64 {
        self.task_seconds_max() * self.n_workers as f64
    }

    /// Estimated seconds that the longest task adds to the job. Tasks of a symmetric product differ: those that cross the diagonal
    /// are shorter.
    fn task_seconds_max(&self) -> f64 {
        if self.grid.symmetric {
            let tile_area = self.grid.tile_rows_max() as f64 * self.grid.tile_cols_max() as f64;
            let share = 2.0 * tile_area * self.k as f64 / self.flops().max(1.0);
            self.seconds * share.min(1.0)
        } else {
            self.seconds / self.grid.n_tiles().max(1) as f64
        }
    }
}

/// A plan: the grid and the algorithm are what a resume keeps; the rest follows from them and the resources at hand.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The tiles.
    pub grid: Grid,
    /// Inner dimension.
    pub k: u64,
    /// Buffers of each worker.
    pub layout: Layout,
    /// Peak memory of the process.
    pub memory_planned_bytes: u64,
    /// Bytes that will be read.
    pub bytes_read: u64,
    /// Bytes that will be written.
    pub bytes_written: u64,
    /// Fewest bytes that any algorithm moves with this memory.
    pub bytes_bound: f64,
    /// Estimated seconds.
    pub seconds: f64,
    /// Workers that share the work, of all processes.
    pub n_workers: usize,
}

/// The stored part of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPlan {
    /// The tiles.
    pub grid: Grid,
    /// How they are computed.
    pub algorithm: Algorithm,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// More tiles than one round can have.
    #[error("{memory_bytes} bytes of memory would take more than {TASKS_MAX} tasks")]
    TooManyTasks {
        /// What was allowed.
        memory_bytes: u64,
    },
    /// The budget does not hold the smallest tile and its panels.
    #[error("{memory_bytes} bytes of memory are too few: {smallest_bytes} would do")]
    TooLittleMemory {
        /// What was allowed.
        memory_bytes: u64,
        /// The least that works.
        smallest_bytes: u64,
    },
}

impl PlanRequest<'_> {
    /// Chooses a grid and plans it.
    pub fn plan<T: Number>(&self) -> Result<Plan, PlanError> {
        let kernel = Kernel::<T>::new(self.simd);
        let (m, n) = (self.a.rows(), self.b.cols());
        let grids = self.grids(&kernel);
        let plans: Vec<Plan> = grids
            .clone()
            .flat_map(|grid| self.layouts(grid, &kernel))
            .collect();
        if !plans.is_empty() && plans.iter().all(|plan| plan.grid.n_tiles() > TASKS_MAX) {
            let memory_bytes = self.memory_bytes;
            return Err(PlanError::TooManyTasks { memory_bytes });
        }
        let out_of_core = m.saturating_mul(n).saturating_mul(size_of::<T>() as u64) > self.memory_bytes;
        let seconds_max = if out_of_core {
            TASK_SECONDS_MAX_OUT_OF_CORE
        } else {
            TASK_SECONDS_MAX
        };
        let short_tasks =
            |plan: &&Plan| plan.task_seconds_max() <= seconds_max && plan.grid.n_tiles() <= TASKS_MAX;
        let n_shared = if self.n_processes > 1 {
            TASKS_PER_PROCESS_MIN * self.n_processes as u64
        } else {
            0
        };
        let enough_tasks = |plan: &&Plan| {
            let n_tiles = plan.grid.n_tiles();
            let is_short = out_of_core || plan.seconds <= SHORT_JOB_SECONDS;
            n_tiles >= n_shared.min(m * n) && (is_short || n_tiles >= LONG_JOB_TASKS_MIN.min(m * n))
        };
        let bytes_first = |plan: &Plan| if out_of_core { plan.bytes_read } else { 0 };
        let better = |x: &&Plan, y: &&Plan| {
            bytes_first(x)
                .cmp(&bytes_first(y))
                .then(x.seconds.total_cmp(&y.seconds))
        };
        let fastest = plans.iter().filter(short_tasks).min_by(better);
        let best = plans
            .iter()
            .filter(short_tasks)
            .filter(enough_tasks)
            .min_by(better);
        let best = match (best, fastest) {
            (Some(best), Some(fastest))
                if n_shared == 0 && best.seconds > fastest.seconds * LONG_JOB_TASKS_COST_MAX =>
            {
                Some(fastest)
            }
            _ => best,
        };
        // A single tile may take over ten seconds when k alone is large enough: then the smallest tiles that fit are best.
        let countable = plans.iter().filter(|plan| plan.grid.n_tiles() <= TASKS_MAX);
        let best = best.or_else(|| countable.max_by_key(|plan| plan.grid.n_tiles()));
        best.cloned()
            .ok_or_else(|| self.too_little_memory(grids, &kernel))
    }

    /// Plans what an earlier run decided.
    pub fn plan_stored<T: Number>(&self, stored: StoredPlan) -> Result<Plan, PlanError> {
        let kernel = Kernel::<T>::new(self.simd);
        let StoredPlan { grid, algorithm } = stored;
        let this = PlanRequest {
            algorithm: AlgorithmChoice::Only(algorithm),
            ..*self
        };
        this.layouts(grid, &kernel)
            .min_by(|x, y| x.seconds.total_cmp(&y.seconds))
            .ok_or_else(|| this.too_little_memory([grid], &kernel))
    }

    /// The least memory of a process that can do the tasks of a stored plan.
    pub fn bytes_needed<T: Number>(&self, stored: StoredPlan) -> u64 {
        let kernel = Kernel::<T>::new(self.simd);
        let request = self.layout_request(&stored.grid, stored.algorithm);
        Layout::smallest(&request, &kernel).map_or(u64::MAX, |layout| layout.process_bytes(&request))
    }

    /// The grids to choose from.
    fn grids<T: Number>(&self, kernel: &Kernel<T>) -> impl Iterator<Item = Grid> + Clone {
        let (m, n, symmetric) = (self.a.rows(), self.b.cols(), self.symmetric);
        let is_empty = m == 0 || n == 0;
        let counts = move |len: u64, panel: usize| {
            let most = if is_empty { 0 } else { len.div_ceil(panel as u64) };
            strip_counts(most)
        };
        let (mr, nr) = (kernel.mr(), kernel.nr());
        counts(m, mr).flat_map(move |n_row_strips| {
            counts(n, nr).map(move |n_col_strips| Grid {
                m,
                n,
                n_row_strips,
                n_col_strips,
                symmetric,
            })
        })
    }

    /// Strassen's errors depend on where in a tile an element is, so that the halves of a symmetric product would differ.
    fn algorithms(&self) -> &'static [Algorithm] {
        if self.symmetric {
            &[Algorithm::Classical]
        } else {
            self.algorithm.candidates()
        }
    }

    /// The least that any of these grids can do with.
    fn too_little_memory<T: Number>(
        &self,
        grids: impl IntoIterator<Item = Grid>,
        kernel: &Kernel<T>,
    ) -> PlanError {
        let algorithms = self.algorithms();
        let least = grids.into_iter().flat_map(|grid| {
            algorithms.iter().filter_map(move |algorithm| {
                let request = self.layout_request(&grid, *algorithm);
                Layout::smallest(&request, kernel).map(|layout| layout.process_bytes(&request))
            })
        });
        PlanError::TooLittleMemory {
            memory_bytes: self.memory_bytes,
            smallest_bytes: least.min().unwrap_or(u64::MAX),
        }
    }

    fn layout_request<'b>(&'b self, grid: &'b Grid, algorithm: Algorithm) -> LayoutRequest<'b> {
        let n_threads = (self.n_threads / self.n_workers).max(1);
        LayoutRequest {
            grid,
            k: self.a.cols(),
            a: self.a,
            b: self.b,
            d: self.d,
            n_threads,
            n_workers: self.n_workers,
            algorithm,
        }
    }

    /// The plans of a grid: by each algorithm, with B's columns kept packed, and slab by slab.
    fn layouts<T: Number>(&self, grid: Grid, kernel: &Kernel<T>) -> impl Iterator<Item = Plan> + use<'_, T> {
        let kernel = *kernel;
        let choices = self
            .algorithms()
            .iter()
            .flat_map(|algorithm| [PackedB::Columns, PackedB::Slab].map(|packed_b| (*algorithm, packed_b)));
        choices.filter_map(move |(algorithm, packed_b)| self.layout_grid(grid, algorithm, packed_b, &kernel))
    }

    fn layout_grid<T: Number>(
        &self,
        grid: Grid,
        algorithm: Algorithm,
        packed_b: PackedB,
        kernel: &Kernel<T>,
    ) -> Option<Plan> {
        let request = self.layout_request(&grid, algorithm);
        let (layout, rank) = Layout::fit(&request, kernel, packed_b, self.memory_bytes)?;
        let (k, itemsize) = (self.a.cols(), size_of::<T>() as u64);
        let cols_packed = match packed_b {
            PackedB::Slab => grid.sum_of_tile_cols(),
            PackedB::Columns => grid.n * grid.n_row_strips.min((self.n_workers * self.n_processes) as u64),
        };
        let d_bytes_read = self
            .d
            .map_or(0, |d| grid.m * grid.n * stored_itemsize(d, itemsize));
        let bytes_read = k
            * (grid.sum_of_tile_rows() * stored_itemsize(self.a, itemsize)
                + cols_packed * stored_itemsize(self.b, itemsize))
            + d_bytes_read;
        let bytes_written = grid.m * grid.n * itemsize;
        let memory_planned_bytes = layout.process_bytes(&request);
        let n_cols_mean = if grid.symmetric {
            // Of what crosses the diagonal, half lies above it for nothing.
            (grid.n + DIAGONAL_ROWS as u64).min(2 * grid.n) as f64 / 2.0
        } else {
            grid.n as f64
        };
        let flops = 2.0 * grid.m as f64 * n_cols_mean * k as f64;
        let compute_s = flops / self.rate_flops::<T>()
            * relative_time(algorithm, &layout, T::KC)
            * (1.0 + LAYOUT_STEP_COST * rank as f64);
        let copy_s = (bytes_read as f64 / INTAKE_BYTES_PER_S + bytes_written as f64 / COPY_BYTES_PER_S)
            / (self.n_threads * self.n_processes) as f64;
        let touch_s = memory_planned_bytes as f64 / (1u64 << 30) as f64 * FIRST_TOUCH_S_PER_GIB;
        let tail_s = layout.tile_bytes() as f64 / SYNC_BYTES_PER_S;
        let seconds = compute_s
            + copy_s
            + touch_s
            + tail_s
            + TASK_OVERHEAD_S * grid.n_tiles().div_ceil(self.n_processes as u64) as f64;
        // D is read once, whatever the memory.
        let d_bytes = if self.d.is_some() { bytes_written } else { 0 };
        let bytes_bound = d_bytes as f64
            + if grid.symmetric {
                bytes_bound_symmetric(grid.n, k, itemsize, self.memory_bytes)
            } else {
                bytes_bound(grid.m, grid.n, k, itemsize, self.memory_bytes)
            };
        Some(Plan {
            grid,
            k,
            layout,
            memory_planned_bytes,
            bytes_read,
            bytes_written,
            bytes_bound,
            seconds,
            n_workers: self.n_workers * self.n_processes,
        })
    }

    /// Sustained flops per second of all threads: what the kernels were measured to reach on machines of each kind.
    fn rate_flops<T: Number>(&self) -> f64 {
        let per_core_f64 = match self.simd {
            Simd::Avx512 => 80e9,
            Simd::Avx2 => 40e9,
            Simd::Portable => 4e9,
        };
        per_core_f64 * (8.0 / size_of::<T>() as f64) * (self.n_threads * self.n_processes) as f64
    }
}

/// Time of an algorithm's multiplications in parts of the classical one's.
fn relative_time(algorithm: Algorithm, layout: &Layout, kc: usize) -> f64 {
    let is_small = layout.tile_rows < 3 * kc || layout.packed_cols < 6 * kc || layout.k < 4 * kc;
    match algorithm {
        Algorithm::Classical => 1.0,
        // Small halves gain nothing: packing sums and storing products twice cost as much as an eighth of the multiplications. Measured
        // at f64 4096: 1.06 of the classical time in tiles of 2048 x 2064, 1.05 of 1376 x 2064; at 8192 in 1664 x 4112 they gain.
        Algorithm::Strassen if is_small => 1.1,
        Algorithm::Strassen => STRASSEN_TIME,
    }
}

/// Bytes that are read for one element.
fn stored_itemsize(operand: &Operand, itemsize: u64) -> u64 {
    if operand.source().resident_bytes() > 0 {
        itemsize
    } else {
        operand.source().info().element.size()
    }
}

/// Numbers of strips to try: each up to 16, then in steps of an eighth, up to `most`; only 0 if that is 0.
fn strip_counts(most: u64) -> impl Iterator<Item = u64> + Clone {
    let next = move |count: &u64| Some(count + (count / 8).max(1)).filter(|next| *next <= most);
    std::iter::successors(Some(most.min(1)), next)
}
