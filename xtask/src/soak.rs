//! `cargo xtask soak`: the tests that take minutes or hours. Run by hand; keep what they print.
//!
//! Kills at a user's size, in a release build.

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
