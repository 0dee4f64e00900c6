//! What could not be read: counted, logged and otherwise ignored, because whoever may write to a subject may write anything.

use crate::wire::WireError;
use std::sync::atomic::{AtomicU64, Ordering};

/// Messages that a port ignored, by what was wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IgnoredCounts {
    /// No message at all.
    pub malformed: u64,
    /// Larger than any message.
    pub too_large: u64,
    /// Of another version of the message set.
    pub other_version: u64,
    /// On a subject that belongs to another job or worker.
    pub misplaced: u64,
}

/// The counters behind [`IgnoredCounts`], shared by a port and its tasks.
#[derive(Debug, Default)]
pub(crate) struct Ignored {
    malformed: AtomicU64,
    too_large: AtomicU64,
    other_version: AtomicU64,
    misplaced: AtomicU64,
}

impl Ignored {
    pub(crate) fn add(&self, subject: &str, error: &WireError) {
        tracing::warn!(subject, %error, "a message is ignored");
        let counter = match error {
            WireError::Malformed { .. } => &self.malformed,
            WireError::TooLarge { .. } => &self.too_large,
            WireError::OtherVersion { .. } => &self.other_version,
            WireError::Misplaced => &self.misplaced,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> IgnoredCounts {
        IgnoredCounts {
            malformed: self.malformed.load(Ordering::Relaxed),
            too_large: self.too_large.load(Ordering::Relaxed),
            other_version: self.other_version.load(Ordering::Relaxed),
            misplaced: self.misplaced.load(Ordering::Relaxed),
        }
    }
}
