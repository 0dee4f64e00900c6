//! The grid of output tiles. Tile i is computed from the grid, never listed.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::ops::Range;
use tilework_core::ids::TaskIdx;
use tilework_core::limits::TASKS_MAX;

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

    /// Columns up to the diagonal's element in the last of the tile's first `n_rows` rows.
    pub fn n_cols_to_diagonal(&self, n_rows: usize) -> usize {
        let diagonal_end = self.rows.start + n_rows as u64;
        (diagonal_end.min(self.cols.end).max(self.cols.start) - self.cols.start) as usize
    }
}

/// An m x n output in strips of (almost) equal height and width.
///
/// Of a symmetric output only tiles that reach the diagonal or lie below it have tasks, and each stands for its mirror image too.
/// Such a tile is the smallest rectangle around its part of the lower triangle: it begins no higher than its columns do, and ends
/// no further right than its rows do. So what it has above the diagonal mirrors what it has below.
///
/// What is read from elsewhere is refused if it cuts no matrix that way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredGrid")]
pub struct Grid {
    /// Rows of C.
    pub m: u64,
    /// Columns of C.
    pub n: u64,
    /// Strips of rows.
    pub n_row_strips: u64,
    /// Strips of columns.
    pub n_col_strips: u64,
    /// Whether C is symmetric.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub symmetric: bool,
}

/// The same as it is read.
#[derive(Deserialize)]
struct StoredGrid {
    m: u64,
    n: u64,
    n_row_strips: u64,
    n_col_strips: u64,
    #[serde(default)]
    symmetric: bool,
}

/// A grid by which no matrix is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{m} x {n} elements can't be cut into {n_row_strips} x {n_col_strips} tiles")]
pub struct NotAGrid {
    m: u64,
    n: u64,
    n_row_strips: u64,
    n_col_strips: u64,
}

impl TryFrom<StoredGrid> for Grid {
    type Error = NotAGrid;

    fn try_from(stored: StoredGrid) -> Result<Grid, NotAGrid> {
        let StoredGrid {
            m,
            n,
            n_row_strips,
            n_col_strips,
            symmetric,
        } = stored;
        let is_empty = m == 0 || n == 0;
        // Every strip has an element; an empty output has no strips.
        let fits = |n_strips: u64, len: u64| {
            if is_empty {
                n_strips == 0
            } else {
                (1..=len).contains(&n_strips)
            }
        };
        // Of a symmetric output at least half of the tiles have tasks.
        let tiles_max = if symmetric { 2 * TASKS_MAX } else { TASKS_MAX };
        let is_countable = n_row_strips
            .checked_mul(n_col_strips)
            .is_some_and(|n_tiles| n_tiles <= tiles_max);
        let is_storable = m
            .checked_mul(n)
            .is_some_and(|n_elements| n_elements <= i64::MAX as u64);
        let is_grid = fits(n_row_strips, m)
            && fits(n_col_strips, n)
            && is_countable
            && is_storable
            && (!symmetric || m == n);
        let grid = Grid {
            m,
            n,
            n_row_strips,
            n_col_strips,
            symmetric,
        };
        if is_grid && grid.n_tiles() <= TASKS_MAX {
            return Ok(grid);
        }
        Err(NotAGrid {
            m,
            n,
            n_row_strips,
            n_col_strips,
        })
    }
}

impl Grid {
    /// Number of tiles; 0 for an empty output.
    pub fn n_tiles(&self) -> u64 {
        if !self.symmetric || self.n_row_strips * self.n_col_strips == 0 {
            return self.n_row_strips * self.n_col_strips;
        }
        let (rows, cols) = (self.rows(), self.cols());
        if self.n_col_strips <= self.n_row_strips {
            (0..self.n_col_strips)
                .map(|col_strip| self.n_tiles_of_col_strip(col_strip))
                .sum()
        } else {
            let last_row = |row_strip| rows.strip(row_strip).end - 1;
            (0..self.n_row_strips)
                .map(|row_strip| cols.strip_of(last_row(row_strip)) + 1)
                .sum()
        }
    }

    /// Tiles in a strip of columns: all, or those from the diagonal down.
    fn n_tiles_of_col_strip(&self, col_strip: u64) -> u64 {
        if self.symmetric {
            self.n_row_strips - self.rows().strip_of(self.cols().strip(col_strip).start)
        } else {
            self.n_row_strips
        }
    }

