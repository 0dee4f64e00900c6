//! A disk that fails, at any call, once or from then on; that is interrupted, and transfers less than it was asked to: each run ends right or is
//! gone on with, says what failed and where, and touches no input.
//!
//! Normal runs take every third call or so; all of them with `TILEWORK_FAULTS=all`, as `cargo xtask soak resources` does.

mod common;

use common::*;
use std::io::ErrorKind;
use std::path::Path;
use tilework_core::failure::{Cause, JobEnd};
use tilework_core::ids::Attempt;
use tilework_runtime::{Observer, StopSwitch};
use tilework_store::disk::Disk;
use tilework_store::fake_disk::FakeDisk;
use tilework_store::journal::JobFiles;

const SHAPE: (usize, usize, usize) = (36, 300, 36);

/// A course of events that faults are put into.
struct Course {
    name: &'static str,
    setup: Setup,
    /// The disk before it.
    before: fn(&Setup) -> FakeDisk,
}

fn setup() -> Setup {
    Setup {
        strips: Some((6, 1)),
        n_threads: 1,
        memory_bytes: 32 << 20,
        ..Setup::default()
    }
}

fn inputs(_: &Setup) -> FakeDisk {
    let (m, k, n) = SHAPE;
    let disk = FakeDisk::new(0);
    install(&disk, A, m, k, &numbers::<f64>(m * k, 1));
    install(&disk, B, k, n, &numbers::<f64>(k * n, 2));
    disk
}

fn inputs_and_old_output(setup: &Setup) -> FakeDisk {
    let (m, _, n) = SHAPE;
    let disk = inputs(setup);
    install(&disk, C, m, n, &numbers::<f64>(m * n, 3));
    disk
}

/// A task or some more are committed.
fn unfinished(setup: &Setup) -> FakeDisk {
    let disk = inputs(setup);
    let stop = StopSwitch::default();
    let stopped = Setup {
        stop: stop.clone(),
        ..setup.clone()
    };
    let ended = multiply::<f64>(&disk, &stopped, &StopsAtFirstCommit(stop))
        .unwrap()
        .end;
    assert!(matches!(ended, JobEnd::Stopped(_)), "{ended:?}");
    disk
}

fn courses() -> [Course; 4] {
    let symmetric = Setup {
        symmetric: true,
        ..setup()
    };
    let adding = Setup {
        alpha: 0.5,
        addend: Some((C, 1.0)),
        ..setup()
    };
    [
        Course {
            name: "a product",
            setup: setup(),
            before: inputs,
        },
        Course {
            name: "a resume",
            setup: setup(),
            before: unfinished,
        },
        Course {
            name: "a gram",
            setup: symmetric,
            before: inputs,
        },
        Course {
            name: "an addition in place",
            setup: adding,
            before: inputs_and_old_output,
        },
    ]
}

struct StopsAtFirstCommit(StopSwitch);

impl Observer for StopsAtFirstCommit {
    fn on_committed(&self, _attempt: Attempt) {
        self.0.interrupt();
    }
}

/// Every how manieth call is made to fail.
fn every(n: usize) -> usize {
    if std::env::var("TILEWORK_FAULTS").is_ok_and(|which| which == "all") {
        1
    } else {
        n
    }
}

impl Course {
    /// The disk as it is after the course, undisturbed, and how many calls that takes.
    fn undisturbed(&self) -> (Vec<u64>, u64) {
        let disk = (self.before)(&self.setup);
        let n_calls = disk.call_count();
        multiply_done::<f64>(&disk, &self.setup);
        (bits(&output::<f64>(&disk)), disk.call_count() - n_calls)
    }

