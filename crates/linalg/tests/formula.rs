//! alpha·op(A)·op(B) + beta·D against the definition.

mod common;

use common::*;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use tilework_core::failure::{Cause, JobEnd};
use tilework_kernel::Simd;
use tilework_linalg::certify::{Certificate, Claim, certify};
use tilework_linalg::formula::Addend;
use tilework_linalg::plan::StoredPlan;
use tilework_linalg::tiles::Grid;
use tilework_linalg::{Algorithm, Formula, MultiplySpec, Number, Operand};
use tilework_store::element_type::{Dtype, Scalar};
use tilework_store::fake_disk::FakeDisk;
use tilework_store::matrix::MatrixSource;

type Shape = (usize, usize, usize);

/// How D is stored.
#[derive(Debug, Clone, Copy)]
struct Storage {
    descr: &'static str,
    column_major: bool,
}

const BY_ROWS: Storage = Storage {
    descr: "<f8",
    column_major: false,
};
const BY_COLUMNS: Storage = Storage {
    column_major: true,
    ..BY_ROWS
};

/// Row-major, other way round.
fn transposed<T: Number>(values: &[T], rows: usize, cols: usize) -> Vec<T> {
    (0..rows * cols)
        .map(|at| values[at % rows * cols + at / rows])
        .collect()
}

/// Whole numbers that any storage can hold.
fn whole(len: usize) -> Vec<f64> {
    (0..len as i64).map(|i| (i * 31 % 199 - 99) as f64).collect()
}

/// `setup`'s alpha·op(A)·op(B) + beta·D by the program.
fn computed<T: Number>(
    a: &[T],
    b: &[T],
    d: &[f64],
    (m, k, n): Shape,
    storage: Storage,
    setup: &Setup,
) -> Vec<T> {
    let disk = FakeDisk::new(1);
    match setup.transpose.0 {
        true => install(&disk, A, k, m, &transposed(a, m, k)),
        false => install(&disk, A, m, k, a),
    }
    match setup.transpose.1 {
        true => install(&disk, B, n, k, &transposed(b, k, n)),
        false => install(&disk, B, k, n, b),
    }
    install_as(&disk, D, (m, n), storage.descr, storage.column_major, d);
    multiply_done::<T>(&disk, setup);
    assert_plain_rows_are_the_outputs::<T>(&disk, setup);
    output(&disk)
}

/// The same by the definition.
fn expected<T: Number>(a: &[T], b: &[T], d: &[f64], (m, k, n): Shape, setup: &Setup) -> Vec<T> {
    let d: Vec<T> = d.iter().map(|d| <T as Scalar>::from_f64(*d)).collect();
    let beta = setup.addend.expect("these tests add").1;
    combined(&reference(a, b, m, k, n), setup.alpha, &d, beta)
}

fn setup(alpha: f64, beta: f64) -> Setup {
    Setup {
        alpha,
        addend: Some((D, beta)),
        ..Setup::default()
    }
}

fn any_storage() -> impl Strategy<Value = Storage> {
    let descrs = prop::sample::select(vec!["<f8", ">f8", "<f4", "<i2", ">i4"]);
    (descrs, any::<bool>()).prop_map(|(descr, column_major)| Storage { descr, column_major })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_and_storage_gives_the_reference_bits(
        m in 1usize..70, k in 0usize..600, n in 1usize..70, p in 1u64..5, q in 1u64..5, seed in 1u64..99,
        alpha in -3.0f64..3.0, beta in -3.0f64..3.0, storage in any_storage(), transpose in any::<(bool, bool)>(),
    ) {
        let (a, b, d) = (numbers::<f64>(m * k, seed), numbers::<f64>(k * n, seed + 1), whole(m * n));
        let setup = Setup { strips: Some((p, q)), transpose, ..setup(alpha, beta) };
        let expected = bits(&expected(&a, &b, &d, (m, k, n), &setup));
        prop_assert_eq!(bits(&computed(&a, &b, &d, (m, k, n), storage, &setup)), expected);
    }

    #[test]
    fn f32_gives_the_reference_bits(
        m in 1usize..40, k in 0usize..300, n in 1usize..40, seed in 1u64..99,
        alpha in -3.0f64..3.0, beta in -3.0f64..3.0, storage in any_storage(),
    ) {
        let (a, b, d) = (numbers::<f32>(m * k, seed), numbers::<f32>(k * n, seed + 1), whole(m * n));
        let setup = setup(alpha, beta);
        let expected = bits(&expected(&a, &b, &d, (m, k, n), &setup));
        prop_assert_eq!(bits(&computed(&a, &b, &d, (m, k, n), storage, &setup)), expected);
    }

    #[test]
    fn alpha_alone_scales_with_one_rounding(m in 1usize..40, k in 0usize..300, n in 1usize..40, alpha in -3.0f64..3.0) {
        let (a, b) = (numbers::<f64>(m * k, 3), numbers::<f64>(k * n, 4));
        let disk = FakeDisk::new(1);
        install(&disk, A, m, k, &a);
        install(&disk, B, k, n, &b);
        let setup = Setup { alpha, ..Setup::default() };
        multiply_done::<f64>(&disk, &setup);
        assert_plain_rows_are_the_outputs::<f64>(&disk, &setup);
        let scaled: Vec<f64> = reference(&a, &b, m, k, n).into_iter().map(|ab| alpha * ab).collect();
        prop_assert_eq!(bits(&output::<f64>(&disk)), bits(&scaled));
    }
}

