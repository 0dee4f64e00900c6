//! Micro-kernels: one `mr x nr` tile of `C` in registers, over one depth block.
//!
//! This is the only place that knows instruction sets. [`MicroKernel::run`] checks lengths and is safe to call; the
//! functions behind it are not.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
#[cfg(target_arch = "x86_64")]
mod tile;
#[cfg(target_arch = "x86_64")]
mod transpose;

use crate::pack::Terms;
use crate::{Element, MatMut, MatRef, Simd};

/// Elements of the largest tile of any instruction set: 8 x 48 `f32`.
pub(crate) const MAX_TILE_LEN: usize = 8 * 48;

/// What happens to a tile of `C`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// `C = acc`
    Overwrite,
    /// `C = C + acc`
    Add,
    /// `C = C - acc`
    Subtract,
}

impl Store {
    /// The new element.
    #[inline(always)]
    pub(crate) fn apply<T: Element>(self, c: T, acc: T) -> T {
        match self {
            Store::Overwrite => acc,
            Store::Add => c + acc,
            Store::Subtract => c - acc,
        }
    }
}

/// A tile of `C` to be changed: `mr` rows of `nr` elements or fewer, `ldc` apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<T> {
    c: *mut T,
    ldc: usize,
    store: Store,
}

/// Computes `acc[i][j] = fma(a[p * mr + i], b[p * nr + j], acc[i][j])` from zero for `p` in `0..depth`, and stores it to each
/// target in turn; `j` goes over the function's columns, which are `nr` or fewer. Meanwhile it may fetch what lies at `ahead` into
/// the L2 cache.
///
/// # Safety
/// The machine supports the function's instruction set; `a` has `depth * mr` readable elements, `b` `depth * nr`; in every target
/// the function's columns of `mr` rows are readable and writable and overlap neither `a` nor `b` nor each other.
pub(crate) type TileFn<T> =
    unsafe fn(depth: usize, a: *const T, b: *const T, targets: &[Target<T>], ahead: *const T);

/// Lanes in memory: each one's elements are adjacent, and lane after lane begins `stride` further on.
#[derive(Debug, Clone, Copy)]
struct Lanes<T> {
    start: *const T,
    stride: usize,
}

impl<T> Lanes<T> {
    /// Where an element would be.
    fn at(self, lane: usize, step: usize) -> *const T {
        self.start.wrapping_add(lane * self.stride + step)
    }
}

/// Copies element `p` of lane `i`, or what the terms make of two such, to `out[p * width + i]`, for [`TRANSPOSED_LANES`] lanes and
/// `p` in `0..n_steps`.
///
/// # Safety
/// The machine supports the function's instruction set; `n_steps` is a multiple of [`TRANSPOSED_LANES`]; every lane has
/// `n_steps` readable elements; `out` is writable up to `[(n_steps - 1) * width + TRANSPOSED_LANES - 1]` and overlaps no lane.
type TransposeFn<T> = unsafe fn(lanes: Terms<Lanes<T>>, n_steps: usize, out: *mut T, width: usize);

/// Lanes that a [`TransposeFn`] takes, and what its number of steps is a multiple of.
pub(crate) const TRANSPOSED_LANES: usize = 8;

/// Tile functions with their shape, and what packs their panels.
#[derive(Debug, Clone, Copy)]
pub struct MicroKernel<T> {
    mr: usize,
    nr: usize,
    tile: TileFn<T>,
    /// For a third and for two thirds of `nr` columns, where rows of `C` end.
    narrow: Option<[TileFn<T>; 2]>,
    transpose: Option<TransposeFn<T>>,
}

/// The micro-kernels of an element type. Named outside this crate by nobody: it seals [`Element`].
pub trait Instances: Sized {
    /// The micro-kernel for `simd`, whether or not this machine can run it.
    fn instance(simd: Simd) -> MicroKernel<Self>;
}

impl<T: Element> MicroKernel<T> {
    /// Selects the micro-kernel of `simd`.
    ///
    /// # Panics
    /// If this machine does not support it: [`MicroKernel::run`] relies on that.
    pub(crate) fn new(simd: Simd) -> MicroKernel<T> {
        assert!(simd.is_supported(), "this machine does not support `{simd}`");
        let micro = T::instance(simd);
        debug_assert!(micro.mr * micro.nr <= MAX_TILE_LEN);
        debug_assert!(micro.nr.is_multiple_of(micro.col_step()));
        micro
    }

    pub(crate) fn mr(&self) -> usize {
        self.mr
    }

    pub(crate) fn nr(&self) -> usize {
        self.nr
    }

