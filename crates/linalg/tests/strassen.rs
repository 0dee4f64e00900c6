//! Strassen's algorithm: within its promised error, the same bits whatever a run may use, and classical where it must be.

mod common;

use common::*;
use proptest::prelude::*;
use tilework_core::failure::JobEnd;
use tilework_kernel::Simd;
use tilework_linalg::check::element_error_bound;
use tilework_linalg::{Algorithm, Number};
use tilework_store::element_type::Scalar;
use tilework_store::fake_disk::FakeDisk;

type Shape = (usize, usize, usize);

fn strassen() -> Setup {
    Setup {
        algorithm: Algorithm::Strassen,
        ..Setup::default()
    }
}

fn product<T: Number>(a: &[T], b: &[T], (m, k, n): Shape, setup: &Setup) -> Vec<T> {
    let disk = FakeDisk::new(1);
    if setup.transpose.0 {
        install(&disk, A, k, m, &transposed(a, m, k));
    } else {
        install(&disk, A, m, k, a);
    }
    if setup.transpose.1 {
        install(&disk, B, n, k, &transposed(b, k, n));
    } else {
        install(&disk, B, k, n, b);
    }
    multiply_done::<T>(&disk, setup);
    output(&disk)
}

/// The largest error against sums in f64, whose own roundings are far smaller for f32 and allowed for with f64.
fn largest_error<T: Number>(a: &[T], b: &[T], c: &[T], (m, k, n): Shape) -> f64 {
    let at = |values: &[T], i: usize| Scalar::to_f64(values[i]);
    let mut largest = 0.0_f64;
    for i in 0..m {
        for j in 0..n {
            let exact: f64 = (0..k).map(|p| at(a, i * k + p) * at(b, p * n + j)).sum();
            largest = largest.max((at(c, i * n + j) - exact).abs());
        }
    }
    largest
}

fn promised<T: Number>(a: &[T], b: &[T], k: usize) -> f64 {
    let largest = |values: &[T]| {
        values
            .iter()
            .map(|value| Scalar::to_f64(*value).abs())
            .fold(0.0, f64::max)
    };
    element_error_bound::<T>(Algorithm::Strassen, k) * k as f64 * largest(a) * largest(b)
}

fn check<T: Number>(shape: Shape, setup: &Setup, seed: u64) {
    let (m, k, n) = shape;
    let (a, b) = (numbers::<T>(m * k, seed), numbers::<T>(k * n, seed + 1));
    let c = product(&a, &b, shape, setup);
    let (error, promised) = (largest_error(&a, &b, &c, shape), promised(&a, &b, k));
    assert!(error <= promised, "{shape:?}: {error:e} > {promised:e}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_and_order_is_within_the_promise(
        m in 1usize..200, k in 1usize..2300, n in 1usize..150, p in 1u64..4, q in 1u64..4,
        transpose in any::<(bool, bool)>(), seed in 1u64..99,
    ) {
        let setup = Setup { strips: Some((p, q)), transpose, ..strassen() };
        check::<f64>((m, k, n), &setup, seed);
        check::<f32>((m, k, n), &setup, seed);
    }
}

#[test]
fn a_last_pair_of_depth_blocks_may_be_one_deep() {
    for shape in [(100, 1025, 100), (4, 1025, 7), (7, 2049, 50)] {
        for transpose in [(false, false), (true, false), (false, true), (true, true)] {
            for simd in Simd::available() {
                let setup = Setup {
                    transpose,
                    simd,
                    ..strassen()
                };
                check::<f64>(shape, &setup, 3);
            }
        }
    }
}

#[test]
fn narrow_tiles_are_computed_in_the_least_memory() {
    let shape = (300, 2000, 10);
    let (m, k, n) = shape;
    let (a, b) = (numbers::<f64>(m * k, 1), numbers::<f64>(k * n, 2));
    let disk = FakeDisk::new(1);
    install(&disk, A, m, k, &a);
    install(&disk, B, n, k, &transposed(&b, k, n));
    let least = (1..100).find_map(|quarter_mib: u64| {
        let setup = Setup {
            transpose: (false, true),
            memory_bytes: quarter_mib << 18,
            ..strassen()
        };
        multiply::<f64>(&disk, &setup, &()).ok()
    });
    assert_eq!(least.map(|report| report.end), Some(JobEnd::Done));
    let error = largest_error(&a, &b, &output::<f64>(&disk), shape);
    assert!(error <= promised(&a, &b, k), "{error:e}");
}

#[test]
fn integers_are_exact() {
    let (m, k, n) = (267, 1123, 171);
    let integers =
        |len: usize, step: i64| -> Vec<f64> { (0..len as i64).map(|i| (i * step % 19 - 9) as f64).collect() };
    let (a, b) = (integers(m * k, 7), integers(k * n, 11));
    assert!(product(&a, &b, (m, k, n), &strassen()) == reference(&a, &b, m, k, n));
}

