//! Sizes, durations, shapes and other values as they are typed, each with an error that names an example.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::fmt;
use std::time::Duration;
use tilework_linalg::{Algorithm, AlgorithmChoice};
use tilework_store::element_type::Dtype;

/// Rows and columns of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Number of rows.
    pub rows: u64,
    /// Number of columns.
    pub cols: u64,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.rows, self.cols)
    }
}

/// A longer time is a mistake, and from now on there is no such time on any clock.
const DURATION_MAX: Duration = Duration::from_secs(100 * 31_557_600);

/// A value that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a size in bytes.
    #[error("not a size: write a number and a unit, for example 2GiB, 512MiB or 1.5GB")]
    NotASize,
    /// A size of nothing.
    #[error("must be more than 0, for example 2GiB")]
    ZeroSize,
    /// More bytes than any machine has.
    #[error("too large: at most 8EiB, for example 2GiB")]
    SizeTooLarge,
    /// Not a rate of bytes.
    #[error("not a rate: write a size and `/s`, for example 2GB/s")]
    NotABandwidth,
    /// Not a rate of arithmetic.
    #[error("not a rate in GF/s: write a number above 0, for example 150")]
    NotGflops,
    /// Not a duration.
    #[error("not a time: write numbers and units, for example 55m, 90s or 1h30m")]
    NotADuration,
    /// No time at all.
    #[error("must be more than 0, for example 55m")]
    ZeroDuration,
    /// Longer than a hundred years.
    #[error("too long: at most 100y, for example 55m")]
    DurationTooLong,
    /// Not two extents.
    #[error("not a shape: write rows x columns without spaces, for example 8192x4096")]
    NotAShape,
    /// Not a factor.
    #[error("not a factor: write a finite number, for example 0.5, -1 or 6.6e-34")]
    NotAFactor,
    /// A number between 0 and the smallest one.
    #[error("too close to 0 for any number type: write 0 or, for example, 1e-30")]
    FactorTooSmall,
    /// Not a tolerance.
    #[error("not a tolerance: write a number from 0 on, for example 1e-12")]
    NotATolerance,
}

/// Accepts the names of the algorithms.
pub fn algorithms() -> impl TypedValueParser<Value = AlgorithmChoice> {
    PossibleValuesParser::new(["classical", "strassen", "auto"]).map(|name| match name.as_str() {
        "strassen" => AlgorithmChoice::Only(Algorithm::Strassen),
        "auto" => AlgorithmChoice::Auto,
        _ => AlgorithmChoice::Only(Algorithm::Classical),
    })
}

/// Parses a size in bytes. `KiB`, `MiB`, ... and `K`, `M`, ... are powers of 1024; `KB`, `MB`, ... are powers of 1000.
///
/// ```
/// use tilework::args::values::parse_size;
/// assert_eq!(parse_size("2GiB"), Ok(2 << 30));
/// assert_eq!(parse_size("1.5 GB"), Ok(1_500_000_000));
/// assert_eq!(parse_size("4096"), Ok(4096));
/// assert!(parse_size("0").is_err());
/// ```
pub fn parse_size(text: &str) -> Result<u64, ValueError> {
    let text = text.trim();
    let unit_start = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_start);
    let factor = unit_bytes(unit).ok_or(ValueError::NotASize)?;
    let number = number.trim_end();
    let bytes = match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(factor).ok_or(ValueError::SizeTooLarge)?,
        Err(_) => fraction_bytes(number, factor)?,
    };
    match bytes {
        0 => Err(ValueError::ZeroSize),
        _ if bytes > i64::MAX as u64 => Err(ValueError::SizeTooLarge),
        _ => Ok(bytes),
    }
}

fn unit_bytes(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    let (prefix, base): (&str, u64) = match unit.strip_suffix("ib") {
        Some(prefix) if !prefix.is_empty() => (prefix, 1024),
        _ => match unit.strip_suffix('b') {
            Some(prefix) => (prefix, 1000),
            None => (&unit, 1024),
        },
    };
    let power = ["", "k", "m", "g", "t", "p"]
        .iter()
        .position(|known| *known == prefix)?;
    base.checked_pow(power as u32)
}

fn fraction_bytes(number: &str, factor: u64) -> Result<u64, ValueError> {
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = number
        .parse()
        .ok()
        .filter(|_| is_plain)
        .ok_or(ValueError::NotASize)?;
    let bytes = number * factor as f64;
    // Above 2^53 bytes a fraction means nothing.
    if bytes >= i64::MAX as f64 {
        Err(ValueError::SizeTooLarge)
    } else {
        Ok(bytes as u64)
    }
}

/// Parses bytes per second: a size, with or without `/s`. A bare number is refused: nobody means so few bytes.
///
/// ```
/// use tilework::args::values::parse_bandwidth;
/// assert_eq!(parse_bandwidth("2GB/s"), Ok(2_000_000_000));
/// assert!(parse_bandwidth("100").is_err());
/// ```
pub fn parse_bandwidth(text: &str) -> Result<u64, ValueError> {
    if !text.contains(|c: char| c.is_ascii_alphabetic()) {
        return Err(ValueError::NotABandwidth);
    }
    parse_size(text.strip_suffix("/s").unwrap_or(text)).map_err(|_| ValueError::NotABandwidth)
}

/// Parses a rate in GF/s.
pub fn parse_gflops(text: &str) -> Result<f64, ValueError> {
    let rate: f64 = text.parse().map_err(|_| ValueError::NotGflops)?;
    if rate.is_finite() && rate > 0.0 {
        Ok(rate)
    } else {
        Err(ValueError::NotGflops)
    }
}

