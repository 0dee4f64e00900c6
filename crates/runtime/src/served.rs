//! Jobs as workers know them: a worker serves jobs of any types, one after another, and learns of a job by its first task.

use crate::job::{Job, TaskContext, TaskSummary};
use crate::journal_writer::{JournalHandle, JournalWriter};
use crate::under_way::UnderWay;
use std::any::Any;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use tilework_core::driver::Needs;
use tilework_core::failure::{Cause, Failure};
use tilework_core::ids::{Attempt, JobId, TaskIdx, WorkerIdx};
use tilework_core::message::JobAttempt;

/// A workspace or an output, of a type that only its job knows.
pub(crate) type Opaque = Box<dyn Any + Send>;

/// A job whose types nobody else needs to know.
trait AnyJob: Send + Sync {
    fn needs(&self) -> Needs;
    fn writes_outputs(&self) -> bool;
    fn workspace(&self) -> Result<Opaque, Failure>;
    fn run(
        &self,
        workspace: &mut Opaque,
        context: &TaskContext<'_>,
    ) -> Result<(Opaque, TaskSummary), Failure>;
    fn write(&self, task: TaskIdx, output: Opaque) -> Result<(), Failure>;
}

/// A job of known types, behind a reference or owned.
struct Typed<J: ?Sized, H>(H, PhantomData<fn(&J)>);

impl<J: Job + ?Sized, H: Deref<Target = J> + Send + Sync> AnyJob for Typed<J, H> {
    fn needs(&self) -> Needs {
        self.0.needs()
    }

    fn writes_outputs(&self) -> bool {
        self.0.writes_outputs()
    }

    fn workspace(&self) -> Result<Opaque, Failure> {
        Ok(Box::new(self.0.workspace()?))
    }

    fn run(
        &self,
        workspace: &mut Opaque,
        context: &TaskContext<'_>,
    ) -> Result<(Opaque, TaskSummary), Failure> {
        let workspace = workspace.downcast_mut().expect("workspaces are the job's own");
        let (output, summary) = self.0.run(workspace, context)?;
        Ok((Box::new(output), summary))
    }

    fn write(&self, task: TaskIdx, output: Opaque) -> Result<(), Failure> {
        let output = output.downcast().expect("outputs are the job's own");
        self.0.write(task, *output)
    }
}

/// A job that is open for work, and the journal of its commits.
pub struct Served<'a> {
    job: Box<dyn AnyJob + 'a>,
    pub(crate) journal: JournalHandle,
    /// Where the journal is this job's own. It ends when no handle is left: so it is dropped last.
    writer: Option<Arc<JournalWriter>>,
}

impl<'a> Served<'a> {
    /// A job of this process, whose commits go to `journal`.
    pub fn new<J: Job + ?Sized + 'a>(
        job: impl Deref<Target = J> + Send + Sync + 'a,
        journal: JournalHandle,
    ) -> Served<'a> {
        Served {
            job: Box::new(Typed(job, PhantomData)),
            journal,
            writer: None,
        }
    }

    /// A job with a segment of its own, with which it may go on when it is opened anew.
    pub fn with_journal<J: Job + ?Sized + 'a>(
        job: impl Deref<Target = J> + Send + Sync + 'a,
        writer: Arc<JournalWriter>,
    ) -> Served<'a> {
        let mut served = Served::new(job, writer.handle());
        served.writer = Some(writer);
        served
    }

    /// See [`Job::needs`].
    pub(crate) fn needs(&self) -> Needs {
        self.job.needs()
    }

    /// See [`Job::writes_outputs`].
    pub(crate) fn writes_outputs(&self) -> bool {
        self.job.writes_outputs()
    }

    /// See [`Job::workspace`].
    pub(crate) fn workspace(&self) -> Result<Opaque, Failure> {
        self.job.workspace()
    }

    /// See [`Job::run`].
    ///
    /// # Panics
    /// If the workspace is another job's.
    pub(crate) fn run(
        &self,
        workspace: &mut Opaque,
        context: &TaskContext<'_>,
    ) -> Result<(Opaque, TaskSummary), Failure> {
        self.job.run(workspace, context)
    }

    /// See [`Job::write`].
    ///
    /// # Panics
    /// If the output is another job's.
    pub(crate) fn write(&self, task: TaskIdx, output: Opaque) -> Result<(), Failure> {
        self.job.write(task, output)
    }
}

