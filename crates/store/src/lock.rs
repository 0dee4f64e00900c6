//! One run per output: a lock that dies with its process, and a note on who holds it.

use crate::disk::{Disk, DiskFile, DiskFileExt};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Host name.
    pub host: String,
    /// Changes at every boot, so that a process id means something.
    pub boot_id: String,
    /// Process id.
    pub pid: u32,
}

impl Owner {
    /// This process.
    pub fn current() -> Owner {
        let uname = rustix::system::uname();
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Owner {
            host: uname.nodename().to_string_lossy().into_owned(),
            boot_id: boot_id.trim().to_owned(),
            pid: std::process::id(),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on `{}`", self.pid, self.host)
    }
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("held by {}", .0.as_ref().map_or("another process".to_owned(), Owner::to_string))]
    Held(Option<Owner>),
    /// The lock file can't be used.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A held lock; let go when dropped, or by the system when its process dies.
#[derive(Debug)]
pub struct Lock {
    _file: Arc<dyn DiskFile>,
}

impl Lock {
    /// Takes the lock at `path`, creating the file if need be, and notes `owner` in it.
    pub fn acquire(disk: &dyn Disk, path: &Path, owner: &Owner) -> Result<Lock, LockError> {
        let file = match disk.create_new(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => disk.open_write(path)?,
            other => other?,
        };
        if !file.try_lock()? {
            return Err(LockError::Held(read_owner(&*file)));
        }
        let note = serde_json::to_vec(owner).map_err(io::Error::other)?;
        file.set_len(0)?;
        file.write_all_at(&note, 0)?;
        Ok(Lock { _file: file })
    }
}

fn read_owner(file: &dyn DiskFile) -> Option<Owner> {
    let mut note = vec![0; file.stat().ok()?.len.min(4096) as usize];
    file.read_exact_at(&mut note, 0).ok()?;
    serde_json::from_slice(&note).ok()
}
