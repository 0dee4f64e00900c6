//! A disk in memory that freezes at any sync and shows what the power cut left. For tests.
//!
//! It is as forgetful as POSIX allows: written bytes and lengths are durable only after `sync_data` of their file,
//! and names only after `sync_dir` of their directory. Two states of a sector are kept, the synced one and the last
//! one; those between never come back.
//!
//! ```
//! use std::path::Path;
//! use tilework_store::disk::{Disk, DiskFileExt};
//! use tilework_store::fake_disk::{CrashMode, FakeDisk};
//!
//! let disk = FakeDisk::new(1);
//! let file = disk.create_new(Path::new("/a")).unwrap();
//! file.write_all_at(b"first", 0).unwrap();
//! file.sync_data().unwrap();
//! disk.sync_dir(Path::new("/")).unwrap();
//! file.write_all_at(b"later", 0).unwrap();
//! let disk = disk.after_crash(CrashMode::Vanish);
//! assert_eq!(disk.contents("/a").unwrap(), b"first");
//! ```

mod content;
mod dice;
mod disk;
mod file;
mod names;
mod state;
#[cfg(test)]
mod tests;

pub use disk::FakeDisk;

/// What a power cut does to all that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// All of it is lost.
    Vanish,
    /// Each sector of 512 bytes, each length and each name survives or not, by the disk's seed.
    Tear,
    /// All of it survives.
    Keep,
}

impl CrashMode {
    /// Every mode, for tests that try them in turn.
    pub const ALL: [CrashMode; 3] = [CrashMode::Vanish, CrashMode::Tear, CrashMode::Keep];
}
