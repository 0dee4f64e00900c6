//! Packing: copies a block into the order in which the micro-kernel reads it.
//!
//! A packed panel is `depth` steps of `width` elements, the elements that one step of the micro-kernel needs side by side. `A`
//! and `B` differ only in direction, so both come here as a `lanes x depth` view (`B` transposed) with `lanes <= width`; missing
//! lanes are zeros. Each source order has its own loop, because packing by single strided elements costs a share of the
//! multiplication that can be seen.

use crate::micro::{MicroKernel, TRANSPOSED_LANES};
use crate::{Element, MatRef};

/// Side of the square blocks in which a panel is transposed: a few vector registers on any machine. Widths are multiples of it.
const BLOCK: usize = 4;

/// Packs `src` (`lanes x depth`) into `out[p * width + lane]`, zero where `lane >= lanes`.
pub(crate) fn pack_panel<T: Element>(
    micro: &MicroKernel<T>,
    src: MatRef<'_, T>,
    width: usize,
    out: &mut [T],
) {
    assert!(src.rows() <= width, "{} lanes in a panel of {width}", src.rows());
    assert_eq!(out.len(), src.cols() * width, "length of a packed panel");
    if src.row_stride() == 1 {
        pack_contiguous_lanes(src, width, out);
    } else if src.col_stride() == 1 {
        pack_transposing(micro, src, width, out);
    } else {
        pack_strided(src, 0, width, out);
    }
}

/// Packs all rows of `src` (`rows x depth`), panel after panel of `width` rows.
pub(crate) fn pack_panels<T: Element>(
    micro: &MicroKernel<T>,
    src: MatRef<'_, T>,
    width: usize,
    out: &mut [T],
) {
    assert_eq!(
        out.len(),
        src.rows().next_multiple_of(width) * src.cols(),
        "length of packed panels"
    );
    for (panel_idx, panel) in out.chunks_exact_mut(src.cols() * width).enumerate() {
        let first = panel_idx * width;
        let last = src.rows().min(first + width);
        pack_panel(micro, src.sub(first..last, 0..src.cols()), width, panel);
    }
}

/// The lanes of a step lie side by side already: a copy per step.
fn pack_contiguous_lanes<T: Element>(src: MatRef<'_, T>, width: usize, out: &mut [T]) {
    let steps = src.transposed();
    for (p, step) in out.chunks_exact_mut(width).enumerate() {
        let (lanes, padding) = step.split_at_mut(src.rows());
        lanes.copy_from_slice(steps.contiguous_row(p));
        padding.fill(T::ZERO);
    }
}

/// The steps of a lane lie side by side: transposes square blocks, so that each source line is read once and whole.
fn pack_transposing<T: Element>(micro: &MicroKernel<T>, src: MatRef<'_, T>, width: usize, out: &mut [T]) {
    let in_registers = if micro.transposes() {
        src.rows() - src.rows() % TRANSPOSED_LANES
    } else {
        0
    };
    for first in (0..in_registers).step_by(TRANSPOSED_LANES) {
        let lanes = src.sub(first..first + TRANSPOSED_LANES, 0..src.cols());
        let done = micro.transpose_lanes(lanes, width, first, out);
        for p in done..src.cols() {
            let step = &mut out[p * width + first..][..TRANSPOSED_LANES];
            for (lane, element) in step.iter_mut().enumerate() {
                *element = lanes.get(lane, p);
            }
        }
    }
    let whole_lanes = src.rows() - src.rows() % BLOCK;
    for first in (in_registers..whole_lanes).step_by(BLOCK) {
        let lanes: [&[T]; BLOCK] = std::array::from_fn(|lane| src.contiguous_row(first + lane));
        transpose_lanes(lanes, first, width, out);
    }
    if whole_lanes < width {
        pack_strided(src, whole_lanes, width, out);
    }
}

/// Writes `BLOCK` contiguous lanes to columns `first..first + BLOCK` of a panel.
fn transpose_lanes<T: Element>(lanes: [&[T]; BLOCK], first: usize, width: usize, out: &mut [T]) {
    let mut blocks = lanes.map(|lane| lane.as_chunks::<BLOCK>().0.iter());
    let mut groups = out.chunks_exact_mut(width * BLOCK);
    while let [Some(r0), Some(r1), Some(r2), Some(r3)] = blocks.each_mut().map(Iterator::next) {
        let group = groups.next().expect("a panel has as many steps as its lanes");
        for p in 0..BLOCK {
            group[p * width + first..][..BLOCK].copy_from_slice(&[r0[p], r1[p], r2[p], r3[p]]);
        }
    }
    let depth = lanes[0].len();
    for p in depth - depth % BLOCK..depth {
        out[p * width + first..][..BLOCK].copy_from_slice(&lanes.map(|lane| lane[p]));
    }
}

/// Element by element, for lanes from `first` on, and zeros after the last: any strides, and the ragged end of a panel.
fn pack_strided<T: Element>(src: MatRef<'_, T>, first: usize, width: usize, out: &mut [T]) {
    for (p, step) in out.chunks_exact_mut(width).enumerate() {
        for (lane, element) in step.iter_mut().enumerate().skip(first) {
            *element = if lane < src.rows() {
                src.get(lane, p)
            } else {
                T::ZERO
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Simd;

    #[test]
    fn every_source_order_packs_the_same_panel() {
        assert_every_source_order_packs_the_same::<f64>();
        assert_every_source_order_packs_the_same::<f32>();
    }

    fn assert_every_source_order_packs_the_same<T: Element>() {
        for (lanes, depth, width) in [
            (1, 1, 4),
            (3, 5, 4),
            (4, 4, 4),
            (7, 9, 8),
            (8, 33, 8),
            (23, 6, 24),
            (24, 17, 24),
            (15, 31, 48),
            (47, 8, 48),
            (48, 23, 48),
        ] {
            let value = |lane: usize, p: usize| T::from_f64((1 + lane * depth + p) as f64);
            let expected: Vec<T> = (0..depth * width)
                .map(|at| {
                    if at % width < lanes {
                        value(at % width, at / width)
                    } else {
                        T::ZERO
                    }
                })
                .collect();
            for (row_stride, col_stride) in [
                (depth, 1),
                (depth + 3, 1),
                (1, lanes),
                (1, lanes + 2),
                (2, 2 * lanes + 1),
            ] {
                let len = (lanes - 1) * row_stride + (depth - 1) * col_stride + 1;
                let mut data = vec![T::from_f64(-1.0); len];
                for lane in 0..lanes {
                    for p in 0..depth {
                        data[lane * row_stride + p * col_stride] = value(lane, p);
                    }
                }
                for simd in Simd::available() {
                    let mut out = vec![T::from_f64(f64::NAN); depth * width];
                    pack_panel(
                        &MicroKernel::new(simd),
                        MatRef::new(&data, lanes, depth, row_stride, col_stride),
                        width,
                        &mut out,
                    );
                    assert_eq!(
                        out, expected,
                        "{lanes} x {depth} by {width}, strides {row_stride}, {col_stride}, {simd}"
                    );
                }
            }
        }
    }
}
