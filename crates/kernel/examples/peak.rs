//! How near `multiply_band` comes to the peak of one core: both measured side by side in one run, medians over rounds.
//!
//! ```text
//! cargo run --release -p tilework-kernel --example peak -- [ROWS DEPTH COLS]
//! ```
#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::hint::black_box;
use std::time::Instant;

use tilework_kernel::{AlignedBuffer, Element, Kernel, MatRef, Simd};

const ROUNDS: usize = 15;

fn main() {
    let args: Vec<usize> = std::env::args()
        .skip(1)
        .map(|arg| arg.parse().expect("ROWS DEPTH COLS"))
        .collect();
    let [rows, depth, cols] = args.try_into().unwrap_or([256, 2048, 4096]);
    println!("one core, band {rows} x depth {depth} x cols {cols}, medians of {ROUNDS} rounds");
    println!("simd      dtype  peak GF/s  band GF/s  share  pack B GB/s  pack B^T GB/s");
    for simd in Simd::available()
        .into_iter()
        .filter(|&simd| simd != Simd::Portable)
    {
        measure::<f64>(simd, rows, depth, cols);
        measure::<f32>(simd, rows, depth, cols);
    }
}

fn measure<T: Element>(simd: Simd, rows: usize, depth: usize, cols: usize) {
    let kernel = Kernel::<T>::new(simd);
    let (a, b) = (filled::<T>(rows * depth), filled::<T>(depth * cols));
    let mut packed_b = filled::<T>(kernel.packed_b_len(depth, cols));
    let mut scratch = filled::<T>(kernel.scratch_len(rows, depth));
    let ldc = cols + 8;
    let mut c = filled::<T>(rows * ldc);

    let flops = 2.0 * (rows * depth * cols) as f64;
    let bytes = (depth * cols * size_of::<T>()) as f64;
    let mut samples = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        samples[0].push(fma_peak(simd) * 8.0 / size_of::<T>() as f64);
        let b_rows = MatRef::row_major(b.as_slice::<T>(), depth, cols);
        samples[2].push(bytes / seconds(|| pack_all(&kernel, b_rows, packed_b.as_mut_slice())));
        let b_cols = MatRef::row_major(b.as_slice::<T>(), cols, depth).transposed();
        samples[3].push(bytes / seconds(|| pack_all(&kernel, b_cols, packed_b.as_mut_slice())));
        let a = MatRef::row_major(a.as_slice::<T>(), rows, depth);
        let (c, scratch) = (c.as_mut_slice::<T>(), scratch.as_mut_slice::<T>());
        samples[1].push(
            flops / seconds(|| kernel.multiply_band(a, packed_b.as_slice(), cols, c, ldc, false, scratch)),
        );
    }
    let [peak, band, pack_rows, pack_cols] = samples.map(|values| median(values) / 1e9);
    println!(
        "{simd:<8}  {:<5}  {peak:9.1}  {band:9.1}  {:4.0} %  {pack_rows:11.1}  {pack_cols:13.1}",
        T::NAME,
        100.0 * band / peak
    );
}

fn pack_all<T: Element>(kernel: &Kernel<T>, b: MatRef<'_, T>, packed: &mut [T]) {
    let mut rest = packed;
    for pc in (0..b.rows()).step_by(T::KC) {
        let depth = T::KC.min(b.rows() - pc);
        for jr in (0..b.cols()).step_by(kernel.nr()) {
            let panel = rest
                .split_off_mut(..depth * kernel.nr())
                .expect("the packed length fits");
            kernel.pack_b_panel(b.sub(pc..pc + depth, jr..b.cols().min(jr + kernel.nr())), panel);
        }
    }
}

/// A resident buffer of small varied values.
fn filled<T: Element>(len: usize) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::new(len * size_of::<T>()).expect("the example fits in memory");
    for (at, value) in buffer.as_mut_slice::<T>().iter_mut().enumerate() {
        *value = T::from_f64((at % 17) as f64 / 8.0 - 1.0);
    }
    buffer
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// `f64` flops per second of independent multiply-add chains in registers.
fn fma_peak(simd: Simd) -> f64 {
    const STEPS: usize = 2_000_000;
    let mut lanes = 0;
    let elapsed = seconds(|| lanes = black_box(chains::run(simd, STEPS)));
    (2 * STEPS * chains::CHAINS * lanes) as f64 / elapsed
}

#[cfg(target_arch = "x86_64")]
mod chains {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::Simd;

    /// Enough to fill two units of four or five cycles' latency, and few enough for 16 registers.
    pub(super) const CHAINS: usize = 12;

    /// Runs the chains and returns the lanes of one register.
    pub(super) fn run(simd: Simd, steps: usize) -> usize {
        assert!(simd.is_supported());
        match simd {
            Simd::Portable => panic!("no register chains for portable code"),
            // SAFETY: this machine supports AVX2 and FMA, asserted above.
            Simd::Avx2 => unsafe { avx2(steps) },
            // SAFETY: this machine supports AVX-512F, asserted above.
            Simd::Avx512 => unsafe { avx512(steps) },
        }
    }

    #[target_feature(enable = "avx2,fma")]
    fn avx2(steps: usize) -> usize {
        let (a, b) = (_mm256_set1_pd(black_box(0.5)), _mm256_set1_pd(black_box(0.25)));
        let mut acc = [_mm256_setzero_pd(); CHAINS];
        for _ in 0..steps {
            for chain in &mut acc {
                *chain = _mm256_fmadd_pd(*chain, a, b);
            }
        }
        black_box(acc);
        4
    }

    #[target_feature(enable = "avx512f")]
    fn avx512(steps: usize) -> usize {
        let (a, b) = (_mm512_set1_pd(black_box(0.5)), _mm512_set1_pd(black_box(0.25)));
        let mut acc = [_mm512_setzero_pd(); CHAINS];
        for _ in 0..steps {
            for chain in &mut acc {
                *chain = _mm512_fmadd_pd(*chain, a, b);
            }
        }
        black_box(acc);
        8
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod chains {
    use super::Simd;

    pub(super) const CHAINS: usize = 1;

    pub(super) fn run(_simd: Simd, _steps: usize) -> usize {
        unreachable!("only portable code on this machine, which is not measured")
    }
}
