//! Rust text with comments and literals blanked out, so that a rule's pattern matches code and nothing else.
//!
//! A lexer of exactly this much: nested block comments, strings, raw strings, characters and lifetimes.

/// `text` with the same lines, in which every comment and every literal's content is spaces.
pub(crate) fn only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_identifier = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let literal = match first {
            '/' => comment_len(rest),
            '"' => Some(string_len(rest)),
            '\'' => character_len(rest),
            'r' | 'b' | 'c' if !after_identifier => prefixed_len(rest),
            _ => None,
        };
        let taken = literal.unwrap_or(first.len_utf8());
        let (piece, tail) = rest.split_at(taken);
        match literal {
            Some(_) => out.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
            None => out.push_str(piece),
        }
        rest = tail;
    }
    out
}

fn comment_len(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    Some(rest.len())
}

/// The length of a string that begins with `"`.
fn string_len(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// The length of a character literal; `None` for a lifetime.
fn character_len(rest: &str) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1);
    let (_, c) = chars.next()?;
    if c == '\\' {
        let (escape, _) = chars.next()?;
        let past_escape = escape + rest[escape..].chars().next()?.len_utf8();
        return Some(past_escape + rest[past_escape..].find('\'')? + 1);
    }
    let (end, quote) = chars.next()?;
    (quote == '\'').then_some(end + 1)
}

/// The length of `r"…"`, `r#"…"#`, `b"…"`, `br#"…"#`, `b'…'`, `c"…"`; `None` for anything else.
fn prefixed_len(rest: &str) -> Option<usize> {
    let marks = rest.find(|c| !matches!(c, 'r' | 'b' | 'c'))?;
    let body = &rest[marks..];
    if marks > 2 {
        return None;
    }
    if !rest[..marks].contains('r') {
        return match body.chars().next()? {
            '"' => Some(marks + string_len(body)),
            '\'' => Some(marks + character_len(body)?),
            _ => None,
        };
    }
    let hashes = body.find(|c| c != '#')?;
    let open = marks + hashes + 1;
    if !body[hashes..].starts_with('"') {
        return None;
    }
    let close = format!("\"{}", &body[..hashes]);
    Some(
        rest[open..]
            .find(&close)
            .map_or(rest.len(), |at| open + at + close.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of `text` without blanks at the ends of words.
    fn words(text: &str) -> String {
        only(text).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_literals_are_blanked() {
        assert_eq!(words("a // fn b"), "a");
        assert_eq!(words("a /* fn /* x */ y */ b"), "a b");
        assert_eq!(words(r#"a("fn \" b") c"#), "a( ) c");
        assert_eq!(words(r##"a(r#"fn " b"#) c"##), "a( ) c");
        assert_eq!(words(r#"a(b"fn", b'"', c"fn") d"#), "a( , , ) d");
        assert_eq!(words(r"a('\'', '\u{41}', '\\', 'é') b"), "a( , , , ) b");
    }

    #[test]
    fn lifetimes_and_identifiers_stay() {
        assert_eq!(
            words("fn f<'a>(x: &'a str) -> &'a str"),
            "fn f<'a>(x: &'a str) -> &'a str"
        );
        assert_eq!(words("r#type bar rb crab"), "r#type bar rb crab");
    }

    #[test]
    fn lines_keep_their_numbers() {
        let text = "/* 1\n2 */ fn a() {\n\"x\ny\" }\n// é\nb";
        assert_eq!(only(text).lines().count(), text.lines().count());
        assert_eq!(only(text).lines().nth(5), Some("b"));
    }
}
