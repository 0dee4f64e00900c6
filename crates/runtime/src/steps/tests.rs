//! The last steps against crashes, and against drivers that come too late for them.

use super::*;
use crate::folder::JobFolder;
use crate::job::{TaskContext, TaskSummary};
use crate::journal_writer::JournalWriter;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tilework_core::driver::Needs;
use tilework_store::disk::{DiskFile, DiskFileExt, FileId, parent_dir};
use tilework_store::element_type::Dtype;
use tilework_store::fake_disk::{CrashMode, FakeDisk};
use tilework_store::npy::output::NpyOutput;

const OUTPUT: &str = "/data/C.npy";
const JOB: &[u8] = b"{}";

fn files() -> JobFiles {
    JobFiles::beside(Path::new(OUTPUT))
}

/// A job whose only number is computed already.
struct OneNumber(NpyOutput);

impl OneNumber {
    fn begin(disk: &FakeDisk, number: f64) -> OneNumber {
        let output = NpyOutput::create(disk, &files().partial(), 1, 1, Dtype::F64).unwrap();
        output.write_rows(0, 0..1, &[number], 1, 1).unwrap();
        OneNumber(output)
    }

    /// Opens it under whichever name it has.
    fn reopen(disk: &FakeDisk) -> OneNumber {
        let partial = files().partial();
        let has_name = disk.stat(&partial).unwrap().is_none();
        let path = if has_name { Path::new(OUTPUT) } else { &partial };
        OneNumber(NpyOutput::open_existing(disk, path, 1, 1, Dtype::F64).unwrap())
    }
}

impl Job for OneNumber {
    type Workspace = ();
    type Output = ();

    fn n_tasks(&self) -> u64 {
        0
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

    fn workspace(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn run(&self, _: &mut (), _: &TaskContext<'_>) -> Result<((), TaskSummary), Failure> {
        Err(Failure::fatal(Cause::Job, "it has no tasks"))
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
        self.0
            .file_id()
            .map_err(|error| Failure::fatal(Cause::Storage, error.to_string()))
    }

    fn seal(&self) -> Result<(), Failure> {
        self.0
            .sync_data()
            .map_err(|error| Failure::fatal(Cause::Storage, error.to_string()))
    }
}

/// Leads until `slept` says, at the n-th look, that it has slept and leads no more.
struct Lead<'a> {
    n_looks: AtomicU32,
    slept: &'a (dyn Fn(u32) -> bool + Sync),
}

impl StepWatch for Lead<'_> {
    fn stop_requested(&self) -> Option<StopCause> {
        None
    }

    fn on_damaged_output(&self, _task: TaskIdx) {}

    fn on_note(&self, _note: &str) {}