/// Where a worker finds the job of a task that it was given.
pub trait Jobs<'a>: Send + Sync {
    /// The job, open for this run of it: the same one for as long as nothing of it changes.
    fn open(&self, attempt: JobAttempt) -> Result<Arc<Served<'a>>, Failure>;
    /// A worker begins an attempt.
    fn on_run(&self, _worker: WorkerIdx, _attempt: Attempt) {}
    /// An attempt failed for what may be this machine's fault: what is open of its job may be stale or broken, and is to be opened anew
    /// for the next task.
    fn on_failed(&self, _attempt: JobAttempt) {}
    /// No task came for a while: what is only kept for the next one may be closed.
    fn on_idle(&self) {}
}

/// The only job of a process.
pub(crate) struct OneJob<'a> {
    id: JobId,
    served: Arc<Served<'a>>,
    under_way: Option<UnderWay>,
}

impl<'a> OneJob<'a> {
    pub(crate) fn new(id: JobId, served: Served<'a>, under_way: Option<UnderWay>) -> OneJob<'a> {
        OneJob {
            id,
            served: Arc::new(served),
            under_way,
        }
    }
}

impl<'a> Jobs<'a> for OneJob<'a> {
    fn open(&self, attempt: JobAttempt) -> Result<Arc<Served<'a>>, Failure> {
        if attempt.job == self.id {
            Ok(Arc::clone(&self.served))
        } else {
            Err(Failure::fatal(Cause::Job, "a task of another job"))
        }
    }

    fn on_run(&self, worker: WorkerIdx, attempt: Attempt) {
        if let Some(under_way) = &self.under_way {
            under_way.note(worker, attempt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::DriverPort;
    use crate::job::Next;
    use crate::local::local_engine;
    use crate::worker_loop::{Shared, Tally, work};
    use std::path::Path;
    use std::sync::Mutex;
    use std::time::Duration;
    use tilework_core::driver::{DriverEvent, Needs, Queue};
    use tilework_core::ids::{AttemptNo, RoundIdx, RunEpoch};
    use tilework_core::message::{ToWorker, WorkerReport};
    use tilework_core::record::{Commit, RunStart};
    use tilework_store::disk::FileId;
    use tilework_store::fake_disk::FakeDisk;
    use tilework_store::journal::{JobFiles, SegmentWriter};

    /// Notes what is done with it; a task's output is the workspace's number as an `O`.
    struct Noted<O> {
        log: Mutex<Vec<String>>,
        output: fn(u64) -> O,
        /// What the next runs fail with.
        failures: Mutex<Vec<Failure>>,
    }

    impl<O: Send + std::fmt::Display + 'static> Noted<O> {
        fn new(output: fn(u64) -> O) -> Noted<O> {
            Noted {
                log: Mutex::default(),
                output,
                failures: Mutex::default(),
            }
        }

        fn note(&self, text: String) {
            self.log.lock().unwrap().push(text);
        }
    }

    impl<O: Send + std::fmt::Display + 'static> Job for Noted<O> {
        type Workspace = u64;
        type Output = O;

        fn n_tasks(&self) -> u64 {
            2
        }

        fn needs(&self) -> Needs {
            Needs {
                memory_bytes: 1,
                expected_ms: 1,
                deadline_ms: None,
            }
        }

        fn open_outputs(&self, _resumed: bool) -> Result<(), Failure> {
            Ok(())
        }

        fn workspace(&self) -> Result<u64, Failure> {
            self.note("workspace".into());
            Ok(7)
        }

        fn run(&self, workspace: &mut u64, context: &TaskContext<'_>) -> Result<(O, TaskSummary), Failure> {
            self.note(format!("run {}", context.task));
            if let Some(failure) = self.failures.lock().unwrap().pop() {
                return Err(failure);
            }
            let summary = TaskSummary {
                checked: true,
                crc32c: 0,
                residual: 0.0,
                residual_bound: 0.0,
                output: Vec::new(),
            };
            Ok(((self.output)(*workspace), summary))
        }

        fn write(&self, task: TaskIdx, output: O) -> Result<(), Failure> {
            self.note(format!("write {task} {output}"));
            Ok(())
        }

        fn is_intact(&self, _commit: &Commit) -> Result<bool, Failure> {
            Ok(true)
        }

        fn advance(
            &self,
            _round: RoundIdx,
            _commits: &mut dyn Iterator<Item = &Commit>,
        ) -> Result<Next<'_>, Failure> {
            Ok(Next::Done)
        }

        fn output_file(&self) -> Result<FileId, Failure> {
            Ok(FileId { device: 0, inode: 0 })
        }

        fn seal(&self) -> Result<(), Failure> {
            Ok(())
        }
    }

    struct Two([OneJob<'static>; 2]);

    impl Jobs<'static> for Two {
        fn open(&self, attempt: JobAttempt) -> Result<Arc<Served<'static>>, Failure> {
            self.0[0].open(attempt).or_else(|_| self.0[1].open(attempt))
        }
    }

    fn attempt(job: u8, task: u64) -> JobAttempt {
        JobAttempt {
            job: JobId([job; 16]),
            attempt: Attempt {
                epoch: RunEpoch(1),
                round: RoundIdx(0),
                task: TaskIdx(task),
                attempt: AttemptNo(0),
            },
        }
    }

    fn journal(disk: &FakeDisk, output: &str) -> JournalWriter {
        let files = JobFiles::beside(Path::new(output));
        tilework_store::disk::Disk::create_dir(disk, &files.folder()).unwrap();
        let run = RunStart {
            job: JobId([0; 16]),
            epoch: RunEpoch(1),
            started_unix_ms: 0,
            pid: 1,
        };
        JournalWriter::start(SegmentWriter::create(disk, &files, b"", &run).unwrap()).unwrap()
    }

    #[test]
    fn a_worker_serves_jobs_of_different_types_in_turn() {
        let disk = FakeDisk::new(1);
        let (number, text) = (
            Arc::new(Noted::new(|n| n)),
            Arc::new(Noted::new(|n| format!("<{n}>"))),
        );
        let journals = [journal(&disk, "N"), journal(&disk, "T")];
        let jobs = Two([
            OneJob::new(
                JobId([1; 16]),
                Served::new(Arc::clone(&number), journals[0].handle()),
                None,
            ),
            OneJob::new(
                JobId([2; 16]),
                Served::new(Arc::clone(&text), journals[1].handle()),
                None,
            ),
        ]);
        let shared = Shared {
            jobs: Arc::new(jobs),
            observer: &(),
            memory_bytes: 1,
        };
        let tally = Tally::default();
        let (mut driver, ports) = local_engine(1);
        let tasks = [attempt(1, 0), attempt(1, 1), attempt(2, 0), attempt(1, 2)];
        std::thread::scope(|scope| {
            for port in ports {
                let (shared, tally) = (&shared, &tally);
                scope.spawn(move || work(shared, tally, Box::new(port)));
            }
            let strange = attempt(3, 0);
            for task in tasks.into_iter().chain([strange]) {
                driver.release(task, Queue::Shared);
            }
            let (mut committed, mut failed) = (Vec::new(), Vec::new());
            while committed.len() < tasks.len() || failed.is_empty() {
                match driver.next(Duration::from_secs(10)).expect("reports come") {
                    DriverEvent::Received(message) => match message.body {
                        WorkerReport::Committed(attempt) => committed.push(attempt),
                        WorkerReport::Failed(attempt, _) => failed.push(attempt),
                        _ => {}
                    },
                    other => panic!("{other:?}"),
                }
            }
            // Each job has a journal of its own, and neither waits for the other.
            committed.sort();
            let mut expected = tasks;
            expected.sort();
            assert_eq!((committed, failed), (expected.to_vec(), vec![strange]));
            driver.send(WorkerIdx(0), ToWorker::Drain);
        });
        let ran = |log: &Mutex<Vec<String>>, what: &str| -> Vec<String> {
            let log = log.lock().unwrap();
            log.iter()
                .filter(|line| line.starts_with(what))
                .cloned()
                .collect()
        };
        assert_eq!(ran(&number.log, "workspace").len(), 2);
        assert_eq!(ran(&number.log, "write"), ["write 0 7", "write 1 7", "write 2 7"]);
        assert_eq!(ran(&text.log, "write"), ["write 0 <7>"]);
    }

    /// A job that is kept open until an attempt fails for what may be the machine's fault.
    struct KeptOpen {
        job: Arc<Noted<u64>>,
        journal: JournalHandle,
        open: Mutex<Option<Arc<Served<'static>>>>,
        last: Mutex<std::sync::Weak<Served<'static>>>,
    }

    impl Jobs<'static> for KeptOpen {
        fn open(&self, _attempt: JobAttempt) -> Result<Arc<Served<'static>>, Failure> {
            let mut open = self.open.lock().unwrap();
            let served = open.get_or_insert_with(|| {
                let is_gone = self.last.lock().unwrap().upgrade().is_none();
                self.job.note(format!("open, and no other is: {is_gone}"));
                Arc::new(Served::new(Arc::clone(&self.job), self.journal.clone()))
            });
            *self.last.lock().unwrap() = Arc::downgrade(served);
            Ok(Arc::clone(served))
        }

        fn on_failed(&self, attempt: JobAttempt) {
            self.job.note(format!("close after {}", attempt.attempt.task));
            *self.open.lock().unwrap() = None;
        }
    }

    #[test]
    fn a_job_is_opened_anew_after_what_may_be_the_machines_fault() {
        let disk = FakeDisk::new(1);
        let job = Arc::new(Noted::new(|n| n));
        let failures = [
            Failure::fatal(Cause::InputChanged, "a stale copy"),
            Failure::fatal(Cause::Job, "every copy has it"),
        ];
        job.failures.lock().unwrap().extend(failures);
        let journal = journal(&disk, "N");
        let jobs = KeptOpen {
            job: Arc::clone(&job),
            journal: journal.handle(),
            open: Mutex::default(),
            last: Mutex::default(),
        };
        let shared = Shared {
            jobs: Arc::new(jobs),
            observer: &(),
            memory_bytes: 1,
        };
        let tally = Tally::default();
        let (mut driver, ports) = local_engine(1);
        std::thread::scope(|scope| {
            for port in ports {
                let (shared, tally) = (&shared, &tally);
                scope.spawn(move || work(shared, tally, Box::new(port)));
            }
            for task in 0..3 {
                driver.release(attempt(1, task), Queue::Shared);
                loop {
                    match driver.next(Duration::from_secs(10)).expect("reports come") {
                        DriverEvent::Received(message) => match message.body {
                            WorkerReport::Committed(_) | WorkerReport::Failed(..) => break,
                            _ => {}
                        },
                        other => panic!("{other:?}"),
                    }
                }
            }
            driver.send(WorkerIdx(0), ToWorker::Drain);
        });
        let log = job.log.lock().unwrap().join("; ");
        let expected = "open, and no other is: true; workspace; run 0; run 1; close after 1; \
                        open, and no other is: true; workspace; run 2; write 2 7";
        assert_eq!(log, expected);
    }
}
