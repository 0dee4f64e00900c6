//! What `multiply`, `resume` and `verify` refuse: with the path, the reason and the next step, and without a trace.
//!
//! Every refusal is compared with all bytes of the folder before it: nothing is written, nothing is lost.

mod common;

use common::{Running, Stage};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Bytes of the headers that are written here.
const HEADER_LEN: usize = 128;
/// A product of many small tasks, which goes on for long after its first commit.
const LONG: &str = "multiply A.npy B.npy -o C.npy --memory 15MiB";
/// Somebody without rights, as whom refusals by permission are tried where the tests run as root.
const NOBODY: u32 = 65534;

impl Stage {
    /// With a 3 x 4 matrix A and a 4 x 2 matrix B.
    fn with_small_inputs() -> Stage {
        let stage = Stage::empty();
        stage.write("A.npy", &doubles(3, 4));
        stage.write("B.npy", &doubles(4, 2));
        stage
    }

    /// With inputs for [`LONG`].
    fn with_long_inputs() -> Stage {
        Stage::with_inputs("1500x500", "500x1500", "")
    }

    /// Runs `line` for people and for programs: both are refused in `words`, with a next step, and change nothing.
    fn refuse(&self, exit: i32, line: &str, words: &[&str]) -> Value {
        let (json, text) = self.refusal(exit, line, words);
        assert!(has_next(&text), "{line}: no next step in: {text}");
        json
    }

    /// As [`Self::refuse`], but the next step may be missing; also returns what people read.
    fn refusal(&self, exit: i32, line: &str, words: &[&str]) -> (Value, String) {
        let before = contents(self.folder());
        let output = self.run(line);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(exit), "{line}: {text}");
        assert!(output.stdout.is_empty(), "{line}");
        assert!(
            text.lines().any(|line| line.starts_with("error: ")),
            "{line}: {text}"
        );
        for word in words {
            assert!(text.contains(word), "{line}: no `{word}` in: {text}");
        }
        let json = self.refuse_in_json(exit, line);
        assert!(
            without_sizes(&text).contains(&without_sizes(json["error"].as_str().unwrap())),
            "{line}: {json} and {text}"
        );
        assert!(
            before == contents(self.folder()),
            "{line}: the refusal changed files"
        );
        assert_eq!(
            json["next"].is_string(),
            has_next(&text),
            "{line}: {json} and {text}"
        );
        (json, text)
    }

    fn refuse_in_json(&self, exit: i32, line: &str) -> Value {
        let output = self.run(&format!("{line} --json"));
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(exit), "{line}: {text}");
        assert_eq!(text.lines().count(), 1, "{line}: {text}");
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (json["status"].as_str(), json["exit_code"].as_i64()),
            (Some("failed"), Some(exit.into())),
            "{text}"
        );
        json
    }

    /// Starts `line` and waits for the first commit of its run, with C's earlier journals out of the way.
    fn begin(&self, line: &str) -> Running {
        let mut running = self.start(line);
        let pid = running.pid();
        running.wait_until("the run's first commit", || {
            let journal = self.journal("C.npy").unwrap_or_default();
            journal.runs.last().is_some_and(|run| run.pid == pid) && !journal.commits.is_empty()
        });
        running
    }

    /// Leaves an unfinished C.
    fn kill_midway(&self, line: &str) {
        drop(self.begin(line));
        assert!(self.path("C.npy.partial").exists(), "the kill came too late");
    }
}

fn has_next(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("  next: "))
}

/// `text` with every size in MiB left out: the room on a disk changes between two runs.
fn without_sizes(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let next = words.iter().skip(1).chain([&""]);
    let kept = words
        .iter()
        .zip(next)
        .filter(|(_, next)| !next.starts_with("MiB"));
    kept.map(|(word, _)| *word).collect::<Vec<_>>().join(" ")
}

/// Every file and folder below `folder`, with its bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        }
        found.insert(path.clone(), fs::read(&path).unwrap_or_default());
    }
    found
}

