//! `cargo xtask tidy`: the house rules that no compiler checks, as findings `file:line: what, and what to do`.
//!
//! Every rule is a pure function from text to findings, so that its tests show it failing.

mod arrows;
mod attributes;
mod clock;
mod code;
mod contents;
mod finding;
mod layout;
mod patterns;
mod tree;
mod words;

use std::path::Path;

use finding::Finding;
use tree::{SourceFile, Tree};

/// Checks the whole workspace, prints the findings and says whether there were none.
pub(crate) fn run(root: &Path) -> anyhow::Result<bool> {
    let tree = Tree::read(root)?;
    let mut findings = arrows::check(&tree);
    findings.extend(attributes::check(&tree));
    for file in &tree.files {
        findings.extend(check_file(file));
    }
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {} files, {} findings", tree.files.len(), findings.len());
    Ok(findings.is_empty())
}

fn check_file(file: &SourceFile) -> Vec<Finding> {
    let rules = [
        layout::check,
        contents::check,
        patterns::check,
        clock::check,
        words::check,
    ];
    rules.iter().flat_map(|rule| rule(file)).collect()
}
