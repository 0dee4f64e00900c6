//! How a file opens and how long it may grow.

use super::finding::Finding;
use super::tree::SourceFile;

const LINES_MAX: usize = 700;
const ARCHITECTURE_LINES_MAX: usize = 200;
const SOURCE_ENDINGS: &[&str] = &[".rs", ".py", ".js", ".css", ".html", ".sh"];

pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    let in_ours = file.path.starts_with("crates/") || file.path.starts_with("xtask/");
    if file.is_rust() && in_ours && !file.text.starts_with("//!") {
        findings.push(Finding::new(
            &file.path,
            1,
            "the file must open with `//!`: what it is, and its rule",
        ));
    }
    if let Some(lines_max) = lines_max(file) {
        let lines = file.text.lines().count();
        if lines > lines_max {
            let message = format!("{lines} lines; at most {lines_max}: split it by idea");
            findings.push(Finding::new(&file.path, lines_max + 1, message));
        }
    }
    findings
}

fn lines_max(file: &SourceFile) -> Option<usize> {
    if file.path == "ARCHITECTURE.md" {
        return Some(ARCHITECTURE_LINES_MAX);
    }
    SOURCE_ENDINGS
        .iter()
        .any(|ending| file.path.ends_with(ending))
        .then_some(LINES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&SourceFile::new(path, text)).len()
    }

    #[test]
    fn a_rust_file_without_a_header_is_found_in_tests_and_examples_too() {
        for path in [
            "crates/core/src/ids.rs",
            "crates/core/tests/t.rs",
            "xtask/src/x.rs",
            "crates/a/examples/e.rs",
        ] {
            assert_eq!(findings(path, "fn f() {}\n"), 1, "{path}");
            assert_eq!(findings(path, "#![no_std]\n//! late\n"), 1, "{path}");
            assert_eq!(findings(path, "//! what it is\n"), 0, "{path}");
        }
    }

    #[test]
    fn long_files_are_found() {
        let lines = |n: usize| "//!\n".repeat(n);
        assert_eq!(findings("crates/core/src/a.rs", &lines(LINES_MAX)), 0);
        assert_eq!(findings("crates/core/src/a.rs", &lines(LINES_MAX + 1)), 1);
        assert_eq!(findings("ARCHITECTURE.md", &lines(ARCHITECTURE_LINES_MAX)), 0);
        assert_eq!(findings("ARCHITECTURE.md", &lines(ARCHITECTURE_LINES_MAX + 1)), 1);
        assert_eq!(findings("Cargo.lock", &lines(LINES_MAX + 1)), 0);
    }
}
