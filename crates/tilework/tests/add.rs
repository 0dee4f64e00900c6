//! `--alpha`, `--beta` and `--add`: killed and resumed, refused, verified.

mod common;

use common::Stage;
use std::fs;

/// C += A·B/2, in so little memory that it has many tasks.
const ADD_TO_C: &str = "multiply A.npy B.npy -o C.npy --alpha 0.5 --beta -2 --add C.npy --memory 15MiB";

/// A, B, and a C to be added to.
fn stage() -> Stage {
    let stage = Stage::with_inputs("1500x500", "500x1500", "");
    stage.succeed("generate normal 1500x1500 -o C.npy --seed 3");
    stage
}

impl Stage {
    /// Starts `line`, and kills it after some commits.
    fn kill_midway(&self, line: &str) {
        let mut running = self.start(line);
        let pid = running.pid();
        running.wait_until("two commits of the run", || {
            let journal = self.journal("C.npy").unwrap_or_default();
            journal.runs.last().is_some_and(|run| run.pid == pid) && journal.commits.len() >= 2
        });
        assert!(running.kill(), "the kill came too late: {line}");
        assert!(self.path("C.npy.partial").exists(), "{line}");
    }

    /// Expects a refusal in `words`, with a next step, after which C and its job are what they were.
    fn refuse(&self, line: &str, words: &[&str]) {
        let before = (self.read("C.npy"), self.n_committed("C.npy"));
        let output = self.run(line);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {text}");
        for word in words.iter().chain(&["\n  next: "]) {
            assert!(text.contains(word), "{line}: no `{word}` in: {text}");
        }
        assert!(
            before == (self.read("C.npy"), self.n_committed("C.npy")),
            "{line}"
        );
    }
}

#[test]
fn a_killed_addition_to_the_output_resumes_with_the_undisturbed_bytes() {
    let undisturbed = stage();
    undisturbed.succeed(&format!("{ADD_TO_C} --overwrite"));
    let expected = undisturbed.read("C.npy");

    let stage = stage();
    let old = stage.read("C.npy");
    stage.kill_midway(&format!("{ADD_TO_C} --overwrite"));
    assert!(stage.read("C.npy") == old, "the old output was touched");
    // What is unfinished goes on without being asked to overwrite, as any other product does.
    stage.kill_midway(ADD_TO_C);
    assert!(stage.read("C.npy") == old, "the old output was touched");
    let report = stage.succeed("resume C.npy --memory 40MiB --threads 1");
    assert!(report["tasks_resumed"].as_u64() >= Some(2), "{report}");
    assert!(stage.read("C.npy") == expected, "other bytes than without kills");
    stage.refuse("resume C.npy", &["`C.npy` is finished"]);

    // What was added is gone, which is no trouble, and no reason to add again.
    let report = stage.succeed("verify C.npy");
    assert_eq!(
        report["notes"][0],
        "what was added was the old `C.npy`: only the bytes of C were checked"
    );
    let report = stage.succeed("explain C.npy");
    assert_eq!(
        report["inputs_changed"].as_array().map(Vec::len),
        Some(0),
        "{report}"
    );
    stage.refuse(ADD_TO_C, &["`C.npy` exists", "--overwrite"]);
}

#[test]
fn what_is_added_must_be_the_same_at_a_resume() {
    let stage = stage();
    stage.kill_midway(&format!("{ADD_TO_C} --overwrite"));
    let old = stage.read("C.npy");
    let mut other = old.clone();
    other[200] ^= 1;
    stage.write("C.npy", &other);
    for line in [ADD_TO_C, "resume C.npy"] {
        stage.refuse(
            line,
            &["not the same job", "C.npy`: its elements are not the same"],
        );
    }
    stage.write("C.npy", &old);
    let factors = |factors: &str| ADD_TO_C.replace("--alpha 0.5 --beta -2 --add C.npy", factors);
    for (line, difference) in [
        (
            factors("--alpha 0.25 --beta -2 --add C.npy"),
            "--alpha was 0.5, now 0.25",
        ),
        (factors("--alpha 0.5 --add C.npy"), "--beta was -2, now 1"),
        (factors("--alpha 0.5"), "--add was given, now not given"),
    ] {
        stage.refuse(&line, &["not the same job", difference]);
    }
    stage.succeed("resume C.npy");
}

#[test]
fn a_matrix_that_was_added_to_a_killed_run_is_named_when_it_changed() {
    let stage = stage();
    fs::rename(stage.path("C.npy"), stage.path("D.npy")).unwrap();
    let line = ADD_TO_C.replace("--add C.npy", "--add D.npy");
    stage.kill_midway(&line);
    stage.succeed("generate normal 1500x1500 -o D.npy --seed 4 --overwrite");
    let output = stage.run("resume C.npy");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("D.npy`: its elements are not the same"), "{text}");
}

#[test]
fn verify_knows_the_formula_from_the_journal_or_from_the_command() {
    let stage = Stage::with_inputs("90x70", "70x80", "");
    stage.succeed("generate integers 90x80 -o D.npy --seed 3");
    let formula = "--alpha 0.5 --beta -2 --add D.npy";
    stage.succeed(&format!("multiply A.npy B.npy -o C.npy {formula}"));
    stage.succeed("verify C.npy");
    stage.succeed(&format!("verify A.npy B.npy C.npy {formula}"));
    for other in [
        "",
        "--alpha 0.5",
        "--add D.npy",
        "--alpha 0.5 --beta -2.0000001 --add D.npy",
    ] {
        let output = stage.run(format!("verify A.npy B.npy C.npy {other}").trim_end());
        assert_eq!(output.status.code(), Some(5), "{other}: {output:?}");
    }
    let output = stage.run("verify C.npy --alpha 0.5");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn the_formula_is_shown_where_it_is_not_the_plain_product() {
    let stage = Stage::with_inputs("30x20", "20x25", "");
    stage.succeed("generate integers 30x25 -o D.npy");
    let line = "multiply A.npy B.npy -o C.npy --alpha -0.1 --transpose-b --transpose-a";
    let line = line.replace("A.npy B.npy", "B.npy A.npy");
    let report = stage.succeed(&line);
    assert_eq!((&report["alpha"], &report["beta"]), (&(-0.1).into(), &().into()));
    for command in ["status C.npy", "explain C.npy"] {
        let text = String::from_utf8(stage.run(command).stdout).unwrap();
        assert!(text.contains("C = -0.1·Aᵀ·Bᵀ"), "{command}: {text}");
    }
    let plan = String::from_utf8(stage.run("plan multiply A.npy B.npy --beta 3 --add D.npy").stdout).unwrap();
    assert!(plan.contains("C = A·B + 3·D"), "{plan}");
    let plain = String::from_utf8(stage.run("plan multiply A.npy B.npy").stdout).unwrap();
    assert!(!plain.contains("formula"), "{plain}");
}
