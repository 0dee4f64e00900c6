//! Words counted by tasks that hand each other files: against a plain count and the tools of every system, killed and damaged on the way.

mod common;

use common::example::Program;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Real text: the licences that every Debian has; elsewhere our own documentation.
fn text() -> PathBuf {
    let licences = Path::new("/usr/share/common-licenses");
    if licences.is_dir() {
        licences.to_path_buf()
    } else {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        docs.canonicalize().unwrap()
    }
}

/// All files of the folder, one after the other; none of them ends within a word.
fn all_text() -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(text()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            all.extend(fs::read(path).unwrap());
            all.push(b'\n');
        }
    }
    assert!(all.len() > 100_000, "too little text in {}", text().display());
    all
}

/// Everything in one map.
fn counted(text: &[u8]) -> Vec<u8> {
    let mut counts: HashMap<&[u8], u64> = HashMap::new();
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    for word in text.split(is_space).filter(|word| !word.is_empty()) {
        *counts.entry(word).or_default() += 1;
    }
    let mut counts: Vec<_> = counts
        .into_iter()
        .map(|(word, count)| (Reverse(count), word))
        .collect();
    counts.sort();
    let mut lines = Vec::new();
    for (Reverse(count), word) in counts {
        lines.extend(format!("{count} ").bytes());
        lines.extend(word);
        lines.push(b'\n');
    }
    lines
}

/// The same from the shell's tools; nothing where they are not.
fn counted_by_tools(text: &[u8]) -> Option<Vec<u8>> {
    let line = "tr -s '[:space:]' '\\n' | grep . | sort | uniq -c | sed 's/^ *//' | sort -k1,1nr -k2";
    let mut tools = Command::new("sh")
        .args(["-c", line])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut input = tools.stdin.take()?;
    let text = text.to_vec();
    let writing = std::thread::spawn(move || input.write_all(&text));
    let output = tools.wait_with_output().unwrap();
    let written = writing.join().unwrap();
    (output.status.success() && written.is_ok() && !output.stdout.is_empty()).then_some(output.stdout)
}

fn line(options: &str, output: &str) -> String {
    format!(
        "run word-count --set folder={} {options} -o {output}",
        text().display()
    )
}

/// About ten map tasks and three reducers, in three rounds.
const OPTIONS: &str = "--set split_bytes=40000 --set reducers=3";

