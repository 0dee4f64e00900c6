//! Threads that the system may refuse: where memory or the number of threads is limited, that is a failure with a cause, not a panic.

use std::io;
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};
use tilework_core::failure::{Cause, Failure};

/// Starts a thread that does `what`, such as `runs tasks`.
///
/// # Errors
/// The system has none left.
pub fn start<R: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<JoinHandle<R>, Failure> {
    Builder::new().spawn(work).map_err(|error| refused(what, &error))
}

/// The same within a scope.
///
/// # Errors
/// The system has none left.
pub fn start_scoped<'scope, R: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    what: &str,
    work: impl FnOnce() -> R + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, R>, Failure> {
    let started = Builder::new().spawn_scoped(scope, work);
    started.map_err(|error| refused(what, &error))
}

/// A thread that was refused. Its stack is most of what it needs, so it counts as memory.
fn refused(what: &str, error: &io::Error) -> Failure {
    let text = format!("cannot start a thread that {what}: {error}");
    Failure::fatal(Cause::OutOfMemory, text)
}
