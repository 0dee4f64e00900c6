//! An open file of a fake disk.

use std::fmt;
use std::io;

use super::FakeDisk;
use super::names::Inode;
use crate::disk::{DiskFile, FileStat};

/// An open file of a [`FakeDisk`].
pub(super) struct FakeFile {
    pub(super) disk: FakeDisk,
    pub(super) inode: Inode,
    pub(super) handle: u64,
    pub(super) is_writable: bool,
}

impl FakeFile {
    fn writable(&self) -> io::Result<()> {
        if self.is_writable {
            Ok(())
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
}

impl DiskFile for FakeFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let len = state.on_transfer(buf.len())?;
        Ok(state.file(self.inode)?.content.read(&mut buf[..len], offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let buf = &buf[..state.on_transfer(buf.len())?];
        self.writable()?;
        state.grow(self.inode, offset + buf.len() as u64)?;
        let mtime_ns = state.tick();
        let file = state.file_mut(self.inode)?;
        file.content.write(buf, offset);
        file.mtime_ns = mtime_ns;
        Ok(buf.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.on_sync()?;
        state.file_mut(self.inode)?.content.sync();
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.on_call()?;
        self.writable()?;
        state.grow(self.inode, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.on_call()?;
        self.writable()?;
        state.grow(self.inode, len)?;
        let mtime_ns = state.tick();
        let file = state.file_mut(self.inode)?;
        file.content.set_len(len);
        file.mtime_ns = mtime_ns;
        Ok(())
    }

    fn stat(&self) -> io::Result<FileStat> {
        let mut state = self.disk.state();
        state.on_call()?;
        Ok(state.stat(self.inode))
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.disk.state();
        state.on_call()?;
        let file = state.file_mut(self.inode)?;
        Ok(*file.locked_by.get_or_insert(self.handle) == self.handle)
    }
}

impl fmt::Debug for FakeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeFile")
            .field("inode", &self.inode)
            .finish_non_exhaustive()
    }
}

impl Drop for FakeFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if let Some(file) = state.files.get_mut(&self.inode) {
            file.n_handles -= 1;
            if file.locked_by == Some(self.handle) {
                file.locked_by = None;
            }
        }
    }
}
