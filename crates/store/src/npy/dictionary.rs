//! The header's dictionary: a Python literal with three known keys.
//!
//! Strict about what numpy writes, tolerant of spaces, key order, quotes and a trailing comma. Never panics.

/// The three values, as written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dictionary {
    pub(super) descr: Descr,
    pub(super) fortran_order: bool,
    pub(super) shape: Vec<u64>,
}

/// The value of `descr`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Descr {
    /// A simple type, for example `<f8`.
    Simple(String),
    /// A list or tuple of fields; skipped, not parsed.
    Fields,
}

/// Where and why parsing stopped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DictionaryError {
    pub(super) offset: usize,
    pub(super) expected: &'static str,
}

type Parsed<T> = Result<T, DictionaryError>;

/// Parses the whole text; after the dictionary only white space may follow.
pub(super) fn parse_dictionary(text: &[u8]) -> Parsed<Dictionary> {
    let mut cursor = Cursor { text, offset: 0 };
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    cursor.expect(b'{', "`{`")?;
    while !cursor.take(b'}') {
        let key_offset = cursor.offset;
        let key = cursor.string()?;
        cursor.expect(b':', "`:`")?;
        let repeated = match key {
            b"descr" => descr.replace(cursor.descr()?).is_some(),
            b"fortran_order" => fortran_order.replace(cursor.boolean()?).is_some(),
            b"shape" => shape.replace(cursor.shape()?).is_some(),
            _ => true,
        };
        if repeated {
            return Err(DictionaryError {
                offset: key_offset,
                expected: "`descr`, `fortran_order` and `shape`, once",
            });
        }
        if !cursor.take(b',') {
            cursor.expect(b'}', "`,` or `}`")?;
            break;
        }
    }
    cursor.skip_space();
    if cursor.offset < text.len() {
        return Err(cursor.error("nothing after the dictionary"));
    }
    match (descr, fortran_order, shape) {
        (Some(descr), Some(fortran_order), Some(shape)) => Ok(Dictionary {
            descr,
            fortran_order,
            shape,
        }),
        _ => Err(cursor.error("all of `descr`, `fortran_order` and `shape`")),
    }
}

