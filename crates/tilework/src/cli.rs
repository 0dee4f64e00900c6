//! From the raw command line to the exit code.

use crate::args::cluster::{ClusterVerb, ClusterVerbs};
use crate::args::{Args, Command};
use crate::commands;
use crate::failure::CliError;
use crate::job::kinds::{self, Kinds};
use crate::logging;
use crate::output::{self, Output};
use clap::Parser;
use clap::error::ErrorKind;
use serde_json::json;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Instant;

/// Runs one command line, program name first, in a program that knows `kinds` of jobs. `started` is when the process began.
pub fn run(words: &[OsString], kinds: &'static Kinds, started: Instant) -> ExitCode {
    let (output, outcome) = match Args::try_parse_from(words) {
        Ok(args) => {
            let global = &args.global;
            let output = Output::new(global.json, global.quiet, global.verbose, started);
            let outcome = logging::start(global).and_then(|()| {
                tracing::debug!(words = ?without_secrets(words), "begins");
                kinds::check(kinds)?;
                dispatch(args.command.as_ref(), kinds, &output)
            });
            (output, outcome)
        }
        Err(error) => {
            let output = Output::new(asks_for_json(words), false, 0, started);
            let outcome = not_parsed(&error, &output);
            if !output.is_json() && outcome.is_err() {
                // clap's own text, with usage and suggestions, says more than one line can.
                let _ = error.print();
                return ExitCode::from(crate::failure::Exit::Usage.code());
            }
            (output, outcome)
        }
    };
    match outcome {
        Ok(()) => {
            tracing::debug!(seconds = output.seconds(), "done");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::debug!(exit_code = error.exit.code(), "failed: {}", error.message);
            output.failure(&error);
            ExitCode::from(error.exit.code())
        }
    }
}

/// The command line as the log may keep it: a webhook's address may hold a password.
fn without_secrets(words: &[OsString]) -> Vec<String> {
    const SECRET: &str = "--alert-webhook";
    let before = std::iter::once(None).chain(words.iter().map(Some));
    let pairs = words.iter().zip(before);
    let shown = pairs.map(|(word, before)| match word.to_string_lossy() {
        _ if before.is_some_and(|before| before == SECRET) => "...".to_owned(),
        word if word.starts_with(&format!("{SECRET}=")) => format!("{SECRET}=..."),
        word => word.into_owned(),
    });
    shown.collect()
}

fn dispatch(command: Option<&Command>, kinds: &'static Kinds, output: &Output) -> Result<(), CliError> {
    match command {
        None => commands::introduction::run(output),
        Some(Command::Multiply(args)) => commands::multiply::run(args, output),
        Some(Command::Gram(args)) => commands::gram::run(args, output),
        Some(Command::Plan(args)) => commands::plan::run(args, output),
        Some(Command::Run(args)) => commands::run::run(args, kinds, output),
        Some(Command::Kinds) => commands::run::kinds(kinds, output),
        Some(Command::Simulate(args)) => commands::simulate::run(args, output),
        Some(Command::Cluster(ClusterVerbs { verb })) => match verb {
            ClusterVerb::Init(args) => commands::cluster::init::run(args, output),
            ClusterVerb::Up(args) => commands::cluster::up::run(args, output),
            ClusterVerb::Down(args) => commands::cluster::down::run(args, output),
            ClusterVerb::Status(args) => commands::cluster::status::run(args, output),
        },
        Some(Command::Resume(args)) => commands::resume::run(args, output),
        Some(Command::Status(args)) => commands::status::run(args, output),
        Some(Command::Explain(args)) => commands::explain::run(args, output),
        Some(Command::Verify(args)) => commands::verify::run(args, output),
        Some(Command::Repair(args)) => commands::repair::run(args, output),
        Some(Command::Compare(args)) => commands::compare::run(args, output),
        Some(Command::Clean(args)) => commands::clean::run(args, output),
        Some(Command::Inspect(args)) => commands::inspect::run(args, output),
        Some(Command::Generate(args)) => commands::generate::run(args, output),
        Some(Command::Demo(args)) => commands::demo::run(args, output),
        Some(Command::Jobs(args)) => commands::asking::jobs(args, output),
        Some(Command::Watch(args)) => commands::asking::watch(args, output),
        Some(Command::Cancel(args)) => commands::asking::cancel(args, output),
        Some(Command::Workers(args)) => commands::asking::workers(args, output),
        Some(Command::Logs(args)) => commands::asking::logs(args, output),
        Some(Command::Doctor(args)) => commands::doctor::run(args, output),
        Some(Command::Worker(args)) => commands::processes::work(args, kinds, output),
        Some(Command::Driver(args)) => commands::processes::drive(args, kinds, output),
        Some(Command::Completions(args)) => commands::completions::run(args, output),
        Some(Command::Man(args)) => commands::man::run(args, output),
    }
}

