//! Any computation that splits into tasks: what you write, and what you get for it.
//!
//! A [`Job`] says how many tasks a round has, what one of them computes, and what follows when all are done. Splitting, workers,
//! retries, checkpoints, resume, progress and the report are tilework's. A value of your type is the job's *spec*: its fields are what
//! users set.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tilework::{Files, Job, Next, Report, TaskContext, TaskError};
//!
//! /// The sum of the squares below `n`.
//! #[derive(Debug, Serialize, Deserialize)]
//! struct Squares {
//!     n: u64,
//! }
//!
//! impl Job for Squares {
//!     const KIND: &'static str = "squares";
//!     const VERSION: u32 = 1;
//!     type State = ();
//!     type Output = u64;
//!
//!     fn start(&self, _: &Files) -> Result<(), TaskError> {
//!         Ok(())
//!     }
//!
//!     fn tasks(&self, _: &()) -> u64 {
//!         self.n.div_ceil(1000)
//!     }
//!
//!     fn run(&self, _: &(), task: u64, _: &TaskContext<'_>) -> Result<u64, TaskError> {
//!         let numbers = task * 1000..self.n.min((task + 1) * 1000);
//!         Ok(numbers.map(|number| number * number).sum())
//!     }
//!
//!     fn advance(&self, _: &(), outputs: &mut dyn Iterator<Item = u64>) -> Result<Next<()>, TaskError> {
//!         let sum: u64 = outputs.sum();
//!         Ok(Next::Done(Report::json(&sum)?))
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let output = folder.path().join("squares.json");
//! let done = tilework::Runner::new().threads(2).run(Squares { n: 10_000 }, &output)?;
//! assert_eq!(done.tasks_run, 10);
//! assert_eq!(std::fs::read_to_string(&output)?, "333283335000\n");
//! # Ok(())
//! # }
//! ```
//!
//! What a task returns is kept in the journal, and small. More than that it writes into files, which the tasks of later rounds read; the
//! output can be made of them:
//!
//! ```
//! # use serde::{Deserialize, Serialize};
//! # use tilework::{Files, Job, Next, Report, TaskContext, TaskError, TaskFile};
//! use std::io::Write;
//! # #[derive(Debug, Serialize, Deserialize)]
//! # struct Numbers {}
//! # impl Job for Numbers {
//! #     const KIND: &'static str = "numbers";
//! #     const VERSION: u32 = 1;
//! #     type State = ();
//! #     type Output = TaskFile;
//! #     fn start(&self, _: &Files) -> Result<(), TaskError> { Ok(()) }
//! #     fn tasks(&self, _: &()) -> u64 { 10 }
//!
//! fn run(&self, _: &(), task: u64, context: &TaskContext<'_>) -> Result<TaskFile, TaskError> {
//!     let mut file = context.create_file()?;
//!     for number in task * 100_000..(task + 1) * 100_000 {
//!         file.write_all(&number.to_le_bytes())?;
//!     }
//!     Ok(file.finish()?)
//! }
//!
//! fn advance(&self, _: &(), files: &mut dyn Iterator<Item = TaskFile>) -> Result<Next<()>, TaskError> {
//!     Ok(Next::Done(Report::files(files)))
//! }
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let output = folder.path().join("numbers");
//! # tilework::Runner::new().threads(2).run(Numbers {}, &output)?;
//! # assert_eq!(std::fs::metadata(&output)?.len(), 8_000_000);
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//! - [`Job`], [`Next`], [`Report`], [`TaskError`]: what a job is written with
//! - [`rounds`]: such a job as the runtime runs it; `needs`, `tally`: what its tasks need, and what its rounds come to
//! - [`running`]: from a spec to a finished output; [`Runner`]
//! - [`kinds`]: the jobs that a program knows, by name
//! - [`files`]: the files that jobs read; [`matrix`]: rows of a matrix file
//! - [`task_file`]: outputs that are too large for the journal

pub mod files;
#[doc(hidden)]
pub mod kinds;
pub mod matrix;
mod needs;
#[doc(hidden)]
pub mod rounds;
pub mod running;
#[doc(hidden)]
pub mod tally;
pub mod task_file;

