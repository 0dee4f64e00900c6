//! How an attempt can fail, and how a job can end.

use alloc::string::String;

/// What the driver may do about a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Another attempt may succeed: passing I/O trouble, a lost peer.
    Retry,
    /// Trying again there can't help until someone acts: disk full, input changed. Elsewhere it may, if the cause is one
    /// [of a machine](Cause::is_of_machine).
    Fatal,
    /// The result failed its check: another attempt, preferably elsewhere.
    Corrupt,
}

/// Where the cause lies; decides the exit status and what the user is told to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Reading or writing failed.
    Storage,
    /// The disk that holds the output is full.
    DiskFull,
    /// Memory that the plan counts on can't be had.
    OutOfMemory,
    /// An input is gone or is not what it was when the job started.
    InputChanged,
    /// The result failed its check.
    Check,
    /// The task's code panicked.
    Panic,
    /// The job's own code failed.
    Job,
    /// Workers were lost while they ran it.
    WorkerLost,
    /// The run was asked to stop while the attempt ran.
    Cancelled,
    /// It ran for longer than its job allows, and stopped when it was told to.
    Deadline,
    /// It ran for longer than its job allows, and did not stop when it was told to: whoever runs it can do nothing else any more.
    Hung,
}

impl Cause {
    /// Whether it may lie with the machine that met it, and another one be free of it: a broken disk, a stale copy of an input, too
    /// little memory.
    pub fn is_of_machine(self) -> bool {
        match self {
            Cause::Storage | Cause::InputChanged | Cause::OutOfMemory => true,
            // All machines have the output's disk, the code and the job's data in common.
            Cause::DiskFull
            | Cause::Check
            | Cause::Panic
            | Cause::Job
            | Cause::WorkerLost
            | Cause::Cancelled
            | Cause::Deadline
            | Cause::Hung => false,
        }
    }

    /// Whether it lies with the task's own code, wherever that runs: then a user has to know which task it was.
    pub fn is_of_task(self) -> bool {
        matches!(self, Cause::Job | Cause::Panic | Cause::Check | Cause::Deadline)
    }
}

/// A failed attempt or step, with the text that the user sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What may be done about it.
    pub remedy: Remedy,
    /// Where the cause lies.
    pub cause: Cause,
    /// What happened, for a human.
    pub text: String,
}

impl Failure {
    /// A failure that no other attempt can mend.
    pub fn fatal(cause: Cause, text: impl Into<String>) -> Failure {
        Failure {
            remedy: Remedy::Fatal,
            cause,
            text: text.into(),
        }
    }

    /// A failure that another attempt may mend.
    pub fn retry(cause: Cause, text: impl Into<String>) -> Failure {
        Failure {
            remedy: Remedy::Retry,
            cause,
            text: text.into(),
        }
    }

    /// A result that failed its check.
    pub fn corrupt(text: impl Into<String>) -> Failure {
        Failure {
            remedy: Remedy::Corrupt,
            cause: Cause::Check,
            text: text.into(),
        }
    }

    /// The attempt was abandoned because the run stops.
    pub fn cancelled() -> Failure {
        Failure {
            remedy: Remedy::Retry,
            cause: Cause::Cancelled,
            text: String::from("cancelled"),
        }
    }
}

/// Why a run was asked to stop before its end. Everything committed is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// Ctrl-C, SIGTERM or SIGHUP.
    Interrupted,
    /// `--time-limit` passed.
    TimeLimit,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// All rounds are committed and the outputs have their final names.
    Done,
    /// Stopped on request; a resume goes on from the journal.
    Stopped(StopCause),
    /// Failed; the journal keeps what was committed.
    Failed(Failure),
}