#[test]
fn words_are_counted_as_a_plain_count_and_the_shells_tools_count_them() {
    let program = Program::of_example("word_count");
    let expected = counted(&all_text());
    if let Some(by_tools) = counted_by_tools(&all_text()) {
        assert!(by_tools == expected, "the tools and the plain count differ");
    }
    // One split; splits that cut files and words; more splits than kibibytes of the smaller files.
    for (i, options) in [
        "--set reducers=1",
        OPTIONS,
        "--set split_bytes=997 --set reducers=2",
    ]
    .iter()
    .enumerate()
    {
        let output = format!("{i}.txt");
        program.succeed(&line(options, &output));
        assert!(program.read(&output) == expected, "{options}");
        let left: Vec<_> = fs::read_dir(program.path(&format!("{output}.tilework")))
            .unwrap()
            .collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}

#[test]
fn a_count_that_is_killed_in_each_of_its_rounds_goes_on_with_that() {
    let program = Program::of_example("word_count");
    let whole = program.succeed(&line(OPTIONS, "whole.txt"));
    for round in 0..3 {
        program.kill_in_round(&line(OPTIONS, "w.txt"), "w.txt", round);
    }
    let rest = program.succeed(&line(OPTIONS, "w.txt"));
    let run = |report: &serde_json::Value| report["tasks_run"].as_u64().unwrap();
    assert_eq!(run(&rest), 1, "two rounds were complete: {rest}");
    assert!(run(&whole) > 8);
    assert!(program.read("w.txt") == program.read("whole.txt"));
    assert!(program.read("w.txt") == counted(&all_text()));
}

/// Files that tasks wrote beside `output`.
fn task_files(program: &Program, output: &str) -> Vec<PathBuf> {
    let Ok(folder) = fs::read_dir(program.path(&format!("{output}.tilework/outputs"))) else {
        return Vec::new();
    };
    let mut files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn what_a_kill_left_is_written_again_where_it_is_damaged_and_removed_when_it_is_discarded() {
    let program = Program::of_example("word_count");
    program.kill_in_round(&line(OPTIONS, "w.txt"), "w.txt", 0);
    // Every file that is there, committed or cut off: whole ones damaged by one bit.
    let files = task_files(&program, "w.txt");
    assert!(!files.is_empty());
    for file in &files {
        let mut bytes = fs::read(file).unwrap();
        if let Some(byte) = bytes.last_mut() {
            *byte ^= 1;
        }
        fs::write(file, bytes).unwrap();
    }
    let rest = program.succeed(&line(OPTIONS, "w.txt"));
    assert!(
        rest["retries"].as_u64().unwrap() > 0,
        "no commit was found damaged: {rest}"
    );
    assert!(program.read("w.txt") == counted(&all_text()));

    // A discarded job's files go, with a new start and with `clean`.
    program.kill_in_round(&line(OPTIONS, "v.txt"), "v.txt", 1);
    let discarded = task_files(&program, "v.txt");
    assert!(!discarded.is_empty());
    let restart = line(OPTIONS, "v.txt") + " --restart";
    let is_new = |file: &PathBuf| !discarded.contains(file);
    let mut seen = Vec::new();
    program.kill_when("a file of the new start", &restart, "v.txt", || {
        seen = task_files(&program, "v.txt");
        seen.iter().any(is_new)
    });
    // Seen in its first round, whose end would take them away too.
    assert!(seen.iter().all(is_new));
    program.succeed(&restart);
    assert!(program.read("v.txt") == program.read("w.txt"));
    assert!(task_files(&program, "v.txt").is_empty());
    program.kill_in_round(&line(OPTIONS, "u.txt"), "u.txt", 1);
    assert!(!task_files(&program, "u.txt").is_empty());
    program.succeed("clean u.txt --yes");
    assert!(!program.path("u.txt.tilework").exists());
}

/// A file of a round that is complete can't be written again: the failure names it, and what to do.
#[test]
fn a_lost_file_of_a_complete_round_is_told_by_its_name() {
    let program = Program::of_example("word_count");
    program.kill_in_round(&line(OPTIONS, "w.txt"), "w.txt", 1);
    let lost = task_files(&program, "w.txt").remove(0);
    fs::remove_file(&lost).unwrap();
    let output = program.run(&(line(OPTIONS, "w.txt") + " --json"));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let error = report["error"].as_str().unwrap();
    assert!(
        error.contains(lost.file_name().unwrap().to_str().unwrap()),
        "{error}"
    );
    assert!(error.contains("--restart"), "{error}");
    program.succeed(&(line(OPTIONS, "w.txt") + " --restart"));
    assert!(program.read("w.txt") == counted(&all_text()));
}

/// It changed what it was computed from, which showed when all was done, and the same command could not go on.
#[test]
fn r6_an_output_in_the_folder_that_is_read_is_refused_before_anything_is_done() {
    let program = Program::of_example("word_count");
    fs::create_dir_all(program.path("text/deep")).unwrap();
    fs::write(program.path("text/a.txt"), b"one two\n").unwrap();
    fs::write(program.path("text/deep/b.txt"), b"two\n").unwrap();
    std::os::unix::fs::symlink("text/deep", program.path("link")).unwrap();
    for line in [
        "--set folder=.",
        "--set folder=. -o link/words",
        "--set folder=text -o text/words",
        "--set folder=text/ -o text/deep/words",
        "--set folder=text -o link/words",
        "--set folder=text -o ./text/deep/../words",
        "--set folder=link -o text/deep/words --restart",
    ] {
        let refused = program.refuse(&format!("run word-count {line}"));
        let error = refused["error"].as_str().unwrap();
        assert!(error.contains("which is an input"), "{line}: {refused}");
        assert!(refused["next"].as_str().unwrap().contains("-o"), "{refused}");
    }
    let left = |folder: &str| fs::read_dir(program.path(folder)).unwrap().count();
    assert_eq!((left("."), left("text"), left("text/deep")), (2, 2, 1));
    for output in ["words", "text/../words"] {
        program.succeed(&format!(
            "run word-count --set folder=text -o {output} --overwrite"
        ));
        assert_eq!(program.read("words"), b"2 two\n1 one\n");
    }
}
