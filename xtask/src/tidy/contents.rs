//! `lib.rs` and `mod.rs` are tables of contents: they hold no functions.

use super::finding::Finding;
use super::tree::SourceFile;

/// The command line as a library: `main.rs` calls `tilework::main`.
const MAY_HAVE_MAIN: &str = "crates/tilework/src/lib.rs";

pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    // Under tests/ cargo leaves no other name than `common/mod.rs` for what the tests share.
    if !matches!(file.file_name(), "lib.rs" | "mod.rs") || file.path.contains("/tests/") {
        return Vec::new();
    }
    let functions = file
        .code
        .lines()
        .enumerate()
        .flat_map(|(at, line)| function_names(line).into_iter().map(move |name| (at + 1, name)));
    let mut functions = functions.filter(|(_, name)| !(*name == "main" && file.path == MAY_HAVE_MAIN));
    let Some((line, name)) = functions.next() else {
        return Vec::new();
    };
    let more = functions.count();
    let message =
        format!("`fn {name}` and {more} more in a table of contents: move them to a file named by its noun");
    vec![Finding::new(&file.path, line, message)]
}

/// The names after the keyword `fn` in a line of code; a function pointer `fn(u8)` has none.
fn function_names(line: &str) -> Vec<&str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let after_fn = words
        .windows(2)
        .filter(|pair| pair[0] == "fn")
        .map(|pair| pair[1]);
    after_fn
        .map(|word| word.split(['(', '<']).next().unwrap_or(word))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&SourceFile::new(path, text)).len()
    }

    #[test]
    fn a_function_in_a_table_of_contents_is_found() {
        let text = "//! s\nmod npy;\npub(crate) const fn open<T>(x: T) {}\n";
        assert_eq!(findings("crates/store/src/lib.rs", text), 1);
        assert_eq!(findings("crates/store/src/npy/mod.rs", text), 1);
        assert_eq!(findings("crates/store/src/npy.rs", text), 0);
        assert_eq!(findings("crates/store/tests/common/mod.rs", text), 0);
    }

    #[test]
    fn doc_examples_and_function_pointers_are_no_functions() {
        let text = "//! ```\n//! fn main() {}\n//! ```\npub type Handler = fn(u8);\n";
        assert_eq!(findings("crates/store/src/lib.rs", text), 0);
    }

    #[test]
    fn the_command_line_may_have_main_and_only_main() {
        assert_eq!(findings(MAY_HAVE_MAIN, "//! t\npub fn main() {}\n"), 0);
        assert_eq!(findings(MAY_HAVE_MAIN, "//! t\npub fn run() {}\n"), 1);
        assert_eq!(
            findings("crates/store/src/lib.rs", "//! t\npub fn main() {}\n"),
            1
        );
    }
}
