//! Power loss at every sync point, damage to every byte of the journal: no acknowledged commit is lost, no wrong byte kept.

mod common;

use common::*;
use std::path::Path;
use tilework_core::failure::{Cause, JobEnd};
use tilework_core::ids::TaskIdx;
use tilework_store::disk::Disk;
use tilework_store::fake_disk::{CrashMode, FakeDisk};
use tilework_store::journal::{JobFiles, recover};

const SHAPE: (usize, usize, usize) = (36, 300, 36);

/// Six full-width tiles: few calls, so that every one of them can be made to fail.
fn setup() -> Setup {
    Setup {
        strips: Some((6, 1)),
        n_threads: 1,
        memory_bytes: 32 << 20,
        ..Setup::default()
    }
}

fn disk_with_inputs(seed: u64) -> FakeDisk {
    let (m, k, n) = SHAPE;
    let disk = FakeDisk::new(seed);
    install(&disk, A, m, k, &numbers::<f64>(m * k, 1));
    install(&disk, B, k, n, &numbers::<f64>(k * n, 2));
    disk
}

fn expected() -> Vec<u64> {
    let (m, k, n) = SHAPE;
    bits(&reference(
        &numbers::<f64>(m * k, 1),
        &numbers::<f64>(k * n, 2),
        m,
        k,
        n,
    ))
}

/// Finishes the job on what a crash left; fails the test if an acknowledged task is run again or a byte is wrong.
fn finish_after(disk: &FakeDisk, acknowledged: &[TaskIdx], story: &str) {
    let log = Log::default();
    match multiply::<f64>(disk, &setup(), &log) {
        Ok(report) => assert_eq!(report.end, JobEnd::Done, "{story}"),
        // The crash came after the rename: nothing was left to do.
        Err(text) => assert_eq!(text, "finished", "{story}"),
    }
    for task in log.started.lock().unwrap().iter() {
        assert!(
            !acknowledged.contains(task),
            "{story}: task {task} was acknowledged, and yet ran again"
        );
    }
    assert_eq!(bits(&output::<f64>(disk)), expected(), "{story}");
    assert!(
        disk.stat(&JobFiles::beside(Path::new(C)).partial())
            .unwrap()
            .is_none(),
        "{story}: nothing half-done stays"
    );
}

#[test]
fn a_crash_at_any_sync_point_loses_no_acknowledged_commit() {
    let undisturbed = disk_with_inputs(0);
    multiply_done::<f64>(&undisturbed, &setup());
    let n_syncs = undisturbed.sync_count();
    assert!(
        n_syncs >= 6 * 2,
        "every task syncs its output and its record: {n_syncs}"
    );
    let (mut n_frozen, mut n_with_some_commits) = (0, 0);
    for n in 1..=n_syncs {
        for (mode, seed) in [
            (CrashMode::Vanish, 0),
            (CrashMode::Keep, 0),
            (CrashMode::Tear, 1),
            (CrashMode::Tear, 2),
        ] {
            let disk = disk_with_inputs(seed);
            disk.crash_after_syncs(n);
            let log = Log::default();
            let outcome = multiply::<f64>(&disk, &setup(), &log);
            // Once the output has its name, that the journal can't be compacted fails nothing.
            if disk.is_frozen() && outcome.is_ok_and(|report| report.end == JobEnd::Done) {
                let left = disk.after_crash(mode);
                let again = multiply::<f64>(&left, &setup(), &()).map(|report| report.end);
                assert_eq!(
                    again,
                    Err("finished".to_owned()),
                    "sync {n}, {mode:?}, seed {seed}"
                );
            }
            n_frozen += usize::from(disk.is_frozen());
            let acknowledged = log.committed.into_inner().unwrap();
            n_with_some_commits += usize::from((1..6).contains(&acknowledged.len()));
            finish_after(
                &disk.after_crash(mode),
                &acknowledged,
                &format!("sync {n}, {mode:?}, seed {seed}"),
            );
        }
    }
    // Two records may share a sync, so a run may have one or two fewer than the undisturbed one.
    assert!(
        n_frozen as u64 >= (n_syncs - 2) * 4,
        "the crashes happened: {n_frozen} of {n_syncs} x 4"
    );
    assert!(
        n_with_some_commits >= 8,
        "crashes fell between commits: {n_with_some_commits}"
    );
}

/// C = A·B/2 + C, where C's old file is what is added, until the rename.
fn replacing_setup() -> Setup {
    Setup {
        alpha: 0.5,
        addend: Some((C, 1.0)),
        ..setup()
    }
}

fn disk_with_old_output(seed: u64) -> FakeDisk {
    let (m, _, n) = SHAPE;
    let disk = disk_with_inputs(seed);
    install(&disk, C, m, n, &numbers::<f64>(m * n, 3));
    disk
}

