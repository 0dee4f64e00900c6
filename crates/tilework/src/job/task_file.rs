//! Outputs that are too large for the journal: files that a task writes in the job's folder, durable before it commits.
//!
//! A file belongs to the attempt that wrote it. What names it, an output or a state, says its length and checksum, and it counts nowhere
//! else: other attempts' files can't take its place, and nothing is read from a damaged one unnoticed.

use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tilework_core::ids::Attempt;
use tilework_store::disk::{Disk, DiskFile, DiskFileExt, is_disk_full};
use tilework_store::journal::task_files::{make_task_files_folder, remove_task_files};
use tilework_store::journal::{JobFiles, TaskFileName};

/// Bytes of a file that is being written that are in memory, at most.
pub(crate) const WRITE_BUFFER_BYTES: usize = 256 * 1024;
/// Bytes of a file that is being read that are in memory, at most.
pub(crate) const READ_BUFFER_BYTES: usize = 64 * 1024;
/// The same command reads back what the current round committed; nothing but a new start writes the files of earlier ones again.
const WAY_OUT: &str = "; if the round that wrote it is over, start again with --restart";
/// Files that one attempt's executions write, at most.
const FILES_MAX: u32 = 100_000;

/// A file that a task wrote: small, to be returned in an [`Output`](crate::Job::Output), kept in a [`State`](crate::Job::State), or made
/// the job's [`Report`](crate::Report).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct TaskFile {
    name: String,
    bytes: u64,
    crc32c: u32,
    sections: Vec<Section>,
}

/// The same as it is kept, without names: name, bytes, checksum, and bytes and checksum of each section, of which there may be thousands.
#[derive(Serialize, Deserialize)]
struct Stored(String, u64, u32, Vec<(u64, u32)>);

thread_local! {
    /// Names of the files that were read while somebody listened: a state is the job's own form, and nobody else can look into it.
    static NAMED: RefCell<Option<BTreeSet<String>>> = const { RefCell::new(None) };
}

/// A file whose sections are longer than itself.
#[derive(Debug, thiserror::Error)]
#[error("the sections of task file `{name}` have more than its {bytes} bytes")]
struct TooManySections {
    name: String,
    bytes: u64,
}

impl TryFrom<Stored> for TaskFile {
    type Error = TooManySections;

    fn try_from(Stored(name, bytes, crc32c, sections): Stored) -> Result<TaskFile, TooManySections> {
        let in_sections = sections
            .iter()
            .try_fold(0_u64, |sum, (bytes, _)| sum.checked_add(*bytes));
        if in_sections.is_none_or(|in_sections| in_sections > bytes) {
            return Err(TooManySections { name, bytes });
        }
        NAMED.with_borrow_mut(|named| named.as_mut().map(|named| named.insert(name.clone())));
        let sections = sections.into_iter();
        Ok(TaskFile {
            name,
            bytes,
            crc32c,
            sections: sections
                .map(|(bytes, crc32c)| Section { bytes, crc32c })
                .collect(),
        })
    }
}

impl From<TaskFile> for Stored {
    fn from(file: TaskFile) -> Stored {
        let sections = file.sections.iter();
        let sections = sections.map(|section| (section.bytes, section.crc32c)).collect();
        Stored(file.name, file.bytes, file.crc32c, sections)
    }
}

