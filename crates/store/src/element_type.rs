//! What a file's elements are, and the two types that we compute in.
//!
//! [`ElementType`] and [`ByteOrder`] describe bytes on storage; [`Dtype`] and [`Scalar`] the numbers in memory.

use std::fmt::{self, Debug, Display, LowerExp};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The type of one element of a matrix file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// IEEE binary64.
    F64,
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// Signed, 8 bits.
    I8,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// One byte; anything but zero is true and reads as 1.
    Bool,
}

/// The order of the bytes of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl ElementType {
    /// Every element type.
    pub const ALL: [ElementType; 12] = [
        ElementType::F64,
        ElementType::F32,
        ElementType::F16,
        ElementType::I8,
        ElementType::I16,
        ElementType::I32,
        ElementType::I64,
        ElementType::U8,
        ElementType::U16,
        ElementType::U32,
        ElementType::U64,
        ElementType::Bool,
    ];

    /// Bytes of one element.
    pub const fn size(self) -> u64 {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// numpy's kind and size, without the byte order: `f8`, `i4`, `b1`.
    const fn numpy_code(self) -> &'static str {
        match self {
            Self::F64 => "f8",
            Self::F32 => "f4",
            Self::F16 => "f2",
            Self::I8 => "i1",
            Self::I16 => "i2",
            Self::I32 => "i4",
            Self::I64 => "i8",
            Self::U8 => "u1",
            Self::U16 => "u2",
            Self::U32 => "u4",
            Self::U64 => "u8",
            Self::Bool => "b1",
        }
    }

    /// numpy's `descr` as numpy writes it: `<f8`, `>f4`, `|b1`.
    ///
    /// ```
    /// use tilework_store::element_type::{ByteOrder, ElementType};
    /// assert_eq!(ElementType::F32.numpy_descr(ByteOrder::Big), ">f4");
    /// assert_eq!(ElementType::Bool.numpy_descr(ByteOrder::Big), "|b1");
    /// ```
    pub fn numpy_descr(self, byte_order: ByteOrder) -> String {
        let mark = match byte_order {
            _ if self.size() == 1 => '|',
            ByteOrder::Little => '<',
            ByteOrder::Big => '>',
        };
        format!("{mark}{}", self.numpy_code())
    }

    /// Parses numpy's `descr`. One-byte types are little-endian, as good as any.
    ///
    /// ```
    /// use tilework_store::element_type::{ByteOrder, ElementType};
    /// assert_eq!(ElementType::parse_numpy_descr(">i2").unwrap(), (ElementType::I16, ByteOrder::Big));
    /// assert!(ElementType::parse_numpy_descr("|O").is_err());
    /// ```
    pub fn parse_numpy_descr(descr: &str) -> Result<(ElementType, ByteOrder), DescrError> {
        let unsupported = |kind| DescrError {
            descr: descr.to_owned(),
            kind,
        };
        let (byte_order, code) = match descr.split_at_checked(1) {
            Some(("<" | "=" | "|", code)) => (ByteOrder::Little, code),
            Some((">", code)) => (ByteOrder::Big, code),
            _ => (ByteOrder::Little, descr),
        };
        match Self::ALL.into_iter().find(|element| element.numpy_code() == code) {
            Some(element) if element.size() == 1 => Ok((element, ByteOrder::Little)),
            Some(element) => Ok((element, byte_order)),
            None => Err(unsupported(UnsupportedKind::of_numpy_code(code))),
        }
    }
}

impl Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::U8 => "uint8",
            Self::U16 => "uint16",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
            Self::Bool => "bool",
        })
    }
}

/// An element type that is not supported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} (dtype `{descr}`) are not supported{}", kind.way_out())]
pub struct DescrError {
    /// The `descr` as the file has it.
    pub descr: String,
    /// What it stands for.
    pub kind: UnsupportedKind,
}

/// Elements that numpy can store and we can't multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsupportedKind {
    /// Pickled Python objects.
    Object,
    /// Pairs of floats.
    Complex,
    /// Bytes or Unicode text.
    String,
    /// Records of several fields, or raw bytes.
    Structured,
    /// Dates and time spans.
    Time,
    /// Extended or quadruple precision.
    LongFloat,
    /// Anything else.
    Unknown,
}

impl UnsupportedKind {
    fn of_numpy_code(code: &str) -> Self {
        match code.chars().next() {
            Some('O') => Self::Object,
            Some('c') => Self::Complex,
            Some('S' | 'U' | 'a') => Self::String,
            Some('V') => Self::Structured,
            Some('m' | 'M') => Self::Time,
            Some('f' | 'g') => Self::LongFloat,
            _ => Self::Unknown,
        }
    }