#[test]
fn a_crash_at_any_sync_point_adds_to_the_old_output_exactly_once() {
    let (m, k, n) = SHAPE;
    let product = reference(&numbers::<f64>(m * k, 1), &numbers::<f64>(k * n, 2), m, k, n);
    let old = numbers::<f64>(m * n, 3);
    let expected = bits(&combined(&product, 0.5, &old, 1.0));
    let undisturbed = disk_with_old_output(0);
    multiply_done::<f64>(&undisturbed, &replacing_setup());
    assert_eq!(bits(&output::<f64>(&undisturbed)), expected);
    let (mut n_old, mut n_new) = (0, 0);
    for n in 1..=undisturbed.sync_count() {
        for (mode, seed) in [
            (CrashMode::Vanish, 0),
            (CrashMode::Keep, 0),
            (CrashMode::Tear, 1),
            (CrashMode::Tear, 2),
        ] {
            let story = format!("sync {n}, {mode:?}, seed {seed}");
            let disk = disk_with_old_output(seed);
            disk.crash_after_syncs(n);
            let log = Log::default();
            let _ = multiply::<f64>(&disk, &replacing_setup(), &log);
            let disk = disk.after_crash(mode);
            match bits(&output::<f64>(&disk)) {
                found if found == bits(&old) => n_old += 1,
                found => {
                    assert_eq!(found, expected, "{story}: neither the old output nor the new one");
                    n_new += 1;
                }
            }
            let acknowledged = log.committed.into_inner().unwrap();
            let log = Log::default();
            match multiply::<f64>(&disk, &replacing_setup(), &log) {
                Ok(report) => assert_eq!(report.end, JobEnd::Done, "{story}"),
                Err(text) => assert_eq!(text, "finished", "{story}"),
            }
            let started = log.started.into_inner().unwrap();
            assert!(
                started.iter().all(|task| !acknowledged.contains(task)),
                "{story}: {started:?} ran again of {acknowledged:?}"
            );
            assert_eq!(bits(&output::<f64>(&disk)), expected, "{story}");
        }
    }
    assert!(
        n_old >= 40 && n_new >= 2,
        "crashes came before the rename and after it: {n_old}, {n_new}"
    );
}

#[test]
fn two_crashes_in_a_row_lose_no_acknowledged_commit() {
    let mut n_with_commits_of_both = 0;
    for n in (3..18).step_by(3) {
        let (first, second) = (Log::default(), Log::default());
        let disk = disk_with_inputs(7);
        disk.crash_after_syncs(n);
        let _ = multiply::<f64>(&disk, &setup(), &first);
        let once = disk.after_crash(CrashMode::Tear);
        once.crash_after_syncs(n);
        let _ = multiply::<f64>(&once, &setup(), &second);
        let (of_first, of_second) = (first.committed.into_inner(), second.committed.into_inner());
        let (of_first, of_second) = (of_first.unwrap(), of_second.unwrap());
        for task in second.started.into_inner().unwrap() {
            assert!(!of_first.contains(&task), "task {task} ran again after sync {n}");
        }
        let both_hit = disk.is_frozen() && once.is_frozen();
        n_with_commits_of_both += usize::from(both_hit && !of_first.is_empty() && !of_second.is_empty());
        finish_after(
            &once.after_crash(CrashMode::Tear),
            &[of_first, of_second].concat(),
            &format!("twice at sync {n}"),
        );
    }
    assert!(
        n_with_commits_of_both > 0,
        "no crash came between commits of both runs"
    );
}

/// A disk on which a run stopped with every task committed and nothing renamed.
fn disk_before_the_rename() -> FakeDisk {
    let undisturbed = disk_with_inputs(0);
    let observer = Log::default();
    multiply::<f64>(&undisturbed, &setup(), &observer).unwrap();
    for n in 1..=undisturbed.sync_count() {
        let disk = disk_with_inputs(0);
        disk.crash_after_syncs(n);
        let log = Log::default();
        let _ = multiply::<f64>(&disk, &setup(), &log);
        if log.committed.lock().unwrap().len() == 6 {
            return disk.after_crash(CrashMode::Vanish);
        }
    }
    panic!("no sync between the last commit and the rename");
}

/// A copy of `disk` with other bytes in one file.
fn with_file(disk: &FakeDisk, path: &Path, bytes: &[u8]) -> FakeDisk {
    let files = JobFiles::beside(Path::new(C));
    let copy = disk_with_inputs(0);
    let mut names = vec![files.partial()];
    names.extend(
        disk.read_dir(&files.folder())
            .unwrap()
            .into_iter()
            .map(|name| files.folder().join(name)),
    );
    for name in names {
        copy.install(&name, &disk.contents(&name).unwrap());
    }
    copy.install(path, bytes);
    copy
}

#[test]
fn a_journal_cut_anywhere_keeps_the_commits_before_the_cut() {
    let disk = disk_before_the_rename();
    let segment = JobFiles::beside(Path::new(C)).segment(tilework_core::ids::RunEpoch(1));
    let bytes = disk.contents(&segment).unwrap();
    let files = JobFiles::beside(Path::new(C));
    let mut counts = Vec::new();
    for cut in 0..=bytes.len() {
        let damaged = with_file(&disk, &segment, &bytes[..cut]);
        let (recovered, _) = recover(&damaged, &files).unwrap().unwrap();
        counts.push(recovered.commits.len());
        if cut % 97 == 0 {
            let kept: Vec<TaskIdx> = recovered.commits.keys().map(|(_, task)| *task).collect();
            finish_after(&damaged, &kept, &format!("cut at {cut}"));
        }
    }
    assert!(counts.is_sorted(), "a longer journal knows no less");
    assert_eq!(counts.last(), Some(&6));
}

