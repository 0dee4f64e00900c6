//! `--memory` is kept by the whole process, and a budget that is too small is refused with the smallest that would do.
//!
//! The peak is the kernel's own high-water mark of resident memory, read from outside while the process runs, and what the
//! process reports of it at its end.

use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tilework_store::disk::RealDisk;
use tilework_store::journal::{JobFiles, recover};

/// No wait of these tests is longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(1);
const MIB: u64 = 1 << 20;

/// A folder with matrices and runs of the program in it.
struct Stage {
    folder: TempDir,
}

/// A run that ended: what it printed, and the largest resident memory that was seen from outside.
struct Ended {
    output: Output,
    seen_peak_bytes: u64,
}

impl Stage {
    fn new(a: &str, b: &str) -> Stage {
        let stage = Stage {
            folder: tempfile::tempdir().unwrap(),
        };
        stage.succeed(&format!("generate normal {a} -o A.npy --seed 1"));
        stage.succeed(&format!("generate normal {b} -o B.npy --seed 2"));
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, line: &str) -> Running {
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
        Running(Some(
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        ))
    }

    fn run(&self, line: &str) -> (Value, Ended) {
        let ended = self.start(&format!("{line} --json")).end();
        let json =
            serde_json::from_slice(&ended.output.stdout).unwrap_or_else(|error| panic!("{line}: {error}"));
        (json, ended)
    }

    fn succeed(&self, line: &str) -> Value {
        let (json, ended) = self.run(line);
        assert!(ended.output.status.success(), "{line}: {json}");
        json
    }

    /// Runs `line` with `memory` and holds its peak, by both accounts, against it.
    fn run_within(&self, memory: &str, line: &str) -> Value {
        let line = format!("{line} --memory {memory}");
        let allowed = memory.strip_suffix("MiB").unwrap().parse::<u64>().unwrap() * MIB;
        let (report, ended) = self.run(&line);
        assert!(ended.output.status.success(), "{line}: {report}");
        let number = |name: &str| report[name].as_u64().unwrap();
        let (peak, planned, seen) = (
            number("memory_peak_bytes"),
            number("memory_planned_bytes"),
            ended.seen_peak_bytes,
        );
        assert!(planned <= allowed, "{line}: {planned} planned");
        assert!(peak <= allowed, "{line}: a peak of {peak} reported");
        assert!(seen <= allowed, "{line}: a peak of {seen} seen");
        // The last look came before the end, but both accounts are of the same process.
        assert!(
            seen > 0 && seen <= peak + MIB,
            "{line}: {seen} seen, {peak} reported"
        );
        report
    }