/// An `.npy` file of version 1. `descr` and `shape` are Python.
fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&((HEADER_LEN - 10) as u16).to_le_bytes());
    bytes.extend_from_slice(format!("{text:<width$}\n", width = HEADER_LEN - 11).as_bytes());
    assert_eq!(bytes.len(), HEADER_LEN);
    bytes.extend_from_slice(data);
    bytes
}

/// A matrix of small whole numbers.
fn doubles(rows: usize, cols: usize) -> Vec<u8> {
    let data: Vec<u8> = (0..rows * cols)
        .flat_map(|at| (at as f64 % 7.0).to_le_bytes())
        .collect();
    npy("'<f8'", &format!("({rows}, {cols})"), &data)
}

#[test]
fn factors_and_addends_that_make_no_sense_are_refused() {
    let stage = Stage::with_small_inputs();
    stage.write("wide.npy", &doubles(3, 4));
    stage.write("S.npy", &doubles(3, 3));
    stage.write("D.npy", &doubles(3, 2));
    stage.write("D.txt", b"1 2\n3 4\n5\n");
    let line = "multiply A.npy B.npy -o C.npy";
    for (options, words) in [
        ("--beta 2", &["--beta 2", "--add D.npy"][..]),
        ("--add wide.npy", &["`wide.npy` is 3 x 4", "3 x 2"]),
        ("--add missing.npy", &["`missing.npy` does not exist"]),
        ("--add D.txt", &["`D.txt`"]),
        ("--alpha 1e300 --dtype f32", &["alpha is 1e300", "f32"]),
        (
            "--beta 1e-300 --add D.npy --dtype f32",
            &["beta is 1e-300", "f32"],
        ),
    ] {
        stage.refuse(2, &format!("{line} {options}"), words);
    }
    // D may be the output, but neither of the others, and not without being asked for.
    stage.refuse(
        2,
        "multiply A.npy B.npy -o D.npy --add D.npy",
        &["`D.npy` exists", "--overwrite"],
    );
    stage.refuse(
        2,
        "multiply A.npy B.npy -o B.npy --add D.npy --overwrite",
        &["the output `B.npy` is the input `B.npy`"],
    );
    stage.refuse(
        2,
        "multiply S.npy D.npy -o D.npy --add D.npy --overwrite",
        &["the output `D.npy` is the input `D.npy`"],
    );
    stage.succeed("generate integers 3x2 -o F.npy --dtype f32");
    stage.refuse(
        2,
        &format!("{line} --alpha 2 --add F.npy"),
        &["`F.npy` holds f32", "--alpha 2 --add F.npy --dtype f64"],
    );
}

#[test]
fn shapes_that_do_not_match_are_both_said() {
    let stage = Stage::with_small_inputs();
    let words = [
        "`A.npy` is 3 x 4",
        "`A.npy` is 3 x 4",
        "columns of the first (4)",
        "rows of the second (3)",
    ];
    let json = stage.refuse(2, "multiply A.npy A.npy -o C.npy", &words);
    let next = json["next"].as_str().unwrap();
    let line = next.split_once("tilework ").unwrap().1;
    stage.succeed(line);
    stage.refuse(2, "plan multiply A.npy A.npy", &words);
    stage.refuse(2, "verify A.npy A.npy C.npy", &["3 x 4"]);
    stage.refuse(2, "verify A.npy B.npy A.npy", &["`A.npy` is 3 x 4", "3 x 2"]);
    stage.write("D.npy", &doubles(5, 6));
    stage.refuse(
        2,
        "multiply A.npy D.npy -o E.npy",
        &["`A.npy` is 3 x 4", "`D.npy` is 5 x 6"],
    );
}

