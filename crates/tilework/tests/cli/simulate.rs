//! `simulate`: the same answer to the same question, numbers that make sense, and refusals that name the option.

use crate::vocabulary::Folder;
use serde_json::Value;

const SMALL: &str = "simulate --workers 8 --worker-memory 1GiB --worker-gflops 100";
const PRODUCT: &str = "multiply 20000 20000 20000";

/// Lower quartile, median, upper quartile.
fn quartiles(answer: &Value, name: &str) -> [f64; 3] {
    serde_json::from_value(answer[name].clone()).unwrap()
}

#[test]
fn a_forecast_is_near_what_the_arithmetic_takes() {
    let json = Folder::new().done(&format!("{SMALL} {PRODUCT} --json")).json();
    let ideal = 2.0 * 20_000f64.powi(3) / (8.0 * 100e9);
    let [low, mid, high] = quartiles(&json, "seconds");
    assert!(
        ideal < low && low <= mid && mid <= high && high < 1.5 * ideal,
        "{json}"
    );
    assert_eq!(
        (&json["status"], &json["workers"], &json["seeds"]),
        (&"simulated".into(), &8.into(), &5.into())
    );
    assert_eq!(quartiles(&json, "workers_lost"), [0.0; 3]);
    let tile_bytes = json["tile_rows"].as_u64().unwrap() * json["tile_cols"].as_u64().unwrap() * 8;
    assert!(
        tile_bytes < 1 << 30 && json["tasks"].as_u64().unwrap() >= 8,
        "{json}"
    );
}

#[test]
fn the_same_question_has_the_same_answer() {
    let folder = Folder::new();
    for line in [
        format!("{SMALL} --mtbf 1h {PRODUCT}"),
        format!("{SMALL} --mtbf 1h --seeds 7 --assign round-robin {PRODUCT} --json"),
    ] {
        assert_eq!(folder.done(&line).stdout, folder.done(&line).stdout, "{line}");
    }
}

#[test]
fn failures_a_slow_worker_and_slow_storage_cost_time() {
    let folder = Folder::new();
    let median = |options: &str| {
        let json = folder.done(&format!("{SMALL} {options} {PRODUCT} --json")).json();
        quartiles(&json, "seconds")[1]
    };
    let undisturbed = median("");
    // Failures so frequent that each worker has some.
    assert!(median("--mtbf 10s") > 1.2 * undisturbed);
    assert!(median("--store-bandwidth 200MB/s") > 2.0 * undisturbed);
    // By turns the slow worker is waited for; by load the others do most of its share.
    let (dynamic, by_turns) = (
        median("--one-slow 4"),
        median("--one-slow 4 --assign round-robin"),
    );
    assert!(
        undisturbed < dynamic && 1.5 * dynamic < by_turns,
        "{undisturbed} {dynamic} {by_turns}"
    );
}

#[test]
fn people_read_medians_and_are_told_of_workers_without_a_task() {
    let folder = Folder::new();
    let answer = folder.done(&format!("{SMALL} --mtbf 1h {PRODUCT}"));
    for words in [
        "simulated: C (20000 x 20000)",
        "on 8 workers",
        "bounded by arithmetic",
        "medians of 5 runs",
        "quartiles",
    ] {
        assert!(answer.stdout.contains(words), "`{words}` is not in {answer:?}");
    }
    let few = folder.done(&format!("simulate --workers 500 --worker-memory 1GiB --worker-gflops 100 --store-bandwidth 1GB/s --seeds 1 {PRODUCT}"));
    assert!(
        few.stdout.contains("  idle     ") && few.stdout.contains("one run;"),
        "{few:?}"
    );
}

#[test]
fn what_makes_no_sense_is_refused_with_an_example() {
    let folder = Folder::new();
    let all = |workers: &str, memory: &str, gflops: &str, options: &str| {
        format!(
            "simulate --workers {workers} --worker-memory {memory} --worker-gflops {gflops} {options} {PRODUCT}"
        )
    };
    for (line, code, words) in [
        (all("0", "1GiB", "100", ""), 2, "--workers"),
        (all("8", "1024B", "100", ""), 3, "--worker-memory 16GiB"),
        (all("8", "0", "100", ""), 2, "2GiB"),
        (all("8", "1GiB", "0", ""), 2, "for example 150"),
        (all("8", "1GiB", "fast", ""), 2, "for example 150"),
        (all("8", "1GiB", "2TF/s", ""), 2, "for example 150"),
        (all("8", "1GiB", "nan", ""), 2, "for example 150"),
        (
            all("8", "1GiB", "100", "--store-bandwidth 100"),
            2,
            "for example 2GB/s",
        ),
        (
            all("8", "1GiB", "100", "--store-bandwidth 2GB/h"),
            2,
            "for example 2GB/s",
        ),
        (all("8", "1GiB", "100", "--mtbf 500"), 2, "1h30m"),
        (all("8", "1GiB", "100", "--seeds 0"), 2, "--seeds"),
        (
            all("8", "1GiB", "100", "--store-bandwidth 1B/s"),
            3,
            "--store-bandwidth",
        ),
        (all("8", "1GiB", "0.000001", ""), 3, "--worker-gflops"),
        ("simulate multiply 2 2 2".to_owned(), 2, "--workers"),
        (format!("{SMALL} multiply 0 2 2"), 2, "M"),
        (format!("{SMALL} multiply 2 2"), 2, "N"),
    ] {
        folder.run(&line).fails(code, &[words]);
    }
}
