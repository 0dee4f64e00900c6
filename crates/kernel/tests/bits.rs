//! Every instruction set gives the bits of one fused multiply-add chain per element and depth block, for any shape and strides.

mod common;

use common::{Layout, Matrix, Problem, reference};
use proptest::prelude::*;
use tilework_kernel::{Element, Kernel, Simd};

/// Bit patterns, so that `-0.0` differs from `0.0` and a NaN equals a NaN of whatever payload.
fn bits<T: Element>(values: &[T]) -> Vec<u64> {
    let pattern = |value: f64| {
        if value.is_nan() {
            f64::NAN.to_bits()
        } else {
            value.to_bits()
        }
    };
    values.iter().map(|value| pattern(value.to_f64())).collect()
}

fn assert_same_bits<T: Element>(problem: &Problem<T>) {
    let expected = reference(problem);
    for simd in Simd::available() {
        let found = problem.multiply(&Kernel::new(simd));
        assert!(
            bits(&found) == bits(&expected),
            "{} with {simd}: {}",
            T::NAME,
            problem.shape()
        );
    }
}

/// Small and odd lengths, and some around the sizes of tiles, row blocks and depth blocks.
fn length(around: &'static [usize], below: usize) -> impl Strategy<Value = usize> {
    prop_oneof![3 => 1..below, 1 => prop::sample::select(around)]
}

fn layout() -> impl Strategy<Value = Layout> {
    (any::<bool>(), 0..9usize, 0..5usize, 1..3usize).prop_map(|(col_major, pad, offset, inner)| Layout {
        col_major,
        pad,
        offset,
        inner,
    })
}

fn problem<T: Element>() -> impl Strategy<Value = Problem<T>> {
    let shape = (
        length(&[8, 16, 127, 191, 192, 193, 199], 30),
        length(&[255, 256, 257, 511, 512, 513, 521], 80),
        length(&[12, 23, 24, 25, 47, 48, 49, 96, 97], 60),
    );
    (shape, layout(), layout(), 0..4usize, any::<bool>(), any::<u64>()).prop_map(
        |((rows, depth, cols), a_layout, b_layout, c_pad, accumulate, seed)| Problem {
            a: Matrix::random(rows, depth, a_layout, seed),
            b: Matrix::random(depth, cols, b_layout, seed ^ 1),
            c: Matrix::random(
                rows,
                cols,
                Layout {
                    pad: c_pad,
                    ..Layout::default()
                },
                seed ^ 2,
            ),
            accumulate,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn f64_has_the_bits_of_the_reference(problem in problem::<f64>()) {
        assert_same_bits(&problem);
    }

    #[test]
    fn f32_has_the_bits_of_the_reference(problem in problem::<f32>()) {
        assert_same_bits(&problem);
    }
}

/// A fixed sample of shapes, quick enough for valgrind: whole tiles, ragged ones and more than one depth block.
#[test]
fn tiles_and_edges_have_the_bits_of_the_reference() {
    for (rows, depth, cols) in [(1, 1, 1), (8, 4, 48), (9, 7, 49), (13, 513, 26), (194, 3, 5)] {
        for accumulate in [false, true] {
            let problem = Problem::<f64>::random(rows, depth, cols, accumulate);
            assert_same_bits(&problem);
            assert_same_bits(&Problem::<f32>::random(rows, depth, cols, accumulate));
        }
    }
}

#[test]
fn where_a_band_begins_does_not_matter() {
    let whole = Problem::<f64>::random(37, 300, 50, true);
    for simd in Simd::available() {
        let kernel = Kernel::new(simd);
        let expected = whole.multiply(&kernel);
        for split in [1, 7, 8, 36] {
            let mut found = whole.rows(0..split).multiply(&kernel);
            found.extend(whole.rows(split..37).multiply(&kernel));
            assert!(bits(&found) == bits(&expected), "{simd}, split at row {split}");
        }
    }
}