    fn may_finish(&self) -> bool {
        !(self.slept)(self.n_looks.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn report(&self, _recovered: &Recovered) -> Vec<u8> {
        b"report".to_vec()
    }
}

fn disk() -> FakeDisk {
    let disk = FakeDisk::new(7);
    let folder = files().folder();
    disk.install(folder.join("lock"), b"");
    disk.remove_file(&folder.join("lock")).unwrap();
    disk
}

/// A run of the job: its number, and the journal that it has begun.
fn begin_run(disk: &FakeDisk) -> (RunEpoch, JournalWriter) {
    let folder = JobFolder::take_over(Arc::new(disk.clone()), Path::new(OUTPUT)).unwrap();
    let (epoch, segment) = folder.start_run(RunEpoch(0), JOB, 0).unwrap();
    (epoch, JournalWriter::start(segment).unwrap())
}

/// Another job's run begins, with a file of its own.
fn begin_another(disk: &FakeDisk) -> (RunEpoch, JournalWriter, OneNumber) {
    let mut folder = JobFolder::take_over(Arc::new(disk.clone()), Path::new(OUTPUT)).unwrap();
    folder.discard().unwrap();
    let output = OneNumber::begin(disk, 2.0);
    let (epoch, segment) = folder.start_run(RunEpoch(0), b"{ }", 0).unwrap();
    (epoch, JournalWriter::start(segment).unwrap(), output)
}

fn finish(
    disk: &FakeDisk,
    job: &OneNumber,
    run: &(RunEpoch, JournalWriter),
    slept: &(dyn Fn(u32) -> bool + Sync),
) -> Result<DriverEvent, Failure> {
    let watch = Lead {
        n_looks: AtomicU32::new(0),
        slept,
    };
    take(disk, job, run, &watch, Step::FinishOutputs)
}

fn take<J: Job>(
    disk: &FakeDisk,
    job: &J,
    (epoch, journal): &(RunEpoch, JournalWriter),
    watch: &dyn StepWatch,
    step: Step,
) -> Result<DriverEvent, Failure> {
    let mut steps = JobSteps {
        job,
        disk: Arc::new(disk.clone()),
        files: files(),
        journal: journal.handle(),
        id: JobId([1; 16]),
        epoch: *epoch,
        n_tasks: 0,
        may_replace_output: false,
        n_verifiers: 1,
        watch,
    };
    match steps.take(step) {
        DriverEvent::StepFailed(_, failure) => Err(failure),
        event => Ok(event),
    }
}

/// The number that is in a file, if the file is there.
fn number(disk: &FakeDisk, path: &Path) -> Option<f64> {
    let bytes = disk.contents(path).ok()?;
    Some(f64::from_le_bytes(*bytes.last_chunk()?))
}

fn names(disk: &FakeDisk) -> Vec<String> {
    let names = disk.read_dir(&files().folder()).unwrap().into_iter();
    names.map(|name| name.into_string().unwrap()).collect()
}

const AWAKE: &(dyn Fn(u32) -> bool + Sync) = &|_| false;
const FINISHED: DriverEvent = DriverEvent::OutputsFinished(JobId([1; 16]));

#[test]
fn the_last_step_can_be_repeated_after_a_crash_at_any_sync() {
    for n_syncs in 1.. {
        let disk = disk();
        let job = OneNumber::begin(&disk, 1.0);
        let run = begin_run(&disk);
        disk.sync_dir(parent_dir(Path::new("/data"))).unwrap();
        disk.crash_after_syncs(n_syncs);
        let finished = finish(&disk, &job, &run, AWAKE);
        if !disk.is_frozen() {
            assert_eq!(finished, Ok(FINISHED));
            assert!(n_syncs > 8, "{n_syncs}");
            break;
        }
        for mode in [CrashMode::Vanish, CrashMode::Tear, CrashMode::Keep] {
            let disk = disk.after_crash(mode);
            let job = OneNumber::reopen(&disk);
            // A tile that is not durable would not have been committed: here it is written again.
            job.0.write_rows(0, 0..1, &[1.0], 1, 1).unwrap();
            let run = begin_run(&disk);
            for _ in 0..2 {
                let finished = finish(&disk, &job, &run, AWAKE);
                assert_eq!(finished, Ok(FINISHED), "{n_syncs} {mode:?}");
                assert_eq!(number(&disk, Path::new(OUTPUT)), Some(1.0));
                assert_eq!(names(&disk), ["journal", "lock"]);
                // What the run before it appended to is compacted, and a new one names itself.
                assert_eq!(latest_run(&disk, &files()).unwrap(), Some(run.0));
            }
        }
    }
}

/// Found by chaos: the output had its name, and its job was told to have failed, for want of room for one file instead of its segments.
#[test]
fn a_disk_that_is_full_once_the_output_has_its_name_costs_the_compaction_only() {
    let mut n_left = 0;
    for room in (0..400).step_by(10) {
        let disk = disk();
        let job = OneNumber::begin(&disk, 1.0);
        let run = begin_run(&disk);
        let folder = files().folder();
        let inside = names(&disk).into_iter().map(|name| folder.join(name));
        let sizes = inside
            .chain([files().partial()])
            .map(|path| disk.contents(path).unwrap().len());
        disk.set_capacity(sizes.sum::<usize>() as u64 + room);
        let finished = finish(&disk, &job, &run, AWAKE);
        if disk.stat(Path::new(OUTPUT)).unwrap().is_none() {
            assert_eq!(finished.unwrap_err().cause, Cause::DiskFull);
            continue;
        }
        assert_eq!(finished, Ok(FINISHED), "{room}");
        let state = crate::folder::inspect(&disk, &files()).unwrap();
        assert!(matches!(state, crate::folder::FolderState::Finished(_)), "{room}");
        let names = names(&disk);
        n_left += u32::from(names == ["000001.segment", "lock"]);
        assert!(
            names == ["000001.segment", "lock"] || names == ["journal", "lock"],
            "{names:?}"
        );
    }
    assert!(n_left > 0);
}

#[test]
fn what_another_file_is_called_is_not_changed() {
    let disk = disk();
    let job = OneNumber::begin(&disk, 1.0);
    let run = begin_run(&disk);
    let other = OneNumber::begin(&disk, 2.0);
    other.seal().unwrap();
    let failure = finish(&disk, &job, &run, AWAKE).unwrap_err();
    assert!(failure.text.contains("another run has begun"), "{}", failure.text);
    assert_eq!(number(&disk, &files().partial()), Some(2.0));
    assert_eq!(number(&disk, Path::new(OUTPUT)), None);
    assert!(names(&disk).contains(&"000001.segment".to_owned()));
}

#[test]
fn an_output_that_appeared_is_not_replaced() {
    let disk = disk();
    let job = OneNumber::begin(&disk, 1.0);
    let run = begin_run(&disk);
    disk.install(OUTPUT, &3.0_f64.to_le_bytes());
    let failure = finish(&disk, &job, &run, AWAKE).unwrap_err();
    assert!(failure.text.contains("appeared"), "{}", failure.text);
    assert_eq!(number(&disk, Path::new(OUTPUT)), Some(3.0));
    assert_eq!(number(&disk, &files().partial()), Some(1.0));
}

#[test]
fn a_driver_that_does_not_know_that_it_is_late_finds_the_later_run() {
    let disk = disk();
    let job = OneNumber::begin(&disk, 1.0);
    let run = begin_run(&disk);
    let later = begin_run(&disk);
    let before = names(&disk);
    let failure = finish(&disk, &job, &run, AWAKE).unwrap_err();
    assert!(failure.text.contains("another run has begun"), "{}", failure.text);
    assert_eq!(number(&disk, &files().partial()), Some(1.0));
    assert_eq!(names(&disk), before);
    // The later one has the same file open, and finishes; the late one changes nothing of that either.
    assert_eq!(finish(&disk, &job, &later, AWAKE), Ok(FINISHED));
    let compacted = disk.contents(files().compacted()).unwrap();
    let failure = finish(&disk, &job, &run, AWAKE).unwrap_err();
    assert!(failure.text.contains("another run has begun"), "{}", failure.text);
    assert_eq!(disk.contents(files().compacted()).unwrap(), compacted);
    assert_eq!(number(&disk, Path::new(OUTPUT)), Some(1.0));
}

/// Wherever a driver falls asleep, another job may have begun in its place when it wakes.
#[test]
fn a_driver_that_sleeps_before_any_irreversible_act_harms_no_later_run() {
    for sleeps_at in 1.. {
        let disk = disk();
        let job = OneNumber::begin(&disk, 1.0);
        let run = begin_run(&disk);
        let later = Mutex::new(None);
        let slept = |n_looks: u32| {
            if n_looks == sleeps_at {
                *later.lock().unwrap() = Some(begin_another(&disk));
            }
            n_looks >= sleeps_at
        };
        let finished = finish(&disk, &job, &run, &slept);
        let Some((epoch, journal, output)) = later.into_inner().unwrap() else {
            assert_eq!((finished, sleeps_at > 3), (Ok(FINISHED), true));
            break;
        };
        let failure = finished.unwrap_err();
        assert!(failure.text.contains("took the job over"), "{}", failure.text);
        assert_eq!(number(&disk, &files().partial()), Some(2.0), "{sleeps_at}");
        assert!(number(&disk, Path::new(OUTPUT)).is_none_or(|number| number == 1.0));
        // What it has written and nobody reads goes with the next end of a run; nothing of the later one is gone.
        let later = (epoch, journal);
        let has_name = disk.stat(Path::new(OUTPUT)).unwrap().is_some();
        if has_name {
            disk.remove_file(Path::new(OUTPUT)).unwrap();
        }
        assert_eq!(finish(&disk, &output, &later, AWAKE), Ok(FINISHED), "{sleeps_at}");
        assert_eq!(number(&disk, Path::new(OUTPUT)), Some(2.0));
        assert_eq!(names(&disk), ["journal", "lock"]);
    }
}

/// A job that writes its output in one piece at its end, and whose driver may fall asleep over it.
struct OneText<'a> {
    output: Mutex<Arc<dyn DiskFile>>,
    text: &'static str,
    sleeps: &'a (dyn Fn() + Sync),
}

impl OneText<'_> {
    fn write(&self, file: Arc<dyn DiskFile>) -> io::Result<()> {
        let (first, rest) = self.text.as_bytes().split_at(5);
        (self.sleeps)();
        file.set_len(0)?;
        file.write_all_at(first, 0)?;
        (self.sleeps)();
        file.write_all_at(rest, 5)?;
        (self.sleeps)();
        *self.output.lock().unwrap() = file;
        Ok(())
    }
}

