//! `.npy` files for tests, made by hand byte by byte.

use half::f16;

use crate::element_type::{ByteOrder, ElementType};
use crate::matrix::StorageOrder;

/// A file of the given version with this dictionary and these element bytes.
pub(crate) fn npy_bytes_of_version(version: u8, dictionary: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend_from_slice(&[version, 0]);
    match version {
        1 => bytes.extend_from_slice(&(dictionary.len() as u16).to_le_bytes()),
        _ => bytes.extend_from_slice(&(dictionary.len() as u32).to_le_bytes()),
    }
    bytes.extend_from_slice(dictionary.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// A file of the given layout whose element (i, j) is `value(i, j)`, which fits every element type.
pub(crate) fn npy_bytes(
    (rows, cols): (u64, u64),
    element: ElementType,
    byte_order: ByteOrder,
    order: StorageOrder,
    value: impl Fn(u64, u64) -> u8,
) -> Vec<u8> {
    let fortran_order = if order == StorageOrder::ColumnMajor {
        "True"
    } else {
        "False"
    };
    let descr = element.numpy_descr(byte_order);
    let dictionary =
        format!("{{'descr': '{descr}', 'fortran_order': {fortran_order}, 'shape': ({rows}, {cols}), }}  \n");
    let mut data = Vec::new();
    match order {
        StorageOrder::RowMajor => {
            for (i, j) in (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j))) {
                data.extend(element_bytes(element, byte_order, value(i, j)));
            }
        }
        StorageOrder::ColumnMajor => {
            for (i, j) in (0..cols).flat_map(|j| (0..rows).map(move |i| (i, j))) {
                data.extend(element_bytes(element, byte_order, value(i, j)));
            }
        }
    }
    npy_bytes_of_version(1, &dictionary, &data)
}

fn element_bytes(element: ElementType, byte_order: ByteOrder, value: u8) -> Vec<u8> {
    let mut bytes = match element {
        ElementType::F64 => f64::from(value).to_le_bytes().to_vec(),
        ElementType::F32 => f32::from(value).to_le_bytes().to_vec(),
        ElementType::F16 => f16::from(value).to_le_bytes().to_vec(),
        ElementType::I8 | ElementType::U8 | ElementType::Bool => vec![value],
        ElementType::I16 | ElementType::U16 => u16::from(value).to_le_bytes().to_vec(),
        ElementType::I32 | ElementType::U32 => u32::from(value).to_le_bytes().to_vec(),
        ElementType::I64 | ElementType::U64 => u64::from(value).to_le_bytes().to_vec(),
    };
    if byte_order == ByteOrder::Big {
        bytes.reverse();
    }
    bytes
}
