//! Matrices as text: small ones, for people.
//!
//! One row per line; values separated by commas, semicolons, tabs or spaces, told by the first row; `#` starts a
//! comment; blank lines are skipped. Nothing else is guessed: a header line, a missing value or a short row is
//! refused with its place.

use std::io::{self, Write};
use std::ops::Range;

use crate::element_type::Scalar;

/// The longest piece of a bad value that a message shows.
const SHOWN_CHARS_MAX: usize = 40;

/// A matrix from a text file, held in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct TextMatrix {
    cols: usize,
    /// Row-major; never empty.
    values: Vec<f64>,
}

/// Why a text is not a matrix. Lines and columns count from 1; columns are values, not characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// No line holds a value.
    #[error("holds no numbers")]
    Empty,
    /// A value that is no number.
    #[error("line {line}, column {column}: `{value}` is not a number{}", header_hint(*is_first_row))]
    NotANumber {
        /// Line of the file.
        line: usize,
        /// Value of the line.
        column: usize,
        /// The value, shortened.
        value: String,
        /// Whether this is the first row, so that it may be a header.
        is_first_row: bool,
    },
    /// Nothing between two separators.
    #[error("line {line}, column {column}: a value is missing")]
    MissingValue {
        /// Line of the file.
        line: usize,
        /// Value of the line.
        column: usize,
    },
    /// Rows of different lengths.
    #[error("line {line} has {actual} values, but line {first_line} has {expected}")]
    Ragged {
        /// Line of the file.
        line: usize,
        /// Its number of values.
        actual: usize,
        /// Line of the first row.
        first_line: usize,
        /// Number of values of the first row.
        expected: usize,
    },
}

fn header_hint(is_first_row: bool) -> &'static str {
    if is_first_row {
        "; if this line is a header, remove it or put `#` in front"
    } else {
        ""
    }
}

impl TextMatrix {
    /// Parses a whole file.
    ///
    /// ```
    /// use tilework_store::text::TextMatrix;
    /// let matrix = TextMatrix::parse("# two rows\n1, 2\n3, 4.5e0\n").unwrap();
    /// assert_eq!((matrix.rows(), matrix.cols()), (2, 2));
    /// assert_eq!(matrix.values(), [1.0, 2.0, 3.0, 4.5]);
    /// ```
    pub fn parse(text: &str) -> Result<TextMatrix, TextError> {
        let mut rows = data_lines(text).peekable();
        let (first_line, first_row) = *rows.peek().ok_or(TextError::Empty)?;
        let separator = Separator::of(first_row);
        let cols = separator.split(first_row).count();

        // Exact for a good file; a bad one can't reserve more than its text could fill.
        let n_values = data_lines(text)
            .count()
            .saturating_mul(cols)
            .min(text.len() / 2 + 1);
        let mut values = Vec::with_capacity(n_values);
        for (line, row) in rows {
            let start = values.len();
            for (value, column) in separator.split(row).zip(1..) {
                values.push(parse_value(value, line, column, line == first_line)?);
            }
            let actual = values.len() - start;
            if actual != cols {
                return Err(TextError::Ragged {
                    line,
                    actual,
                    first_line,
                    expected: cols,
                });
            }
        }
        Ok(TextMatrix { cols, values })
    }

    /// Number of rows, at least 1.
    pub fn rows(&self) -> u64 {
        (self.values.len() / self.cols) as u64
    }