    /// Heights of all tiles together: how often a row of op(A) is needed, summed over the rows.
    pub fn sum_of_tile_rows(&self) -> u64 {
        if self.symmetric {
            self.n_col_strips * self.m - self.cols().sum_of_starts()
        } else {
            self.n_col_strips * self.m
        }
    }

    /// Widths of all tiles together: how often a column of op(B) is needed, summed over the columns.
    pub fn sum_of_tile_cols(&self) -> u64 {
        if self.symmetric {
            // The tiles of a strip of rows reach from the first column to its last row.
            self.rows().sum_of_starts() + self.m
        } else {
            self.n_row_strips * self.n
        }
    }

    /// Widths, in ascending order, of the tiles that begin where `tile` does and are no wider.
    pub fn widths_up_to(&self, tile: &Tile) -> Vec<usize> {
        let mut widths = Vec::new();
        if self.symmetric {
            let rows = self.rows();
            let ends = (rows.strip_of(tile.cols.start)..self.n_row_strips).map(|strip| rows.strip(strip).end);
            let narrower = ends.take_while(|end| *end < tile.cols.end);
            widths.extend(narrower.map(|end| (end - tile.cols.start) as usize));
        }
        widths.push(tile.n_cols());
        widths
    }

    /// At least as many as [`widths_up_to`](Self::widths_up_to) ever gives.
    pub fn n_widths_max(&self) -> u64 {
        if !self.symmetric || self.n_row_strips == 0 {
            return 1;
        }
        let crossing = self.tile_cols_max().div_ceil(self.rows().len_min());
        (crossing + 1).min(self.n_row_strips)
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
        if self.symmetric {
            return self.tile_of_triangle(task);
        }
        Tile {
            rows: self.rows().strip(task.0 % self.n_row_strips),
            cols: self.cols().strip(task.0 / self.n_row_strips),
        }
    }

    /// From the bottom up: whoever packs columns for the lowest tile has them for all tiles of these columns.
    fn tile_of_triangle(&self, task: TaskIdx) -> Tile {
        let (mut nth, mut col_strip) = (task.0, 0);
        while nth >= self.n_tiles_of_col_strip(col_strip) {
            nth -= self.n_tiles_of_col_strip(col_strip);
            col_strip += 1;
        }
        let cols = self.cols().strip(col_strip);
        let rows = self.rows().strip(self.n_row_strips - 1 - nth);
        Tile {
            rows: rows.start.max(cols.start)..rows.end,
            cols: cols.start..cols.end.min(rows.end),
        }
    }

