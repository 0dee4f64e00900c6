//! Lies by the thousand: each is told in a real attempt, between the kernel and the check, and either caught before its commit or not.
//!
//! Whether a lie is above the published detection limit (docs/numerics.md) is decided here, from the inputs alone.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "the tests and the example use a part each"
)]

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tilework_core::failure::Remedy;
use tilework_core::ids::{Attempt, AttemptNo, JobId, RoundIdx, RunEpoch, TaskIdx};
use tilework_kernel::Simd;
use tilework_linalg::check::element_error_bound;
use tilework_linalg::input_guard::InputGuard;
use tilework_linalg::lies::{Lie, Lies};
use tilework_linalg::multiply::MultiplySettings;
use tilework_linalg::plan::StoredPlan;
use tilework_linalg::tiles::Grid;
use tilework_linalg::workspace::Workspace;
use tilework_linalg::{Algorithm, AlgorithmChoice, Formula, Multiply, Number, Operand, PlanRequest};
use tilework_runtime::{Job, StopSwitch, TaskContext};
use tilework_store::disk::Disk;
use tilework_store::element_type::Scalar;
use tilework_store::fake_disk::FakeDisk;
use tilework_store::matrix::MatrixSource;
use tilework_store::npy::header::format_header;

/// What matrices are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elements {
    /// Standard normal.
    Normal,
    /// Uniform from 0 to 1.
    Positive,
    /// Normal, but for a few rows of which one element is nearly all, so that they stand out.
    Uneven,
}

/// A product of two tiles side by side, whose worker can be made to lie.
pub struct Campaign<T> {
    job: Multiply<T>,
    workspace: Workspace<T>,
    /// Of both tiles, row by row.
    rows: [Vec<Row>; 2],
    n_attempts: u32,
    dice: ChaCha8Rng,
}

/// What is known of a row of a tile.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// The published detection limit: any larger change of one element is seen.
    limit: f64,
    /// What rounding may cost all its elements together, by the bound that the plan promises.
    rounding: f64,
}

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Judged {
    /// It passed; the check's bound.
    Right(f64),
    /// A row is outside of its bound, or not finite.
    OutOfBound,
    /// A row that stood out has other bits when it is computed once more.
    Differs,
}

/// What became of some lies.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Lies that changed an element by more than its row's limit.
    pub n_above: u64,
    /// Those of them that the bound alone caught.
    pub n_above_by_bound: u64,
    /// Those of them that were caught.
    pub n_above_caught: u64,
    /// How many of them may pass the bound by chance, at most, on average: only where several elements of a row changed.
    pub n_passing_expected: f64,
    /// All others.
    pub n_below: u64,
    /// Those of them that were caught.
    pub n_below_caught: u64,
    /// The largest change that passed, in parts of what rounding may cost its row.
    pub passed_max: f64,
}

impl Tally {
    /// Whether no more passed the bound than chance allows, and nothing where it allows nothing.
    pub fn holds(&self) -> bool {
        let n_passed = (self.n_above - self.n_above_by_bound) as f64;
        n_passed <= self.n_passing_expected + 5.0 * self.n_passing_expected.sqrt()
    }
}

impl<T: Number> Campaign<T> {
    /// Tiles of m x n, k deep.
    pub fn new((m, n, k): (usize, usize, usize), elements: Elements, seed: u64) -> Campaign<T> {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let mut a = matrix::<T>(m * k, elements, &mut dice);
        let mut b = matrix::<T>(k * 2 * n, elements, &mut dice);
        if elements == Elements::Uneven {
            let some = |is_one: bool, value: f64| <T as Scalar>::from_f64(if is_one { value } else { 0.0 });
            (0..m).for_each(|row| a[row * k] = some(row % 16 == 3, 1.0));
            (0..2 * n).for_each(|col| b[col] = some(col % n == 5, 1e6));
        }
        let disk = FakeDisk::new(0);
        let operand = |name: &str, rows: usize, cols: usize, values: &[T]| {
            let mut bytes = format_header(rows as u64, cols as u64, T::DTYPE);
            bytes.extend_from_slice(bytemuck::cast_slice(values));
            disk.install(Path::new(name), &bytes);
            let source = MatrixSource::open(&disk, Path::new(name)).unwrap();
            Operand::new(Arc::new(source), false)
        };
        let (a_stored, b_stored) = (operand("/A.npy", m, k, &a), operand("/B.npy", k, 2 * n, &b));
        let request = PlanRequest {
            a: &a_stored,
            b: &b_stored,
            d: None,
            symmetric: false,
            memory_bytes: 4 << 30,
            n_threads: 1,
            n_workers: 1,
            n_processes: 1,
            simd: Simd::detect(),
            algorithm: AlgorithmChoice::Only(Algorithm::Classical),
        };
        let grid = Grid {
            m: m as u64,
            n: 2 * n as u64,
            n_row_strips: 1,
            n_col_strips: 2,
            symmetric: false,
        };
        let algorithm = Algorithm::Classical;
        let plan = request.plan_stored::<T>(StoredPlan { grid, algorithm }).unwrap();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let guard = InputGuard::new(Arc::clone(&shared), [&a_stored, &b_stored]).unwrap();
        let settings = MultiplySettings {
            plan,
            formula: Formula::new(1.0, None, T::DTYPE).unwrap(),
            simd: Simd::detect(),
            job: JobId([7; 16]),
            partial: "/C.npy.partial".into(),
            guard,
        };
        let job = Multiply::new(shared, a_stored, b_stored, settings);
        let workspace = job.workspace().unwrap();
        let mut campaign = Campaign {
            job,
            workspace,
            rows: [Vec::new(), Vec::new()],
            n_attempts: 0,
            dice,
        };
        for task in 0..2 {
            let Judged::Right(coefficient) = campaign.attempt(task) else {
                panic!("the truth was refused");
            };
            let cols = task * n..(task + 1) * n;
            let b_sums: Vec<f64> = (0..k)
                .map(|p| cols.clone().map(|j| Scalar::to_f64(b[p * 2 * n + j]).abs()).sum())
                .collect();
            let magnitude = |row: &[T]| -> f64 {
                let terms = row.iter().zip(&b_sums);
                terms.map(|(a, b_sum)| Scalar::to_f64(*a).abs() * b_sum).sum()
            };
            let row = |magnitude: f64| Row {
                limit: 4.0 * coefficient * magnitude,
                rounding: element_error_bound::<T>(algorithm, k) * magnitude,
            };
            campaign.rows[task] = a.chunks(k).map(magnitude).map(row).collect();
        }
        campaign
    }