#[test]
fn files_that_are_no_matrices_are_refused_with_the_reason() {
    let stage = Stage::with_small_inputs();
    let whole = stage.read("B.npy");
    stage.write("short.npy", &whole[..whole.len() - 1]);
    stage.write("empty.npy", b"");
    stage.write("long.npy", &[&whole[..], b"\0"].concat());
    stage.write("header.npy", b"\x93NUMPY\x01\x00\x10\x00hello, no header");
    stage.write("cut.npy", &whole[..40]);
    stage.write("words.npy", b"these are words");
    stage.write("object.npy", &npy("'|O'", "(4, 2)", &[0; 64]));
    stage.write(
        "record.npy",
        &npy("[('x', '<f8'), ('y', '<i4')]", "(4, 2)", &[0; 96]),
    );
    stage.write("vector.npy", &npy("'<f8'", "(4,)", &[0; 32]));
    stage.write("cube.npy", &npy("'<f8'", "(4, 2, 1)", &[0; 64]));
    stage.write("text.csv", b"1,2\n3,x\n");
    fs::create_dir(stage.path("folder.npy")).unwrap();
    let files = [
        ("missing.npy", "does not exist"),
        ("short.npy", "191 bytes long, but its header says 192"),
        ("long.npy", "193 bytes long, but its header says 192"),
        ("empty.npy", "not an npy file"),
        ("words.npy", "not an npy file"),
        ("header.npy", "header"),
        ("cut.npy", "header"),
        ("object.npy", "objects"),
        ("record.npy", "structured"),
        ("vector.npy", "two dimensions"),
        ("cube.npy", "two dimensions"),
        ("folder.npy", "not a regular file"),
        ("text.csv", "line 2"),
    ];
    let mut without_next = Vec::new();
    for (file, why) in files {
        for line in [
            format!("multiply A.npy {file} -o C.npy"),
            format!("verify A.npy {file} B.npy"),
        ] {
            let (_, text) = stage.refusal(2, &line, &[&format!("`{file}`"), why]);
            if !has_next(&text) {
                without_next.push(text);
            }
        }
    }
    without_next.dedup();
    let without_next = without_next.concat();
    assert!(
        without_next.is_empty(),
        "refused without a next step:\n{without_next}"
    );
}

#[test]
fn an_ending_that_was_forgotten_is_found() {
    let stage = Stage::with_small_inputs();
    stage.refuse(
        2,
        "multiply A B.npy -o C.npy",
        &["`A` does not exist", "`A.npy`?"],
    );
}

#[test]
fn permissions_are_told() {
    let stage = Stage::with_small_inputs();
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(stage.folder(), open.clone()).unwrap();
    let as_nobody = |line: &str| {
        let mut command = stage.command(line);
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY);
        }
        command
    };
    // A build folder that only its owner can enter makes this test pointless.
    let Ok(mut probe) = as_nobody("--version").stdout(Stdio::null()).spawn() else {
        return;
    };
    assert!(probe.wait().unwrap().success());
    let check = |line: &str, words: &[&str]| {
        let before = contents(stage.folder());
        let output = Running::start(as_nobody(line)).end();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {text}");
        words
            .iter()
            .for_each(|word| assert!(text.contains(word), "{line}: {text}"));
        assert!(
            before == contents(stage.folder()),
            "{line}: the refusal changed files"
        );
        assert!(has_next(&text), "{line}: no next step in: {text}");
    };
    fs::set_permissions(stage.path("B.npy"), fs::Permissions::from_mode(0o000)).unwrap();
    check("multiply A.npy B.npy -o C.npy", &["`B.npy`", "ermission denied"]);
    fs::set_permissions(stage.path("B.npy"), open.clone()).unwrap();
    fs::create_dir(stage.path("locked")).unwrap();
    fs::set_permissions(stage.path("locked"), fs::Permissions::from_mode(0o555)).unwrap();
    check(
        "multiply A.npy B.npy -o locked/C.npy",
        &["locked/C.npy", "ermission denied"],
    );
    fs::set_permissions(stage.path("locked"), open).unwrap();
}

