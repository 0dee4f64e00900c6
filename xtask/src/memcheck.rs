//! `cargo xtask memcheck`: the kernel's tests, property tests too, under valgrind's memcheck. Run by hand, after changes to
//! `unsafe` code.
//!
//! Valgrind shows programs a processor without AVX-512, so this is about the portable and the AVX2 code, and about what all
//! instruction sets share: packing, views, buffers and the tile's addresses.

use std::path::Path;
use std::process::Command;

use anyhow::ensure;

use crate::step::{self, Verdict};
use crate::workspace;

/// A test binary in which something is read or written outside of a heap block, or decided by what nobody wrote, ends with 9.
const RUNNER: &str = r#"target."cfg(unix)".runner = ["valgrind", "--quiet", "--error-exitcode=9"]"#;

/// Runs them and says whether all passed without a finding.
pub(crate) fn run(root: &Path) -> anyhow::Result<bool> {
    let is_installed = Command::new("valgrind").arg("--version").output().is_ok();
    ensure!(is_installed, "valgrind is not installed");
    let args = [
        "test",
        "--package",
        "tilework-kernel",
        "--lib",
        "--tests",
        "--no-fail-fast",
        "--config",
        RUNNER,
        "--",
        // Valgrind runs one thread at a time.
        "--test-threads=1",
    ];
    Ok(step::command(workspace::cargo(root, &args))? == Verdict::Passed)
}
