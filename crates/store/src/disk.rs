//! The narrow traits through which the project touches files.
//!
//! Nothing outside this module calls `std::fs`, so that [`FakeDisk`](crate::fake_disk::FakeDisk) can stop the
//! world at every sync and show what a power cut would have left.

use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use crate::real_disk::RealDisk;

/// A file system. Paths are used as given; a relative one starts in the working directory.
///
/// A created, renamed or removed name is durable only after [`sync_dir`](Disk::sync_dir) of its parent.
pub trait Disk: Send + Sync + Debug {
    /// Creates a file for reading and writing; an existing name is an error of kind `AlreadyExists`.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file for reading.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file for reading and writing.
    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Describes what is at `path`, links followed; `None` if nothing is there.
    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>>;
    /// Creates one directory; its parent exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>>;
    /// Renames a file or directory; an existing file `to` is replaced in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name, in one step; one that exists is an error of kind `AlreadyExists`.
    fn hard_link(&self, file: &Path, name: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Bytes that an ordinary user can still write on the file system of `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// An open file, read and written at explicit offsets, so that threads can share it.
///
/// Written bytes and a changed length are durable only after [`sync_data`](DiskFile::sync_data).
pub trait DiskFile: Send + Sync + Debug {
    /// Reads up to `buf.len()` bytes at `offset`; 0 means end of file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes up to `buf.len()` bytes at `offset`; the file grows where needed.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes the file's bytes and length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Reserves storage for the first `len` bytes and makes the file at least that long.
    ///
    /// Where the file system cannot reserve, the length is set and a full disk shows only on writing.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Cuts or extends the file; new bytes are zero.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Describes the open file, whatever its name is by now.
    fn stat(&self) -> io::Result<FileStat>;
    /// Takes the exclusive lock until this file is dropped; `false` if another open file holds it.
    fn try_lock(&self) -> io::Result<bool>;
}

/// What the file system says of one file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStat {
    /// Length in bytes.
    pub len: u64,
    /// Last change of the contents, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Number of the file within its device.
    pub inode: u64,
    /// Number of the device.
    pub device: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Whether it is a regular file.
    pub is_file: bool,
}

impl FileStat {
    /// Which file it is.
    pub fn id(&self) -> FileId {
        FileId {
            device: self.device,
            inode: self.inode,
        }
    }
}

/// Which file it is, whatever it is called: as long as one is open, no other file has its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// Number of the device.
    pub device: u64,
    /// Number of the file within its device.
    pub inode: u64,
}

/// Removes a file's name, if it is there.
pub fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// All bytes of a file, if it is there.
pub fn read_if_there(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open_read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = vec![0; file.stat()?.len as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}

/// Whole reads and writes on top of the partial ones of [`DiskFile`].
pub trait DiskFileExt {
    /// Fills `buf` from `offset`; a file that ends before is an error of kind `UnexpectedEof`.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `buf` at `offset`.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
}

impl<F: DiskFile + ?Sized> DiskFileExt for F {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            match self.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            match self.write_at(&buf[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The directory that holds the name `path`: `.` for a bare file name.
pub fn parent_dir(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Whether an error says that there is no room: a full disk or an exhausted quota.
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Hands out one byte per call and is interrupted before each.
    #[derive(Debug, Default)]
    struct StutteringFile {
        bytes: Mutex<Vec<u8>>,
        interrupted: Mutex<bool>,
    }

    impl StutteringFile {
        fn stutter(&self) -> io::Result<()> {
            let mut interrupted = self.interrupted.lock().unwrap();
            *interrupted = !*interrupted;
            if *interrupted {
                Err(io::ErrorKind::Interrupted.into())
            } else {
                Ok(())
            }
        }
    }

    impl DiskFile for StutteringFile {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            self.stutter()?;
            match self.bytes.lock().unwrap().get(offset as usize) {
                Some(byte) => {
                    buf[0] = *byte;
                    Ok(1)
                }
                None => Ok(0),
            }
        }
        fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
            self.stutter()?;
            let mut bytes = self.bytes.lock().unwrap();
            assert_eq!(offset as usize, bytes.len());
            bytes.push(buf[0]);
            Ok(1)
        }
        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }
        fn allocate(&self, _len: u64) -> io::Result<()> {
            Ok(())
        }
        fn set_len(&self, _len: u64) -> io::Result<()> {
            Ok(())
        }
        fn stat(&self) -> io::Result<FileStat> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn try_lock(&self) -> io::Result<bool> {
            Ok(true)
        }
    }

    #[test]
    fn whole_reads_and_writes_survive_interrupts_and_short_counts() {
        let file = StutteringFile::default();
        file.write_all_at(b"hello", 0).unwrap();
        let mut buf = [0; 3];
        file.read_exact_at(&mut buf, 2).unwrap();
        assert_eq!(&buf, b"llo");
        let error = file.read_exact_at(&mut buf, 3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn the_parent_of_a_bare_name_is_the_working_directory() {
        assert_eq!(parent_dir(Path::new("c.npy")), Path::new("."));
        assert_eq!(parent_dir(Path::new("/c.npy")), Path::new("/"));
        assert_eq!(parent_dir(Path::new("a/c.npy")), Path::new("a"));
        assert_eq!(parent_dir(Path::new("/")), Path::new("/"));
    }
}
