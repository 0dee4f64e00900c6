//! The grid of output tiles. Tile i is computed from the grid, never listed.

use serde::{Deserialize, Serialize};
use std::ops::Range;
use tilework_core::ids::TaskIdx;

/// Strips begin at multiples of this many rows, ...
const ROWS_UNIT: u64 = 32;
/// ... or columns, so that micro-tiles of every shape come out even. Where there are more strips than units, at any row or column.
const COLS_UNIT: u64 = 48;

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
        self.rows().len_max()
    }

    /// Width of the widest tile.
    pub fn tile_cols_max(&self) -> u64 {
        self.cols().len_max()
    }

    fn rows(&self) -> Strips {
        Strips::new(self.m, self.n_row_strips, ROWS_UNIT)
    }

    fn cols(&self) -> Strips {
        Strips::new(self.n, self.n_col_strips, COLS_UNIT)
    }

    /// The tile of a task; larger ones come first, and neighbours share their columns, so that a worker can keep them packed.
    ///
    /// # Panics
    /// If the grid has no such tile.
    pub fn tile(&self, task: TaskIdx) -> Tile {
        assert!(task.0 < self.n_tiles(), "task {task} of {}", self.n_tiles());
        Tile {
            rows: self.rows().strip(task.0 % self.n_row_strips),
            cols: self.cols().strip(task.0 / self.n_row_strips),
        }
    }

    /// The tasks whose tiles hold the given row of C.
    pub fn tasks_of_row(&self, row: u64) -> impl Iterator<Item = TaskIdx> + use<> {
        let row_strip = self.rows().strip_of(row);
        let n_row_strips = self.n_row_strips;
        (0..self.n_col_strips).map(move |col_strip| TaskIdx(col_strip * n_row_strips + row_strip))
    }
}

/// `0..len` in strips of whole units; the first ones are longer by one unit where it does not come out even, and the last one
/// has what is less than a unit.
struct Strips {
    len: u64,
    unit: u64,
    n_strips: u64,
}

impl Strips {
    fn new(len: u64, n_strips: u64, unit: u64) -> Strips {
        let unit = if len / unit >= n_strips { unit } else { 1 };
        Strips { len, unit, n_strips }
    }

    /// Units of the shorter strips, and how many strips are longer by one.
    fn units(&self) -> (u64, u64) {
        let n_units = self.len / self.unit;
        (n_units / self.n_strips, n_units % self.n_strips)
    }

    fn strip(&self, i: u64) -> Range<u64> {
        let (base, n_longer) = self.units();
        let start = i * base + i.min(n_longer);
        let end = if i + 1 == self.n_strips {
            self.len
        } else {
            (start + base + u64::from(i < n_longer)) * self.unit
        };
        start * self.unit..end
    }

    fn strip_of(&self, at: u64) -> u64 {
        let (base, n_longer) = self.units();
        let unit_idx = at / self.unit;
        let in_longer = n_longer * (base + 1);
        let strip = if unit_idx < in_longer {
            unit_idx / (base + 1)
        } else {
            n_longer + (unit_idx - in_longer) / base
        };
        strip.min(self.n_strips - 1)
    }

    fn len_max(&self) -> u64 {
        if self.n_strips == 0 {
            return 0;
        }
        let length = |i| {
            let strip = self.strip(i);
            strip.end - strip.start
        };
        length(0).max(length(self.n_strips - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tiles_cover_every_element_once(m in 1u64..200, n in 1u64..300, p in 1u64..10, q in 1u64..10) {
            let grid = Grid { m, n, n_row_strips: p.min(m), n_col_strips: q.min(n) };
            let mut covered = vec![0; (m * n) as usize];
            for task in 0..grid.n_tiles() {
                let tile = grid.tile(TaskIdx(task));
                prop_assert!(tile.n_rows() as u64 <= grid.tile_rows_max());
                prop_assert!(tile.n_cols() as u64 <= grid.tile_cols_max());
                for i in tile.rows.clone() {
                    prop_assert!(grid.tasks_of_row(i).any(|of_row| of_row == TaskIdx(task)));
                    for j in tile.cols.clone() {
                        covered[(i * n + j) as usize] += 1;
                    }
                }
            }
            prop_assert!(covered.iter().all(|count| *count == 1));
        }
    }
}
