//! The step that checks the licences, names and sources of all dependencies with cargo-deny, where it is installed.

use std::path::Path;

use crate::step::{self, Verdict};
use crate::workspace;

/// Advisories are left out: they need the network, and a new one must not break an old commit's check.
pub(crate) fn run(root: &Path) -> anyhow::Result<Verdict> {
    if !workspace::has_subcommand(root, "deny") {
        println!("skipped: cargo-deny is not installed (`cargo install --locked cargo-deny`)");
        return Ok(Verdict::Skipped("cargo-deny is not installed"));
    }
    step::command(workspace::cargo(
        root,
        &["deny", "check", "licenses", "bans", "sources"],
    ))
}
