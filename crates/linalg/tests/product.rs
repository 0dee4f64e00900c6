//! Whole products against the definition.

mod common;

use common::*;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use tilework_kernel::Simd;
use tilework_linalg::certify::{Certificate, Claim, certify};
use tilework_linalg::{Algorithm, Formula, Number, Operand};
use tilework_store::fake_disk::FakeDisk;
use tilework_store::matrix::MatrixSource;

fn product<T: Number>(a: &[T], b: &[T], (m, k, n): (usize, usize, usize), setup: &Setup) -> Vec<T> {
    let disk = FakeDisk::new(1);
    install(&disk, A, m, k, a);
    install(&disk, B, k, n, b);
    multiply_done::<T>(&disk, setup);
    assert_plain_rows_are_the_outputs::<T>(&disk, setup);
    output(&disk)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_gives_the_reference_bits(m in 1usize..70, k in 0usize..1300, n in 1usize..70, p in 1u64..5, q in 1u64..5, seed in 1u64..99) {
        let (a, b) = (numbers::<f64>(m * k, seed), numbers::<f64>(k * n, seed + 1));
        let setup = Setup { strips: Some((p, q)), ..Setup::default() };
        prop_assert_eq!(bits(&product(&a, &b, (m, k, n), &setup)), bits(&reference(&a, &b, m, k, n)));
    }

    #[test]
    fn f32_gives_the_reference_bits(m in 1usize..40, k in 1usize..700, n in 1usize..40, seed in 1u64..99) {
        let (a, b) = (numbers::<f32>(m * k, seed), numbers::<f32>(k * n, seed + 1));
        prop_assert_eq!(bits(&product(&a, &b, (m, k, n), &Setup::default())), bits(&reference(&a, &b, m, k, n)));
    }

    #[test]
    fn transposed_inputs_give_the_same_bits(m in 1usize..50, k in 1usize..1200, n in 1usize..50, seed in 1u64..99) {
        let (a, b) = (numbers::<f64>(m * k, seed), numbers::<f64>(k * n, seed + 1));
        let expected = bits(&reference(&a, &b, m, k, n));
        for transpose in [(true, false), (false, true), (true, true)] {
            let disk = FakeDisk::new(1);
            if transpose.0 { install(&disk, A, k, m, &transposed(&a, m, k)) } else { install(&disk, A, m, k, &a) }
            if transpose.1 { install(&disk, B, n, k, &transposed(&b, k, n)) } else { install(&disk, B, k, n, &b) }
            let setup = Setup { transpose, ..Setup::default() };
            multiply_done::<f64>(&disk, &setup);
            assert_plain_rows_are_the_outputs::<f64>(&disk, &setup);
            prop_assert_eq!(&bits(&output::<f64>(&disk)), &expected);
        }
    }
}