#[test]
fn outputs_that_cannot_be_are_refused() {
    let stage = Stage::with_small_inputs();
    stage.write("old.npy", b"somebody's file");
    fs::create_dir(stage.path("folder")).unwrap();
    symlink("A.npy", stage.path("link.npy")).unwrap();
    fs::hard_link(stage.path("B.npy"), stage.path("hard.npy")).unwrap();
    symlink("folder", stage.path("loop")).unwrap();
    for (output, words) in [
        ("old.npy", ["`old.npy` exists", "--overwrite"]),
        ("A.npy", ["`A.npy`", "input"]),
        ("B.npy --overwrite", ["`B.npy`", "input"]),
        (
            "folder/../A.npy --overwrite",
            ["`folder/../A.npy`", "the input `A.npy`"],
        ),
        ("link.npy --overwrite", ["`link.npy`", "the input `A.npy`"]),
        ("hard.npy --overwrite", ["`hard.npy`", "the input `B.npy`"]),
        ("missing/C.npy", ["`missing`", "mkdir -p missing"]),
        ("A.npy/C.npy", ["`A.npy`", "not a folder"]),
        ("A.npy/deeper/C.npy", ["`A.npy/deeper`", "Not a directory"]),
        ("folder --overwrite", ["`folder`", "not a file"]),
        ("loop --overwrite", ["`loop`", "not a file"]),
    ] {
        stage.refuse(2, &format!("multiply A.npy B.npy -o {output}"), &words);
        // A plan may be made for an output that exists: it is not touched.
        if output != "old.npy" {
            stage.refuse(2, &format!("plan multiply A.npy B.npy -o {output}"), &words);
        }
    }
}

/// It used to be deleted, even where it was an input.
#[test]
fn r2_a_partial_file_that_is_not_ours_is_left_alone() {
    let stage = Stage::with_small_inputs();
    fs::copy(stage.path("A.npy"), stage.path("C.npy.partial")).unwrap();
    let before = contents(stage.folder());
    for line in [
        "multiply A.npy B.npy -o C.npy",
        "multiply C.npy.partial B.npy -o C.npy",
    ] {
        stage.refuse(2, line, &["C.npy.partial"]);
    }
    assert!(contents(stage.folder()) == before);
}

#[test]
fn a_disk_that_is_too_small_is_said_before() {
    let stage = Stage::empty();
    stage.write("tall.npy", &npy("'<f8'", "(1000000, 0)", &[]));
    stage.write("wide.npy", &npy("'<f8'", "(0, 90000000)", &[]));
    stage.refuse(
        3,
        "multiply tall.npy wide.npy -o C.npy",
        &["no room for `C.npy`", "are missing"],
    );
}

#[test]
fn r2_shapes_beyond_any_file_are_refused() {
    // Once an overflow in the plan's arithmetic: a panic, or with release arithmetic a plan that means nothing.
    let stage = Stage::empty();
    for extent in ["4000000000", "18000000000000000000"] {
        stage.write("tall.npy", &npy("'<f8'", &format!("({extent}, 0)"), &[]));
        stage.write("wide.npy", &npy("'<f8'", &format!("(0, {extent})"), &[]));
        let output = stage.run("multiply tall.npy wide.npy -o C.npy");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            matches!(output.status.code(), Some(2 | 3)),
            "{extent}: {:?}: {text}",
            output.status
        );
        assert!(!stage.path("C.npy.tilework").exists() && !stage.path("C.npy.partial").exists());
    }
}

#[test]
fn other_element_types_print_a_command_that_works() {
    let stage = Stage::with_small_inputs();
    let data: Vec<u8> = (0..8i64).flat_map(i64::to_le_bytes).collect();
    stage.write("int.npy", &npy("'<i8'", "(4, 2)", &data));
    let data: Vec<u8> = (0..8u8).flat_map(|at| f32::from(at).to_le_bytes()).collect();
    stage.write("single.npy", &npy("'<f4'", "(4, 2)", &data));
    stage.write("bool.npy", &npy("'|b1'", "(4, 2)", &[1, 0, 1, 0, 1, 1, 0, 0]));
    stage.write("half.npy", &npy("'<f2'", "(4, 2)", &[0; 16]));
    for file in ["int.npy", "single.npy", "bool.npy", "half.npy"] {
        let json = stage.refuse(
            2,
            &format!("multiply A.npy {file} -o C.npy"),
            &["`A.npy` holds", &format!("`{file}`")],
        );
        let command = json["next"]
            .as_str()
            .unwrap()
            .split_once(": tilework ")
            .unwrap()
            .1;
        assert!(command.ends_with(" --dtype f64"), "{command}");
        let report = stage.succeed(command);
        assert_eq!(
            (
                report["m"].as_u64(),
                report["n"].as_u64(),
                report["dtype"].as_str()
            ),
            (Some(3), Some(2), Some("f64"))
        );
        stage.succeed(&format!("verify A.npy {file} C.npy"));
        for name in ["C.npy", "C.npy.tilework/journal"] {
            fs::remove_file(stage.path(name)).unwrap();
        }
        fs::remove_dir(stage.path("C.npy.tilework")).unwrap();
    }
    let output = stage.run("multiply A.npy int.npy -o C.npy --dtype f64");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("note: `int.npy`") && text.contains("2^53"),
        "inexact int64 is said: {text}"
    );
}

