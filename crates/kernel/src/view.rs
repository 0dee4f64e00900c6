//! A strided read-only matrix view whose bounds are checked once, when it is made.

use std::ops::Range;

/// A `rows x cols` view of `data`: element `(i, j)` is `data[i * row_stride + j * col_stride]`. Strides count elements.
#[derive(Debug, Clone, Copy)]
pub struct MatRef<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T: Copy> MatRef<'a, T> {
    /// A view with the given strides.
    ///
    /// # Panics
    /// If an element would lie outside `data`.
    pub fn new(
        data: &'a [T],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> MatRef<'a, T> {
        let needed = span(rows, cols, row_stride, col_stride);
        assert!(
            needed.is_some_and(|needed| needed <= data.len()),
            "a {rows} x {cols} view with strides {row_stride} and {col_stride} does not fit {} elements",
            data.len()
        );
        MatRef {
            data,
            rows,
            cols,
            row_stride,
            col_stride,
        }
    }

    /// A view of a dense row-major matrix.
    ///
    /// # Panics
    /// If `data` has fewer than `rows * cols` elements.
    pub fn row_major(data: &'a [T], rows: usize, cols: usize) -> MatRef<'a, T> {
        MatRef::new(data, rows, cols, cols, 1)
    }

    /// The block of the given rows and columns.
    ///
    /// # Panics
    /// If a range is reversed or ends outside the view.
    pub fn sub(self, rows: Range<usize>, cols: Range<usize>) -> MatRef<'a, T> {
        assert!(
            rows.start <= rows.end && rows.end <= self.rows,
            "rows {rows:?} of {}",
            self.rows
        );
        assert!(
            cols.start <= cols.end && cols.end <= self.cols,
            "columns {cols:?} of {}",
            self.cols
        );
        let data = if rows.is_empty() || cols.is_empty() {
            &[]
        } else {
            &self.data[rows.start * self.row_stride + cols.start * self.col_stride..]
        };
        MatRef {
            data,
            rows: rows.len(),
            cols: cols.len(),
            ..self
        }
    }

    /// The same elements with rows and columns exchanged; nothing is copied.
    pub fn transposed(self) -> MatRef<'a, T> {
        MatRef {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Element `(i, j)`.
    ///
    /// # Panics
    /// If it lies outside the view.
    #[inline]
    pub fn get(self, i: usize, j: usize) -> T {
        assert!(
            i < self.rows && j < self.cols,
            "element ({i}, {j}) of a {} x {} view",
            self.rows,
            self.cols
        );
        self.data[i * self.row_stride + j * self.col_stride]
    }

    /// Row `i` as a slice, where the elements of a row are adjacent.
    pub(crate) fn contiguous_row(self, i: usize) -> &'a [T] {
        debug_assert!(i < self.rows && self.col_stride == 1);
        &self.data[i * self.row_stride..][..self.cols]
    }

    /// The elements from `(0, 0)` on, as long as the storage goes.
    pub fn data(self) -> &'a [T] {
        self.data
    }

    /// Number of rows.
    #[inline]
    pub fn rows(self) -> usize {
        self.rows
    }

    /// Number of columns.
    #[inline]
    pub fn cols(self) -> usize {
        self.cols
    }

    /// Elements from one row to the next.
    #[inline]
    pub fn row_stride(self) -> usize {
        self.row_stride
    }

    /// Elements from one column to the next.
    #[inline]
    pub fn col_stride(self) -> usize {
        self.col_stride
    }
}

/// The number of elements from the first to the last one of a view, both included; `None` where it overflows.
fn span(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> Option<usize> {
    if rows == 0 || cols == 0 {
        return Some(0);
    }
    let last_row = (rows - 1).checked_mul(row_stride)?;
    let last_col = (cols - 1).checked_mul(col_stride)?;
    last_row.checked_add(last_col)?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_blocks_and_transposes_agree() {
        let data: Vec<i32> = (0..20).collect();
        let padded = MatRef::new(&data, 4, 3, 5, 1);
        assert_eq!(padded.get(3, 2), 17);
        assert_eq!(padded.transposed().get(2, 3), 17);
        let block = padded.sub(1..3, 2..3);
        assert_eq!(
            (block.rows(), block.cols(), block.get(0, 0), block.get(1, 0)),
            (2, 1, 7, 12)
        );
        assert_eq!(padded.contiguous_row(2), [10, 11, 12]);
    }

    #[test]
    fn the_last_row_needs_no_padding() {
        let data = [0; 8];
        MatRef::new(&data, 2, 3, 5, 1);
    }

    #[test]
    fn empty_views_need_no_data() {
        let empty = MatRef::<f64>::new(&[], 0, 7, 7, 1);
        assert_eq!(empty.sub(0..0, 3..7).cols(), 4);
        let data = [1.0; 6];
        assert_eq!(MatRef::row_major(&data, 2, 3).sub(2..2, 0..3).rows(), 0);
    }

    #[test]
    #[should_panic(expected = "does not fit 7 elements")]
    fn a_view_past_the_end_panics() {
        MatRef::new(&[0; 7], 2, 3, 5, 1);
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn an_overflowing_view_panics() {
        MatRef::new(&[0; 7], usize::MAX, 3, usize::MAX, 1);
    }

    #[test]
    #[should_panic(expected = "element (0, 3)")]
    fn an_element_outside_panics_even_where_storage_goes_on() {
        MatRef::new(&[0; 10], 2, 3, 5, 1).get(0, 3);
    }
}
