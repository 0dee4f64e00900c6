//! `--json`: stdout is exactly one JSON object on one line, whatever happens.

use crate::vocabulary::{Answer, Folder};
use std::process::{Command, Stdio};

#[test]
fn every_command_answers_in_one_line() {
    let folder = Folder::new();
    for line in [
        "",
        "generate integers 7x7 -o A.npy",
        "inspect A.npy --scan",
        "compare A.npy A.npy",
        "multiply A.npy A.npy -o C.npy",
        "multiply A.npy A.npy -o S.npy --alpha -0.5 --beta 2 --add C.npy",
        "plan multiply A.npy A.npy",
        "plan multiply A.npy A.npy --add C.npy",
        "verify C.npy",
        "status C.npy",
        "explain C.npy",
        "clean C.npy",
        "completions fish",
        "man",
        "man multiply",
        "--help",
        "--version",
    ] {
        for quiet in ["", "--quiet"] {
            let overwrite = if quiet.is_empty() || !line.contains(" -o ") {
                ""
            } else {
                "--overwrite"
            };
            let answer = folder.done(&format!("{line} --json {quiet} {overwrite}"));
            assert!(answer.json()["status"].is_string(), "{answer:?}");
            assert_eq!(answer.stderr, "", "{line}");
        }
    }
}

#[test]
fn failures_are_objects_with_status_error_and_exit_code() {
    let folder = Folder::new();
    folder.done("generate integers 4x5 -o A.npy");
    for (line, code) in [
        ("inspect nothing.npy", 2),
        ("generate normal 2x2 -o A.npy", 2),
        ("generate normal 100000000x1000000 -o B.npy", 3),
        ("multiply A.npy A.npy -o C.npy", 2),
        ("multiply A.npy A.npy --transpose-b -o -", 2),
        ("resume C.npy", 2),
        ("verify C.npy", 2),
        ("clean nothing.npy", 2),
        ("man nothing", 2),
        ("inspect A.npy --log-file missing/log", 2),
    ] {
        let answer = folder.run(&format!("{line} --json"));
        let json = answer.json();
        assert_eq!(answer.code, code, "{answer:?}");
        assert_eq!(
            (&json["status"], &json["exit_code"]),
            (&"failed".into(), &code.into()),
            "{line}"
        );
        assert!(!json["error"].as_str().unwrap().contains('\n'), "{line}");
        assert_eq!(answer.stderr, "", "{line}");
    }
}

#[test]
fn usage_errors_are_objects_too() {
    let folder = Folder::new();
    for line in [
        "--json frob",
        "multiply --json",
        "generate normal 3 -o A.npy --json",
        "inspect A --json --frob",
        "plan --json",
    ] {
        let answer = folder.run(line);
        let json = answer.json();
        assert_eq!(
            (answer.code, &json["status"], &json["exit_code"]),
            (2, &"failed".into(), &2.into()),
            "{line}"
        );
        assert!(!json["error"].as_str().unwrap().is_empty(), "{answer:?}");
    }
    let output = folder.command("frob").env("TILEWORK_JSON", "1").output().unwrap();
    assert_eq!(Answer::of("frob", output).json()["exit_code"], 2);
}

#[test]
fn a_reader_that_closes_stdout_early_is_no_failure() {
    let folder = Folder::new();
    for line in [
        "completions bash",
        "completions bash --json",
        "help",
        "frob --json",
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tilework"))
            .args(line.split(' '))
            .current_dir(folder.path("."))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("panicked"), "{line}: {stderr}");
        assert_eq!(
            output.status.code(),
            Some(if line.starts_with("frob") { 2 } else { 0 }),
            "{line}: {stderr}"
        );
    }
}

#[test]
fn a_full_disk_behind_stdout_is_told_on_stderr() {
    let folder = Folder::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tilework"))
        .args(["completions", "bash", "--json"])
        .current_dir(folder.path("."))
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .starts_with("error: cannot write to `stdout`")
    );
}
