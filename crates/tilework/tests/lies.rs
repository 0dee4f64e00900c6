//! Workers of one process that compute wrong results: the answer is right or there is none.

mod common;

use common::{Running, Stage};
use serde_json::Value;
use std::process::Output;

/// So little memory that it has dozens of tasks.
const MULTIPLY: &str = "multiply A.npy B.npy -o C.npy --memory 15MiB --json";
/// The same with several workers, which have buffers of their own.
const BY_THREE: &str = "multiply A.npy B.npy -o C.npy --memory 20MiB --workers 3 --json";

fn stage() -> Stage {
    Stage::with_inputs("2400x600", "600x2400", "")
}

impl Stage {
    fn run_with_lies(&self, line: &str, lies: &str) -> (Output, Value) {
        let mut command = self.command(line);
        command.env("TILEWORK_TEST_LIES", lies);
        let output = Running::start(command).end();
        let json = serde_json::from_slice(&output.stdout).unwrap();
        (output, json)
    }
}

fn alarms<'v>(report: &'v Value, kind: &str) -> Vec<&'v str> {
    let alarms = report["alarms"].as_array().unwrap().iter();
    let of_kind = alarms.filter(|alarm| alarm["kind"] == kind);
    of_kind.map(|alarm| alarm["text"].as_str().unwrap()).collect()
}

#[test]
fn one_of_three_workers_lies_and_the_answer_is_right() {
    for kind in ["sign", "row", "any"] {
        let stage = stage();
        stage.succeed("multiply A.npy B.npy -o R.npy");
        let mut command = stage.command(BY_THREE);
        command.env("TILEWORK_TEST_LIES", format!("1:{kind}:1:7"));
        let output = Running::start(command).end();
        assert!(output.status.success(), "{kind}: {output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(
            stage.read("C.npy") == stage.read("R.npy"),
            "{kind}: other bytes than without lies"
        );
        assert!(report["tasks"].as_u64() > Some(6), "{report}");
        let n_lies = alarms(&report, "attempt-corrupt").len();
        assert!(n_lies >= 3, "{kind}: {n_lies} lies: {report}");
        let quarantined = alarms(&report, "worker-quarantined");
        assert_eq!(quarantined.len(), 1, "{kind}: {report}");
        assert!(
            quarantined[0].contains("worker 1 gets no more tasks"),
            "{quarantined:?}"
        );
    }
}

/// An attempt that is right counts, whoever made it.
#[test]
fn a_worker_that_lies_now_and_then_costs_attempts_and_nothing_else() {
    let stage = stage();
    stage.succeed("multiply A.npy B.npy -o R.npy");
    let (output, report) = stage.run_with_lies(MULTIPLY, "*:any:0.1:3");
    assert!(output.status.success(), "{output:?}");
    assert!(stage.read("C.npy") == stage.read("R.npy"));
    let n_lies = alarms(&report, "attempt-corrupt").len() as u64;
    assert!(n_lies > 0 && report["retries"] == n_lies, "{report}");
}

#[test]
fn where_all_lie_there_is_no_answer() {
    for line in [MULTIPLY, BY_THREE] {
        let stage = stage();
        let (output, report) = stage.run_with_lies(line, "*:row:1:7");
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        assert!(
            report["error"].as_str().unwrap().contains("failed its check"),
            "{report}"
        );
        assert_eq!(alarms(&report, "poison-task").len(), 1, "{report}");
        assert!(!stage.path("C.npy").exists());
        assert_eq!(stage.n_committed("C.npy"), 0);
        stage.succeed("resume C.npy");
        stage.succeed("verify C.npy");
    }
}
