//! A control group with little memory, as a container has: by default a run stays within it; one that was told to use more is killed, which costs
//! what any kill costs.

use crate::common::{Running, Stage, command};
use crate::place::wrapped;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const LIMIT_BYTES: u64 = 80 << 20;
const SIGKILL: i32 = 9;
/// Each matrix has 32 MiB.
const SHAPE: &str = "2048x2048";

/// A group of this test's own, as the system has them: version 1 or 2.
struct ControlGroup {
    folder: PathBuf,
    peak: &'static str,
}

impl ControlGroup {
    /// One with that much memory and no swap; nothing where this process may make none.
    fn with_bytes(limit: u64) -> Option<ControlGroup> {
        let root = Path::new("/sys/fs/cgroup");
        let name = format!("tilework-test-{}", std::process::id());
        let (folder, limits, peak) = if root.join("cgroup.controllers").exists() {
            let limits = [("memory.max", limit), ("memory.swap.max", 0)];
            (root.join(name), limits, "memory.peak")
        } else {
            let limits = [
                ("memory.limit_in_bytes", limit),
                ("memory.memsw.limit_in_bytes", limit),
            ];
            (
                root.join("memory").join(name),
                limits,
                "memory.max_usage_in_bytes",
            )
        };
        let group = fs::create_dir(&folder)
            .ok()
            .map(|()| ControlGroup { folder, peak });
        let group = group.filter(|group| group.is_usable(limits));
        if group.is_none() {
            println!("skipped: no control groups for memory can be made here");
        }
        group
    }

    /// Whether it takes the limits, but that for swap where there is none, and a process, and says how much it used.
    fn is_usable(&self, limits: [(&str, u64); 2]) -> bool {
        let [memory, swap] = limits.map(|(file, limit)| {
            let file = self.folder.join(file);
            fs::write(file, limit.to_string()).is_ok()
        });
        let has_swap = fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() > 1);
        let joins = Command::new("sh")
            .args(["-c", &self.joined_by("true")])
            .stderr(Stdio::null())
            .status();
        memory
            && (swap || !has_swap)
            && joins.is_ok_and(|status| status.success())
            && self.peak_bytes().is_some()
    }

    /// What a shell joins the group by, before it becomes something else.
    fn joined_by(&self, then: &str) -> String {
        format!(
            "echo $$ > {} && {then}",
            self.folder.join("cgroup.procs").display()
        )
    }

    fn run(&self, stage: &Stage, line: &str) -> Output {
        let mut inner = command(line);
        inner.current_dir(stage.folder());
        let script = self.joined_by("exec \"$0\" \"$@\"");
        Running::start(wrapped(&["sh", "-c", &script], &inner)).end()
    }

    fn peak_bytes(&self) -> Option<u64> {
        let text = fs::read_to_string(self.folder.join(self.peak)).ok()?;
        text.trim().parse().ok()
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // The last process may be on its way out.
        for _ in 0..50 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20)); // waits: the end of the last process
        }
    }
}

#[test]
fn a_control_group_is_kept_to_by_default_and_kills_what_uses_more() {
    let stage = Stage::with_inputs(SHAPE, SHAPE, "");
    stage.succeed("multiply A.npy B.npy -o expected.npy");
    let expected = stage.read("expected.npy");
    let Some(group) = ControlGroup::with_bytes(LIMIT_BYTES) else {
        return;
    };
    let killed = group.run(&stage, "multiply A.npy B.npy -o C.npy --memory 1GiB");
    assert_eq!(killed.status.signal(), Some(SIGKILL), "{killed:?}");
    assert!(
        group.peak_bytes() > Some(LIMIT_BYTES * 9 / 10),
        "it met the limit"
    );
    assert!(!stage.path("C.npy").exists());
    // The same command without the option fits what is there, and goes on.
    let done = group.run(&stage, "multiply A.npy B.npy -o C.npy");
    assert!(done.status.success(), "{done:?}");
    assert!(stage.read("C.npy") == expected);
}
