//! `cargo xtask soak`: the tests that take minutes or hours. Run by hand; keep what they print.
//!
//! Without more words kills at a user's size, in a release build. `soak lies` tells lies by the thousand to the check of each tile, `soak
//! resources` makes every call fail in turn; `soak sim` and `soak fuzz` have files of their own.

use std::path::Path;

use crate::step::{self, Verdict};
use crate::workspace;

/// Runs them and says whether all passed.
pub(crate) fn run(root: &Path) -> anyhow::Result<bool> {
    let args = [
        "test",
        "--release",
        "--package",
        "tilework",
        "--features",
        "soak",
        "--test",
        "soak",
        "--",
        "--nocapture",
    ];
    Ok(step::command(workspace::cargo(root, &args))? == Verdict::Passed)
}

/// Makes every call to the disk fail in turn, and every system call of real processes, and says whether all passed.
pub(crate) fn run_resources(root: &Path) -> anyhow::Result<bool> {
    let tests = [("tilework-linalg", "faults"), ("tilework", "resources")];
    let mut passed = true;
    for (package, test) in tests {
        let words = [
            "test",
            "--package",
            package,
            "--examples",
            "--test",
            test,
            "--",
            "--nocapture",
        ];
        let mut command = workspace::cargo(root, &words);
        command.env("TILEWORK_FAULTS", "all");
        passed &= step::command(command)? == Verdict::Passed;
    }
    Ok(passed)
}

/// Tells lies and says whether all that are above the published detection limit were caught.
pub(crate) fn run_lies(root: &Path) -> anyhow::Result<bool> {
    let example = [
        "run",
        "--release",
        "--package",
        "tilework-linalg",
        "--features",
        "test-lies",
        "--example",
        "lies",
    ];
    Ok(step::command(workspace::cargo(root, &example))? == Verdict::Passed)
}
