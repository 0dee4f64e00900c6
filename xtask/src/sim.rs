//! `cargo xtask sim --seeds A..B [--log]`: the simulator, in a release build.

use std::path::Path;

use crate::step::{self, Verdict};
use crate::workspace;

/// Hands the arguments on and says whether all seeds passed.
pub(crate) fn run(root: &Path, args: &[&str]) -> anyhow::Result<bool> {
    let cargo_args = [
        &["run", "--release", "--quiet", "--package", "tilework-sim", "--"],
        args,
    ]
    .concat();
    Ok(step::command(workspace::cargo(root, &cargo_args))? == Verdict::Passed)
}
