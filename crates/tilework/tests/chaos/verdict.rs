//! What must hold when a round is over, and what is kept if it does not.

use crate::common::Stage;
use crate::harness::{Cluster, wait_for};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

/// Beside inputs and outputs there are their finished journals, and none of the processes is there.
pub(crate) fn nothing_is_left<'o>(cluster: &Cluster, outputs: impl Iterator<Item = &'o str>) {
    let found = files_below(&cluster.data(""));
    let logs = logs(&cluster.stage);
    let mut expected: BTreeSet<String> = ["A.npy", "A2.npy", "B.npy", "D.npy"].map(String::from).into();
    let mut allowed = BTreeSet::new();
    for output in outputs {
        expected.insert(output.to_owned());
        allowed.insert(format!("{output}.tilework/alarms.jsonl"));
        let journal = format!("{output}.tilework/journal");
        // The disk was full when the job ended.
        let stays_in_segments = format!("cannot compact the journal in `data:/{output}.tilework`");
        if logs.contains(&stays_in_segments) {
            let of_it = |file: &&String| {
                file.starts_with(&format!("{output}.tilework/")) && file.ends_with(".segment")
            };
            allowed.extend(found.iter().filter(of_it).cloned().chain([journal]));
        } else {
            expected.insert(journal);
        }
    }
    allowed.extend(expected.iter().cloned());
    assert!(
        found.is_superset(&expected) && found.is_subset(&allowed),
        "left over: {:?}, missing: {:?}",
        found.difference(&allowed).collect::<Vec<_>>(),
        expected.difference(&found).collect::<Vec<_>>()
    );
    let processes = processes_of(&cluster.stage);
    // A process that was killed may be seen a moment longer.
    wait_for(&format!("the end of {processes:?}"), || {
        processes_of(&cluster.stage).is_empty().then_some(())
    });
}

/// What the processes logged.
fn logs(stage: &Stage) -> String {
    let files = fs::read_dir(stage.folder()).unwrap().filter_map(Result::ok);
    let logs = files.map(|entry| entry.path());
    let logs = logs.filter(|path| path.extension().is_some_and(|ending| ending == "log"));
    logs.map(|path| fs::read_to_string(path).unwrap_or_default())
        .collect()
}

fn files_below(folder: &Path) -> BTreeSet<String> {
    let mut folders = vec![folder.to_path_buf()];
    let mut found = BTreeSet::new();
    while let Some(next) = folders.pop() {
        // Folders may vanish while they are read: that of a server's ports does.
        for entry in fs::read_dir(next).into_iter().flatten().filter_map(Result::ok) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let inner = path.strip_prefix(folder).unwrap();
                found.insert(inner.to_str().unwrap().to_owned());
            }
        }
    }
    found
}

/// Processes that work in the folder, and children of this one.
fn processes_of(stage: &Stage) -> Vec<String> {
    let me = std::process::id().to_string();
    let folder = fs::canonicalize(stage.folder()).unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let path = entry.path();
        let works_there = fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&folder));
        let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
        // Its name is in brackets and may contain anything; its parent is the second word after that.
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if works_there || parent == Some(&me) {
            let command = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
            found.push(format!("{} {}", path.display(), command.replace('\0', " ")));
        }
    }
    found
}

/// Copies what processes logged and what journals say to a place that stays, if the round fails.
pub(crate) struct KeptOnFailure {
    from: PathBuf,
    to: PathBuf,
}

impl KeptOnFailure {
    pub(crate) fn of(seed: u64, folder: &Path) -> KeptOnFailure {
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{seed}"));
        KeptOnFailure {
            from: folder.to_path_buf(),
            to,
        }
    }
}

impl Drop for KeptOnFailure {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        let _ = fs::remove_dir_all(&self.to);
        for file in files_below(&self.from) {
            if [".npy", ".bin", ".partial", "filler"]
                .iter()
                .any(|ending| file.ends_with(ending))
            {
                continue;
            }
            let to = self.to.join(&file);
            let made = fs::create_dir_all(to.parent().unwrap_or(&self.to));
            let _ = made.and_then(|()| fs::copy(self.from.join(&file), &to));
        }
        println!("  logs and journals are in {}", self.to.display());
    }
}
