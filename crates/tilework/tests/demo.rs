//! `demo` shows what it says, and leaves nothing behind.

mod common;

use common::Running;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Starts `line` with `temporary` as the folder for temporary files.
fn start(line: &str, temporary: &Path) -> Running {
    let mut command = common::command(line);
    command.env("TMPDIR", temporary);
    Running::start(command)
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn it_kills_resumes_verifies_and_cleans_up() {
    let temporary = tempfile::tempdir().unwrap();
    let output = start("demo --size 3000 --json", temporary.path()).end();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (json["status"].as_str(), json["size"].as_u64()),
        (Some("done"), Some(3000))
    );
    let (multiply, verify) = (&json["multiply"], &json["verify"]);
    let n_tasks = multiply["tasks"].as_u64().unwrap();
    let n_at_kill = json["tasks_at_kill"].as_u64().unwrap();
    assert!(
        0 < n_at_kill && n_at_kill < n_tasks,
        "killed after {n_at_kill} of {n_tasks}"
    );
    assert!(multiply["tasks_resumed"].as_u64() >= Some(n_at_kill), "{json}");
    assert_eq!(
        (verify["status"].as_str(), verify["tiles_bad"].as_u64()),
        (Some("done"), Some(0))
    );
    assert!(verify["residual_max"].as_f64() <= verify["residual_bound"].as_f64());
    assert!(
        is_empty(temporary.path()),
        "something is left in the temporary folder"
    );
}

#[test]
fn people_see_every_step() {
    let temporary = tempfile::tempdir().unwrap();
    let output = start("demo --size 3000", temporary.path()).end();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    let steps = [
        "1. two 3000 x 3000",
        "2. tilework plan",
        "3. tilework multiply",
        "killed (SIGKILL) after",
        "4. ",
        "5. ",
        "6. ",
    ];
    let places: Vec<_> = steps
        .iter()
        .map(|step| {
            text.find(step)
                .unwrap_or_else(|| panic!("no `{step}` in: {text}"))
        })
        .collect();
    assert!(places.is_sorted(), "{text}");
    assert!(text.lines().count() <= 24, "more than one screen: {text}");
    assert!(is_empty(temporary.path()));
}

#[test]
fn an_interrupt_cleans_up_too() {
    let temporary = tempfile::tempdir().unwrap();
    let mut running = start("demo --size 3000 --json", temporary.path());
    // With the folder comes the handling of signals, soon after.
    running.wait_until("the demo's folder", || !is_empty(temporary.path()));
    thread::sleep(Duration::from_millis(50)); // waits: the signal handler, which shows nowhere outside
    running.signal(Signal::INT);
    let output = running.end();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(
        is_empty(temporary.path()),
        "something is left in the temporary folder"
    );
}
