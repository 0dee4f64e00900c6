//! The frame of a finished output, its length and its header: what of it was damaged, and how it is made whole again.

use super::{NpyOutput, OutputError, checked_len, failed};
use crate::disk::{Disk, DiskFile, DiskFileExt};
use crate::element_type::Dtype;
use crate::npy::header::{format_header, npy_len};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// What of a finished output's frame is not as it was written: its length, and its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameDamage {
    /// Whether the header differs, or is cut.
    pub header: bool,
    /// The file's length in bytes, where it is another one.
    pub len: Option<u64>,
}

impl FrameDamage {
    /// Whether there is any.
    pub fn is_some(&self) -> bool {
        self.header || self.len.is_some()
    }
}

impl NpyOutput {
    /// Opens a finished output that may have been damaged since, to read it; and what of its frame is.
    pub fn open_to_verify(
        disk: &dyn Disk,
        path: &Path,
        rows: u64,
        cols: u64,
        dtype: Dtype,
    ) -> Result<(NpyOutput, FrameDamage), OutputError> {
        let file = disk.open_read(path).map_err(failed("open", path))?;
        Self::as_it_is(path, file, rows, cols, dtype)
    }

    /// The same, to write what is missing or wrong.
    pub fn open_to_repair(
        disk: &dyn Disk,
        path: &Path,
        rows: u64,
        cols: u64,
        dtype: Dtype,
    ) -> Result<(NpyOutput, FrameDamage), OutputError> {
        let file = disk.open_write(path).map_err(failed("open", path))?;
        Self::as_it_is(path, file, rows, cols, dtype)
    }

    fn as_it_is(
        path: &Path,
        file: Arc<dyn DiskFile>,
        rows: u64,
        cols: u64,
        dtype: Dtype,
    ) -> Result<(NpyOutput, FrameDamage), OutputError> {
        let file_len = checked_len(rows, cols, dtype)?;
        let len = file.stat().map_err(failed("look at", path))?.len;
        let expected = format_header(rows, cols, dtype);
        let mut header = vec![0; len.min(expected.len() as u64) as usize];
        file.read_exact_at(&mut header, 0).map_err(failed("read", path))?;
        let damage = FrameDamage {
            header: header != expected,
            len: (len != file_len).then_some(len),
        };
        Ok((Self::new(path, file, rows, cols, dtype), damage))
    }

    /// Whether the file is long enough to hold these elements.
    pub fn reaches(&self, rows: &Range<u64>, cols: &Range<u64>) -> Result<bool, OutputError> {
        if rows.is_empty() || cols.is_empty() {
            return Ok(true);
        }
        let len = self.file.stat().map_err(failed("look at", &self.path))?.len;
        let n_elements = (rows.end - 1) * self.cols + cols.end;
        Ok(self.data_offset + n_elements * self.dtype.size() <= len)
    }

    /// Gives the file the length that it should have.
    ///
    /// What a file lacks would be read as zeros from then on. So the header of one that is too short is blanked first, durably, and
    /// nothing takes the file for a matrix until [`write_header`](Self::write_header).
    pub fn restore_len(&self, damage: &FrameDamage) -> Result<(), OutputError> {
        let file_len = npy_len(self.rows, self.cols, self.dtype);
        let restore = |len: u64| {
            if len > file_len {
                return self.file.set_len(file_len);
            }
            let blank = vec![0; self.data_offset as usize];
            self.file.write_all_at(&blank, 0)?;
            self.file.sync_data()?;
            self.file.allocate(file_len)
        };
        let restored = damage.len.map_or(Ok(()), restore);
        restored
            .and_then(|()| self.file.sync_data())
            .map_err(|error| self.write_error(error, file_len))
    }

