//! The thread that reads panels ahead of their use, as far as there are buffers.

use crate::operand::{Number, Operand};
use crate::schedule::Panel;
use crate::workspace::Lent;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender};
use tilework_core::failure::Failure;
use tilework_kernel::{AlignedBuffer, MatRef};

/// A read panel: the buffer, which goes back when this is dropped, and where its elements are.
#[derive(Debug)]
pub(crate) struct ReadPanel {
    pub(crate) panel: Panel,
    buffer: Lent,
    row_stride: usize,
    col_stride: usize,
}

impl ReadPanel {
    /// The elements of a panel of the given rows and columns.
    pub(crate) fn view<T: Number>(&self, rows: &Range<u64>, cols: &Range<u64>) -> MatRef<'_, T> {
        let (n_rows, n_cols) = ((rows.end - rows.start) as usize, (cols.end - cols.start) as usize);
        MatRef::new(
            &self.buffer.as_slice()[..n_rows * n_cols],
            n_rows,
            n_cols,
            self.row_stride,
            self.col_stride,
        )
    }
}

/// Where read buffers come from and go back to.
pub(crate) struct Buffers {
    pub(crate) free: Receiver<AlignedBuffer>,
    pub(crate) home: Sender<AlignedBuffer>,
}

/// Fills buffers with `panels` in their order until they end or nobody wants more; returns the buffers when all are back.
pub(crate) fn read_panels<T: Number>(
    a: &Operand,
    b: &Operand,
    panels: impl Iterator<Item = Panel>,
    buffers: Buffers,
    filled: Sender<Result<ReadPanel, Failure>>,
) -> Vec<AlignedBuffer> {
    let Buffers { free, home } = buffers;
    for panel in panels {
        let Ok(buffer) = free.recv() else { break };
        let read = read_panel::<T>(a, b, panel, Lent::new(buffer, home.clone()));
        let failed = read.is_err();
        if filled.send(read).is_err() || failed {
            break;
        }
    }
    drop((filled, home));
    free.iter().collect()
}

fn read_panel<T: Number>(
    a: &Operand,
    b: &Operand,
    panel: Panel,
    mut buffer: Lent,
) -> Result<ReadPanel, Failure> {
    let out = buffer.as_mut_slice::<T>();
    let view = match &panel {
        Panel::B { depth, cols } => b.read(depth.clone(), cols.clone(), out),
        Panel::A { rows, depth } => a.read(rows.clone(), depth.clone(), out),
    }?;
    let (row_stride, col_stride) = (view.row_stride(), view.col_stride());
    Ok(ReadPanel {
        panel,
        buffer,
        row_stride,
        col_stride,
    })
}
