//! A job of several rounds, cut off at every sync: it goes on with the round that had begun, and ends with the undisturbed answer.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tilework_core::driver::{Assign, Needs};
use tilework_core::failure::{Cause, Failure, JobEnd};
use tilework_core::ids::{RoundIdx, TaskIdx};
use tilework_core::record::{Commit, RoundStart};
use tilework_runtime::job::{Next, TaskContext, TaskSummary};
use tilework_runtime::{Job, JobFolder, RunOptions, StopSwitch, run};
use tilework_store::disk::{Disk, DiskFile, DiskFileExt, FileId};
use tilework_store::fake_disk::{CrashMode, FakeDisk};
use tilework_store::journal::JobFiles;

const OUTPUT: &str = "/data/sum";
const N_ROUNDS: u32 = 3;
const N_TASKS: u64 = 3;
/// Of each output: enough that what a round leaves is worth a new segment.
const BALLAST_BYTES: usize = 30_000;

/// Each task adds its number to the state; a round's sum is the next round's state. The last one is the output.
struct Sums {
    disk: Arc<dyn Disk>,
    state: Mutex<u64>,
    output: Mutex<Option<Arc<dyn DiskFile>>>,
    /// Which round each execution was in.
    ran: Mutex<Vec<u32>>,
    /// Files of the journal at the end of each round, with their lengths.
    left: Mutex<Vec<Vec<(String, u64)>>>,
}

fn files() -> JobFiles {
    JobFiles::beside(Path::new(OUTPUT))
}

fn failed(error: std::io::Error) -> Failure {
    Failure::fatal(Cause::Storage, error.to_string())
}

impl Sums {
    fn new(disk: &FakeDisk) -> Sums {
        Sums {
            disk: Arc::new(disk.clone()),
            state: Mutex::new(1),
            output: Mutex::default(),
            ran: Mutex::default(),
            left: Mutex::default(),
        }
    }

    fn journal(&self) -> Result<Vec<(String, u64)>, Failure> {
        let folder = files().folder();
        let names = self.disk.read_dir(&folder).map_err(failed)?;
        // What a crash left unfinished goes at the end.
        let is_whole =
            |name: &OsString| JobFiles::is_journal(name) && JobFiles::writing_epoch(name).is_none();
        let names = names.into_iter().filter(is_whole);
        let with_len = |name: OsString| {
            let stat = self.disk.stat(&folder.join(&name)).map_err(failed)?;
            Ok((name.into_string().unwrap(), stat.map_or(0, |stat| stat.len)))
        };
        names.map(with_len).collect()
    }

    /// What an undisturbed run comes to.
    fn expected() -> u64 {
        (0..N_ROUNDS).fold(1, |state, _| (0..N_TASKS).map(|task| state + task).sum())
    }
}

impl Job for Sums {
    type Workspace = ();
    type Output = ();

    fn n_tasks(&self) -> u64 {
        N_TASKS
    }

    fn needs(&self) -> Needs {
        Needs {
            memory_bytes: 1,
            expected_ms: 1,
            deadline_ms: None,
        }
    }

    fn open_outputs(&self, resumed: bool) -> Result<(), Failure> {
        let path = files().partial();
        let opened = if resumed {
            self.disk.open_write(&path)
        } else {
            self.disk.create_new(&path)
        };
        *self.output.lock().unwrap() = Some(opened.map_err(failed)?);
        self.disk.sync_dir(&files().parent()).map_err(failed)
    }

    fn workspace(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn run(&self, _: &mut (), context: &TaskContext<'_>) -> Result<((), TaskSummary), Failure> {
        self.ran.lock().unwrap().push(context.round.0);
        let sum = *self.state.lock().unwrap() + context.task.0;
        let mut output = sum.to_le_bytes().to_vec();
        output.resize(BALLAST_BYTES, 0);
        let summary = TaskSummary {
            checked: false,
            crc32c: 0,
            residual: 0.0,
            residual_bound: 0.0,
            output,
        };
        Ok(((), summary))
    }

    fn write(&self, _task: TaskIdx, (): ()) -> Result<(), Failure> {
        Ok(())
    }

    fn is_intact(&self, _commit: &Commit) -> Result<bool, Failure> {
        Ok(true)
    }

    fn advance(
        &self,
        round: RoundIdx,
        commits: &mut dyn Iterator<Item = &Commit>,
    ) -> Result<Next<'_>, Failure> {
        let of = |commit: &Commit| u64::from_le_bytes(*commit.output.first_chunk().unwrap());
        let sum: u64 = commits.map(of).sum();
        self.left.lock().unwrap().push(self.journal()?);
        if round.0 + 1 < N_ROUNDS {
            return Ok(Next::Round {
                n_tasks: N_TASKS,
                state: sum.to_le_bytes().to_vec(),
            });
        }
        Ok(Next::DoneWith(Box::new(move |file| {
            file.write_all_at(&sum.to_le_bytes(), 0).map_err(failed)?;
            *self.output.lock().unwrap() = Some(file);
            Ok(())
        })))
    }

