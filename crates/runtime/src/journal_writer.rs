//! Group commit: one thread appends and syncs; whoever appended hears back once its record is durable.
//!
//! While a sync runs, further records gather and share the next one, and no delay is added for a few. Where they come thick, a group
//! is collected for as long as [`GROUP_COMMIT_MS`], or until it is large enough: a sync costs about as much as a hundred short tasks.

use crate::threads;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SendError, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tilework_core::failure::Failure;
use tilework_core::limits::{GROUP_COMMIT_BYTES, GROUP_COMMIT_MS, GROUP_COMMIT_RECORDS_MIN};
use tilework_core::record::Record;
use tilework_store::journal::SegmentWriter;

/// Off only in the benchmark that measures what check and journal cost.
const JOURNALED: bool = !cfg!(feature = "bench-unchecked");

/// Called once the record is durable, or could not be made so.
type OnDurable = Box<dyn FnOnce(Result<(), &io::Error>) + Send>;

/// Makes the segment that takes the place of one, if that is worth it.
type Follow = Box<dyn FnOnce(&SegmentWriter) -> io::Result<Option<SegmentWriter>> + Send>;

/// What the thread is told.
enum ToJournal {
    Append(Record, OnDurable),
    Follow(Follow),
    End,
}

/// The thread that owns a run's segment.
#[derive(Debug)]
pub struct JournalWriter {
    thread: Option<JoinHandle<()>>,
    handle: Option<JournalHandle>,
    is_broken: Arc<AtomicBool>,
}

/// Appends to the journal from any thread.
#[derive(Clone)]
pub struct JournalHandle {
    sender: Sender<ToJournal>,
    path: Arc<Path>,
}

impl std::fmt::Debug for JournalHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JournalHandle")
    }
}

impl JournalWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has none left.
    pub fn start(segment: SegmentWriter) -> Result<JournalWriter, Failure> {
        let (sender, receiver) = channel();
        let path = Arc::from(segment.path());
        let is_broken = Arc::new(AtomicBool::new(false));
        let thread = threads::start("writes the journal", {
            let is_broken = Arc::clone(&is_broken);
            move || write_groups(segment, &receiver, &is_broken)
        });
        Ok(JournalWriter {
            thread: Some(thread?),
            handle: Some(JournalHandle { sender, path }),
            is_broken,
        })
    }

    /// Whether a write failed: nothing more becomes durable by it. Set before anyone hears of the failure.
    pub fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }

    /// A handle for another thread.
    pub fn handle(&self) -> JournalHandle {
        self.handle.clone().expect("present until drop")
    }
}

impl Drop for JournalWriter {
    /// Waits until everything appended is durable. What another handle appends after that, such as a thread's whose task hung, fails.
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            let _ = handle.sender.send(ToJournal::End);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl JournalHandle {
    /// The segment's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends `record`; `on_durable` runs on the journal's thread once it is durable.
    pub fn append(&self, record: Record, on_durable: impl FnOnce(Result<(), &io::Error>) + Send + 'static) {
        let sent = self.sender.send(ToJournal::Append(record, Box::new(on_durable)));
        if let Err(SendError(ToJournal::Append(_, on_durable))) = sent {
            on_durable(Err(&gone()));
        }
    }

    /// Looks, when all is durable that was appended before, whether what comes next should go into another segment.
    pub fn follow(
        &self,
        follow: impl FnOnce(&SegmentWriter) -> io::Result<Option<SegmentWriter>> + Send + 'static,
    ) {
        let _ = self.sender.send(ToJournal::Follow(Box::new(follow)));
    }

    /// Appends `record` and waits until it is durable.
    pub fn append_and_wait(&self, record: Record) -> io::Result<()> {
        let (sender, receiver) = channel();
        self.append(record, move |result| {
            let _ = sender.send(result.map_err(copy_error));
        });
        receiver.recv().unwrap_or_else(|_| Err(gone()))
    }
}

fn gone() -> io::Error {
    io::Error::other("the journal's thread is gone")
}

/// An error that several waiters can have: `io::Error` is not `Clone`.
pub fn copy_error(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

fn write_groups(mut segment: SegmentWriter, receiver: &Receiver<ToJournal>, is_broken: &AtomicBool) {
    let mut broken: Option<io::Error> = None;
    let mut has_ended = false;
    // Before this nothing is synced that has room for more.
    let mut not_before = Instant::now();
    let pace = Duration::from_millis(GROUP_COMMIT_MS);
    let (mut counted_since, mut n_counted) = (not_before, 0);
    while !has_ended {
        let (mut records, mut waiting, mut n_bytes) = (Vec::new(), Vec::new(), 0);
        let mut follow = None;
        let mut next = receiver.recv().map_err(|_| TryRecvError::Disconnected);
        // Asleep, for whoever waits for the next record is woken by each.
        thread::sleep(not_before.saturating_duration_since(Instant::now()));
        loop {
            match next {
                Ok(ToJournal::Append(record, on_durable)) => {
                    n_bytes += record_bytes(&record);
                    records.push(record);
                    waiting.push(on_durable);
                }
                Ok(ToJournal::Follow(to_follow)) => {
                    follow = Some(to_follow);
                    break;
                }
                Ok(ToJournal::End) | Err(TryRecvError::Disconnected) => {
                    has_ended = true;
                    break;
                }
                Err(TryRecvError::Empty) => break,
            }
            if n_bytes >= GROUP_COMMIT_BYTES {
                break;
            }
            next = receiver.try_recv();
        }
        let now = Instant::now();
        if now.duration_since(counted_since) > pace {
            (counted_since, n_counted) = (now, 0);
        }
        n_counted += records.len();
        let are_many = n_counted >= GROUP_COMMIT_RECORDS_MIN && n_bytes < GROUP_COMMIT_BYTES;
        not_before = if are_many { now + pace } else { now };
        // After a failed sync nobody knows what is durable, so nothing more may be acknowledged.
        if broken.is_none() && JOURNALED && !records.is_empty() {
            broken = segment.append(&records).and_then(|()| segment.sync()).err();
            is_broken.store(broken.is_some(), Ordering::Release);
        }
        for on_durable in waiting {
            on_durable(broken.as_ref().map_or(Ok(()), Err));
        }
        if let Some(follow) = follow.filter(|_| broken.is_none()) {
            match follow(&segment) {
                Ok(following) => segment = following.unwrap_or(segment),
                Err(error) => broken = Some(error),
            }
            is_broken.store(broken.is_some(), Ordering::Release);
        }
    }
}

fn record_bytes(record: &Record) -> usize {
    const SMALL_RECORD_BYTES: usize = 80;
    match record {
        Record::Commit(commit) => SMALL_RECORD_BYTES + commit.output.len(),
        Record::Job(text) | Record::Done(text) => text.len(),
        Record::Run(_) => SMALL_RECORD_BYTES,
        Record::Barrier(barrier) => 5 * barrier.winners.len(),
        Record::Round(start) => start.state.len(),
    }
}
