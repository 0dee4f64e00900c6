//! Matrices of every kind, read and refused.

use std::io;
use std::ops::Range;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::disk::{Disk, RealDisk};
use crate::element_type::{ByteOrder, ElementType, Scalar};
use crate::fake_disk::FakeDisk;
use crate::identity::IdentityDifference;
use crate::npy::sample::npy_bytes;

const LAYOUTS: [(ByteOrder, StorageOrder); 4] = [
    (ByteOrder::Little, StorageOrder::RowMajor),
    (ByteOrder::Little, StorageOrder::ColumnMajor),
    (ByteOrder::Big, StorageOrder::RowMajor),
    (ByteOrder::Big, StorageOrder::ColumnMajor),
];

/// Below 128, so that it fits every element type.
fn value(i: u64, j: u64) -> u8 {
    ((i * 31 + j * 7) % 127) as u8
}

fn disk_with(path: &str, bytes: &[u8]) -> FakeDisk {
    let disk = FakeDisk::new(1);
    disk.install(path, bytes);
    disk
}

fn source_of(path: &str, bytes: &[u8]) -> MatrixSource {
    MatrixSource::open(&disk_with(path, bytes), Path::new(path)).unwrap()
}

fn message_of(path: &str, bytes: &[u8]) -> String {
    MatrixSource::open(&disk_with(path, bytes), Path::new(path))
        .unwrap_err()
        .to_string()
}

/// Reads a block and compares each element with `value`.
fn assert_block<T: Scalar>(source: &MatrixSource, rows: Range<u64>, cols: Range<u64>) {
    let n_elements = (rows.end - rows.start) * (cols.end - cols.start);
    let mut out = vec![T::from_f64(-1.0); n_elements as usize];
    let (row_stride, col_stride) = source.read_block(rows.clone(), cols.clone(), &mut out).unwrap();
    for (i, row) in rows.enumerate() {
        for (j, col) in cols.clone().enumerate() {
            let expected = match (source.info().element, value(row, col)) {
                (ElementType::Bool, 0) => 0.0,
                (ElementType::Bool, _) => 1.0,
                (_, value) => f64::from(value),
            };
            assert_eq!(
                out[i * row_stride + j * col_stride].to_f64(),
                expected,
                "{row}, {col}"
            );
        }
    }
}

#[test]
fn every_element_type_order_and_endianness_is_read() {
    for element in ElementType::ALL {
        for (byte_order, order) in LAYOUTS {
            let source = source_of("/a.npy", &npy_bytes((5, 7), element, byte_order, order, value));
            let info = source.info();
            assert_eq!((info.rows, info.cols, info.element), (5, 7, element));
            assert_eq!((info.order, info.format), (order, Format::Npy));
            assert_eq!(source.resident_bytes(), 0);
            assert_block::<f64>(&source, 0..5, 0..7);
            assert_block::<f32>(&source, 1..4, 2..5);
            assert_block::<f64>(&source, 2..2, 0..7);
            assert_eq!(source.bytes_read(), (35 + 9) * element.size());
        }
    }
}

#[test]
fn conversion_goes_on_beyond_its_buffer() {
    for (byte_order, order) in LAYOUTS {
        for element in [ElementType::I16, ElementType::F64] {
            let bytes = npy_bytes((210, 200), element, byte_order, order, value);
            assert_block::<f64>(&source_of("/a.npy", &bytes), 0..210, 0..200);
            assert_block::<f32>(&source_of("/a.npy", &bytes), 3..210, 0..199);
        }
    }
}

#[test]
fn whole_lines_are_one_read() {
    for (byte_order, order) in LAYOUTS.into_iter().take(2) {
        let disk = disk_with(
            "/a.npy",
            &npy_bytes((6, 6), ElementType::F64, byte_order, order, value),
        );
        let source = MatrixSource::open(&disk, Path::new("/a.npy")).unwrap();
        let calls_of = |rows: Range<u64>, cols: Range<u64>| {
            let before = disk.call_count();
            assert_block::<f64>(&source, rows, cols);
            disk.call_count() - before
        };
        let calls = [calls_of(1..4, 0..6), calls_of(0..6, 1..4)];
        match order {
            StorageOrder::RowMajor => assert_eq!(calls, [1, 6]),
            StorageOrder::ColumnMajor => assert_eq!(calls, [6, 1]),
        }
    }
}