    fn adopt(&self, start: &RoundStart) -> Result<(), Failure> {
        *self.state.lock().unwrap() = u64::from_le_bytes(start.state[..].try_into().unwrap());
        Ok(())
    }

    fn output_file(&self) -> Result<FileId, Failure> {
        let output = self.output.lock().unwrap();
        let stat = output.as_ref().expect("opened").stat();
        stat.map(|stat| stat.id()).map_err(failed)
    }

    fn seal(&self) -> Result<(), Failure> {
        let output = self.output.lock().unwrap();
        output.as_ref().expect("opened").sync_data().map_err(failed)
    }
}

/// Runs the job, as far as the disk lets it; how it ended, if it could begin, and the rounds of all executions.
fn run_on(disk: &FakeDisk) -> Option<(JobEnd, Vec<u32>)> {
    let job = Arc::new(Sums::new(disk));
    let end = run_job_on(disk, &job)?;
    let ran = std::mem::take(&mut *job.ran.lock().unwrap());
    Some((end, ran))
}

fn run_job_on(disk: &FakeDisk, job: &Arc<Sums>) -> Option<JobEnd> {
    let mut folder = JobFolder::open(Arc::new(disk.clone()), Path::new(OUTPUT)).ok()?;
    let options = RunOptions {
        n_workers: 2,
        memory_bytes: 2,
        assign: Assign::Dynamic,
        may_replace_output: false,
        stop: StopSwitch::default(),
    };
    let report = run(job, b"{}", &mut folder, &options, &(), &|_| b"report".to_vec());
    if report.end == JobEnd::Done {
        // A lock that a failing disk keeps is a finished job's.
        let _ = folder.finish();
    }
    Some(report.end)
}

fn new_disk() -> FakeDisk {
    let disk = FakeDisk::new(3);
    disk.install("/data/other", b"");
    disk
}