struct Cursor<'a> {
    text: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    fn error(&self, expected: &'static str) -> DictionaryError {
        DictionaryError {
            offset: self.offset,
            expected,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.offset).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.offset += 1;
        }
    }

    /// Skips space, then takes `byte` if it is next.
    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.peek() == Some(byte);
        self.offset += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Parsed<()> {
        if self.take(byte) {
            Ok(())
        } else {
            Err(self.error(expected))
        }
    }

    fn take_while(&mut self, accepted: impl Fn(u8) -> bool) -> &'a [u8] {
        let start = self.offset;
        while self.peek().is_some_and(&accepted) {
            self.offset += 1;
        }
        &self.text[start..self.offset]
    }

    /// A quoted string without escapes, which none of the values that we accept needs.
    fn string(&mut self) -> Parsed<&'a [u8]> {
        self.skip_space();
        let quote = match self.peek() {
            Some(quote @ (b'\'' | b'"')) => quote,
            _ => return Err(self.error("a quoted string")),
        };
        self.offset += 1;
        let content = self.take_while(|byte| byte != quote && byte != b'\\');
        if self.peek() != Some(quote) {
            return Err(self.error("the end of a string"));
        }
        self.offset += 1;
        Ok(content)
    }

    fn descr(&mut self) -> Parsed<Descr> {
        self.skip_space();
        if matches!(self.peek(), Some(b'[' | b'(')) {
            self.skip_nested()?;
            return Ok(Descr::Fields);
        }
        Ok(Descr::Simple(
            String::from_utf8_lossy(self.string()?).into_owned(),
        ))
    }

    /// Skips a balanced list or tuple.
    fn skip_nested(&mut self) -> Parsed<()> {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'\'' | b'"' => {
                    self.string()?;
                    continue;
                }
                b'[' | b'(' => depth += 1,
                b']' | b')' => depth -= 1,
                _ => {}
            }
            self.offset += 1;
            if depth == 0 {
                return Ok(());
            }
        }
        Err(self.error("the end of a list"))
    }

    fn boolean(&mut self) -> Parsed<bool> {
        self.skip_space();
        let start = self.offset;
        match self.take_while(|byte| byte.is_ascii_alphanumeric()) {
            b"True" => Ok(true),
            b"False" => Ok(false),
            _ => Err(DictionaryError {
                offset: start,
                expected: "`True` or `False`",
            }),
        }
    }

    fn shape(&mut self) -> Parsed<Vec<u64>> {
        let mut shape = Vec::new();
        self.expect(b'(', "`(`")?;
        while !self.take(b')') {
            shape.push(self.integer()?);
            if !self.take(b',') {
                self.expect(b')', "`,` or `)`")?;
                break;
            }
        }
        Ok(shape)
    }

    /// A count that fits 64 bits; Python 2 wrote a final `L`.
    fn integer(&mut self) -> Parsed<u64> {
        self.skip_space();
        let start = self.offset;
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        let value = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| digits.parse().ok());
        self.offset += usize::from(self.peek() == Some(b'L'));
        value.ok_or(DictionaryError {
            offset: start,
            expected: "a count below 2^64",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn simple(descr: &str, fortran_order: bool, shape: &[u64]) -> Parsed<Dictionary> {
        Ok(Dictionary {
            descr: Descr::Simple(descr.to_owned()),
            fortran_order,
            shape: shape.to_vec(),
        })
    }

    #[test]
    fn what_numpy_writes_is_read() {
        let text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }          \n";
        assert_eq!(parse_dictionary(text), simple("<f8", false, &[3, 4]));
        let text = b"{'descr': '|b1', 'fortran_order': True, 'shape': (5,), }\n";
        assert_eq!(parse_dictionary(text), simple("|b1", true, &[5]));
        let text = b"{'shape': (), 'descr': '|b1', 'fortran_order': True}";
        assert_eq!(parse_dictionary(text), simple("|b1", true, &[]));
    }

    #[test]
    fn spaces_quotes_order_and_python_2_are_tolerated() {
        let text = b" { \"shape\" :( 3L ,4L ) ,'fortran_order':True,\n'descr':\">i2\"} ";
        assert_eq!(parse_dictionary(text), simple(">i2", true, &[3, 4]));
    }

    #[test]
    fn fields_are_skipped() {
        let text = b"{'descr': [('a])', '<f8'), ('b', [('c', '<i4')], (2,))], 'fortran_order': False, 'shape': (3,), }";
        let expected = Dictionary {
            descr: Descr::Fields,
            fortran_order: false,
            shape: vec![3],
        };
        assert_eq!(parse_dictionary(text), Ok(expected));
    }

    #[test]
    fn anything_else_is_refused_where_it_stands() {
        for (text, offset) in [
            ("", 0),
            ("[]", 0),
            ("{'descr': '<f8', 'fortran_order': False, }", 42),
            ("{'descr': '<f8', 'fortran_order': 0, 'shape': (1, 2)}", 34),
            ("{'descr': '<f8', 'descr': '<f8'}", 17),
            ("{'descr': '<f8', 'more': '<f8'}", 17),
            ("{'descr': '<f8' 'shape': (1, 2)}", 16),
            ("{'descr': '<f8", 14),
            ("{'descr': '<\\'f8'}", 12),
            ("{'shape': (-1, 2)}", 11),
            ("{'shape': (18446744073709551616, 2)}", 11),
            ("{'shape': (,)}", 11),
            ("{'shape': (1, 2), 'descr': '<f8', 'fortran_order': False} 1", 58),
            ("{'descr': [(']", 14),
            ("{'descr': [(1, 2)", 17),
        ] {
            assert_eq!(
                parse_dictionary(text.as_bytes()).unwrap_err().offset,
                offset,
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_dictionary(&text);
        }

        #[test]
        fn mangled_dictionaries_never_panic(
            text in "[{}\\[\\]():,'\" 0-9LTrueFals]{0,60}", start in 0_usize..40
        ) {
            let whole = "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }";
            let _ = parse_dictionary(format!("{}{text}", &whole[..start]).as_bytes());
        }
    }
}
