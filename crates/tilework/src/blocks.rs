//! Going through a matrix block by block, in memory that does not grow with it.

use std::ops::Range;
use tilework_store::matrix::{MatrixInfo, StorageOrder};

/// Elements of a block at most, when a matrix is only read: 8 MiB as `f64`.
pub const READ_LEN_MAX: usize = 1 << 20;

/// A matrix cut into equal rectangles, smaller at the lower and right edge, numbered row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    rows: u64,
    cols: u64,
    block_rows: u64,
    block_cols: u64,
}

/// One rectangle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its rows.
    pub rows: Range<u64>,
    /// Its columns.
    pub cols: Range<u64>,
}

impl Block {
    /// Number of elements.
    pub fn len(&self) -> usize {
        ((self.rows.end - self.rows.start) * (self.cols.end - self.cols.start)) as usize
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Blocks {
    /// Whole adjacent rows, or pieces of one row where a row is longer than `len_max` elements.
    pub fn of_rows(rows: u64, cols: u64, len_max: usize) -> Blocks {
        let len_max = len_max as u64;
        let block_cols = cols.clamp(1, len_max);
        Blocks {
            rows,
            cols,
            block_rows: len_max / block_cols,
            block_cols,
        }
    }

    /// What is contiguous in a file of this order.
    pub fn in_file_order(info: &MatrixInfo, len_max: usize) -> Blocks {
        match info.order {
            StorageOrder::RowMajor => Blocks::of_rows(info.rows, info.cols, len_max),
            StorageOrder::ColumnMajor => {
                let Blocks {
                    block_rows,
                    block_cols,
                    ..
                } = Blocks::of_rows(info.cols, info.rows, len_max);
                Blocks {
                    rows: info.rows,
                    cols: info.cols,
                    block_rows: block_cols,
                    block_cols: block_rows,
                }
            }
        }
    }

    /// What suits both matrices, of the same shape: contiguous in both, or square where their orders differ.
    pub fn for_both(one: &MatrixInfo, two: &MatrixInfo, len_max: usize) -> Blocks {
        if one.order == two.order {
            return Blocks::in_file_order(one, len_max);
        }
        let side = (len_max as f64).sqrt() as u64;
        Blocks {
            rows: one.rows,
            cols: one.cols,
            block_rows: side,
            block_cols: side,
        }
    }

    /// How many there are.
    pub fn n_blocks(&self) -> u64 {
        self.rows.div_ceil(self.block_rows) * self.n_across()
    }

    fn n_across(&self) -> u64 {
        self.cols.div_ceil(self.block_cols)
    }

    /// Elements of the largest.
    pub fn len_max(&self) -> usize {
        (self.block_rows.min(self.rows) * self.block_cols.min(self.cols)) as usize
    }

    /// Block number `block_idx`.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn block(&self, block_idx: u64) -> Block {
        assert!(
            block_idx < self.n_blocks(),
            "block {block_idx} of {}",
            self.n_blocks()
        );
        let row = block_idx / self.n_across() * self.block_rows;
        let col = block_idx % self.n_across() * self.block_cols;
        Block {
            rows: row..self.rows.min(row + self.block_rows),
            cols: col..self.cols.min(col + self.block_cols),
        }
    }

    /// All of them in turn.
    pub fn iter(&self) -> impl Iterator<Item = Block> + use<> {
        let blocks = *self;
        (0..blocks.n_blocks()).map(move |block_idx| blocks.block(block_idx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_cover_every_element_once(rows in 0_u64..30, cols in 0_u64..30, len_max in 1_usize..200) {
            let blocks = Blocks::of_rows(rows, cols, len_max);
            let mut covered = vec![0; (rows * cols) as usize];
            for block in blocks.iter() {
                prop_assert!(!block.is_empty() && block.len() <= len_max.min(blocks.len_max()));
                for row in block.rows.clone() {
                    block.cols.clone().for_each(|col| covered[(row * cols + col) as usize] += 1);
                }
            }
            prop_assert!(covered.iter().all(|n| *n == 1));
        }
    }

    #[test]
    fn a_long_row_is_cut_and_short_ones_are_bundled() {
        assert_eq!(Blocks::of_rows(2, 10, 4).n_blocks(), 6);
        assert_eq!(
            Blocks::of_rows(10, 2, 4).block(4),
            Block {
                rows: 8..10,
                cols: 0..2
            }
        );
        assert_eq!(Blocks::of_rows(0, 5, 4).n_blocks(), 0);
        assert_eq!(Blocks::of_rows(5, 0, 4).n_blocks(), 0);
    }
}
