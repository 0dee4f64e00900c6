//! What a job leaves beside its output, and removing it: only files that are known by name, never the output.

use crate::failure::CliError;
use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use tilework_store::disk::{Disk, parent_dir, remove_if_there};
use tilework_store::journal::JobFiles;
use tilework_store::journal::task_files::{clear_task_files, list_task_files};
use tilework_store::lock::{Lock, LockError, Owner};

/// A file or folder that may be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes of it; of a folder, of the files in it.
    pub len: u64,
}

/// The partial output and the folder of one output. Without a folder of ours, a `.partial` file is not ours either.
pub fn list(disk: &dyn Disk, files: &JobFiles) -> Result<Vec<Leftover>, CliError> {
    let mut found = Vec::new();
    let folder = disk.stat(&files.folder());
    if folder
        .map_err(|error| CliError::io("look at", &files.folder(), &error))?
        .is_none()
    {
        return Ok(found);
    }
    for path in [files.partial(), files.folder()] {
        let io_error = |error: io::Error| CliError::io("look at", &path, &error);
        let Some(stat) = disk.stat(&path).map_err(io_error)? else {
            continue;
        };
        let mut len = stat.len;
        if stat.is_dir {
            let lens = disk
                .read_dir(&path)
                .map_err(io_error)?
                .into_iter()
                .map(|name| disk.stat(&path.join(name)));
            len = lens.filter_map(Result::ok).flatten().map(|stat| stat.len).sum();
            for name in list_task_files(disk, files).map_err(io_error)? {
                let stat = disk.stat(&files.task_file(&name)).map_err(io_error)?;
                len += stat.map_or(0, |stat| stat.len);
            }
        }
        found.push(Leftover { path, len });
    }
    Ok(found)
}

/// Removes the partial output and the folder, unless a run holds the lock.
pub fn remove(disk: &dyn Disk, files: &JobFiles) -> Result<(), CliError> {
    let _lock = take_lock(disk, files)?;
    let io_error = |error: io::Error| CliError::io("remove", &files.folder(), &error);
    // Commits go before the output that they speak of: a crash in between leaves no commit without its bytes.
    remove_journal(disk, files).map_err(io_error)?;
    let partial = files.partial();
    remove_if_there(disk, &partial).map_err(|error| CliError::io("remove", &partial, &error))?;
    remove_folder(disk, files)
}

/// Refuses while a run holds the lock. Without a folder there is nothing to lock.
fn take_lock(disk: &dyn Disk, files: &JobFiles) -> Result<Option<Lock>, CliError> {
    let stat = disk
        .stat(&files.folder())
        .map_err(|error| CliError::io("look at", &files.folder(), &error))?;
    if stat.is_none() {
        return Ok(None);
    }
    match Lock::acquire(disk, &files.lock(), &Owner::current()) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Held(owner)) => Err(in_use(files, owner.as_ref())),
        Err(LockError::Io(error)) => Err(CliError::io("lock", &files.lock(), &error)),
    }
}

/// The refusal while a run goes on.
pub fn in_use(files: &JobFiles, owner: Option<&Owner>) -> CliError {
    let owner = owner.map_or("another process".to_owned(), Owner::to_string);
    CliError::usage(format!(
        "`{}` is being computed by {owner}",
        files.output().display()
    ))
    .with_next("wait for it, or stop that process first")
}

/// Removes the folder with lock and journal, whose lock the caller holds; a foreign file in it is kept and named.
pub fn remove_folder(disk: &dyn Disk, files: &JobFiles) -> Result<(), CliError> {
    let folder = files.folder();
    let io_error = |error: io::Error| CliError::io("remove", &folder, &error);
    if disk.stat(&folder).map_err(io_error)?.is_none() {
        return Ok(());
    }
    remove_journal(disk, files).map_err(io_error)?;
    clear_task_files(disk, files, &|_| true).map_err(io_error)?;
    // The lock goes last: as long as it is there, nobody takes the folder for a fresh one.
    remove_if_there(disk, &files.lock()).map_err(io_error)?;
    if let Some(name) = disk.read_dir(&folder).map_err(io_error)?.first() {
        let message = format!(
            "`{}` holds `{}`, which is not ours: it is kept",
            folder.display(),
            name.display()
        );
        return Err(
            CliError::usage(message).with_next(format!("look at it, then: rm -r {}", folder.display()))
        );
    }
    disk.remove_dir(&folder).map_err(io_error)?;
    let parent = parent_dir(files.output());
    disk.sync_dir(parent)
        .map_err(|error| CliError::io("sync", parent, &error))
}

/// Removes the journal, durably; the caller holds the lock.
pub fn remove_journal(disk: &dyn Disk, files: &JobFiles) -> io::Result<()> {
    let folder = files.folder();
    if disk.stat(&folder)?.is_none() {
        return Ok(());
    }
    for name in disk.read_dir(&folder)? {
        if is_ours(&name) {
            disk.remove_file(&folder.join(name))?;
        }
    }
    disk.sync_dir(&folder)
}

fn is_ours(name: &OsStr) -> bool {
    JobFiles::is_journal(name) || JobFiles::is_alarms(name)
}
