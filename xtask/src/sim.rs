//! `cargo xtask sim --seeds A..B [--log]`: the simulator, in a release build. `cargo xtask soak sim` is the same with many seeds.

use std::path::Path;

use crate::step::{self, Verdict};
use crate::workspace;

/// The seeds of a soak.
const MANY_SEEDS: [&str; 2] = ["--seeds", "0..100000"];

/// Runs many seeds, or those of the arguments, and says whether all passed.
pub(crate) fn soak(root: &Path, args: &[&str]) -> anyhow::Result<bool> {
    run(root, if args.is_empty() { &MANY_SEEDS } else { args })
}

/// Hands the arguments on and says whether all seeds passed.
pub(crate) fn run(root: &Path, args: &[&str]) -> anyhow::Result<bool> {
    let cargo_args = [
        &["run", "--release", "--quiet", "--package", "tilework-sim", "--"],
        args,
    ]
    .concat();
    Ok(step::command(workspace::cargo(root, &cargo_args))? == Verdict::Passed)
}
