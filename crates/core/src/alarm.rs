//! What a user wants to be told of while a job runs: typed, with a severity, the cause, and what to do.

use crate::failure::{Failure, Remedy};
use crate::ids::{JobId, RunEpoch, TaskIdx, WorkerIdx};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Recovery is under way; nobody needs to act.
    Note,
    /// It costs time or resources; someone should look.
    Warning,
    /// The job does not go on until someone acts.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// Something that happened to a job or a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// The job, if it is about one.
    pub job: Option<JobId>,
    /// What happened.
    pub kind: AlarmKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlarmKind {
    /// A worker was not heard of in time, or its process is gone.
    WorkerLost {
        /// Which.
        worker: WorkerIdx,
        /// Attempts that it held, which others do again.
        n_attempts: u64,
    },
    /// A worker takes much longer than the others.
    WorkerSlow {
        /// Which.
        worker: WorkerIdx,
        /// How many times as long as the typical attempt, in percent.
        percent: u64,
    },
    /// An attempt failed and another one follows.
    TaskRetried {
        /// The task.
        task: TaskIdx,
        /// Who failed.
        worker: WorkerIdx,
        /// Why.
        failure: Failure,
        /// When the next attempt may begin, in milliseconds from now.
        delay_ms: u64,
    },
    /// A result failed its check.
    AttemptCorrupt {
        /// The task.
        task: TaskIdx,
        /// Who computed it.
        worker: WorkerIdx,
    },
    /// A worker whose results failed their checks gets no more tasks.
    WorkerQuarantined {
        /// Which.
        worker: WorkerIdx,
        /// Results that failed.
        n_corrupt: u32,
    },
    /// A task that fails or takes its workers down, whoever runs it, or fails for good.
    PoisonTask {
        /// The task.
        task: TaskIdx,
        /// Its last failure.
        failure: Failure,
    },
    /// A report of a commit that the journal does not have.
    CommitMissing {
        /// Tasks that run again.
        n_tasks: u64,
    },
    /// Nothing goes on.
    JobStalled(Stall),
    /// Something goes on again.
    JobGoesOn,
    /// The disk that holds the output is full, and the job waits for space.
    DiskLow,
    /// The run before this one ended without a word: its process was killed, or a task ended it.
    RunEndedSilently {
        /// The tasks that were running and are not committed, each with how often in a row that happened to it.
        tasks: Vec<(TaskIdx, u32)>,
    },
    /// Another driver took the job over.
    DriverChanged {
        /// The run that it started.
        epoch: RunEpoch,
    },
}

/// Why nothing goes on: the named waits of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// No worker is there.
    NoWorkers,
    /// No worker has the memory that a task needs.
    NoWorkerFits {
        /// What a task needs.
        needed_bytes: u64,
        /// What the largest worker has.
        largest_bytes: u64,
    },
    /// No worker's program has the job's code.
    NobodyKnows,
    /// Tasks are in the queue and workers are idle: nothing was heard of either for long.
    Silent,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stall::NoWorkers => f.write_str("no worker is there: the job waits for one"),
            Stall::NoWorkerFits {
                needed_bytes,
                largest_bytes,
            } => write!(
                f,
                "no worker has the {needed_bytes} bytes of memory that a task needs; the largest has {largest_bytes}"
            ),
            Stall::NobodyKnows => f.write_str("no worker's program knows this job, or this version of it"),
            Stall::Silent => f.write_str("tasks are queued and no worker takes them"),
        }
    }
}

