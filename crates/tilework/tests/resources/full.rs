//! A disk with any amount of room, from none to enough: refused before anything is written, or stopped in mid-run, and gone on with once there is room.

use crate::common::{Running, journal};
use crate::place::{Mounts, PRODUCT, Place, WORDS, Work, may_mount, refusal};
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: u64 = 4096;

/// A disk of 24 MiB over the place's folder, with what is in it.
struct SmallDisk {
    mounts: Mounts,
    folder: PathBuf,
}

impl SmallDisk {
    fn over(place: &Place) -> SmallDisk {
        let folder = place.stage.folder().to_path_buf();
        // The shell stays in what is covered, and copies from there.
        let script = "mount -t tmpfs -o size=24m none \"$PWD\" && cp -r A.npy B.npy texts \"$PWD\"/";
        SmallDisk {
            mounts: Mounts::made_by(script, &folder),
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mounts.path(&self.folder.join(name))
    }

    /// Leaves `bytes` free.
    fn fill_up_to(&self, bytes: u64) {
        let filler = self.path("filler");
        let _ = fs::remove_file(&filler);
        let free = free_bytes(&self.path(""));
        let file = fs::File::create(&filler).unwrap();
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, free - bytes).unwrap();
    }

    fn make_room(&self) {
        fs::remove_file(self.path("filler")).unwrap();
    }

    fn run(&self, place: &Place, work: Work) -> std::process::Output {
        Running::start(self.mounts.entering(&place.command(work))).end()
    }

    fn clear(&self, output: &str) {
        for ending in ["", ".partial"] {
            let _ = fs::remove_file(self.path(&format!("{output}{ending}")));
        }
        let _ = fs::remove_dir_all(self.path(&format!("{output}.tilework")));
    }
}

fn free_bytes(folder: &Path) -> u64 {
    let stat = rustix::fs::statvfs(folder).unwrap();
    stat.f_bavail * stat.f_frsize
}

/// Runs the work with each amount of room, and then with enough. How many were refused at once, stopped in mid-run, and done.
fn sweep(work: Work, output: &str, rooms: impl Iterator<Item = u64>) -> Option<(u32, u32, u32)> {
    if !may_mount() {
        return None;
    }
    let place = Place::with(&[work]);
    let disk = SmallDisk::over(&place);
    let undisturbed = {
        let ran = disk.run(&place, work);
        assert!(ran.status.success(), "{ran:?}");
        fs::read(disk.path(output)).unwrap()
    };
    let (mut n_refused, mut n_stopped, mut n_done) = (0, 0, 0);
    for room in rooms {
        let story = format!("{room} bytes of room");
        disk.clear(output);
        disk.fill_up_to(room);
        let ran = disk.run(&place, work);
        if ran.status.success() {
            n_done += 1;
        } else {
            let text = refusal(&ran, &story);
            assert_eq!(ran.status.code(), Some(3), "{story}: {text}");
            assert!(
                text.contains("make room") && text.contains('`'),
                "{story}: {text}"
            );
            assert!(!disk.path(output).exists(), "{story}: an output");
            // The journal tells: a run that was refused has none.
            let has_begun = journal(&disk.path(output)).is_some_and(|journal| journal.job_text.is_some());
            *(if has_begun { &mut n_stopped } else { &mut n_refused }) += 1;
            if !has_begun {
                assert!(!disk.path(&format!("{output}.partial")).exists(), "{story}");
                assert!(!disk.path(&format!("{output}.tilework")).exists(), "{story}");
            }
            // Whoever needs the room can have it.
            if has_begun && n_stopped == 1 {
                let clean = place.stage.command(&format!("clean {output} --yes"));
                let cleaned = Running::start(disk.mounts.entering(&clean)).end();
                assert!(cleaned.status.success(), "{story}: {cleaned:?}");
                assert!(!disk.path(&format!("{output}.tilework")).exists(), "{story}");
            }
            disk.make_room();
            let again = disk.run(&place, work);
            assert!(again.status.success(), "{story}, then: {again:?}");
        }
        assert!(fs::read(disk.path(output)).unwrap() == undisturbed, "{story}");
        for input in ["A.npy", "B.npy"] {
            assert!(
                fs::read(disk.path(input)).unwrap() == place.stage.read(input),
                "{story}"
            );
        }
    }
    println!(
        "{}: {n_refused} refused, {n_stopped} stopped, {n_done} done",
        work.line
    );
    Some((n_refused, n_stopped, n_done))
}

#[test]
fn a_product_on_a_disk_with_any_room_ends_right_or_goes_on_later() {
    let output_bytes = (600 * 600 * 8 + 128_u64).next_multiple_of(PAGE);
    let with_output = (0..10).map(|pages| output_bytes + pages * PAGE);
    let rooms = [0, PAGE, output_bytes / 2, output_bytes - PAGE]
        .into_iter()
        .chain(with_output);
    if let Some((n_refused, n_stopped, n_done)) = sweep(PRODUCT, "C.npy", rooms) {
        // All the room of a product but its journal's is taken at the start, and this journal is short.
        assert!(n_refused >= 4 && n_stopped <= 4 && n_done >= 2);
    }
}

#[test]
fn a_job_whose_tasks_write_files_on_a_disk_with_any_room_ends_right_or_goes_on_later() {
    let rooms = (0..12).chain((12..120).step_by(12)).map(|pages| pages * PAGE);
    if let Some((n_refused, n_stopped, n_done)) = sweep(WORDS, "words.txt", rooms) {
        assert!(n_refused >= 1 && n_stopped >= 4 && n_done >= 1);
    }
}
