//! What a job must offer the runtime. A value of the job's type is a started job: validated, planned, its stores open.

use crate::run::StopSwitch;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tilework_core::driver::Needs;
use tilework_core::failure::{Cause, Failure};
use tilework_core::ids::{Attempt, RoundIdx, RunEpoch, TaskIdx, WorkerIdx};
use tilework_core::record::{Commit, RoundStart};
use tilework_store::disk::{DiskFile, FileId};

/// A computation in rounds of independent, idempotent tasks.
///
/// The runtime calls `run`, then `write`, then appends the commit, then acknowledges: never in another order. It may run a
/// task more than once, and promises that one attempt's output counts.
pub trait Job: Send + Sync {
    /// What one worker needs to run tasks: buffers and threads, made once.
    type Workspace: Send + 'static;
    /// A computed and checked output that is not written yet.
    type Output: Send + 'static;

    /// Tasks in the round that is under way.
    fn n_tasks(&self) -> u64;

    /// What a task of the round needs, at most.
    fn needs(&self) -> Needs;

    /// Prepares the outputs: fresh files, or on a resume the ones of the earlier run.
    ///
    /// # Errors
    /// [`Cause::DiskFull`] if they would not fit.
    fn open_outputs(&self, resumed: bool) -> Result<(), Failure>;

    /// Makes one worker's workspace.
    fn workspace(&self) -> Result<Self::Workspace, Failure>;

    /// Computes and checks one task. Stops early with [`Failure::cancelled`] when the context says so.
    fn run(
        &self,
        workspace: &mut Self::Workspace,
        context: &TaskContext<'_>,
    ) -> Result<(Self::Output, TaskSummary), Failure>;

    /// Whether [`write`](Self::write) has anything to do: outputs may stand in their commits.
    fn writes_outputs(&self) -> bool {
        true
    }

    /// Makes a task's output durable.
    fn write(&self, task: TaskIdx, output: Self::Output) -> Result<(), Failure>;

    /// Reads a committed output back: whether it is what the commit says.
    fn is_intact(&self, commit: &Commit) -> Result<bool, Failure>;

    /// Whether what earlier runs committed is read back before it counts at a barrier: where outputs are files that `advance`, or the next
    /// round, rests on. Others are read back once, at the end.
    fn reads_back_at_barriers(&self) -> bool {
        false
    }

    /// What follows a complete round, given its commits in task order. The round that follows begins with [`adopt`](Self::adopt).
    fn advance(
        &self,
        round: RoundIdx,
        commits: &mut dyn Iterator<Item = &Commit>,
    ) -> Result<Next<'_>, Failure>;

    /// Which file is open as the output, whatever it is called by now: one of the files that it was handed to write its report into, once
    /// it was.
    fn output_file(&self) -> Result<FileId, Failure>;

    /// A round begins with a state that [`advance`](Self::advance) gave, in this process or in another one.
    ///
    /// # Errors
    /// If the job can't read it, or knows of one round only.
    fn adopt(&self, start: &RoundStart) -> Result<(), Failure> {
        let text = format!(
            "the job has one round, and is to go on with round {}",
            start.round
        );
        Err(Failure::fatal(Cause::Job, text))
    }

    /// Run `epoch` has published the round that was adopted last: what only earlier rounds of this run and those before it needed may go.
    /// If that fails, it goes at the job's end.
    fn forget_earlier_rounds(&self, _epoch: RunEpoch) {}

    /// Whether a task may end its process: then it is noted which ones run, to tell who did it.
    fn may_end_its_process(&self) -> bool {
        false
    }

    /// Last step before the outputs take their final names: all of them durable, and the inputs still what they were.
    fn seal(&self) -> Result<(), Failure>;
}

/// What follows a round.
pub enum Next<'j> {
    /// Another round.
    Round {
        /// Its tasks.
        n_tasks: u64,
        /// What the job knows as it begins, in the job's own form.
        state: Vec<u8>,
    },
    /// The job is complete: its tasks have written the output.
    Done,
    /// The job is complete, and its output is what this writes.
    DoneWith(WriteReport<'j>),
}

/// Writes a job's output into a new file, which nobody else writes to, and keeps that open as the output.
pub type WriteReport<'j> = Box<dyn FnOnce(Arc<dyn DiskFile>) -> Result<(), Failure> + 'j>;

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Next::Round { .. } => "Round",
            Next::Done => "Done",
            Next::DoneWith(_) => "DoneWith",
        })
    }
}

/// What the commit says about an output.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSummary {
    /// Whether the output was checked, or only checksummed.
    pub checked: bool,
    /// CRC32C of the output's bytes as they are written.
    pub crc32c: u32,
    /// Largest residual that the check saw.
    pub residual: f64,
    /// What the residual was held against.
    pub residual_bound: f64,
    /// The output itself, if it is small enough for the journal.
    pub output: Vec<u8>,
}

/// What a running task may ask of the world.
#[derive(Debug, Clone, Copy)]
pub struct TaskContext<'a> {
    /// The run.
    pub epoch: RunEpoch,
    /// The round.
    pub round: RoundIdx,
    /// The task.
    pub task: TaskIdx,
    /// Which attempt at it.
    pub attempt: u8,
    /// Who runs it: it must not matter for the result.
    pub worker: WorkerIdx,
    pub(crate) cancel: &'a AtomicBool,
    pub(crate) work_done: &'a AtomicU64,
}

impl<'a> TaskContext<'a> {
    /// Of an attempt that belongs to no run: a task whose committed output was damaged and is made again. `stop` cancels it, its
    /// deadline does not.
    pub fn apart(of: Attempt, stop: &'a StopSwitch, work_done: &'a AtomicU64) -> TaskContext<'a> {
        TaskContext {
            epoch: of.epoch,
            round: of.round,
            task: of.task,
            attempt: of.attempt.0,
            worker: WorkerIdx(0),
            cancel: stop.interrupted(),
            work_done,
        }
    }
}

impl TaskContext<'_> {
    /// Fails if the run stops: call it every few milliseconds of work.
    pub fn check_cancelled(&self) -> Result<(), Failure> {
        if self.cancel.load(Ordering::Relaxed) {
            Err(Failure::cancelled())
        } else {
            Ok(())
        }
    }

    /// Adds to the work done (in the job's own unit), for the progress bar.
    pub fn add_work(&self, amount: u64) {
        self.work_done.fetch_add(amount, Ordering::Relaxed);
    }
}