/// Parses a time such as `55m`, `90s` or `1h30m`.
pub fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    match humantime::parse_duration(text.trim()) {
        Ok(Duration::ZERO) => Err(ValueError::ZeroDuration),
        Ok(duration) if duration > DURATION_MAX => Err(ValueError::DurationTooLong),
        Ok(duration) => Ok(duration),
        Err(_) => Err(ValueError::NotADuration),
    }
}

/// Parses a shape such as `8192x4096`.
///
/// ```
/// use tilework::args::values::{Shape, parse_shape};
/// assert_eq!(parse_shape("8192x4096"), Ok(Shape { rows: 8192, cols: 4096 }));
/// assert!(parse_shape("8192").is_err());
/// ```
pub fn parse_shape(text: &str) -> Result<Shape, ValueError> {
    let (rows, cols) = text
        .split_once(['x', 'X', '×', '*'])
        .ok_or(ValueError::NotAShape)?;
    let extent = |text: &str| {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>()
            .ok()
            .filter(|_| is_plain)
            .ok_or(ValueError::NotAShape)
    };
    Ok(Shape {
        rows: extent(rows)?,
        cols: extent(cols)?,
    })
}

/// Parses a finite number from 0 on.
pub fn parse_tolerance(text: &str) -> Result<f64, ValueError> {
    let value: f64 = text.trim().parse().map_err(|_| ValueError::NotATolerance)?;
    if value.is_finite() && value >= 0.0 {
        Ok(value)
    } else {
        Err(ValueError::NotATolerance)
    }
}

/// Parses a finite number of either sign.
///
/// ```
/// use tilework::args::values::parse_factor;
/// assert_eq!(parse_factor("-2.5e3"), Ok(-2500.0));
/// assert!(parse_factor("inf").is_err());
/// ```
pub fn parse_factor(text: &str) -> Result<f64, ValueError> {
    let text = text.trim();
    let value: f64 = text.parse().map_err(|_| ValueError::NotAFactor)?;
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    if !value.is_finite() {
        Err(ValueError::NotAFactor)
    } else if value == 0.0 && mantissa.contains(|c: char| ('1'..='9').contains(&c)) {
        Err(ValueError::FactorTooSmall)
    } else {
        Ok(value)
    }
}

/// Parses a dtype, and offers both in help and completions.
pub fn dtypes() -> impl TypedValueParser<Value = Dtype> {
    PossibleValuesParser::new(["f64", "f32"]).try_map(|text| text.parse::<Dtype>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_know_both_kinds_of_units() {
        for (text, bytes) in [
            ("1", 1),
            ("512MiB", 512 << 20),
            ("512mib", 512 << 20),
            ("2G", 2 << 30),
            ("1.5GB", 1_500_000_000),
            ("1.5 GiB", 3 << 29),
            (".5KiB", 512),
            ("10B", 10),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn sizes_that_are_none_are_refused_with_an_example() {
        for text in [
            "", "GiB", "ib", "2XB", "-1GiB", "1e3", "nan", "inf", "1..5GiB", "2 Gi B", "٣GiB",
        ] {
            let error = parse_size(text).unwrap_err();
            assert_eq!(error, ValueError::NotASize, "{text}");
            assert!(error.to_string().contains("2GiB"));
        }
        for text in ["0", "0GiB", "0.0MiB", "0.1"] {
            assert_eq!(parse_size(text), Err(ValueError::ZeroSize), "{text}");
        }
        for text in ["99999999PiB", "9223372036854775808", "9999999999.5PiB"] {
            assert_eq!(parse_size(text), Err(ValueError::SizeTooLarge), "{text}");
        }
    }

    #[test]
    fn durations_shapes_and_tolerances() {
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("0s"), Err(ValueError::ZeroDuration));
        assert_eq!(parse_duration("55"), Err(ValueError::NotADuration));
        assert_eq!(parse_duration("100y"), Ok(DURATION_MAX));
        // Whoever waited that long panicked as he reckoned until when.
        assert_eq!(
            parse_duration("18446744073709551615s"),
            Err(ValueError::DurationTooLong)
        );
        assert_eq!(parse_shape("0x5"), Ok(Shape { rows: 0, cols: 5 }));
        for text in [
            "",
            "x",
            "5x",
            "x5",
            "-1x2",
            "+1x2",
            "1x2x3",
            "1 x 2",
            "99999999999999999999x1",
        ] {
            assert_eq!(parse_shape(text), Err(ValueError::NotAShape), "{text}");
        }
        assert_eq!(parse_tolerance("1e-12"), Ok(1e-12));
        for text in ["", "-1", "nan", "inf", "x"] {
            assert_eq!(parse_tolerance(text), Err(ValueError::NotATolerance), "{text}");
        }
    }

    #[test]
    fn factors_are_finite_and_what_was_written() {
        for (text, value) in [
            ("1", 1.0),
            (" -0.5", -0.5),
            ("6.6e-34", 6.6e-34),
            ("0", 0.0),
            ("-0e5", 0.0),
        ] {
            assert_eq!(parse_factor(text), Ok(value), "{text}");
        }
        for text in ["", "x", "nan", "inf", "-infinity", "1e999", "0x1", "1/2"] {
            assert_eq!(parse_factor(text), Err(ValueError::NotAFactor), "{text}");
        }
        assert_eq!(parse_factor("1e-999"), Err(ValueError::FactorTooSmall));
    }
}