    /// What the columns of a tile are a multiple of.
    #[inline]
    pub(crate) fn col_step(&self) -> usize {
        if self.narrow.is_some() {
            self.nr / 3
        } else {
            self.nr
        }
    }

    /// Computes one tile of `mr` rows, and of `nr` columns or a smaller multiple of [`col_step`](MicroKernel::col_step), from a
    /// packed panel of `A` and one of `B`, for one or two targets; `ahead` is what later tiles will read, a hint that may point
    /// anywhere.
    #[inline]
    pub(crate) fn run<const N: usize>(
        &self,
        a_panel: &[T],
        b_panel: &[T],
        targets: [(MatMut<'_, T>, Store); N],
        ahead: *const T,
    ) {
        let depth = a_panel.len() / self.mr;
        assert_eq!(
            (a_panel.len(), b_panel.len()),
            (depth * self.mr, depth * self.nr),
            "panel lengths"
        );
        let cols = targets[0].0.cols();
        let tile = match self.narrow {
            Some([third, _]) if cols == self.nr / 3 => third,
            Some([_, two_thirds]) if cols == self.nr / 3 * 2 => two_thirds,
            _ => {
                assert_eq!(cols, self.nr, "columns of a tile");
                self.tile
            }
        };
        let targets = targets.map(|(mut c, store)| {
            assert_eq!((c.rows(), c.cols()), (self.mr, cols), "tile of C");
            Target {
                c: c.as_mut_ptr(),
                ldc: c.row_stride(),
                store,
            }
        });
        // SAFETY: `new` checked the instruction set. The panels hold `depth` steps by the first assertion; every target is a view
        // of `mr` rows of the function's `cols` elements by the second, and a unique borrow that lasts until here, so it overlaps
        // neither a panel nor another target. Nothing is asked of `ahead`.
        unsafe { tile(depth, a_panel.as_ptr(), b_panel.as_ptr(), &targets, ahead) }
    }

    /// Whether [`transpose_lanes`](MicroKernel::transpose_lanes) may be called.
    pub(crate) fn transposes(&self) -> bool {
        self.transpose.is_some()
    }

    /// Copies [`TRANSPOSED_LANES`] rows of `lanes`, whose elements are adjacent, to the columns of `out` from `first` on:
    /// `out[p * width + first + i] = lanes[i][p]`, for whole groups of [`TRANSPOSED_LANES`] steps; returns how many steps that were.
    /// Two terms have the same shape.
    pub(crate) fn transpose_lanes(
        &self,
        lanes: Terms<MatRef<'_, T>>,
        width: usize,
        first: usize,
        out: &mut [T],
    ) -> usize {
        let transpose = self.transpose.expect("asked before");
        let n_cols = lanes.first().cols();
        let n_steps = n_cols - n_cols % TRANSPOSED_LANES;
        if n_steps == 0 {
            return 0;
        }
        assert!(
            first + TRANSPOSED_LANES <= width && n_steps * width <= out.len(),
            "transposed steps"
        );
        let lanes = lanes.map(|lanes| {
            assert!(
                (lanes.rows(), lanes.cols()) == (TRANSPOSED_LANES, n_cols) && lanes.col_stride() == 1,
                "lanes to transpose"
            );
            Lanes {
                start: lanes.data().as_ptr(),
                stride: lanes.row_stride(),
            }
        });
        // SAFETY: `new` checked the instruction set. A view of eight rows with adjacent elements has `cols` readable elements in
        // each row, `row_stride` apart. The last element written is `(n_steps - 1) * width + first + 7 < n_steps * width`.
        // `out` is a unique borrow, so it overlaps no lane.
        unsafe { transpose(lanes, n_steps, out.as_mut_ptr().add(first), width) };
        n_steps
    }
}

#[cfg(target_arch = "x86_64")]
impl Instances for f64 {
    fn instance(simd: Simd) -> MicroKernel<f64> {
        match simd {
            Simd::Portable => portable::F64,
            Simd::Avx2 => avx2::F64,
            Simd::Avx512 => avx512::F64,
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Instances for f32 {
    fn instance(simd: Simd) -> MicroKernel<f32> {
        match simd {
            Simd::Portable => portable::F32,
            Simd::Avx2 => avx2::F32,
            Simd::Avx512 => avx512::F32,
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Instances for f64 {
    fn instance(_simd: Simd) -> MicroKernel<f64> {
        portable::F64
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Instances for f32 {
    fn instance(_simd: Simd) -> MicroKernel<f32> {
        portable::F32
    }
}
