//! Keeps the driver's hints and housekeeping off its loop: boards, of which only the latest counts, and the removal of records that nobody
//! needs any more.

use super::board::{Board, KEY};
use super::{keeping, numbers};
use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use tilework_core::ids::{JobId, WorkerIdx};
use tilework_nats::{Bucket, Control, ControlError};

/// Writes boards without keeping the driver: only the latest counts.
pub(super) struct BoardWriter {
    shared: Arc<(Mutex<Next>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Next {
    board: Option<Board>,
    gone: BTreeSet<WorkerIdx>,
    forgotten: BTreeSet<JobId>,
    closed: bool,
}

impl BoardWriter {
    pub(super) fn start(control: Arc<Control>) -> BoardWriter {
        let shared: Arc<(Mutex<Next>, Condvar)> = Arc::default();
        let of_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || write_boards(&control, &of_thread));
        BoardWriter {
            shared,
            thread: Some(thread),
        }
    }

    /// Writes the board, and removes the records of workers and jobs that nobody asks for any more.
    pub(super) fn write(&self, board: Board, gone: Vec<WorkerIdx>, forgotten: Vec<JobId>) {
        let (next, news) = &*self.shared;
        let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
        next.board = Some(board);
        next.gone.extend(gone);
        next.forgotten.extend(forgotten);
        news.notify_one();
    }

    /// Removes what is kept of workers that are gone; waited for when this is dropped.
    pub(super) fn dismiss(&self, gone: Vec<WorkerIdx>) {
        let (next, news) = &*self.shared;
        let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
        next.gone.extend(gone);
        news.notify_one();
    }
}

impl Drop for BoardWriter {
    fn drop(&mut self) {
        let (next, news) = &*self.shared;
        next.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        news.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_boards(control: &Control, shared: &(Mutex<Next>, Condvar)) {
    let (next, news) = shared;
    let mut n_written = 0;
    // Those whose records could not be removed yet.
    let mut gone: BTreeSet<WorkerIdx> = BTreeSet::new();
    let mut forgotten: BTreeSet<JobId> = BTreeSet::new();
    loop {
        let guard = next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut guard = news
            .wait_while(guard, |next| {
                next.board.is_none() && next.gone.is_empty() && !next.closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        let (board, closed) = (guard.board.take(), guard.closed);
        gone.append(&mut guard.gone);
        forgotten.append(&mut guard.forgotten);
        drop(guard);
        let is_last = closed && board.is_none();
        if let Some(board) = board {
            n_written += 1;
            let board = Board { n_written, ..board };
            let bytes = serde_json::to_vec(&board).expect("plain data becomes JSON");
            match control.put(Bucket::Workers, KEY, &bytes) {
                Ok(_) => {}
                Err(ControlError::TooLarge { .. }) => write_without_ended(control, board),
                Err(error) => tracing::debug!(%error, "the board is not written"),
            }
        }
        // Who does not answer now does not for the next one either.
        while let Some(job) = forgotten.first().filter(|_| !is_last) {
            if let Err(error) = keeping::forget(control, *job) {
                tracing::debug!(%error, "the record of a job that ended long ago stays for now");
                break;
            }
            forgotten.pop_first();
        }
        gone = numbers::dismiss(control, gone).into_iter().collect();
        if is_last {
            return;
        }
    }
}

/// What runs is more important than what has ended.
fn write_without_ended(control: &Control, mut board: Board) {
    board.jobs.retain(|job| job.ended_unix_ms.is_none());
    let bytes = serde_json::to_vec(&board).expect("plain data becomes JSON");
    if let Err(error) = control.put(Bucket::Workers, KEY, &bytes) {
        tracing::warn!(%error, "the board is too large, also without the jobs that have ended");
    }
}
