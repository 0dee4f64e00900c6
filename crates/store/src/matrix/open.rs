//! Opening a matrix: telling the formats apart, and saying what is wrong with the rest.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::source::Contents;
use super::{Format, MatrixInfo, MatrixSource, StorageOrder};
use crate::disk::{Disk, DiskFile, DiskFileExt};
use crate::element_type::{ByteOrder, ElementType};
use crate::npy::header::{MAGIC, NpyHeaderError, read_header};
use crate::text::{TextError, TextMatrix};

/// The largest text file that is read; larger matrices belong in `.npy` files.
pub const TEXT_BYTES_MAX: u64 = 64 << 20;

/// Why a file was not accepted as a matrix.
#[derive(Debug, thiserror::Error)]
pub enum OpenMatrixError {
    /// Nothing is there.
    #[error("`{}` does not exist", path.display())]
    Missing {
        /// The path as given.
        path: PathBuf,
    },
    /// A directory or a device.
    #[error("`{}` is not a regular file", path.display())]
    NotAFile {
        /// The path as given.
        path: PathBuf,
    },
    /// Opening or reading failed.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// The path as given.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// An `.npy` file with a header that is not accepted.
    #[error("`{}` {source}", path.display())]
    Npy {
        /// The path as given.
        path: PathBuf,
        /// The cause.
        source: NpyHeaderError,
    },
    /// An `.npy` file shorter or longer than its header says.
    #[error(
        "`{}` is {actual} bytes long, but its header says {expected}; {}",
        path.display(),
        if actual < expected { "it was cut off: copy it again" } else { "something was appended to it" }
    )]
    Length {
        /// The path as given.
        path: PathBuf,
        /// Bytes by the header.
        expected: u64,
        /// Bytes in the file.
        actual: u64,
    },
    /// Neither `.npy` nor text.
    #[error("`{}` is neither an npy file nor text{hint}", path.display())]
    UnknownFormat {
        /// The path as given.
        path: PathBuf,
        /// What it may be, and the way out; may be empty.
        hint: &'static str,
    },
    /// A text file above [`TEXT_BYTES_MAX`].
    #[error(
        "`{}` is text of {len} bytes; at most {TEXT_BYTES_MAX} are read as text: save it with `numpy.save` first",
        path.display()
    )]
    TextTooLarge {
        /// The path as given.
        path: PathBuf,
        /// Bytes in the file.
        len: u64,
    },
    /// Text that is not a matrix.
    #[error("`{}` {source}", path.display())]
    Text {
        /// The path as given.
        path: PathBuf,
        /// The cause.
        source: TextError,
    },
}

impl MatrixSource {
    /// Opens an `.npy` file, known by its magic bytes, or otherwise a text file of numbers.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<MatrixSource, OpenMatrixError> {
        let io_error = |source| OpenMatrixError::Io {
            path: path.to_owned(),
            source,
        };
        let stat = disk.stat(path).map_err(io_error)?;
        match stat {
            None => {
                return Err(OpenMatrixError::Missing {
                    path: path.to_owned(),
                });
            }
            Some(stat) if !stat.is_file => {
                return Err(OpenMatrixError::NotAFile {
                    path: path.to_owned(),
                });
            }
            Some(_) => {}
        }
        let file = disk.open_read(path).map_err(io_error)?;
        let file_len = file.stat().map_err(io_error)?.len;
        let mut start = [0; MAGIC.len()];
        let start = &mut start[..MAGIC.len().min(file_len as usize)];
        file.read_exact_at(start, 0).map_err(io_error)?;
        if start == MAGIC || path.extension().is_some_and(|extension| extension == "npy") {
            open_npy(file, path, file_len)
        } else {
            open_text(file, path, file_len, start)
        }
    }
}

fn open_npy(file: Arc<dyn DiskFile>, path: &Path, file_len: u64) -> Result<MatrixSource, OpenMatrixError> {
    let header = read_header(&*file, file_len).map_err(|error| match error {
        NpyHeaderError::Io(source) => OpenMatrixError::Io {
            path: path.to_owned(),
            source,
        },
        source => OpenMatrixError::Npy {
            path: path.to_owned(),
            source,
        },
    })?;
    if header.file_len() != file_len {
        let (expected, actual) = (header.file_len(), file_len);
        return Err(OpenMatrixError::Length {
            path: path.to_owned(),
            expected,
            actual,
        });
    }
    let info = MatrixInfo {
        path: path.to_owned(),
        rows: header.rows,
        cols: header.cols,
        element: header.element,
        byte_order: header.byte_order,
        order: header.order,
        data_offset: header.data_offset,
        file_len,
        format: Format::Npy,
    };
    Ok(MatrixSource::new(info, file, Contents::Npy(header), 0))
}

fn open_text(
    file: Arc<dyn DiskFile>,
    path: &Path,
    file_len: u64,
    start: &[u8],
) -> Result<MatrixSource, OpenMatrixError> {
    let path = path.to_owned();
    let unknown = |path, start| OpenMatrixError::UnknownFormat {
        path,
        hint: hint_of(start),
    };
    if !hint_of(start).is_empty() {
        return Err(unknown(path, start));
    }
    if file_len > TEXT_BYTES_MAX {
        return Err(OpenMatrixError::TextTooLarge { path, len: file_len });
    }
    let mut bytes = vec![0; file_len as usize];
    if let Err(source) = file.read_exact_at(&mut bytes, 0) {
        return Err(OpenMatrixError::Io { path, source });
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text,
        _ => return Err(unknown(path, start)),
    };
    let matrix = match TextMatrix::parse(&text) {
        Ok(matrix) => matrix,
        Err(source) => return Err(OpenMatrixError::Text { path, source }),
    };
    let info = MatrixInfo {
        path,
        rows: matrix.rows(),
        cols: matrix.cols(),
        element: ElementType::F64,
        byte_order: ByteOrder::Little,
        order: StorageOrder::RowMajor,
        data_offset: 0,
        file_len,
        format: Format::Text,
    };
    Ok(MatrixSource::new(info, file, Contents::Text(matrix), file_len))
}

/// The way out of common formats that are not read, known by their first bytes.
fn hint_of(start: &[u8]) -> &'static str {
    match start {
        [b'P', b'K', 3, 4, ..] => {
            ", but a zip archive; if it is an npz file, in numpy: np.save('a.npy', np.load(path)['a'])"
        }
        [0x89, b'H', b'D', b'F', ..] => ", but an HDF5 file; with h5py: np.save('a.npy', file['name'][:])",
        [0x1f, 0x8b, ..] => ", but compressed with gzip; run `gunzip` first",
        _ => "",
    }
}