/// What clap returns instead of arguments: help or version, which are results, or a usage error.
fn not_parsed(error: &clap::Error, output: &Output) -> Result<(), CliError> {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => output
            .result(json!({ "status": "done", "text": text }), |out| {
                write!(out, "{text}")
            }),
        _ => Err(CliError::usage(flattened(&text)).with_next("tilework --help")),
    }
}

/// clap's several lines as one: the complaint and its hints, without usage.
fn flattened(text: &str) -> String {
    let end = ["\n\nUsage:", "\n\nFor more information"]
        .iter()
        .filter_map(|mark| text.find(mark))
        .min();
    let complaint = &text[..end.unwrap_or(text.len())];
    let complaint = complaint.strip_prefix("error: ").unwrap_or(complaint);
    complaint.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a command line that can't be parsed asks for JSON: its answer has to be JSON too.
fn asks_for_json(words: &[OsString]) -> bool {
    let mut options = words.iter().skip(1).take_while(|word| *word != "--");
    options.any(|word| word == "--json")
        || std::env::var("TILEWORK_JSON").is_ok_and(|value| is_truthy(&value))
}

/// As clap understands a flag's environment variable.
fn is_truthy(value: &str) -> bool {
    !matches!(
        value.to_lowercase().as_str(),
        "" | "n" | "no" | "f" | "false" | "off" | "0"
    )
}

/// Prints one value under the name `text`, or as it is: for scripts and pages that other programs read.
pub(crate) fn print_document(output: &Output, name: &str, document: &[u8]) -> Result<(), CliError> {
    if output.is_json() {
        return output::write_json(&json!({ "status": "done", name: String::from_utf8_lossy(document) }));
    }
    output::print(|out| out.write_all(document))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_option_has_its_environment_variable() {
        fn check(command: &clap::Command) {
            for option in command.get_arguments().filter(|arg| !arg.is_positional()) {
                let name = option.get_id().as_str();
                let expected = format!("TILEWORK_{}", name.to_uppercase());
                let variable = match name {
                    "help" | "version" => continue,
                    "verbose" => "TILEWORK_VERBOSE".to_owned(),
                    _ => expected,
                };
                assert_eq!(
                    option.get_env().and_then(|env| env.to_str()),
                    Some(&*variable),
                    "{name}"
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Args::command());
    }

    #[test]
    fn the_log_keeps_no_webhook() {
        let shown = without_secrets(&words(
            "tilework --alert-webhook http://a/s gram --alert-webhook=http://a/s -o s",
        ));
        assert_eq!(
            shown.join(" "),
            "tilework --alert-webhook ... gram --alert-webhook=... -o s"
        );
    }

    #[test]
    fn json_is_asked_for_before_the_end_of_options() {
        assert!(asks_for_json(&words("tilework multiply --json")));
        assert!(!asks_for_json(&words("tilework multiply -- --json")));
        assert!(!asks_for_json(&words("--json multiply")));
    }

    #[test]
    fn a_usage_error_becomes_one_line() {
        let error = Args::try_parse_from(words("tilework multiply A")).unwrap_err();
        let line = flattened(&error.render().to_string());
        assert!(
            line.starts_with("the following required arguments were not provided:"),
            "{line}"
        );
        assert!(line.contains("<B>") && !line.contains("Usage"), "{line}");
        let error = Args::try_parse_from(words("tilework generate normal 3 -o A")).unwrap_err();
        let line = flattened(&error.render().to_string());
        assert!(line.ends_with("for example 8192x4096"), "{line}");
    }
}