impl Alarm {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self.kind {
            AlarmKind::TaskRetried { .. } | AlarmKind::DriverChanged { .. } | AlarmKind::JobGoesOn => {
                Severity::Note
            }
            AlarmKind::WorkerLost { .. }
            | AlarmKind::WorkerSlow { .. }
            | AlarmKind::AttemptCorrupt { .. }
            | AlarmKind::WorkerQuarantined { .. }
            | AlarmKind::CommitMissing { .. }
            | AlarmKind::RunEndedSilently { .. } => Severity::Warning,
            AlarmKind::PoisonTask { .. } | AlarmKind::JobStalled(_) | AlarmKind::DiskLow => Severity::Error,
        }
    }

    /// The kind's name in logs and JSON.
    pub fn name(&self) -> &'static str {
        match self.kind {
            AlarmKind::WorkerLost { .. } => "worker-lost",
            AlarmKind::WorkerSlow { .. } => "worker-slow",
            AlarmKind::TaskRetried { .. } => "task-retried",
            AlarmKind::AttemptCorrupt { .. } => "attempt-corrupt",
            AlarmKind::WorkerQuarantined { .. } => "worker-quarantined",
            AlarmKind::PoisonTask { .. } => "poison-task",
            AlarmKind::CommitMissing { .. } => "commit-missing",
            AlarmKind::JobStalled(_) => "job-stalled",
            AlarmKind::JobGoesOn => "job-goes-on",
            AlarmKind::DiskLow => "disk-low",
            AlarmKind::RunEndedSilently { .. } => "run-ended-silently",
            AlarmKind::DriverChanged { .. } => "driver-changed",
        }
    }

    /// What someone should do, if anything.
    pub fn advice(&self) -> Option<&'static str> {
        match self.kind {
            AlarmKind::WorkerSlow { .. } => Some("see what else runs on that machine"),
            AlarmKind::WorkerQuarantined { .. } => {
                Some("test that machine's memory, and start another worker")
            }
            AlarmKind::PoisonTask { .. } => Some("mend what the failure names, then `tilework resume`"),
            AlarmKind::JobStalled(Stall::NoWorkers) => Some("start a worker"),
            AlarmKind::JobStalled(Stall::NoWorkerFits { .. }) => {
                Some("start a worker with more memory, or plan the job with less: --memory")
            }
            AlarmKind::JobStalled(Stall::NobodyKnows) => {
                Some("start workers with the program that submitted the job: PROGRAM worker")
            }
            AlarmKind::JobStalled(Stall::Silent) => Some("look at the workers' logs"),
            AlarmKind::DiskLow => Some("free space where the output is; the job goes on by itself"),
            AlarmKind::RunEndedSilently { .. } => Some(
                "see who killed the process; if a task ends it (exit, abort, too much memory), mend the task",
            ),
            AlarmKind::WorkerLost { .. }
            | AlarmKind::TaskRetried { .. }
            | AlarmKind::AttemptCorrupt { .. }
            | AlarmKind::CommitMissing { .. }
            | AlarmKind::JobGoesOn
            | AlarmKind::DriverChanged { .. } => None,
        }
    }

    /// What happened, for a human, without a final full stop.
    pub fn text(&self) -> String {
        match &self.kind {
            AlarmKind::WorkerLost { worker, n_attempts } => {
                format!("worker {worker} is lost; {n_attempts} tasks that it held run again elsewhere")
            }
            AlarmKind::WorkerSlow { worker, percent } => {
                format!("worker {worker} takes {percent} % of the typical time for a task")
            }
            AlarmKind::TaskRetried {
                task,
                worker,
                failure,
                delay_ms,
            } => format!(
                "task {task} failed on worker {worker} and runs again in {delay_ms} ms: {}",
                failure.text
            ),
            AlarmKind::AttemptCorrupt { task, worker } => {
                format!("what worker {worker} computed for task {task} failed its check")
            }
            AlarmKind::WorkerQuarantined { worker, n_corrupt } => {
                format!("worker {worker} gets no more tasks: {n_corrupt} of its results failed their checks")
            }
            AlarmKind::PoisonTask { task, failure } => {
                let how = match failure.remedy {
                    Remedy::Fatal => "failed, and trying again can't help",
                    Remedy::Retry | Remedy::Corrupt => "fails whoever runs it",
                };
                format!("task {task} {how}: {}", failure.text)
            }
            AlarmKind::CommitMissing { n_tasks } => {
                format!(
                    "{n_tasks} tasks were reported as committed, but the journal does not have them: they run again"
                )
            }
            AlarmKind::JobStalled(stall) => format!("{stall}"),
            AlarmKind::JobGoesOn => String::from("the job goes on"),
            AlarmKind::DiskLow => {
                String::from("the disk that holds the output is full: the job waits for space")
            }
            AlarmKind::RunEndedSilently { tasks } => silent_end(tasks),
            AlarmKind::DriverChanged { epoch } => format!("another driver took the job over, as run {epoch}"),
        }
    }
}

fn silent_end(tasks: &[(TaskIdx, u32)]) -> String {
    let n_most = tasks.iter().map(|(_, n_times)| *n_times).max().unwrap_or(0);
    let those = |is_meant: &dyn Fn(u32) -> bool| {
        let meant = tasks.iter().filter(|(_, n_times)| is_meant(*n_times));
        let numbers: Vec<String> = meant.map(|(task, _)| task.to_string()).collect();
        let plural = if numbers.len() == 1 { "" } else { "s" };
        format!("task{plural} {}", numbers.join(", "))
    };
    let mut text = format!(
        "the run before ended without a word while {} ran",
        those(&|_| true)
    );
    if n_most > 1 {
        let always = those(&|n_times| n_times == n_most);
        text += &format!("; {always} ran each of the last {n_most} times");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn tasks_that_ran_when_a_run_ended_are_told_and_those_that_always_did() {
        let text = |tasks| {
            let kind = AlarmKind::RunEndedSilently { tasks };
            Alarm { job: None, kind }.text()
        };
        let one = "the run before ended without a word while task 3 ran";
        assert_eq!(text(vec![(TaskIdx(3), 1)]), one);
        let two =
            "the run before ended without a word while tasks 3, 7 ran; task 7 ran each of the last 4 times";
        assert_eq!(text(vec![(TaskIdx(3), 1), (TaskIdx(7), 4)]), two);
    }
}
