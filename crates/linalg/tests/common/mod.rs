//! A whole multiplication on a disk in memory: make inputs, run, look at the output.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tilework_core::driver::Assign;
use tilework_core::failure::{Failure, JobEnd};
use tilework_core::ids::{Attempt, TaskIdx};
use tilework_kernel::{Element, Simd};
use tilework_linalg::certify::Product;
use tilework_linalg::formula::{Addend, Formula};
use tilework_linalg::input_guard::InputGuard;
use tilework_linalg::multiply::{MultiplySettings, NUMERICS_VERSION};
use tilework_linalg::plan::StoredPlan;
use tilework_linalg::recompute::{RowsOf, plain_rows};
use tilework_linalg::tiles::Grid;
use tilework_linalg::{Algorithm, AlgorithmChoice, Multiply, MultiplySpec, Number, Operand, PlanRequest};
use tilework_runtime::description::FORMAT_VERSION;
use tilework_runtime::{
    FolderState, JobDescription, JobFolder, Observer, RunOptions, RunReport, StopSwitch, run,
};
use tilework_store::disk::Disk;
use tilework_store::element_type::Scalar;
use tilework_store::fake_disk::FakeDisk;
use tilework_store::matrix::MatrixSource;
use tilework_store::npy::header::format_header;

pub type Description = JobDescription<MultiplySpec, StoredPlan>;

/// What a test varies.
#[derive(Clone)]
pub struct Setup {
    pub transpose: (bool, bool),
    pub alpha: f64,
    /// Where D is and its factor, where D is added.
    pub addend: Option<(&'static str, f64)>,
    /// C is A·A', or A'·A where A is transposed; there is no B.
    pub symmetric: bool,
    pub memory_bytes: u64,
    pub n_threads: usize,
    pub n_workers: usize,
    pub simd: Simd,
    pub algorithm: Algorithm,
    /// Strips of rows and columns; the planner's choice if `None`.
    pub strips: Option<(u64, u64)>,
    pub stop: StopSwitch,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            transpose: (false, false),
            alpha: 1.0,
            addend: None,
            symmetric: false,
            memory_bytes: 64 << 20,
            n_threads: 2,
            n_workers: 1,
            simd: Simd::detect(),
            algorithm: Algorithm::Classical,
            strips: None,
            stop: StopSwitch::default(),
        }
    }
}

pub const A: &str = "/data/A.npy";
pub const B: &str = "/data/B.npy";
pub const D: &str = "/data/D.npy";
pub const C: &str = "/data/C.npy";

/// Puts a row-major matrix on the disk.
pub fn install<T: Number>(disk: &FakeDisk, path: &str, rows: usize, cols: usize, values: &[T]) {
    assert_eq!(values.len(), rows * cols);
    let mut bytes = format_header(rows as u64, cols as u64, T::DTYPE);
    bytes.extend_from_slice(bytemuck::cast_slice(values));
    disk.install(Path::new(path), &bytes);
}