    /// The tasks that write elements of the given row of C.
    pub fn tasks_of_row(&self, row: u64) -> impl Iterator<Item = TaskIdx> + use<> {
        let grid = *self;
        let row_strip = self.rows().strip_of(row);
        let diagonal_strip = if self.symmetric {
            self.cols().strip_of(row)
        } else {
            0
        };
        let mut before = 0;
        (0..self.n_col_strips).flat_map(move |col_strip| {
            let (first, n_tiles) = (before, grid.n_tiles_of_col_strip(col_strip));
            before += n_tiles;
            let row_strips = match (grid.symmetric, col_strip.cmp(&diagonal_strip)) {
                (false, _) | (true, Ordering::Less) => row_strip..row_strip + 1,
                // Below the diagonal are the mirror images of what the row has right of it.
                (true, Ordering::Equal) => row_strip..grid.n_row_strips,
                (true, Ordering::Greater) => 0..0,
            };
            row_strips.map(move |row_strip| {
                let nth = if grid.symmetric {
                    grid.n_row_strips - 1 - row_strip
                } else {
                    row_strip
                };
                TaskIdx(first + nth)
            })
        })
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

    /// Starts of all strips together.
    fn sum_of_starts(&self) -> u64 {
        if self.n_strips == 0 {
            return 0;
        }
        let (base, n_longer) = self.units();
        let n_strips = self.n_strips;
        let longer_before = n_longer * n_longer.saturating_sub(1) / 2 + (n_strips - n_longer) * n_longer;
        self.unit * (base * (n_strips * (n_strips - 1) / 2) + longer_before)
    }

    /// No strip is shorter.
    fn len_min(&self) -> u64 {
        self.units().0 * self.unit
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

    /// A journal named tiles by which no output is cut; whoever read it divided by zero, or counted to 2^64.
    #[test]
    fn a_grid_that_cuts_no_matrix_is_refused_where_it_is_read() {
        let read = |m: u64, n: u64, p: u64, q: u64, symmetric: bool| {
            let stored = StoredGrid {
                m,
                n,
                n_row_strips: p,
                n_col_strips: q,
                symmetric,
            };
            Grid::try_from(stored)
        };
        assert!(read(64, 96, 2, 3, false).is_ok() && read(64, 64, 64, 1, true).is_ok());
        assert!(read(0, 5, 0, 0, false).is_ok() && read(1 << 40, 1 << 22, 1000, 3000, false).is_ok());
        for (m, n, p, q, symmetric) in [
            (64, 96, 0, 3, false),
            (64, 96, 65, 3, false),
            (0, 5, 0, 1, false),
            (64, 96, 2, 3, true),
            (1 << 40, 1, 1 << 40, 1, false),
            (1 << 32, 1 << 31, 1, 1, false),
            (1 << 63, 1 << 63, 1 << 40, 1 << 40, false),
        ] {
            let error = read(m, n, p, q, symmetric).unwrap_err();
            assert!(
                error.to_string().contains(&format!("{m} x {n} elements")),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn tiles_cover_every_element_once(m in 1u64..200, n in 1u64..300, p in 1u64..10, q in 1u64..10) {
            let grid = Grid { m, n, n_row_strips: p.min(m), n_col_strips: q.min(n), symmetric: false };
            let mut covered = vec![0; (m * n) as usize];
            for task in 0..grid.n_tiles() {
                let tile = grid.tile(TaskIdx(task));
                prop_assert!(tile.n_rows() as u64 <= grid.tile_rows_max());
                prop_assert!(tile.n_cols() as u64 <= grid.tile_cols_max());
                prop_assert_eq!(grid.widths_up_to(&tile), [tile.n_cols()]);
                for i in tile.rows.clone() {
                    prop_assert!(grid.tasks_of_row(i).any(|of_row| of_row == TaskIdx(task)));
                    for j in tile.cols.clone() {
                        covered[(i * n + j) as usize] += 1;
                    }
                }
            }
            prop_assert!(covered.iter().all(|count| *count == 1));
        }

        #[test]
        fn tiles_of_a_symmetric_output_and_their_mirror_images_cover_every_element_once(
            n in 1u64..300, p in 1u64..12, q in 1u64..12,
        ) {
            let grid = Grid { m: n, n, n_row_strips: p.min(n), n_col_strips: q.min(n), symmetric: true };
            let mut writers = vec![Vec::new(); (n * n) as usize];
            let (mut sum_of_rows, mut sum_of_cols) = (0, 0);
            for task in (0..grid.n_tiles()).map(TaskIdx) {
                let tile = grid.tile(task);
                prop_assert!(tile.n_rows() as u64 <= grid.tile_rows_max());
                prop_assert!(tile.n_cols() as u64 <= grid.tile_cols_max());
                prop_assert!(tile.rows.start >= tile.cols.start && tile.rows.end >= tile.cols.end);
                sum_of_rows += tile.n_rows() as u64;
                sum_of_cols += tile.n_cols() as u64;
                let widths = grid.widths_up_to(&tile);
                prop_assert!(widths.is_sorted() && widths.last() == Some(&tile.n_cols()));
                prop_assert!(widths.len() as u64 <= grid.n_widths_max());
                let mut narrower = (0..grid.n_tiles()).map(|other| grid.tile(TaskIdx(other)));
                prop_assert!(narrower.all(|other| other.cols.start != tile.cols.start
                    || other.n_cols() > tile.n_cols()
                    || widths.contains(&other.n_cols())));
                for i in tile.rows.clone() {
                    for j in tile.cols.clone().filter(|j| *j <= i) {
                        writers[(i * n + j) as usize].push(task);
                        if i != j {
                            writers[(j * n + i) as usize].push(task);
                        }
                    }
                }
            }
            prop_assert!(writers.iter().all(|writers| writers.len() == 1));
            prop_assert_eq!((sum_of_rows, sum_of_cols), (grid.sum_of_tile_rows(), grid.sum_of_tile_cols()));
            for row in 0..n {
                let mut expected: Vec<TaskIdx> = writers[(row * n) as usize..][..n as usize].concat();
                expected.sort();
                expected.dedup();
                let mut tasks: Vec<TaskIdx> = grid.tasks_of_row(row).collect();
                tasks.sort();
                prop_assert_eq!(tasks, expected);
            }
        }
    }
}
