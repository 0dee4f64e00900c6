//! Core takes `now` from its caller: it names no clock.

use super::finding::Finding;
use super::tree::SourceFile;

const CLOCKS: &[&str] = &["Instant::now", "SystemTime"];

pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    if !file.path.starts_with("crates/core/") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (at, line) in file.code.lines().enumerate() {
        for clock in CLOCKS.iter().filter(|clock| line.contains(*clock)) {
            let message = format!("`{clock}` in core: take the time as an argument");
            findings.push(Finding::new(&file.path, at + 1, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_found_in_core_only() {
        let text = "//! c\nlet now = std::time::Instant::now();\nuse std::time::SystemTime;\n";
        assert_eq!(
            check(&SourceFile::new("crates/core/src/driver.rs", text)).len(),
            2
        );
        assert!(check(&SourceFile::new("crates/runtime/src/local.rs", text)).is_empty());
    }
}
