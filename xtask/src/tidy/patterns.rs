//! Code that is unfinished, switched off, or waits by sleeping.

use super::finding::Finding;
use super::tree::SourceFile;

/// What must not stand in code, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("todo!(", "finish it or leave it out"),
    ("unimplemented!(", "finish it, or return a typed error"),
    ("dbg!(", "a left-over of debugging"),
    ("#[ignore", "a test runs or does not exist"),
];

/// The comment by which a sleep in a test says what it waits for.
const WAITS: &str = "// waits: ";

pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, (code, text)) in file.code.lines().zip(file.text.lines()).enumerate() {
        for (pattern, why) in FORBIDDEN
            .iter()
            .filter(|(pattern, _)| contains_word(code, pattern))
        {
            findings.push(Finding::new(&file.path, at + 1, format!("`{pattern}`: {why}")));
        }
        if is_test(&file.path) && contains_word(code, "sleep(") && !text.contains(WAITS) {
            let message =
                format!("a sleep in a test: wait for the event, or say `{WAITS}<what>` on the line");
            findings.push(Finding::new(&file.path, at + 1, message));
        }
    }
    findings
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// Whether `pattern` stands in `code` and not as the end of a longer name.
fn contains_word(code: &str, pattern: &str) -> bool {
    code.match_indices(pattern).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&SourceFile::new(path, text)).len()
    }

    #[test]
    fn each_forbidden_pattern_is_found() {
        for (pattern, _) in FORBIDDEN {
            assert_eq!(
                findings("crates/a/src/a.rs", &format!("//! a\n    {pattern}\n")),
                1,
                "{pattern}"
            );
        }
    }

    #[test]
    fn names_comments_and_strings_are_left_alone() {
        let text = "//! todo!( later\nmy_todo!(1);\nlet x = \"dbg!(\"; // #[ignore\n";
        assert_eq!(findings("crates/a/src/a.rs", text), 0);
    }

    #[test]
    fn a_sleep_in_a_test_says_what_it_waits_for() {
        let bare = "//! t\n    std::thread::sleep(SHORT);\n";
        let said = "//! t\n    std::thread::sleep(SHORT); // waits: the lock's lease runs out\n";
        for path in ["crates/a/tests/t.rs", "crates/a/src/driver/tests.rs"] {
            assert_eq!(findings(path, bare), 1, "{path}");
            assert_eq!(findings(path, said), 0, "{path}");
        }
        assert_eq!(findings("crates/a/src/driver.rs", bare), 0);
    }
}
