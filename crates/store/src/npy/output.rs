//! An output matrix while it is written: the `.partial` file.
//!
//! The file has its full length and its header from the start, so that a full disk shows before any work is done.
//! Rows are written in any order, by any number of threads, as long as no two write the same element.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::header::{format_header, npy_len};
use crate::disk::{Disk, DiskFile, DiskFileExt, FileId, is_disk_full, parent_dir};
use crate::element_type::{Dtype, Scalar};

pub use frame::FrameDamage;

mod frame;

/// A partial output file, open for writing and reading back.
#[derive(Debug)]
pub struct NpyOutput {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    rows: u64,
    cols: u64,
    dtype: Dtype,
    data_offset: u64,
    bytes_written: AtomicU64,
    sync_failed: Mutex<bool>,
}

/// Why an output could not be created, written or read back.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Not enough room: free some, or write elsewhere.
    #[error("no room for `{}`: it needs {needed} bytes, {free} are free", path.display())]
    DiskFull {
        /// The partial file.
        path: PathBuf,
        /// Bytes of the whole file, or of the write that failed.
        needed: u64,
        /// Bytes free at the time of the failure.
        free: u64,
    },
    /// The storage failed.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The partial file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The partial file that is there is not this output's.
    #[error("`{}` is not the partial output of this job: {what}", path.display())]
    Foreign {
        /// The partial file.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// No file system can hold a matrix of this shape.
    #[error("a {rows} x {cols} matrix of {dtype} is too large for any file")]
    TooLarge {
        /// Number of rows.
        rows: u64,
        /// Number of columns.
        cols: u64,
        /// Type of the elements.
        dtype: Dtype,
    },
}

impl NpyOutput {
    /// Creates the partial file with its header and full length, durable when this returns.
    ///
    /// A stale file of this name is removed first, so that whoever still has it open cannot reach the new one.
    pub fn create(
        disk: &dyn Disk,
        partial: &Path,
        rows: u64,
        cols: u64,
        dtype: Dtype,
    ) -> Result<NpyOutput, OutputError> {
        let file_len = checked_len(rows, cols, dtype)?;
        if disk.stat(partial).map_err(failed("look at", partial))?.is_some() {
            disk.remove_file(partial)
                .map_err(failed("remove the stale", partial))?;
        }
        let file = disk.create_new(partial).map_err(failed("create", partial))?;
        if let Err(error) = fill(disk, &*file, partial, &format_header(rows, cols, dtype), file_len) {
            // The first error is the one to tell; what is left of the file is removed at the next start.
            let _ = disk.remove_file(partial);
            return Err(error);
        }
        Ok(Self::new(partial, file, rows, cols, dtype))
    }

    /// Opens the partial file of an earlier run, whose length and header are those of this matrix.
    pub fn open_existing(
        disk: &dyn Disk,
        partial: &Path,
        rows: u64,
        cols: u64,
        dtype: Dtype,
    ) -> Result<NpyOutput, OutputError> {
        let (output, damage) = Self::open_to_repair(disk, partial, rows, cols, dtype)?;
        let foreign = |what| OutputError::Foreign {
            path: partial.to_owned(),
            what,
        };
        if let Some(len) = damage.len {
            let file_len = npy_len(rows, cols, dtype);
            return Err(foreign(format!("it is {len} bytes long instead of {file_len}")));
        }
        if damage.header {
            return Err(foreign(format!(
                "its header is not that of {rows} x {cols} {dtype}"
            )));
        }
        Ok(output)
    }

    fn new(partial: &Path, file: Arc<dyn DiskFile>, rows: u64, cols: u64, dtype: Dtype) -> Self {
        let data_offset = format_header(rows, cols, dtype).len() as u64;
        Self {
            path: partial.to_owned(),
            file,
            rows,
            cols,
            dtype,
            data_offset,
            bytes_written: AtomicU64::new(0),
            sync_failed: Mutex::new(false),
        }
    }

    /// The partial file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which file it is, whatever it is called by now.
    pub fn file_id(&self) -> Result<FileId, OutputError> {
        let stat = self.file.stat().map_err(failed("look at", &self.path))?;
        Ok(stat.id())
    }

    /// Number of rows of the whole output.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Number of columns of the whole output.
    pub fn cols(&self) -> u64 {
        self.cols
    }

