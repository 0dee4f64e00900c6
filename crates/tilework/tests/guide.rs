//! The guide's code: every Rust block in docs/guide is a piece of an example, which compiles and has tests of its own.

use std::fs;
use std::path::{Path, PathBuf};

fn files_in(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

/// The lines without indentation, for a guide shows pieces of what stands deeper.
fn bare(text: &str) -> Vec<&str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect()
}

fn rust_blocks(markdown: &str) -> Vec<&str> {
    let after_fences = markdown.split("```rust\n").skip(1);
    after_fences
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

#[test]
fn code_in_the_guide_is_that_of_examples() {
    let sources: Vec<String> = files_in("examples", "rs")
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let sources: Vec<Vec<&str>> = sources.iter().map(|source| bare(source)).collect();
    let mut n_blocks = 0;
    for path in files_in("docs/guide", "md") {
        let markdown = fs::read_to_string(&path).unwrap();
        for block in rust_blocks(&markdown) {
            n_blocks += 1;
            let block = bare(block);
            let is_found = sources
                .iter()
                .any(|lines| lines.windows(block.len()).any(|lines| lines == block));
            assert!(
                is_found,
                "{}: no example has this:\n{}",
                path.display(),
                block.join("\n")
            );
        }
    }
    assert!(n_blocks >= 10, "{n_blocks} blocks");
}

#[test]
fn links_in_the_guide_lead_somewhere() {
    let mut n_links = 0;
    for path in files_in("docs/guide", "md") {
        let markdown = fs::read_to_string(&path).unwrap();
        for link in markdown
            .split("](")
            .skip(1)
            .map(|rest| rest.split(')').next().unwrap())
        {
            let file = link.split('#').next().unwrap();
            if file.is_empty() || file.starts_with("http") {
                continue;
            }
            n_links += 1;
            let target = path.parent().unwrap().join(file);
            assert!(target.exists(), "{}: {link} leads nowhere", path.display());
        }
    }
    assert!(n_links >= 10, "{n_links} links");
}