#[test]
fn nothing_times_nothing_is_a_product() {
    let stage = Stage::empty();
    for (m, k, n) in [(0, 4, 2), (3, 4, 0), (0, 0, 0), (0, 3, 0), (3, 0, 2)] {
        stage.write("A.npy", &doubles(m, k));
        stage.write("B.npy", &doubles(k, n));
        let report = stage.succeed("multiply A.npy B.npy -o C.npy --overwrite");
        assert_eq!(report["status"], "done");
        assert_eq!(
            [&report["m"], &report["n"], &report["k"]].map(|extent| extent.as_u64().unwrap() as usize),
            [m, n, k]
        );
        let bytes = stage.read("C.npy");
        assert_eq!(bytes.len(), HEADER_LEN + 8 * m * n, "{m} x {k} x {n}");
        assert!(String::from_utf8_lossy(&bytes[..HEADER_LEN]).contains(&format!("'shape': ({m}, {n})")));
        assert!(
            bytes[HEADER_LEN..].iter().all(|byte| *byte == 0),
            "{m} x {k} x {n}: not zeros"
        );
        stage.succeed("verify C.npy");
        stage.succeed("verify A.npy B.npy C.npy");
    }
}

#[test]
fn the_terminal_and_json_exclude_each_other() {
    let stage = Stage::with_small_inputs();
    let json = stage.refuse_in_json(2, "multiply A.npy B.npy -o -");
    assert!(json["error"].as_str().unwrap().contains("--json"), "{json}");
    assert!(json["next"].is_string());
    assert!(!stage.path("-").exists());
    assert!(stage.run("multiply A.npy B.npy -o -").status.success());
}

