//! When the time of a task begins: not before its code runs, and for each attempt anew.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::driver::{DriverEvent, Needs, Queue};
use tilework_core::failure::{Cause, Failure};
use tilework_core::ids::{Attempt, AttemptNo, JobId, RoundIdx, RunEpoch, TaskIdx, WorkerIdx};
use tilework_core::message::{JobAttempt, ToWorker, WorkerReport};
use tilework_core::record::{Commit, RunStart};
use tilework_runtime::Job;
use tilework_runtime::engine::DriverPort;
use tilework_runtime::job::{Next, TaskContext, TaskSummary};
use tilework_runtime::journal_writer::JournalWriter;
use tilework_runtime::local::local_engine;
use tilework_runtime::served::{Jobs, Served};
use tilework_runtime::worker_loop::{Shared, Tally, work};
use tilework_store::disk::{Disk, FileId};
use tilework_store::fake_disk::FakeDisk;
use tilework_store::journal::{JobFiles, SegmentWriter};

const DEADLINE_MS: u64 = 300;
/// A task that goes on until it is told to stop.
const ENDLESS: u64 = 9;

struct Timed;

impl Job for Timed {
    type Workspace = ();
    type Output = ();

    fn n_tasks(&self) -> u64 {
        10
    }

    fn needs(&self) -> Needs {
        Needs {
            memory_bytes: 1,
            expected_ms: 1,
            deadline_ms: Some(DEADLINE_MS),
        }
    }

    fn open_outputs(&self, _resumed: bool) -> Result<(), Failure> {
        Ok(())
    }

    fn workspace(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn run(&self, (): &mut (), context: &TaskContext<'_>) -> Result<((), TaskSummary), Failure> {
        let begun = Instant::now();
        loop {
            context.check_cancelled()?;
            if context.task.0 != ENDLESS && begun.elapsed() >= Duration::from_millis(DEADLINE_MS / 10) {
                break;
            }
            thread::sleep(Duration::from_millis(1)); // waits: for its deadline, or a part of it
        }
        let summary = TaskSummary {
            checked: false,
            crc32c: 0,
            residual: 0.0,
            residual_bound: 0.0,
            output: Vec::new(),
        };
        Ok(((), summary))
    }

    fn write(&self, _task: TaskIdx, (): ()) -> Result<(), Failure> {
        Ok(())
    }

    fn is_intact(&self, _commit: &Commit) -> Result<bool, Failure> {
        Ok(true)
    }

    fn advance(&self, _: RoundIdx, _: &mut dyn Iterator<Item = &Commit>) -> Result<Next<'_>, Failure> {
        Ok(Next::Done)
    }

    fn output_file(&self) -> Result<FileId, Failure> {
        Ok(FileId { device: 0, inode: 0 })
    }

    fn seal(&self) -> Result<(), Failure> {
        Ok(())
    }
}

/// What opening a job does, each time.
type Open = dyn Fn(u64) -> Result<(), Failure> + Send + Sync;

/// The job, opened for each task.
struct Opens {
    served: Arc<Served<'static>>,
    n_opened: AtomicU64,
    open: Box<Open>,
}

impl Jobs<'static> for Opens {
    fn open(&self, _attempt: JobAttempt) -> Result<Arc<Served<'static>>, Failure> {
        (self.open)(self.n_opened.fetch_add(1, Ordering::Relaxed))?;
        Ok(Arc::clone(&self.served))
    }
}

fn attempt(task: u64) -> JobAttempt {
    JobAttempt {
        job: JobId([1; 16]),
        attempt: Attempt {
            epoch: RunEpoch(1),
            round: RoundIdx(0),
            task: TaskIdx(task),
            attempt: AttemptNo(0),
        },
    }
}

/// How one worker fares with these tasks, given one after the other.
fn fares(tasks: &[u64], open: Box<Open>) -> Vec<Result<(), Cause>> {
    let disk = FakeDisk::new(1);
    let files = JobFiles::beside(Path::new("out"));
    disk.create_dir(&files.folder()).unwrap();
    let run = RunStart {
        job: JobId([1; 16]),
        epoch: RunEpoch(1),
        started_unix_ms: 0,
        pid: 1,
    };
    let journal = JournalWriter::start(SegmentWriter::create(&disk, &files, b"", &run).unwrap()).unwrap();
    let jobs = Opens {
        served: Arc::new(Served::new(Arc::new(Timed), journal.handle())),
        n_opened: AtomicU64::new(0),
        open,
    };
    let shared = Shared {
        jobs: Arc::new(jobs),
        observer: &(),
        memory_bytes: 1,
    };
    let tally = Tally::default();
    let (mut driver, ports) = local_engine(1);
    let ended = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for port in ports {
            let (shared, tally) = (&shared, &tally);
            scope.spawn(move || work(shared, tally, Box::new(port)));
        }
        for task in tasks {
            driver.release(attempt(*task), Queue::Shared);
            let until = Instant::now() + Duration::from_secs(4);
            let end = loop {
                match driver.next(Duration::from_millis(100)) {
                    Some(DriverEvent::Received(message)) => match message.body {
                        WorkerReport::Committed(_) => break Ok(()),
                        WorkerReport::Failed(_, failure) => break Err(failure.cause),
                        _ => {}
                    },
                    Some(other) => panic!("{other:?}"),
                    // A worker that enforces no deadline would never end.
                    None if Instant::now() > until => break Err(Cause::Hung),
                    None => {}
                }
            };
            ended.lock().unwrap().push(end);
        }
        let job = attempt(0).job;
        let epoch = RunEpoch(1);
        driver.send(WorkerIdx(0), ToWorker::CancelJob { job, epoch });
        driver.send(WorkerIdx(0), ToWorker::Drain);
    });
    ended.into_inner().unwrap()
}

/// A worker whose first attempt could not open the job never heard of the round's deadline.
#[test]
fn r6_a_job_that_could_not_be_opened_once_still_has_its_deadline() {
    let ended = fares(
        &[0, ENDLESS],
        Box::new(|n_opened| match n_opened {
            0 => Err(Failure::retry(Cause::Storage, "not mounted yet")),
            _ => Ok(()),
        }),
    );
    assert_eq!(ended, [Err(Cause::Storage), Err(Cause::Deadline)]);
}

/// Tasks that waited, for inputs or for room on a disk, counted as late before they began.
#[test]
fn r6_what_a_task_waits_for_before_it_begins_is_not_its_time() {
    let ended = fares(
        &[0, 1, ENDLESS],
        Box::new(|n_opened| {
            if n_opened > 0 {
                thread::sleep(Duration::from_millis(DEADLINE_MS + 50)); // waits: longer than a task may take
            }
            Ok(())
        }),
    );
    assert_eq!(ended, [Ok(()), Ok(()), Err(Cause::Deadline)]);
}
