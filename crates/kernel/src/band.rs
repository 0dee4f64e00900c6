//! The loops around the micro-kernel, named as in the BLIS paper (Van Zee and van de Geijn, ACM TOMS 41(3), 2015, figure 2).
//!
//! `B` is packed by the caller, so the outermost loop (jc) is the caller's too. What stays: depth blocks (pc), row blocks (ic)
//! with their packed `A`, panels of `B` (jr), panels of `A` (ir). A packed row block stays in the L2 cache over jr, a panel of
//! `B` in the nearest cache over ir (Goto and van de Geijn, ACM TOMS 34(3), 2008).

use crate::micro::{MAX_TILE_LEN, MicroKernel, Store};
use crate::pack::pack_panels;
use crate::{Element, MatMut, MatRef};

/// Most rows packed at a time: 192 x KC `f64` are 768 KiB, and more did not help where the L2 cache has 2 MiB.
const ROW_BLOCK_MAX: usize = 192;

/// What packed row blocks come in multiples of: every `mr`, so that only the last has a ragged end.
const ROW_BLOCK_STEP: usize = 8;

/// Rows of `A` packed at a time (the paper's mc): three eighths of this processor's L2 cache, where panels of `B` and `C` pass
/// too. No part of the numerics: rows do not touch each other.
pub(crate) fn row_block<T: Element>() -> usize {
    let l2_bytes = l2_bytes().unwrap_or(usize::MAX);
    let rows = l2_bytes / 8 * 3 / (T::KC * size_of::<T>());
    (rows / ROW_BLOCK_STEP * ROW_BLOCK_STEP).clamp(ROW_BLOCK_STEP, ROW_BLOCK_MAX)
}

#[cfg(target_arch = "x86_64")]
fn l2_bytes() -> Option<usize> {
    raw_cpuid::CpuId::new()
        .get_cache_parameters()?
        .find(|cache| cache.level() == 2)
        .map(|cache| {
            cache.associativity()
                * cache.physical_line_partitions()
                * cache.coherency_line_size()
                * cache.sets()
        })
}

#[cfg(not(target_arch = "x86_64"))]
fn l2_bytes() -> Option<usize> {
    None
}

/// The operands of one band.
pub(crate) struct Band<'a, T> {
    pub(crate) micro: &'a MicroKernel<T>,
    pub(crate) row_block: usize,
    pub(crate) a: MatRef<'a, T>,
    pub(crate) packed_b: &'a [T],
    pub(crate) c: MatMut<'a, T>,
}

/// Elements of a packed row block of a band of `rows x depth`.
pub(crate) fn packed_a_len<T: Element>(
    micro: &MicroKernel<T>,
    row_block: usize,
    rows: usize,
    depth: usize,
) -> usize {
    rows.min(row_block).next_multiple_of(micro.mr()) * depth.min(T::KC)
}

impl<T: Element> Band<'_, T> {
    /// Runs the band; the caller has checked the lengths.
    pub(crate) fn multiply(mut self, accumulate: bool, scratch: &mut [T]) {
        if self.a.cols() == 0 && !accumulate {
            (0..self.c.rows()).for_each(|i| self.c.row(i).fill(T::ZERO));
        }
        for pc in (0..self.a.cols()).step_by(T::KC) {
            let store = if pc == 0 && !accumulate {
                Store::Overwrite
            } else {
                Store::Add
            };
            self.depth_block(pc, store, scratch);
        }
    }

    /// One depth block over all rows of the band: the ic loop.
    fn depth_block(&mut self, pc: usize, store: Store, scratch: &mut [T]) {
        let cols = self.c.cols();
        let depth = T::KC.min(self.a.cols() - pc);
        let cols_padded = cols.next_multiple_of(self.micro.nr());
        let packed_b = &self.packed_b[pc * cols_padded..][..depth * cols_padded];
        for ic in (0..self.a.rows()).step_by(self.row_block) {
            let rows = self.row_block.min(self.a.rows() - ic);
            let packed_a = &mut scratch[..packed_a_len(self.micro, self.row_block, rows, depth)];
            pack_panels(
                self.micro,
                self.a.sub(ic..ic + rows, pc..pc + depth),
                self.micro.mr(),
                packed_a,
            );
            let c = self.c.block(ic, 0, rows, cols);
            multiply_row_block(self.micro, depth, packed_a, packed_b, [(c, store)]);
        }
    }
}

/// One packed row block times one packed depth block: the jr and ir loops (the paper's macro-kernel).
///
/// The product goes to every target; one that has fewer rows or columns takes the part that it has.
pub(crate) fn multiply_row_block<T: Element, const N: usize>(
    micro: &MicroKernel<T>,
    depth: usize,
    packed_a: &[T],
    packed_b: &[T],
    mut targets: [(MatMut<'_, T>, Store); N],
) {
    let (mr, nr) = (micro.mr(), micro.nr());
    let n_tiles = packed_a.len() / (depth * mr);
    for (jr, b_panel) in packed_b.chunks_exact(depth * nr).enumerate() {
        let next_panel = b_panel.as_ptr_range().end;
        for (ir, a_panel) in packed_a.chunks_exact(depth * mr).enumerate() {
            // The next panel of `B` comes from far away, a share of it during each tile of this one.
            let ahead = next_panel.wrapping_add(b_panel.len() / n_tiles * ir);
            let tiles = targets
                .each_mut()
                .map(|(c, store)| (tile_of(c, ir * mr, jr * nr, mr, nr), *store));
            let cols = tiles[0].0.cols();
            let fits = cols == nr || (cols > 0 && cols.is_multiple_of(micro.col_step()));
            let is_whole = |tile: &MatMut<'_, T>| tile.rows() == mr && tile.cols() == cols;
            if fits && tiles.iter().all(|(tile, _)| is_whole(tile)) {
                micro.run(a_panel, b_panel, tiles, ahead);
            } else {
                edge_tile(micro, a_panel, b_panel, tiles);
            }
        }
    }
}

/// What `c` has of the tile at `(row, col)`.
#[inline]
fn tile_of<'a, T>(c: &'a mut MatMut<'_, T>, row: usize, col: usize, mr: usize, nr: usize) -> MatMut<'a, T> {
    let (row, col) = (row.min(c.rows()), col.min(c.cols()));
    let (rows, cols) = (mr.min(c.rows() - row), nr.min(c.cols() - col));
    c.block(row, col, rows, cols)
}

/// A tile that reaches past the last row or column: computed in a temporary, from which only the part inside is taken.
fn edge_tile<T: Element, const N: usize>(
    micro: &MicroKernel<T>,
    a_panel: &[T],
    b_panel: &[T],
    targets: [(MatMut<'_, T>, Store); N],
) {
    let cols = targets.iter().map(|(c, _)| c.cols()).max().unwrap_or(0);
    if cols == 0 {
        return;
    }
    let (mr, cols) = (micro.mr(), cols.next_multiple_of(micro.col_step()));
    let mut tile = [T::ZERO; MAX_TILE_LEN];
    let whole = MatMut::new(&mut tile, mr, cols, cols);
    micro.run(a_panel, b_panel, [(whole, Store::Overwrite)], b_panel.as_ptr());
    for (mut c, store) in targets {
        for (i, tile_row) in tile.chunks_exact(cols).enumerate().take(c.rows()) {
            for (element, &acc) in c.row(i).iter_mut().zip(tile_row) {
                *element = store.apply(*element, acc);
            }
        }
    }
}
