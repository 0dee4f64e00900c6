//! The micro-kernel in plain Rust: correct everywhere, and a plain loop nest that the compiler vectorises where the target
//! has fused multiply-adds.

use super::{MicroKernel, Target};
use crate::Element;

const MR: usize = 4;

pub(super) const F64: MicroKernel<f64> = MicroKernel {
    mr: MR,
    nr: 8,
    tile: tile::<f64, 8>,
    narrow: None,
    transpose: None,
};
pub(super) const F32: MicroKernel<f32> = MicroKernel {
    mr: MR,
    nr: 16,
    tile: tile::<f32, 16>,
    narrow: None,
    transpose: None,
};

/// See [`TileFn`](super::TileFn).
///
/// # Safety
/// As [`TileFn`](super::TileFn) says; any machine will do.
unsafe fn tile<T: Element, const NR: usize>(
    depth: usize,
    a: *const T,
    b: *const T,
    targets: &[Target<T>],
    _ahead: *const T,
) {
    // SAFETY: the caller vouches for `depth` steps of `MR` and of `NR` elements, which arrays of them lie over exactly.
    let (a, b) = unsafe {
        (
            std::slice::from_raw_parts(a.cast::<[T; MR]>(), depth),
            std::slice::from_raw_parts(b.cast::<[T; NR]>(), depth),
        )
    };
    let mut acc = [[T::ZERO; NR]; MR];
    for (a_step, b_step) in a.iter().zip(b) {
        for (acc_row, &a_ip) in acc.iter_mut().zip(a_step) {
            for (acc_ij, &b_pj) in acc_row.iter_mut().zip(b_step) {
                *acc_ij = a_ip.mul_add(b_pj, *acc_ij);
            }
        }
    }
    for target in targets {
        debug_assert!(target.ldc >= NR);
        for (i, acc_row) in acc.iter().enumerate() {
            // SAFETY: row `i < MR` of the tile is `NR` elements that the caller lends for reading and writing.
            let c_row = unsafe { &mut *target.c.add(i * target.ldc).cast::<[T; NR]>() };
            for (c_ij, &acc_ij) in c_row.iter_mut().zip(acc_row) {
                *c_ij = target.store.apply(*c_ij, acc_ij);
            }
        }
    }
}
