//! Every way a command can fail: the exit code, what happened, and the next step for the user.
//!
//! Errors of the crates below become a [`CliError`] here and nowhere else, so that one cause has one exit code.

use rustix::io::Errno;
use serde_json::{Map, Value, json};
use std::io;
use std::path::Path;
use tilework_core::failure::{Cause, Failure, StopCause};
use tilework_nats::child_server::StartServerError;
use tilework_nats::cluster_folder::ClusterError;
use tilework_nats::join::JoinError;
use tilework_nats::server::FindServerError;
use tilework_runtime::folder::FolderError;
use tilework_store::disk::is_disk_full;
use tilework_store::matrix::{OpenMatrixError, ReadMatrixError};
use tilework_store::npy::output::OutputError;

/// How the program ends, unless it is done (0).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Bad input or usage.
    Usage = 2,
    /// Not enough memory or disk.
    Resources = 3,
    /// The job failed.
    JobFailed = 4,
    /// A verification or comparison failed.
    CheckFailed = 5,
    /// The cluster can't be reached, or has nobody to do the work.
    Unreachable = 6,
    /// Somebody cancelled the job; may be resumed.
    Cancelled = 7,
    /// Stopped by the time limit; may be resumed.
    TimeLimit = 75,
    /// Interrupted; may be resumed.
    Interrupted = 130,
}

impl Exit {
    /// The exit code.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The exit of a code that another process told; what is not known counts as a failed job.
    pub(crate) fn of_code(code: u8) -> Exit {
        [
            Exit::Usage,
            Exit::Resources,
            Exit::CheckFailed,
            Exit::Unreachable,
            Exit::Cancelled,
            Exit::TimeLimit,
            Exit::Interrupted,
        ]
        .into_iter()
        .find(|exit| exit.code() == code)
        .unwrap_or(Exit::JobFailed)
    }

    /// The `status` in JSON.
    pub(crate) fn status(self) -> &'static str {
        match self {
            Exit::TimeLimit | Exit::Interrupted | Exit::Cancelled => "stopped",
            Exit::Usage | Exit::Resources | Exit::JobFailed | Exit::CheckFailed | Exit::Unreachable => {
                "failed"
            }
        }
    }
}

/// A failed command.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct CliError {
    /// How the program ends.
    pub exit: Exit,
    /// What happened and why, in lower case.
    pub message: String,
    /// What to do next: a command, or a sentence.
    pub next: Option<String>,
    /// Members that the JSON object has besides, for example the residual of a failed verification.
    pub facts: Map<String, Value>,
}

impl CliError {
    /// A failure without a next step.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> CliError {
        CliError {
            exit,
            message: message.into(),
            next: None,
            facts: Map::new(),
        }
    }

    /// Bad input or usage.
    pub(crate) fn usage(message: impl Into<String>) -> CliError {
        CliError::new(Exit::Usage, message)
    }

    /// A failed access to storage. `action` is what was tried, as a verb; the kind of error decides the exit code.
    pub(crate) fn io(action: &str, path: &Path, error: &io::Error) -> CliError {
        CliError::system(&format!("{action} `{}`", path.display()), error)
    }

    /// Something that the system refused. `action` is what was tried, as a verb.
    pub(crate) fn system(action: &str, error: &io::Error) -> CliError {
        let failure = CliError::new(exit_of_io(error), format!("cannot {action}: {error}"));
        with_next_if_any(failure, next_of_io(error))
    }

    /// The run was asked to stop. `message` says how far it is.
    pub(crate) fn stopped(cause: StopCause, message: impl Into<String>) -> CliError {
        let exit = match cause {
            StopCause::Interrupted => Exit::Interrupted,
            StopCause::TimeLimit => Exit::TimeLimit,
        };
        CliError::new(exit, message)
    }

    /// Says what to do next.
    pub(crate) fn with_next(mut self, next: impl Into<String>) -> CliError {
        self.next = Some(next.into());
        self
    }

    /// Adds the members of a JSON object; anything else is ignored.
    pub(crate) fn with_facts(mut self, facts: Value) -> CliError {
        if let Value::Object(facts) = facts {
            self.facts.extend(facts);
        }
        self
    }

    /// The object that `--json` prints.
    pub(crate) fn to_json(&self) -> Value {
        let mut object = self.facts.clone();
        object.insert("status".to_owned(), json!(self.exit.status()));
        object.insert("error".to_owned(), json!(self.message));
        object.insert("next".to_owned(), json!(self.next));
        object.insert("exit_code".to_owned(), json!(self.exit.code()));
        Value::Object(object)
    }

    /// The lines that people get on stderr.
    pub(crate) fn to_human(&self) -> String {
        match &self.next {
            Some(next) => format!("error: {}\n  next: {next}\n", self.message),
            None => format!("error: {}\n", self.message),
        }
    }
}

