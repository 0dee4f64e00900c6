//! What is known of a matrix without reading its elements.

use std::fmt;
use std::path::PathBuf;

use crate::element_type::{ByteOrder, ElementType};

/// Which elements lie next to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StorageOrder {
    /// Those of a row (C order).
    RowMajor,
    /// Those of a column (Fortran order).
    ColumnMajor,
}

impl fmt::Display for StorageOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RowMajor => "row-major",
            Self::ColumnMajor => "column-major",
        })
    }
}

/// How a matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// numpy's binary format.
    Npy,
    /// Numbers as text, held in memory as `f64`.
    Text,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Npy => "npy",
            Self::Text => "text",
        })
    }
}

/// What is known of an input matrix without reading its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatrixInfo {
    /// The path as given.
    pub path: PathBuf,
    /// Number of rows.
    pub rows: u64,
    /// Number of columns.
    pub cols: u64,
    /// Type of the elements; `F64` for text.
    pub element: ElementType,
    /// Byte order of the elements.
    pub byte_order: ByteOrder,
    /// Order of the elements.
    pub order: StorageOrder,
    /// Where the elements start, in bytes.
    pub data_offset: u64,
    /// Bytes of the file.
    pub file_len: u64,
    /// How the file is written.
    pub format: Format,
}