impl Job for OneText<'_> {
    type Workspace = ();
    type Output = ();

    fn n_tasks(&self) -> u64 {
        0
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

    fn workspace(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn run(&self, _: &mut (), _: &TaskContext<'_>) -> Result<((), TaskSummary), Failure> {
        Err(Failure::fatal(Cause::Job, "it has no tasks"))
    }

    fn write(&self, _task: TaskIdx, (): ()) -> Result<(), Failure> {
        Ok(())
    }

    fn is_intact(&self, _commit: &Commit) -> Result<bool, Failure> {
        Ok(true)
    }

    fn advance(&self, _: RoundIdx, _: &mut dyn Iterator<Item = &Commit>) -> Result<Next<'_>, Failure> {
        (self.sleeps)();
        Ok(Next::DoneWith(Box::new(|file| {
            self.write(file)
                .map_err(|error| storage_failure("write", Path::new("C"), &error))
        })))
    }

    fn output_file(&self) -> Result<FileId, Failure> {
        let stat = self.output.lock().unwrap().stat();
        stat.map(|stat| stat.id())
            .map_err(|error| storage_failure("look at", Path::new("C"), &error))
    }

    fn seal(&self) -> Result<(), Failure> {
        Ok(())
    }
}

/// All that is left to do of a job whose tasks are done.
fn end_rounds_and_finish(
    disk: &FakeDisk,
    job: &OneText<'_>,
    run: &(RunEpoch, JournalWriter),
    slept: &(dyn Fn(u32) -> bool + Sync),
) -> Result<DriverEvent, Failure> {
    let watch = Lead {
        n_looks: AtomicU32::new(0),
        slept,
    };
    take(disk, job, run, &watch, Step::Advance(RoundIdx(0)))?;
    take(disk, job, run, &watch, Step::FinishOutputs)
}