/// Reads something, and the names of all files in it.
pub(crate) fn with_named_files<T>(read: impl FnOnce() -> T) -> (T, BTreeSet<String>) {
    NAMED.set(Some(BTreeSet::new()));
    let read = read();
    (read, NAMED.take().unwrap_or_default())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Section {
    bytes: u64,
    crc32c: u32,
}

impl TaskFile {
    /// Its name in the job's folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// CRC32C of all of it.
    pub fn crc32c(&self) -> u32 {
        self.crc32c
    }

    /// Sections that it was written in; 0 if nobody ended one.
    pub fn n_sections(&self) -> usize {
        self.sections.len()
    }
}

/// Where the files of one job's tasks are.
#[derive(Debug)]
pub(crate) struct TaskFiles {
    disk: Arc<dyn Disk>,
    files: JobFiles,
}

impl TaskFiles {
    /// Those of the job with `files`.
    pub(crate) fn of(disk: Arc<dyn Disk>, files: JobFiles) -> TaskFiles {
        TaskFiles { disk, files }
    }

    /// Makes their folder, if it is not there.
    pub(super) fn make_folder(&self) -> io::Result<()> {
        make_task_files_folder(&*self.disk, &self.files)
    }

    /// Removes those that `goes` names.
    pub(super) fn remove(&self, goes: &dyn Fn(&TaskFileName) -> bool) -> io::Result<()> {
        remove_task_files(&*self.disk, &self.files, goes)
    }

    /// Opens a file for reading from its beginning to its end.
    ///
    /// # Errors
    /// If it is gone, or has another length than it was written with.
    pub(super) fn open(&self, file: &TaskFile) -> io::Result<TaskFileReader> {
        self.open_part(file, 0, file.bytes, file.crc32c)
    }

    /// Opens one section of a file, counted from 0.
    ///
    /// # Errors
    /// As [`open`](Self::open), or if it has no such section.
    pub(crate) fn open_section(&self, file: &TaskFile, section: usize) -> io::Result<TaskFileReader> {
        let Some(Section { bytes, crc32c }) = file.sections.get(section).copied() else {
            let n_sections = file.n_sections();
            let text = format!(
                "task file `{}` has {n_sections} sections, and no section {section}",
                file.name
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        let begin = file.sections[..section].iter().map(|section| section.bytes).sum();
        self.open_part(file, begin, bytes, crc32c)
    }

    fn open_part(&self, file: &TaskFile, begin: u64, bytes: u64, crc32c: u32) -> io::Result<TaskFileReader> {
        let Some(name) = TaskFileName::parse(OsStr::new(&file.name)) else {
            let text = format!("`{}` is no task's file", file.name);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        let path = self.files.task_file(&name);
        let opened = self.disk.open_read(&path).map_err(|error| {
            let text = format!("cannot open task file `{}`: {error}{WAY_OUT}", path.display());
            io::Error::new(error.kind(), text)
        })?;
        let reader = TaskFileReader {
            file: opened,
            path,
            position: begin,
            end: begin + bytes,
            crc32c: 0,
            expected: crc32c,
            buffer: Vec::new(),
            consumed: 0,
        };
        let len = reader.file.stat().map_err(|error| reader.failed(&error))?.len;
        if len != file.bytes {
            let text = format!("it has {len} bytes, and was written with {}", file.bytes);
            return Err(reader.damaged(&text));
        }
        Ok(reader)
    }

    /// Reads a file back: whether it is there, as it was written.
    ///
    /// # Errors
    /// If the disk can't say.
    pub(crate) fn is_intact(&self, file: &TaskFile) -> io::Result<bool> {
        let read = self
            .open(file)
            .and_then(|mut reader| io::copy(&mut reader, &mut io::sink()));
        match read {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// Reads a task's file, or a section of it. Its last bytes come only if all of it is what was written; else there is an error of kind
/// `InvalidData`, which names the file.
#[derive(Debug)]
pub struct TaskFileReader {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    /// Where the buffer ends.
    position: u64,
    end: u64,
    /// Of what came so far.
    crc32c: u32,
    expected: u32,
    buffer: Vec<u8>,
    consumed: usize,
}

impl TaskFileReader {
    fn failed(&self, error: &io::Error) -> io::Error {
        let text = format!("cannot read task file `{}`: {error}", self.path.display());
        io::Error::new(error.kind(), text)
    }

    fn damaged(&self, how: &str) -> io::Error {
        let text = format!("task file `{}` is damaged: {how}{WAY_OUT}", self.path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

impl BufRead for TaskFileReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.consumed < self.buffer.len() || self.position == self.end {
            return Ok(&self.buffer[self.consumed..]);
        }
        let left = self.end - self.position;
        let len = READ_BUFFER_BYTES.min(usize::try_from(left).unwrap_or(READ_BUFFER_BYTES));
        // Whatever fails, nothing of an earlier part is taken for this one.
        self.consumed = 0;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(len, 0);
        match self.file.read_exact_at(&mut buffer, self.position) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(self.damaged("it was cut off"));
            }
            Err(error) => return Err(self.failed(&error)),
        }
        let crc32c = crc32c::crc32c_append(self.crc32c, &buffer);
        let position = self.position + len as u64;
        if position == self.end && crc32c != self.expected {
            return Err(self.damaged("its checksum is not the one that it was written with"));
        }
        (self.crc32c, self.position, self.buffer) = (crc32c, position, buffer);
        Ok(&self.buffer)
    }

    fn consume(&mut self, amount: usize) {
        self.consumed = (self.consumed + amount).min(self.buffer.len());
    }
}

impl Read for TaskFileReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut ready = self.fill_buf()?;
        let n_read = ready.read(out)?;
        self.consume(n_read);
        Ok(n_read)
    }
}

/// The files of one attempt: removed again, unless they are committed.
pub(super) struct AttemptFiles<'a> {
    all: &'a TaskFiles,
    attempt: Attempt,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    finished: Vec<TaskFile>,
    /// Where a free name is looked for.
    next: u32,
    met_full_disk: bool,
}

impl fmt::Debug for AttemptFiles<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AttemptFiles({:?})", self.attempt)
    }
}

impl<'a> AttemptFiles<'a> {
    pub(super) fn new(all: &'a TaskFiles, attempt: Attempt) -> AttemptFiles<'a> {
        AttemptFiles {
            all,
            attempt,
            kept: Mutex::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> &'a TaskFiles {
        self.all
    }

    pub(super) fn create(&self) -> io::Result<TaskFileWriter<'_>> {
        let (disk, files) = (&*self.all.disk, &self.all.files);
        let mut kept = self.kept();
        while kept.next < FILES_MAX {
            let name = TaskFileName {
                attempt: self.attempt,
                nth: kept.next,
            };
            kept.next += 1;
            let path = files.task_file(&name);
            match disk.create_new(&path) {
                Ok(file) => return Ok(TaskFileWriter::new(self, name, path, file)),
                // Another process executes the same attempt.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    kept.met_full_disk |= is_disk_full(&error);
                    let text = format!("cannot create task file `{}`: {error}", path.display());
                    return Err(io::Error::new(error.kind(), text));
                }
            }
        }
        let text = format!("a task may write {FILES_MAX} files, and this one has written so many");
        Err(io::Error::other(text))
    }

    /// Whether a file could not be written for want of room, whatever the task made of that.
    pub(super) fn met_full_disk(&self) -> bool {
        self.kept().met_full_disk
    }

    /// What the attempt is to commit.
    pub(super) fn finished(&self) -> Vec<TaskFile> {
        self.kept().finished.clone()
    }

    /// The attempt goes on to its commit: its files stay.
    pub(super) fn keep(self) {
        self.kept().finished.clear();
    }
}

impl Drop for AttemptFiles<'_> {
    fn drop(&mut self) {
        for file in std::mem::take(&mut self.kept().finished) {
            let path = self.all.files.task_files().join(file.name);
            // Whatever stays is removed at the job's end.
            let _ = self.all.disk.remove_file(&path);
        }
    }
}

