//! Files against power cuts, damage, a full disk, and a second execution of the same attempt; and a job that is made of them.

use super::super::rounds::{Place, Rounds};
use super::super::{Files, Job, Next, Report, TaskContext, TaskError};
use super::*;
use std::path::Path;
use tilework_core::driver::Assign;
use tilework_core::failure::{Cause, JobEnd};
use tilework_core::ids::{AttemptNo, RoundIdx, RunEpoch, TaskIdx};
use tilework_runtime::{JobFolder, RunOptions, StopSwitch};
use tilework_store::data_roots::DataRoots;
use tilework_store::fake_disk::{CrashMode, FakeDisk};
use tilework_store::journal::task_files::list_task_files;

const OUTPUT: &str = "/data/out";

fn files() -> JobFiles {
    JobFiles::beside(Path::new(OUTPUT))
}

fn folder() -> (FakeDisk, TaskFiles) {
    let disk = FakeDisk::new(5);
    disk.install(files().lock(), b"");
    disk.install(files().task_files().join("other"), b"");
    let all = TaskFiles::of(Arc::new(disk.clone()), files());
    (disk, all)
}

fn attempt(task: u64) -> Attempt {
    Attempt {
        epoch: RunEpoch(1),
        round: RoundIdx(0),
        task: TaskIdx(task),
        attempt: AttemptNo(0),
    }
}

fn names(disk: &FakeDisk) -> usize {
    disk.read_dir(&files().task_files()).unwrap().len() - 1
}