#[test]
fn matrices_without_elements_are_matrices() {
    let empty = |shape| {
        npy_bytes(
            shape,
            ElementType::F64,
            ByteOrder::Little,
            StorageOrder::RowMajor,
            value,
        )
    };
    let source = source_of("/a.npy", &empty((0, 5)));
    assert_eq!((source.info().rows, source.info().cols), (0, 5));
    assert_block::<f64>(&source, 0..0, 1..4);
    assert_block::<f64>(&source_of("/a.npy", &empty((5, 0))), 1..4, 0..0);
}

#[test]
fn text_is_read_like_any_matrix() {
    let source = source_of("/a.csv", b"0, 7, 14\n31, 38, 45\n");
    let info = source.info();
    assert_eq!(
        (info.rows, info.cols, info.format, info.file_len),
        (2, 3, Format::Text, 20)
    );
    assert_eq!((source.resident_bytes(), source.bytes_read()), (48, 20));
    assert_block::<f64>(&source, 0..2, 0..3);
    assert_block::<f32>(&source, 1..2, 1..3);
    assert_block::<f32>(&source, 0..2, 1..1);
}

#[test]
fn npy_is_known_by_its_magic_whatever_its_name() {
    let bytes = npy_bytes(
        (2, 3),
        ElementType::F64,
        ByteOrder::Little,
        StorageOrder::RowMajor,
        value,
    );
    assert_block::<f64>(&source_of("/a.dat", &bytes), 0..2, 0..3);
    assert_eq!(
        message_of("/a.npy", b"1 2\n3 4\n"),
        "`/a.npy` is not an npy file: it does not start with numpy's magic bytes"
    );
}

#[test]
fn a_file_of_another_length_is_refused_with_both_lengths() {
    let bytes = npy_bytes(
        (2, 3),
        ElementType::F64,
        ByteOrder::Little,
        StorageOrder::RowMajor,
        value,
    );
    let len = bytes.len();
    let expected = format!(
        "`/a.npy` is {} bytes long, but its header says {len}; it was cut off: copy it again",
        len - 1
    );
    assert_eq!(message_of("/a.npy", &bytes[..len - 1]), expected);
    let expected = format!(
        "`/a.npy` is {} bytes long, but its header says {len}; something was appended to it",
        len + 1
    );
    assert_eq!(message_of("/a.npy", &[&bytes[..], &[0]].concat()), expected);
    assert!(message_of("/a.npy", &bytes[..9]).contains("ends inside its npy header"));
}

#[test]
fn other_files_are_refused_with_the_way_out() {
    let disk = disk_with("/d/a", b"");
    let open = |path| MatrixSource::open(&disk, Path::new(path)).unwrap_err();
    assert_eq!(open("/none.npy").to_string(), "`/none.npy` does not exist");
    assert!(matches!(open("/d"), OpenMatrixError::NotAFile { .. }));
    assert_eq!(open("/d/a").to_string(), "`/d/a` holds no numbers");
    assert!(message_of("/a.npz", b"PK\x03\x04....").contains("np.save('a.npy', np.load(path)['a'])"));
    assert_eq!(
        message_of("/a", b"1 2 \xff"),
        "`/a` is neither an npy file nor text"
    );
    assert_eq!(
        message_of("/a", b"1 2 \0"),
        "`/a` is neither an npy file nor text"
    );
    assert!(message_of("/a", b"x y\n1 2\n").starts_with("`/a` line 1, column 1: `x` is not a number"));
}

#[test]
fn large_text_is_refused_before_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.csv");
    RealDisk
        .create_new(&path)
        .unwrap()
        .set_len(TEXT_BYTES_MAX + 1)
        .unwrap();
    let error = MatrixSource::open(&RealDisk, &path).unwrap_err();
    assert!(matches!(&error, OpenMatrixError::TextTooLarge { len, .. } if *len == TEXT_BYTES_MAX + 1));
    assert!(error.to_string().contains("numpy.save"));
}