/// A file that a task writes. One that is not [finished](Self::finish) is removed.
#[derive(Debug)]
pub struct TaskFileWriter<'a> {
    of: &'a AttemptFiles<'a>,
    name: TaskFileName,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    /// Bytes that left the buffer.
    n_flushed: u64,
    /// Of all sections that were ended.
    ended: Section,
    sections: Vec<Section>,
    /// What came since.
    open: Section,
    is_finished: bool,
}

impl<'a> TaskFileWriter<'a> {
    fn new(
        of: &'a AttemptFiles<'a>,
        name: TaskFileName,
        path: PathBuf,
        file: Arc<dyn DiskFile>,
    ) -> TaskFileWriter<'a> {
        let nothing = Section { bytes: 0, crc32c: 0 };
        TaskFileWriter {
            of,
            name,
            path,
            file,
            buffer: Vec::new(),
            n_flushed: 0,
            ended: nothing,
            sections: Vec::new(),
            open: nothing,
            is_finished: false,
        }
    }

    /// Ends a section: what was written since the last one ended, or nothing. Sections are read, and checked, one by one: a task that
    /// writes one for each task of the next round hands every one of those its part.
    pub fn end_section(&mut self) {
        let section = std::mem::replace(&mut self.open, Section { bytes: 0, crc32c: 0 });
        self.ended = joined(self.ended, section);
        self.sections.push(section);
    }

    /// Makes the file durable. Bytes after the last section are one more.
    ///
    /// # Errors
    /// If the disk fails, or is full.
    pub fn finish(mut self) -> io::Result<TaskFile> {
        if !self.sections.is_empty() && self.open.bytes > 0 {
            self.end_section();
        }
        self.flush()?;
        let disk = &*self.of.all.disk;
        let synced = self
            .file
            .sync_data()
            .and_then(|()| disk.sync_dir(&self.of.all.files.task_files()));
        synced.map_err(|error| self.failed(&error))?;
        self.is_finished = true;
        let Section { bytes, crc32c } = joined(self.ended, self.open);
        let file = TaskFile {
            name: self.name.to_string(),
            bytes,
            crc32c,
            sections: std::mem::take(&mut self.sections),
        };
        self.of.kept().finished.push(file.clone());
        Ok(file)
    }

    fn write_out(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all_at(bytes, self.n_flushed);
        written.map_err(|error| self.failed(&error))?;
        self.n_flushed += bytes.len() as u64;
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> io::Error {
        self.of.kept().met_full_disk |= is_disk_full(error);
        let text = format!("cannot write task file `{}`: {error}", self.path.display());
        io::Error::new(error.kind(), text)
    }
}

fn joined(one: Section, other: Section) -> Section {
    Section {
        bytes: one.bytes + other.bytes,
        crc32c: crc32c::crc32c_combine(one.crc32c, other.crc32c, other.bytes as usize),
    }
}

impl Write for TaskFileWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > WRITE_BUFFER_BYTES {
            self.flush()?;
        }
        if bytes.len() >= WRITE_BUFFER_BYTES {
            self.write_out(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.open.bytes += bytes.len() as u64;
        self.open.crc32c = crc32c::crc32c_append(self.open.crc32c, bytes);
        Ok(bytes.len())
    }

    /// Hands the buffer to the operating system; nothing is durable before [`finish`](TaskFileWriter::finish).
    fn flush(&mut self) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = self.write_out(&buffer);
        if written.is_ok() {
            buffer.clear();
        }
        self.buffer = buffer;
        written
    }
}

impl Drop for TaskFileWriter<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            // Whatever stays is removed at the job's end.
            let _ = self.of.all.disk.remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests;