/// Puts a matrix of any kind on the disk: `descr` is numpy's, and the values fit it.
pub fn install_as(
    disk: &FakeDisk,
    path: &str,
    (rows, cols): (usize, usize),
    descr: &str,
    column_major: bool,
    values: &[f64],
) {
    let fortran_order = if column_major { "True" } else { "False" };
    let dictionary =
        format!("{{'descr': '{descr}', 'fortran_order': {fortran_order}, 'shape': ({rows}, {cols}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\0".to_vec();
    bytes.extend_from_slice(&(dictionary.len() as u16).to_le_bytes());
    bytes.extend_from_slice(dictionary.as_bytes());
    for at in 0..rows * cols {
        let value = if column_major {
            values[at % rows * cols + at / rows]
        } else {
            values[at]
        };
        match descr {
            "<f8" => bytes.extend_from_slice(&value.to_le_bytes()),
            ">f8" => bytes.extend_from_slice(&value.to_be_bytes()),
            "<f4" => bytes.extend_from_slice(&(value as f32).to_le_bytes()),
            "<i2" => bytes.extend_from_slice(&(value as i16).to_le_bytes()),
            ">i4" => bytes.extend_from_slice(&(value as i32).to_be_bytes()),
            other => panic!("{other}"),
        }
    }
    disk.install(Path::new(path), &bytes);
}

/// Multiplies A and B on `disk` into C, resuming what is there.
pub fn multiply<T: Number>(
    disk: &(impl Disk + Clone + 'static),
    setup: &Setup,
    observer: &dyn Observer,
) -> Result<RunReport, String> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let open = |path: &str| {
        MatrixSource::open(&*shared, Path::new(path))
            .map(Arc::new)
            .map_err(|error| error.to_string())
    };
    let a = Operand::new(open(A)?, setup.transpose.0);
    let b = if setup.symmetric {
        a.transpose()
    } else {
        Operand::new(open(B)?, setup.transpose.1)
    };
    assert_eq!(a.cols(), b.rows(), "the test's shapes match");
    let addend = match setup.addend {
        Some((path, beta)) => Some(Addend {
            d: Operand::new(open(path)?, false),
            beta,
        }),
        None => None,
    };
    let formula = Formula::new(setup.alpha, addend, T::DTYPE).map_err(|error| error.to_string())?;
    let inputs: Vec<&Operand> = [&a, &b].into_iter().chain(formula.d()).collect();
    let guard = InputGuard::new(Arc::clone(&shared), inputs.iter().copied())
        .map_err(|(path, error)| format!("{}: {error}", path.display()))?;
    let mut folder = JobFolder::open(Arc::clone(&shared), Path::new(C)).map_err(|error| error.to_string())?;
    let request = PlanRequest {
        a: &a,
        b: &b,
        d: formula.d(),
        symmetric: setup.symmetric,
        memory_bytes: setup.memory_bytes,
        n_threads: setup.n_threads,
        n_workers: setup.n_workers,
        n_processes: 1,
        simd: setup.simd,
        algorithm: AlgorithmChoice::Only(setup.algorithm),
    };
    let stored: Option<Description> = match folder.state() {
        FolderState::Unfinished(recovered) => {
            let text = recovered
                .job_text
                .as_ref()
                .expect("an unfinished job has a description");
            Some(Description::from_text(text).map_err(|error| error.to_string())?)
        }
        FolderState::Finished(_) => return Err("finished".to_owned()),
        FolderState::Empty => None,
    };
    let (m, n) = (a.rows(), b.cols());
    let given = setup.strips.map(|(p, q)| Grid {
        m,
        n,
        n_row_strips: p.min(m),
        n_col_strips: q.min(n),
        symmetric: setup.symmetric,
    });
    let given = given.map(|grid| StoredPlan {
        grid,
        algorithm: setup.algorithm,
    });
    let plan = match stored.as_ref().map(|stored| stored.plan).or(given) {
        Some(stored) => request.plan_stored::<T>(stored),
        None => request.plan::<T>(),
    };
    let plan = plan.map_err(|error| error.to_string())?;
    let identity = |operand: &Operand| operand.source().identity().map_err(|error| error.to_string());
    let spec = MultiplySpec {
        transpose_a: setup.transpose.0,
        transpose_b: setup.transpose.1,
        dtype: T::DTYPE,
        alpha: setup.alpha,
        beta: setup.addend.map(|(_, beta)| beta),
        symmetric: setup.symmetric,
    };
    let description = stored.unwrap_or(Description {
        format_version: FORMAT_VERSION,
        kind: spec.kind().to_owned(),
        version: spec.version(),
        numerics_version: NUMERICS_VERSION,
        spec,
        plan: plan.stored(),
        inputs: inputs.into_iter().map(identity).collect::<Result<_, _>>()?,
        output: None,
    });
    let settings = MultiplySettings {
        plan,
        simd: setup.simd,
        job: description.id(),
        partial: folder.files().partial(),
        guard,
        formula,
    };
    let job = Arc::new(Multiply::<T>::new(shared, a, b, settings));
    let options = RunOptions {
        n_workers: setup.n_workers as u32,
        memory_bytes: u64::MAX,
        assign: Assign::Dynamic,
        stop: setup.stop.clone(),
        may_replace_output: setup.addend.is_some_and(|(path, _)| path == C),
    };
    Ok(run(
        &job,
        &description.to_text(),
        &mut folder,
        &options,
        observer,
        &|_| b"{}".to_vec(),
    ))
}

/// Multiplies and expects success.
pub fn multiply_done<T: Number>(disk: &FakeDisk, setup: &Setup) -> RunReport {
    let report = multiply::<T>(disk, setup, &()).expect("the run starts");
    assert_eq!(report.end, JobEnd::Done);
    report
}

/// Some rows of C, which is classical and was not its own addend, have the same bits when they are computed plainly: a second look at a tile
/// relies on it.
pub fn assert_plain_rows_are_the_outputs<T: Number>(disk: &FakeDisk, setup: &Setup) {
    let open = |path: &str, transpose: bool| {
        let source = MatrixSource::open(disk, Path::new(path)).expect("the input is there");
        Operand::new(Arc::new(source), transpose)
    };
    let a = open(A, setup.transpose.0);
    let b = if setup.symmetric {
        a.transpose()
    } else {
        open(B, setup.transpose.1)
    };
    if a.rows() == 0 || b.cols() == 0 {
        return;
    }
    let addend = setup.addend.map(|(path, beta)| Addend {
        d: open(path, false),
        beta,
    });
    let formula = Formula::new(setup.alpha, addend, T::DTYPE).expect("it was computed");
    let mut rows = vec![0, a.rows() / 3, a.rows() - 1];
    rows.dedup();
    let mut buffer = vec![T::ZERO; 4096];
    let rows_of = RowsOf {
        a: &a,
        b: &b,
        formula: &formula,
        rows: &rows,
        cols: 0..b.cols(),
        with_magnitudes: false,
    };
    let plain = plain_rows(&rows_of, &mut buffer, &|| Ok(())).expect("inputs are readable");
    let n_cols = b.cols() as usize;
    let c = output::<T>(disk);
    for (row, plain) in rows.iter().zip(plain.values.chunks(n_cols)) {
        let computed = &c[*row as usize * n_cols..][..n_cols];
        if computed
            .iter()
            .all(|element| Scalar::to_f64(*element).is_finite())
        {
            assert_eq!(bits(plain), bits(computed), "row {row}");
        }
    }
}

/// The elements of C.
pub fn output<T: Number>(disk: &FakeDisk) -> Vec<T> {
    let source = MatrixSource::open(disk, Path::new(C)).expect("C is there");
    let (rows, cols) = (source.info().rows, source.info().cols);
    let mut values = vec![T::default(); (rows * cols) as usize];
    source
        .read_block(0..rows, 0..cols, &mut values)
        .expect("C is readable");
    values
}

/// C as the definition has it, with the kernel's order of additions.
pub fn reference<T: Number>(a: &[T], b: &[T], m: usize, k: usize, n: usize) -> Vec<T> {
    let mut c = vec![T::ZERO; m * n];
    for i in 0..m {
        for j in 0..n {
            for block in (0..k).step_by(T::KC) {
                let mut chain = T::ZERO;
                for p in block..k.min(block + T::KC) {
                    chain = Element::mul_add(a[i * k + p], b[p * n + j], chain);
                }
                c[i * n + j] = if block == 0 { chain } else { c[i * n + j] + chain };
            }
        }
    }
    c
}

/// alpha·ab + beta·d as the definition has it: beta·d rounded, then one fused multiply-add.
pub fn combined<T: Number>(ab: &[T], alpha: f64, d: &[T], beta: f64) -> Vec<T> {
    let (alpha, beta) = (<T as Scalar>::from_f64(alpha), <T as Scalar>::from_f64(beta));
    let nothing = <T as Scalar>::from_f64(-0.0);
    let combine = |(ab, d): (&T, &T)| {
        let beta_d = Element::mul_add(beta, *d, nothing);
        Element::mul_add(alpha, *ab, beta_d)
    };
    ab.iter().zip(d).map(combine).collect()
}

/// Small pseudo-random numbers that use the whole significand, so that the order of additions shows.
pub fn numbers<T: Number>(len: usize, seed: u64) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
    };
    (0..len).map(|_| <T as Scalar>::from_f64(next())).collect()
}

