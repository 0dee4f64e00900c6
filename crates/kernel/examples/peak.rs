//! How near `multiply_band` comes to the peak of the same cores: both measured in turns in one run, medians over rounds.
//!
//! ```text
//! cargo run --release -p tilework-kernel --example peak -- [THREADS ROWS DEPTH COLS]
//! ```
//! Each thread multiplies its own ROWS x DEPTH band with the one packed DEPTH x COLS matrix, as the threads of a tile do. The
//! peak is taken for a few milliseconds right after each band, at the clock that the band left: chains in registers alone draw
//! less power than a multiplication, and a processor that is given time clocks up for them (by 10 % where this was written).
#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::hint::black_box;
use std::marker::PhantomData;
use std::time::Instant;

use tilework_kernel::{AlignedBuffer, Element, Kernel, MatMut, MatRef, Simd, SumsPlace};

const ROUNDS: usize = 15;
/// About 4 ms.
const PEAK_STEPS: usize = 2_000_000;

fn main() {
    let args: Vec<usize> = std::env::args()
        .skip(1)
        .map(|arg| arg.parse().expect("THREADS ROWS DEPTH COLS"))
        .collect();
    let defaults = [1, 256, 2048, 4096];
    let given = |i: usize| args.get(i).copied().unwrap_or(defaults[i]);
    let shape = Shape {
        threads: given(0),
        rows: given(1),
        depth: given(2),
        cols: given(3),
    };
    println!("{shape:?}, medians of {ROUNDS} rounds");
    println!(
        "simd      dtype  peak GF/s  band GF/s  share (quartiles)  Strassen GF/s  pack B GB/s  pack B^T GB/s"
    );
    for simd in Simd::available()
        .into_iter()
        .filter(|&simd| simd != Simd::Portable)
    {
        measure::<f64>(simd, &shape);
        measure::<f32>(simd, &shape);
    }
}

#[derive(Debug)]
struct Shape {
    threads: usize,
    rows: usize,
    depth: usize,
    cols: usize,
}

fn measure<T: Element>(simd: Simd, shape: &Shape) {
    let kernel = Kernel::<T>::new(simd);
    let &Shape {
        threads,
        rows,
        depth,
        cols,
    } = shape;
    let b = filled::<T>(depth * cols);
    let mut packed_b = filled::<T>(kernel.packed_b_len(depth, cols));
    let ldc = cols + 8;
    let mut bands: Vec<[AlignedBuffer; 3]> = (0..threads)
        .map(|_| {
            [
                filled::<T>(rows * depth),
                filled::<T>(rows * ldc),
                filled::<T>(kernel.scratch_len(rows, depth)),
            ]
        })
        .collect();

    let pair = StrassenPair::new(&kernel, rows, cols);
    let mut strassen_bands: Vec<_> = (0..threads).map(|_| pair.band(&kernel)).collect();
    let flops = (2 * threads * rows * depth * cols) as f64;
    let bytes = (depth * cols * size_of::<T>()) as f64;
    let itemsize = size_of::<T>() as f64;
    let (mut peaks, mut rates, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    let (mut packs, mut packs_transposed, mut strassen_rates) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let b_rows = MatRef::row_major(b.as_slice::<T>(), depth, cols);
        packs.push(bytes / seconds(|| pack_all(&kernel, b_rows, packed_b.as_mut_slice())));
        let b_cols = MatRef::row_major(b.as_slice::<T>(), cols, depth).transposed();
        packs_transposed.push(bytes / seconds(|| pack_all(&kernel, b_cols, packed_b.as_mut_slice())));
        let packed_b = packed_b.as_slice();
        let multiply = |[a, c, scratch]: &mut [AlignedBuffer; 3]| {
            let a = MatRef::row_major(a.as_slice::<T>(), rows, depth);
            let c = MatMut::new(c.as_mut_slice::<T>(), rows, cols, ldc);
            kernel.multiply_band(a, packed_b, c, false, scratch.as_mut_slice());
        };
        let band_s = seconds(|| on_threads(&mut bands, multiply));
        let strassen_s = seconds(|| on_threads(&mut strassen_bands, |band| pair.multiply(&kernel, band)));
        strassen_rates.push((threads * pair.flops()) as f64 / strassen_s);
        let mut lanes = vec![0; threads];
        let peak_s = seconds(|| {
            on_threads(&mut lanes, |lanes| {
                *lanes = black_box(chains::run(simd, PEAK_STEPS))
            })
        });
        let peak_flops =
            (2 * PEAK_STEPS * chains::CHAINS * lanes.iter().sum::<usize>()) as f64 * 8.0 / itemsize;
        peaks.push(peak_flops / peak_s);
        rates.push(flops / band_s);
        shares.push(100.0 * (flops / band_s) / (peak_flops / peak_s));
    }
    println!(
        "{simd:<8}  {:<5}  {:9.1}  {:9.1}  {:.0} % ({:.0} to {:.0})  {:13.1}  {:11.1}  {:13.1}",
        T::NAME,
        quartile(&mut peaks, 2) / 1e9,
        quartile(&mut rates, 2) / 1e9,
        quartile(&mut shares, 2),
        quartile(&mut shares, 1),
        quartile(&mut shares, 3),
        quartile(&mut strassen_rates, 2) / 1e9,
        quartile(&mut packs, 2) / 1e9,
        quartile(&mut packs_transposed, 2) / 1e9,
    );
}

