//! One run per output: a lock that dies with its process, and a note on who holds it.

use crate::disk::{Disk, DiskFile, DiskFileExt, parent_dir};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tilework_core::limits::{LOCK_RETRIES_MAX, LOCK_RETRY_MS};

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
    path: PathBuf,
    _file: Arc<dyn DiskFile>,
}

impl Lock {
    /// Takes the lock at `path`, creating the file if need be, and notes `owner` in it.
    pub fn acquire(disk: &dyn Disk, path: &Path, owner: &Owner) -> Result<Lock, LockError> {
        let mut n_retries = 0;
        loop {
            let file = match disk.create_new(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => disk.open_write(path),
                other => other,
            };
            let file = match file {
                // Removed between the two calls, by a run that ended.
                Err(error) if error.kind() == io::ErrorKind::NotFound && parent_exists(disk, path)? => {
                    continue;
                }
                other => other?,
            };
            if !file.try_lock()? {
                if n_retries == LOCK_RETRIES_MAX {
                    return Err(LockError::Held(read_owner(&*file)));
                }
                n_retries += 1;
                std::thread::sleep(Duration::from_millis(LOCK_RETRY_MS));
                continue;
            }
            // Only the file that bears the name counts: the last owner may have removed it before we had it.
            if disk.stat(path)?.map(|stat| stat.inode) == Some(file.stat()?.inode) {
                let note = serde_json::to_vec(owner).map_err(io::Error::other)?;
                // The lock counts without it: removing files begins with a lock, also where there is no room for a note.
                let _ = file.set_len(0).and_then(|()| file.write_all_at(&note, 0));
                return Ok(Lock {
                    path: path.to_path_buf(),
                    _file: file,
                });
            }
        }
    }

    /// Lets go and removes the file: nothing is left to be locked.
    pub fn remove(self, disk: &dyn Disk) -> io::Result<()> {
        disk.remove_file(&self.path)
    }
}

fn parent_exists(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    Ok(disk.stat(parent_dir(path))?.is_some())
}

/// Whether a process holds the lock at `path`, and which, if that can be read. The lock is tried for reading and let go at once.
pub fn holder(disk: &dyn Disk, path: &Path) -> io::Result<Option<Option<Owner>>> {
    let file = match disk.open_read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    Ok(if file.try_lock()? {
        None
    } else {
        Some(read_owner(&*file))
    })
}

/// Who a lock file says its owner is; true only while the lock is held.
pub fn read_owner(file: &dyn DiskFile) -> Option<Owner> {
    let mut note = vec![0; file.stat().ok()?.len.min(4096) as usize];
    file.read_exact_at(&mut note, 0).ok()?;
    serde_json::from_slice(&note).ok()
}