#[test]
fn a_command_line_that_means_nothing_is_refused() {
    let stage = Stage::with_small_inputs();
    for line in [
        "multiply A.npy B.npy",
        "multiply A.npy -o C.npy",
        "multiply A.npy B.npy -o C.npy --memory 0",
        "resume",
    ] {
        let output = stage.run(line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{line}");
        assert!(stage.refuse_in_json(2, line)["next"].is_string(), "{line}");
    }
    stage.refuse(2, "verify A.npy B.npy", &["A, B and C, or C alone"]);
    stage.refuse(2, "verify missing.npy", &["`missing.npy` does not exist"]);
    stage.refuse(
        2,
        "verify A.npy",
        &["`A.npy` has no journal", "verify A.npy B.npy A.npy"],
    );
    stage.refuse(2, "resume missing.npy", &["no unfinished job at `missing.npy`"]);
    stage.refuse(2, "resume A.npy", &["no unfinished job at `A.npy`"]);
    stage.succeed("multiply A.npy B.npy -o C.npy");
    stage.refuse(
        2,
        "resume C.npy",
        &["`C.npy` is finished", "tilework verify C.npy"],
    );
    stage.refuse(
        2,
        "multiply A.npy B.npy -o C.npy",
        &["`C.npy` exists", "--overwrite"],
    );
    stage.refuse(
        2,
        "multiply A.npy B.npy -o C.npy --restart",
        &["`C.npy` exists", "--overwrite"],
    );
}

#[test]
fn inputs_that_changed_since_are_refused_at_resume() {
    let stage = Stage::with_long_inputs();
    stage.kill_midway(LONG);
    let n_committed = stage.journal("C.npy").unwrap().commits.len();
    let original = stage.read("A.npy");
    let resumes = [LONG, "resume C.npy"];

    // One element: the first is in every sample.
    stage.patch("A.npy", &1e3f64.to_le_bytes(), HEADER_LEN as u64);
    for line in resumes {
        stage.refuse(2, line, &["A.npy", "elements", "--restart"]);
    }
    // Another shape, the same bytes.
    let at = original
        .windows(11)
        .position(|window| window == b"(1500, 500)")
        .unwrap();
    stage.patch("A.npy", b"(500, 1500)", at as u64);
    for line in resumes {
        stage.refuse(2, line, &["A.npy` is 500 x 1500"]);
    }
    fs::rename(stage.path("A.npy"), stage.path("gone.npy")).unwrap();
    for line in resumes {
        stage.refuse(2, line, &["A.npy` does not exist"]);
    }
    // Another job altogether.
    stage.write("A.npy", &original);
    stage.refuse(
        2,
        &format!("{LONG} --dtype f32"),
        &["the dtype was f64, now f32", "--restart", "tilework resume C.npy"],
    );
    stage.refuse(2, "multiply B.npy A.npy -o C.npy --memory 15MiB", &["header was"]);

    // Only touched by now: it goes on, and says so.
    let output = stage.run("resume C.npy");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("note: `") && text.contains("A.npy` was touched"),
        "{text}"
    );
    assert!(
        text.contains(&format!("{n_committed} kept")),
        "{n_committed} commits: {text}"
    );
    stage.succeed("verify A.npy B.npy C.npy");
}

#[test]
fn an_input_that_changes_while_it_is_used_stops_the_run() {
    let stage = Stage::with_long_inputs();
    let original = stage.read("B.npy");
    let running = stage.begin(&format!("{LONG} --json"));
    stage.patch("B.npy", &1e3f64.to_le_bytes(), HEADER_LEN as u64);
    let output = running.end();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{json}");
    assert!(
        json["error"].as_str().unwrap().contains("B.npy` changed"),
        "{json}"
    );
    assert!(
        json["next"].as_str().unwrap().contains("tilework resume C.npy"),
        "{json}"
    );
    assert!(!stage.path("C.npy").exists());

    // A restart is always right.
    stage.patch("B.npy", &original, 0);
    stage.succeed(&format!("{LONG} --restart"));
    stage.succeed("verify A.npy B.npy C.npy");
}

#[test]
fn r2_tiles_of_an_input_that_changed_and_was_put_back_do_not_survive() {
    // Every tile was checked against the input of its moment, so the tiles of the changed one count as committed; the
    // advice to put the input back and resume once made a wrong product of them, with exit code 0.
    let stage = Stage::with_long_inputs();
    let original = stage.read("B.npy");
    stage.succeed(&LONG.replace("C.npy", "right.npy"));
    let running = stage.begin(LONG);
    stage.patch("B.npy", &vec![0; 1500 * 8], HEADER_LEN as u64);
    assert_eq!(running.end().status.code(), Some(2));
    stage.patch("B.npy", &original, 0);
    let output = stage.run("resume C.npy");
    if output.status.success() {
        assert!(
            stage.read("C.npy") == stage.read("right.npy"),
            "a wrong product was called done"
        );
    } else {
        assert!(!stage.path("C.npy").exists());
    }
}

#[test]
fn an_input_that_is_cut_off_while_it_is_used_stops_the_run() {
    let stage = Stage::with_long_inputs();
    let running = stage.begin(&format!("{LONG} --json"));
    fs::OpenOptions::new()
        .write(true)
        .open(stage.path("B.npy"))
        .unwrap()
        .set_len(1000)
        .unwrap();
    let output = running.end();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{json}");
    assert!(json["error"].as_str().unwrap().contains("B.npy"), "{json}");
    assert!(!stage.path("C.npy").exists());
}