#[test]
fn integer_matrices_are_exact() {
    let (m, k, n) = (67, 523, 71);
    let integers =
        |len: usize, step: i64| -> Vec<f64> { (0..len as i64).map(|i| (i * step % 19 - 9) as f64).collect() };
    let (a, b) = (integers(m * k, 7), integers(k * n, 11));
    let c = product(&a, &b, (m, k, n), &Setup::default());
    for i in 0..m {
        for j in 0..n {
            let exact: i64 = (0..k).map(|p| a[i * k + p] as i64 * b[p * n + j] as i64).sum();
            assert_eq!(c[i * n + j], exact as f64);
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads_workers_memory_or_instruction_set() {
    let (m, k, n) = (301, 1111, 257);
    let (a, b) = (numbers::<f64>(m * k, 5), numbers::<f64>(k * n, 6));
    let expected = bits(&reference(&a, &b, m, k, n));
    let mut setups = Vec::new();
    for simd in Simd::available() {
        setups.push(Setup {
            simd,
            ..Setup::default()
        });
    }
    for n_threads in [1, 2, 3] {
        for memory_bytes in [32 << 20, 64 << 20, 1 << 30] {
            setups.push(Setup {
                n_threads,
                memory_bytes,
                ..Setup::default()
            });
        }
    }
    setups.push(Setup {
        n_workers: 3,
        n_threads: 3,
        strips: Some((5, 4)),
        ..Setup::default()
    });
    for setup in setups {
        assert_eq!(bits(&product(&a, &b, (m, k, n), &setup)), expected);
    }
}

#[test]
fn empty_products_are_valid_and_an_empty_sum_is_zero() {
    for (m, k, n) in [(0, 3, 4), (3, 3, 0), (0, 0, 0)] {
        assert!(
            product::<f64>(&vec![1.0; m * k], &vec![1.0; k * n], (m, k, n), &Setup::default()).is_empty()
        );
    }
    assert_eq!(product::<f64>(&[], &[], (2, 0, 3), &Setup::default()), [0.0; 6]);
}

#[test]
fn infinities_nans_and_overflow_come_out_where_ieee_puts_them() {
    let (m, k, n) = (37, 300, 41);
    let (mut a, mut b) = (numbers::<f64>(m * k, 8), numbers::<f64>(k * n, 9));
    a[3 * k + 7] = f64::NAN;
    a[5 * k + 299] = f64::INFINITY;
    b[11 * n + 4] = 0.0;
    a[6 * k + 11] = f64::NEG_INFINITY;
    b[20 * n + 9] = f64::INFINITY;
    b[21 * n + 9] = f64::NEG_INFINITY;
    b[22 * n + 12] = f64::NAN;
    for p in 0..k {
        a[9 * k + p] = 1e300;
        b[p * n + 20] = 1e200;
    }
    let c = product(
        &a,
        &b,
        (m, k, n),
        &Setup {
            strips: Some((2, 2)),
            ..Setup::default()
        },
    );
    assert_eq!(bits(&c), bits(&canonical(reference(&a, &b, m, k, n))));
    assert!(c[9 * n + 20].is_infinite() && c[6 * n + 4].is_nan());
}

#[test]
fn tiny_and_huge_numbers_pass_their_check() {
    let (m, k, n) = (40, 300, 40);
    for (scale_a, scale_b) in [
        (1e-310, 1e300),
        (1e-160, 1e-160),
        (1e150, 1e150),
        (1e-320, 1e-3),
        (1e160, 1e140),
    ] {
        let a: Vec<f64> = numbers::<f64>(m * k, 3)
            .into_iter()
            .map(|x| x * scale_a)
            .collect();
        let b: Vec<f64> = numbers::<f64>(k * n, 4)
            .into_iter()
            .map(|x| x * scale_b)
            .collect();
        let c = product(&a, &b, (m, k, n), &Setup::default());
        assert_eq!(bits(&c), bits(&reference(&a, &b, m, k, n)), "{scale_a} {scale_b}");
    }
}

fn certificate<T: Number>(a: &[T], b: &[T], c: &[T], (m, k, n): (usize, usize, usize)) -> Certificate {
    let disk = FakeDisk::new(1);
    install(&disk, A, m, k, a);
    install(&disk, B, k, n, b);
    let open = |path: &str| {
        Operand::new(
            Arc::new(MatrixSource::open(&disk, Path::new(path)).unwrap()),
            false,
        )
    };
    let claim = Claim {
        a: &open(A),
        b: &open(B),
        formula: &Formula::plain(),
        rows: 0..m as u64,
        cols: 0..n as u64,
        algorithm: Algorithm::Classical,
        seed: [3; 32],
    };
    certify(&claim, &Whole(c, n), &mut [T::ZERO; 4096], &|| Ok(())).unwrap()
}

#[test]
fn the_certificate_accepts_right_products_of_any_magnitude_and_refuses_wrong_ones() {
    let shape @ (m, k, n) = (30, 300, 20);
    let scales = [
        (1.0, 1.0),
        (1e-160, 1e-160),
        (1e-300, 1e308),
        (1e300, 1e-300),
        (1e-310, 1e300),
        (1e-170, 1e-170),
    ];
    for (scale_a, scale_b) in scales {
        let mut a: Vec<f64> = numbers::<f64>(m * k, 3)
            .into_iter()
            .map(|x| x * scale_a)
            .collect();
        let b: Vec<f64> = numbers::<f64>(k * n, 4)
            .into_iter()
            .map(|x| x * scale_b)
            .collect();
        // Rows of very different magnitude in one matrix.
        a[k..2 * k].iter_mut().for_each(|x| *x *= 1e-30);
        let c = reference(&a, &b, m, k, n);
        let held = certificate(&a, &b, &c, shape);
        assert!(held.holds(), "{scale_a} {scale_b}: rows {:?}", held.bad_rows);
        let mut wrong = c.clone();
        wrong[7 * n + 3] = wrong[7 * n + 3] * 1.5 + 1e-300;
        assert_eq!(
            certificate(&a, &b, &wrong, shape).bad_rows,
            [7],
            "{scale_a} {scale_b}"
        );
    }
    let (a, b): (Vec<f32>, Vec<f32>) = (numbers(m * k, 3), numbers(k * n, 4));
    let tiny = |values: &[f32]| -> Vec<f32> { values.iter().map(|x| x * 1e-25).collect() };
    let c = reference(&tiny(&a), &tiny(&b), m, k, n);
    assert!(certificate(&tiny(&a), &tiny(&b), &c, shape).holds());
}
