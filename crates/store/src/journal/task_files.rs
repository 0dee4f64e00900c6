//! Files that tasks write into the job's folder: what they are called, and removing them.
//!
//! A file belongs to one attempt, by its name, and counts only where a commit or a round's state names it. Losers' files, and those of
//! attempts that were cut off, are named by nobody.

use super::layout::JobFiles;
use crate::disk::{Disk, remove_if_there};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::PathBuf;
use tilework_core::ids::{Attempt, AttemptNo, RoundIdx, RunEpoch, TaskIdx};

/// What a task's file is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskFileName {
    /// Whose it is.
    pub attempt: Attempt,
    /// Which of the attempt's files. Two processes may execute the same attempt: they share the numbers out by creating the files.
    pub nth: u32,
}

impl TaskFileName {
    /// The name as text; `None` if it is none.
    pub fn parse(name: &OsStr) -> Option<TaskFileName> {
        let mut parts = name.to_str()?.split('-');
        let mut part = |prefix: &str| parts.next()?.strip_prefix(prefix);
        let attempt = Attempt {
            epoch: RunEpoch(part("")?.parse().ok()?),
            round: RoundIdx(part("r")?.parse().ok()?),
            task: TaskIdx(part("t")?.parse().ok()?),
            attempt: AttemptNo(part("a")?.parse().ok()?),
        };
        let nth = part("")?.parse().ok()?;
        let parsed = TaskFileName { attempt, nth };
        // Numbers have other spellings, which are no names of ours.
        (name == OsStr::new(&parsed.to_string())).then_some(parsed)
    }
}

impl fmt::Display for TaskFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Attempt {
            epoch,
            round,
            task,
            attempt,
        } = self.attempt;
        write!(
            f,
            "{:06}-r{:06}-t{task}-a{attempt}-{}",
            epoch.0, round.0, self.nth
        )
    }
}

impl JobFiles {
    /// The folder of the files that tasks write.
    pub fn task_files(&self) -> PathBuf {
        self.folder().join("outputs")
    }

    /// A file that a task writes.
    pub fn task_file(&self, name: &TaskFileName) -> PathBuf {
        self.task_files().join(name.to_string())
    }
}

/// Makes the folder of tasks' files, if it is not there. It is durable with the job's folder, which every run's start syncs.
pub fn make_task_files_folder(disk: &dyn Disk, files: &JobFiles) -> io::Result<()> {
    match disk.create_dir(&files.task_files()) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// The files that tasks wrote; none without their folder. Whatever else lies there is not ours.
pub fn list_task_files(disk: &dyn Disk, files: &JobFiles) -> io::Result<Vec<TaskFileName>> {
    match disk.read_dir(&files.task_files()) {
        Ok(names) => Ok(names
            .iter()
            .filter_map(|name| TaskFileName::parse(name))
            .collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Removes those of them that `goes` names.
pub fn remove_task_files(
    disk: &dyn Disk,
    files: &JobFiles,
    goes: &dyn Fn(&TaskFileName) -> bool,
) -> io::Result<()> {
    for name in list_task_files(disk, files)?.iter().filter(|name| goes(name)) {
        remove_if_there(disk, &files.task_file(name))?;
    }
    Ok(())
}

/// Removes those that `goes` names, and the folder if nothing is left in it.
pub fn clear_task_files(
    disk: &dyn Disk,
    files: &JobFiles,
    goes: &dyn Fn(&TaskFileName) -> bool,
) -> io::Result<()> {
    let folder = files.task_files();
    if disk.stat(&folder)?.is_none() {
        return Ok(());
    }
    remove_task_files(disk, files, goes)?;
    match disk.remove_dir(&folder) {
        // A worker of an earlier run may be writing yet.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound
            ) =>
        {
            Ok(())
        }
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_disk::FakeDisk;
    use proptest::prelude::*;
    use std::path::Path;

    fn name(epoch: u32, round: u32, task: u64, attempt: u8, nth: u32) -> TaskFileName {
        TaskFileName {
            attempt: Attempt {
                epoch: RunEpoch(epoch),
                round: RoundIdx(round),
                task: TaskIdx(task),
                attempt: AttemptNo(attempt),
            },
            nth,
        }
    }

    proptest! {
        #[test]
        fn a_name_is_read_back(epoch: u32, round: u32, task: u64, attempt: u8, nth: u32) {
            let name = name(epoch, round, task, attempt, nth);
            prop_assert_eq!(TaskFileName::parse(OsStr::new(&name.to_string())), Some(name));
        }
    }

    #[test]
    fn other_names_are_not_ours() {
        assert_eq!(name(1, 2, 3, 4, 5).to_string(), "000001-r000002-t3-a4-5");
        for other in [
            "000001-r000002-t3-a4-5-6",
            "000001-r000002-t3-a4-05",
            "000001-r000002-t3-a4-+5",
            "1-r2-t3-a4-5",
            "000001-r000002-t3-a4",
            "../000001-r000002-t3-a4-5",
            "notes.txt",
        ] {
            assert_eq!(TaskFileName::parse(OsStr::new(other)), None, "{other}");
        }
    }

    #[test]
    fn only_what_goes_is_removed_and_a_foreign_file_keeps_the_folder() {
        let disk = FakeDisk::new(1);
        let files = JobFiles::beside(Path::new("/c"));
        clear_task_files(&disk, &files, &|_| true).unwrap();
        let (earlier, later) = (name(1, 0, 0, 0, 0), name(2, 0, 0, 0, 0));
        for name in [&earlier, &later] {
            disk.install(files.task_file(name), b"");
        }
        clear_task_files(&disk, &files, &|name| name.attempt.epoch == RunEpoch(1)).unwrap();
        assert_eq!(list_task_files(&disk, &files).unwrap(), [later]);
        disk.install(files.task_files().join("notes.txt"), b"");
        clear_task_files(&disk, &files, &|_| true).unwrap();
        assert_eq!(disk.read_dir(&files.task_files()).unwrap(), ["notes.txt"]);
        disk.remove_file(&files.task_files().join("notes.txt")).unwrap();
        clear_task_files(&disk, &files, &|_| true).unwrap();
        assert_eq!(disk.stat(&files.task_files()).unwrap(), None);
    }
}
