//! A writable view of a block of a row-major matrix that can be split by columns, so that threads write side by side.

use std::marker::PhantomData;
use std::ptr::NonNull;

/// A `rows x cols` block: row `i` is `cols` elements from `i * row_stride` on. Nothing between the rows is ever touched.
#[derive(Debug)]
pub struct MatMut<'a, T> {
    start: NonNull<T>,
    rows: usize,
    cols: usize,
    row_stride: usize,
    lent: PhantomData<&'a mut [T]>,
}

// SAFETY: a view is the only one that reaches its elements, as `&mut [T]` is.
unsafe impl<T: Send> Send for MatMut<'_, T> {}
// SAFETY: a shared view gives access to nothing but its shape.
unsafe impl<T: Sync> Sync for MatMut<'_, T> {}

impl<'a, T> MatMut<'a, T> {
    /// A view of `data`, row-major with `row_stride` elements from one row to the next.
    ///
    /// # Panics
    /// If `row_stride < cols`, or an element would lie outside `data`.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize, row_stride: usize) -> MatMut<'a, T> {
        assert!(
            row_stride >= cols,
            "rows of {cols} columns do not fit a stride of {row_stride}"
        );
        if rows > 0 {
            let needed = (rows - 1)
                .checked_mul(row_stride)
                .and_then(|len| len.checked_add(cols));
            assert!(
                needed.is_some_and(|needed| needed <= data.len()),
                "{rows} rows of {row_stride} elements do not fit {}",
                data.len()
            );
        }
        MatMut {
            start: NonNull::from(data).cast(),
            rows,
            cols,
            row_stride,
            lent: PhantomData,
        }
    }

    /// The same view for a shorter time.
    pub fn reborrow(&mut self) -> MatMut<'_, T> {
        MatMut {
            lent: PhantomData,
            ..*self
        }
    }

    /// The rows before `row`, and the others.
    ///
    /// # Panics
    /// If there are fewer rows.
    pub fn split_at_row(self, row: usize) -> (MatMut<'a, T>, MatMut<'a, T>) {
        assert!(row <= self.rows, "split at row {row} of {}", self.rows);
        let below = MatMut {
            // Wrapping, because an empty part may begin past the end of the data; it has no element to reach.
            start: self.at(row, 0),
            rows: self.rows - row,
            ..self
        };
        (MatMut { rows: row, ..self }, below)
    }

    /// The columns before `col`, and the others.
    ///
    /// # Panics
    /// If there are fewer columns.
    pub fn split_at_col(self, col: usize) -> (MatMut<'a, T>, MatMut<'a, T>) {
        assert!(col <= self.cols, "split at column {col} of {}", self.cols);
        let right = MatMut {
            start: self.at(0, col),
            cols: self.cols - col,
            ..self
        };
        (MatMut { cols: col, ..self }, right)
    }

    /// The block of `rows x cols` whose first element is `(row, col)`.
    ///
    /// # Panics
    /// If it reaches outside the view.
    #[inline]
    pub fn block(&mut self, row: usize, col: usize, rows: usize, cols: usize) -> MatMut<'_, T> {
        assert!(
            row <= self.rows && rows <= self.rows - row && col <= self.cols && cols <= self.cols - col,
            "block of {rows} x {cols} at ({row}, {col}) of {} x {}",
            self.rows,
            self.cols
        );
        MatMut {
            start: self.at(row, col),
            rows,
            cols,
            row_stride: self.row_stride,
            lent: PhantomData,
        }
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If there are fewer rows.
    #[inline]
    pub fn row(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        if self.cols == 0 {
            return &mut [];
        }
        // SAFETY: row `i` lies within the data that `new` checked (splitting only takes parts of it), and no other view or
        // slice reaches its elements: parts are disjoint, and `&mut self` excludes another row of this one.
        unsafe { std::slice::from_raw_parts_mut(self.at(i, 0).as_ptr(), self.cols) }
    }

    /// The first element; to be used only where there is one.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.start.as_ptr()
    }

    fn at(&self, row: usize, col: usize) -> NonNull<T> {
        let offset = row * self.row_stride + col;
        NonNull::new(self.start.as_ptr().wrapping_add(offset)).expect("within, or one past, an allocation")
    }

    /// Number of rows.
    #[inline]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    #[inline]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from one row to the next.
    #[inline]
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_cover_every_element_once_and_no_gap() {
        let mut data = [0; 23];
        let whole = MatMut::new(&mut data, 4, 5, 6);
        let (top, bottom) = whole.split_at_row(1);
        for (number, part) in [top, bottom].into_iter().enumerate() {
            let (left, right) = part.split_at_col(2);
            for (side, mut part) in [left, right].into_iter().enumerate() {
                for i in 0..part.rows() {
                    part.row(i)
                        .iter_mut()
                        .for_each(|element| *element += 1 + 2 * number + side);
                }
            }
        }
        let expected = |at: usize| match (at / 6, at % 6) {
            (_, 5) => 0,
            (row, col) => 1 + 2 * usize::from(row > 0) + usize::from(col >= 2),
        };
        assert_eq!(data, std::array::from_fn(expected));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// However a view is cut, again and again, its parts are its elements, each once; the data ends with the last one.
        #[test]
        fn any_cuts_cover_every_element_once_and_no_gap(
            rows in 1..20usize,
            cols in 1..20usize,
            gap in 0..4usize,
            cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<prop::sample::Index>()), 0..12),
        ) {
            let row_stride = cols + gap;
            let mut data = vec![0; (rows - 1) * row_stride + cols];
            let mut parts = vec![MatMut::new(&mut data, rows, cols, row_stride)];
            for (which, by_rows, at) in cuts {
                let part = parts.swap_remove(which.index(parts.len()));
                let (one, other) = if by_rows {
                    let at = at.index(part.rows() + 1);
                    part.split_at_row(at)
                } else {
                    let at = at.index(part.cols() + 1);
                    part.split_at_col(at)
                };
                parts.extend([one, other]);
            }
            for mut part in parts {
                let (rows, cols) = (part.rows(), part.cols());
                let mut block = part.block(0, 0, rows, cols);
                for i in 0..rows {
                    block.row(i).iter_mut().for_each(|element| *element += 1);
                }
            }
            for (at, &touched) in data.iter().enumerate() {
                prop_assert_eq!(touched, usize::from(at % row_stride < cols), "element {}", at);
            }
        }
    }

    #[test]
    fn empty_parts_are_fine() {
        let mut data = [1; 6];
        let (mut whole, mut empty) = MatMut::new(&mut data, 2, 3, 3).split_at_row(2);
        assert_eq!((whole.rows(), empty.rows()), (2, 0));
        assert_eq!(empty.reborrow().split_at_col(3).1.cols(), 0);
        assert_eq!(whole.block(2, 3, 0, 0).rows(), 0);
        let (_, mut right) = whole.split_at_col(3);
        assert!(right.row(1).is_empty());
    }

    #[test]
    #[should_panic(expected = "do not fit 5")]
    fn a_view_past_the_end_panics() {
        MatMut::new(&mut [0; 5], 2, 3, 3);
    }

    #[test]
    #[should_panic(expected = "block of 2 x 2")]
    fn a_block_past_the_end_panics() {
        MatMut::new(&mut [0; 6], 2, 3, 3).block(0, 2, 2, 2);
    }
}
