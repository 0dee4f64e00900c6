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

/// One thing, or the sum or difference of two.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Terms<V> {
    One(V),
    Plus(V, V),
    Minus(V, V),
}

impl<V: Copy> Terms<V> {
    /// The same of other things.
    #[inline(always)]
    pub(crate) fn map<W>(self, mut to: impl FnMut(V) -> W) -> Terms<W> {
        match self {
            Terms::One(one) => Terms::One(to(one)),
            Terms::Plus(one, two) => Terms::Plus(to(one), to(two)),
            Terms::Minus(one, two) => Terms::Minus(to(one), to(two)),
        }
    }

    pub(crate) fn first(self) -> V {
        match self {
            Terms::One(one) | Terms::Plus(one, _) | Terms::Minus(one, _) => one,
        }
    }

    fn all(self, is: impl Fn(V) -> bool) -> bool {
        match self {
            Terms::One(one) => is(one),
            Terms::Plus(one, two) | Terms::Minus(one, two) => is(one) && is(two),
        }
    }
}

impl<T: Element> Terms<T> {
    /// What they make.
    #[inline(always)]
    fn value(self) -> T {
        match self {
            Terms::One(one) => one,
            Terms::Plus(one, two) => one + two,
            Terms::Minus(one, two) => one - two,
        }
    }
}

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
        pack_contiguous_lanes(Terms::One(src), width, out);
    } else if src.col_stride() == 1 {
        pack_transposing(micro, src, width, out);
    } else {
        pack_strided(Terms::One(src), 0, width, out);
    }
}

/// Packs what the terms make, zero where `lane >= lanes`; terms may have fewer steps than the panel, or fewer lanes than each
/// other, and what is missing counts as zero. `scratch` is as long as the panel.
///
/// Terms that lie alike are added on their way; others one after the other.
pub(crate) fn pack_terms<T: Element>(
    micro: &MicroKernel<T>,
    src: Terms<MatRef<'_, T>>,
    width: usize,
    out: &mut [T],
    scratch: &mut [T],
) {
    let first = src.first();
    let fit = first.rows() > 0
        && src.all(|term| {
            (term.rows(), term.cols()) == (first.rows(), first.cols()) && term.cols() * width == out.len()
        });
    if fit && src.all(|term| term.row_stride() == 1) {
        pack_contiguous_lanes(src, width, out);
        return;
    }
    if fit && src.all(|term| term.col_stride() == 1) && micro.transposes() {
        let done = transpose_in_registers(micro, src, width, out);
        pack_strided(src, done, width, out);
        return;
    }
    pack_padded(micro, first, width, out);
    if let Terms::Plus(_, two) | Terms::Minus(_, two) = src {
        let other = &mut scratch[..out.len()];
        pack_padded(micro, two, width, other);
        for (x, y) in out.iter_mut().zip(&*other) {
            *x = match src {
                Terms::Minus(..) => *x - *y,
                _ => *x + *y,
            };
        }
    }
}

