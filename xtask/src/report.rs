//! What `cargo xtask test` prints last: step times, the slowest tests, what failed, and the counts on the last line.

use std::fmt::Write;

use crate::junit::TestCase;
use crate::libtest::Tally;
use crate::step::{Step, Verdict};

const SLOWEST_SHOWN: usize = 10;

/// The whole report; its last line is `N passed, N failed`.
pub(crate) fn text(steps: &[Step], tests: &[TestCase], tally: Tally) -> String {
    let mut out = String::new();
    step_table(&mut out, steps);
    slowest_tests(&mut out, tests);
    failures(&mut out, steps, tests);
    let _ = writeln!(out, "\n{} passed, {} failed", tally.passed, tally.failed);
    out
}

fn step_table(out: &mut String, steps: &[Step]) {
    let _ = writeln!(out, "\n{:<11} {:>8}  result", "step", "seconds");
    for step in steps {
        let result = match step.verdict {
            Verdict::Passed => "ok".to_string(),
            Verdict::Failed => "FAILED".to_string(),
            Verdict::Skipped(why) => format!("skipped: {why}"),
        };
        let _ = writeln!(
            out,
            "{:<11} {:>8.1}  {result}",
            step.name,
            step.took.as_secs_f64()
        );
    }
}

fn slowest_tests(out: &mut String, tests: &[TestCase]) {
    if tests.is_empty() {
        return;
    }
    let mut by_time: Vec<&TestCase> = tests.iter().collect();
    by_time.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let _ = writeln!(out, "\nslowest tests");
    for test in by_time.iter().take(SLOWEST_SHOWN) {
        let _ = writeln!(out, "{:>8.2} s  {}", test.seconds, test.name);
    }
}

fn failures(out: &mut String, steps: &[Step], tests: &[TestCase]) {
    let failed_tests = tests.iter().filter(|test| !test.passed);
    let lines: Vec<String> = failed_tests
        .map(|test| format!("FAILED test {}", test.name))
        .chain(
            steps
                .iter()
                .filter(|step| step.verdict == Verdict::Failed)
                .map(|step| format!("FAILED step {}", step.name)),
        )
        .collect();
    if !lines.is_empty() {
        let _ = writeln!(out, "\n{}", lines.join("\n"));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn test_case(name: &str, seconds: f64, passed: bool) -> TestCase {
        TestCase {
            name: name.to_string(),
            seconds,
            passed,
        }
    }

    #[test]
    fn the_last_line_is_the_count_and_failures_stand_above_it() {
        let steps = [Step {
            name: "fmt",
            verdict: Verdict::Failed,
            took: Duration::from_millis(1500),
        }];
        let tests = [test_case("a", 0.1, true), test_case("b", 0.2, false)];
        let report = text(&steps, &tests, Tally { passed: 1, failed: 1 });
        assert_eq!(report.lines().last(), Some("1 passed, 1 failed"));
        assert!(
            report.contains("FAILED step fmt") && report.contains("FAILED test b"),
            "{report}"
        );
    }

    #[test]
    fn ten_tests_are_listed_slowest_first() {
        let tests: Vec<TestCase> = (0..12)
            .map(|i| test_case(&format!("t{i}"), f64::from(i), true))
            .collect();
        let report = text(&[], &tests, Tally::default());
        let listed: Vec<&str> = report.lines().filter(|line| line.contains(" s  t")).collect();
        assert_eq!(listed.len(), SLOWEST_SHOWN);
        assert!(listed[0].ends_with("t11"), "{listed:?}");
    }
}