    /// Computes both tiles `n` times, honestly; how many tiles had rows that stood out since the beginning.
    pub fn n_second_looks(&mut self, n: usize) -> u64 {
        self.workspace.liar.lies = None;
        for task in (0..2 * n).map(|at| at % 2) {
            assert!(
                matches!(self.attempt(task), Judged::Right(_)),
                "the truth was refused"
            );
        }
        self.workspace.n_second_looks
    }

    /// Computes a tile once more, with another x.
    fn attempt(&mut self, task: usize) -> Judged {
        self.n_attempts += 1;
        let of = Attempt {
            epoch: RunEpoch(self.n_attempts),
            round: RoundIdx(0),
            task: TaskIdx(task as u64),
            attempt: AttemptNo(0),
        };
        let (stop, work_done) = (StopSwitch::default(), AtomicU64::new(0));
        let context = TaskContext::apart(of, &stop, &work_done);
        match self.job.run(&mut self.workspace, &context) {
            Ok((_, summary)) => Judged::Right(summary.residual_bound),
            Err(failure) if failure.remedy == Remedy::Corrupt && failure.text.contains("other bits") => {
                Judged::Differs
            }
            Err(failure) if failure.remedy == Remedy::Corrupt => Judged::OutOfBound,
            Err(failure) => panic!("{failure:?}"),
        }
    }

    /// The largest limit of all rows.
    pub fn limit_max(&self) -> f64 {
        self.rows
            .iter()
            .flatten()
            .map(|row| row.limit)
            .fold(0.0, f64::max)
    }

    /// The limit of the row in the middle.
    pub fn limit_median(&self) -> f64 {
        let mut limits: Vec<f64> = self.rows.iter().flatten().map(|row| row.limit).collect();
        limits.sort_by(f64::total_cmp);
        limits[limits.len() / 2]
    }

    /// Tells a lie of this kind and adds what became of it; nothing if the tile stayed what it was.
    pub fn tell(&mut self, lie: Lie, tally: &mut Tally) {
        let seed = self.dice.next_u64();
        let kinds = vec![lie];
        self.workspace.liar.lies = Some(Lies {
            worker: None,
            kinds,
            rate: 1.0,
            seed,
        });
        // Turns, so that no columns stay packed and each attempt has an x of its own, and the tile before is another.
        let task = self.n_attempts as usize % 2;
        let judged = self.attempt(task);
        let caught = !matches!(judged, Judged::Right(_));
        let Some(told) = self.workspace.liar.told.take() else {
            assert!(!caught, "the truth was refused");
            return;
        };
        let rows = || told.changes.iter().zip(&self.rows[task]);
        let excess = rows().map(|(change, row)| change / row.limit).fold(0.0, f64::max);
        if excess > 1.0 {
            tally.n_above += 1;
            tally.n_above_by_bound += u64::from(judged == Judged::OutOfBound);
            tally.n_above_caught += u64::from(caught);
            if matches!(lie, Lie::Row | Lie::Panels | Lie::Pair(_) | Lie::Stale) {
                tally.n_passing_expected += (0.5 / excess).min(1.0);
            }
        } else {
            tally.n_below += 1;
            tally.n_below_caught += u64::from(caught);
        }
        if !caught {
            let share = rows()
                .map(|(change, row)| change / row.rounding)
                .fold(0.0, f64::max);
            tally.passed_max = tally.passed_max.max(share);
        }
    }

    /// Tells lies until `n` were above the limit, at most `n_max`.
    pub fn tell_many(&mut self, lie: Lie, n: u64, n_max: u64) -> Tally {
        let mut tally = Tally::default();
        for _ in 0..n_max {
            if tally.n_above == n {
                break;
            }
            self.tell(lie, &mut tally);
        }
        tally
    }

    /// Cancelling pairs whose size is the largest limit times a factor from `factors`, even on a scale of powers.
    pub fn tell_pairs(&mut self, factors: (f64, f64), n: u64) -> Tally {
        let mut tally = Tally::default();
        let limit = self.limit_max();
        for _ in 0..n {
            let share = (self.dice.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
            let factor = factors.0 * (factors.1 / factors.0).powf(share);
            self.tell(Lie::Pair(Some(factor * limit)), &mut tally);
        }
        tally
    }
}

fn matrix<T: Number>(len: usize, elements: Elements, dice: &mut ChaCha8Rng) -> Vec<T> {
    let mut uniform = || ((dice.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let element = |_| match elements {
        Elements::Positive => uniform(),
        Elements::Normal | Elements::Uneven => {
            (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()
        }
    };
    (0..len).map(element).map(<T as Scalar>::from_f64).collect()
}