    /// Number of columns, at least 1.
    pub fn cols(&self) -> u64 {
        self.cols as u64
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Bytes of memory held.
    pub fn resident_bytes(&self) -> u64 {
        (self.values.capacity() * size_of::<f64>()) as u64
    }

    /// Copies a block that lies inside the matrix; returns its (row stride, column stride).
    pub(crate) fn copy_block<T: Scalar>(
        &self,
        rows: Range<u64>,
        cols: Range<u64>,
        out: &mut [T],
    ) -> (usize, usize) {
        let width = (cols.end - cols.start) as usize;
        if width > 0 {
            for (row, out_row) in (rows.start as usize..).zip(out.chunks_exact_mut(width)) {
                let start = row * self.cols + cols.start as usize;
                for (place, value) in out_row.iter_mut().zip(&self.values[start..start + width]) {
                    *place = T::from_f64(*value);
                }
            }
        }
        (width, 1)
    }
}

/// The lines that hold values, with their numbers; comments and outer space are cut off.
fn data_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = (1..).zip(text.lines().map(without_comment));
    lines.filter(|(_, line)| !line.trim().is_empty())
}

fn without_comment(line: &str) -> &str {
    match line.split_once('#') {
        Some((values, _)) => values.trim_end().trim_start_matches(' '),
        // A tab at the end separates a missing value; a space or a carriage return doesn't.
        None => line.trim_matches([' ', '\r']),
    }
}

/// What stands between two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Separator {
    Character(char),
    Spaces,
}

impl Separator {
    fn of(row: &str) -> Self {
        [';', ',', '\t']
            .into_iter()
            .find(|mark| row.contains(*mark))
            .map_or(Self::Spaces, Self::Character)
    }

    fn split(self, row: &str) -> impl Iterator<Item = &str> {
        let (by_character, by_spaces) = match self {
            Self::Character(mark) => (Some(row.split(mark).map(str::trim)), None),
            Self::Spaces => (None, Some(row.split_whitespace())),
        };
        by_character
            .into_iter()
            .flatten()
            .chain(by_spaces.into_iter().flatten())
    }
}

fn parse_value(value: &str, line: usize, column: usize, is_first_row: bool) -> Result<f64, TextError> {
    if value.is_empty() {
        return Err(TextError::MissingValue { line, column });
    }
    value.parse().map_err(|_| {
        let value = value
            .chars()
            .take(SHOWN_CHARS_MAX)
            .collect::<String>()
            .escape_debug()
            .to_string();
        TextError::NotANumber {
            line,
            column,
            value,
            is_first_row,
        }
    })
}

