//! The other half of a symmetric C: what a tile has below the diagonal, mirrored to above it.
//!
//! An element and its image are equal bit for bit, as the kernel would compute them: the same products in the same order. NaNs are
//! canonical before they leave the tile.

use crate::multiply::output_failure;
use crate::operand::Number;
use crate::tiles::Tile;
use rayon::prelude::*;
use std::ops::Range;
use tilework_core::failure::Failure;
use tilework_store::npy::output::{NpyOutput, OutputError};

/// Bytes of the image that are transposed and written at a time: long runs in the file, and a share of the L2 cache.
pub const MIRROR_BYTES: usize = 1 << 20;

/// Rows that are completed before the next ones, so that those below are only read.
const BLOCK: usize = 64;

/// Elements that are transposed side by side: those of a cache line, so that each is read once.
const STRIPE: usize = 8;

/// Fills in what the tile has above the diagonal; only what lies below or on it is read.
pub fn complete<T: Number>(c: &mut [T], leading_dimension: usize, tile: &Tile) {
    // The square that the diagonal halves begins with the tile's rows and ends with its columns.
    let first_col = (tile.rows.start - tile.cols.start) as usize;
    let side = tile.n_cols().saturating_sub(first_col);
    for start in (0..side).step_by(BLOCK) {
        let end = side.min(start + BLOCK);
        let (above, below) = c.split_at_mut(end * leading_dimension);
        let block = &mut above[start * leading_dimension..];
        for i in 0..end - start {
            for j in i + 1..end - start {
                block[i * leading_dimension + first_col + start + j] =
                    block[j * leading_dimension + first_col + start + i];
            }
        }
        let below = &below[..(side - end) * leading_dimension];
        block
            .par_chunks_mut(STRIPE * leading_dimension)
            .enumerate()
            .for_each(|(i, stripe)| {
                let source_col = first_col + start + i * STRIPE;
                for (row, source) in below.chunks_exact(leading_dimension).enumerate() {
                    let image_col = first_col + end + row;
                    for (image, element) in stripe
                        .chunks_exact_mut(leading_dimension)
                        .zip(&source[source_col..])
                    {
                        image[image_col] = *element;
                    }
                }
            });
    }
}

/// Writes the images of a completed tile's elements that lie outside of it.
pub fn write<T: Number>(
    output: &NpyOutput,
    tile: &Tile,
    c: &[T],
    leading_dimension: usize,
) -> Result<(), OutputError> {
    let mut buffer = vec![T::ZERO; MIRROR_BYTES / size_of::<T>()];
    for part in parts(tile) {
        // As long as they come, but not so long that the cache lines that are read serve for a few elements only.
        let n_cols = (buffer.len() / part.n_rows().max(1)).max(2 * STRIPE);
        for block in blocks(&part, n_cols, buffer.len() / n_cols) {
            let (n_rows, n_cols) = (block.n_rows(), block.n_cols());
            let (row, col) = (
                block.rows.start - tile.rows.start,
                block.cols.start - tile.cols.start,
            );
            let image = &mut buffer[..n_rows * n_cols];
            transpose(
                &c[row as usize * leading_dimension + col as usize..],
                leading_dimension,
                n_rows,
                image,
            );
            output.write_rows(block.cols.start, block.rows, image, n_rows, n_cols)?;
        }
    }
    Ok(())
}

