//! The files in `fuzz/corpus`: seeds made by hand, what a fuzzer found worth keeping, and every input that once showed a bug.

use crate::target::Target;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the inputs of a target are.
pub fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target.name)
}

/// All of the target's inputs with their names, in order.
///
/// # Panics
/// If there is none.
pub fn inputs(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = folder(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a name").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no inputs in {}", folder.display());
    let input = |path: PathBuf| {
        let bytes = fs::read(&path).expect("an input");
        (path, bytes)
    };
    paths.into_iter().map(input).collect()
}

/// Checks all of the target's inputs.
///
/// # Panics
/// If one fails, after its name was printed; or if there is none.
#[expect(clippy::print_stderr, reason = "a test says which input it fails with")]
pub fn replay(target: &Target) {
    for (path, input) in inputs(target) {
        eprintln!("{}", path.display());
        target.run(&input);
    }
}
