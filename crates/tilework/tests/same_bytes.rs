//! A product's bytes depend on its inputs alone: not on threads, memory, workers, tiles, instruction set or a resume.

use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tilework_store::disk::RealDisk;
use tilework_store::journal::{JobFiles, recover};

/// No wait of these tests is longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a process or a journal.
const LOOK: Duration = Duration::from_millis(1);

/// A folder with A, B and runs of the program in it.
struct Stage {
    folder: TempDir,
}

impl Stage {
    fn new(a: &str, b: &str, dtype: &str) -> Stage {
        let stage = Stage {
            folder: tempfile::tempdir().unwrap(),
        };
        stage.succeed(&format!("generate normal {a} -o A.npy --dtype {dtype} --seed 1"));
        stage.succeed(&format!("generate normal {b} -o B.npy --dtype {dtype} --seed 2"));
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tilework"));
        command
            .args(line.split(' '))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TILEWORK_"))
        {
            command.env_remove(name);
        }
        command
    }

    fn succeed(&self, line: &str) -> Value {
        let output = Running::start(self.command(&format!("{line} --json"))).end();
        assert!(output.status.success(), "{line}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A·B with `options`: its bytes and its number of tasks.
    fn product(&self, options: &str) -> (Vec<u8>, u64) {
        let line = format!("multiply A.npy B.npy -o C.npy --overwrite {options}");
        let report = self.succeed(line.trim_end());
        (
            fs::read(self.path("C.npy")).unwrap(),
            report["tasks"].as_u64().unwrap(),
        )
    }

    /// Starts a product and kills it once it has committed `n` tasks.
    fn kill_after(&self, n: usize, line: &str) {
        let mut running = Running::start(self.command(line));
        let files = JobFiles::beside(&self.path("C.npy"));
        let n_committed = || {
            recover(&RealDisk, &files)
                .ok()
                .flatten()
                .map_or(0, |(journal, _)| journal.commits.len())
        };
        let deadline = Instant::now() + PATIENCE;
        while n_committed() < n {
            assert!(!running.has_ended(), "the run ended before {n} commits were seen");
            assert!(Instant::now() < deadline, "no {n} commits after {PATIENCE:?}");
            thread::sleep(LOOK); // waits: the next commit in the journal
        }
    }
}

/// A run of the program, killed when dropped.
struct Running(Option<Child>);

impl Running {
    fn start(mut command: Command) -> Running {
        Running(Some(
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        ))
    }

    fn has_ended(&mut self) -> bool {
        self.0.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// Waits for the end; what the program prints fits the pipes.
    fn end(mut self) -> Output {
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended() {
            assert!(Instant::now() < deadline, "still running after {PATIENCE:?}");
            thread::sleep(LOOK); // waits: the child's end
        }
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Compares the product of every line of options with the first one's; at least `n_grids` different tilings took part.
fn check_options(stage: &Stage, lines: &[&str], n_grids: usize) {
    let (first, n_tasks) = stage.product(lines[0]);
    let mut grids = vec![n_tasks];
    for options in &lines[1..] {
        let (bytes, n_tasks) = stage.product(options);
        assert!(
            bytes == first,
            "other bytes with `{options}` than with `{}`",
            lines[0]
        );
        grids.push(n_tasks);
    }
    grids.sort_unstable();
    grids.dedup();
    assert!(
        grids.len() >= n_grids,
        "tilings with {grids:?} tasks are too much alike for this test"
    );
}

#[test]
fn threads_memory_and_workers_do_not_change_f64() {
    let stage = Stage::new("3000x301", "301x2900", "f64");
    let lines = [
        "--threads 1",
        "--threads 2",
        "--threads 3",
        "--memory 32MiB --threads 1",
        "--memory 32MiB --threads 2",
        "--memory 32MiB --threads 3",
        "--memory 64MiB --threads 2",
        "--memory 64MiB --threads 3",
        "--workers 3",
        "--memory 64MiB --workers 3",
    ];
    check_options(&stage, &lines, 3);
}

#[test]
fn threads_memory_and_workers_do_not_change_f32() {
    let stage = Stage::new("4000x301", "301x3800", "f32");
    let lines = [
        "--threads 1",
        "--memory 32MiB --threads 3",
        "--memory 64MiB",
        "--memory 48MiB --workers 3 --threads 3",
    ];
    check_options(&stage, &lines, 3);
}

#[test]
fn memory_does_not_change_transposed_products() {
    let stage = Stage::new("701x1900", "2100x701", "f64");
    let lines = ["", "--memory 20MiB --threads 1", "--memory 64MiB --workers 3"];
    let lines = lines.map(|options| {
        format!("--transpose-a --transpose-b {options}")
            .trim_end()
            .to_owned()
    });
    check_options(&stage, &lines.each_ref().map(String::as_str), 2);
}

#[test]
fn a_resume_with_other_resources_does_not_change_them() {
    let stage = Stage::new("1900x803", "803x2100", "f64");
    let (whole, _) = stage.product("--threads 2");
    let line = "multiply A.npy B.npy -o C.npy --overwrite --memory 17MiB";
    let resumes = [
        format!("{line}0 --threads 1"),
        "resume C.npy".to_owned(),
        "resume C.npy --memory 64MiB --threads 3".to_owned(),
        "resume C.npy --memory 80MiB --workers 3".to_owned(),
    ];
    for resume in resumes {
        stage.kill_after(3, &format!("{line} --threads 2"));
        let report = stage.succeed(&resume);
        assert!(report["tasks_resumed"].as_u64() >= Some(3), "{resume}: {report}");
        assert!(
            report["tasks_run"].as_u64() >= Some(1),
            "{resume}: nothing was left to resume: {report}"
        );
        assert!(
            fs::read(stage.path("C.npy")).unwrap() == whole,
            "other bytes after `{resume}`"
        );
    }
}

#[test]
fn a_resume_may_change_the_instruction_set() {
    let stage = Stage::new("400x300", "300x500", "f64");
    let (whole, _) = stage.product("--threads 2");
    stage.kill_after(
        1,
        "multiply A.npy B.npy -o C.npy --overwrite --memory 14MiB --threads 1",
    );
    let mut command = stage.command("resume C.npy --memory 14MiB --json");
    command.env("TILEWORK_SIMD", "portable");
    let output = Running::start(command).end();
    assert!(output.status.success(), "{output:?}");
    assert!(fs::read(stage.path("C.npy")).unwrap() == whole);
}

#[test]
fn the_instruction_set_does_not_change_them() {
    // More than one block of the inner dimension, and edges in all directions.
    for (a, b, dtype) in [("131x777", "777x149", "f64"), ("131x1555", "1555x149", "f32")] {
        let stage = Stage::new(a, b, dtype);
        let (whole, _) = stage.product("");
        let mut ran = Vec::new();
        for simd in ["portable", "avx2", "avx512"] {
            let mut command = stage.command("multiply A.npy B.npy -o C.npy --overwrite");
            let output = Running::start({
                command.env("TILEWORK_SIMD", simd);
                command
            })
            .end();
            let text = String::from_utf8(output.stderr).unwrap();
            if output.status.success() {
                ran.push(simd);
                assert!(
                    fs::read(stage.path("C.npy")).unwrap() == whole,
                    "other bytes with {simd} in {dtype}"
                );
            } else {
                assert!(
                    text.contains(&format!("this processor has no {simd}")),
                    "{simd}: {text}"
                );
                assert_eq!(output.status.code(), Some(2));
            }
        }
        assert!(
            ran.contains(&"portable"),
            "portable code runs everywhere; ran: {ran:?}"
        );
    }
}
