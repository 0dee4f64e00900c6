//! The check after the epilogue: what the formula makes of a right product passes, anything else does not.

use super::*;
use crate::check::{Verdict, random_vector};
use crate::plan::{AlgorithmChoice, PlanRequest};
use std::path::Path;
use std::sync::Arc;
use tilework_kernel::{Element, Simd};
use tilework_store::fake_disk::FakeDisk;
use tilework_store::matrix::MatrixSource;
use tilework_store::npy::header::format_header;

const M: usize = 37;
const K: usize = 60;
const N: usize = 29;

fn operand<T: Number>(rows: usize, cols: usize, values: &[T], transposed: bool) -> Operand {
    let disk = FakeDisk::new(0);
    let mut bytes = format_header(rows as u64, cols as u64, T::DTYPE);
    bytes.extend_from_slice(bytemuck::cast_slice(values));
    disk.install(Path::new("/X.npy"), &bytes);
    let source = MatrixSource::open(&disk, Path::new("/X.npy")).unwrap();
    Operand::new(Arc::new(source), transposed)
}

fn numbers<T: Number>(len: usize, seed: u8) -> Vec<T> {
    let mut values = vec![0.0; len];
    random_vector([seed; 32], &mut values);
    values.into_iter().map(<T as Element>::from_f64).collect()
}

/// A tile that is the whole of C.
struct Case<T> {
    a: Vec<T>,
    b: Vec<T>,
    /// D, stored by columns if `is_transposed`.
    d: Vec<T>,
    is_transposed: bool,
    alpha: f64,
    beta: f64,
}

impl<T: Number> Case<T> {
    fn new(alpha: f64, beta: f64, is_transposed: bool) -> Case<T> {
        Case {
            a: numbers(M * K, 1),
            b: numbers(K * N, 2),
            d: numbers(M * N, 3),
            is_transposed,
            alpha,
            beta,
        }
    }

    fn product(&self) -> Vec<T> {
        let mut c = vec![T::ZERO; M * N];
        for (i, j) in (0..M).flat_map(|i| (0..N).map(move |j| (i, j))) {
            c[i * N + j] = (0..K).fold(T::ZERO, |sum, p| {
                Element::mul_add(self.a[i * K + p], self.b[p * N + j], sum)
            });
        }
        c
    }

    /// Applies the epilogue with `applied` in place of D to the product, changes the result, and checks it against D's own sums.
    fn verdict(&self, change: impl Fn(&mut [T], usize)) -> (Verdict, ErrorModel) {
        let (a, b) = (operand(M, K, &self.a, false), operand(K, N, &self.b, false));
        let d = if self.is_transposed {
            operand(N, M, &self.d, true)
        } else {
            operand(M, N, &self.d, false)
        };
        let addend = Addend { d, beta: self.beta };
        let formula = Formula::new(self.alpha, Some(addend), T::DTYPE).unwrap();
        let request = PlanRequest {
            a: &a,
            b: &b,
            d: formula.d(),
            symmetric: false,
            memory_bytes: 64 << 20,
            n_threads: 2,
            n_workers: 1,
            n_processes: 1,
            simd: Simd::Portable,
            algorithm: AlgorithmChoice::Only(Algorithm::Classical),
        };
        let plan = request.plan::<T>().unwrap();
        let mut workspace = Workspace::<T>::new(plan.layout, Simd::Portable).unwrap();
        let tile = Tile {
            rows: 0..M as u64,
            cols: 0..N as u64,
        };
        let epilogue = Epilogue::new(&formula, &plan.layout, &tile).expect("the formula is not plain");
        let model = epilogue.enlarge::<T>(ErrorModel::new::<T>(&a, &b, N, 1, 1));
        workspace.check.start_columns(model, [7; 32]);
        workspace.check.start_tile(model);
        let CheckParts { x, mut rows, .. } = workspace.check.split(M);
        let (mut y, mut y_magnitude) = ([0.0; K], [0.0; K]);
        let sums = WeightedMut {
            value: &mut y,
            magnitude: &mut y_magnitude,
        };
        add_matvec(MatRef::row_major(&self.b, K, N), x, sums);
        let y = Weighted {
            value: &y,
            magnitude: &y_magnitude,
        };
        add_matvec(MatRef::row_major(&self.a, M, K), y, rows.part(0..M));
        let ld = plan.layout.leading_dimension;
        let mut c = vec![T::ZERO; M * ld];
        for (row, product) in c.chunks_mut(ld).zip(self.product().chunks(N)) {
            row[..N].copy_from_slice(product);
        }
        epilogue
            .apply(&mut workspace, &model, &mut c, &|| Ok(()))
            .unwrap();
        change(&mut c, ld);
        (workspace.check.finish_tile(&mut c, N, ld, 16).0, model)
    }
}

