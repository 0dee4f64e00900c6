//! `man`: the manual page of the program, or of one command.

use crate::args::Args;
use crate::args::inspect::ManArgs;
use crate::cli::print_document;
use crate::failure::{CliError, Exit};
use crate::output::Output;
use clap::CommandFactory;
use clap_mangen::Man;

/// Runs the command.
pub fn run(args: &ManArgs, output: &Output) -> Result<(), CliError> {
    let mut program = Args::command();
    program.build();
    let described = match &args.command {
        None => &program,
        Some(name) => program.find_subcommand(name).ok_or_else(|| {
            CliError::usage(format!("there is no command `{name}`")).with_next("see them all: tilework help")
        })?,
    };
    let mut page = Vec::new();
    Man::new(described.clone())
        .render(&mut page)
        .map_err(|error| CliError::new(Exit::JobFailed, format!("cannot format the manual page: {error}")))?;
    print_document(output, "page", &page)
}