/// Values by kind and bits, so that NaN equals NaN.
pub fn bits<T: Number>(values: &[T]) -> Vec<u64> {
    values
        .iter()
        .map(|value| Scalar::to_f64(*value).to_bits())
        .collect()
}

/// Row-major, other way round.
pub fn transposed<T: Number>(values: &[T], rows: usize, cols: usize) -> Vec<T> {
    (0..rows * cols)
        .map(|at| values[at % rows * cols + at / rows])
        .collect()
}

/// With every NaN in the pattern that is written.
pub fn canonical(values: Vec<f64>) -> Vec<f64> {
    values
        .into_iter()
        .map(|value| if value.is_nan() { f64::NAN } else { value })
        .collect()
}

/// C in memory, and its number of columns, as a product to be certified.
pub struct Whole<'a, T>(pub &'a [T], pub usize);

impl<T: Number> Product<T> for Whole<'_, T> {
    fn read(&self, rows: Range<u64>, cols: Range<u64>, out: &mut [T]) -> Result<(), Failure> {
        let places = rows.flat_map(|i| cols.clone().map(move |j| i as usize * self.1 + j as usize));
        places.zip(out).for_each(|(at, out)| *out = self.0[at]);
        Ok(())
    }
}

/// Remembers what was acknowledged, and what ran.
#[derive(Default)]
pub struct Log {
    pub started: Mutex<Vec<TaskIdx>>,
    pub committed: Mutex<Vec<TaskIdx>>,
}

impl Observer for Log {
    fn on_started(&self, attempt: Attempt) {
        self.started.lock().unwrap().push(attempt.task);
    }
    fn on_committed(&self, attempt: Attempt) {
        self.committed.lock().unwrap().push(attempt.task);
    }
}