pub use files::{Files, InputFile};
pub use matrix::Matrix;
pub use rounds::{STATE_BYTES_MAX, TASKS_MAX};
pub use running::{Finished, Runner};
pub use task_file::{TaskFile, TaskFileReader, TaskFileWriter};

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use task_file::AttemptFiles;
use tilework_core::failure::{Cause, Failure};

/// A computation in rounds of independent tasks. The value itself is its spec.
///
/// A task may run more than once, and on any worker: it must depend on spec, state and number alone. What counts is one attempt's
/// output, the same one for all that follows.
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name by which users and workers know it: lower case letters, digits and `-`.
    const KIND: &'static str;
    /// Raise it whenever the same spec would give other outputs: unfinished jobs of another version are not gone on with.
    const VERSION: u32;
    /// What a round begins with: kept at every barrier, so that a job goes on from there.
    type State: Serialize + DeserializeOwned + Send + Sync;
    /// What a task returns, at most [`OUTPUT_BYTES_MAX`] in MessagePack. More goes into a [`TaskFile`], which may be part of it.
    type Output: Serialize + DeserializeOwned + Send;

    /// Checks the spec, before anything is written, and makes the first round's state.
    ///
    /// # Errors
    /// Whatever is wrong with the spec, for its author to read.
    fn start(&self, files: &Files) -> Result<Self::State, TaskError>;

    /// The files and folders that tasks read, as they stand in the spec. They are looked at when the job begins, when it goes on, and before its output gets its name: a job
    /// whose inputs have changed is not the same job. On a cluster these are the paths that other machines find below their data roots.
    fn inputs(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Tasks of the round that begins with `state`; at least 1.
    fn tasks(&self, state: &Self::State) -> u64;

    /// What a task of the round needs.
    fn needs(&self, _state: &Self::State) -> Needs {
        Needs::default()
    }

    /// Computes one task, counted from 0. One that takes long asks [`TaskContext::check_cancelled`] now and then.
    ///
    /// A panic is an error of the task, which another attempt may not meet. The end of the process is not: in a process of its own a job ends with it, with whatever exit code
    /// the task gave, and goes on with the same command.
    ///
    /// # Errors
    /// [`TaskError`] says whether trying again may help; `?` on any error means that it may.
    fn run(
        &self,
        state: &Self::State,
        task: u64,
        context: &TaskContext<'_>,
    ) -> Result<Self::Output, TaskError>;

    /// Checks an output by other means than those that made it, before it counts. The report says how many were checked.
    ///
    /// # Errors
    /// [`TaskError::Corrupt`] if it is wrong: then another attempt is made.
    fn check(&self, _state: &Self::State, _task: u64, _output: &Self::Output) -> Result<Checked, TaskError> {
        Ok(Checked::No)
    }

    /// What follows a round, given its outputs in the order of its tasks.
    ///
    /// # Errors
    /// Any error ends the job; what is committed is kept.
    fn advance(
        &self,
        state: &Self::State,
        outputs: &mut dyn Iterator<Item = Self::Output>,
    ) -> Result<Next<Self::State>, TaskError>;
}

/// Bytes of a task's output, at most: it is kept in the journal.
pub const OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// What a task needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Needs {
    /// Memory in bytes, beside what the program has anyway. In one process as many tasks of a round run at a time as fit into its memory.
    pub memory_bytes: u64,
    /// How long it usually takes, in seconds; what takes much longer is watched.
    pub expected_s: f64,
    /// How long it may take, in seconds; [`f64::INFINITY`] for as long as it takes. An attempt that takes longer is told to stop
    /// ([`TaskContext::check_cancelled`]) and has failed; a few such failures end the job.
    ///
    /// One that does not stop within 5 s then hangs. On a cluster its worker ends, to be replaced, and another one tries. A process that
    /// runs the job itself can't end one of its threads: the run fails, to be gone on with, and the thread stays until the process ends.
    pub deadline_s: f64,
}

impl Default for Needs {
    fn default() -> Needs {
        Needs {
            memory_bytes: 64 * 1024 * 1024,
            expected_s: 1.0,
            // A day: longer than anybody wants to do again.
            deadline_s: 86_400.0,
        }
    }
}

