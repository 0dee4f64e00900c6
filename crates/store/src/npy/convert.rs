//! Elements of a file to numbers in memory.

use half::f16;

use crate::element_type::{ByteOrder, ElementType, Scalar};

/// Whether a file's bytes are the bytes of `T` as they are.
pub(super) fn is_native<T: Scalar>(element: ElementType, byte_order: ByteOrder) -> bool {
    element == T::DTYPE.element() && byte_order == ByteOrder::Little
}

/// Converts the elements in `bytes`; `out` has one place for each.
pub(super) fn convert<T: Scalar>(element: ElementType, byte_order: ByteOrder, bytes: &[u8], out: &mut [T]) {
    debug_assert_eq!(bytes.len() as u64, out.len() as u64 * element.size());
    match element {
        ElementType::F64 => each(byte_order, bytes, out, |b| T::from_f64(f64::from_le_bytes(b))),
        ElementType::F32 => each(byte_order, bytes, out, |b| {
            T::from_f64(f32::from_le_bytes(b).into())
        }),
        ElementType::F16 => each(byte_order, bytes, out, |b| {
            T::from_f64(f16::from_le_bytes(b).into())
        }),
        ElementType::I8 => each(byte_order, bytes, out, |b| {
            T::from_i64(i8::from_le_bytes(b).into())
        }),
        ElementType::I16 => each(byte_order, bytes, out, |b| {
            T::from_i64(i16::from_le_bytes(b).into())
        }),
        ElementType::I32 => each(byte_order, bytes, out, |b| {
            T::from_i64(i32::from_le_bytes(b).into())
        }),
        ElementType::I64 => each(byte_order, bytes, out, |b| T::from_i64(i64::from_le_bytes(b))),
        ElementType::U8 => each(byte_order, bytes, out, |[b]| T::from_u64(b.into())),
        ElementType::U16 => each(byte_order, bytes, out, |b| {
            T::from_u64(u16::from_le_bytes(b).into())
        }),
        ElementType::U32 => each(byte_order, bytes, out, |b| {
            T::from_u64(u32::from_le_bytes(b).into())
        }),
        ElementType::U64 => each(byte_order, bytes, out, |b| T::from_u64(u64::from_le_bytes(b))),
        ElementType::Bool => each(byte_order, bytes, out, |[b]| T::from_u64((b != 0).into())),
    }
}

/// Calls `decode` with the little-endian bytes of each element.
fn each<T, const SIZE: usize>(
    byte_order: ByteOrder,
    bytes: &[u8],
    out: &mut [T],
    decode: impl Fn([u8; SIZE]) -> T,
) {
    let (chunks, _) = bytes.as_chunks::<SIZE>();
    match byte_order {
        ByteOrder::Little => {
            for (place, chunk) in out.iter_mut().zip(chunks) {
                *place = decode(*chunk);
            }
        }
        ByteOrder::Big => {
            for (place, chunk) in out.iter_mut().zip(chunks) {
                let mut chunk = *chunk;
                chunk.reverse();
                *place = decode(chunk);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted<T: Scalar>(element: ElementType, bytes: &[u8]) -> T {
        let mut out = [T::default()];
        convert(element, ByteOrder::Little, bytes, &mut out);
        out[0]
    }

    #[test]
    fn extremes_keep_their_sign_and_size() {
        assert_eq!(converted::<f64>(ElementType::I8, &[0x80]), -128.0);
        assert_eq!(converted::<f64>(ElementType::U8, &[0x80]), 128.0);
        assert_eq!(
            converted::<f64>(ElementType::I16, &i16::MIN.to_le_bytes()),
            -32768.0
        );
        assert_eq!(
            converted::<f64>(ElementType::I32, &i32::MIN.to_le_bytes()),
            -2147483648.0
        );
        assert_eq!(
            converted::<f64>(ElementType::U32, &u32::MAX.to_le_bytes()),
            4294967295.0
        );
        assert_eq!(
            converted::<f64>(ElementType::I64, &i64::MIN.to_le_bytes()),
            -(2.0_f64.powi(63))
        );
        assert_eq!(
            converted::<f64>(ElementType::U64, &u64::MAX.to_le_bytes()),
            2.0_f64.powi(64)
        );
        assert_eq!(converted::<f64>(ElementType::Bool, &[7]), 1.0);
        assert_eq!(
            converted::<f64>(ElementType::F16, &f16::MIN_POSITIVE_SUBNORMAL.to_le_bytes()),
            2.0_f64.powi(-24)
        );
        assert!(converted::<f64>(ElementType::F16, &f16::NAN.to_le_bytes()).is_nan());
    }

    #[test]
    fn narrowing_rounds_to_nearest_even_once() {
        assert_eq!(
            converted::<f32>(ElementType::F64, &1e300_f64.to_le_bytes()),
            f32::INFINITY
        );
        assert_eq!(
            converted::<f32>(ElementType::F64, &(1.0 + 2.0_f64.powi(-24)).to_le_bytes()),
            1.0
        );
        // By way of f64 this would round to 2^60 first, then stay there.
        let tie_plus_one = (1_i64 << 60) + (1 << 36) + 1;
        assert_eq!(
            converted::<f32>(ElementType::I64, &tie_plus_one.to_le_bytes()),
            2.0_f32.powi(60) + 2.0_f32.powi(37)
        );
    }
}
