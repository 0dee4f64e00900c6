//! What the fake disk forgets and what it keeps.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::Path;

use proptest::prelude::*;

use super::content::SECTOR_BYTES;
use super::*;
use crate::disk::{Disk, DiskFileExt};

fn disk_with(path: &str, bytes: &[u8]) -> FakeDisk {
    let disk = FakeDisk::new(7);
    disk.install(path, bytes);
    disk
}

fn names(disk: &FakeDisk, dir: &str) -> Vec<OsString> {
    disk.read_dir(Path::new(dir)).unwrap()
}

#[test]
fn unsynced_bytes_and_lengths_vanish() {
    let disk = disk_with("/a", b"old");
    let file = disk.open_write(Path::new("/a")).unwrap();
    file.write_all_at(b"newer", 0).unwrap();
    assert_eq!(disk.contents("/a").unwrap(), b"newer");
    assert_eq!(
        disk.after_crash(CrashMode::Vanish).contents("/a").unwrap(),
        b"old"
    );
    assert_eq!(
        disk.after_crash(CrashMode::Keep).contents("/a").unwrap(),
        b"newer"
    );
    file.sync_data().unwrap();
    file.set_len(1).unwrap();
    assert_eq!(
        disk.after_crash(CrashMode::Vanish).contents("/a").unwrap(),
        b"newer"
    );
    file.sync_data().unwrap();
    assert_eq!(disk.after_crash(CrashMode::Vanish).contents("/a").unwrap(), b"n");
}

#[test]
fn unsynced_names_vanish_even_of_synced_files() {
    let disk = disk_with("/d/old", b"old");
    let dir = Path::new("/d");
    let file = disk.create_new(&dir.join("new")).unwrap();
    file.write_all_at(b"new", 0).unwrap();
    file.sync_data().unwrap();
    disk.remove_file(&dir.join("old")).unwrap();
    assert_eq!(names(&disk, "/d"), ["new"]);
    assert_eq!(names(&disk.after_crash(CrashMode::Vanish), "/d"), ["old"]);
    disk.sync_dir(dir).unwrap();
    let after = disk.after_crash(CrashMode::Vanish);
    assert_eq!(names(&after, "/d"), ["new"]);
    assert_eq!(after.contents("/d/new").unwrap(), b"new");
}

#[test]
fn a_rename_shows_the_old_file_or_the_new_one() {
    for seed in 0..20 {
        let disk = FakeDisk::new(seed);
        disk.install("/c", b"old");
        disk.install("/c.partial", b"new");
        disk.rename(Path::new("/c.partial"), Path::new("/c")).unwrap();
        assert_eq!(
            disk.after_crash(CrashMode::Vanish).contents("/c").unwrap(),
            b"old"
        );
        let torn = disk.after_crash(CrashMode::Tear);
        let is_renamed = torn.contents("/c").unwrap() == b"new";
        assert_eq!(torn.contents("/c.partial").is_err(), is_renamed);
        disk.sync_dir(Path::new("/")).unwrap();
        let after = disk.after_crash(CrashMode::Vanish);
        assert_eq!(after.contents("/c").unwrap(), b"new");
        assert_eq!(names(&after, "/"), ["c"]);
    }
}

#[test]
fn what_is_in_an_unsynced_directory_vanishes_with_it() {
    let disk = FakeDisk::new(7);
    let dir = Path::new("/d");
    disk.create_dir(dir).unwrap();
    disk.create_new(&dir.join("a")).unwrap().sync_data().unwrap();
    disk.sync_dir(dir).unwrap();
    assert!(names(&disk.after_crash(CrashMode::Vanish), "/").is_empty());
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(names(&disk.after_crash(CrashMode::Vanish), "/d"), ["a"]);
}

#[test]
fn tears_differ_by_seed_and_repeat_with_it() {
    let torn = |seed| {
        let disk = FakeDisk::new(seed);
        disk.install("/a", &[0; 64 * SECTOR_BYTES]);
        let file = disk.open_write(Path::new("/a")).unwrap();
        file.write_all_at(&[1; 64 * SECTOR_BYTES], 0).unwrap();
        disk.after_crash(CrashMode::Tear).contents("/a").unwrap()
    };
    assert_eq!(torn(1), torn(1));
    assert_ne!(torn(1), torn(2));
    let sectors = torn(1)
        .chunks(SECTOR_BYTES)
        .map(|sector| sector[0])
        .collect::<Vec<_>>();
    assert!(sectors.contains(&0) && sectors.contains(&1));
}

