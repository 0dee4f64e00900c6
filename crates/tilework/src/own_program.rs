//! This very program: as its own child, so that what runs is what a user gets, and as its user called it.

use crate::args::Args;
use clap::CommandFactory;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Variables that are no options.
const KEPT: &[&str] = &["TILEWORK_SIMD", "TILEWORK_NATS_SERVER", "TILEWORK_TEST_SLOW"];

/// The program file.
pub fn path() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("tilework"))
}

/// A command that runs it.
pub fn command() -> Command {
    let mut command = Command::new(path());
    without_options(&mut command);
    command
}

/// Takes options out of the environment: they are meant for this command, not for its children.
pub fn without_options(command: &mut Command) {
    let names = std::env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name| name.to_string_lossy().starts_with("TILEWORK_")) {
        if !KEPT.iter().any(|kept| name == *kept) {
            command.env_remove(name);
        }
    }
}

/// A text for people in which `tilework`'s commands are this program's, as it was called: one that has jobs of its own has all the commands,
/// and nobody else knows its jobs.
pub fn in_its_words(text: &str) -> Cow<'_, str> {
    let called = std::env::args_os().next();
    match called.as_deref().and_then(|called| called.to_str()) {
        Some(called) => as_commands_of(called, text),
        None => Cow::Borrowed(text),
    }
}

fn as_commands_of<'t>(called: &str, text: &'t str) -> Cow<'t, str> {
    const NAME: &str = "tilework";
    if Path::new(called).file_stem().is_none_or(|stem| stem == NAME) || !text.contains(NAME) {
        return Cow::Borrowed(text);
    }
    let command = Args::command();
    let verbs = command.get_subcommands().map(|verb| verb.get_name());
    let renamed = verbs.fold(text.to_owned(), |text, verb| {
        text.replace(&format!("{NAME} {verb}"), &format!("{called} {verb}"))
    });
    Cow::Owned(renamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_those_of_the_program_that_was_called() {
        let text =
            "use the same release of tilework: tilework doctor, or tilework cluster up; /data/C.npy.tilework";
        for called in ["tilework", "target/debug/tilework", ""] {
            assert_eq!(as_commands_of(called, text), text);
        }
        assert_eq!(
            as_commands_of("./hello", text),
            "use the same release of tilework: ./hello doctor, or ./hello cluster up; /data/C.npy.tilework"
        );
    }
}
