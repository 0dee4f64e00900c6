//! What tidy reads: the text files that git tracks or would track, and cargo's view of the workspace.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::code;
use crate::workspace;

/// A text file of the repository.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// From the workspace's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// `text` with comments and literals blanked out, for a Rust file; lines are kept.
    pub(crate) code: String,
}

impl SourceFile {
    pub(crate) fn new(path: &str, text: &str) -> SourceFile {
        let code = if path.ends_with(".rs") {
            code::only(text)
        } else {
            String::new()
        };
        SourceFile {
            path: path.to_string(),
            text: text.to_string(),
            code,
        }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(crate) fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// The repository as the rules see it.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) files: Vec<SourceFile>,
    pub(crate) members: Vec<Member>,
}

/// A crate of the workspace and what its manifest names.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// The manifest's path from the workspace's root.
    pub(crate) manifest: String,
    /// Of every kind: normal, dev and build.
    pub(crate) dependencies: Vec<String>,
}

impl Tree {
    pub(crate) fn read(root: &Path) -> anyhow::Result<Tree> {
        let mut files = Vec::new();
        for path in listed_paths(root)? {
            // Binary files and files deleted but still tracked have no text to check.
            if let Ok(text) = fs::read_to_string(root.join(&path)) {
                files.push(SourceFile::new(&path, &text));
            }
        }
        let out = workspace::cargo(root, &["metadata", "--no-deps", "--format-version", "1"]).output()?;
        ensure!(
            out.status.success(),
            "`cargo metadata`: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        let metadata = serde_json::from_slice(&out.stdout)?;
        Ok(Tree {
            files,
            members: members(&metadata)?,
        })
    }

    pub(crate) fn file(&self, path: &str) -> Option<&SourceFile> {
        self.files.iter().find(|file| file.path == path)
    }
}

fn listed_paths(root: &Path) -> anyhow::Result<Vec<String>> {
    let args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let out = Command::new("git")
        .args(args)
        .current_dir(root)
        .output()
        .context("cannot start `git`")?;
    ensure!(
        out.status.success(),
        "`git ls-files`: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    let paths = String::from_utf8(out.stdout)?;
    Ok(paths
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(str::to_string)
        .collect())
}

/// The workspace's crates from the answer of `cargo metadata --no-deps`.
pub(crate) fn members(metadata: &Value) -> anyhow::Result<Vec<Member>> {
    let root = metadata["workspace_root"]
        .as_str()
        .context("no `workspace_root` in cargo's metadata")?;
    let packages = metadata["packages"]
        .as_array()
        .context("no `packages` in cargo's metadata")?;
    packages.iter().map(|package| member(root, package)).collect()
}

fn member(root: &str, package: &Value) -> anyhow::Result<Member> {
    let text = |value: &Value| {
        value
            .as_str()
            .map(str::to_string)
            .context("a name in cargo's metadata")
    };
    let manifest = text(&package["manifest_path"])?;
    let manifest = manifest
        .strip_prefix(root)
        .unwrap_or(&manifest)
        .trim_start_matches('/')
        .to_string();
    let listed = package["dependencies"]
        .as_array()
        .context("no `dependencies` in cargo's metadata")?;
    let dependencies = listed
        .iter()
        .map(|d| text(&d["name"]))
        .collect::<anyhow::Result<_>>()?;
    Ok(Member {
        name: text(&package["name"])?,
        manifest,
        dependencies,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_from_cargo_metadata() {
        let metadata = serde_json::json!({
            "workspace_root": "/w",
            "packages": [{
                "name": "a", "manifest_path": "/w/crates/a/Cargo.toml",
                "dependencies": [{ "name": "b", "kind": null }, { "name": "c", "kind": "dev" }],
            }],
        });
        let members = members(&metadata).unwrap();
        assert_eq!(members[0].manifest, "crates/a/Cargo.toml");
        assert_eq!(members[0].dependencies, ["b", "c"]);
    }
}
