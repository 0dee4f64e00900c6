//! The body that all x86-64 micro-kernels share: `MR` rows of `VECS` vectors of accumulators, `A` broadcast, `B` loaded.
//!
//! A macro, because intrinsics are inlined only into functions that enable their instruction set, which generic helpers
//! cannot.

/// Depth steps per loop iteration.
pub(super) const UNROLL: usize = 4;

/// How far ahead of its use `A` is fetched into the L1 cache, in depth steps. It streams from the L2 cache, once per tile; `B`'s
/// longer rows the processor fetches by itself (asking for them too cost a percent).
pub(super) const A_AHEAD: usize = 16;

/// Bytes that one prefetch brings.
pub(super) const LINE_BYTES: usize = 64;

/// Defines `$name`, a [`TileFn`](super::TileFn) of `$mr` rows and `VECS` vectors of `$lanes` columns, for panels of `$vecs` vectors.
macro_rules! tile_fn {
    (
        $name:ident, $element:ty, $features:literal, rows $mr:literal, vectors $vecs:literal x $lanes:literal,
        $zero:ident, $load:ident, $store:ident, $broadcast:ident, $fma:ident, $add:ident, $sub:ident
    ) => {
        /// See [`TileFn`](super::TileFn).
        ///
        /// # Safety
        /// As [`TileFn`](super::TileFn) says.
        #[target_feature(enable = $features)]
        unsafe fn $name<const VECS: usize>(
            depth: usize,
            mut a: *const $element,
            mut b: *const $element,
            targets: &[$crate::micro::Target<$element>],
            mut ahead: *const $element,
        ) {
            use std::arch::x86_64::*;
            use $crate::micro::tile::{A_AHEAD, LINE_BYTES, UNROLL};
            const NR: usize = $vecs * $lanes;
            const { assert!(VECS <= $vecs) };
            debug_assert!(targets.iter().all(|target| target.ldc >= VECS * $lanes));

            for target in targets {
                for i in 0..$mr {
                    for j in 0..VECS {
                        let at = target.c.wrapping_add(i * target.ldc + j * $lanes);
                        _mm_prefetch::<_MM_HINT_T0>(at.cast());
                    }
                }
            }

            let mut acc = [[$zero(); VECS]; $mr];
            macro_rules! step {
                ($p:expr) => {
                    // SAFETY: step `$p` from here is below `depth`, so its `$mr` elements of `a` and `NR` of `b` are readable.
                    let (a_step, b_step) = unsafe { (a.add($p * $mr), b.add($p * NR)) };
                    _mm_prefetch::<_MM_HINT_T0>(a_step.wrapping_add(A_AHEAD * $mr).cast());
                    let mut b_p = [$zero(); VECS];
                    for j in 0..VECS {
                        // SAFETY: vector `j` is within the `NR` elements of this step.
                        b_p[j] = unsafe { $load(b_step.add(j * $lanes)) };
                    }
                    for i in 0..$mr {
                        // SAFETY: row `i` is within the `$mr` elements of this step.
                        let a_ip = $broadcast(unsafe { *a_step.add(i) });
                        for j in 0..VECS {
                            acc[i][j] = $fma(a_ip, b_p[j], acc[i][j]);
                        }
                    }
                };
            }
            for _ in 0..depth / UNROLL {
                step!(0);
                step!(1);
                step!(2);
                step!(3);
                _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                ahead = ahead.wrapping_add(LINE_BYTES / size_of::<$element>());
                // SAFETY: all four steps were below `depth`, so the pointers end at most one past the panels.
                (a, b) = unsafe { (a.add(UNROLL * $mr), b.add(UNROLL * NR)) };
            }
            for _ in 0..depth % UNROLL {
                step!(0);
                // SAFETY: as above, for one step.
                (a, b) = unsafe { (a.add($mr), b.add(NR)) };
            }

            for target in targets {
                macro_rules! store_each {
                    ($at:ident, $acc:ident => $value:expr) => {
                        for i in 0..$mr {
                            for j in 0..VECS {
                                // SAFETY: vector `j` of row `i` is within the tile that the caller lends for reading and writing.
                                unsafe {
                                    let $at = target.c.add(i * target.ldc + j * $lanes);
                                    let $acc = acc[i][j];
                                    $store($at, $value);
                                }
                            }
                        }
                    };
                }
                match target.store {
                    $crate::micro::Store::Overwrite => store_each!(at, acc => acc),
                    $crate::micro::Store::Add => store_each!(at, acc => $add($load(at), acc)),
                    $crate::micro::Store::Subtract => store_each!(at, acc => $sub($load(at), acc)),
                }
            }
        }
    };
}

pub(super) use tile_fn;
