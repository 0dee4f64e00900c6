//! The workspace on disk: its root folder and the cargo that serves it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

/// The root of the workspace: the folder above xtask's manifest, which `cargo run` names.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR")
        .context("`CARGO_MANIFEST_DIR` is not set; use `cargo xtask`")?;
    let root = Path::new(&manifest_dir)
        .parent()
        .context("xtask has no folder above it")?;
    Ok(root.to_path_buf())
}

/// A command of the cargo that runs xtask, with the root as its working folder.
pub(crate) fn cargo(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root);
    command
}

/// Where cargo puts what it builds.
pub(crate) fn target_directory(root: &Path) -> anyhow::Result<PathBuf> {
    let out = cargo(root, &["metadata", "--no-deps", "--format-version", "1"]).output()?;
    let metadata: Value = serde_json::from_slice(&out.stdout).context("cargo's metadata")?;
    let directory = metadata["target_directory"].as_str();
    Ok(directory
        .context("no `target_directory` in cargo's metadata")?
        .into())
}

/// Whether `cargo <subcommand>` is installed.
pub(crate) fn has_subcommand(root: &Path, subcommand: &str) -> bool {
    cargo(root, &[subcommand, "--version"])
        .output()
        .is_ok_and(|out| out.status.success())
}
