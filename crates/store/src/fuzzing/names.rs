//! Names under hostile text: what is a name of ours is spelt in one way, and no path leads out of its data root.

use crate::data_roots::{DataRoots, NamedRoot};
use crate::disk::{Disk, DiskFileExt};
use crate::journal::{JobFiles, TaskFileName};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A name in a job's folder: whatever is told by it is called so.
pub(super) fn of_files(input: &[u8]) {
    let name = OsStr::from_bytes(input);
    let files = JobFiles::beside(Path::new("c"));
    let is_name_of = |path: PathBuf| assert_eq!(path.file_name(), Some(name));
    if let Some(task_file) = TaskFileName::parse(name) {
        is_name_of(files.task_file(&task_file));
    }
    if let Some(owner) = JobFiles::segment_owner(name) {
        is_name_of(match owner.worker {
            _ if name == "journal" => files.compacted(),
            None => files.segment(owner.epoch),
            Some((worker, opening)) => files.worker_segment(owner.epoch, worker, opening),
        });
    }
    if let Some(round) = JobFiles::begun_round(name) {
        is_name_of(files.round(round));
    }
    if let Some(epoch) = JobFiles::report_epoch(name) {
        is_name_of(files.report(epoch));
    } else if let Some(epoch) = JobFiles::writing_epoch(name)
        && name.as_encoded_bytes().starts_with(b"journal.")
    {
        is_name_of(files.compacting(epoch));
    }
}

/// Lines: a root as it is given on the command line, then paths. Nothing outside of the root is read, made or removed.
pub(super) fn in_data_roots(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    if let Some(root) = lines
        .next()
        .and_then(|line| str::from_utf8(line).ok()?.parse::<NamedRoot>().ok())
    {
        let again = format!("{}={}", root.name, root.dir.display()).parse();
        assert_eq!(again, Ok(root));
    }
    let paths: Vec<&Path> = lines
        .map(|line| Path::new(OsStr::from_bytes(line)))
        .take(8)
        .collect();
    if paths.is_empty() {
        return;
    }
    let dir = TempDir::new().expect("a folder");
    let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
    prepare(&inside, &outside).expect("a folder to play with");
    let root = NamedRoot {
        name: "d".to_owned(),
        dir: inside.clone(),
    };
    let disk = DataRoots::open(&[root]).expect("it is there");
    for path in paths {
        touch(&disk, path);
    }
    let names = |dir: &Path| fs::read_dir(dir).expect("it is there").count();
    assert_eq!(
        (names(&outside), names(dir.path())),
        (1, 2),
        "nothing was made or removed"
    );
    assert_eq!(fs::read(outside.join("secret")).expect("it is there"), b"secret");
}

fn prepare(inside: &Path, outside: &Path) -> std::io::Result<()> {
    fs::create_dir(inside)?;
    fs::create_dir(inside.join("s"))?;
    fs::create_dir(outside)?;
    fs::write(outside.join("secret"), b"secret")?;
    fs::write(inside.join("f"), b"inside")?;
    symlink("../out", inside.join("l"))?;
    symlink(outside.join("secret"), inside.join("a"))?;
    symlink("../../out/secret", inside.join("s/r"))
}

fn touch(disk: &DataRoots, path: &Path) {
    let _ = disk.stat(path);
    let _ = disk.read_dir(path);
    let _ = disk.create_dir(path);
    if let Ok(file) = disk.open_read(path)
        && file.stat().is_ok_and(|stat| stat.is_file)
    {
        let mut read = vec![0; file.stat().expect("it is open").len as usize];
        file.read_exact_at(&mut read, 0).expect("it is open");
        assert_ne!(read, b"secret", "{}", path.display());
    }
    if let Ok(file) = disk.open_write(path) {
        file.write_all_at(b"w", 0).expect("it is open");
    }
    if disk.create_new(path).is_ok() {
        disk.rename(path, Path::new("d:/s/moved")).expect("it was made");
    }
    let _ = disk.remove_file(path);
    let _ = disk.remove_dir(path);
}