    /// The smallest memory that a refusal of `line` names, as an option's value.
    fn smallest(&self, line: &str) -> String {
        let (refusal, ended) = self.run(line);
        assert_eq!(ended.output.status.code(), Some(3), "{line}: {refusal}");
        assert_eq!(refusal["exit_code"], 3);
        let next = refusal["next"].as_str().unwrap();
        let smallest = next
            .strip_prefix("allow it: --memory ")
            .unwrap_or_else(|| panic!("{next}"));
        assert!(refusal["error"].as_str().unwrap().contains(smallest), "{refusal}");
        smallest.to_owned()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// A run of the program, killed when dropped.
struct Running(Option<Child>);

impl Running {
    fn has_ended(&mut self) -> bool {
        self.0.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// High-water mark of resident memory so far; `None` once the process has ended.
    fn peak_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.as_ref()?.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()
            .map(|kib| kib * 1024)
    }

    fn end(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let mut seen_peak_bytes = 0;
        while !self.has_ended() {
            // Between fork and exec the child still has this process's memory; exec starts a new mark.
            seen_peak_bytes = self.peak_bytes().unwrap_or(seen_peak_bytes);
            assert!(Instant::now() < deadline, "still running after {PATIENCE:?}");
            thread::sleep(LOOK); // waits: the child's end
        }
        Ended {
            output: self.0.take().unwrap().wait_with_output().unwrap(),
            seen_peak_bytes,
        }
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

#[test]
fn the_process_stays_within_its_memory() {
    let stage = Stage::new("2400x2000", "2000x3600");
    for memory in ["32MiB", "64MiB", "128MiB"] {
        let report = stage.run_within(memory, "multiply A.npy B.npy -o C.npy --overwrite");
        let n_bytes = ["A.npy", "B.npy", "C.npy"].map(|name| fs::metadata(stage.path(name)).unwrap().len());
        let allowed = report["memory_planned_bytes"].as_u64().unwrap();
        assert!(
            n_bytes.iter().sum::<u64>() > allowed,
            "the matrices would fit {memory}: this test needs larger ones"
        );
        // What is allowed is used: a product that crawled along in a corner would move many more bytes.
        assert!(
            report["memory_peak_bytes"].as_u64().unwrap() > allowed / 2,
            "{memory}: {report}"
        );
    }
}

#[test]
fn threads_workers_and_transposes_stay_within_too() {
    let stage = Stage::new("1500x2200", "2600x1500");
    let line = "multiply A.npy B.npy -o C.npy --overwrite --transpose-a --transpose-b";
    stage.run_within("32MiB", &format!("{line} --threads 4"));
    stage.run_within("64MiB", &format!("{line} --workers 3"));
}

#[test]
fn a_text_matrix_counts() {
    let stage = Stage::new("1x1", "1x1");
    let mut text = std::io::BufWriter::new(fs::File::create(stage.path("T.csv")).unwrap());
    for row in 0..1000 {
        let line: Vec<String> = (0..1500).map(|col| format!("{}", (row * 7 + col) % 10)).collect();
        writeln!(text, "{}", line.join(",")).unwrap();
    }
    text.into_inner().unwrap();
    let line = "multiply T.csv T.csv --transpose-b -o C.npy";
    let smallest = stage.smallest(&format!("{line} --memory 16MiB"));
    stage.run_within(&smallest, line);
}

#[test]
fn a_resume_with_other_memory_stays_within_it() {
    let stage = Stage::new("2400x900", "900x2400");
    // The journal is there before the first commit, and the run goes on long after.
    let mut running = stage.start("multiply A.npy B.npy -o C.npy --memory 32MiB");
    let files = JobFiles::beside(&stage.path("C.npy"));
    let deadline = Instant::now() + PATIENCE;
    let n_committed = || {
        let journal = recover(&RealDisk, &files).ok().flatten();
        journal.map_or(0, |(journal, _)| journal.commits.len())
    };
    while n_committed() == 0 {
        assert!(
            !running.has_ended() && Instant::now() < deadline,
            "no commit was seen"
        );
        thread::sleep(LOOK); // waits: the first commit in the journal
    }
    drop(running);
    let refusal = "resume C.npy --memory 14MiB";
    let smallest = stage.smallest(refusal);
    let (json, _) = stage.run(refusal);
    assert!(
        json["error"]
            .as_str()
            .unwrap()
            .contains("the unfinished output's tiles need"),
        "{json}"
    );
    let report = stage.run_within(&smallest, "resume C.npy");
    assert!(report["tasks_resumed"].as_u64() >= Some(1), "{report}");
}

#[test]
fn too_little_memory_is_refused_with_the_smallest_that_works() {
    let stage = Stage::new("300x500", "500x200");
    for options in ["", " --threads 1", " --threads 3", " --workers 3", " --dtype f32"] {
        let line = format!("multiply A.npy B.npy -o C.npy{options}");
        let names = stage.names();
        for too_little in ["1", "1MiB"] {
            let smallest = stage.smallest(&format!("{line} --memory {too_little}"));
            assert_eq!(stage.names(), names, "a refused run left something behind");
            stage.run_within(&smallest, &format!("{line} --overwrite"));
            for name in ["C.npy", "C.npy.tilework/journal"] {
                fs::remove_file(stage.path(name)).unwrap();
            }
            fs::remove_dir(stage.path("C.npy.tilework")).unwrap();
        }
    }
}