/// What helps against inputs that change while they are read.
const NOBODY_WRITES: &str = "run it again when nobody writes to the inputs";

/// The caller can mend a wrong path or permission and a full disk; the rest is the storage's own trouble.
fn exit_of_io(error: &io::Error) -> Exit {
    use io::ErrorKind as Kind;
    match error.kind() {
        _ if is_disk_full(error) || is_out_of_files(error) => Exit::Resources,
        // The latter is what a thread is refused with.
        Kind::OutOfMemory | Kind::WouldBlock => Exit::Resources,
        Kind::NotFound
        | Kind::PermissionDenied
        | Kind::ReadOnlyFilesystem
        | Kind::NotADirectory
        | Kind::IsADirectory
        | Kind::AlreadyExists
        | Kind::InvalidFilename => Exit::Usage,
        _ => Exit::JobFailed,
    }
}

/// Whether the process, or the machine, may not open more files.
fn is_out_of_files(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// What helps whatever was accessed, for causes that lie with neither the file nor the path.
fn next_of_io(error: &io::Error) -> Option<String> {
    let next = match exit_of_io(error) {
        _ if is_out_of_files(error) => {
            "allow more open files, for example with `ulimit -n 1024`, and run it again"
        }
        Exit::Resources if is_disk_full(error) => "make room, and run it again",
        Exit::Resources => "free some memory, and run it again",
        Exit::JobFailed => "look whether the disk is well, and run it again",
        _ => return None,
    };
    Some(next.to_owned())
}

impl From<OpenMatrixError> for CliError {
    fn from(error: OpenMatrixError) -> CliError {
        let failure = CliError::usage(error.to_string());
        match error {
            OpenMatrixError::Io { path, source } if next_of_io(&source).is_some() => {
                CliError::io("read", &path, &source)
            }
            OpenMatrixError::Missing { path } => match suggestion(&path) {
                Some(name) => failure.with_next(format!("did you mean `{name}`?")),
                None => failure.with_next("check the path"),
            },
            OpenMatrixError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                failure.with_next("make the file readable, for example with `chmod u+r`")
            }
            OpenMatrixError::NotAFile { .. } => failure.with_next("name a .npy or text file"),
            OpenMatrixError::Length { .. } => {
                failure.with_next("write or copy the file again: it is not complete")
            }
            _ => failure.with_next(
                "save a two-dimensional array of numbers with numpy.save, or text with one row per line",
            ),
        }
    }
}

/// The same name with the ending that was forgotten.
fn suggestion(path: &Path) -> Option<String> {
    let with_ending = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        name
    };
    let names = [".npy", ".csv", ".txt"].map(with_ending);
    let found = names.into_iter().find(|name| Path::new(name).is_file())?;
    Some(found.to_string_lossy().into_owned())
}

impl From<ReadMatrixError> for CliError {
    fn from(error: ReadMatrixError) -> CliError {
        let (exit, next) = match &error {
            ReadMatrixError::Changed { .. } => (Exit::Usage, Some(NOBODY_WRITES.to_owned())),
            ReadMatrixError::Io { source, .. } => (exit_of_io(source), next_of_io(source)),
        };
        with_next_if_any(CliError::new(exit, error.to_string()), next)
    }
}

impl From<OutputError> for CliError {
    fn from(error: OutputError) -> CliError {
        let exit = match &error {
            OutputError::DiskFull { .. } => Exit::Resources,
            OutputError::Io { source, .. } => exit_of_io(source),
            OutputError::Foreign { .. } | OutputError::TooLarge { .. } => Exit::Usage,
        };
        let failure = CliError::new(exit, error.to_string());
        match error {
            OutputError::DiskFull { .. } => failure.with_next("free some space, or write to another disk"),
            OutputError::Io { source, .. } => with_next_if_any(failure, next_of_io(&source)),
            _ => failure,
        }
    }
}