    fn way_out(self) -> &'static str {
        match self {
            Self::Complex => "; in numpy: a.real and a.imag",
            Self::Structured | Self::Unknown => "",
            Self::Object | Self::String | Self::Time | Self::LongFloat => "; in numpy: a.astype('f8')",
        }
    }
}

impl Display for UnsupportedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Object => "Python objects",
            Self::Complex => "complex numbers",
            Self::String => "strings",
            Self::Structured => "structured elements",
            Self::Time => "dates and times",
            Self::LongFloat => "floats of this size",
            Self::Unknown => "elements of this type",
        })
    }
}

/// The type that a job computes in and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE binary64.
    F64,
    /// IEEE binary32.
    F32,
}

impl Dtype {
    /// Bytes of one element.
    pub const fn size(self) -> u64 {
        self.element().size()
    }

    /// The same type as a file's element.
    pub const fn element(self) -> ElementType {
        match self {
            Self::F64 => ElementType::F64,
            Self::F32 => ElementType::F32,
        }
    }
}

impl Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.element(), f)
    }
}

impl FromStr for Dtype {
    type Err = ParseDtypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "f64" => Ok(Self::F64),
            "f32" => Ok(Self::F32),
            _ => Err(ParseDtypeError {
                text: text.to_owned(),
            }),
        }
    }
}

/// A dtype's name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a dtype; use `f64` or `f32`")]
pub struct ParseDtypeError {
    /// What was given.
    pub text: String,
}

/// A number in memory: `f64` or `f32`.
///
/// Conversions round to nearest, ties to even; a value too large for `f32` becomes an infinity.
pub trait Scalar:
    bytemuck::Pod + Copy + Send + Sync + Default + PartialOrd + Debug + Display + LowerExp + 'static
{
    /// This type's name in plans and files.
    const DTYPE: Dtype;
    /// The exact value.
    fn to_f64(self) -> f64;
    /// The nearest value.
    fn from_f64(value: f64) -> Self;
    /// The nearest value, rounded once.
    fn from_i64(value: i64) -> Self;
    /// The nearest value, rounded once.
    fn from_u64(value: u64) -> Self;
}

macro_rules! scalar {
    ($type:ty, $dtype:expr) => {
        impl Scalar for $type {
            const DTYPE: Dtype = $dtype;
            #[inline]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline]
            fn from_f64(value: f64) -> Self {
                value as $type
            }
            #[inline]
            fn from_i64(value: i64) -> Self {
                value as $type
            }
            #[inline]
            fn from_u64(value: u64) -> Self {
                value as $type
            }
        }
    };
}
scalar!(f64, Dtype::F64);
scalar!(f32, Dtype::F32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_descr_round_trips() {
        for element in ElementType::ALL {
            for byte_order in [ByteOrder::Little, ByteOrder::Big] {
                let parsed = ElementType::parse_numpy_descr(&element.numpy_descr(byte_order)).unwrap();
                let kept = if element.size() == 1 {
                    ByteOrder::Little
                } else {
                    byte_order
                };
                assert_eq!(parsed, (element, kept));
            }
        }
        assert_eq!(
            ElementType::parse_numpy_descr("=f8").unwrap(),
            (ElementType::F64, ByteOrder::Little)
        );
        assert_eq!(
            ElementType::parse_numpy_descr("f4").unwrap(),
            (ElementType::F32, ByteOrder::Little)
        );
    }

    #[test]
    fn foreign_descrs_say_what_they_are() {
        for (descr, kind) in [
            ("|O", UnsupportedKind::Object),
            ("<c16", UnsupportedKind::Complex),
            ("<U7", UnsupportedKind::String),
            ("|S7", UnsupportedKind::String),
            ("|V8", UnsupportedKind::Structured),
            ("<M8[ns]", UnsupportedKind::Time),
            ("<f16", UnsupportedKind::LongFloat),
            ("", UnsupportedKind::Unknown),
            ("é8", UnsupportedKind::Unknown),
        ] {
            assert_eq!(
                ElementType::parse_numpy_descr(descr).unwrap_err().kind,
                kind,
                "{descr}"
            );
        }
        let message = ElementType::parse_numpy_descr("<c16").unwrap_err().to_string();
        assert_eq!(
            message,
            "complex numbers (dtype `<c16`) are not supported; in numpy: a.real and a.imag"
        );
    }

    #[test]
    fn dtypes_parse_print_and_serialise_by_one_name() {
        for dtype in [Dtype::F64, Dtype::F32] {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
            assert_eq!(serde_json::to_string(&dtype).unwrap(), format!("\"{dtype}\""));
        }
        assert!("f16".parse::<Dtype>().is_err());
        assert_eq!(ElementType::U8.to_string(), "uint8");
    }
}
