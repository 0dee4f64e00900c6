//! The header of an `.npy` file.
//!
//! Reads what numpy writes for a two-dimensional array of real numbers; writes the same bytes as numpy.

use std::io;

use super::dictionary::{Descr, Dictionary, parse_dictionary};
use crate::disk::{DiskFile, DiskFileExt};
use crate::element_type::{ByteOrder, DescrError, Dtype, ElementType};
use crate::matrix::StorageOrder;

/// The first bytes of every `.npy` file.
pub const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// The longest dictionary that is read; numpy itself stops at 10,000 bytes.
const DICTIONARY_BYTES_MAX: usize = 1 << 20;

/// Elements start at a multiple of this many bytes.
const ALIGNMENT: usize = 64;

/// numpy leaves room for the first extent of the shape to grow to this many digits.
const EXTENT_DIGITS_MAX: usize = 21;

/// Magic, two bytes of version, two bytes of length.
const PREFIX_LEN_V1: usize = 10;

/// The shape and layout of a two-dimensional array of real numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NpyHeader {
    /// Number of rows.
    pub rows: u64,
    /// Number of columns.
    pub cols: u64,
    /// Type of the elements.
    pub element: ElementType,
    /// Byte order of the elements.
    pub byte_order: ByteOrder,
    /// C order is row-major, Fortran order column-major.
    pub order: StorageOrder,
    /// Where the elements start, in bytes.
    pub data_offset: u64,
}

impl NpyHeader {
    /// Bytes of the whole file.
    pub fn file_len(&self) -> u64 {
        self.data_offset + self.rows * self.cols * self.element.size()
    }
}

