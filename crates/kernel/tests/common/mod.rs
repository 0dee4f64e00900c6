//! The vocabulary of the kernel's tests: strided matrices, a multiplication problem, and the naive reference.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::ops::Range;

use tilework_kernel::{Element, Kernel, MatMut, MatRef};

/// How a matrix lies in memory.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub col_major: bool,
    /// Unused elements between rows (or columns).
    pub pad: usize,
    /// Unused elements before the first.
    pub offset: usize,
    /// Stride of the inner direction.
    pub inner: usize,
}

impl Default for Layout {
    fn default() -> Layout {
        Layout {
            col_major: false,
            pad: 0,
            offset: 0,
            inner: 1,
        }
    }
}

/// A strided matrix that owns its elements; unused ones are NaN, so that reading them shows.
#[derive(Debug, Clone)]
pub struct Matrix<T> {
    data: Vec<T>,
    rows: usize,
    cols: usize,
    layout: Layout,
}

impl<T: Element> Matrix<T> {
    pub fn from_fn(rows: usize, cols: usize, value: impl FnMut(usize, usize) -> f64) -> Matrix<T> {
        Matrix::with_layout(rows, cols, Layout::default(), value)
    }

    /// Values in `(-1, 1)` that use the whole significand, from a small linear congruential generator.
    pub fn random(rows: usize, cols: usize, layout: Layout, seed: u64) -> Matrix<T> {
        let mut state = seed;
        Matrix::with_layout(rows, cols, layout, |_, _| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 11) as f64) / ((1_u64 << 52) as f64) - 1.0
        })
    }

    fn with_layout(
        rows: usize,
        cols: usize,
        layout: Layout,
        mut value: impl FnMut(usize, usize) -> f64,
    ) -> Matrix<T> {
        let mut matrix = Matrix {
            data: Vec::new(),
            rows,
            cols,
            layout,
        };
        let (row_stride, col_stride) = matrix.strides();
        let len = layout.offset + (rows - 1) * row_stride + (cols - 1) * col_stride + 1;
        matrix.data = vec![T::from_f64(f64::NAN); len];
        for i in 0..rows {
            for j in 0..cols {
                matrix.data[layout.offset + i * row_stride + j * col_stride] = T::from_f64(value(i, j));
            }
        }
        matrix
    }

    fn strides(&self) -> (usize, usize) {
        let Layout {
            col_major,
            pad,
            inner,
            ..
        } = self.layout;
        let outer = inner * if col_major { self.rows } else { self.cols } + pad;
        if col_major { (inner, outer) } else { (outer, inner) }
    }

    pub fn view(&self) -> MatRef<'_, T> {
        let (row_stride, col_stride) = self.strides();
        MatRef::new(
            &self.data[self.layout.offset..],
            self.rows,
            self.cols,
            row_stride,
            col_stride,
        )
    }

    fn rows(&self, rows: Range<usize>) -> Matrix<T> {
        let view = self.view().sub(rows, 0..self.cols);
        Matrix::from_fn(view.rows(), view.cols(), |i, j| view.get(i, j).to_f64())
    }
}

/// `C (+)= A·B`; `c` is row-major, its layout's padding is what lies between the rows.
#[derive(Debug, Clone)]
pub struct Problem<T> {
    pub a: Matrix<T>,
    pub b: Matrix<T>,
    pub c: Matrix<T>,
    pub accumulate: bool,
}

impl<T: Element> Problem<T> {
    pub fn random(rows: usize, depth: usize, cols: usize, accumulate: bool) -> Problem<T> {
        let layout = Layout::default();
        Problem {
            a: Matrix::random(rows, depth, layout, 1),
            b: Matrix::random(depth, cols, layout, 2),
            c: Matrix::random(rows, cols, layout, 3),
            accumulate,
        }
    }

    pub fn shape(&self) -> String {
        let (a, b) = (&self.a, &self.b);
        format!(
            "{} x {} x {}, A {:?}, B {:?}",
            a.rows, a.cols, b.cols, a.layout, b.layout
        )
    }

    /// The same problem for some of the rows.
    pub fn rows(&self, rows: Range<usize>) -> Problem<T> {
        Problem {
            a: self.a.rows(rows.clone()),
            b: self.b.clone(),
            c: self.c.rows(rows),
            accumulate: self.accumulate,
        }
    }

    /// Packs `B`, multiplies, checks that nothing between the rows of `C` was written, and returns `C` dense.
    pub fn multiply(&self, kernel: &Kernel<T>) -> Vec<T> {
        let (rows, depth, cols) = (self.a.rows, self.a.cols, self.b.cols);
        let packed_b = pack_b(kernel, self.b.view());
        let mut scratch = vec![T::from_f64(f64::NAN); kernel.scratch_len(rows, depth)];
        let (ldc, _) = self.c.strides();
        let mut c = self.c.data.clone();
        kernel.multiply_band(
            self.a.view(),
            &packed_b,
            MatMut::new(&mut c, rows, cols, ldc),
            self.accumulate,
            &mut scratch,
        );
        for row in c.chunks(ldc) {
            assert!(
                row[cols.min(row.len())..].iter().all(|gap| gap.to_f64().is_nan()),
                "written between rows"
            );
        }
        c.chunks(ldc).flat_map(|row| row[..cols].to_vec()).collect()
    }
}

fn pack_b<T: Element>(kernel: &Kernel<T>, b: MatRef<'_, T>) -> Vec<T> {
    let mut packed = vec![T::from_f64(f64::NAN); kernel.packed_b_len(b.rows(), b.cols())];
    let mut rest = &mut packed[..];
    for pc in (0..b.rows()).step_by(T::KC) {
        let depth = T::KC.min(b.rows() - pc);
        for jr in (0..b.cols()).step_by(kernel.nr()) {
            let panel = rest
                .split_off_mut(..depth * kernel.nr())
                .expect("the packed length fits");
            let cols = jr..b.cols().min(jr + kernel.nr());
            kernel.pack_b_panel(b.sub(pc..pc + depth, cols), panel);
        }
    }
    packed
}

/// The rule that fixes the bits, written down naively.
pub fn reference<T: Element>(problem: &Problem<T>) -> Vec<T> {
    let (a, b, c) = (problem.a.view(), problem.b.view(), problem.c.view());
    let mut out = Vec::with_capacity(a.rows() * b.cols());
    for i in 0..a.rows() {
        for j in 0..b.cols() {
            let mut sum = problem.accumulate.then(|| c.get(i, j));
            for pc in (0..a.cols()).step_by(T::KC) {
                let block = pc..a.cols().min(pc + T::KC);
                let acc = block.fold(T::ZERO, |acc, p| a.get(i, p).mul_add(b.get(p, j), acc));
                sum = Some(sum.map_or(acc, |sum| sum + acc));
            }
            out.push(sum.unwrap_or(T::ZERO));
        }
    }
    out
}
