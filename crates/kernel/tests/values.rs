//! Results that are known without a reference: integers are exact, IEEE specials land where they belong, empty shapes work.

mod common;

use common::{Matrix, Problem};
use proptest::prelude::*;
use tilework_kernel::{Element, Kernel, MatMut, MatRef, Simd};

fn assert_integers_are_exact<T: Element>(rows: usize, depth: usize, cols: usize, seed: i64) {
    let entry = |i: usize, j: usize| (i as i64 * 7 + j as i64 * 13 + seed).rem_euclid(9) - 4;
    let problem = Problem {
        a: Matrix::<T>::from_fn(rows, depth, |i, p| entry(i, p) as f64),
        b: Matrix::from_fn(depth, cols, |p, j| entry(j, p) as f64),
        c: Matrix::from_fn(rows, cols, |_, _| 1.0),
        accumulate: true,
    };
    for simd in Simd::available() {
        let found = problem.multiply(&Kernel::new(simd));
        for i in 0..rows {
            for j in 0..cols {
                let sum: i64 = (0..depth).map(|p| entry(i, p) * entry(j, p)).sum();
                assert_eq!(
                    found[i * cols + j].to_f64(),
                    (1 + sum) as f64,
                    "{simd}: ({i}, {j})"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn integers_are_exact(rows in 1..40usize, depth in 1..600usize, cols in 1..60usize, seed in 0..9i64) {
        assert_integers_are_exact::<f64>(rows, depth, cols, seed);
        assert_integers_are_exact::<f32>(rows, depth, cols, seed);
    }
}

/// `A` and `B` are ones with one special value each; what row and column of `C` then hold follows from IEEE 754.
#[test]
fn specials_land_in_their_row_and_column_only() {
    const N: usize = 29;
    let ones_but = |at: (usize, usize), value: f64| {
        Matrix::<f64>::from_fn(N, N, move |i, j| if (i, j) == at { value } else { 1.0 })
    };
    for simd in Simd::available() {
        let kernel = Kernel::new(simd);
        let multiply = |a: Matrix<f64>, b: Matrix<f64>| {
            let c = Matrix::from_fn(N, N, |_, _| 0.0);
            Problem {
                a,
                b,
                c,
                accumulate: false,
            }
            .multiply(&kernel)
        };
        let nan_row = multiply(ones_but((28, 3), f64::NAN), ones_but((0, 0), 1.0));
        assert!(
            (0..N * N).all(|at| nan_row[at].is_nan() == (at / N == 28)),
            "{simd}"
        );

        let inf_col = multiply(ones_but((0, 0), 1.0), ones_but((3, 25), f64::NEG_INFINITY));
        assert!(
            (0..N * N).all(|at| (inf_col[at] == f64::NEG_INFINITY) == (at % N == 25)),
            "{simd}"
        );

        // Zero times infinity at the crossing, infinity in the rest of the column.
        let crossing = multiply(ones_but((2, 3), 0.0), ones_but((3, 25), f64::INFINITY));
        for (at, &found) in crossing.iter().enumerate() {
            let (i, j) = (at / N, at % N);
            let expected = if j != 25 {
                N as f64 - f64::from(u8::from(i == 2))
            } else {
                f64::INFINITY
            };
            assert!(
                if (i, j) == (2, 25) {
                    found.is_nan()
                } else {
                    found == expected
                },
                "{simd}: ({i}, {j}) {found}"
            );
        }
    }
}

#[test]
fn without_accumulate_old_contents_are_ignored_even_nan() {
    let mut problem = Problem::<f64>::random(11, 300, 31, false);
    problem.c = Matrix::from_fn(11, 31, |_, _| f64::NAN);
    for simd in Simd::available() {
        assert!(
            problem
                .multiply(&Kernel::new(simd))
                .iter()
                .all(|value| value.is_finite()),
            "{simd}"
        );
    }
}

#[test]
fn a_depth_of_zero_is_a_sum_of_nothing() {
    for simd in Simd::available() {
        let kernel = Kernel::<f64>::new(simd);
        let a = MatRef::row_major(&[], 2, 0);
        let mut c = [5.0; 7];
        kernel.multiply_band(a, &[], MatMut::new(&mut c, 2, 3, 4), true, &mut []);
        assert_eq!(c, [5.0; 7]);
        kernel.multiply_band(a, &[], MatMut::new(&mut c, 2, 3, 4), false, &mut []);
        assert_eq!(c, [0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0]);
    }
}

#[test]
fn no_rows_or_no_columns_write_nothing() {
    let kernel = Kernel::<f32>::new(Simd::detect());
    let none = MatRef::row_major(&[], 0, 9);
    kernel.multiply_band(none, &[], MatMut::new(&mut [], 0, 0, 0), false, &mut []);
    kernel.multiply_band(
        MatRef::row_major(&[1.0; 9], 1, 9),
        &[],
        MatMut::new(&mut [], 1, 0, 0),
        false,
        &mut [],
    );
}

#[test]
#[should_panic(expected = "scratch")]
fn short_scratch_panics() {
    let kernel = Kernel::<f64>::new(Simd::detect());
    let packed_b = vec![0.0; kernel.packed_b_len(1, 1)];
    kernel.multiply_band(
        MatRef::row_major(&[1.0], 1, 1),
        &packed_b,
        MatMut::new(&mut [0.0], 1, 1, 1),
        false,
        &mut [],
    );
}
