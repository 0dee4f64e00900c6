//! The job's folder beside its output: who runs it, and what its journal says.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tilework_core::ids::{RunEpoch, TaskIdx};
use tilework_core::record::RunStart;
use tilework_store::disk::Disk;
use tilework_store::journal::task_files::clear_task_files;
use tilework_store::journal::{JobFiles, Recovered, SegmentWriter, make_durable, recover};
use tilework_store::lock::{Lock, LockError, Owner};

/// What stands beside an output.
#[derive(Debug, Clone, PartialEq)]
pub enum FolderState {
    /// No journal: nothing was started.
    Empty,
    /// A run was started and did not finish.
    Unfinished(Box<Recovered>),
    /// The output is complete.
    Finished(Box<Recovered>),
}

/// Why a job's folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another run holds it.
    #[error("`{}` is being computed by {}", .output.display(),
            .owner.as_ref().map_or("another process".to_owned(), Owner::to_string))]
    Busy {
        /// The output.
        output: PathBuf,
        /// Who runs.
        owner: Option<Owner>,
    },
    /// The storage failed.
    #[error("cannot use `{}`: {source}", .path.display())]
    Io {
        /// What was accessed.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// A job's folder, locked for this run.
#[derive(Debug)]
pub struct JobFolder {
    disk: Arc<dyn Disk>,
    files: JobFiles,
    state: FolderState,
    highest_segment: RunEpoch,
    created: bool,
    /// Whether what an earlier job left is gone.
    discarded: bool,
    lock: Option<Lock>,
}

/// Reads what stands beside an output without locking or changing anything.
pub fn inspect(disk: &dyn Disk, files: &JobFiles) -> Result<FolderState, FolderError> {
    read_state(disk, files)
        .map(|(state, _)| state)
        .map_err(|source| FolderError::Io {
            path: files.folder(),
            source,
        })
}

fn read_state(disk: &dyn Disk, files: &JobFiles) -> io::Result<(FolderState, RunEpoch)> {
    let Some((mut recovered, highest)) = recover(disk, files)? else {
        return Ok((FolderState::Empty, RunEpoch(0)));
    };
    if recovered.job_text.is_none() {
        return Ok((FolderState::Empty, highest));
    }
    let partial_exists = disk.stat(&files.partial())?.is_some();
    if !partial_exists && recovered.report.is_some() && disk.stat(files.output())?.is_some() {
        return Ok((FolderState::Finished(Box::new(recovered)), highest));
    }
    if !partial_exists {
        // The commits' outputs are gone with the partial file: only the plan is worth keeping.
        recovered.commits.clear();
        (recovered.round, recovered.damaged_round) = (None, None);
    }
    Ok((FolderState::Unfinished(Box::new(recovered)), highest))
}

impl JobFolder {
    /// Creates the folder if need be, locks it, and reads the journal.
    pub fn open(disk: Arc<dyn Disk>, output: &Path) -> Result<JobFolder, FolderError> {
        JobFolder::open_as(disk, output, false)
    }

    /// Opens the folder for a driver that the cluster's lease has made the only one, also while an earlier one still holds the lock. One
    /// that is not there is an error: it may be on a file system that is away.
    pub fn take_over(disk: Arc<dyn Disk>, output: &Path) -> Result<JobFolder, FolderError> {
        JobFolder::open_as(disk, output, true)
    }

    fn open_as(disk: Arc<dyn Disk>, output: &Path, takes_over: bool) -> Result<JobFolder, FolderError> {
        let files = JobFiles::beside(output);
        let folder = files.folder();
        let io_error = |source| FolderError::Io {
            path: folder.clone(),
            source,
        };
        if takes_over && disk.stat(&folder).map_err(io_error)?.is_none() {
            return Err(io_error(io::ErrorKind::NotFound.into()));
        }
        let created = match disk.create_dir(&folder) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(io_error(error)),
        };
        let lock = match Lock::acquire(&*disk, &files.lock(), &Owner::current()) {
            Ok(lock) => Some(lock),
            // Whoever holds it may be stopped, and is fenced off.
            Err(LockError::Held(_)) if takes_over => None,
            Err(LockError::Held(owner)) => {
                let output = output.to_path_buf();
                return Err(FolderError::Busy { output, owner });
            }
            Err(LockError::Io(source)) => {
                // A lock that was made and not taken may be another's by now: then the folder is not empty, and stays.
                if created {
                    let _ = disk.remove_dir(&folder);
                }
                return Err(io_error(source));
            }
        };
        let mut opened = JobFolder {
            disk,
            files,
            state: FolderState::Empty,
            highest_segment: RunEpoch(0),
            created,
            discarded: false,
            lock,
        };
        match opened.read() {
            Ok(()) => Ok(opened),
            Err(source) => {
                opened.abandon();
                Err(io_error(source))
            }
        }
    }

    /// Reads what stands there; what is built on that is durable first.
    fn read(&mut self) -> io::Result<()> {
        if self.created {
            self.disk.sync_dir(&self.files.parent())?;
        }
        (self.state, self.highest_segment) = read_state(&*self.disk, &self.files)?;
        make_durable(&*self.disk, &self.files)
    }

    /// What stands there.
    pub fn state(&self) -> &FolderState {
        &self.state
    }

    /// Tasks that earlier runs committed and that a resume keeps.
    pub fn n_committed(&self) -> u64 {
        match &self.state {
            FolderState::Unfinished(recovered) => recovered.commits.len() as u64,
            FolderState::Empty | FolderState::Finished(_) => 0,
        }
    }

    /// The same, of the current round's `n_tasks`.
    pub fn committed_tasks(&self, n_tasks: u64) -> Vec<TaskIdx> {
        match &self.state {
            FolderState::Unfinished(recovered) => {
                let tasks = recovered.commits.keys().map(|(_, task)| *task);
                tasks.filter(|task| task.0 < n_tasks).collect()
            }
            FolderState::Empty | FolderState::Finished(_) => Vec::new(),
        }
    }

    /// The job's files.
    pub fn files(&self) -> &JobFiles {
        &self.files
    }

    /// The disk they are on.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Forgets an earlier job: its journal first, so that a crash leaves no commits without their output. Epochs go on, so that nobody
    /// who still works for the earlier job is taken for a worker of the next one.
    pub fn discard(&mut self) -> Result<(), FolderError> {
        if self.discarded {
            return Ok(());
        }
        let next = self.next_epoch();
        let has_segments = self.try_discard(next).map_err(|source| FolderError::Io {
            path: self.files.folder(),
            source,
        })?;
        if has_segments {
            self.highest_segment = next;
        }
        self.state = FolderState::Empty;
        self.discarded = true;
        Ok(())
    }

    /// Whether there was a journal: then an empty segment `next` keeps count of the epochs.
    fn try_discard(&self, next: RunEpoch) -> io::Result<bool> {
        let folder = self.files.folder();
        let names = self.disk.read_dir(&folder)?;
        let is_segment = |name: &&OsString| JobFiles::segment_epoch(name).is_some();
        let has_segments = names.iter().any(|name| is_segment(&name));
        if has_segments {
            self.disk.create_new(&self.files.segment(next))?;
            self.disk.sync_dir(&folder)?;
        }
        for name in names.iter().filter(|name| JobFiles::is_journal(name)) {
            self.disk.remove_file(&folder.join(name))?;
        }
        self.disk.sync_dir(&folder)?;
        clear_task_files(&*self.disk, &self.files, &|_| true)?;
        if self.disk.stat(&self.files.partial())?.is_some() {
            self.disk.remove_file(&self.files.partial())?;
            self.disk.sync_dir(&self.files.parent())?;
        }
        Ok(has_segments)
    }

    fn next_epoch(&self) -> RunEpoch {
        match &self.state {
            FolderState::Empty => RunEpoch(self.highest_segment.0.saturating_add(1)),
            FolderState::Unfinished(recovered) | FolderState::Finished(recovered) => {
                recovered.next_epoch(self.highest_segment)
            }
        }
    }

    /// Drops what was read of the journal, which grows with the number of tasks.
    pub(crate) fn forget_commits(&mut self) {
        if let FolderState::Unfinished(recovered) | FolderState::Finished(recovered) = &mut self.state {
            recovered.commits.clear();
        }
    }

    /// Removes what a run that never started left: only what this call to [`open`](Self::open) created.
    pub fn abandon(self) {
        if self.created {
            let files = &self.files;
            let _ = clear_task_files(&*self.disk, files, &|_| true);
            for path in [files.partial(), files.lock()] {
                let _ = self.disk.remove_file(&path);
            }
            let _ = self.disk.remove_dir(&files.folder());
        }
    }

    /// Ends the use of a finished job's folder: of it only the journal is kept.
    pub fn finish(self) -> Result<(), FolderError> {
        let io_error = |source| FolderError::Io {
            path: self.files.folder(),
            source,
        };
        let lock = match self.lock {
            Some(lock) => lock,
            // It was held when this driver took over; whoever held it may be gone by now, and then nobody else would remove it.
            None => match Lock::acquire(&*self.disk, &self.files.lock(), &Owner::current()) {
                Ok(lock) => lock,
                Err(LockError::Held(_)) => return Ok(()),
                Err(LockError::Io(source)) => return Err(io_error(source)),
            },
        };
        lock.remove(&*self.disk).map_err(io_error)
    }

    /// Ends the use of a folder whose job another driver goes on with. One that has finished it by now has left the lock to its holder.
    pub fn let_go(self) {
        let is_finished = || matches!(inspect(&*self.disk, &self.files), Ok(FolderState::Finished(_)));
        if let Some(lock) = self.lock
            && is_finished()
        {
            let _ = lock.remove(&*self.disk);
        }
    }

    /// Opens a segment for this run, whose number is at least `at_least`.
    pub fn start_run(
        &self,
        at_least: RunEpoch,
        job_text: &[u8],
        started_unix_ms: u64,
    ) -> io::Result<(RunEpoch, SegmentWriter)> {
        let epoch = self.next_epoch().max(at_least);
        let job = tilework_store::journal::recover::job_id(job_text);
        let run = RunStart {
            job,
            epoch,
            started_unix_ms,
            pid: std::process::id(),
        };
        Ok((
            epoch,
            SegmentWriter::create(&*self.disk, &self.files, job_text, &run)?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;
    use tilework_core::record::Record;
    use tilework_store::disk::RealDisk;

    /// A driver that began a job and was stopped, and another one that took the job over from it.
    fn two_drivers() -> (TempDir, JobFiles, [JobFolder; 2]) {
        let place = tempfile::tempdir().unwrap();
        let output = place.path().join("C.npy");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let first = JobFolder::open(Arc::clone(&disk), &output).unwrap();
        first.start_run(RunEpoch(1), b"job", 0).unwrap();
        let second = JobFolder::take_over(disk, &output).unwrap();
        assert!(first.lock.is_some() && second.lock.is_none());
        (place, JobFiles::beside(&output), [first, second])
    }

    fn complete(folder: &JobFolder) {
        let (_, mut segment) = folder.start_run(RunEpoch(2), b"job", 0).unwrap();
        segment.append(&[Record::Done(b"{}".to_vec())]).unwrap();
        fs::write(folder.files().output(), b"C").unwrap();
    }

    #[test]
    fn a_driver_that_let_go_in_time_leaves_the_lock_to_the_one_that_finishes() {
        let (_place, files, [first, second]) = two_drivers();
        first.let_go();
        assert!(files.lock().exists(), "the job is not finished");
        complete(&second);
        second.finish().unwrap();
        assert!(!files.lock().exists());
    }

    #[test]
    fn a_driver_that_wakes_after_the_end_removes_its_lock() {
        let (_place, files, [first, second]) = two_drivers();
        complete(&second);
        second.finish().unwrap();
        assert!(files.lock().exists(), "nobody else may begin while it is held");
        first.let_go();
        assert!(!files.lock().exists());
    }
}