#[test]
fn unsynced_names_are_torn_one_by_one() {
    let disk = FakeDisk::new(7);
    for idx in 0..40 {
        disk.create_new(Path::new(&format!("/{idx}"))).unwrap();
    }
    let n_left = names(&disk.after_crash(CrashMode::Tear), "/").len();
    assert!((1..40).contains(&n_left), "{n_left}");
}

#[test]
fn the_nth_sync_freezes_the_disk() {
    let disk = disk_with("/a", b"0");
    let file = disk.open_write(Path::new("/a")).unwrap();
    disk.crash_after_syncs(2);
    file.write_all_at(b"1", 0).unwrap();
    file.sync_data().unwrap();
    file.write_all_at(b"2", 0).unwrap();
    assert!(!disk.is_frozen());
    assert_eq!(file.sync_data().unwrap_err().to_string(), "disk froze");
    assert!(disk.is_frozen());
    assert_eq!(disk.stat(Path::new("/a")).unwrap_err().to_string(), "disk froze");
    assert!(file.write_all_at(b"3", 0).is_err());
    assert_eq!(disk.sync_count(), 2);
    let after = disk.after_crash(CrashMode::Vanish);
    assert_eq!(after.contents("/a").unwrap(), b"1");
    assert_eq!(disk.after_crash(CrashMode::Keep).contents("/a").unwrap(), b"2");
    after.open_write(Path::new("/a")).unwrap().sync_data().unwrap();
    assert_eq!(after.sync_count(), 1);
}

#[test]
fn the_nth_call_fails_once_and_does_nothing() {
    let disk = FakeDisk::new(7);
    disk.fail_nth(2, ErrorKind::Other);
    assert_eq!(disk.stat(Path::new("/a")).unwrap(), None);
    assert_eq!(
        disk.create_new(Path::new("/a")).unwrap_err().kind(),
        ErrorKind::Other
    );
    assert_eq!(disk.failed_count(), 1);
    disk.create_new(Path::new("/a")).unwrap();
    assert_eq!((disk.call_count(), disk.failed_count()), (3, 1));
}

#[test]
fn a_failing_disk_fails_until_it_is_mended() {
    let disk = FakeDisk::new(7);
    disk.fail_from(2, ErrorKind::Other);
    assert_eq!(disk.stat(Path::new("/a")).unwrap(), None);
    for _ in 0..3 {
        assert_eq!(disk.stat(Path::new("/a")).unwrap_err().kind(), ErrorKind::Other);
    }
    assert_eq!(disk.failed_count(), 3);
    disk.mend();
    assert_eq!(disk.stat(Path::new("/a")).unwrap(), None);
}

#[test]
fn a_stuttering_disk_interrupts_and_cuts_short_by_turns() {
    let disk = disk_with("/a", b"12345678");
    let file = disk.open_write(Path::new("/a")).unwrap();
    disk.stutter(2);
    let mut buf = [0; 8];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 8);
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 4);
    assert_eq!(file.write_at(b"abcdefgh", 0).unwrap(), 8);
    let interrupted = file.write_at(b"ABCDEFGH", 0).unwrap_err();
    assert_eq!(interrupted.kind(), ErrorKind::Interrupted);
    assert_eq!(disk.contents("/a").unwrap(), b"abcdefgh");
    assert_eq!(disk.stuttered_counts(), (1, 1));
    disk.stutter(1);
    file.write_all_at(b"ABCDEFGH", 0).unwrap();
    file.read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"ABCDEFGH");
    assert_eq!(disk.stat(Path::new("/a")).unwrap().unwrap().len, 8);
}

