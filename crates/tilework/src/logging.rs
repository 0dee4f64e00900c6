//! The log: to stderr by `-v`, and in detail to `--log-file`.

use crate::args::GlobalArgs;
use crate::failure::CliError;
use std::fs::OpenOptions;
use std::io;
use std::sync::Mutex;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::layer;
use tracing_subscriber::prelude::*;

/// Starts the log. Without `-v` only warnings reach stderr; a log file gets at least every decision.
pub fn start(global: &GlobalArgs) -> Result<(), CliError> {
    let on_stderr = match global.verbose {
        _ if global.quiet => LevelFilter::ERROR,
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let stderr_layer = layer()
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(false)
        .with_filter(ours(on_stderr));
    let file_layer = match &global.log_file {
        None => None,
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file = file.map_err(|error| CliError::io("open the log file", path, &error))?;
            let in_file = on_stderr.max(LevelFilter::DEBUG);
            Some(
                layer()
                    .with_writer(Mutex::new(file))
                    .with_ansi(false)
                    .with_filter(ours(in_file)),
            )
        }
    };
    let subscriber = tracing_subscriber::registry().with(stderr_layer).with(file_layer);
    // A second start in one process, as in tests, keeps the first log.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// What our own code says at this level. The NATS client would tell of every message at the same one: it does so for `-vvv` only.
fn ours(level: LevelFilter) -> Targets {
    let of_client = match level {
        LevelFilter::TRACE => level,
        level => level.min(LevelFilter::INFO),
    };
    Targets::new()
        .with_default(level)
        .with_target("async_nats", of_client)
}