/// Whether an output was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// By other means than those that made it.
    Yes,
    /// It is only guarded by a checksum from here on.
    No,
}

/// What follows a round.
#[derive(Debug, Clone, PartialEq)]
pub enum Next<State> {
    /// Another round, which begins with this.
    Round(State),
    /// The job is complete.
    Done(Report),
}

/// What a job leaves: the contents of its output file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report(Contents);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Contents {
    Bytes(Vec<u8>),
    /// One after the other.
    Files(Vec<TaskFile>),
}

impl Report {
    /// A JSON text.
    ///
    /// # Errors
    /// If the value can't be one: a map whose keys are no texts.
    pub fn json(value: &impl Serialize) -> Result<Report, TaskError> {
        let mut bytes = serde_json::to_vec_pretty(value)?;
        bytes.push(b'\n');
        Ok(Report::file(bytes))
    }

    /// A file of any kind.
    pub fn file(bytes: Vec<u8>) -> Report {
        Report(Contents::Bytes(bytes))
    }

    /// What tasks wrote, one file after the other. They are checked as they are copied.
    pub fn files(files: impl IntoIterator<Item = TaskFile>) -> Report {
        Report(Contents::Files(files.into_iter().collect()))
    }
}

/// Why a task failed, and what may be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskError {
    /// Another attempt may succeed: passing trouble with files or the network.
    Retry(String),
    /// Trying again can't help.
    Fatal(String),
    /// The result is wrong: another attempt is made, elsewhere if possible.
    Corrupt(String),
}

impl TaskError {
    /// Trying again can't help.
    pub fn fatal(text: impl Display) -> TaskError {
        TaskError::Fatal(text.to_string())
    }

    /// What happened.
    pub fn text(&self) -> &str {
        match self {
            TaskError::Retry(text) | TaskError::Fatal(text) | TaskError::Corrupt(text) => text,
        }
    }
}

/// Any error may pass: files that are away, other processes that are busy.
impl<E: std::error::Error> From<E> for TaskError {
    fn from(error: E) -> TaskError {
        TaskError::Retry(error.to_string())
    }
}

/// What the runtime makes of it. No `From`: that would forbid `?` on other errors.
fn failure(error: TaskError) -> Failure {
    match error {
        TaskError::Retry(text) => Failure::retry(Cause::Job, text),
        TaskError::Fatal(text) => Failure::fatal(Cause::Job, text),
        TaskError::Corrupt(text) => Failure::corrupt(text),
    }
}

/// What a running task may ask of the world.
#[derive(Debug, Clone, Copy)]
pub struct TaskContext<'a> {
    inner: &'a tilework_runtime::TaskContext<'a>,
    inputs: &'a Files,
    files: &'a AttemptFiles<'a>,
}

/// The task was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

impl TaskContext<'_> {
    /// Fails if the run stops: ask every few milliseconds of work, and return the error with `?`.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn check_cancelled(&self) -> Result<(), Cancelled> {
        self.inner.check_cancelled().map_err(|_| Cancelled)
    }

    /// The files that the job reads.
    pub fn files(&self) -> &Files {
        self.inputs
    }

    /// Begins a file for what is too large to be returned. It is part of what the task commits once it is
    /// [finished](TaskFileWriter::finish); what an attempt wrote that fails or loses counts nowhere, and is removed.
    ///
    /// # Errors
    /// If the disk fails, or is full.
    pub fn create_file(&self) -> io::Result<TaskFileWriter<'_>> {
        self.files.create()
    }

    /// Opens a file that a task wrote, for reading it from its beginning to its end.
    ///
    /// # Errors
    /// If it is gone or damaged: then the error names it. Damage within shows as it is read, at its end at the latest.
    pub fn open_file(&self, file: &TaskFile) -> io::Result<TaskFileReader> {
        self.files.all().open(file)
    }

    /// Opens one section of a file, counted from 0: only that is read and checked.
    ///
    /// # Errors
    /// As [`open_file`](Self::open_file), or if the file has no such section.
    pub fn open_section(&self, file: &TaskFile, section: usize) -> io::Result<TaskFileReader> {
        self.files.all().open_section(file, section)
    }

    /// The round, from 0.
    pub fn round(&self) -> u32 {
        self.inner.round.0
    }
}
