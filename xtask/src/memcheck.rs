//! `cargo xtask memcheck`: the kernel's tests, property tests too, under valgrind's memcheck; also a step of
//! `cargo xtask test`, where valgrind is installed.
//!
//! Valgrind shows programs a processor without AVX-512, so this is about the portable and the AVX2 code, and about what all
//! instruction sets share: packing, views, buffers and the tile's addresses.

use std::path::Path;
use std::process::Command;

use crate::step::{self, Verdict};
use crate::workspace;

/// A test binary in which something is read or written outside of a heap block, or decided by what nobody wrote, ends with 9.
const RUNNER: &str = r#"target."cfg(unix)".runner = ["valgrind", "--quiet", "--error-exitcode=9"]"#;

/// Runs them, if valgrind is there.
pub(crate) fn run(root: &Path) -> anyhow::Result<Verdict> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: valgrind is not installed");
        return Ok(Verdict::Skipped("valgrind is not installed"));
    }
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
    step::command(workspace::cargo(root, &args))
}