    /// Runs it on a disk that `breaks`; then again on the same disk, mended. Whether it failed, and with what.
    fn survives(&self, expected: &[u64], story: &str, breaks: &dyn Fn(&FakeDisk)) -> Option<String> {
        let disk = (self.before)(&self.setup);
        let given = [A, B].map(|path| disk.contents(path).unwrap());
        let old = disk.contents(C).ok();
        breaks(&disk);
        let ended = multiply::<f64>(&disk, &self.setup, &());
        disk.mend();
        let said = match ended {
            Ok(report) => match report.end {
                JobEnd::Done => None,
                JobEnd::Failed(failure) => Some((failure.text, Some(failure.cause))),
                JobEnd::Stopped(cause) => panic!("{story}: {cause:?}"),
            },
            // What stopped it before it began; its words name the path already.
            Err(text) => Some((text, None)),
        };
        if let Some((text, cause)) = &said {
            assert!(text.contains("/data/"), "{story}: which file? {text}");
            let is_typed = matches!(cause, None | Some(Cause::Storage | Cause::DiskFull));
            assert!(is_typed, "{story}: {cause:?}: {text}");
        }
        let found = disk.contents(C).ok();
        let is_named = found.is_some() && found != old;
        assert!(
            is_named || said.is_some(),
            "{story}: it is done, and nothing has the name"
        );
        if is_named {
            assert_eq!(
                bits(&output::<f64>(&disk)),
                expected,
                "{story}: half of it has the name"
            );
        }
        match multiply::<f64>(&disk, &self.setup, &()) {
            Ok(report) => assert_eq!(report.end, JobEnd::Done, "{story}, then"),
            Err(text) => assert_eq!(text, "finished", "{story}, then"),
        }
        assert_eq!(bits(&output::<f64>(&disk)), expected, "{story}, then");
        let partial = disk.stat(&JobFiles::beside(Path::new(C)).partial()).unwrap();
        assert!(partial.is_none(), "{story}, then");
        assert!(
            given == [A, B].map(|path| disk.contents(path).unwrap()),
            "{story}: inputs"
        );
        said.map(|(text, _)| text)
    }

    /// Faults at every `step`-th call.
    fn sweep(&self, step: usize, kind: ErrorKind, fail: fn(&FakeDisk, u64, ErrorKind)) {
        let (expected, n_calls) = self.undisturbed();
        let (mut n_failed, mut n_tried) = (0, 0);
        for n in (1..=n_calls).step_by(every(step)) {
            n_tried += 1;
            let story = format!("{}: call {n} of {n_calls}, {kind:?}", self.name);
            n_failed += u32::from(
                self.survives(&expected, &story, &|disk| fail(disk, n, kind))
                    .is_some(),
            );
        }
        // Some failures cost nothing, such as that of a look at what ran before; some runs make a call or two less.
        assert!(
            n_failed * 10 >= n_tried * 6,
            "{}: {n_failed} of {n_tried}",
            self.name
        );
    }
}

#[test]
fn a_disk_that_fails_once_at_any_call_costs_a_run_at_most() {
    for course in courses() {
        course.sweep(3, ErrorKind::Other, FakeDisk::fail_nth);
    }
}

#[test]
fn a_disk_that_fails_from_any_call_on_costs_a_run_at_most() {
    for course in courses() {
        // Each failed read is tried again a few times, after pauses.
        course.sweep(13, ErrorKind::Other, FakeDisk::fail_from);
    }
}

#[test]
fn a_disk_that_is_full_or_read_only_from_any_call_on_costs_a_run_at_most() {
    for course in courses() {
        course.sweep(29, ErrorKind::StorageFull, FakeDisk::fail_from);
        course.sweep(29, ErrorKind::ReadOnlyFilesystem, FakeDisk::fail_from);
    }
}

#[test]
fn interrupted_and_short_reads_and_writes_change_nothing() {
    for course in courses() {
        let (expected, _) = course.undisturbed();
        for every in [1, 2, 3, 5, 8] {
            let disk = (course.before)(&course.setup);
            disk.stutter(every);
            let report = multiply::<f64>(&disk, &course.setup, &()).unwrap();
            let story = format!("{}, every {every}th", course.name);
            assert_eq!((report.end, report.n_retries), (JobEnd::Done, 0), "{story}");
            assert_eq!(bits(&output::<f64>(&disk)), expected, "{story}");
            let (n_interrupted, n_short) = disk.stuttered_counts();
            assert!(
                n_interrupted > 3 && n_short > 3,
                "{story}: {n_interrupted}, {n_short}"
            );
        }
    }
}

/// What is in the folders beside what is ours is looked at once, by its name, and costs no call to the disk.
#[test]
fn other_files_in_the_folders_cost_no_calls() {
    let calls = |n_others: u32| {
        let disk = inputs(&setup());
        let folder = JobFiles::beside(Path::new(C)).folder();
        disk.install(folder.join("other"), b"");
        for other in 0..n_others {
            disk.install(folder.join(format!("other-{other}")), b"");
            disk.install(format!("/data/other-{other}"), b"");
        }
        multiply_done::<f64>(&disk, &setup());
        (disk.call_count(), disk.read_dir(&folder).unwrap().len() as u32)
    };
    let (alone, n_alone) = calls(0);
    let (crowded, n_crowded) = calls(300);
    assert_eq!(n_crowded, n_alone + 300);
    // Records may or may not share a sync.
    assert!(crowded < alone + 12, "{crowded} calls, {alone} without them");
}
