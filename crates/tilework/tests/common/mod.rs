//! The vocabulary of the tests that run the program: a folder with its files, and runs that do not outlive the test.
//!
//! How far a run is, is read here from the journal on the disk, never asked of the program.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

pub mod example;

use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tilework_store::disk::RealDisk;
use tilework_store::journal::{JobFiles, Recovered, recover};

/// No wait of these tests is longer.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a process or a journal.
const LOOK: Duration = Duration::from_millis(1);

/// The program with the arguments in `line`, without input and without settings from the environment.
pub fn command(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tilework"));
    command.args(line.split(' ')).stdin(Stdio::null());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TILEWORK_")) {
        command.env_remove(name);
    }
    command
}

/// A folder with matrices and runs of the program in it.
pub struct Stage {
    folder: TempDir,
}

impl Stage {
    pub fn empty() -> Stage {
        Stage {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// With matrices A and B of the extents `a` and `b`, such as `300x200`; `options` are `generate`'s.
    pub fn with_inputs(a: &str, b: &str, options: &str) -> Stage {
        let stage = Stage::empty();
        for (extents, name, seed) in [(a, "A.npy", 1), (b, "B.npy", 2)] {
            let line = format!("generate normal {extents} -o {name} --seed {seed} {options}");
            stage.succeed(line.trim_end());
        }
        stage
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Replaces `bytes` of a file in place, at `offset`.
    pub fn patch(&self, name: &str, bytes: &[u8], offset: u64) {
        let file = fs::OpenOptions::new().write(true).open(self.path(name)).unwrap();
        file.write_all_at(bytes, offset).unwrap();
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = command(line);
        command.current_dir(self.folder());
        command
    }

    pub fn start(&self, line: &str) -> Running {
        Running::start(self.command(line))
    }

    /// Runs to the end.
    pub fn run(&self, line: &str) -> Output {
        self.start(line).end()
    }

    /// Runs to the end, with success; what it reports.
    pub fn succeed(&self, line: &str) -> Value {
        let output = self.run(&format!("{line} --json"));
        assert!(output.status.success(), "{line}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What the journal beside `output` holds.
    pub fn journal(&self, output: &str) -> Option<Recovered> {
        journal(&self.path(output))
    }

    pub fn n_committed(&self, output: &str) -> u64 {
        self.journal(output)
            .map_or(0, |journal| journal.commits.len() as u64)
    }

    /// Waits until the journal beside `output` holds `n` commits.
    pub fn wait_for_commits(&self, output: &str, n: u64, running: &mut Running) {
        running.wait_until(&format!("{n} commits"), || self.n_committed(output) >= n);
    }
}

/// What the journal beside `output` holds.
pub fn journal(output: &Path) -> Option<Recovered> {
    // A run that ends compacts its segments: they may vanish while they are read.
    recover(&RealDisk, &JobFiles::beside(output))
        .ok()
        .flatten()
        .map(|(recovered, _)| recovered)
}

/// A run of the program, killed when dropped.
pub struct Running(Option<Child>);

impl Running {
    pub fn start(mut command: Command) -> Running {
        Running(Some(
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        ))
    }

    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child().try_wait().unwrap().is_some()
    }

    pub fn signal(&mut self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(self.child());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits until `is_there`, which `what` names; the run must not end before.
    pub fn wait_until(&mut self, what: &str, mut is_there: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_there() {
            assert!(!self.has_ended(), "the run ended before this was seen: {what}");
            assert!(Instant::now() < deadline, "not seen in {PATIENCE:?}: {what}");
            thread::sleep(LOOK); // waits: what the run does next, as it shows on the disk
        }
    }

    /// Waits for the end; what the program prints fits the pipes.
    pub fn end(self) -> Output {
        self.end_watched(|_| ())
    }

    /// Waits for the end, and calls `look` with the process's id again and again until then.
    pub fn end_watched(mut self, mut look: impl FnMut(u32)) -> Output {
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended() {
            look(self.pid());
            assert!(Instant::now() < deadline, "still running after {PATIENCE:?}");
            thread::sleep(LOOK); // waits: the child's end
        }
        self.0.take().unwrap().wait_with_output().unwrap()
    }

    /// Kills without warning; `false` if the run had ended by itself.
    pub fn kill(mut self) -> bool {
        self.child().kill().unwrap();
        self.end().status.signal() == Some(9)
    }
}

/// High-water mark of the resident memory of process `pid` so far; `None` once it has ended.
pub fn peak_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim()
        .strip_suffix(" kB")?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
