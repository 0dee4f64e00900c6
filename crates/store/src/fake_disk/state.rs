//! All that a fake disk knows, and when its calls fail.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use super::CrashMode;
use super::content::Content;
use super::dice::Dice;
use super::names::{Inode, Names, Place, ROOT};
use crate::disk::FileStat;

/// Free space of a disk without a set capacity.
const CAPACITY_DEFAULT: u64 = 1 << 50;

#[derive(Debug)]
pub(super) struct State {
    pub(super) seed: u64,
    pub(super) names: Names,
    pub(super) files: BTreeMap<Inode, File>,
    pub(super) next_inode: Inode,
    pub(super) next_handle: u64,
    pub(super) clock_ns: i64,
    pub(super) capacity: u64,
    pub(super) n_syncs: u64,
    pub(super) n_calls: u64,
    /// Number of the sync call that freezes the disk.
    pub(super) freeze_at: Option<u64>,
    pub(super) is_frozen: bool,
    /// Which calls fail, by their numbers, and how.
    pub(super) failing: Option<(RangeInclusive<u64>, io::ErrorKind)>,
    pub(super) n_failed: u64,
    /// Which of the reads and writes go badly: every so manieth.
    pub(super) stutters: Option<u64>,
    pub(super) n_transfers: u64,
    pub(super) n_short: u64,
    pub(super) n_interrupted: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) content: Content,
    pub(super) mtime_ns: i64,
    pub(super) n_handles: usize,
    pub(super) locked_by: Option<u64>,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            names: Names::new(),
            files: BTreeMap::new(),
            next_inode: ROOT + 1,
            next_handle: 1,
            clock_ns: 1_700_000_000_000_000_000,
            capacity: CAPACITY_DEFAULT,
            n_syncs: 0,
            n_calls: 0,
            freeze_at: None,
            is_frozen: false,
            failing: None,
            n_failed: 0,
            stutters: None,
            n_transfers: 0,
            n_short: 0,
            n_interrupted: 0,
        }
    }

    /// What is left after a power cut, without faults, locks and counts.
    pub(super) fn after_crash(&self, mode: CrashMode) -> Self {
        let mut dice = Dice(self.seed);
        let names = self.names.after_crash(mode, &mut dice);
        let mut files = BTreeMap::new();
        for (inode, file) in &self.files {
            files.insert(*inode, file.after_crash(mode, &mut dice));
        }
        Self {
            names,
            files,
            next_inode: self.next_inode,
            next_handle: self.next_handle,
            clock_ns: self.clock_ns,
            capacity: self.capacity,
            ..Self::new(dice.next())
        }
    }

    /// Counts a call and decides whether it fails.
    pub(super) fn on_call(&mut self) -> io::Result<()> {
        self.n_calls += 1;
        if self.is_frozen {
            return Err(frozen());
        }
        match &self.failing {
            Some((calls, kind)) if calls.contains(&self.n_calls) => {
                self.n_failed += 1;
                Err(io::Error::new(*kind, "injected fault"))
            }
            _ => Ok(()),
        }
    }

    /// Counts a read or write of `len` bytes: how many of them it is to transfer.
    pub(super) fn on_transfer(&mut self, len: usize) -> io::Result<usize> {
        self.on_call()?;
        self.n_transfers += 1;
        let every = match self.stutters {
            Some(every) if self.n_transfers.is_multiple_of(every) => every,
            _ => return Ok(len),
        };
        // By turns, so that a loop meets both.
        if (self.n_transfers / every).is_multiple_of(2) {
            self.n_interrupted += 1;
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.n_short += u64::from(len > 1);
        Ok(len.div_ceil(2))
    }

    pub(super) fn on_sync(&mut self) -> io::Result<()> {
        self.n_syncs += 1;
        self.is_frozen |= self.freeze_at.is_some_and(|n| self.n_syncs >= n);
        self.on_call()
    }

    pub(super) fn file(&self, inode: Inode) -> io::Result<&File> {
        self.files
            .get(&inode)
            .ok_or_else(|| io::ErrorKind::IsADirectory.into())
    }

    pub(super) fn file_mut(&mut self, inode: Inode) -> io::Result<&mut File> {
        self.files
            .get_mut(&inode)
            .ok_or_else(|| io::ErrorKind::IsADirectory.into())
    }

    /// Time passes by one millisecond with every change.
    pub(super) fn tick(&mut self) -> i64 {
        self.clock_ns += 1_000_000;
        self.clock_ns
    }

    pub(super) fn create(&mut self, place: Place, is_dir: bool) -> Inode {
        let inode = self.next_inode;
        self.next_inode += 1;
        let mtime_ns = self.tick();
        if !is_dir {
            self.files.insert(
                inode,
                File {
                    mtime_ns,
                    ..File::default()
                },
            );
        }
        self.names.link(place, inode, is_dir);
        inode
    }

    pub(super) fn install_dir(&mut self, path: &Path) {
        if self.names.find(path).is_err() {
            let (place, _) = self.names.place(path).expect("a parent directory");
            let inode = self.create(place.clone(), true);
            self.names.install(&place, inode);
        }
    }

    pub(super) fn stat(&self, inode: Inode) -> FileStat {
        let file = self.files.get(&inode);
        FileStat {
            len: file.map_or(0, |file| file.content.volatile().len() as u64),
            mtime_ns: file.map_or(0, |file| file.mtime_ns),
            inode,
            device: 1,
            is_dir: file.is_none(),
            is_file: file.is_some(),
        }
    }

    /// Bytes of all files that have a name or are open.
    pub(super) fn used_bytes(&self) -> u64 {
        let is_used = |inode, file: &File| file.n_handles > 0 || self.names.n_links(inode) > 0;
        let used = self.files.iter().filter(|(inode, file)| is_used(**inode, file));
        used.map(|(_, file)| file.content.volatile().len() as u64).sum()
    }

    /// Extends a file up to `len` if there is room.
    pub(super) fn grow(&mut self, inode: Inode, len: u64) -> io::Result<()> {
        let old = self.file(inode)?.content.volatile().len() as u64;
        if len > old {
            if self.used_bytes().saturating_add(len - old) > self.capacity {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.file_mut(inode)?.content.set_len(len);
        }
        Ok(())
    }
}

impl File {
    fn after_crash(&self, mode: CrashMode, dice: &mut Dice) -> File {
        let content = self.content.after_crash(mode, dice);
        File {
            content,
            mtime_ns: self.mtime_ns,
            n_handles: 0,
            locked_by: None,
        }
    }
}

fn frozen() -> io::Error {
    io::Error::other("disk froze")
}