#[test]
fn any_flipped_bit_of_the_journal_costs_at_most_one_commit() {
    let disk = disk_before_the_rename();
    let files = JobFiles::beside(Path::new(C));
    let segment = files.segment(tilework_core::ids::RunEpoch(1));
    let bytes = disk.contents(&segment).unwrap();
    let original = recover(&disk, &files).unwrap().unwrap().0.commits;
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let damaged = with_file(&disk, &segment, &flipped);
        let (recovered, _) = recover(&damaged, &files).unwrap().unwrap();
        assert!(
            recovered.commits.len() >= 5,
            "bit {bit} cost more than its own record"
        );
        assert!(
            recovered
                .commits
                .iter()
                .all(|(key, commit)| original.get(key) == Some(commit)),
            "bit {bit} invented"
        );
        assert!(recovered.job_text.is_some(), "bit {bit}");
        if bit % 997 == 0 {
            let kept: Vec<TaskIdx> = recovered.commits.keys().map(|(_, task)| *task).collect();
            finish_after(&damaged, &kept, &format!("bit {bit}"));
        }
    }
}

#[test]
fn a_damaged_committed_tile_is_found_before_the_rename_and_computed_again() {
    let disk = disk_before_the_rename();
    let partial = JobFiles::beside(Path::new(C)).partial();
    let mut bytes = disk.contents(&partial).unwrap();
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    let damaged = with_file(&disk, &partial, &bytes);
    let log = Log::default();
    let report = multiply::<f64>(&damaged, &setup(), &log).unwrap();
    assert_eq!((report.end, report.n_retries), (JobEnd::Done, 1));
    assert_eq!(*log.started.lock().unwrap(), [TaskIdx(5)]);
    assert_eq!(bits(&output::<f64>(&damaged)), expected());
}

#[test]
fn a_disk_that_fills_up_stops_the_run_resumably() {
    let disk = disk_with_inputs(0);
    let needed = disk_with_inputs(0);
    multiply_done::<f64>(&needed, &setup());
    disk.set_capacity(0);
    let report = multiply::<f64>(&disk, &setup(), &()).map(|report| report.end);
    assert!(
        match &report {
            Ok(JobEnd::Failed(failure)) => failure.cause == Cause::DiskFull,
            Err(text) => text.contains("space") || text.contains("full"),
            Ok(_) => false,
        },
        "{report:?}"
    );
    disk.set_capacity(u64::MAX);
    finish_after(&disk, &[], "after room was made");
}

#[test]
fn any_single_failed_call_ends_right_or_resumable() {
    let undisturbed = disk_with_inputs(0);
    multiply_done::<f64>(&undisturbed, &setup());
    let mut n_failed = 0;
    for n in 1..=undisturbed.call_count() {
        let disk = disk_with_inputs(0);
        disk.fail_nth(n, std::io::ErrorKind::Other);
        let log = Log::default();
        let _ = multiply::<f64>(&disk, &setup(), &log);
        n_failed += disk.failed_count();
        // A run whose records shared a sync makes fewer calls: then the fault must not hit the next run instead.
        disk.fail_nth(u64::MAX / 2, std::io::ErrorKind::Other);
        let acknowledged = log.committed.into_inner().unwrap();
        finish_after(&disk, &acknowledged, &format!("call {n} failed"));
    }
    assert!(
        n_failed + 4 >= undisturbed.call_count(),
        "the faults fired: {n_failed}"
    );
}

#[test]
fn a_disk_that_fills_up_while_tiles_are_committed_stops_the_run_resumably() {
    let (mut n_stopped, mut n_with_commits) = (0, 0);
    let (m, k, n) = SHAPE;
    let files_bytes = (m * k + k * n + m * n) as u64 * 8;
    // From no room for the journal's first record to room for everything.
    for room in (0..6000).step_by(250) {
        let disk = disk_with_inputs(0);
        disk.set_capacity(files_bytes + 3 * 128 + room);
        let log = Log::default();
        let outcome = multiply::<f64>(&disk, &setup(), &log);
        let acknowledged = log.committed.into_inner().unwrap();
        match outcome {
            Ok(report) => match report.end {
                JobEnd::Done => {}
                JobEnd::Failed(failure) => {
                    assert_eq!(failure.cause, Cause::DiskFull, "{}", failure.text);
                    n_stopped += 1;
                }
                other => panic!("{other:?}"),
            },
            Err(text) => assert!(text.contains("space") || text.contains("full"), "{text}"),
        }
        n_with_commits += usize::from((1..6).contains(&acknowledged.len()));
        disk.set_capacity(u64::MAX);
        finish_after(&disk, &acknowledged, &format!("{room} bytes of room"));
    }
    assert!(
        n_stopped >= 3 && n_with_commits >= 1,
        "{n_stopped} runs ran out of room, {n_with_commits} between commits"
    );
}