/// Whether the images outside of the tile are, in the file, what the tile's own elements are.
pub fn is_exact<T: Number>(output: &NpyOutput, tile: &Tile, buffer: &mut [T]) -> Result<bool, Failure> {
    let (elements, images) = buffer.split_at_mut(buffer.len() / 2);
    let side = elements.len().isqrt();
    for part in parts(tile) {
        for block in blocks(&part, side, side) {
            let (n_rows, n_cols) = (block.n_rows(), block.n_cols());
            let (elements, images) = (&mut elements[..n_rows * n_cols], &mut images[..n_rows * n_cols]);
            output
                .read_rows(block.rows.start, block.cols.clone(), elements, n_cols, n_rows)
                .and_then(|()| output.read_rows(block.cols.start, block.rows, images, n_rows, n_cols))
                .map_err(output_failure)?;
            let is_image = |(at, element): (usize, &T)| {
                let image = &images[at % n_cols * n_rows + at / n_cols];
                bytemuck::bytes_of(element) == bytemuck::bytes_of(image)
            };
            if !elements.iter().enumerate().all(is_image) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// What the tile has whose image is not in it: left of the square that the diagonal halves, and below that square.
fn parts(tile: &Tile) -> [Tile; 2] {
    let square = tile.rows.start.min(tile.cols.end)..tile.cols.end;
    [
        Tile {
            rows: tile.rows.clone(),
            cols: tile.cols.start..square.start,
        },
        Tile {
            rows: tile.rows.start.max(square.end)..tile.rows.end,
            cols: square,
        },
    ]
}

/// Cuts a part into blocks of at most so many columns and rows.
fn blocks(part: &Tile, n_cols: usize, n_rows: usize) -> impl Iterator<Item = Tile> {
    let cut = |range: &Range<u64>, len: usize| {
        let end = range.end;
        range
            .clone()
            .step_by(len.max(1))
            .map(move |start| start..end.min(start + len as u64))
    };
    let rows = cut(&part.rows, n_rows);
    cut(&part.cols, n_cols).flat_map(move |cols| {
        rows.clone().map(move |rows| Tile {
            rows,
            cols: cols.clone(),
        })
    })
}

/// `image[j * n_rows + i] = c[i * leading_dimension + j]`.
fn transpose<T: Number>(c: &[T], leading_dimension: usize, n_rows: usize, image: &mut [T]) {
    for (i, stripe) in image.chunks_mut(STRIPE * n_rows).enumerate() {
        for row in 0..n_rows {
            let source = &c[row * leading_dimension + i * STRIPE..];
            for (image, element) in stripe.chunks_exact_mut(n_rows).zip(source) {
                image[row] = *element;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;
    use tilework_core::ids::TaskIdx;
    use tilework_store::element_type::Dtype;
    use tilework_store::fake_disk::FakeDisk;

    use crate::tiles::Grid;

    /// Of the element and of its image.
    fn value(row: u64, col: u64) -> f64 {
        (row.max(col) * 1000 + row.min(col)) as f64
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn lower_triangles_become_a_whole_matrix(n in 1u64..200, p in 1u64..9, q in 1u64..9, len in 2usize..3000) {
            let grid = Grid { m: n, n, n_row_strips: p.min(n), n_col_strips: q.min(n), symmetric: true };
            let disk = FakeDisk::new(1);
            let output = NpyOutput::create(&disk, Path::new("/C"), n, n, Dtype::F64).unwrap();
            for task in (0..grid.n_tiles()).map(TaskIdx) {
                let tile = grid.tile(task);
                let ld = tile.n_cols() + 3;
                let mut c = vec![f64::NAN; tile.n_rows() * ld];
                for row in tile.rows.clone() {
                    for col in tile.cols.clone().filter(|col| *col <= row) {
                        let at = (row - tile.rows.start) as usize * ld + (col - tile.cols.start) as usize;
                        c[at] = value(row, col);
                    }
                }
                complete(&mut c, ld, &tile);
                output.write_rows(tile.rows.start, tile.cols.clone(), &c, ld, tile.n_rows()).unwrap();
                write(&output, &tile, &c, ld).unwrap();
            }
            prop_assert_eq!(output.bytes_written(), n * n * 8);
            let mut whole = vec![0.0; (n * n) as usize];
            output.read_rows(0, 0..n, &mut whole, n as usize, n as usize).unwrap();
            for (at, found) in (0..).zip(whole) {
                prop_assert_eq!(found, value(at / n, at % n));
            }
            let mut buffer = vec![0.0; len];
            for task in (0..grid.n_tiles()).map(TaskIdx) {
                prop_assert!(is_exact(&output, &grid.tile(task), &mut buffer).unwrap());
            }
        }

        #[test]
        fn any_other_element_above_the_diagonal_is_seen(n in 2u64..60, p in 1u64..5, q in 1u64..5, at in 0u64..3600) {
            let grid = Grid { m: n, n, n_row_strips: p.min(n), n_col_strips: q.min(n), symmetric: true };
            let (row, col) = (at % n, at / n % n);
            let disk = FakeDisk::new(1);
            let output = NpyOutput::create(&disk, Path::new("/C"), n, n, Dtype::F64).unwrap();
            output.write_rows(row, col..col + 1, &[-0.0], 1, 1).unwrap();
            let holds = |tile: &Tile, row, col| tile.rows.contains(&row) && tile.cols.contains(&col);
            for task in (0..grid.n_tiles()).map(TaskIdx) {
                let tile = grid.tile(task);
                // Only where one of the two is outside of the tile: inside, the checksum sees it.
                let differs = holds(&tile, row, col) != holds(&tile, col, row);
                prop_assert_eq!(is_exact(&output, &tile, &mut [0.0; 64]).unwrap(), !differs);
            }
        }
    }
}
