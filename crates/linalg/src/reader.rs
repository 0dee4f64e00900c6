//! The thread that reads panels ahead of their use, as far as there are buffers.

use crate::operand::{Number, Operand};
use crate::schedule::{Panel, Request};
use crate::workspace::Lent;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender};
use tilework_core::failure::Failure;
use tilework_kernel::{AlignedBuffer, MatRef};

/// What was read for a request: the buffer, which goes back when this is dropped, and where the elements are.
#[derive(Debug)]
pub(crate) struct ReadPanel {
    pub(crate) request: Request,
    buffer: Lent,
    panel: Place,
    twin: Option<Place>,
}

/// A block within a buffer.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl ReadPanel {
    /// The elements of the panel.
    pub(crate) fn view<T: Number>(&self) -> MatRef<'_, T> {
        self.block(&self.panel)
    }

    /// The elements of its twin; none if there is no twin.
    pub(crate) fn twin_view<T: Number>(&self) -> MatRef<'_, T> {
        match &self.twin {
            Some(twin) => self.block(twin),
            None => MatRef::row_major(&[], 0, 0),
        }
    }

    fn block<T: Number>(&self, place: &Place) -> MatRef<'_, T> {
        let elements = &self.buffer.as_slice()[place.start..][..place.rows * place.cols];
        MatRef::new(
            elements,
            place.rows,
            place.cols,
            place.row_stride,
            place.col_stride,
        )
    }
}

/// Where read buffers come from and go back to.
pub(crate) struct Buffers {
    pub(crate) free: Receiver<AlignedBuffer>,
    pub(crate) home: Sender<AlignedBuffer>,
}

/// Fills buffers with what is requested, in that order, until the requests end or nobody wants more; returns the buffers when all
/// are back.
pub(crate) fn read_panels<T: Number>(
    a: &Operand,
    b: &Operand,
    requests: impl Iterator<Item = Request>,
    buffers: Buffers,
    filled: Sender<Result<ReadPanel, Failure>>,
) -> Vec<AlignedBuffer> {
    let Buffers { free, home } = buffers;
    for request in requests {
        let Ok(buffer) = free.recv() else { break };
        let read = read_request::<T>(a, b, request, Lent::new(buffer, home.clone()));
        let failed = read.is_err();
        if filled.send(read).is_err() || failed {
            break;
        }
    }
    drop((filled, home));
    free.iter().collect()
}

fn read_request<T: Number>(
    a: &Operand,
    b: &Operand,
    request: Request,
    mut buffer: Lent,
) -> Result<ReadPanel, Failure> {
    let out = buffer.as_mut_slice::<T>();
    let mut filled = 0;
    let mut read = |panel: &Panel| {
        let (operand, rows, cols): (_, &Range<u64>, &Range<u64>) = match panel {
            Panel::B { depth, cols } => (b, depth, cols),
            Panel::A { rows, depth } => (a, rows, depth),
        };
        let view = operand.read(rows.clone(), cols.clone(), &mut out[filled..])?;
        let place = Place {
            start: filled,
            rows: view.rows(),
            cols: view.cols(),
            row_stride: view.row_stride(),
            col_stride: view.col_stride(),
        };
        filled += place.rows * place.cols;
        Ok::<_, Failure>(place)
    };
    let panel = read(&request.panel)?;
    let twin = request.twin.as_ref().map(read).transpose()?;
    Ok(ReadPanel {
        request,
        buffer,
        panel,
        twin,
    })
}
