//! Columns of op(B) that are packed, and serve all tiles that begin with the first of them.
//!
//! Tiles of a symmetric product that cross the diagonal differ in width. So the check's B·x is summed in groups of columns that
//! end where such tiles end, and then each group is added to the next: every tile finds the sum over exactly its own columns.

use crate::matvec::{Weighted, WeightedMut};
use std::ops::Range;

/// Packed columns, in groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackedCols {
    cols: Range<u64>,
    /// Where the groups end, in ascending order, counted from the first column.
    ends: Vec<usize>,
}

impl PackedCols {
    /// `cols` of op(B) for tiles of the given widths, the last of which is the number of columns.
    pub(crate) fn new(cols: Range<u64>, widths: Vec<usize>) -> PackedCols {
        debug_assert_eq!(
            widths.last().map(|width| *width as u64),
            Some(cols.end - cols.start)
        );
        PackedCols { cols, ends: widths }
    }

    /// Number of columns.
    pub(crate) fn n_cols(&self) -> usize {
        (self.cols.end - self.cols.start) as usize
    }

    /// Number of groups.
    pub(crate) fn n_groups(&self) -> usize {
        self.ends.len()
    }

    /// The group that ends where a tile of `tile_cols` does; `None` if these columns do not serve it.
    pub(crate) fn group_of(&self, tile_cols: &Range<u64>) -> Option<usize> {
        let width = (tile_cols.end - tile_cols.start) as usize;
        let group = self.ends.binary_search(&width).ok()?;
        (tile_cols.start == self.cols.start).then_some(group)
    }

    /// Cuts columns where groups end.
    fn groups(&self, cols: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(move |(start, end)| start.max(cols.start)..cols.end.min(*end))
            .enumerate()
            .filter(|(_, part)| !part.is_empty())
    }

    /// Takes some of the columns into y = B·x of a depth block, in ascending order of columns. `add` adds the product of these
    /// columns, by their place among all, to the sums that it is given.
    pub(crate) fn add(
        &self,
        y: &mut WeightedMut<'_>,
        magnitude_start: f64,
        cols: Range<usize>,
        mut add: impl FnMut(Range<usize>, WeightedMut<'_>),
    ) {
        let group_len = y.value.len() / self.n_groups();
        if cols.start == 0 {
            y.value.fill(0.0);
            let (first, others) = y.magnitude.split_at_mut(group_len);
            first.fill(magnitude_start);
            others.fill(0.0);
        }
        let is_last = cols.end == self.n_cols();
        for (group, cols) in self.groups(cols) {
            add(cols, y.part(group * group_len..(group + 1) * group_len));
        }
        if is_last {
            for at in group_len..group_len * self.n_groups() {
                y.value[at] += y.value[at - group_len];
                y.magnitude[at] += y.magnitude[at - group_len];
            }
        }
    }

    /// y over the first `depth` rows of a depth block, and over the columns of the tile that ends with `group`.
    pub(crate) fn y_of<'a>(&self, y: &'a WeightedMut<'_>, group: usize, depth: usize) -> Weighted<'a> {
        let start = y.value.len() / self.n_groups() * group;
        Weighted {
            value: &y.value[start..start + depth],
            magnitude: &y.magnitude[start..start + depth],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_finds_the_sum_over_its_own_columns() {
        let packed = PackedCols::new(100..110, vec![2, 3, 9, 10]);
        assert_eq!(packed.group_of(&(100..103)), Some(1));
        assert_eq!(
            (packed.group_of(&(100..104)), packed.group_of(&(101..104))),
            (None, None)
        );
        let (mut value, mut magnitude) = (vec![7.0; 8], vec![7.0; 8]);
        let mut y = WeightedMut {
            value: &mut value,
            magnitude: &mut magnitude,
        };
        // Column j of B is (2^j, -2^j), in chunks that are no groups.
        for cols in [0..4, 4..5, 5..10] {
            packed.add(&mut y, 0.5, cols, |cols, y| {
                for j in cols {
                    y.value[0] += f64::from(1 << j);
                    y.value[1] -= f64::from(1 << j);
                    y.magnitude.iter_mut().for_each(|sum| *sum += f64::from(1 << j));
                }
            });
        }
        for (group, width) in [2, 3, 9, 10].into_iter().enumerate() {
            let sum = f64::from((1 << width) - 1);
            let y = packed.y_of(&y, group, 2);
            assert_eq!(y.value, [sum, -sum]);
            assert_eq!(y.magnitude, [sum + 0.5; 2]);
        }
    }
}