#[test]
fn bits_depend_on_the_grid_only() {
    let shape = (601, 2311, 457);
    let (m, k, n) = shape;
    let (a, b) = (numbers::<f64>(m * k, 5), numbers::<f64>(k * n, 6));
    let base = Setup {
        strips: Some((2, 2)),
        ..strassen()
    };
    let expected = bits(&product(&a, &b, shape, &base));
    let classical = Setup {
        algorithm: Algorithm::Classical,
        ..base.clone()
    };
    assert!(expected != bits(&product(&a, &b, shape, &classical)));
    let mut setups = Vec::new();
    for simd in Simd::available() {
        setups.push(Setup { simd, ..base.clone() });
    }
    for n_threads in [1, 3] {
        for memory_bytes in [32 << 20, 1 << 30] {
            setups.push(Setup {
                n_threads,
                memory_bytes,
                ..base.clone()
            });
        }
    }
    for transpose in [(true, false), (false, true), (true, true)] {
        setups.push(Setup {
            transpose,
            ..base.clone()
        });
    }
    for (i, setup) in setups.iter().enumerate() {
        assert!(bits(&product(&a, &b, shape, setup)) == expected, "setup {i}");
    }
}

#[test]
fn tiles_with_infinities_nans_or_near_overflow_are_classical() {
    let shape = (220, 700, 180);
    let (m, k, n) = shape;
    for (place, value) in [
        (3 * k + 7, f64::NAN),
        (90 * k + 699, f64::INFINITY),
        (50 * k, 1e300),
    ] {
        let (mut a, mut b) = (numbers::<f64>(m * k, 8), numbers::<f64>(k * n, 9));
        a[place] = value;
        b[11 * n + 4] = 1e10;
        let found = bits(&product(&a, &b, shape, &strassen()));
        assert!(found == bits(&reference(&a, &b, m, k, n)), "{value}");
        // In another tile's rows it changes nothing there.
        let halves = Setup {
            strips: Some((2, 1)),
            ..strassen()
        };
        let plain = product(&numbers::<f64>(m * k, 8), &b, shape, &halves);
        let found = product(&a, &b, shape, &halves);
        // Strips begin at multiples of 32 rows: 3 of these, and the rest.
        let lower = 96 * n;
        assert!(bits(&found[lower..]) == bits(&plain[lower..]), "{value}");
    }
}

/// `setup`'s alpha·A·B + beta·D.
fn with_addend(a: &[f64], b: &[f64], d: &[f64], (m, k, n): Shape, setup: &Setup) -> Vec<f64> {
    let disk = FakeDisk::new(1);
    install(&disk, A, m, k, a);
    install(&disk, B, k, n, b);
    install(&disk, D, m, n, d);
    multiply_done::<f64>(&disk, setup);
    output(&disk)
}

#[test]
fn factors_and_an_addend_follow_the_product_and_depend_on_the_grid_only() {
    let shape @ (m, k, n) = (301, 1211, 257);
    let (a, b, d) = (
        numbers::<f64>(m * k, 5),
        numbers::<f64>(k * n, 6),
        numbers::<f64>(m * n, 7),
    );
    let base = Setup {
        strips: Some((2, 2)),
        ..strassen()
    };
    let expected = bits(&combined(&product(&a, &b, shape, &base), -0.7, &d, 3.0));
    for (n_threads, memory_bytes) in [(1, 32 << 20), (2, 64 << 20), (3, 1 << 30)] {
        let setup = Setup {
            alpha: -0.7,
            addend: Some((D, 3.0)),
            n_threads,
            memory_bytes,
            ..base.clone()
        };
        assert!(
            bits(&with_addend(&a, &b, &d, shape, &setup)) == expected,
            "{n_threads} threads, {memory_bytes} bytes"
        );
    }
}

#[test]
fn tiles_that_an_addend_or_a_factor_makes_infinite_or_nearly_so_are_classical() {
    let shape @ (m, k, n) = (120, 700, 110);
    let (a, b) = (numbers::<f64>(m * k, 8), numbers::<f64>(k * n, 9));
    let classical = reference(&a, &b, m, k, n);
    let clean = numbers::<f64>(m * n, 10);
    for (alpha, beta, value) in [
        (2.0, 1.0, f64::NAN),
        (2.0, 1.0, f64::NEG_INFINITY),
        (2.0, 1.0, 1e307),
        (2.0, 1e307, 0.5),
        (1e306, 1.0, 0.5),
    ] {
        let mut d = clean.clone();
        d[17 * n + 3] = value;
        let setup = Setup {
            alpha,
            addend: Some((D, beta)),
            ..strassen()
        };
        let found = with_addend(&a, &b, &d, shape, &setup);
        assert!(
            bits(&found) == bits(&combined(&classical, alpha, &d, beta)),
            "{alpha}, {beta}, {value}"
        );
    }
}