proptest! {
    #[test]
    fn a_journal_gives_the_factors_back_bit_by_bit(alpha in prop::num::f64::NORMAL, beta in prop::option::of(prop::num::f64::NORMAL)) {
        let description = Description {
            format_version: 1,
            kind: "multiply".to_owned(),
            version: 1,
            numerics_version: 1,
            spec: MultiplySpec { transpose_a: false, transpose_b: false, dtype: Dtype::F64, alpha, beta, symmetric: false },
            plan: StoredPlan { grid: Grid { m: 1, n: 1, n_row_strips: 1, n_col_strips: 1, symmetric: false }, algorithm: Algorithm::Classical },
            inputs: Vec::new(),
            output: None,
        };
        let read = Description::from_text(&description.to_text()).unwrap();
        prop_assert_eq!(read.spec.alpha.to_bits(), alpha.to_bits());
        prop_assert_eq!(read.spec.beta.map(f64::to_bits), beta.map(f64::to_bits));
    }
}

#[test]
fn bits_do_not_depend_on_threads_workers_memory_or_instruction_set() {
    // Wide and tall enough for several reads of D in either direction, with the smallest buffers.
    for (m, k, n) in [(70, 90, 4700), (4700, 90, 70), (301, 611, 257)] {
        let (a, b, d) = (
            numbers::<f64>(m * k, 5),
            numbers::<f64>(k * n, 6),
            numbers(m * n, 7),
        );
        let common = setup(1.25, -0.3);
        let expected = bits(&expected(&a, &b, &d, (m, k, n), &common));
        let mut setups: Vec<Setup> = Simd::available()
            .into_iter()
            .map(|simd| Setup {
                simd,
                ..common.clone()
            })
            .collect();
        for (n_threads, memory_bytes) in [(1, 20 << 20), (2, 24 << 20), (3, 64 << 20), (2, 1 << 30)] {
            setups.push(Setup {
                n_threads,
                memory_bytes,
                ..common.clone()
            });
        }
        setups.push(Setup {
            n_workers: 3,
            n_threads: 3,
            strips: Some((5, 4)),
            ..common.clone()
        });
        for setup in setups {
            for storage in [BY_ROWS, BY_COLUMNS] {
                assert!(
                    bits(&computed(&a, &b, &d, (m, k, n), storage, &setup)) == expected,
                    "{m} x {k} x {n}, {storage:?}, {} bytes, {} threads",
                    setup.memory_bytes,
                    setup.n_threads
                );
            }
        }
    }
}

#[test]
fn an_empty_sum_leaves_beta_d() {
    let d = whole(6);
    let c = computed::<f64>(&[], &[], &d, (2, 0, 3), BY_ROWS, &setup(5.0, -2.0));
    assert_eq!(c, d.iter().map(|d| -2.0 * d).collect::<Vec<_>>());
    assert!(computed::<f64>(&[], &[], &[], (0, 0, 4), BY_ROWS, &setup(5.0, -2.0)).is_empty());
}