    /// Type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Writes `n_rows` rows from `first_row` on, of each the columns `cols`.
    ///
    /// Row i lies at `data[i * leading_dimension..]`. One write per row; one in all where rows are whole and adjacent.
    ///
    /// # Panics
    /// If the block leaves the matrix, `data` is too short for it, or `T` is not the output's dtype.
    pub fn write_rows<T: Scalar>(
        &self,
        first_row: u64,
        cols: Range<u64>,
        data: &[T],
        leading_dimension: usize,
        n_rows: usize,
    ) -> Result<(), OutputError> {
        let runs = self.runs::<T>(first_row, cols, data.len(), leading_dimension, n_rows);
        for run in runs {
            let bytes = bytemuck::cast_slice(&data[run.elements]);
            self.file
                .write_all_at(bytes, run.offset)
                .map_err(|error| self.write_error(error, bytes.len() as u64))?;
            self.bytes_written
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Reads back what [`write_rows`](Self::write_rows) wrote, with the same arguments.
    ///
    /// # Panics
    /// As `write_rows`.
    pub fn read_rows<T: Scalar>(
        &self,
        first_row: u64,
        cols: Range<u64>,
        out: &mut [T],
        leading_dimension: usize,
        n_rows: usize,
    ) -> Result<(), OutputError> {
        let runs = self.runs::<T>(first_row, cols, out.len(), leading_dimension, n_rows);
        for run in runs {
            let bytes = bytemuck::cast_slice_mut(&mut out[run.elements]);
            self.file
                .read_exact_at(bytes, run.offset)
                .map_err(failed("read back", &self.path))?;
        }
        Ok(())
    }

    /// Makes all that was written durable.
    pub fn sync_data(&self) -> Result<(), OutputError> {
        // The system tells of a failed write-back once per open file, to whoever syncs first. All who share the file must
        // hear of it, so syncs take turns and the first failure stays.
        let mut failed = self.sync_failed.lock().unwrap_or_else(PoisonError::into_inner);
        if *failed {
            let earlier = io::Error::other("an earlier sync of this file failed: what it holds is unknown");
            return Err(self.write_error(earlier, 0));
        }
        self.file.sync_data().map_err(|error| {
            *failed = true;
            self.write_error(error, 0)
        })
    }

    /// Bytes of elements written so far.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written.load(Ordering::Relaxed)
    }

    /// The contiguous runs of a block, after checking its bounds.
    fn runs<T: Scalar>(
        &self,
        first_row: u64,
        cols: Range<u64>,
        data_len: usize,
        leading_dimension: usize,
        n_rows: usize,
    ) -> impl Iterator<Item = Run> + use<T> {
        let width = cols.end.checked_sub(cols.start).expect("columns in order") as usize;
        assert_eq!(T::DTYPE, self.dtype, "dtype of `{}`", self.path.display());
        assert!(cols.end <= self.cols, "columns {cols:?} of {}", self.cols);
        assert!(
            n_rows as u64 <= self.rows && first_row <= self.rows - n_rows as u64,
            "row {first_row} + {n_rows}"
        );
        let is_empty = width == 0 || n_rows == 0;
        if !is_empty {
            assert!(
                leading_dimension >= width || n_rows == 1,
                "leading dimension {leading_dimension} < {width}"
            );
            assert!(
                (n_rows - 1) * leading_dimension + width <= data_len,
                "{data_len} elements are too few"
            );
        }

        let merged = width as u64 == self.cols && leading_dimension == width;
        let (n_runs, run_len) = match (is_empty, merged) {
            (true, _) => (0, 0),
            (_, true) => (1, n_rows * width),
            (_, false) => (n_rows, width),
        };
        let first = self.data_offset + (first_row * self.cols + cols.start) * self.dtype.size();
        let row_bytes = self.cols * self.dtype.size();
        (0..n_runs).map(move |run_idx| {
            let start = run_idx * leading_dimension;
            Run {
                elements: start..start + run_len,
                offset: first + run_idx as u64 * row_bytes,
            }
        })
    }

    /// A full disk can still show here: where storage could not be reserved, or on file systems that copy on write.
    fn write_error(&self, source: io::Error, needed: u64) -> OutputError {
        if is_disk_full(&source) {
            return OutputError::DiskFull {
                path: self.path.clone(),
                needed,
                free: 0,
            };
        }
        failed("write", &self.path)(source)
    }
}

/// Elements of the caller's slice, and where in the file they belong.
struct Run {
    elements: Range<usize>,
    offset: u64,
}

fn fill(
    disk: &dyn Disk,
    file: &dyn DiskFile,
    partial: &Path,
    header: &[u8],
    file_len: u64,
) -> Result<(), OutputError> {
    file.allocate(file_len)
        .map_err(|error| full_or_failed(disk, "reserve room for", partial, file_len, error))?;
    file.write_all_at(header, 0)
        .and_then(|()| file.sync_data())
        .map_err(|error| full_or_failed(disk, "write", partial, file_len, error))?;
    disk.sync_dir(parent_dir(partial))
        .map_err(failed("sync the directory of", partial))
}

fn full_or_failed(
    disk: &dyn Disk,
    action: &'static str,
    path: &Path,
    needed: u64,
    source: io::Error,
) -> OutputError {
    if !is_disk_full(&source) {
        return failed(action, path)(source);
    }
    let free = disk.free_bytes(parent_dir(path)).unwrap_or(0);
    OutputError::DiskFull {
        path: path.to_owned(),
        needed,
        free,
    }
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> OutputError {
    move |source| OutputError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

fn checked_len(rows: u64, cols: u64, dtype: Dtype) -> Result<u64, OutputError> {
    let file_len = npy_len(rows, cols, dtype);
    if file_len > i64::MAX as u64 {
        Err(OutputError::TooLarge { rows, cols, dtype })
    } else {
        Ok(file_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_disk::{CrashMode, FakeDisk};
    use crate::matrix::MatrixSource;
    use proptest::prelude::*;

    const PARTIAL: &str = "/c.npy.partial";

    fn create(disk: &FakeDisk, rows: u64, cols: u64, dtype: Dtype) -> Result<NpyOutput, OutputError> {
        NpyOutput::create(disk, Path::new(PARTIAL), rows, cols, dtype)
    }

    fn open(disk: &FakeDisk, rows: u64, cols: u64, dtype: Dtype) -> Result<NpyOutput, OutputError> {
        NpyOutput::open_existing(disk, Path::new(PARTIAL), rows, cols, dtype)
    }

    #[test]
    fn a_new_output_is_whole_and_durable() {
        let disk = FakeDisk::new(1);
        let output = create(&disk, 3, 4, Dtype::F32).unwrap();
        assert_eq!((output.rows(), output.cols(), output.dtype()), (3, 4, Dtype::F32));
        let after = disk.after_crash(CrashMode::Vanish);
        assert_eq!(
            after.contents(PARTIAL).unwrap().len() as u64,
            npy_len(3, 4, Dtype::F32)
        );
        open(&after, 3, 4, Dtype::F32).unwrap();
        let source = MatrixSource::open(&after, Path::new(PARTIAL)).unwrap();
        assert_eq!((source.info().rows, source.info().cols), (3, 4));
    }

    #[test]
    fn blocks_are_written_and_read_back_where_they_belong() {
        let disk = FakeDisk::new(1);
        let output = create(&disk, 3, 4, Dtype::F64).unwrap();
        // The right half of a 3 x 2 block with leading dimension 3.
        output
            .write_rows(1, 2..4, &[1.0, 2.0, -1.0, 3.0, 4.0], 3, 2)
            .unwrap();
        output.sync_data().unwrap();
        assert_eq!(output.bytes_written(), 32);
        let mut whole = [9.0_f64; 12];
        output.read_rows(0, 0..4, &mut whole, 4, 3).unwrap();
        assert_eq!(
            whole,
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0]
        );
        let mut part = [9.0_f64; 5];
        output.read_rows(1, 2..4, &mut part, 3, 2).unwrap();
        assert_eq!(part, [1.0, 2.0, 9.0, 3.0, 4.0]);
        output.write_rows::<f64>(3, 0..4, &[], 4, 0).unwrap();
        output.write_rows::<f64>(1, 2..2, &[], 0, 2).unwrap();
    }

    #[test]
    fn whole_adjacent_rows_are_one_write() {
        let disk = FakeDisk::new(1);
        let output = create(&disk, 3, 4, Dtype::F64).unwrap();
        let calls_of = |cols, leading_dimension| {
            let before = disk.call_count();
            output
                .write_rows(0, cols, &[1.0_f64; 20], leading_dimension, 3)
                .unwrap();
            disk.call_count() - before
        };
        assert_eq!(
            [calls_of(0..4, 4), calls_of(0..4, 5), calls_of(0..3, 4)],
            [1, 3, 3]
        );
    }

    #[test]
    fn a_stale_file_cannot_reach_the_new_one() {
        let disk = FakeDisk::new(1);
        let stale = create(&disk, 1, 1, Dtype::F64).unwrap();
        let fresh = create(&disk, 1, 1, Dtype::F64).unwrap();
        stale.write_rows(0, 0..1, &[7.0_f64], 1, 1).unwrap();
        let mut value = [1.0_f64];
        fresh.read_rows(0, 0..1, &mut value, 1, 1).unwrap();
        assert_eq!(value, [0.0]);
    }

    #[test]
    fn a_full_disk_shows_at_once_and_leaves_nothing() {
        let disk = FakeDisk::new(1);
        disk.set_capacity(200);
        match create(&disk, 3, 4, Dtype::F64).unwrap_err() {
            OutputError::DiskFull { needed, free, .. } => assert_eq!((needed, free), (128 + 96, 200)),
            other => panic!("{other}"),
        }
        assert!(disk.contents(PARTIAL).is_err());
        disk.set_capacity(128 + 96);
        create(&disk, 3, 4, Dtype::F64).unwrap();
    }

    #[test]
    fn a_disk_that_fills_up_later_shows_at_the_write() {
        let disk = FakeDisk::new(1);
        let output = create(&disk, 3, 4, Dtype::F64).unwrap();
        disk.fail_nth(1, io::ErrorKind::StorageFull);
        let error = output.write_rows(0, 0..4, &[1.0_f64; 4], 4, 1).unwrap_err();
        assert!(
            matches!(error, OutputError::DiskFull { needed: 32, .. }),
            "{error}"
        );
        assert_eq!((disk.failed_count(), output.bytes_written()), (1, 0));
    }

    #[test]
    fn another_partial_file_is_not_adopted() {
        let disk = FakeDisk::new(1);
        assert!(matches!(
            open(&disk, 3, 4, Dtype::F64),
            Err(OutputError::Io { action: "open", .. })
        ));
        create(&disk, 3, 4, Dtype::F64).unwrap();
        for (rows, cols, dtype, word) in [
            (4, 3, Dtype::F64, "header"),
            (3, 5, Dtype::F64, "bytes"),
            (3, 4, Dtype::F32, "bytes"),
        ] {
            match open(&disk, rows, cols, dtype).unwrap_err() {
                OutputError::Foreign { what, .. } => assert!(what.contains(word), "{what}"),
                other => panic!("{other}"),
            }
        }
        assert!(matches!(
            create(&disk, 1 << 40, 1 << 40, Dtype::F32),
            Err(OutputError::TooLarge { .. })
        ));
    }

    #[test]
    fn each_failing_call_is_an_error_and_never_a_panic() {
        for n in 1.. {
            let disk = FakeDisk::new(1);
            disk.install(PARTIAL, b"stale");
            disk.fail_nth(n, io::ErrorKind::Other);
            let created = create(&disk, 3, 4, Dtype::F64);
            if disk.failed_count() == 0 {
                assert!(n > 5);
                break;
            }
            assert!(created.is_err(), "call {n}");
        }
    }

    proptest! {
        #[test]
        fn any_block_round_trips(
            (rows, first_row, n_rows) in (1_u64..9).prop_flat_map(|n| (Just(n), 0..n, 0..=n)),
            (cols, col_start, col_end) in (1_u64..9).prop_flat_map(|n| (Just(n), 0..=n, 0..=n)),
            gap in 0_usize..3,
        ) {
            let disk = FakeDisk::new(1);
            let output = create(&disk, rows, cols, Dtype::F32).unwrap();
            let n_rows = n_rows.min(rows - first_row) as usize;
            let range = col_start.min(col_end)..col_start.max(col_end);
            let leading_dimension = (range.end - range.start) as usize + gap;
            let data = (1..).map(|n| n as f32).take(leading_dimension * n_rows).collect::<Vec<_>>();
            output.write_rows(first_row, range.clone(), &data, leading_dimension, n_rows).unwrap();

            let mut whole = vec![9.0_f32; (rows * cols) as usize];
            output.read_rows(0, 0..cols, &mut whole, cols as usize, rows as usize).unwrap();
            for (at, found) in (0_u64..).zip(&whole) {
                let (row, col) = (at / cols, at % cols);
                let is_inside = range.contains(&col) && (first_row..first_row + n_rows as u64).contains(&row);
                let expected = if is_inside {
                    data[(row - first_row) as usize * leading_dimension + (col - range.start) as usize]
                } else {
                    0.0
                };
                prop_assert_eq!(*found, expected);
            }
        }
    }
}
