//! What a user is told of while a job runs: in the report, in a failure's report, beside the output, and in `explain`.
//!
//! The alarm here is that of a slow worker, which really dawdles: `TILEWORK_TEST_SLOW` makes it.

mod common;

use common::Stage;
use rustix::process::Signal;
use serde_json::Value;
use std::process::{Command, Output};

/// Two workers and two tasks, by turns, so that the slow one has to do its share.
const JOB: &str = "multiply A.npy B.npy -o C.npy --memory 24MiB --workers 2 --assign round-robin --json";
/// The same with four tasks: a run that goes on after the alarm.
const LONGER_JOB: &str =
    "multiply A.npy B.npy -o C.npy --memory 20MiB --workers 2 --assign round-robin --json";

fn stage() -> Stage {
    Stage::with_inputs("700x1500", "1500x700", "")
}

/// `line`, in which worker 1 takes much longer for each task than the other, on any machine.
fn slowed(stage: &Stage, line: &str) -> Command {
    let mut command = stage.command(line);
    command.env("TILEWORK_TEST_SLOW", "1:2000ms");
    command
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Asserts that this is the alarm of the slow worker, with all that an alarm says.
fn assert_slow(alarm: &Value) {
    assert_eq!(
        (&alarm["kind"], &alarm["severity"], &alarm["run"]),
        (&"worker-slow".into(), &"warning".into(), &1.into())
    );
    assert!(alarm["text"].as_str().unwrap().starts_with("worker 1 takes "));
    assert_eq!(alarm["next"], "see what else runs on that machine");
    assert!(alarm["unix_ms"].as_u64().unwrap() > 1_700_000_000_000);
}

#[test]
fn an_alarm_is_in_the_report_in_the_log_and_in_explain() {
    let stage = stage();
    let output = slowed(&stage, JOB).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = json(&output);
    assert_eq!(report["alarms_total"], 1, "{report}");
    assert_slow(&report["alarms"][0]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("WARN worker 1 takes "), "{log}");
    let explained = json(&stage.run("explain C.npy --json"));
    assert_eq!(explained["alarms"], report["alarms"]);
}

#[test]
fn a_run_that_is_stopped_tells_its_alarms_too_and_a_quiet_one_has_none() {
    let stage = stage();
    let mut running = common::Running::start(slowed(&stage, LONGER_JOB));
    let alarms = stage.path("C.npy.tilework/alarms.jsonl");
    running.wait_until("the alarm's line", || alarms.exists());
    running.signal(Signal::INT);
    let output = running.end();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let failure = json(&output);
    assert_eq!(
        (&failure["status"], &failure["alarms_total"]),
        (&"stopped".into(), &1.into())
    );
    assert_slow(&failure["alarms"][0]);

    let report = json(&stage.run("resume C.npy --json"));
    assert_eq!(
        (&report["status"], &report["alarms_total"]),
        (&"done".into(), &0.into()),
        "{report}"
    );
    assert_eq!(report["alarms"], serde_json::json!([]));
}

/// With `--log-file`, warnings used to reach the file only: a question about the log's level, asked before the alarm, was
/// taken for the alarm's own.
#[test]
fn a_log_file_takes_no_warning_from_stderr() {
    let stage = stage();
    let output = slowed(&stage, &format!("{JOB} --log-file log")).output().unwrap();
    let (log, log_file) = (String::from_utf8(output.stderr).unwrap(), stage.read("log"));
    assert!(log.contains("WARN worker 1 takes "), "{log}");
    assert!(String::from_utf8(log_file).unwrap().contains("worker 1 takes "));
}
