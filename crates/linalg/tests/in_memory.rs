//! Products in memory have the bits of the definition with the kernel's order of additions, and of a classical job.

mod common;

use common::*;
use proptest::prelude::*;
use tilework_kernel::{MatMut, MatRef, Simd};
use tilework_linalg::{InMemory, Number};
use tilework_store::element_type::Scalar;
use tilework_store::fake_disk::FakeDisk;

/// How an input lies in memory: transposed, and with so many unused elements after each row.
type Layout = (bool, usize);

fn laid_out<T: Number>(values: &[T], rows: usize, cols: usize, (transposed, pad): Layout) -> Vec<T> {
    let (n_lines, len) = if transposed { (cols, rows) } else { (rows, cols) };
    let mut out = vec![<T as Scalar>::from_f64(f64::NAN); n_lines * (len + pad)];
    for i in 0..rows {
        for j in 0..cols {
            let (line, at) = if transposed { (j, i) } else { (i, j) };
            out[line * (len + pad) + at] = values[i * cols + j];
        }
    }
    out
}

fn view<T: Number>(data: &[T], rows: usize, cols: usize, (transposed, pad): Layout) -> MatRef<'_, T> {
    if transposed {
        MatRef::new(data, cols, rows, rows + pad, 1).transposed()
    } else {
        MatRef::new(data, rows, cols, cols + pad, 1)
    }
}

fn assert_reference_bits<T: Number>(
    products: &mut InMemory<T>,
    (m, k, n): (usize, usize, usize),
    layouts: [Layout; 2],
    c_pad: usize,
) {
    let (a, b) = (numbers::<T>(m * k, 7), numbers::<T>(k * n, 8));
    let expected = bits(&reference(&a, &b, m, k, n));
    let (a, b) = (laid_out(&a, m, k, layouts[0]), laid_out(&b, k, n, layouts[1]));
    // What lay there before must not matter, and what lies between the rows must stay.
    let mut c = vec![<T as Scalar>::from_f64(f64::NAN); m * (n + c_pad)];
    products.multiply(
        view(&a, m, k, layouts[0]),
        view(&b, k, n, layouts[1]),
        MatMut::new(&mut c, m, n, n + c_pad),
    );
    let rows = || c.chunks(n + c_pad).take(m);
    let found: Vec<u64> = rows().flat_map(|row| bits(&row[..n])).collect();
    assert!(found == expected, "{} {m} x {k} x {n}, {layouts:?}", T::NAME);
    assert!(rows().all(|row| row[n..].iter().all(|gap| Scalar::to_f64(*gap).is_nan())));
}

fn shape() -> impl Strategy<Value = (usize, usize, usize)> {
    prop_oneof![
        (1usize..70, 1usize..300, 1usize..110),
        // Enough work for more than one thread; with few rows they share the columns.
        (1usize..20, 600usize..1100, 200usize..400),
        (100usize..300, 300usize..400, 40usize..60),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn any_shape_and_layout_has_the_reference_bits(
        shape in shape(),
        layouts: [(bool, bool); 2],
        pad in 0usize..9,
        simd in prop::sample::select(Simd::available()),
        n_threads in 1usize..5,
    ) {
        let layouts = layouts.map(|(transposed, padded)| (transposed, if padded { pad } else { 0 }));
        assert_reference_bits(&mut InMemory::<f64>::new(simd, n_threads).unwrap(), shape, layouts, pad);
        assert_reference_bits(&mut InMemory::<f32>::new(simd, n_threads).unwrap(), shape, layouts, pad);
    }
}

#[test]
fn one_instance_serves_many_shapes_even_empty_ones() {
    let mut products = InMemory::<f64>::new(Simd::detect(), 2).unwrap();
    for shape in [
        (256, 64, 96),
        (130, 100, 120),
        (0, 5, 7),
        (5, 0, 7),
        (64, 700, 30),
        (5, 7, 0),
        (0, 0, 0),
        (1, 1, 1),
    ] {
        assert_reference_bits(&mut products, shape, [(false, 0); 2], 1);
    }
}

#[test]
fn products_wider_and_deeper_than_packed_b_have_the_reference_bits() {
    let mut products = InMemory::<f64>::new(Simd::detect(), 2).unwrap();
    assert_reference_bits(&mut products, (2, 1100, 4099), [(false, 0), (true, 0)], 1);
    assert_reference_bits(&mut products, (3, 9000, 260), [(true, 0), (false, 0)], 0);
}

#[test]
fn a_job_and_a_product_in_memory_give_the_same_bits() {
    let (m, k, n) = (130, 1111, 75);
    let (a, b) = (numbers::<f64>(m * k, 1), numbers::<f64>(k * n, 2));
    let disk = FakeDisk::new(1);
    install(&disk, A, m, k, &a);
    install(&disk, B, k, n, &b);
    multiply_done::<f64>(&disk, &Setup::default());

    let mut c = vec![0.0; m * n];
    InMemory::new(Simd::detect(), 2).unwrap().multiply(
        MatRef::row_major(&a, m, k),
        MatRef::row_major(&b, k, n),
        MatMut::new(&mut c, m, n, n),
    );
    assert_eq!(bits(&c), bits(&output::<f64>(&disk)));
}

#[test]
#[should_panic(expected = "columns of A, rows of B")]
fn shapes_that_do_not_fit_panic() {
    InMemory::new(Simd::detect(), 1).unwrap().multiply(
        MatRef::row_major(&[1.0; 6], 2, 3),
        MatRef::row_major(&[1.0; 6], 2, 3),
        MatMut::new(&mut [0.0; 6], 2, 3, 3),
    );
}

#[test]
#[should_panic(expected = "columns of B, columns of C")]
fn a_c_of_another_shape_panics() {
    InMemory::new(Simd::detect(), 1).unwrap().multiply(
        MatRef::row_major(&[1.0; 6], 2, 3),
        MatRef::row_major(&[1.0; 6], 3, 2),
        MatMut::new(&mut [0.0; 6], 2, 3, 3),
    );
}
