//! Makes a folder that nobody but its owner may read, complete or not at all.

use crate::cluster_folder::ClusterError;
use rustix::fs::{CWD, RenameFlags};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What is in it; names are relative to it.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Folders, each after the one that it is in.
    pub(crate) folders: Vec<String>,
    /// Files and their text.
    pub(crate) files: Vec<(String, String)>,
}

/// Writes a folder under another name, and gives it its own once all of it is durable.
///
/// # Errors
/// If something has its name, or the storage fails; nothing is left behind.
pub(crate) fn write(path: &Path, contents: &Contents) -> Result<(), ClusterError> {
    let Some(name) = path.file_name() else {
        return Err(ClusterError::Exists(path.to_path_buf()));
    };
    let mut incomplete = name.to_owned();
    incomplete.push(format!(".{}.partial", std::process::id()));
    let incomplete = path.with_file_name(incomplete);
    let written = try_write(&incomplete, path, contents);
    if written.is_err() {
        let _ = fs::remove_dir_all(&incomplete);
    }
    written
}

fn try_write(incomplete: &Path, path: &Path, contents: &Contents) -> Result<(), ClusterError> {
    let io_error = |path: &Path| {
        let path = path.to_path_buf();
        move |source| ClusterError::Io { path, source }
    };
    let folders = contents.folders.iter().map(|name| incomplete.join(name));
    let folders: Vec<PathBuf> = std::iter::once(incomplete.to_path_buf()).chain(folders).collect();
    for folder in &folders {
        DirBuilder::new()
            .mode(0o700)
            .create(folder)
            .map_err(io_error(folder))?;
    }
    for (name, text) in &contents.files {
        let file = incomplete.join(name);
        write_secret(&file, text.as_bytes()).map_err(io_error(&file))?;
    }
    // The outermost last: it makes the others reachable.
    for folder in folders.iter().rev() {
        File::open(folder)
            .and_then(|dir| dir.sync_all())
            .map_err(io_error(folder))?;
    }
    rustix::fs::renameat_with(CWD, incomplete, CWD, path, RenameFlags::NOREPLACE).map_err(
        |error| match error {
            rustix::io::Errno::EXIST => ClusterError::Exists(path.to_path_buf()),
            error => io_error(path)(error.into()),
        },
    )?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(io_error(parent))
}

fn write_secret(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}
