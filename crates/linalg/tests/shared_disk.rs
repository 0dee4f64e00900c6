//! A shared file system that does not keep what machines write to one file apart: what it loses is found before the output gets its
//! name, and computed again.

mod common;

use common::*;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tilework_core::failure::JobEnd;
use tilework_core::ids::{Attempt, TaskIdx};
use tilework_runtime::{Observer, RunReport, StopSwitch};
use tilework_store::disk::{Disk, DiskFile, DiskFileExt, FileStat};
use tilework_store::fake_disk::FakeDisk;

const SHAPE: (usize, usize, usize) = (36, 300, 36);

fn setup() -> Setup {
    Setup {
        strips: Some((6, 1)),
        n_threads: 1,
        memory_bytes: 32 << 20,
        ..Setup::default()
    }
}

/// What goes wrong with writes to the output.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    /// The page is written back with old neighbours: the byte before what is written becomes what another machine's cache had there.
    Clobbers,
    /// The write is acknowledged, synced, and gone.
    Drops,
}

/// A disk on which the first few writes to the output go wrong.
#[derive(Debug, Clone)]
struct SharedDisk {
    inner: FakeDisk,
    trouble: Trouble,
    n_left: Arc<AtomicU32>,
}

impl SharedDisk {
    fn file(&self, path: &Path, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        if !path.to_string_lossy().ends_with(".partial") {
            return inner;
        }
        Arc::new(SharedFile {
            inner,
            trouble: self.trouble,
            n_left: Arc::clone(&self.n_left),
        })
    }
}

impl Disk for SharedDisk {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path, self.inner.create_new(path)?))
    }
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.inner.open_read(path)
    }
    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path, self.inner.open_write(path)?))
    }
    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        self.inner.stat(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.inner.read_dir(path)
    }
    fn hard_link(&self, file: &Path, name: &Path) -> io::Result<()> {
        self.inner.hard_link(file, name)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.inner.free_bytes(path)
    }
}

#[derive(Debug)]
struct SharedFile {
    inner: Arc<dyn DiskFile>,
    trouble: Trouble,
    n_left: Arc<AtomicU32>,
}

impl DiskFile for SharedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let goes_wrong = self
            .n_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match self.trouble {
            Trouble::Drops if goes_wrong.is_ok() => Ok(buf.len()),
            Trouble::Clobbers if goes_wrong.is_ok() => {
                let written = self.inner.write_at(buf, offset)?;
                let mut neighbour = [0];
                self.inner.read_exact_at(&mut neighbour, offset - 1)?;
                self.inner.write_all_at(&[neighbour[0] ^ 0x10], offset - 1)?;
                Ok(written)
            }
            _ => self.inner.write_at(buf, offset),
        }
    }
    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.inner.allocate(len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn stat(&self) -> io::Result<FileStat> {
        self.inner.stat()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.inner.try_lock()
    }
}

/// Stops the run at its first commit, so that the next one is a resumed one, which reads back as a cluster's does.
struct StopsAtFirstCommit(StopSwitch);

impl Observer for StopsAtFirstCommit {
    fn on_committed(&self, _attempt: Attempt) {
        self.0.interrupt();
    }
}

/// Remembers which tiles were found damaged.
#[derive(Default)]
struct Damage(Mutex<Vec<TaskIdx>>);

impl Observer for Damage {
    fn on_damaged_output(&self, task: TaskIdx) {
        self.0.lock().unwrap().push(task);
    }
}

fn resumed_with(trouble: Trouble, n_troubles: u32) -> (FakeDisk, RunReport, Vec<TaskIdx>) {
    let (m, k, n) = SHAPE;
    let inner = FakeDisk::new(7);
    install(&inner, A, m, k, &numbers::<f64>(m * k, 1));
    install(&inner, B, k, n, &numbers::<f64>(k * n, 2));
    let stop = StopSwitch::default();
    let stopped = Setup {
        stop: stop.clone(),
        ..setup()
    };
    let first = multiply::<f64>(&inner, &stopped, &StopsAtFirstCommit(stop)).expect("the run starts");
    assert!(matches!(first.end, JobEnd::Stopped(_)), "{:?}", first.end);
    let disk = SharedDisk {
        inner: inner.clone(),
        trouble,
        n_left: Arc::new(AtomicU32::new(n_troubles)),
    };
    let damage = Damage::default();
    let report = multiply::<f64>(&disk, &setup(), &damage).expect("the run starts");
    assert_eq!(disk.n_left.load(Ordering::Relaxed), 0, "all of it went wrong");
    (inner, report, damage.0.into_inner().unwrap())
}

#[test]
fn what_a_shared_file_system_loses_is_found_before_the_output_gets_its_name() {
    let (m, k, n) = SHAPE;
    let expected = reference(&numbers::<f64>(m * k, 1), &numbers::<f64>(k * n, 2), m, k, n);
    for trouble in [Trouble::Clobbers, Trouble::Drops] {
        for n_troubles in [1, 2] {
            let (disk, report, damaged) = resumed_with(trouble, n_troubles);
            assert_eq!(report.end, JobEnd::Done, "{trouble:?}");
            assert!(!damaged.is_empty(), "{trouble:?}: the loss was noticed");
            assert_eq!(bits(&output::<f64>(&disk)), bits(&expected), "{trouble:?}");
        }
    }
}