    /// Writes the header, durably.
    pub fn write_header(&self) -> Result<(), OutputError> {
        let header = format_header(self.rows, self.cols, self.dtype);
        self.file
            .write_all_at(&header, 0)
            .map_err(|error| self.write_error(error, header.len() as u64))?;
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_disk::{CrashMode, FakeDisk};
    use crate::matrix::MatrixSource;

    const PATH: &str = "/c.npy";

    fn create(disk: &FakeDisk) -> NpyOutput {
        NpyOutput::create(disk, Path::new(PATH), 3, 4, Dtype::F64).unwrap()
    }

    /// Whoever reads a matrix that lacks its end finds no matrix, until all of it is there again.
    #[test]
    fn a_file_that_was_cut_is_no_matrix_until_its_header_is_written() {
        for len in [0, 60, 128, 200] {
            let disk = FakeDisk::new(1);
            let whole = create(&disk);
            whole.write_rows(0, 0..4, &[1.0_f64; 12], 4, 3).unwrap();
            let bytes = disk.contents(PATH).unwrap();
            disk.install(PATH, &bytes[..len]);
            let path = Path::new(PATH);
            let (output, damage) = NpyOutput::open_to_repair(&disk, path, 3, 4, Dtype::F64).unwrap();
            let expected = FrameDamage {
                header: len < 128,
                len: Some(len as u64),
            };
            assert_eq!(damage, expected);
            assert_eq!(output.reaches(&(0..1), &(0..4)).unwrap(), len >= 160, "{len}");
            assert!(!output.reaches(&(2..3), &(1..2)).unwrap());
            output.restore_len(&damage).unwrap();
            assert!(output.reaches(&(0..3), &(0..4)).unwrap());
            for disk in [&disk, &disk.after_crash(CrashMode::Vanish)] {
                assert!(MatrixSource::open(disk, path).is_err());
                assert!(NpyOutput::open_existing(disk, path, 3, 4, Dtype::F64).is_err());
            }
            output.write_rows(0, 0..4, &[1.0_f64; 12], 4, 3).unwrap();
            output.write_header().unwrap();
            let after = disk.after_crash(CrashMode::Vanish);
            assert!(after.contents(PATH).unwrap() == bytes, "{len}");
        }
    }

    #[test]
    fn a_power_cut_while_a_file_gets_its_length_again_makes_no_matrix_of_it() {
        for mode in CrashMode::ALL {
            for (n_syncs, seed) in (1..).flat_map(|n| (0..64).map(move |seed| (n, seed))) {
                let disk = FakeDisk::new(seed);
                create(&disk);
                let bytes = disk.contents(PATH).unwrap();
                disk.install(PATH, &bytes[..200]);
                let path = Path::new(PATH);
                let (output, damage) = NpyOutput::open_to_repair(&disk, path, 3, 4, Dtype::F64).unwrap();
                disk.crash_after_syncs(n_syncs);
                let restored = output.restore_len(&damage);
                assert_ne!(restored.is_ok(), disk.is_frozen());
                let left = disk.after_crash(mode);
                assert!(
                    MatrixSource::open(&left, path).is_err(),
                    "{mode:?}, sync {n_syncs}, {seed}"
                );
                if restored.is_ok() {
                    assert!(n_syncs > 1, "no power was cut");
                    break;
                }
            }
        }
    }

    #[test]
    fn what_was_added_to_a_file_is_cut_off() {
        let disk = FakeDisk::new(1);
        create(&disk);
        let bytes = disk.contents(PATH).unwrap();
        disk.install(PATH, &[&bytes[..], b"more"].concat());
        let path = Path::new(PATH);
        let (_, damage) = NpyOutput::open_to_verify(&disk, path, 3, 4, Dtype::F64).unwrap();
        assert_eq!(damage.len, Some(bytes.len() as u64 + 4));
        let (output, _) = NpyOutput::open_to_repair(&disk, path, 3, 4, Dtype::F64).unwrap();
        output.restore_len(&damage).unwrap();
        assert!(disk.after_crash(CrashMode::Vanish).contents(PATH).unwrap() == bytes);
    }
}