#[test]
fn infinities_nans_and_overflow_come_out_where_ieee_puts_them() {
    let shape @ (m, k, n) = (37, 300, 41);
    let (mut a, mut b) = (numbers::<f64>(m * k, 8), numbers::<f64>(k * n, 9));
    let mut d = numbers::<f64>(m * n, 10);
    a[3 * k + 7] = f64::NAN;
    a[5 * k + 299] = f64::INFINITY;
    b[22 * n + 12] = f64::NAN;
    b[20 * n + 9] = f64::INFINITY;
    for p in 0..k {
        a[9 * k + p] = 1e300;
        b[p * n + 20] = 1e200;
    }
    // Met by a NaN of A, an infinity of A, an overflow, and nothing else.
    d[3 * n] = f64::INFINITY;
    d[5 * n + 2] = f64::NEG_INFINITY;
    d[9 * n + 20] = f64::NEG_INFINITY;
    d[14 * n + 1] = f64::INFINITY;
    d[15 * n + 1] = f64::NAN;
    d[16 * n + 2] = f64::MAX;
    for (alpha, beta) in [(1.0, 1.0), (-2.0, 3.0), (0.0, 1.0), (1.0, 0.0), (0.5, 1e10)] {
        for storage in [BY_ROWS, BY_COLUMNS] {
            let setup = Setup {
                strips: Some((2, 2)),
                ..setup(alpha, beta)
            };
            let c = computed(&a, &b, &d, shape, storage, &setup);
            let expected = canonical(expected(&a, &b, &d, shape, &setup));
            assert_eq!(bits(&c), bits(&expected), "{alpha}, {beta}, {storage:?}");
        }
    }
    let columns_of_nan: Vec<f64> = (0..m * n)
        .map(|at| if at % n == 5 { f64::NAN } else { 0.5 })
        .collect();
    let setup = setup(1.0, 1.0);
    let c = computed(&a, &b, &columns_of_nan, shape, BY_ROWS, &setup);
    assert_eq!(
        bits(&c),
        bits(&canonical(expected(&a, &b, &columns_of_nan, shape, &setup)))
    );
}

/// Magnitudes of A, B, alpha, D and beta, one far from another.
const SCALES: [[f64; 5]; 10] = [
    [1e-310, 1e300, 1.0, 1.0, 1.0],
    [1e-160, 1e-160, 1e300, 1.0, 1.0],
    [1e150, 1e150, 1e-300, 1e300, 1e-300],
    [1e-160, 1e-160, 1.0, 1e-320, 1e300],
    [1.0, 1.0, 1e-300, 1e-300, 1e-300],
    [1.0, 1.0, 0.0, 1e-310, 1.0],
    [1e160, 1e140, 1e-5, 1e300, 1e-3],
    [1e-300, 1e-300, 1e-300, 1e-300, 1e-300],
    [1e150, 1e150, 1e-300, 1e-320, 1e-300],
    [1e-300, 1e-300, 1e300, 0.0, 1.0],
];

fn scaled(values: Vec<f64>, scale: f64) -> Vec<f64> {
    values.into_iter().map(|value| value * scale).collect()
}

#[test]
fn tiny_and_huge_numbers_pass_their_check() {
    let shape @ (m, k, n) = (40, 300, 40);
    for scales @ [of_a, of_b, alpha, of_d, beta] in SCALES {
        let a = scaled(numbers(m * k, 3), of_a);
        let b = scaled(numbers(k * n, 4), of_b);
        let d = scaled(numbers(m * n, 5), of_d);
        let setup = setup(alpha, beta);
        let c = computed(&a, &b, &d, shape, BY_ROWS, &setup);
        assert_eq!(bits(&c), bits(&expected(&a, &b, &d, shape, &setup)), "{scales:?}");
    }
}

/// Certifies `c`, with D stored by columns.
fn certificate<T: Number>(
    a: &[T],
    b: &[T],
    d: &[f64],
    (alpha, beta): (f64, f64),
    c: &[T],
    (m, k, n): Shape,
) -> Certificate {
    let disk = FakeDisk::new(1);
    install(&disk, A, m, k, a);
    install(&disk, B, k, n, b);
    install_as(&disk, D, (m, n), "<f8", true, d);
    let open = |path: &str| {
        Operand::new(
            Arc::new(MatrixSource::open(&disk, Path::new(path)).unwrap()),
            false,
        )
    };
    let claim = Claim {
        a: &open(A),
        b: &open(B),
        formula: &Formula::new(alpha, Some(Addend { d: open(D), beta }), T::DTYPE).unwrap(),
        rows: 0..m as u64,
        cols: 0..n as u64,
        algorithm: Algorithm::Classical,
        seed: [3; 32],
    };
    certify(&claim, &Whole(c, n), &mut [T::ZERO; 1024], &|| Ok(())).unwrap()
}