/// Why a file's header was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum NpyHeaderError {
    /// Reading failed.
    #[error("cannot read the npy header: {0}")]
    Io(#[from] io::Error),
    /// The first bytes are something else.
    #[error("is not an npy file: it does not start with numpy's magic bytes")]
    NotNpy,
    /// A version that numpy has not defined yet.
    #[error("has npy version {major}.{minor}; versions 1.0 to 3.0 are supported")]
    Version {
        /// Major version.
        major: u8,
        /// Minor version.
        minor: u8,
    },
    /// The file ends inside its header.
    #[error("ends inside its npy header: {needed} bytes needed, {actual} bytes there")]
    Truncated {
        /// Bytes up to the end of the header, as far as is known.
        needed: u64,
        /// Bytes in the file.
        actual: u64,
    },
    /// The header says that it is absurdly long.
    #[error("has an npy header of {len} bytes; at most {DICTIONARY_BYTES_MAX} are supported")]
    TooLong {
        /// Bytes of the dictionary.
        len: u64,
    },
    /// The dictionary is not what numpy writes.
    #[error("has a damaged npy header: expected {expected} at byte {offset} of the dictionary")]
    Dictionary {
        /// Byte of the dictionary.
        offset: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// The elements are records.
    #[error("has structured elements; save one field on its own, in numpy: np.save(path, a['field'])")]
    Structured,
    /// The elements are not real numbers of a supported size.
    #[error("has elements that cannot be multiplied: {0}")]
    Descr(#[from] DescrError),
    /// Not two-dimensional.
    #[error("has shape {}, a matrix needs two dimensions{}", shape_text(.shape), reshape_hint(.shape))]
    Dimensions {
        /// The extents.
        shape: Vec<u64>,
    },
    /// The number of bytes does not fit 63 bits.
    #[error("has shape ({rows}, {cols}), too large for any file")]
    TooLarge {
        /// Number of rows.
        rows: u64,
        /// Number of columns.
        cols: u64,
    },
}

/// Python's way to write a tuple.
fn shape_text(shape: &[u64]) -> String {
    match shape {
        [extent] => format!("({extent},)"),
        _ => format!(
            "({})",
            shape.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
        ),
    }
}

fn reshape_hint(shape: &[u64]) -> &'static str {
    match shape.len() {
        0 => "; in numpy: a.reshape(1, 1)",
        1 => "; in numpy: a.reshape(1, -1) or a.reshape(-1, 1)",
        _ => "; in numpy: a.reshape(len(a), -1), or one matrix at a time: a[0]",
    }
}

/// Reads and parses the header at the start of an open file of `file_len` bytes.
pub fn read_header(file: &dyn DiskFile, file_len: u64) -> Result<NpyHeader, NpyHeaderError> {
    let mut bytes = vec![0; 12.min(file_len as usize)];
    file.read_exact_at(&mut bytes, 0)?;
    let prefix = Prefix::parse(&bytes, file_len)?;
    let mut bytes = vec![0; prefix.dictionary_offset + prefix.dictionary_len];
    file.read_exact_at(&mut bytes, 0)?;
    parse_header(&bytes, file_len)
}

/// Parses the header at the start of `bytes`, which belong to a file of `file_len` bytes.
pub fn parse_header(bytes: &[u8], file_len: u64) -> Result<NpyHeader, NpyHeaderError> {
    let prefix = Prefix::parse(bytes, file_len)?;
    let data_offset = prefix.dictionary_offset + prefix.dictionary_len;
    let dictionary = bytes
        .get(prefix.dictionary_offset..data_offset)
        .ok_or(NpyHeaderError::Truncated {
            needed: data_offset as u64,
            actual: bytes.len() as u64,
        })?;
    let dictionary = parse_dictionary(dictionary).map_err(|error| NpyHeaderError::Dictionary {
        offset: error.offset,
        expected: error.expected,
    })?;
    interpret(dictionary, data_offset as u64)
}

fn interpret(dictionary: Dictionary, data_offset: u64) -> Result<NpyHeader, NpyHeaderError> {
    let (element, byte_order) = match dictionary.descr {
        Descr::Simple(descr) => ElementType::parse_numpy_descr(&descr)?,
        Descr::Fields => return Err(NpyHeaderError::Structured),
    };
    let [rows, cols] = dictionary.shape[..] else {
        return Err(NpyHeaderError::Dimensions {
            shape: dictionary.shape,
        });
    };
    rows.checked_mul(cols)
        .and_then(|elements| elements.checked_mul(element.size()))
        .and_then(|data_bytes| data_bytes.checked_add(data_offset))
        .filter(|file_len| *file_len <= i64::MAX as u64)
        .ok_or(NpyHeaderError::TooLarge { rows, cols })?;
    let order = if dictionary.fortran_order {
        StorageOrder::ColumnMajor
    } else {
        StorageOrder::RowMajor
    };
    Ok(NpyHeader {
        rows,
        cols,
        element,
        byte_order,
        order,
        data_offset,
    })
}

/// Where the dictionary lies.
struct Prefix {
    dictionary_offset: usize,
    dictionary_len: usize,
}

impl Prefix {
    fn parse(bytes: &[u8], file_len: u64) -> Result<Self, NpyHeaderError> {
        if !bytes.starts_with(MAGIC) {
            return Err(NpyHeaderError::NotNpy);
        }
        let truncated = |needed| NpyHeaderError::Truncated {
            needed,
            actual: file_len,
        };
        let (dictionary_offset, len) = match bytes.get(MAGIC.len()..) {
            Some([1, 0, a, b, ..]) => (PREFIX_LEN_V1, u64::from(u16::from_le_bytes([*a, *b]))),
            Some([2 | 3, 0, a, b, c, d, ..]) => (12, u64::from(u32::from_le_bytes([*a, *b, *c, *d]))),
            Some([1..=3, 0, ..]) | Some([] | [_]) | None => return Err(truncated(12)),
            Some([major, minor, ..]) => {
                return Err(NpyHeaderError::Version {
                    major: *major,
                    minor: *minor,
                });
            }
        };
        let dictionary_len = len as usize;
        let needed = dictionary_offset as u64 + len;
        if needed > file_len {
            Err(truncated(needed))
        } else if dictionary_len > DICTIONARY_BYTES_MAX {
            Err(NpyHeaderError::TooLong { len })
        } else {
            Ok(Self {
                dictionary_offset,
                dictionary_len,
            })
        }
    }
}

/// The header that numpy writes for a little-endian `rows` x `cols` array in C order.
pub fn format_header(rows: u64, cols: u64, dtype: Dtype) -> Vec<u8> {
    let descr = dtype.element().numpy_descr(ByteOrder::Little);
    let mut dictionary =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {cols}), }}");
    let digits = rows.to_string().len();
    dictionary.extend(std::iter::repeat_n(' ', EXTENT_DIGITS_MAX - digits));

    // numpy pads by a whole alignment where none would do.
    let padding = ALIGNMENT - (PREFIX_LEN_V1 + dictionary.len() + 1) % ALIGNMENT;
    dictionary.extend(std::iter::repeat_n(' ', padding));
    dictionary.push('\n');

    let dictionary_len =
        u16::try_from(dictionary.len()).expect("two numbers of 20 digits fit a header of 64 KiB");
    let mut header = Vec::with_capacity(PREFIX_LEN_V1 + dictionary.len());
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&[1, 0]);
    header.extend_from_slice(&dictionary_len.to_le_bytes());
    header.extend_from_slice(dictionary.as_bytes());
    header
}

