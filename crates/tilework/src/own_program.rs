//! This very program as its own child: what runs is what a user gets.

use std::path::PathBuf;
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