/// Packs a panel whose source may have fewer steps than the panel: the others are zero.
fn pack_padded<T: Element>(micro: &MicroKernel<T>, lanes: MatRef<'_, T>, width: usize, panel: &mut [T]) {
    let (steps, missing) = panel.split_at_mut(lanes.cols() * width);
    if lanes.rows() == 0 || lanes.cols() == 0 {
        steps.fill(T::ZERO);
    } else {
        pack_panel(micro, lanes, width, steps);
    }
    missing.fill(T::ZERO);
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

/// The lanes of a step lie side by side already: a copy or an addition per step.
fn pack_contiguous_lanes<T: Element>(src: Terms<MatRef<'_, T>>, width: usize, out: &mut [T]) {
    let n_lanes = src.first().rows();
    let steps = src.map(|term| term.transposed());
    for (p, step) in out.chunks_exact_mut(width).enumerate() {
        let (lanes, padding) = step.split_at_mut(n_lanes);
        match steps.map(|steps| steps.contiguous_row(p)) {
            Terms::One(one) => lanes.copy_from_slice(one),
            Terms::Plus(one, two) => set_each(lanes, one, two, |x, y| x + y),
            Terms::Minus(one, two) => set_each(lanes, one, two, |x, y| x - y),
        }
        padding.fill(T::ZERO);
    }
}

#[inline]
fn set_each<T: Copy>(out: &mut [T], one: &[T], two: &[T], make: impl Fn(T, T) -> T) {
    for ((out, one), two) in out.iter_mut().zip(one).zip(two) {
        *out = make(*one, *two);
    }
}

/// The steps of a lane lie side by side: transposes square blocks, so that each source line is read once and whole.
fn pack_transposing<T: Element>(micro: &MicroKernel<T>, src: MatRef<'_, T>, width: usize, out: &mut [T]) {
    let in_registers = if micro.transposes() {
        transpose_in_registers(micro, Terms::One(src), width, out)
    } else {
        0
    };
    let whole_lanes = src.rows() - src.rows() % BLOCK;
    for first in (in_registers..whole_lanes).step_by(BLOCK) {
        let lanes: [&[T]; BLOCK] = std::array::from_fn(|lane| src.contiguous_row(first + lane));
        transpose_lanes(lanes, first, width, out);
    }
    pack_strided(Terms::One(src), whole_lanes, width, out);
}

/// Packs as many lanes as there are in whole groups of [`TRANSPOSED_LANES`], and says how many.
fn transpose_in_registers<T: Element>(
    micro: &MicroKernel<T>,
    src: Terms<MatRef<'_, T>>,
    width: usize,
    out: &mut [T],
) -> usize {
    let n_lanes = src.first().rows() - src.first().rows() % TRANSPOSED_LANES;
    for first in (0..n_lanes).step_by(TRANSPOSED_LANES) {
        let lanes = src.map(|term| term.sub(first..first + TRANSPOSED_LANES, 0..term.cols()));
        let done = micro.transpose_lanes(lanes, width, first, out);
        for p in done..src.first().cols() {
            let step = &mut out[p * width + first..][..TRANSPOSED_LANES];
            for (lane, element) in step.iter_mut().enumerate() {
                *element = lanes.map(|term| term.get(lane, p)).value();
            }
        }
    }
    n_lanes
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
fn pack_strided<T: Element>(src: Terms<MatRef<'_, T>>, first: usize, width: usize, out: &mut [T]) {
    if first == width {
        return;
    }
    let n_lanes = src.first().rows();
    for (p, step) in out.chunks_exact_mut(width).enumerate() {
        for (lane, element) in step.iter_mut().enumerate().skip(first) {
            *element = if lane < n_lanes {
                src.map(|term| term.get(lane, p)).value()
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

    #[test]
    fn terms_that_lie_alike_or_not_are_added_the_same() {
        assert_terms_are_added::<f64>();
        assert_terms_are_added::<f32>();
    }

    fn assert_terms_are_added<T: Element>() {
        let (width, n_steps) = (24, 21);
        let value = |factor: usize, lane: usize, p: usize| (factor * (1 + lane * n_steps + p)) as f64;
        // Lanes and steps of the terms, which may differ, and whether each lies along the steps.
        for (shapes, along) in [
            ([(24, 21); 2], [true, true]),
            ([(24, 21); 2], [false, false]),
            ([(24, 21); 2], [true, false]),
            ([(19, 21); 2], [true, true]),
            ([(19, 21); 2], [false, false]),
            ([(24, 21), (13, 21)], [true, true]),
            ([(24, 21), (24, 20)], [false, false]),
            ([(3, 21), (24, 9)], [true, true]),
            ([(24, 21), (0, 0)], [true, true]),
        ] {
            let data: [Vec<T>; 2] = std::array::from_fn(|term| {
                let ((lanes, steps), factor) = (shapes[term], [5, 3][term]);
                (0..lanes * steps)
                    .map(|at| {
                        let (lane, p) = if along[term] {
                            (at / steps, at % steps)
                        } else {
                            (at % lanes, at / lanes)
                        };
                        T::from_f64(value(factor, lane, p))
                    })
                    .collect()
            });
            let [one, two] = std::array::from_fn(|term| {
                let (lanes, steps) = shapes[term];
                if along[term] {
                    MatRef::row_major(&data[term], lanes, steps)
                } else {
                    MatRef::row_major(&data[term], steps, lanes).transposed()
                }
            });
            for (terms, sign) in [
                (Terms::One(one), 0.0),
                (Terms::Plus(one, two), 1.0),
                (Terms::Minus(one, two), -1.0),
            ] {
                let part = |term: usize, lane: usize, p: usize| {
                    let inside = lane < shapes[term].0 && p < shapes[term].1;
                    if inside { value([5, 3][term], lane, p) } else { 0.0 }
                };
                let expected: Vec<T> = (0..n_steps * width)
                    .map(|at| (at % width, at / width))
                    .map(|(lane, p)| T::from_f64(part(0, lane, p) + sign * part(1, lane, p)))
                    .collect();
                for simd in Simd::available() {
                    let mut out = vec![T::from_f64(f64::NAN); n_steps * width];
                    let mut scratch = out.clone();
                    pack_terms(&MicroKernel::new(simd), terms, width, &mut out, &mut scratch);
                    assert!(
                        out == expected,
                        "shapes {shapes:?}, along steps {along:?}, sign {sign}, {simd}"
                    );
                }
            }
        }
    }
}
