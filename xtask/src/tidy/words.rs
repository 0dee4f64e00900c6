//! Words that tell of one machine or of a registry's inside: they have no place in a public repository.

use super::finding::Finding;
use super::tree::SourceFile;

/// In two halves, so that this file does not find itself.
const FORBIDDEN: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("crates.", "io/api"),
    concat!("pypi", ".org"),
];

pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        for word in FORBIDDEN.iter().filter(|word| line.contains(*word)) {
            let message = format!("`{word}`: nothing here names one machine's paths or a registry's hosts");
            findings.push(Finding::new(&file.path, at + 1, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_found_in_any_text_file() {
        for word in FORBIDDEN {
            let text = format!("# Title\n\nsee {word}x\n");
            let findings = check(&SourceFile::new("docs/a.md", &text));
            assert_eq!(findings.len(), 1, "{word}");
            assert_eq!(findings[0].line, 3);
        }
    }

    #[test]
    fn longer_names_are_left_alone() {
        let file = SourceFile::new(
            "docs/a.md",
            "src/tilework/ and src/network/ and the root/ folder\n",
        );
        assert!(check(&file).is_empty());
    }
}
