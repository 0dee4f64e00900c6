//! What the root of each crate must promise: no `unsafe` outside the kernel, no standard library in core.

use super::finding::Finding;
use super::tree::{SourceFile, Tree};

const CORE: &str = "crates/core/";
const KERNEL: &str = "crates/kernel/";

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files
        .iter()
        .filter(|file| file.is_rust())
        .flat_map(check_file)
        .collect()
}

fn check_file(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    if file.path.starts_with("crates/") && file.path.ends_with("/src/lib.rs") {
        findings.extend(check_lib(file));
    }
    if !file.path.starts_with(KERNEL) {
        findings.extend(unsafe_lines(file));
    }
    findings
}

fn check_lib(file: &SourceFile) -> Vec<Finding> {
    let mut missing = Vec::new();
    if !file.path.starts_with(KERNEL) && !has_line(file, "#![forbid(unsafe_code)]") {
        missing.push("`#![forbid(unsafe_code)]` is missing: `unsafe` lives in the kernel only");
    }
    if file.path.starts_with(CORE) && !has_line(file, "#![no_std]") {
        missing.push("`#![no_std]` is missing: it is what keeps I/O, clock and randomness out of core");
    }
    missing
        .into_iter()
        .map(|message| Finding::new(&file.path, 1, message))
        .collect()
}

fn has_line(file: &SourceFile, attribute: &str) -> bool {
    file.code.lines().any(|line| line.trim() == attribute)
}

/// Tests, examples and `main.rs` are crates of their own, out of reach of the library's attribute.
fn unsafe_lines(file: &SourceFile) -> Vec<Finding> {
    let is_unsafe = |line: &str| {
        line.split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|w| w == "unsafe")
    };
    let lines = file.code.lines().enumerate().filter(|(_, line)| is_unsafe(line));
    lines
        .map(|(at, _)| Finding::new(&file.path, at + 1, "`unsafe` outside the kernel"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check_file(&SourceFile::new(path, text)).len()
    }

    #[test]
    fn core_must_be_no_std_without_conditions() {
        let path = "crates/core/src/lib.rs";
        assert_eq!(findings(path, "//! c\n#![no_std]\n#![forbid(unsafe_code)]\n"), 0);
        assert_eq!(findings(path, "//! c\n#![forbid(unsafe_code)]\n"), 1);
        assert_eq!(
            findings(
                path,
                "//! c\n#![cfg_attr(not(test), no_std)]\n#![forbid(unsafe_code)]\n"
            ),
            1
        );
        assert_eq!(
            findings(path, "//! c\n// #![no_std]\n#![forbid(unsafe_code)]\n"),
            1
        );
    }

    #[test]
    fn every_library_but_the_kernel_forbids_unsafe() {
        assert_eq!(findings("crates/store/src/lib.rs", "//! s\n"), 1);
        assert_eq!(findings("crates/kernel/src/lib.rs", "//! k\n"), 0);
    }

    #[test]
    fn unsafe_code_is_found_outside_the_kernel_only() {
        let text = "//! t\nfn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(findings("crates/store/tests/t.rs", text), 1);
        assert_eq!(findings("crates/kernel/src/pack.rs", text), 0);
        assert_eq!(
            findings(
                "crates/store/tests/t.rs",
                "//! no unsafe here\nfn unsafe_free() {}\n"
            ),
            0
        );
    }
}
