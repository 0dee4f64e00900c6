//! `cargo xtask test`: every check of a commit in one command, cheapest first, all of them even when one fails.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::junit::{self, TestCase};
use crate::libtest::Tally;
use crate::step::{self, Step, Verdict};
use crate::{api, deny, memcheck, nats_server, report, tidy, workspace};

/// Whether the checks that only read the code run too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lints {
    Run,
    Skip,
}

/// Where nextest's profile `ci` writes its report, from the workspace's root.
const JUNIT_PATH: &str = "target/nextest/ci/junit.xml";

/// Runs all steps, prints the report and says whether everything passed.
pub(crate) fn run(root: &Path, lints: Lints) -> anyhow::Result<bool> {
    let mut steps = Vec::new();
    if lints == Lints::Run {
        steps.extend(lint_steps(root)?);
    }
    steps.push(cargo_step(
        root,
        "build",
        &["build", "--package", "tilework", "--bins"],
    )?);

    let mut tally = Tally::default();
    let mut tests = Vec::new();
    steps.push(step::timed("doctests", || {
        let doctests = workspace::cargo(root, &["test", "--workspace", "--doc", "--no-fail-fast"]);
        step::command_lines(doctests, |line| tally.add_line(line))
    })?);
    let mut server = None;
    steps.push(step::timed("nats-server", || {
        nats_server::run(root, &mut server)
    })?);
    steps.push(step::timed("tests", || {
        run_tests(root, server.as_deref(), &mut tally, &mut tests)
    })?);
    steps.push(step::timed("memcheck", || memcheck::run(root))?);

    print!("{}", report::text(&steps, &tests, tally));
    Ok(steps.iter().all(|step| step.verdict != Verdict::Failed))
}

fn lint_steps(root: &Path) -> anyhow::Result<Vec<Step>> {
    Ok(vec![
        cargo_step(root, "fmt", &["fmt", "--all", "--check"])?,
        step::timed("tidy", || Ok(Verdict::of(tidy::run(root)?)))?,
        step::timed("deny", || deny::run(root))?,
        cargo_step(
            root,
            "clippy",
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--features",
                "tilework/soak",
                "--",
                "-D",
                "warnings",
            ],
        )?,
        step::timed("doc", || step::command(doc_command(root)))?,
        step::timed("api", || api::check(root))?,
    ])
}

fn cargo_step(root: &Path, name: &'static str, args: &[&str]) -> anyhow::Result<Step> {
    step::timed(name, || step::command(workspace::cargo(root, args)))
}

fn doc_command(root: &Path) -> Command {
    let mut doc = workspace::cargo(root, &["doc", "--workspace", "--no-deps"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    doc
}

fn run_tests(
    root: &Path,
    nats_server: Option<&Path>,
    tally: &mut Tally,
    tests: &mut Vec<TestCase>,
) -> anyhow::Result<Verdict> {
    let tests_command = |args: &[&str]| {
        let mut command = workspace::cargo(root, args);
        command.envs(nats_server.map(|server| (nats_server::VARIABLE, server)));
        command
    };
    if !workspace::has_subcommand(root, "nextest") {
        println!("cargo-nextest is not installed: `cargo test` runs instead, without times per test");
        let args = [
            "test",
            "--workspace",
            "--no-fail-fast",
            "--lib",
            "--bins",
            "--tests",
            "--examples",
        ];
        return step::command_lines(tests_command(&args), |line| tally.add_line(line));
    }
    // A report left by an earlier run must not stand in for one that this run failed to write.
    let junit_path = root.join(JUNIT_PATH);
    let _ = fs::remove_file(&junit_path);
    let args = ["nextest", "run", "--workspace", "--profile", "ci"];
    let verdict = step::command(tests_command(&args))?;
    if let Ok(xml) = fs::read_to_string(&junit_path) {
        tests.extend(junit::test_cases(&xml));
    }
    tally.passed += tests.iter().filter(|test| test.passed).count();
    tally.failed += tests.iter().filter(|test| !test.passed).count();
    Ok(verdict)
}