fn check_right_and_wrong<T: Number>() {
    for (alpha, beta) in [
        (1.0, 1.0),
        (-0.7, 2.5),
        (1e-30, 1e30),
        (1e30, 1e-30),
        (0.0, 3.0),
        (2.0, 0.0),
    ] {
        for is_transposed in [false, true] {
            let case = Case::<T>::new(alpha, beta, is_transposed);
            let story = format!("{alpha}, {beta}, {is_transposed}");
            let (verdict, model) = case.verdict(|_, _| ());
            let Verdict::Passed { residual_max, .. } = verdict else {
                panic!("{story}: {verdict:?}")
            };
            assert!(residual_max < model.coefficient / 10.0, "{story}: {residual_max}");
            let limit = 4.0 * model.coefficient * (alpha.abs() * (K * N) as f64 + beta.abs() * N as f64);
            for at in (0..M * N).step_by(41) {
                let (row, col) = (at / N, at % N);
                let (verdict, _) = case.verdict(|c, ld| {
                    let element = &mut c[row * ld + col];
                    *element = <T as Element>::from_f64(Element::to_f64(*element) + limit);
                });
                assert!(
                    matches!(verdict, Verdict::Failed { row: found, .. } if found == row),
                    "{story}: {row}, {col}: {verdict:?}"
                );
            }
        }
    }
}

#[test]
fn right_results_pass_and_changed_elements_are_seen() {
    check_right_and_wrong::<f64>();
    check_right_and_wrong::<f32>();
}

#[test]
fn a_row_without_its_addend_is_seen() {
    let case = Case::<f64>::new(1.0, 1e-6, false);
    let (verdict, _) = case.verdict(|c, ld| {
        let product = case.product();
        c[5 * ld..][..N].copy_from_slice(&product[5 * N..][..N]);
    });
    assert!(matches!(verdict, Verdict::Failed { row: 5, .. }), "{verdict:?}");
}

#[test]
fn a_nan_in_d_is_never_passed() {
    let mut case = Case::<f64>::new(1.0, 1.0, false);
    case.d[3 * N + 4] = f64::NAN;
    assert_eq!(case.verdict(|_, _| ()).0, Verdict::NotFinite);
    let (verdict, _) = case.verdict(|c, ld| c[3 * ld + 4] = 1.0);
    assert_eq!(verdict, Verdict::NotFinite);
}

#[test]
fn cuts_fill_the_buffer_with_long_runs_and_whole_blocks() {
    let d = operand(1, 1, &[0.0f64], false);
    let request = PlanRequest {
        a: &d,
        b: &d,
        d: None,
        symmetric: false,
        memory_bytes: 64 << 20,
        n_threads: 1,
        n_workers: 1,
        n_processes: 1,
        simd: Simd::Portable,
        algorithm: AlgorithmChoice::Only(Algorithm::Classical),
    };
    let layout = Layout {
        chunk_bytes: 256 << 10,
        tile_rows: 100_000,
        ..request.plan::<f64>().unwrap().layout
    };
    assert_eq!(Cut::new(&layout, &d, 100_000), Cut { rows: 16, cols: 2048 });
    assert_eq!(Cut::new(&layout, &d, 3), Cut { rows: 10912, cols: 3 });
    let by_columns = operand(1, 1, &[0.0f64], true);
    assert_eq!(
        Cut::new(&layout, &by_columns, 100_000),
        Cut { rows: 2048, cols: 16 }
    );
    let low = Layout {
        tile_rows: 5,
        ..layout
    };
    assert_eq!(Cut::new(&low, &by_columns, 100_000), Cut { rows: 16, cols: 2048 });
}