#[test]
fn a_full_disk_takes_no_more_and_frees_what_is_removed_and_closed() {
    let disk = disk_with("/a", &[0; 60]);
    disk.set_capacity(100);
    let root = Path::new("/");
    assert_eq!(disk.free_bytes(root).unwrap(), 40);
    let file = disk.create_new(Path::new("/b")).unwrap();
    assert_eq!(file.allocate(41).unwrap_err().kind(), ErrorKind::StorageFull);
    file.allocate(40).unwrap();
    assert_eq!(
        file.write_at(b"x", 40).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    disk.remove_file(Path::new("/b")).unwrap();
    assert_eq!(disk.free_bytes(root).unwrap(), 0);
    drop(file);
    assert_eq!(disk.free_bytes(root).unwrap(), 40);
}

#[test]
fn locks_end_with_their_file_and_with_the_power() {
    let disk = disk_with("/lock", b"");
    let (first, second) = (
        disk.open_write(Path::new("/lock")).unwrap(),
        disk.open_write(Path::new("/lock")).unwrap(),
    );
    assert!(first.try_lock().unwrap() && first.try_lock().unwrap());
    assert!(!second.try_lock().unwrap());
    let after = disk.after_crash(CrashMode::Vanish);
    assert!(after.open_write(Path::new("/lock")).unwrap().try_lock().unwrap());
    drop(first);
    assert!(second.try_lock().unwrap());
}

#[test]
fn a_removed_file_lives_as_long_as_it_is_open() {
    let disk = disk_with("/a", b"old");
    let stale = disk.open_write(Path::new("/a")).unwrap();
    disk.remove_file(Path::new("/a")).unwrap();
    disk.create_new(Path::new("/a"))
        .unwrap()
        .write_all_at(b"new", 0)
        .unwrap();
    stale.write_all_at(b"bad", 0).unwrap();
    assert_eq!(disk.contents("/a").unwrap(), b"new");
    assert_ne!(
        stale.stat().unwrap().inode,
        disk.stat(Path::new("/a")).unwrap().unwrap().inode
    );
}

#[test]
fn errors_are_those_of_the_operating_system() {
    let kind_of = |result: io::Result<()>| result.unwrap_err().kind();
    let disk = disk_with("/d/a", b"old");
    let (dir, file) = (Path::new("/d"), Path::new("/d/a"));
    assert_eq!(kind_of(disk.open_read(dir).map(drop)), ErrorKind::IsADirectory);
    assert_eq!(
        kind_of(disk.open_read(Path::new("/e")).map(drop)),
        ErrorKind::NotFound
    );
    assert_eq!(
        kind_of(disk.create_new(Path::new("/e/a")).map(drop)),
        ErrorKind::NotFound
    );
    assert_eq!(kind_of(disk.create_new(file).map(drop)), ErrorKind::AlreadyExists);
    assert_eq!(kind_of(disk.create_dir(dir)), ErrorKind::AlreadyExists);
    assert_eq!(kind_of(disk.read_dir(file).map(drop)), ErrorKind::NotADirectory);
    assert_eq!(kind_of(disk.remove_dir(dir)), ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind_of(disk.remove_file(dir)), ErrorKind::IsADirectory);
    assert_eq!(kind_of(disk.rename(file, dir)), ErrorKind::IsADirectory);
    let read_only = disk.open_read(file).unwrap();
    assert_eq!(
        kind_of(read_only.write_all_at(b"x", 0)),
        ErrorKind::PermissionDenied
    );
    disk.remove_file(file).unwrap();
    disk.remove_dir(dir).unwrap();
    assert!(names(&disk, "/").is_empty());
}

#[test]
fn every_change_has_a_later_time() {
    let disk = disk_with("/a", b"old");
    let before = disk.stat(Path::new("/a")).unwrap().unwrap().mtime_ns;
    disk.open_write(Path::new("/a"))
        .unwrap()
        .write_all_at(b"x", 0)
        .unwrap();
    assert!(disk.stat(Path::new("/a")).unwrap().unwrap().mtime_ns > before);
}

proptest! {
    #[test]
    fn only_unsynced_sectors_tear(
        seed in any::<u64>(),
        old in prop::collection::vec(1_u8..10, 0..4000),
        writes in prop::collection::vec((0_usize..4000, 1_usize..900), 0..6),
    ) {
        let disk = FakeDisk::new(seed);
        disk.install("/a", &old);
        let file = disk.open_write(Path::new("/a")).unwrap();
        for (offset, len) in writes {
            file.write_all_at(&vec![255; len], offset as u64).unwrap();
        }
        let new = disk.contents("/a").unwrap();
        let torn = disk.after_crash(CrashMode::Tear).contents("/a").unwrap();
        prop_assert!((old.len()..=new.len()).contains(&torn.len()));
        for (sector, bytes) in torn.chunks(SECTOR_BYTES).enumerate() {
            let start = sector * SECTOR_BYTES;
            let as_before = (start..).zip(bytes).all(|(at, byte)| *byte == old.get(at).copied().unwrap_or(0));
            let as_after = *bytes == new[start..start + bytes.len()];
            prop_assert!(as_before || as_after);
        }
        file.sync_data().unwrap();
        prop_assert_eq!(disk.after_crash(CrashMode::Tear).contents("/a").unwrap(), new);
    }
}