#[test]
fn the_certificate_accepts_right_results_of_any_magnitude_and_refuses_wrong_ones() {
    let shape @ (m, k, n) = (30, 300, 20);
    for scales @ [of_a, of_b, alpha, of_d, beta] in SCALES {
        let a = scaled(numbers(m * k, 3), of_a);
        let b = scaled(numbers(k * n, 4), of_b);
        let d = scaled(numbers(m * n, 5), of_d);
        let c = expected(&a, &b, &d, shape, &setup(alpha, beta));
        let held = certificate(&a, &b, &d, (alpha, beta), &c, shape);
        assert!(
            held.holds() && held.n_plain == 0,
            "{scales:?}: rows {:?}",
            held.bad_rows
        );
        // The same with every operation rounded.
        let separate: Vec<f64> = reference(&a, &b, m, k, n)
            .iter()
            .zip(&d)
            .map(|(ab, d)| alpha * ab + beta * d)
            .collect();
        let held = certificate(&a, &b, &d, (alpha, beta), &separate, shape);
        assert!(held.holds(), "{scales:?}: rows {:?}", held.bad_rows);
        let mut wrong = c.clone();
        // What underflow loses of the product is as large as alpha makes it.
        wrong[7 * n + 3] = wrong[7 * n + 3] * 1.5 + 1e-300 * alpha.abs().max(1.0);
        let found = certificate(&a, &b, &d, (alpha, beta), &wrong, shape);
        assert_eq!(found.bad_rows, [7], "{scales:?}");
    }
}

#[test]
fn the_certificate_knows_which_elements_a_non_finite_addend_decides() {
    let shape @ (m, k, n) = (30, 100, 20);
    let (a, b) = (numbers::<f64>(m * k, 3), numbers::<f64>(k * n, 4));
    let clean = numbers::<f64>(m * n, 5);
    let factors = (2.0, -1.0);
    // In one row, and in one column of all rows: whichever is less is computed plainly.
    for (places, n_plain) in [
        (vec![4 * n + 1, 4 * n + 7], 1),
        ((0..m).map(|i| i * n + 6).collect(), 1),
    ] {
        let mut d = clean.clone();
        places.iter().for_each(|at| d[*at] = f64::NAN);
        d[places[1]] = f64::INFINITY;
        let c = expected(&a, &b, &d, shape, &setup(factors.0, factors.1));
        let held = certificate(&a, &b, &d, factors, &c, shape);
        assert!(held.holds(), "rows {:?}", held.bad_rows);
        assert_eq!(held.n_plain, n_plain);
        for (at, value) in [
            (places[0], 1.0),
            (places[1], 1.0),
            (places[0] + 1, f64::NAN),
            (11 * n + 2, 3.0),
        ] {
            let mut wrong = c.clone();
            wrong[at] = value;
            let found = certificate(&a, &b, &d, factors, &wrong, shape);
            assert_eq!(found.bad_rows, [(at / n) as u64], "{at}");
        }
    }
}

#[test]
fn an_addend_that_changes_during_the_run_stops_it() {
    use std::sync::atomic::{AtomicBool, Ordering};
    use tilework_core::ids::Attempt;
    use tilework_runtime::Observer;

    /// Writes D anew when the first task starts.
    struct Meddler(FakeDisk, AtomicBool);
    impl Observer for Meddler {
        fn on_started(&self, _attempt: Attempt) {
            if !self.1.swap(true, Ordering::Relaxed) {
                install(&self.0, D, 36, 36, &numbers::<f64>(36 * 36, 99));
            }
        }
    }
    let disk = FakeDisk::new(1);
    for (path, seed) in [(A, 1), (B, 2), (D, 3)] {
        install(&disk, path, 36, 36, &numbers::<f64>(36 * 36, seed));
    }
    let meddler = Meddler(disk.clone(), AtomicBool::new(false));
    let report = multiply::<f64>(&disk, &setup(1.0, 1.0), &meddler).unwrap();
    let JobEnd::Failed(failure) = report.end else {
        panic!("{:?}", report.end)
    };
    assert_eq!(failure.cause, Cause::InputChanged);
    assert!(failure.text.contains(D), "{}", failure.text);
}
