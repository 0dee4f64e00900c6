//! The loops around the micro-kernel, named as in the BLIS paper (Van Zee and van de Geijn, ACM TOMS 41(3), 2015, figure 2).
//!
//! `B` is packed by the caller, so the outermost loop (jc) is the caller's too. What stays: depth blocks (pc), row blocks (ic)
//! with their packed `A`, panels of `B` (jr), panels of `A` (ir). A packed row block stays in the L2 cache over jr, a panel of
//! `B` in the nearest cache over ir (Goto and van de Geijn, ACM TOMS 34(3), 2008).

use crate::micro::{MAX_TILE_LEN, MicroKernel, Store};
use crate::pack::pack_panels;
use crate::{Element, MatRef};

/// Rows packed at a time: 128 x KC `f64` are 512 KiB, half of the L2 cache of most processors that have AVX-512.
/// A multiple of every `mr`. No part of the numerics: rows do not touch each other.
const MC: usize = 128;

/// The operands of one band that do not change over its loops.
pub(crate) struct Band<'a, T> {
    pub(crate) micro: &'a MicroKernel<T>,
    pub(crate) a: MatRef<'a, T>,
    pub(crate) packed_b: &'a [T],
    pub(crate) cols: usize,
    pub(crate) ldc: usize,
}

/// Elements of a packed row block of a band of `rows x depth`.
pub(crate) fn packed_a_len<T: Element>(micro: &MicroKernel<T>, rows: usize, depth: usize) -> usize {
    rows.min(MC).next_multiple_of(micro.mr()) * depth.min(T::KC)
}

impl<T: Element> Band<'_, T> {
    /// Runs the band; the caller has checked the lengths.
    pub(crate) fn multiply(&self, c: &mut [T], accumulate: bool, scratch: &mut [T]) {
        if self.a.cols() == 0 && !accumulate {
            for row in c.chunks_mut(self.ldc).take(self.a.rows()) {
                row[..self.cols].fill(T::ZERO);
            }
        }
        for pc in (0..self.a.cols()).step_by(T::KC) {
            let store = if pc == 0 && !accumulate {
                Store::Overwrite
            } else {
                Store::Add
            };
            self.depth_block(pc, c, store, scratch);
        }
    }

    /// One depth block over all rows of the band: the ic loop.
    fn depth_block(&self, pc: usize, c: &mut [T], store: Store, scratch: &mut [T]) {
        let depth = T::KC.min(self.a.cols() - pc);
        let cols_padded = self.cols.next_multiple_of(self.micro.nr());
        let packed_b = &self.packed_b[pc * cols_padded..][..depth * cols_padded];
        for ic in (0..self.a.rows()).step_by(MC) {
            let rows = MC.min(self.a.rows() - ic);
            let packed_a = &mut scratch[..packed_a_len(self.micro, rows, depth)];
            pack_panels(
                self.micro,
                self.a.sub(ic..ic + rows, pc..pc + depth),
                self.micro.mr(),
                packed_a,
            );
            self.row_block(rows, depth, packed_a, packed_b, &mut c[ic * self.ldc..], store);
        }
    }

    /// One packed row block times one packed depth block: the jr and ir loops (the paper's macro-kernel).
    fn row_block(
        &self,
        rows: usize,
        depth: usize,
        packed_a: &[T],
        packed_b: &[T],
        c: &mut [T],
        store: Store,
    ) {
        let (mr, nr) = (self.micro.mr(), self.micro.nr());
        let n_tiles = rows.div_ceil(mr);
        for (jr, b_panel) in packed_b.chunks_exact(depth * nr).enumerate() {
            let tile_cols = nr.min(self.cols - jr * nr);
            let next_panel = b_panel.as_ptr_range().end;
            for (ir, a_panel) in packed_a.chunks_exact(depth * mr).enumerate() {
                let tile_rows = mr.min(rows - ir * mr);
                // The next panel of `B` comes from far away, a share of it during each tile of this one.
                let ahead = next_panel.wrapping_add(b_panel.len() / n_tiles * ir);
                let c_tile = &mut c[ir * mr * self.ldc + jr * nr..];
                if (tile_rows, tile_cols) == (mr, nr) {
                    self.micro.run(a_panel, b_panel, c_tile, self.ldc, store, ahead);
                } else {
                    self.edge_tile(tile_rows, tile_cols, a_panel, b_panel, c_tile, store);
                }
            }
        }
    }

    /// A tile that reaches past the last row or column: computed whole in a temporary, from which only the part inside is taken.
    fn edge_tile(&self, rows: usize, cols: usize, a_panel: &[T], b_panel: &[T], c: &mut [T], store: Store) {
        let nr = self.micro.nr();
        let mut tile = [T::ZERO; MAX_TILE_LEN];
        self.micro.run(
            a_panel,
            b_panel,
            &mut tile,
            nr,
            Store::Overwrite,
            b_panel.as_ptr(),
        );
        for (c_row, tile_row) in c.chunks_mut(self.ldc).zip(tile.chunks_exact(nr)).take(rows) {
            for (element, &acc) in c_row[..cols].iter_mut().zip(tile_row) {
                *element = match store {
                    Store::Overwrite => acc,
                    Store::Add => *element + acc,
                };
            }
        }
    }
}
