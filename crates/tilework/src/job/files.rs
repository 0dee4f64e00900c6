//! The files that jobs read, wherever their process has them.

use super::Matrix;
use crate::failure::CliError;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tilework_store::disk::{Disk, DiskFile, RealDisk};
use tilework_store::identity::files_below;
use tilework_store::matrix::MatrixSource;

/// Where a job's files are. In one process these are all of the machine's; on a cluster those in data roots, which may be elsewhere on
/// each machine: a job that opens its files here runs on both.
#[derive(Debug, Clone)]
pub struct Files(Arc<dyn Disk>);

impl Files {
    /// All of this machine.
    pub fn of_this_machine() -> Files {
        Files(Arc::new(RealDisk))
    }

    pub(crate) fn on(disk: Arc<dyn Disk>) -> Files {
        Files(disk)
    }

    /// Opens a file, at its beginning.
    ///
    /// # Errors
    /// If it can't be opened, with its path.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<InputFile, CliError> {
        let path = path.as_ref();
        let failed = |error: io::Error| CliError::io("open", path, &error);
        let file = self.0.open_read(path).map_err(failed)?;
        let len = file.stat().map_err(failed)?.len;
        Ok(InputFile { file, len, at: 0 })
    }

    /// Opens a matrix: `.npy`, or text with one row per line.
    ///
    /// # Errors
    /// If it can't be read, or is no matrix.
    pub fn matrix(&self, path: impl AsRef<Path>) -> Result<Matrix, CliError> {
        Ok(Matrix(MatrixSource::open(&*self.0, path.as_ref())?))
    }

    /// All files in a folder and the folders in it, in the order of their paths, with their sizes in bytes.
    ///
    /// # Errors
    /// If a folder can't be read.
    pub fn list(&self, folder: impl AsRef<Path>) -> Result<Vec<(PathBuf, u64)>, CliError> {
        let folder = folder.as_ref();
        let listed = files_below(&*self.0, folder).and_then(|paths| {
            let with_size = |path: PathBuf| {
                let stat = self.0.stat(&path)?.ok_or(io::ErrorKind::NotFound)?;
                Ok((path, stat.len))
            };
            paths.into_iter().map(with_size).collect()
        });
        listed.map_err(|error: io::Error| CliError::io("list", folder, &error))
    }
}

/// An open file, to be read in order or from anywhere.
#[derive(Debug)]
pub struct InputFile {
    file: Arc<dyn DiskFile>,
    len: u64,
    at: u64,
}

impl InputFile {
    /// Its size in bytes, as it was when it was opened.
    pub fn size(&self) -> u64 {
        self.len
    }
}

impl Read for InputFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n_bytes = self.file.read_at(buffer, self.at)?;
        self.at += n_bytes as u64;
        Ok(n_bytes)
    }
}

impl Seek for InputFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a place before the file's beginning")
        })?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_read_from_anywhere_and_a_folder_listed_with_all_below() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("inner")).unwrap();
        let (one, two) = (place.path().join("b"), place.path().join("inner/a"));
        fs::write(&one, "0123456789").unwrap();
        fs::write(&two, "").unwrap();
        let files = Files::of_this_machine();
        assert_eq!(files.list(place.path()).unwrap(), [(one.clone(), 10), (two, 0)]);
        let mut file = files.open(&one).unwrap();
        let mut text = String::new();
        file.seek(SeekFrom::End(-3)).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), file.size()), ("789", 10));
        assert!(file.seek(SeekFrom::Current(-11)).is_err());
        let error = files.open(place.path().join("none")).unwrap_err();
        assert!(error.message.contains("none"), "{}", error.message);
    }
}
