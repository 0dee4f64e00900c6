//! A second look at rows that passed their check but stand out: computed once more, plainly, they must have the same bits.
//!
//! The check's bound is for the largest errors that rounding could make in all elements of a row together, so that it refuses no right
//! row; a wrong one whose error is smaller passes it. Here nothing right is refused either, because the bits of a classical product are
//! defined. What it costs is a few rows of one tile, and only where rows stand out: where something is wrong, or the
//! magnitudes of a row's elements are far apart.

use crate::layout::CERTIFY_LEN;
use crate::operand::Number;
use crate::pipeline::TileRequest;
use crate::recompute::plain_rows;
use crate::tiles::Tile;
use tilework_core::failure::Failure;
use tilework_runtime::TaskContext;

/// The first of some rows of a tile by the classical algorithm, counted within it, that is not what it should be.
pub(crate) fn wrong_row<T: Number>(
    request: &TileRequest<'_>,
    tile: &Tile,
    suspects: &[usize],
    c: &[T],
    leading_dimension: usize,
    context: &TaskContext<'_>,
) -> Result<Option<usize>, Failure> {
    if suspects.is_empty() {
        return Ok(None);
    }
    context.check_cancelled()?;
    let (a, b, formula) = (request.a, request.b, request.formula);
    let rows: Vec<u64> = suspects.iter().map(|row| tile.rows.start + *row as u64).collect();
    let mut buffer = vec![T::ZERO; CERTIFY_LEN];
    let plain = plain_rows(a, b, formula, &rows, tile.cols.clone(), &mut buffer)?;
    let n_cols = tile.n_cols();
    let wrong = suspects
        .iter()
        .zip(plain.values.chunks(n_cols))
        .find(|(row, plain)| {
            let computed = &c[**row * leading_dimension..][..n_cols];
            bytemuck::cast_slice::<T, u8>(computed) != bytemuck::cast_slice::<T, u8>(plain)
        });
    Ok(wrong.map(|(row, _)| *row))
}
