//! Where a command's words go: results to stdout, everything else to stderr.
//!
//! With `--json` stdout is exactly one JSON object on one line, whatever happens. A reader that closes stdout early is no
//! failure.

use crate::failure::CliError;
use crate::own_program::in_its_words;
use serde_json::Value;
use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Instant;

/// How much a command says, and in what form.
#[derive(Debug, Clone)]
pub struct Output {
    json: bool,
    quiet: bool,
    verbosity: u8,
    started: Instant,
}

impl Output {
    /// `started` is when the process began.
    pub fn new(json: bool, quiet: bool, verbosity: u8, started: Instant) -> Output {
        Output {
            json,
            quiet,
            verbosity,
            started,
        }
    }

    /// Whether results are JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether only results and errors are wanted.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// How often `-v` was given.
    pub fn verbosity(&self) -> u8 {
        self.verbosity
    }

    /// When the process began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Seconds since the process began.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Whether a progress bar makes sense: someone is looking at stderr, and no log lines come between.
    pub fn wants_bar(&self) -> bool {
        !self.json && !self.quiet && self.verbosity == 0 && io::stderr().is_terminal()
    }

    /// Prints what the command is about, to stdout: as JSON, or in words.
    pub fn result(
        &self,
        json: Value,
        human: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CliError> {
        if self.json {
            write_json(&json)
        } else {
            print_in_words(human)
        }
    }

    /// Prints about a command whose result is a file: JSON to stdout; words to stderr, unless `--quiet`.
    pub fn report(
        &self,
        json: Value,
        human: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CliError> {
        if self.json {
            return write_json(&json);
        }
        if !self.quiet {
            let mut text = Vec::new();
            if human(&mut text).is_ok() {
                say(&in_words(&text));
            }
        }
        Ok(())
    }

    /// Prints words about a command that goes on to fail, to stdout; nothing with `--json`, whose object is the failure's.
    pub fn before_failure(
        &self,
        human: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CliError> {
        if self.json { Ok(()) } else { print_in_words(human) }
    }

    /// Says one line on stderr, unless `--quiet` or `--json`.
    pub fn note(&self, text: &str) {
        if !self.quiet && !self.json {
            say(format!("{}\n", in_its_words(text)).as_bytes());
        }
    }

    /// Prints a failure: JSON to stdout, or words to stderr.
    pub fn failure(&self, error: &CliError) {
        let error = CliError {
            next: error.next.as_deref().map(|next| in_its_words(next).into_owned()),
            ..error.clone()
        };
        let told = self.json && write_json(&error.to_json()).is_ok();
        if !told {
            say(error.to_human().as_bytes());
        }
    }
}

/// A text for people, with the commands of the program that says it.
fn in_words(text: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(text).map(in_its_words) {
        Ok(Cow::Owned(renamed)) => Cow::Owned(renamed.into_bytes()),
        _ => Cow::Borrowed(text),
    }
}

fn print_in_words(human: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
    let mut text = Vec::new();
    // Writing to memory fails in nothing but the words themselves.
    human(&mut text).map_err(|error| CliError::io("write to", Path::new("stdout"), &error))?;
    print(|out| out.write_all(&in_words(&text)))
}

/// Writes to stderr; if that fails there is nobody left to tell.
pub fn say(text: &[u8]) {
    let _ = io::stderr().lock().write_all(text);
}

/// Prints one JSON value on one line to stdout.
pub fn write_json(json: &Value) -> Result<(), CliError> {
    print(|out| writeln!(out, "{json}"))
}

/// Prints to stdout, through a buffer.
pub fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(CliError::io("write to", Path::new("stdout"), &error)),
    }
}