/// Wherever a driver falls asleep, another one may take the job over and finish it; and it may fall asleep right after it has looked
/// whether it still drives.
#[test]
fn a_driver_that_sleeps_while_it_writes_changes_nothing_of_what_another_has_finished() {
    let mut n_followed = 0;
    for knows in [true, false] {
        for sleeps_at in 1.. {
            let disk = disk();
            let partial = disk.create_new(&files().partial()).unwrap();
            let run = begin_run(&disk);
            let n_points = AtomicU32::new(0);
            let has_followed = AtomicBool::new(false);
            let is_late = || n_points.load(Ordering::Relaxed) >= sleeps_at;
            let later = || {
                if n_points.fetch_add(1, Ordering::Relaxed) + 1 != sleeps_at {
                    return;
                }
                // Without it the job is finished: there is nothing to go on with.
                let Ok(partial) = disk.open_write(&files().partial()) else {
                    return;
                };
                has_followed.store(true, Ordering::Relaxed);
                let run = begin_run(&disk);
                let job = OneText {
                    output: Mutex::new(partial),
                    text: "what the later driver wrote",
                    sleeps: &|| (),
                };
                assert_eq!(end_rounds_and_finish(&disk, &job, &run, AWAKE), Ok(FINISHED));
            };
            let job = OneText {
                output: Mutex::new(partial),
                text: "not what the first driver writes",
                sleeps: &later,
            };
            let looks = |_| {
                later();
                knows && is_late()
            };
            let finished = end_rounds_and_finish(&disk, &job, &run, &looks);
            let output = disk.contents(OUTPUT).unwrap();
            assert_eq!(disk.stat(&files().partial()).unwrap(), None, "{sleeps_at}");
            if has_followed.load(Ordering::Relaxed) {
                assert_eq!(output, b"what the later driver wrote", "{sleeps_at} {finished:?}");
                assert_eq!(names(&disk), ["journal", "lock"], "{sleeps_at} {finished:?}");
                assert!(finished.is_err(), "{sleeps_at}");
                n_followed += 1;
                continue;
            }
            assert_eq!(output, job.text.as_bytes(), "{sleeps_at} {finished:?}");
            if !is_late() {
                assert_eq!(finished, Ok(FINISHED));
                break;
            }
        }
    }
    assert!(n_followed > 12, "{n_followed}");
}
