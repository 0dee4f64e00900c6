//! One file's bytes twice: as a process sees them, and as a power cut leaves them.

use std::collections::BTreeSet;

use super::CrashMode;
use super::dice::Dice;

/// What a real disk writes in one piece.
pub(super) const SECTOR_BYTES: usize = 512;

/// A file's contents.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    volatile: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors in which the two may differ.
    dirty: BTreeSet<usize>,
}

impl Content {
    pub(super) fn volatile(&self) -> &[u8] {
        &self.volatile
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let start = (offset as usize).min(self.volatile.len());
        let len = buf.len().min(self.volatile.len() - start);
        buf[..len].copy_from_slice(&self.volatile[start..start + len]);
        len
    }

    /// Writes inside the present length.
    pub(super) fn write(&mut self, buf: &[u8], offset: u64) {
        let start = offset as usize;
        self.volatile[start..start + buf.len()].copy_from_slice(buf);
        self.mark(start, start + buf.len());
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let (old, new) = (self.volatile.len(), len as usize);
        self.volatile.resize(new, 0);
        self.mark(old.min(new), old.max(new));
    }

    pub(super) fn sync(&mut self) {
        self.durable.resize(self.volatile.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            copy_sector(&self.volatile, &mut self.durable, sector);
        }
    }

    /// What is left after a power cut.
    pub(super) fn after_crash(&self, mode: CrashMode, dice: &mut Dice) -> Content {
        let bytes = match mode {
            CrashMode::Vanish => self.durable.clone(),
            CrashMode::Keep => self.volatile.clone(),
            CrashMode::Tear => self.torn(dice),
        };
        Content {
            volatile: bytes.clone(),
            durable: bytes,
            dirty: BTreeSet::new(),
        }
    }

    /// Each dirty sector persisted or not; the length is the old one, the new one or one between.
    fn torn(&self, dice: &mut Dice) -> Vec<u8> {
        let (old, new) = (self.durable.len(), self.volatile.len());
        let (shorter, longer) = (old.min(new), old.max(new));
        let len = match dice.below(3) {
            0 => old,
            1 => new,
            _ => shorter + dice.below((longer - shorter) as u64 + 1) as usize,
        };
        let mut bytes = self.durable.clone();
        bytes.resize(len, 0);
        for sector in &self.dirty {
            if dice.below(2) == 0 {
                copy_sector(&self.volatile, &mut bytes, *sector);
            }
        }
        bytes
    }

    fn mark(&mut self, start: usize, end: usize) {
        if start < end {
            self.dirty
                .extend(start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
        }
    }
}

/// Copies the part of a sector that both have; the lengths stay.
fn copy_sector(from: &[u8], to: &mut [u8], sector: usize) {
    let start = sector * SECTOR_BYTES;
    let end = (start + SECTOR_BYTES).min(from.len()).min(to.len());
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}
