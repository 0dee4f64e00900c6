//! Transposing in registers: eight lanes that each lie along memory become steps of eight neighbours, as packed panels want
//! them. Of a sum, both terms are added on the way.
//!
//! Loads and stores are whole vectors; between them, each element passes three shuffles (a butterfly of 1, 2 and 4 places).

use super::Lanes;
use crate::pack::Terms;
use std::arch::x86_64::*;

/// Lanes, and steps at a time.
pub(super) const SIDE: usize = 8;

/// See [`TransposeFn`](super::TransposeFn).
///
/// # Safety
/// As [`TransposeFn`](super::TransposeFn) says, with AVX-512F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn eight_f64(lanes: Terms<Lanes<f64>>, n_steps: usize, out: *mut f64, width: usize) {
    debug_assert!(n_steps.is_multiple_of(SIDE) && width >= SIDE);
    for step in (0..n_steps).step_by(SIDE) {
        let mut r = [_mm512_setzero_pd(); SIDE];
        for (lane, r) in r.iter_mut().enumerate() {
            // SAFETY: `SIDE` elements from `step` on are within the `n_steps` of this lane.
            let load = |lanes: Lanes<f64>| unsafe { _mm512_loadu_pd(lanes.at(lane, step)) };
            *r = match lanes {
                Terms::One(one) => load(one),
                Terms::Plus(one, two) => _mm512_add_pd(load(one), load(two)),
                Terms::Minus(one, two) => _mm512_sub_pd(load(one), load(two)),
            };
        }
        let pairs = |i: usize| {
            (
                _mm512_unpacklo_pd(r[i], r[i + 1]),
                _mm512_unpackhi_pd(r[i], r[i + 1]),
            )
        };
        let (p0, p2, p4, p6) = (pairs(0), pairs(2), pairs(4), pairs(6));
        // Even steps are in the low halves of the pairs, odd ones in the high halves.
        for (odd, [a, b, c, d]) in [[p0.0, p2.0, p4.0, p6.0], [p0.1, p2.1, p4.1, p6.1]]
            .into_iter()
            .enumerate()
        {
            let (ab_04, ab_26) = (
                _mm512_shuffle_f64x2::<0x88>(a, b),
                _mm512_shuffle_f64x2::<0xdd>(a, b),
            );
            let (cd_04, cd_26) = (
                _mm512_shuffle_f64x2::<0x88>(c, d),
                _mm512_shuffle_f64x2::<0xdd>(c, d),
            );
            let columns = [
                (0, _mm512_shuffle_f64x2::<0x88>(ab_04, cd_04)),
                (4, _mm512_shuffle_f64x2::<0xdd>(ab_04, cd_04)),
                (2, _mm512_shuffle_f64x2::<0x88>(ab_26, cd_26)),
                (6, _mm512_shuffle_f64x2::<0xdd>(ab_26, cd_26)),
            ];
            for (column, values) in columns {
                // SAFETY: step `step + column + odd` is below `n_steps`, and `SIDE` elements fit its `width`.
                unsafe { _mm512_storeu_pd(out.add((step + column + odd) * width), values) };
            }
        }
    }
}

/// See [`TransposeFn`](super::TransposeFn).
///
/// # Safety
/// As [`TransposeFn`](super::TransposeFn) says, with AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn eight_f32(lanes: Terms<Lanes<f32>>, n_steps: usize, out: *mut f32, width: usize) {
    debug_assert!(n_steps.is_multiple_of(SIDE) && width >= SIDE);
    for step in (0..n_steps).step_by(SIDE) {
        let mut r = [_mm256_setzero_ps(); SIDE];
        for (lane, r) in r.iter_mut().enumerate() {
            // SAFETY: `SIDE` elements from `step` on are within the `n_steps` of this lane.
            let load = |lanes: Lanes<f32>| unsafe { _mm256_loadu_ps(lanes.at(lane, step)) };
            *r = match lanes {
                Terms::One(one) => load(one),
                Terms::Plus(one, two) => _mm256_add_ps(load(one), load(two)),
                Terms::Minus(one, two) => _mm256_sub_ps(load(one), load(two)),
            };
        }
        // Lanes i and i + 4 side by side first, so that no shuffle has to cross the halves again.
        let low = |i: usize| _mm256_permute2f128_ps::<0x20>(r[i], r[i + 4]);
        let high = |i: usize| _mm256_permute2f128_ps::<0x31>(r[i], r[i + 4]);
        let halves = [
            [low(0), low(1), low(2), low(3)],
            [high(0), high(1), high(2), high(3)],
        ];
        for (half, [a, b, c, d]) in halves.into_iter().enumerate() {
            let (ab_lo, ab_hi) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let (cd_lo, cd_hi) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            let columns = [
                _mm256_shuffle_ps::<0x44>(ab_lo, cd_lo),
                _mm256_shuffle_ps::<0xee>(ab_lo, cd_lo),
                _mm256_shuffle_ps::<0x44>(ab_hi, cd_hi),
                _mm256_shuffle_ps::<0xee>(ab_hi, cd_hi),
            ];
            for (column, values) in columns.into_iter().enumerate() {
                // SAFETY: step `step + 4 * half + column` is below `n_steps`, and `SIDE` elements fit its `width`.
                unsafe { _mm256_storeu_ps(out.add((step + 4 * half + column) * width), values) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::TransposeFn;
    use super::*;
    use crate::Element;

    /// Every source has exactly the elements that may be read, and `out` those that may be written, so that valgrind sees one more.
    fn assert_transposes<T: Element>(transpose: TransposeFn<T>) {
        for (n_steps, gap, width) in [(8, 0, 8), (16, 3, 9), (24, 8, 24), (40, 1, 48), (64, 0, 50)] {
            let (stride, untouched) = (n_steps + gap, T::from_f64(-1.0));
            let value = |factor: usize, lane: usize, step: usize| {
                T::from_f64((factor * (1 + lane * n_steps + step)) as f64)
            };
            let source = |factor: usize| {
                let mut lanes = vec![untouched; (SIDE - 1) * stride + n_steps];
                for at in 0..SIDE * n_steps {
                    let (lane, step) = (at / n_steps, at % n_steps);
                    lanes[lane * stride + step] = value(factor, lane, step);
                }
                lanes
            };
            let (one, two) = (source(5), source(3));
            let [one, two] = [&one, &two].map(|lanes| Lanes {
                start: lanes.as_ptr(),
                stride,
            });
            for (lanes, factor) in [
                (Terms::One(one), 5),
                (Terms::Plus(one, two), 8),
                (Terms::Minus(one, two), 2),
            ] {
                let mut out = vec![untouched; (n_steps - 1) * width + SIDE];
                // SAFETY: the caller asked for the instruction set; the lengths above are those that the function asks for.
                unsafe { transpose(lanes, n_steps, out.as_mut_ptr(), width) };
                for (at, &found) in out.iter().enumerate() {
                    let (step, lane) = (at / width, at % width);
                    let expected = if lane < SIDE {
                        value(factor, lane, step)
                    } else {
                        untouched
                    };
                    assert_eq!(
                        found, expected,
                        "lane {lane}, step {step} of {n_steps}, width {width}, factor {factor}"
                    );
                }
            }
        }
    }

    #[test]
    fn lanes_become_steps_and_nothing_else_is_touched() {
        if is_x86_feature_detected!("avx2") {
            assert_transposes::<f32>(eight_f32);
        }
        if is_x86_feature_detected!("avx512f") {
            assert_transposes::<f64>(eight_f64);
        }
    }
}