/// Longer than both buffers, and no multiple of either.
fn long() -> Vec<u8> {
    (0..700_001_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

fn read(mut reader: TaskFileReader) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn a_file_and_each_of_its_sections_are_read_as_they_were_written() {
    let (_disk, all) = folder();
    let attempt = AttemptFiles::new(&all, attempt(0));
    let bytes = long();
    let ends = [0, 10, 10, 300_000, 600_000];
    let mut writer = attempt.create().unwrap();
    for (begin, end) in [0].into_iter().chain(ends).zip(ends) {
        bytes[begin..end]
            .chunks(777)
            .for_each(|part| writer.write_all(part).unwrap());
        writer.end_section();
    }
    writer.write_all(&bytes[600_000..]).unwrap();
    let file = writer.finish().unwrap();
    assert_eq!((file.bytes(), file.n_sections()), (700_001, 6));
    assert_eq!(file.crc32c(), crc32c::crc32c(&bytes));
    assert_eq!(read(all.open(&file).unwrap()).unwrap(), bytes);
    for (section, (begin, end)) in [0]
        .into_iter()
        .chain(ends)
        .zip(ends.into_iter().chain([700_001]))
        .enumerate()
    {
        let found = read(all.open_section(&file, section).unwrap()).unwrap();
        assert!(found == bytes[begin..end], "section {section}");
    }
    let none = all.open_section(&file, 6).unwrap_err();
    assert!(none.to_string().contains("no section 6"), "{none}");
    // One write that is larger than the buffer, after one that is not.
    let mut writer = attempt.create().unwrap();
    writer.write_all(&bytes[..5]).unwrap();
    writer.write_all(&bytes[5..]).unwrap();
    assert_eq!(writer.finish().unwrap().crc32c(), file.crc32c());
}

#[test]
fn a_finished_file_survives_a_power_cut_at_any_sync() {
    let mut n_cut = 0;
    for mode in CrashMode::ALL {
        for n_syncs in 1.. {
            let (disk, all) = folder();
            let attempt = AttemptFiles::new(&all, attempt(0));
            disk.crash_after_syncs(n_syncs);
            let mut writer = attempt.create().unwrap();
            writer.write_all(&long()).unwrap();
            let finished = writer.finish();
            let left = disk.after_crash(mode);
            match finished {
                Ok(file) => {
                    let all = TaskFiles::of(Arc::new(left), files());
                    assert_eq!(read(all.open(&file).unwrap()).unwrap(), long(), "{mode:?}");
                    break;
                }
                Err(_) => {
                    assert!(disk.is_frozen() && attempt.finished().is_empty());
                    n_cut += 1;
                }
            }
        }
    }
    assert_eq!(n_cut, 6, "a file's sync and its folder's, in three modes");
}

#[test]
fn two_executions_of_one_attempt_have_files_of_their_own() {
    let (disk, all) = folder();
    let (one, other) = (
        AttemptFiles::new(&all, attempt(0)),
        AttemptFiles::new(&all, attempt(0)),
    );
    let (mut of_one, mut of_other) = (one.create().unwrap(), other.create().unwrap());
    for _ in 0..100_000 {
        of_one.write_all(b"one").unwrap();
        of_other.write_all(b"two").unwrap();
    }
    let (of_one, of_other) = (of_one.finish().unwrap(), of_other.finish().unwrap());
    assert_ne!(of_one.name(), of_other.name());
    assert!(all.is_intact(&of_one).unwrap() && all.is_intact(&of_other).unwrap());
    // The loser goes, the winner stays.
    drop(other);
    assert_eq!(names(&disk), 1);
    one.keep();
    assert_eq!(read(all.open(&of_one).unwrap()).unwrap(), b"one".repeat(100_000));
}

#[test]
fn an_attempt_that_fails_leaves_nothing() {
    let (disk, all) = folder();
    let attempt = AttemptFiles::new(&all, attempt(0));
    attempt.create().unwrap().finish().unwrap();
    let mut unfinished = attempt.create().unwrap();
    unfinished.write_all(&long()).unwrap();
    assert_eq!(names(&disk), 2);
    drop(unfinished);
    assert_eq!(names(&disk), 1);
    drop(attempt);
    assert_eq!(names(&disk), 0);
}

#[test]
fn damage_is_told_with_the_files_name_wherever_it_is() {
    let (disk, all) = folder();
    let attempt = AttemptFiles::new(&all, attempt(0));
    let mut writer = attempt.create().unwrap();
    writer.write_all(&long()[..350_000]).unwrap();
    writer.end_section();
    writer.write_all(&long()[350_000..]).unwrap();
    let file = writer.finish().unwrap();
    let path = files().task_files().join(file.name());
    for at in [0, 65_535, 65_536, 349_999, 350_000, 700_000] {
        let mut bytes = long();
        bytes[at] ^= 1;
        disk.install(&path, &bytes);
        let damaged = usize::from(at >= 350_000);
        let errors = [
            read(all.open(&file).unwrap()).unwrap_err(),
            read(all.open_section(&file, damaged).unwrap()).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
        // The other section is whole.
        read(all.open_section(&file, 1 - damaged).unwrap()).unwrap();
        assert!(!all.is_intact(&file).unwrap());
    }
    for bytes in [&long()[..700_000], b""] {
        disk.install(&path, bytes);
        let error = all.open(&file).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(!all.is_intact(&file).unwrap());
    }
    disk.remove_file(&path).unwrap();
    let error = all.open(&file).unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert!(!all.is_intact(&file).unwrap());
    let elsewhere = TaskFile {
        name: "../lock".to_owned(),
        ..file
    };
    assert_eq!(
        all.open(&elsewhere).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
}

#[test]
fn a_full_disk_is_remembered() {
    let (disk, all) = folder();
    let attempt = AttemptFiles::new(&all, attempt(0));
    let mut writer = attempt.create().unwrap();
    disk.set_capacity(1000);
    let error = writer.write_all(&long()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(attempt.met_full_disk());
}

/// Two rounds: each task of the first writes a section for each task of the second, which joins them.
#[derive(Serialize, Deserialize)]
struct Crossed {}

const N_TASKS: u64 = 3;

impl Job for Crossed {
    const KIND: &'static str = "crossed";
    const VERSION: u32 = 1;
    type State = Vec<TaskFile>;
    type Output = TaskFile;

    fn start(&self, _: &Files) -> Result<Vec<TaskFile>, TaskError> {
        Ok(Vec::new())
    }

    fn tasks(&self, _: &Vec<TaskFile>) -> u64 {
        N_TASKS
    }

    fn run(&self, from: &Vec<TaskFile>, task: u64, context: &TaskContext<'_>) -> Result<TaskFile, TaskError> {
        // A frozen disk stays frozen: nobody should wait and try again.
        write_crossed(from, task, context).map_err(TaskError::fatal)
    }

    fn advance(
        &self,
        written: &Vec<TaskFile>,
        files: &mut dyn Iterator<Item = TaskFile>,
    ) -> Result<Next<Vec<TaskFile>>, TaskError> {
        Ok(if written.is_empty() {
            Next::Round(files.collect())
        } else {
            Next::Done(Report::files(files))
        })
    }
}

fn write_crossed(from: &[TaskFile], task: u64, context: &TaskContext<'_>) -> io::Result<TaskFile> {
    // Nobody else hears of this one.
    context.create_file()?.finish()?;
    let mut file = context.create_file()?;
    for part in 0..N_TASKS as usize {
        match from.get(part) {
            None => writeln!(file, "{task} for {part}")?,
            Some(from) => {
                io::copy(&mut context.open_section(from, task as usize)?, &mut file)?;
            }
        }
        file.end_section();
    }
    file.finish()
}

const CROSSED: &str = "0 for 0\n1 for 0\n2 for 0\n0 for 1\n1 for 1\n2 for 1\n0 for 2\n1 for 2\n2 for 2\n";

/// How a run of it ended, and the tasks that it computed.
fn run(disk: &FakeDisk) -> Option<(JobEnd, u64)> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let rounds = {
        let place = Place {
            disk: Arc::clone(&disk),
            files: files(),
            inputs: Vec::new(),
            tally: Arc::default(),
        };
        Arc::new(Rounds::start(Crossed {}, place).unwrap())
    };
    let mut folder = JobFolder::open(disk, Path::new(OUTPUT)).ok()?;
    let options = RunOptions {
        n_workers: 2,
        memory_bytes: u64::MAX,
        assign: Assign::Dynamic,
        may_replace_output: false,
        stop: StopSwitch::default(),
    };
    let report = tilework_runtime::run(&rounds, b"{}", &mut folder, &options, &(), &|_| Vec::new());
    if report.end == JobEnd::Done {
        folder.finish().ok()?;
    }
    Some((report.end, report.n_tasks_run))
}

fn fresh_disk() -> FakeDisk {
    let disk = FakeDisk::new(3);
    disk.install("/data/other", b"");
    disk
}

#[test]
fn a_power_cut_at_any_sync_loses_no_committed_file() {
    let mut n_cut = 0;
    for mode in CrashMode::ALL {
        for n_syncs in 1.. {
            let disk = fresh_disk();
            disk.crash_after_syncs(n_syncs);
            let first = run(&disk);
            let left = disk.after_crash(mode);
            if !disk.is_frozen() {
                assert_eq!(first, Some((JobEnd::Done, 2 * N_TASKS)));
                assert_eq!(disk.read_dir(&files().folder()).unwrap(), ["journal"]);
                break;
            }
            n_cut += 1;
            if left.stat(Path::new(OUTPUT)).unwrap().is_none() {
                let (end, _) = run(&left).unwrap();
                assert_eq!(end, JobEnd::Done, "{mode:?} after {n_syncs} syncs");
                let mut kept = left.read_dir(&files().folder()).unwrap();
                // It may be told that the run before ended without a word.
                kept.retain(|name| name != "alarms.jsonl");
                assert_eq!(kept, ["journal"]);
            }
            assert_eq!(left.contents(OUTPUT).unwrap(), CROSSED.as_bytes());
        }
    }
    assert!(n_cut > 3 * 20, "{n_cut}");
}

type Fault = fn(&FakeDisk, u64, io::ErrorKind);

/// Once and from then on, for each cause: the same command gives the same output once the disk is well.
#[test]
fn a_disk_that_fails_at_any_call_loses_no_committed_file() {
    let n_calls = {
        let disk = fresh_disk();
        run(&disk);
        disk.call_count()
    };
    let faults: [(Fault, _); 3] = [
        (FakeDisk::fail_nth, io::ErrorKind::Other),
        (FakeDisk::fail_from, io::ErrorKind::Other),
        (FakeDisk::fail_from, io::ErrorKind::StorageFull),
    ];
    for (fail, kind) in faults {
        let (mut n_failed, mut n_tried) = (0, 0);
        for n in (1..=n_calls).step_by(2) {
            let story = format!("call {n} of {n_calls}: {kind:?}");
            let disk = fresh_disk();
            fail(&disk, n, kind);
            let first = run(&disk);
            disk.mend();
            n_tried += 1;
            if let Some((JobEnd::Failed(failure), _)) = &first {
                assert!(
                    failure.text.contains("/data/"),
                    "{story}: which file? {}",
                    failure.text
                );
                let is_full = failure.cause == Cause::DiskFull;
                assert!(
                    !is_full || kind == io::ErrorKind::StorageFull,
                    "{story}: {}",
                    failure.text
                );
            }
            n_failed += u32::from(!matches!(first, Some((JobEnd::Done, _))));
            if disk.stat(Path::new(OUTPUT)).unwrap().is_none() {
                let (end, _) = run(&disk).unwrap();
                assert_eq!(end, JobEnd::Done, "{story}, then");
            }
            assert_eq!(disk.contents(OUTPUT).unwrap(), CROSSED.as_bytes(), "{story}");
            assert!(disk.stat(&files().partial()).unwrap().is_none(), "{story}");
        }
        assert!(n_failed * 10 >= n_tried * 6, "{kind:?}: {n_failed} of {n_tried}");
    }
}

#[test]
fn interrupted_and_short_reads_and_writes_change_no_file() {
    for every in [1, 2, 3, 5] {
        let disk = fresh_disk();
        disk.stutter(every);
        assert_eq!(run(&disk), Some((JobEnd::Done, 2 * N_TASKS)), "every {every}th");
        assert_eq!(disk.contents(OUTPUT).unwrap(), CROSSED.as_bytes());
        let (n_interrupted, n_short) = disk.stuttered_counts();
        assert!(n_interrupted > 3 && n_short > 3, "{n_interrupted}, {n_short}");
    }
}

#[test]
fn a_committed_file_that_is_damaged_or_gone_is_written_again() {
    for is_gone in [false, true] {
        let mut n_damaged = 0;
        for n_syncs in 1.. {
            let disk = fresh_disk();
            disk.crash_after_syncs(n_syncs);
            run(&disk);
            if !disk.is_frozen() {
                break;
            }
            let left = disk.after_crash(CrashMode::Keep);
            let found = tilework_store::journal::recover(&left, &files()).unwrap();
            // Files of a round that is complete are not written again: its tasks are done.
            let Some(recovered) = found
                .map(|(recovered, _)| recovered)
                .filter(|_| left.stat(Path::new(OUTPUT)).unwrap().is_none())
            else {
                continue;
            };
            let Some(commit) = recovered.commits.values().next() else {
                continue;
            };
            let name = TaskFileName {
                attempt: commit.attempt,
                nth: 1,
            };
            if is_gone {
                left.remove_file(&files().task_file(&name)).unwrap();
            } else {
                left.install(files().task_file(&name), b"0 for 0\n0 for 9\n0 for 2\n");
            }
            n_damaged += 1;
            let (end, _) = run(&left).unwrap();
            assert_eq!(end, JobEnd::Done, "after {n_syncs} syncs");
            assert_eq!(left.contents(OUTPUT).unwrap(), CROSSED.as_bytes());
        }
        assert!(n_damaged > 5, "{n_damaged}");
    }
}

#[test]
fn a_round_that_begins_keeps_the_files_that_its_state_names_and_no_others() {
    let mut n_looks = 0;
    for n_syncs in 1.. {
        let disk = fresh_disk();
        disk.crash_after_syncs(n_syncs);
        run(&disk);
        if !disk.is_frozen() {
            break;
        }
        let left = disk.after_crash(CrashMode::Keep);
        let found = tilework_store::journal::recover(&left, &files()).unwrap();
        let in_second = |recovered: &tilework_store::journal::Recovered| {
            recovered.current_round() == RoundIdx(1) && !recovered.commits.is_empty()
        };
        if found.is_some_and(|(recovered, _)| in_second(&recovered) && recovered.report.is_none()) {
            let of_first = list_task_files(&left, &files()).unwrap().into_iter();
            let of_first: Vec<_> = of_first
                .filter(|name| name.attempt.round == RoundIdx(0))
                .collect();
            assert_eq!(of_first.len() as u64, N_TASKS);
            assert!(of_first.iter().all(|name| name.nth == 1), "{of_first:?}");
            n_looks += 1;
        }
    }
    assert!(n_looks > 1, "{n_looks}");
}

#[test]
fn below_a_data_root_it_is_the_same() {
    let place = tempfile::tempdir().unwrap();
    let root = format!("data={}", place.path().display()).parse().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(DataRoots::open(&[root]).unwrap());
    disk.create_dir(Path::new("data:/out.tilework")).unwrap();
    let all = TaskFiles::of(Arc::clone(&disk), JobFiles::beside(Path::new("data:/out")));
    all.make_folder().unwrap();
    all.make_folder().unwrap();
    let (one, other) = (
        AttemptFiles::new(&all, attempt(0)),
        AttemptFiles::new(&all, attempt(0)),
    );
    let mut file = one.create().unwrap();
    file.write_all(&long()).unwrap();
    let file = file.finish().unwrap();
    other.create().unwrap().finish().unwrap();
    drop(other);
    assert_eq!(read(all.open(&file).unwrap()).unwrap(), long());
    let path = place.path().join("out.tilework/outputs").join(file.name());
    assert_eq!(std::fs::read(path).unwrap(), long());
    one.keep();
    all.remove(&|name| name.attempt.task == TaskIdx(1)).unwrap();
    assert!(all.is_intact(&file).unwrap());
    all.remove(&|name| name.attempt.task == TaskIdx(0)).unwrap();
    assert!(!all.is_intact(&file).unwrap());
}