impl From<FolderError> for CliError {
    fn from(error: FolderError) -> CliError {
        let exit = match &error {
            FolderError::Busy { .. } => Exit::Usage,
            FolderError::Io { source, .. } => exit_of_io(source),
        };
        let next = match &error {
            FolderError::Busy { .. } => "wait for it to end, or stop that process".to_owned(),
            FolderError::Io { path, source } => next_of_io(source)
                .unwrap_or_else(|| format!("make `{}` writable, or choose another output", path.display())),
        };
        CliError::new(exit, error.to_string()).with_next(next)
    }
}

impl From<ClusterError> for CliError {
    fn from(error: ClusterError) -> CliError {
        let exit = match &error {
            ClusterError::Io { source, .. } => exit_of_io(source),
            ClusterError::Certificate(_) | ClusterError::Key(_) => Exit::JobFailed,
            _ => Exit::Usage,
        };
        with_next_if_any(CliError::new(exit, error.to_string()), error.next())
    }
}

impl From<JoinError> for CliError {
    fn from(error: JoinError) -> CliError {
        with_next_if_any(CliError::usage(error.to_string()), error.next())
    }
}

impl From<FindServerError> for CliError {
    fn from(error: FindServerError) -> CliError {
        CliError::usage(error.cause()).with_next(error.next())
    }
}

impl From<StartServerError> for CliError {
    fn from(error: StartServerError) -> CliError {
        match &error {
            StartServerError::Io { path, source } => CliError::io("start", path, source),
            _ => CliError::new(Exit::JobFailed, error.to_string()),
        }
    }
}

fn with_next_if_any(error: CliError, next: Option<String>) -> CliError {
    match next {
        Some(next) => error.with_next(next),
        None => error,
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> CliError {
        let exit = match failure.cause {
            Cause::DiskFull | Cause::OutOfMemory => Exit::Resources,
            Cause::InputChanged => Exit::Usage,
            Cause::Cancelled => Exit::Interrupted,
            Cause::Storage
            | Cause::Check
            | Cause::Panic
            | Cause::Job
            | Cause::WorkerLost
            | Cause::Deadline
            | Cause::Hung => Exit::JobFailed,
        };
        let next = match failure.cause {
            Cause::DiskFull => Some("make room, and run it again"),
            Cause::OutOfMemory => Some("allow less with --memory or --threads, and run it again"),
            Cause::InputChanged => Some(NOBODY_WRITES),
            Cause::Storage => Some("look whether the disk is well, and run it again"),
            _ => None,
        };
        with_next_if_any(CliError::new(exit, failure.text), next.map(str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_facts_and_the_failure() {
        let error = CliError::new(Exit::CheckFailed, "tile 3 is wrong")
            .with_next("tilework multiply A B -o C --overwrite")
            .with_facts(json!({"status": "done", "tiles_bad": 1}));
        let expected = json!({
            "status": "failed", "error": "tile 3 is wrong", "exit_code": 5, "tiles_bad": 1,
            "next": "tilework multiply A B -o C --overwrite",
        });
        assert_eq!(error.to_json(), expected);
        assert_eq!(
            error.to_human(),
            "error: tile 3 is wrong\n  next: tilework multiply A B -o C --overwrite\n"
        );
    }

    #[test]
    fn the_kind_of_an_io_error_decides_the_exit_code() {
        let exit = |kind: io::ErrorKind| CliError::io("write", Path::new("C.npy"), &kind.into()).exit;
        assert_eq!(exit(io::ErrorKind::StorageFull), Exit::Resources);
        assert_eq!(exit(io::ErrorKind::PermissionDenied), Exit::Usage);
        assert_eq!(exit(io::ErrorKind::Other), Exit::JobFailed);
    }

    #[test]
    fn a_stop_is_told_apart_from_a_failure() {
        let stopped = CliError::stopped(StopCause::TimeLimit, "7 of 9 tasks are done");
        assert_eq!(stopped.to_json()["status"], "stopped");
        assert_eq!(stopped.exit.code(), 75);
        assert_eq!(CliError::from(Failure::cancelled()).exit, Exit::Interrupted);
    }
}
