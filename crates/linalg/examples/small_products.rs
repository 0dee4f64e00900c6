//! How fast are small products in memory? Multiplies the same two matrices again and again, and prints the rates as JSON.
//!
//! ```text
//! cargo run --release -p tilework-linalg --example small_products -- [SIZE PRODUCTS ROUNDS DTYPE THREADS]
//! ```
//! By default 1000 products of 256x256 `f64` in each of 5 rounds, on all cores. `bench/in_memory.py` holds it against numpy.
#![allow(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::time::Instant;

use tilework_kernel::{Element, MatMut, MatRef, Simd};
use tilework_linalg::InMemory;

struct Setup {
    size: usize,
    n_products: usize,
    n_rounds: usize,
    n_threads: usize,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let given = |at: usize, default: usize| {
        args.get(at).map_or(default, |arg| {
            arg.parse().expect("SIZE PRODUCTS ROUNDS DTYPE THREADS")
        })
    };
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let setup = Setup {
        size: given(0, 256),
        n_products: given(1, 1000),
        n_rounds: given(2, 5).max(1),
        n_threads: given(4, n_cores),
    };
    match args.get(3).map(String::as_str) {
        None | Some("f64") => measure::<f64>(&setup),
        Some("f32") => measure::<f32>(&setup),
        Some(other) => panic!("`{other}` is neither f64 nor f32"),
    }
}

fn measure<T: Element>(setup: &Setup) {
    let &Setup {
        size,
        n_products,
        n_threads,
        ..
    } = setup;
    let (a, b) = (filled::<T>(size, 0), filled::<T>(size, size * size));
    let mut c = vec![T::ZERO; size * size];
    let mut products = InMemory::<T>::new(Simd::detect(), n_threads).expect("threads and memory");
    let mut multiply = |times: usize| {
        for _ in 0..times {
            products.multiply(
                MatRef::row_major(&a, size, size),
                MatRef::row_major(&b, size, size),
                MatMut::new(&mut c, size, size, size),
            );
        }
    };
    multiply(n_products / 10 + 1);
    let mut seconds: Vec<f64> = (0..setup.n_rounds)
        .map(|_| {
            let start = Instant::now();
            multiply(n_products);
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let rate = n_products as f64 / seconds[seconds.len() / 2];
    let gflops = rate * 2.0 * (size as f64).powi(3) / 1e9;
    let sum: f64 = c.iter().map(|element| element.to_f64()).sum();
    println!(
        "{{\"size\": {size}, \"dtype\": \"{}\", \"threads\": {n_threads}, \"products\": {n_products}, \
         \"products_per_second\": {rate:.1}, \"gflops\": {gflops:.2}, \"seconds\": {seconds:?}, \"sum\": {sum}}}",
        T::NAME
    );
}

/// Numbers in [-0.5, 0.5) that numpy can make too: `bench/peers/numpy_products.py` has the same ones.
fn filled<T: Element>(size: usize, first: usize) -> Vec<T> {
    (first..first + size * size)
        .map(|at| {
            let scattered = (at as u32).wrapping_mul(2_654_435_761);
            T::from_f64(f64::from(scattered) / 2.0_f64.powi(32) - 0.5)
        })
        .collect()
}