/// The packed sums of two depth blocks of `B`, with which bands are multiplied by Strassen's algorithm.
struct StrassenPair<T> {
    packed: AlignedBuffer,
    rows: usize,
    cols: usize,
    element: PhantomData<T>,
}

impl<T: Element> StrassenPair<T> {
    /// For bands of as many rows and columns in all four quadrants together.
    fn new(kernel: &Kernel<T>, rows: usize, cols: usize) -> StrassenPair<T> {
        let (rows, cols) = (rows / 2, cols / 2);
        StrassenPair {
            packed: filled::<T>(kernel.packed_sums_len(T::KC, cols)),
            rows,
            cols,
            element: PhantomData,
        }
    }

    fn flops(&self) -> usize {
        2 * (2 * self.rows) * (2 * T::KC) * (2 * self.cols)
    }

    fn ldc(&self) -> usize {
        2 * self.cols + 8
    }

    fn band(&self, kernel: &Kernel<T>) -> [AlignedBuffer; 3] {
        [
            filled::<T>(2 * self.rows * 2 * T::KC),
            filled::<T>(2 * self.rows * self.ldc()),
            filled::<T>(kernel.strassen_scratch_len(self.rows, T::KC)),
        ]
    }

    fn multiply(&self, kernel: &Kernel<T>, [a, c, scratch]: &mut [AlignedBuffer; 3]) {
        let &StrassenPair { rows, cols, .. } = self;
        let a = MatRef::row_major(a.as_slice::<T>(), 2 * rows, 2 * T::KC);
        let a = [(0, 0), (0, T::KC), (rows, 0), (rows, T::KC)]
            .map(|(row, step)| a.sub(row..row + rows, step..step + T::KC));
        let (top, bottom) =
            MatMut::new(c.as_mut_slice::<T>(), 2 * rows, 2 * cols, self.ldc()).split_at_row(rows);
        let ((c0, c1), (c2, c3)) = (top.split_at_col(cols), bottom.split_at_col(cols));
        let place = SumsPlace {
            depth: T::KC,
            cols,
            first_step: 0,
            first_col: 0,
        };
        let packed = self.packed.as_slice();
        kernel.multiply_strassen(a, packed, place, [c0, c1, c2, c3], true, scratch.as_mut_slice());
    }
}

/// Runs `work` on every part, each on a thread of its own.
fn on_threads<P: Send>(parts: &mut [P], work: impl Fn(&mut P) + Sync) {
    let work = &work;
    std::thread::scope(|scope| {
        for part in parts {
            scope.spawn(move || work(part));
        }
    });
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

fn quartile(values: &mut [f64], quarters: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() * quarters / 4]
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