fn answer(disk: &FakeDisk) -> u64 {
    let bytes = disk.contents(OUTPUT).unwrap();
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// The round that has begun, as the journal tells it.
fn begun_round(disk: &FakeDisk) -> u32 {
    let found = tilework_store::journal::recover(disk, &files()).unwrap();
    found.map_or(0, |(recovered, _)| recovered.current_round().0)
}

/// Disks on which a run was cut off in this round, at each sync that it came to.
fn cut_off_in(round: u32) -> Vec<FakeDisk> {
    let mut left = Vec::new();
    for n_syncs in 1.. {
        let disk = new_disk();
        disk.crash_after_syncs(n_syncs);
        run_on(&disk);
        if !disk.is_frozen() {
            break;
        }
        let after = disk.after_crash(CrashMode::Keep);
        if after.stat(Path::new(OUTPUT)).unwrap().is_none() && begun_round(&after) == round {
            left.push(after);
        }
    }
    left
}

/// Two of them on which nothing is left of what led to the round: one without a task of the round, and one with some, but not all.
fn late_in(round: u32) -> [FakeDisk; 2] {
    let n_commits = |disk: &FakeDisk| {
        let (recovered, _) = tilework_store::journal::recover(disk, &files()).unwrap().unwrap();
        recovered.commits.len() as u64
    };
    // Without the round's beginning, what led to it would be read.
    let has_shed = |disk: &FakeDisk| {
        let bare = disk.after_crash(CrashMode::Keep);
        bare.remove_file(&files().round(RoundIdx(round))).unwrap();
        n_commits(&bare) == n_commits(disk)
    };
    // Which records share a sync differs from run to run.
    let find = |wanted: Range<u64>| {
        let is_wanted = |disk: &FakeDisk| has_shed(disk) && wanted.contains(&n_commits(disk));
        (0..100)
            .find_map(|_| cut_off_in(round).into_iter().find(is_wanted))
            .expect("some run is cut off there")
    };
    [find(0..1), find(1..N_TASKS)]
}

#[test]
fn rounds_follow_each_other_and_one_journal_file_is_left() {
    let disk = new_disk();
    let (end, ran) = run_on(&disk).unwrap();
    assert_eq!(end, JobEnd::Done);
    assert_eq!(answer(&disk), Sums::expected());
    let of_round = |round| ran.iter().filter(|ran| **ran == round).count() as u64;
    assert_eq!((0..N_ROUNDS).map(of_round).collect::<Vec<_>>(), [N_TASKS; 3]);
    assert_eq!(disk.read_dir(&files().folder()).unwrap(), ["journal"]);
}

/// Else each barrier would read, and hold, what all rounds before it left.
#[test]
fn what_led_to_a_round_is_gone_at_its_end() {
    // In the second case an earlier run came as far as the second round, and has a segment of its own.
    let first = cut_off_in(1).remove(0);
    for (disk, first_round) in [(new_disk(), 0), (first, 1)] {
        let job = Arc::new(Sums::new(&disk));
        assert_eq!(run_job_on(&disk, &job), Some(JobEnd::Done));
        let left = std::mem::take(&mut *job.left.lock().unwrap());
        assert_eq!(left.len() as u32, N_ROUNDS - first_round);
        for (files, round) in left.iter().zip(first_round..) {
            let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
            let is_resumed = first_round > 0;
            let segment = if is_resumed {
                "000002.segment"
            } else {
                "000001.segment"
            };
            let mut expected = vec![segment.to_owned()];
            if is_resumed && round == first_round {
                expected.insert(0, "000001.segment".to_owned());
            }
            if round > 0 {
                expected.push(format!("round-{round:06}"));
            }
            assert_eq!(names, expected, "round {round}");
            let n_bytes: u64 = files.iter().map(|(_, len)| len).sum();
            let n_rounds = expected.iter().filter(|name| name.ends_with("segment")).count() as u64;
            let of_one = N_TASKS * (BALLAST_BYTES as u64 + 200);
            assert!(n_bytes < (n_rounds + u64::from(is_resumed)) * of_one, "{files:?}");
        }
    }
}

#[test]
fn a_power_cut_at_any_sync_costs_no_round_that_was_complete() {
    let mut resumed_in = [0; N_ROUNDS as usize];
    for mode in [CrashMode::Vanish, CrashMode::Keep, CrashMode::Tear] {
        for n_syncs in 1.. {
            let disk = new_disk();
            disk.crash_after_syncs(n_syncs);
            let first = run_on(&disk);
            let left = disk.after_crash(mode);
            if !disk.is_frozen() {
                assert_eq!(first.map(|(end, _)| end), Some(JobEnd::Done));
                break;
            }
            if left.stat(Path::new(OUTPUT)).unwrap().is_some() {
                assert_eq!(answer(&left), Sums::expected(), "{mode:?} after {n_syncs} syncs");
                continue;
            }
            let begun = begun_round(&left);
            let (end, ran) = run_on(&left).unwrap();
            assert_eq!(end, JobEnd::Done, "{mode:?} after {n_syncs} syncs");
            assert_eq!(answer(&left), Sums::expected(), "{mode:?} after {n_syncs} syncs");
            let has_partial = left.stat(&files().partial()).unwrap().is_some();
            assert!(!has_partial);
            if begun > 0 {
                assert!(
                    ran.iter().all(|round| *round >= begun),
                    "{ran:?} again, in round {begun}"
                );
            }
            resumed_in[begun as usize] += 1;
        }
    }
    assert!(resumed_in.iter().all(|n| *n > 1), "{resumed_in:?}");
}

#[test]
fn a_disk_that_fails_at_any_call_costs_no_round_that_was_complete() {
    let faults: [fn(&FakeDisk, u64, ErrorKind); 2] = [FakeDisk::fail_nth, FakeDisk::fail_from];
    let mut resumed_in = [0; N_ROUNDS as usize];
    let late = (1..N_ROUNDS).flat_map(|round| late_in(round).map(|disk| (disk, round)));
    for (start, complete) in std::iter::once((new_disk(), 0)).chain(late) {
        let copy = || start.after_crash(CrashMode::Keep);
        let n_calls = {
            let disk = copy();
            run_on(&disk).unwrap();
            disk.call_count()
        };
        for (fail, n) in faults
            .into_iter()
            .flat_map(|fail| (1..=n_calls).map(move |n| (fail, n)))
        {
            let disk = copy();
            fail(&disk, n, ErrorKind::Other);
            let failing = run_on(&disk);
            disk.mend();
            let call = format!("call {n} of {n_calls}, in round {complete}");
            let is_there = disk.stat(Path::new(OUTPUT)).unwrap().is_some();
            let mut ran_in = complete;
            if let Some((end, ran)) = failing {
                assert!(is_there || end != JobEnd::Done, "{call}: done, and not there");
                assert!(
                    ran.iter().all(|round| *round >= complete),
                    "{call}: {ran:?} again"
                );
                ran_in = ran.into_iter().max().unwrap_or(complete);
            }
            if !is_there {
                let begun = begun_round(&disk);
                assert!(
                    begun >= ran_in,
                    "{call}: round {begun}, and tasks of {ran_in} ran"
                );
                let (end, ran) = run_on(&disk).unwrap();
                assert_eq!(end, JobEnd::Done, "{call}");
                assert!(
                    ran.iter().all(|round| *round >= begun),
                    "{call}: {ran:?} again, in round {begun}"
                );
                resumed_in[begun as usize] += 1;
            }
            assert_eq!(answer(&disk), Sums::expected(), "{call}");
        }
    }
    assert!(resumed_in.iter().all(|n| *n > 5), "{resumed_in:?}");
}
