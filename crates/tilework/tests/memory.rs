//! `--memory` is kept by the whole process, and a budget that is too small is refused with the smallest that would do.
//!
//! The peak is the kernel's own high-water mark of resident memory, read from outside while the process runs, and what the
//! process reports of it at its end.

mod common;

use common::{Running, Stage, peak_bytes};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::process::Output;

const MIB: u64 = 1 << 20;

/// A run that ended: what it printed, and the largest resident memory that was seen from outside.
struct Ended {
    output: Output,
    seen_peak_bytes: u64,
}

impl Stage {
    /// Runs `line` to the end and looks at its memory meanwhile.
    fn watch(&self, line: &str) -> (Value, Ended) {
        let ended = end(self.start(&format!("{line} --json")));
        let json =
            serde_json::from_slice(&ended.output.stdout).unwrap_or_else(|error| panic!("{line}: {error}"));
        (json, ended)
    }

    /// Runs `line` with `memory` and holds its peak, by both accounts, against it.
    fn run_within(&self, memory: &str, line: &str) -> Value {
        let line = format!("{line} --memory {memory}");
        let allowed = memory.strip_suffix("MiB").unwrap().parse::<u64>().unwrap() * MIB;
        let (report, ended) = self.watch(&line);
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
        let (refusal, ended) = self.watch(line);
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
        let entries = fs::read_dir(self.folder()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn end(running: Running) -> Ended {
    let mut seen_peak_bytes = 0;
    let output = running.end_watched(|pid| {
        // Between fork and exec the child still has this process's memory; exec starts a new mark.
        seen_peak_bytes = peak_bytes(pid).unwrap_or(seen_peak_bytes);
    });
    Ended {
        output,
        seen_peak_bytes,
    }
}

#[test]
fn the_process_stays_within_its_memory() {
    let stage = Stage::with_inputs("2400x2000", "2000x3600", "");
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
    let stage = Stage::with_inputs("1500x2200", "2600x1500", "");
    let line = "multiply A.npy B.npy -o C.npy --overwrite --transpose-a --transpose-b";
    stage.run_within("32MiB", &format!("{line} --threads 4"));
    stage.run_within("64MiB", &format!("{line} --workers 3"));
}

#[test]
fn strassens_algorithm_stays_within_too() {
    let stage = Stage::with_inputs("1500x2200", "2200x1600", "");
    let line = "multiply A.npy B.npy -o C.npy --overwrite --algorithm strassen";
    for (memory, options) in [
        ("32MiB", ""),
        ("32MiB", " --threads 4"),
        ("96MiB", " --workers 3"),
    ] {
        let report = stage.run_within(memory, &format!("{line}{options}"));
        assert_eq!(report["algorithm"], "strassen");
    }
    let smallest = stage.smallest(&format!("{line} --memory 1MiB"));
    stage.run_within(&smallest, line);
}

#[test]
fn what_is_added_stays_within_too() {
    let stage = Stage::with_inputs("1800x1500", "1500x1900", "");
    stage.succeed("generate normal 1800x1900 -o D.npy --seed 3 --dtype f32");
    let line = "multiply A.npy B.npy -o C.npy --overwrite --dtype f64 --add D.npy --beta 2";
    let report = stage.run_within("32MiB", line);
    // D is read once, besides the samples of its identity.
    let d_bytes = 1800 * 1900 * 4;
    let plan = stage.succeed("plan multiply A.npy B.npy --memory 32MiB");
    let read = |report: &Value| report["bytes_read"].as_u64().unwrap();
    assert!(read(&report) >= read(&plan) + d_bytes, "{report} and {plan}");
}

#[test]
fn a_matrix_times_its_own_transpose_stays_within() {
    let stage = Stage::with_inputs("2000x3000", "1x1", "");
    let line = "gram A.npy -o G.npy --overwrite";
    for memory in ["20MiB", "32MiB", "128MiB"] {
        stage.run_within(memory, line);
    }
    stage.run_within("64MiB", &format!("{line} --rows --workers 3"));
    stage.run_within("32MiB", &format!("{line} --rows --threads 4"));
    let smallest = stage.smallest("gram A.npy -o G.npy --overwrite --memory 1MiB");
    stage.run_within(&smallest, line);
}

#[test]
fn a_text_matrix_counts() {
    let stage = Stage::with_inputs("1x1", "1x1", "");
    let mut text = std::io::BufWriter::new(fs::File::create(stage.path("T.csv")).unwrap());
    for row in 0..1000 {
        let line: Vec<String> = (0..1500).map(|col| format!("{}", (row * 7 + col) % 10)).collect();
        writeln!(text, "{}", line.join(",")).unwrap();
    }
    text.into_inner().unwrap();
    for line in [
        "multiply T.csv T.csv --transpose-b -o C.npy",
        "gram T.csv --rows -o G.npy",
    ] {
        let smallest = stage.smallest(&format!("{line} --memory 16MiB"));
        stage.run_within(&smallest, line);
    }
}

#[test]
fn a_resume_with_other_memory_stays_within_it() {
    let stage = Stage::with_inputs("2400x900", "900x2400", "");
    // The journal is there before the first commit, and the run goes on long after.
    let mut running = stage.start("multiply A.npy B.npy -o C.npy --memory 32MiB");
    stage.wait_for_commits("C.npy", 1, &mut running);
    drop(running);
    let refusal = "resume C.npy --memory 14MiB";
    let smallest = stage.smallest(refusal);
    let (json, _) = stage.watch(refusal);
    assert!(
        json["error"]
            .as_str()
            .unwrap()
            .contains("the output's tiles, decided once, need"),
        "{json}"
    );
    let report = stage.run_within(&smallest, "resume C.npy");
    assert!(report["tasks_resumed"].as_u64() >= Some(1), "{report}");
}

#[test]
fn too_little_memory_is_refused_with_the_smallest_that_works() {
    let stage = Stage::with_inputs("300x500", "500x200", "");
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
