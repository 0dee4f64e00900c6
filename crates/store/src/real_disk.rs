//! The operating system's files.
//!
//! No call ends because a signal came: file systems in user space and on networks may interrupt any of them, not only reads and writes.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, StatVfs, fallocate, fstatvfs, statvfs};
use rustix::io::Errno;

use crate::disk::{Disk, DiskFile, FileStat};

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        open(OpenOptions::new().read(true).write(true).create_new(true), path)
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        open(OpenOptions::new().read(true), path)
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        open(OpenOptions::new().read(true).write(true), path)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        match uninterrupted(|| fs::metadata(path)) {
            Ok(metadata) => Ok(Some(describe(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        uninterrupted(|| fs::create_dir(path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        // Begun again from the first name: where a listing was interrupted, nobody says where it stands.
        let names = || fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect();
        let mut names: Vec<OsString> = uninterrupted(names)?;
        names.sort();
        Ok(names)
    }

    fn hard_link(&self, file: &Path, name: &Path) -> io::Result<()> {
        uninterrupted(|| fs::hard_link(file, name))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        uninterrupted(|| fs::rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        uninterrupted(|| fs::remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        uninterrupted(|| fs::remove_dir(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let dir = uninterrupted(|| File::open(path))?;
        uninterrupted(|| dir.sync_all())
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        Ok(available(&uninterrupted(|| Ok(statvfs(path)?))?))
    }
}

fn open(options: &OpenOptions, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
    Ok(file(uninterrupted(|| options.open(path))?))
}

/// Makes a call again that a signal interrupted.
pub(crate) fn uninterrupted<R>(mut call: impl FnMut() -> io::Result<R>) -> io::Result<R> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// An open file of the operating system's.
pub(crate) fn file(opened: File) -> Arc<dyn DiskFile> {
    Arc::new(RealFile(opened))
}

/// Bytes that an ordinary user can still write on the file system of an open file.
pub(crate) fn free_bytes_of(opened: impl AsFd) -> io::Result<u64> {
    Ok(available(&uninterrupted(|| Ok(fstatvfs(&opened)?))?))
}

fn available(stat: &StatVfs) -> u64 {
    stat.f_bavail.saturating_mul(stat.f_frsize)
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        slow::dawdle();
        uninterrupted(|| self.0.read_at(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        slow::dawdle();
        uninterrupted(|| self.0.write_at(buf, offset))
    }

    fn sync_data(&self) -> io::Result<()> {
        slow::dawdle();
        uninterrupted(|| self.0.sync_data())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        // The system call refuses a length of zero.
        if len == 0 {
            return Ok(());
        }
        let reserve = || Ok(fallocate(&self.0, FallocateFlags::empty(), 0, len)?);
        match uninterrupted(reserve) {
            Err(error)
                if matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::OPNOTSUPP | Errno::NOSYS)
                ) =>
            {
                self.grow(len)
            }
            done => done,
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        uninterrupted(|| self.0.set_len(len))
    }

    fn stat(&self) -> io::Result<FileStat> {
        Ok(describe(&uninterrupted(|| self.0.metadata())?))
    }

    fn try_lock(&self) -> io::Result<bool> {
        uninterrupted(|| match self.0.try_lock() {
            Err(TryLockError::Error(error)) => Err(error),
            tried => Ok(tried.is_ok()),
        })
    }
}

impl RealFile {
    fn grow(&self, len: u64) -> io::Result<()> {
        if self.stat()?.len < len {
            self.set_len(len)
        } else {
            Ok(())
        }
    }
}

/// A store that is slow on purpose, for tests: while the file that `TILEWORK_TEST_SLOW_STORE` names has a number in it, each read, write and
/// sync takes so many milliseconds longer.
mod slow {
    #[cfg(debug_assertions)]
    pub(super) fn dawdle() {
        use std::path::PathBuf;
        use std::sync::LazyLock;
        use std::time::Duration;

        static SAYS_HOW: LazyLock<Option<PathBuf>> =
            LazyLock::new(|| std::env::var_os("TILEWORK_TEST_SLOW_STORE").map(PathBuf::from));
        let Some(says_how) = SAYS_HOW.as_ref() else {
            return;
        };
        let said = std::fs::read_to_string(says_how).ok();
        if let Some(ms) = said.and_then(|ms| ms.trim().parse().ok()) {
            std::thread::sleep(Duration::from_millis(ms));
        }
    }

    #[cfg(not(debug_assertions))]
    pub(super) fn dawdle() {}
}

pub(crate) fn describe(metadata: &Metadata) -> FileStat {
    FileStat {
        len: metadata.len(),
        mtime_ns: metadata
            .mtime()
            .saturating_mul(1_000_000_000)
            .saturating_add(metadata.mtime_nsec()),
        inode: metadata.ino(),
        device: metadata.dev(),
        is_dir: metadata.is_dir(),
        is_file: metadata.is_file(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DiskFileExt;

    #[test]
    fn files_are_created_once_written_renamed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let file = RealDisk.create_new(&a).unwrap();
        assert_eq!(
            RealDisk.create_new(&a).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        file.allocate(100).unwrap();
        file.allocate(0).unwrap();
        file.write_all_at(b"xyz", 97).unwrap();
        file.sync_data().unwrap();
        RealDisk.rename(&a, &b).unwrap();
        RealDisk.sync_dir(dir.path()).unwrap();
        assert_eq!(RealDisk.stat(&a).unwrap(), None);
        let stat = RealDisk.stat(&b).unwrap().unwrap();
        assert_eq!((stat.len, stat.is_file, stat.is_dir), (100, true, false));
        assert_eq!(stat, file.stat().unwrap());
        assert_eq!(RealDisk.read_dir(dir.path()).unwrap(), ["b"]);
        RealDisk.remove_file(&b).unwrap();
        assert_eq!(RealDisk.read_dir(dir.path()).unwrap().len(), 0);
    }

    #[test]
    fn an_interrupted_call_is_made_again_and_no_other_failed_one() {
        let mut left = 3;
        let call = || {
            left -= 1;
            if left > 0 {
                Err(Errno::INTR.into())
            } else {
                Ok(left)
            }
        };
        assert_eq!(uninterrupted(call).unwrap(), 0);
        let mut n_calls = 0;
        let failed = uninterrupted(|| {
            n_calls += 1;
            Err::<(), _>(Errno::IO.into())
        });
        assert_eq!(Errno::from_io_error(&failed.unwrap_err()), Some(Errno::IO));
        assert_eq!(n_calls, 1);
    }

    #[test]
    fn a_lock_is_exclusive_until_its_file_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = RealDisk.create_new(&path).unwrap();
        let second = RealDisk.open_write(&path).unwrap();
        assert!(first.try_lock().unwrap());
        assert!(!second.try_lock().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
    }

    #[test]
    fn free_space_is_positive_here() {
        assert!(RealDisk.free_bytes(Path::new(".")).unwrap() > 0);
    }
}
