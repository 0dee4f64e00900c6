//! `completions`: a script by which a shell completes our options.

use crate::args::Args;
use crate::args::inspect::CompletionsArgs;
use crate::cli::print_document;
use crate::failure::CliError;
use crate::output::Output;
use clap::CommandFactory;

/// Runs the command.
pub fn run(args: &CompletionsArgs, output: &Output) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "tilework", &mut script);
    print_document(output, "script", &script)
}