/// Prints row-major `values` in rows of `cols`, so that reading them gives the same values again.
///
/// ```
/// let mut text = Vec::new();
/// tilework_store::text::format_text(&mut text, &[19.0, 22.0, 43.0, 0.1], 2).unwrap();
/// assert_eq!(text, b"19 22\n43 0.1\n");
/// ```
///
/// # Panics
/// If `values` is not whole rows.
pub fn format_text<T: Scalar>(out: &mut dyn Write, values: &[T], cols: usize) -> io::Result<()> {
    assert!(
        values.is_empty() || values.len().is_multiple_of(cols),
        "{} values in rows of {cols}",
        values.len()
    );
    for row in values.chunks(cols.max(1)) {
        for (column, value) in row.iter().enumerate() {
            if column > 0 {
                out.write_all(b" ")?;
            }
            format_value(out, *value)?;
        }
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// The shortest text that reads as the same value; with an exponent where digits alone would be long.
fn format_value<T: Scalar>(out: &mut dyn Write, value: T) -> io::Result<()> {
    let magnitude = value.to_f64().abs();
    if magnitude.is_nan() {
        write!(out, "nan")
    } else if magnitude.is_finite() && magnitude != 0.0 && !(1e-5..1e16).contains(&magnitude) {
        write!(out, "{value:e}")
    } else {
        write!(out, "{value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values_of(text: &str) -> Vec<f64> {
        TextMatrix::parse(text).unwrap().values
    }

    fn message_of(text: &str) -> String {
        TextMatrix::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn every_separator_is_told_by_the_first_row() {
        for text in [
            "1,2\n3,4\n",
            "1; 2\r\n3 ;4",
            "1\t2\n3\t 4\n",
            "  1   2 \n3 4",
            "\u{feff}1 2\n\n# x\n3 4 # y\n",
        ] {
            let matrix = TextMatrix::parse(text).unwrap();
            assert_eq!((matrix.rows(), matrix.cols()), (2, 2), "{text:?}");
            assert_eq!(matrix.values(), [1.0, 2.0, 3.0, 4.0], "{text:?}");
            assert_eq!(matrix.resident_bytes(), 32);
        }
        assert_eq!(values_of("7"), [7.0]);
    }

    #[test]
    fn infinities_and_nans_are_numbers() {
        let values = values_of("inf -inf NaN 1e-3 +2 .5");
        assert_eq!(values[..2], [f64::INFINITY, f64::NEG_INFINITY]);
        assert!(values[2].is_nan());
        assert_eq!(values[3..], [1e-3, 2.0, 0.5]);
    }

    #[test]
    fn what_is_no_matrix_is_refused_with_its_place() {
        let hint = "; if this line is a header, remove it or put `#` in front";
        assert_eq!(
            message_of("name, size\n1, 2\n"),
            format!("line 1, column 1: `name` is not a number{hint}")
        );
        assert_eq!(
            message_of("1, 2\n\n3, x\u{7}y\n"),
            "line 3, column 2: `x\\u{7}y` is not a number"
        );
        assert_eq!(
            message_of("1,5;2\n"),
            format!("line 1, column 1: `1,5` is not a number{hint}")
        );
        assert_eq!(
            message_of("# first\n1 2 3\n4 5\n"),
            "line 3 has 2 values, but line 2 has 3"
        );
        assert_eq!(message_of("1,,3\n"), "line 1, column 2: a value is missing");
        assert_eq!(message_of("1\t2\t\n"), "line 1, column 3: a value is missing");
        assert_eq!(message_of(""), "holds no numbers");
        assert_eq!(message_of("\n \t\n# 1 2\n"), "holds no numbers");
        assert!(message_of("\r\u{feff}#").contains("is not a number"));
        assert!(message_of(&"x".repeat(1000)).len() < 150);
    }

    #[test]
    fn whole_numbers_print_without_a_point_and_long_ones_with_an_exponent() {
        let mut text = Vec::new();
        format_text(
            &mut text,
            &[19.0, -0.5, 1e300, 1e-300, f64::NAN, f64::NEG_INFINITY],
            3,
        )
        .unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "19 -0.5 1e300\n1e-300 nan -inf\n"
        );
        let mut text = Vec::new();
        format_text(&mut text, &[0.1_f32, 16777216.0], 1).unwrap();
        assert_eq!(text, b"0.1\n16777216\n");
        let mut text = Vec::new();
        format_text::<f64>(&mut text, &[], 0).unwrap();
        assert_eq!(text, b"");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(bits in prop::collection::vec(any::<u64>(), 1..40), cols in 1_usize..6) {
            let values = bits.into_iter().map(f64::from_bits).collect::<Vec<_>>();
            let values = &values[..values.len() / cols * cols];
            let mut text = Vec::new();
            format_text(&mut text, values, cols).unwrap();
            if values.is_empty() {
                return Ok(());
            }
            let matrix = TextMatrix::parse(std::str::from_utf8(&text).unwrap()).unwrap();
            prop_assert_eq!(matrix.cols(), cols as u64);
            for (read, value) in matrix.values().iter().zip(values) {
                prop_assert!(read.to_bits() == value.to_bits() || (read.is_nan() && value.is_nan()));
            }
        }

        #[test]
        fn f32_is_read_back_as_well(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            let mut text = Vec::new();
            format_text(&mut text, &[value], 1).unwrap();
            let read = values_of(std::str::from_utf8(&text).unwrap())[0] as f32;
            prop_assert!(read.to_bits() == bits || (read.is_nan() && value.is_nan()));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "[0-9a-z.,;#\t\r\n \u{feff}é-]{0,80}") {
            if let Ok(matrix) = TextMatrix::parse(&text) {
                prop_assert_eq!(matrix.rows() * matrix.cols(), matrix.values().len() as u64);
            }
        }
    }
}
