//! Input files under hostile bytes: a matrix whose every element is in the file, or an error.

use crate::disk::Disk;
use crate::element_type::Dtype;
use crate::element_type::{ByteOrder, ElementType};
use crate::fake_disk::FakeDisk;
use crate::matrix::{MatrixSource, StorageOrder};
use crate::npy::header::{format_header, npy_len, parse_header, read_header};
use crate::text::{TextMatrix, format_text};
use std::path::Path;

/// A file's length, eight bytes, and its beginning.
pub(super) fn npy_header(input: &[u8]) {
    let Some((file_len, start)) = input.split_first_chunk() else {
        return;
    };
    let _ = parse_header(start, u64::from_le_bytes(*file_len));
    let disk = FakeDisk::new(1);
    disk.install("/a", start);
    let file = disk.open_read(Path::new("/a")).expect("it was installed");
    let read = read_header(&*file, start.len() as u64);
    let Ok(header) = parse_header(start, start.len() as u64) else {
        assert!(read.is_err());
        return;
    };
    assert_eq!(read.expect("the same bytes"), header);
    assert!(header.data_offset <= start.len() as u64);
    assert!(header.file_len() <= i64::MAX as u64);
    let dtype = match header.element {
        ElementType::F64 => Dtype::F64,
        ElementType::F32 => Dtype::F32,
        _ => return,
    };
    if (header.order, header.byte_order) == (StorageOrder::RowMajor, ByteOrder::Little) {
        let ours = format_header(header.rows, header.cols, dtype);
        let again = parse_header(&ours, ours.len() as u64);
        // Ours may be longer, for a shape that just fitted.
        if npy_len(header.rows, header.cols, dtype) <= i64::MAX as u64 {
            let again = again.expect("a header of ours");
            assert_eq!(
                (again.rows, again.cols, again.element),
                (header.rows, header.cols, header.element)
            );
        }
    }
}

/// Text of a matrix: what is printed of what was read is read as the same.
pub(super) fn text(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(matrix) = TextMatrix::parse(text) else {
        return;
    };
    assert_eq!(matrix.rows() * matrix.cols(), matrix.values().len() as u64);
    assert!(!matrix.values().is_empty());
    // A value and what separates it from the next take two bytes at least.
    assert!(matrix.resident_bytes() <= 8 * (text.len() as u64 / 2 + 1));
    let mut printed = Vec::new();
    format_text(&mut printed, matrix.values(), matrix.cols() as usize).expect("memory");
    let again = TextMatrix::parse(std::str::from_utf8(&printed).expect("numbers")).expect("a matrix of ours");
    assert_eq!((again.rows(), again.cols()), (matrix.rows(), matrix.cols()));
    assert!(same(again.values(), matrix.values()));
}

/// A file of either format: the first byte tells its name.
pub(super) fn file(input: &[u8]) {
    let Some((name, contents)) = input.split_first() else {
        return;
    };
    let path = if name % 2 == 0 { "/a.npy" } else { "/a.txt" };
    let disk = FakeDisk::new(1);
    disk.install(path, contents);
    let Ok(source) = MatrixSource::open(&disk, Path::new(path)) else {
        return;
    };
    let (rows, cols) = (source.info().rows, source.info().cols);
    let n_elements = rows * cols;
    assert!(n_elements <= contents.len() as u64, "each element is in the file");
    source.identity().expect("the disk has no faults");
    let mut all = vec![0_f64; n_elements as usize];
    let strides = source
        .read_block(0..rows, 0..cols, &mut all)
        .expect("the disk has no faults");
    let mut narrow = vec![0_f32; n_elements as usize];
    source
        .read_block(0..rows, 0..cols, &mut narrow)
        .expect("the disk has no faults");
    // One element alone is the one of the whole.
    if n_elements > 0 {
        let (row, col) = (rows - 1, cols / 2);
        let mut one = [0_f64];
        let block = source.read_block(row..rows, col..col + 1, &mut one);
        block.expect("the disk has no faults");
        let at = row as usize * strides.0 + col as usize * strides.1;
        assert!(same(&one, &all[at..=at]));
    }
}

fn same(left: &[f64], right: &[f64]) -> bool {
    let is_same =
        |(left, right): (&f64, &f64)| left.to_bits() == right.to_bits() || left.is_nan() && right.is_nan();
    left.len() == right.len() && left.iter().zip(right).all(is_same)
}
