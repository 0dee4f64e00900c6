//! The disk itself: faults, crashes, and the calls on names.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::CrashMode;
use super::file::FakeFile;
use super::names::Inode;
use super::state::State;
use crate::disk::{Disk, DiskFile, FileStat};

/// A disk in memory. Clones share their state, as processes on one machine do.
///
/// Relative paths start at the root, which is there from the start.
#[derive(Clone)]
pub struct FakeDisk {
    state: Arc<Mutex<State>>,
}

impl FakeDisk {
    /// An empty disk; the seed decides what [`CrashMode::Tear`] tears.
    pub fn new(seed: u64) -> Self {
        Self::from_state(State::new(seed))
    }

    fn from_state(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Freezes the disk at the `n`-th sync from now on, of a file or directory, counted from 1.
    ///
    /// That sync does nothing and fails, and so does every call after it.
    pub fn crash_after_syncs(&self, n: u64) {
        let mut state = self.state();
        state.freeze_at = Some(state.n_syncs + n);
    }

    /// Whether the crash has happened.
    pub fn is_frozen(&self) -> bool {
        self.state().is_frozen
    }

    /// Makes the `n`-th call of any kind from now on, counted from 1, fail once and do nothing.
    pub fn fail_nth(&self, n: u64, kind: io::ErrorKind) {
        let mut state = self.state();
        let failing = state.n_calls + n;
        state.failing = Some((failing..=failing, kind));
    }

    /// Makes the `n`-th call of any kind from now on, counted from 1, fail, and all that follow, until the disk is [mended](Self::mend).
    pub fn fail_from(&self, n: u64, kind: io::ErrorKind) {
        let mut state = self.state();
        state.failing = Some((state.n_calls + n..=u64::MAX, kind));
    }

    /// Makes every `every`-th read or write go badly, by turns interrupted, or of half the bytes only.
    pub fn stutter(&self, every: u64) {
        self.state().stutters = Some(every);
    }

    /// Ends all of that: what has not failed yet succeeds.
    pub fn mend(&self) {
        let mut state = self.state();
        state.failing = None;
        state.stutters = None;
    }

    /// How many reads and writes [`stutter`](Self::stutter) has interrupted, and how many it has cut short.
    pub fn stuttered_counts(&self) -> (u64, u64) {
        let state = self.state();
        (state.n_interrupted, state.n_short)
    }

    /// How many calls [`fail_nth`](Self::fail_nth) and [`fail_from`](Self::fail_from) have made fail.
    pub fn failed_count(&self) -> u64 {
        self.state().n_failed
    }

    /// Syncs tried so far.
    pub fn sync_count(&self) -> u64 {
        self.state().n_syncs
    }

    /// Calls of any kind so far.
    pub fn call_count(&self) -> u64 {
        self.state().n_calls
    }

    /// Sets how many bytes all files together may have; beyond, growing one fails with `StorageFull`.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// The disk after a power cut now, or at the crash if it has happened; this one stays as it is.
    ///
    /// No fault is set on the new disk, its counters start at zero, nobody holds a lock, and its seed is another one.
    pub fn after_crash(&self, mode: CrashMode) -> FakeDisk {
        Self::from_state(self.state().after_crash(mode))
    }

    /// Puts a file there, durably, as if it had always been there; counts as no call. Missing directories are made.
    ///
    /// # Panics
    /// If `path` is a directory, or goes through a file.
    pub fn install(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        let path = path.as_ref();
        let mut state = self.state();
        for ancestor in path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            state.install_dir(ancestor);
        }
        let (place, found) = state.names.place(path).expect("a parent directory");
        let inode = match found {
            Some(inode) => inode,
            None => state.create(place.clone(), false),
        };
        state.names.install(&place, inode);
        let mtime_ns = state.tick();
        let file = state.files.get_mut(&inode).expect("a file");
        file.content.set_len(bytes.len() as u64);
        file.content.write(bytes, 0);
        file.content.sync();
        file.mtime_ns = mtime_ns;
    }

    /// The bytes of a file as a process sees them; counts as no call and works on a frozen disk.
    pub fn contents(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let state = self.state();
        let inode = state.names.find(path.as_ref())?;
        Ok(state.file(inode)?.content.volatile().to_vec())
    }
}

impl fmt::Debug for FakeDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("FakeDisk")
            .field("seed", &state.seed)
            .field("n_syncs", &state.n_syncs)
            .finish_non_exhaustive()
    }
}

impl Disk for FakeDisk {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.on_call()?;
        match state.names.place(path)? {
            (_, Some(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            (place, None) => {
                let inode = state.create(place, false);
                Ok(self.handle(&mut state, inode, true))
            }
        }
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path, false)
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path, true)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        let mut state = self.state();
        state.on_call()?;
        match state.names.find(path) {
            Ok(inode) => Ok(Some(state.stat(inode))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.on_call()?;
        match state.names.place(path)? {
            (_, Some(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            (place, None) => {
                state.create(place, true);
                Ok(())
            }
        }
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut state = self.state();
        state.on_call()?;
        state.names.list(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.on_call()?;
        let (from, inode) = state.names.place(from)?;
        let inode = inode.ok_or(io::ErrorKind::NotFound)?;
        let (to, replaced) = state.names.place(to)?;
        match replaced {
            Some(replaced) if replaced == inode => return Ok(()),
            Some(replaced) if state.names.is_dir(replaced) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(_) if state.names.is_dir(inode) => return Err(io::ErrorKind::NotADirectory.into()),
            _ => {}
        }
        state.names.rename(from, to, inode);
        Ok(())
    }

    fn hard_link(&self, file: &Path, name: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.on_call()?;
        let inode = state.names.find(file)?;
        state.file(inode)?;
        let (place, existing) = state.names.place(name)?;
        if existing.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.names.link(place, inode, false);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.on_call()?;
        let (place, inode) = state.names.place(path)?;
        let inode = inode.ok_or(io::ErrorKind::NotFound)?;
        state.file(inode)?;
        state.names.unlink(place, inode);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.on_call()?;
        if !state.names.list(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (place, inode) = state.names.place(path)?;
        state.names.unlink(place, inode.ok_or(io::ErrorKind::NotFound)?);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.on_sync()?;
        let dir = state.names.find(path)?;
        if !state.names.is_dir(dir) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        state.names.sync(dir);
        Ok(())
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let mut state = self.state();
        state.on_call()?;
        Ok(state.capacity.saturating_sub(state.used_bytes()))
    }
}

impl FakeDisk {
    fn open(&self, path: &Path, is_writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.on_call()?;
        let inode = state.names.find(path)?;
        state.file(inode)?;
        Ok(self.handle(&mut state, inode, is_writable))
    }

    fn handle(&self, state: &mut State, inode: Inode, is_writable: bool) -> Arc<dyn DiskFile> {
        let handle = state.next_handle;
        state.next_handle += 1;
        if let Some(file) = state.files.get_mut(&inode) {
            file.n_handles += 1;
        }
        Arc::new(FakeFile {
            disk: self.clone(),
            inode,
            handle,
            is_writable,
        })
    }
}
