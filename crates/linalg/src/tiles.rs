//! The grid of output tiles. Tile i is computed from the grid, never listed.

use serde::{Deserialize, Serialize};
use std::ops::Range;
use tilework_core::ids::TaskIdx;

/// A rectangle of the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Its rows of C.
    pub rows: Range<u64>,
    /// Its columns of C.
    pub cols: Range<u64>,
}

impl Tile {
    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        (self.rows.end - self.rows.start) as usize
    }

    /// Number of columns.
    pub fn n_cols(&self) -> usize {
        (self.cols.end - self.cols.start) as usize
    }
}

/// An m x n output in strips of (almost) equal height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grid {
    /// Rows of C.
    pub m: u64,
    /// Columns of C.
    pub n: u64,
    /// Strips of rows.
    pub n_row_strips: u64,
    /// Strips of columns.
    pub n_col_strips: u64,
}

impl Grid {
    /// Number of tiles; 0 for an empty output.
    pub fn n_tiles(&self) -> u64 {
        self.n_row_strips * self.n_col_strips
    }

    /// Height of the tallest tile.
    pub fn tile_rows_max(&self) -> u64 {
        self.m
            .checked_div(self.n_row_strips)
            .map_or(0, |_| self.m.div_ceil(self.n_row_strips))
    }

    /// Width of the widest tile.
    pub fn tile_cols_max(&self) -> u64 {
        self.n
            .checked_div(self.n_col_strips)
            .map_or(0, |_| self.n.div_ceil(self.n_col_strips))
    }

    /// The tile of a task; larger ones come first, and neighbours share a strip of A in the page cache.
    ///
    /// # Panics
    /// If the grid has no such tile.
    pub fn tile(&self, task: TaskIdx) -> Tile {
        assert!(task.0 < self.n_tiles(), "task {task} of {}", self.n_tiles());
        Tile {
            rows: strip(self.m, self.n_row_strips, task.0 / self.n_col_strips),
            cols: strip(self.n, self.n_col_strips, task.0 % self.n_col_strips),
        }
    }

    /// The tasks whose tiles hold the given row of C.
    pub fn tasks_of_row(&self, row: u64) -> Range<u64> {
        let (base, n_longer) = (self.m / self.n_row_strips, self.m % self.n_row_strips);
        let in_longer = n_longer * (base + 1);
        let strip = if row < in_longer {
            row / (base + 1)
        } else {
            n_longer + (row - in_longer) / base
        };
        strip * self.n_col_strips..(strip + 1) * self.n_col_strips
    }
}

/// Strip `i` of `n_strips` over `0..len`; the first ones are longer by one where it does not come out even.
fn strip(len: u64, n_strips: u64, i: u64) -> Range<u64> {
    let (base, n_longer) = (len / n_strips, len % n_strips);
    let start = i * base + i.min(n_longer);
    start..start + base + u64::from(i < n_longer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tiles_cover_every_element_once(m in 1u64..40, n in 1u64..40, p in 1u64..10, q in 1u64..10) {
            let grid = Grid { m, n, n_row_strips: p.min(m), n_col_strips: q.min(n) };
            let mut covered = vec![0; (m * n) as usize];
            for task in 0..grid.n_tiles() {
                let tile = grid.tile(TaskIdx(task));
                prop_assert!(tile.n_rows() as u64 <= grid.tile_rows_max());
                prop_assert!(tile.n_cols() as u64 <= grid.tile_cols_max());
                for i in tile.rows.clone() {
                    prop_assert!(grid.tasks_of_row(i).contains(&task));
                    for j in tile.cols.clone() {
                        covered[(i * n + j) as usize] += 1;
                    }
                }
            }
            prop_assert!(covered.iter().all(|count| *count == 1));
        }
    }
}