#[test]
fn a_file_cut_while_it_is_read_has_changed_and_a_failing_disk_has_not() {
    let bytes = npy_bytes(
        (20, 30),
        ElementType::F64,
        ByteOrder::Little,
        StorageOrder::RowMajor,
        value,
    );
    let disk = disk_with("/a.npy", &bytes);
    let source = MatrixSource::open(&disk, Path::new("/a.npy")).unwrap();
    let mut out = [0.0_f64; 30];
    disk.fail_nth(1, io::ErrorKind::Other);
    match source.read_block(2..3, 0..30, &mut out).unwrap_err() {
        ReadMatrixError::Io { offset, .. } => assert_eq!(offset, source.info().data_offset + 480),
        other => panic!("{other}"),
    }
    assert_eq!(disk.failed_count(), 1);
    disk.open_write(Path::new("/a.npy"))
        .unwrap()
        .set_len(500)
        .unwrap();
    let error = source.read_block(19..20, 0..30, &mut out).unwrap_err();
    assert!(error.to_string().contains("changed while it was read"), "{error}");
    assert!(matches!(source.identity(), Err(ReadMatrixError::Changed { .. })));
}

#[test]
fn identity_sees_a_touch_and_a_change() {
    let disk = disk_with("/a.csv", b"1 2\n3 4\n");
    let identity = || {
        MatrixSource::open(&disk, Path::new("/a.csv"))
            .unwrap()
            .identity()
            .unwrap()
    };
    let before = identity();
    assert_eq!(before.header, "text <f8 2 x 2 row-major");
    assert_eq!(before.difference(&identity()), IdentityDifference::Same);
    disk.install("/a.csv", b"1 2\n3 4\n");
    assert_eq!(before.difference(&identity()), IdentityDifference::Touched);
    disk.install("/a.csv", b"1 2\n3 5\n");
    assert!(matches!(
        before.difference(&identity()),
        IdentityDifference::Changed { .. }
    ));
}

#[test]
#[should_panic(expected = "rows 0..3 of 2")]
fn a_block_outside_the_matrix_is_a_bug() {
    let _ = source_of("/a.csv", b"1 2\n3 4\n").read_block(0..3, 0..1, &mut [0.0_f64; 3]);
}

proptest! {
    #[test]
    fn any_block_of_any_file_is_read(
        (rows, row_start, row_end) in (1_u64..12).prop_flat_map(|n| (Just(n), 0..=n, 0..=n)),
        (cols, col_start, col_end) in (1_u64..12).prop_flat_map(|n| (Just(n), 0..=n, 0..=n)),
        element_idx in 0..ElementType::ALL.len(),
        layout_idx in 0..LAYOUTS.len(),
    ) {
        let (byte_order, order) = LAYOUTS[layout_idx];
        let bytes = npy_bytes((rows, cols), ElementType::ALL[element_idx], byte_order, order, value);
        let source = source_of("/a.npy", &bytes);
        let rows = row_start.min(row_end)..row_start.max(row_end);
        let cols = col_start.min(col_end)..col_start.max(col_end);
        assert_block::<f64>(&source, rows.clone(), cols.clone());
        assert_block::<f32>(&source, rows, cols);
    }

    #[test]
    fn arbitrary_files_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), magic in any::<bool>()) {
        if magic {
            bytes.splice(0..0, *b"\x93NUMPY\x01\x00");
        }
        let _ = MatrixSource::open(&disk_with("/a", &bytes), Path::new("/a"));
    }

    #[test]
    fn a_flipped_header_byte_never_panics(at in 0_usize..80, flip in 1_u8..) {
        let mut bytes = npy_bytes((2, 3), ElementType::F64, ByteOrder::Little, StorageOrder::RowMajor, value);
        bytes[at] ^= flip;
        if let Ok(source) = MatrixSource::open(&disk_with("/a.npy", &bytes), Path::new("/a.npy")) {
            prop_assert_eq!(source.info().file_len, bytes.len() as u64);
        }
    }
}