/// Bytes of an `.npy` file of this shape: header and elements. Saturates where the shape is too large for any file.
pub fn npy_len(rows: u64, cols: u64, dtype: Dtype) -> u64 {
    let data_bytes = rows.saturating_mul(cols).saturating_mul(dtype.size());
    data_bytes.saturating_add(format_header(rows, cols, dtype).len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::npy::sample::npy_bytes_of_version;
    use proptest::prelude::*;

    fn header_of(dictionary: &str) -> Result<NpyHeader, NpyHeaderError> {
        let bytes = npy_bytes_of_version(1, dictionary, &[]);
        parse_header(&bytes, bytes.len() as u64)
    }

    fn message_of(dictionary: &str) -> String {
        header_of(dictionary).unwrap_err().to_string()
    }

    #[test]
    fn the_written_header_is_numpys() {
        // np.save of a 3 x 4 array, numpy 2.
        let mut expected = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        expected.extend_from_slice(b"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }");
        expected.resize(127, b' ');
        expected.push(b'\n');
        assert_eq!(format_header(3, 4, Dtype::F64), expected);
        assert_eq!(npy_len(3, 4, Dtype::F64), 128 + 96);
        assert_eq!(npy_len(u64::MAX, 4, Dtype::F32), u64::MAX);
    }

    #[test]
    fn all_three_versions_are_read() {
        for version in 1..=3 {
            let dictionary = "{'descr': '>f4', 'fortran_order': True, 'shape': (3, 4), }";
            let bytes = npy_bytes_of_version(version, dictionary, &[]);
            let header = parse_header(&bytes, bytes.len() as u64).unwrap();
            assert_eq!((header.rows, header.cols), (3, 4));
            assert_eq!(
                (header.element, header.byte_order),
                (ElementType::F32, ByteOrder::Big)
            );
            assert_eq!(header.order, StorageOrder::ColumnMajor);
            assert_eq!(header.file_len(), bytes.len() as u64 + 48);
        }
        let bytes = npy_bytes_of_version(4, "{}", &[]);
        let error = parse_header(&bytes, bytes.len() as u64).unwrap_err();
        assert_eq!(
            error.to_string(),
            "has npy version 4.0; versions 1.0 to 3.0 are supported"
        );
    }

    #[test]
    fn other_dimensions_are_refused_with_the_way_out() {
        let of_shape = |shape| {
            message_of(&format!(
                "{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
            ))
        };
        assert_eq!(
            of_shape("(5,)"),
            "has shape (5,), a matrix needs two dimensions; in numpy: a.reshape(1, -1) or a.reshape(-1, 1)"
        );
        assert!(of_shape("(2, 3, 4)").starts_with("has shape (2, 3, 4), a matrix needs two dimensions"));
        assert!(of_shape("()").starts_with("has shape (), a matrix needs two dimensions"));
        assert_eq!(
            of_shape("(4294967296, 2147483648)"),
            "has shape (4294967296, 2147483648), too large for any file"
        );
    }

    #[test]
    fn other_elements_are_refused() {
        let of_descr = |descr| {
            message_of(&format!(
                "{{'descr': {descr}, 'fortran_order': False, 'shape': (1, 2), }}"
            ))
        };
        assert!(of_descr("'|O'").contains("Python objects"));
        assert!(of_descr("'<c16'").contains("complex numbers"));
        assert!(of_descr("[('a', '<f8')]").contains("structured"));
    }

    #[test]
    fn a_header_cut_anywhere_is_an_error() {
        let whole = format_header(3, 4, Dtype::F64);
        for len in 0..whole.len() {
            let error = parse_header(&whole[..len], len as u64).unwrap_err();
            match error {
                NpyHeaderError::NotNpy => assert!(len < 6),
                NpyHeaderError::Truncated { actual, .. } => assert_eq!(actual, len as u64),
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn a_header_of_gigabytes_is_refused_before_it_is_read() {
        let bytes = b"\x93NUMPY\x02\x00\xff\xff\xff\xff";
        assert!(matches!(
            parse_header(bytes, 1 << 40),
            Err(NpyHeaderError::TooLong { .. })
        ));
    }

    proptest! {
        #[test]
        fn written_headers_are_read_back(rows in 0_u64..1 << 60, cols in 0_u64..1 << 60, wide in any::<bool>()) {
            let dtype = if wide { Dtype::F64 } else { Dtype::F32 };
            let bytes = format_header(rows, cols, dtype);
            prop_assert_eq!(bytes.len() % ALIGNMENT, 0);
            match parse_header(&bytes, bytes.len() as u64) {
                Ok(header) => {
                    prop_assert_eq!((header.rows, header.cols, header.element), (rows, cols, dtype.element()));
                    prop_assert_eq!((header.byte_order, header.order), (ByteOrder::Little, StorageOrder::RowMajor));
                    prop_assert_eq!(header.data_offset, bytes.len() as u64);
                    prop_assert_eq!(header.file_len(), npy_len(rows, cols, dtype));
                }
                Err(error) => {
                    let too_large = matches!(error, NpyHeaderError::TooLarge { .. });
                    prop_assert!(too_large && npy_len(rows, cols, dtype) > i64::MAX as u64, "{}", error);
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            tail in prop::collection::vec(any::<u8>(), 0..100), magic_len in 0_usize..=6, file_len in any::<u64>()
        ) {
            let mut bytes = MAGIC[..magic_len].to_vec();
            bytes.extend_from_slice(&tail);
            let _ = parse_header(&bytes, file_len);
        }
    }
}
