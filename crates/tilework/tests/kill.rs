//! The process is killed, interrupted and stopped: what was committed is kept, and the next run gives the undisturbed
//! bytes.
//!
//! How far a run is, is read here from the journal on the disk and from the append-only log, never asked of the program.

#![expect(clippy::print_stdout, reason = "what a kill costs is kept with the results")]

mod common;

use common::{PATIENCE, Running, Stage};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::limits::UNCOMMITTED_MAX;

/// A worker holds one attempt that runs and the outputs of others that are not committed yet: its slots.
const SLOTS: u64 = UNCOMMITTED_MAX as u64 + 1;

/// So little memory that this product has dozens of tasks, of some milliseconds each.
const MULTIPLY: &str = "multiply A.npy B.npy -o C.npy --memory 15MiB";

/// A folder with A and B.
fn stage() -> Stage {
    Stage::with_inputs("2400x600", "600x2400", "")
}

/// The product as a run gives it that nobody disturbs.
static UNDISTURBED: LazyLock<Undisturbed> = LazyLock::new(|| {
    let stage = stage();
    let report = stage.succeed(MULTIPLY);
    Undisturbed {
        bytes: fs::read(stage.path("C.npy")).unwrap(),
        n_tasks: report["tasks"].as_u64().unwrap(),
    }
});

struct Undisturbed {
    bytes: Vec<u8>,
    n_tasks: u64,
}

/// Whether C is what an undisturbed run makes of A and B.
fn is_undisturbed(stage: &Stage) -> bool {
    fs::read(stage.path("C.npy")).unwrap() == UNDISTURBED.bytes
}

/// The tasks of all attempts that were ever started, oldest first, by the log.
fn started_tasks(log: &Path) -> Vec<u64> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let starts = text.lines().filter(|line| line.contains(": started task="));
    starts
        .map(|line| {
            line.split("task=")
                .nth(1)
                .unwrap()
                .split(' ')
                .next()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect()
}

#[test]
fn twenty_kills_at_random_moments_cost_only_the_tasks_in_flight() {
    const N_KILLS: u64 = 20;
    let stage = stage();
    let n_tasks = UNDISTURBED.n_tasks;
    let plan = stage.succeed(&format!("plan {MULTIPLY}"));
    assert_eq!(plan["tasks"], n_tasks);
    assert!(n_tasks >= 30, "{n_tasks} tasks are too few for this test: {plan}");

    let log = stage.path("log");
    let line = format!("{MULTIPLY} --log-file log");
    let mut random = ChaCha8Rng::seed_from_u64(20);
    let mut below = |n: u64| u64::from(random.next_u32()) % n;
    let mut n_between = 0;
    for kill in 0..N_KILLS {
        let committed_before: BTreeSet<u64> = stage
            .journal("C.npy")
            .unwrap_or_default()
            .commits
            .keys()
            .map(|(_, task)| task.0)
            .collect();
        let n_before = committed_before.len() as u64;
        let n_started_before = started_tasks(&log).len();
        let started_at = Instant::now();
        let mut running = stage.start(&line);
        let mut recovered = None;
        // Every fifth kill comes whenever it comes, the start of the program included; the others once some tasks, but
        // not all that are left, are committed.
        if kill % 5 != 4 {
            let n_new = (1 + below(3)).min((n_tasks - n_before) / (N_KILLS - kill + 1));
            stage.wait_for_commits("C.npy", n_before + n_new.min(1), &mut running);
            recovered = (kill > 0 && n_new > 0).then(|| started_at.elapsed().as_millis() as u64);
            stage.wait_for_commits("C.npy", n_before + n_new, &mut running);
        }
        let n_seen = stage.n_committed("C.npy");
        thread::sleep(Duration::from_millis(below(20))); // waits: the random moment
        assert!(running.kill(), "kill {kill} came after the end");

        let n_after = stage.n_committed("C.npy");
        assert!(
            n_seen <= n_after,
            "kill {kill} lost commits: {n_seen}, then {n_after}"
        );
        assert!(!stage.path("C.npy").exists(), "kill {kill} left an output");
        n_between += u64::from(n_seen > 0 && n_after < n_tasks);
        let started = started_tasks(&log).split_off(n_started_before);
        for task in &started {
            assert!(
                !committed_before.contains(task),
                "task {task} was committed, and ran again before kill {kill}"
            );
        }
        let n_lost = started.len() as u64 - (n_after - n_before);
        assert!(n_lost <= SLOTS, "kill {kill} cost {n_lost} tasks");
        let cost = json!({"row": "process-killed", "recovered_ms": recovered, "attempts_lost": n_lost});
        println!("measured {cost}");
    }
    assert!(
        n_between >= 15,
        "only {n_between} kills came between a first and a last commit"
    );

    let n_kept = stage.n_committed("C.npy");
    let report = stage.succeed(&line);
    assert_eq!(report["tasks_resumed"], n_kept);
    assert_eq!(report["tasks_run"], n_tasks - n_kept);
    assert!(is_undisturbed(&stage), "other bytes than without kills");
    let started = started_tasks(&log);
    let n_started = started.len() as u64;
    assert!(
        n_started <= n_tasks + N_KILLS * SLOTS,
        "{n_started} executions of {n_tasks} tasks"
    );
    let distinct: BTreeSet<u64> = started.into_iter().collect();
    assert!(
        distinct.into_iter().eq(0..n_tasks),
        "the log does not hold every task"
    );
}

#[test]
fn three_workers_are_killed_and_go_on() {
    let stage = stage();
    // Each worker has buffers of its own.
    let line = "multiply A.npy B.npy -o C.npy --memory 20MiB --workers 3";
    let n_tasks = stage.succeed(&format!("plan {line}"))["tasks"].as_u64().unwrap();
    assert!(n_tasks >= 30, "{n_tasks} tasks are too few for this test");
    let line = format!("{line} --log-file log");
    for kill in 1..=4 {
        let mut running = stage.start(&line);
        stage.wait_for_commits("C.npy", kill * n_tasks / 6, &mut running);
        assert!(running.kill());
    }
    stage.succeed(&line);
    assert!(
        is_undisturbed(&stage),
        "other bytes than one undisturbed worker's"
    );
    let n_started = started_tasks(&stage.path("log")).len() as u64;
    assert!(
        n_started <= n_tasks + 4 * 3 * SLOTS,
        "{n_started} executions of {n_tasks} tasks"
    );
}

#[test]
fn signals_stop_cleanly_and_print_how_to_go_on() {
    let stage = stage();
    let n_tasks = UNDISTURBED.n_tasks;
    // The first stops a `multiply`, the others the `resume` of what the one before has left.
    let resume = "resume C.npy --memory 15MiB";
    for (signal, line) in [
        (Signal::INT, MULTIPLY),
        (Signal::TERM, resume),
        (Signal::HUP, resume),
    ] {
        let n_before = stage.n_committed("C.npy");
        let mut running = stage.start(line);
        stage.wait_for_commits("C.npy", n_before + 3, &mut running);
        let n_seen = stage.n_committed("C.npy");
        running.signal(signal);
        let output = running.end();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{signal:?}: {text}");
        assert!(
            text.contains("next: go on with: tilework resume C.npy\n"),
            "{signal:?}: {text}"
        );
        assert!(output.stdout.is_empty());
        let n_kept = stage.n_committed("C.npy");
        assert!(
            n_seen <= n_kept && n_kept < n_tasks,
            "{signal:?}: {n_seen} seen, {n_kept} of {n_tasks} kept"
        );
        assert!(
            text.contains(&format!("{n_kept} committed tasks are kept")),
            "{signal:?}: {text}"
        );
        assert!(!stage.path("C.npy").exists());
    }
    let n_kept = stage.n_committed("C.npy");
    let report = stage.succeed(resume);
    assert_eq!(report["tasks_resumed"], n_kept);
    assert!(is_undisturbed(&stage));
}

#[test]
fn a_stopped_run_says_so_in_json() {
    let stage = stage();
    let mut running = stage.start(&format!("{MULTIPLY} --json"));
    stage.wait_for_commits("C.npy", 1, &mut running);
    running.signal(Signal::TERM);
    let output = running.end();
    assert_eq!(output.status.code(), Some(130));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (json["status"].as_str(), json["exit_code"].as_u64()),
        (Some("stopped"), Some(130))
    );
    assert_eq!(json["next"], "go on with: tilework resume C.npy");
}

/// A clean stop would wait for the store, and say how to go on. (Only builds for development can be told that their store is slow.)
#[test]
fn a_second_signal_stops_at_once_and_loses_nothing() {
    const STORE_TAKES: Duration = Duration::from_secs(5);
    let stage = stage();
    let mut command = stage.command(MULTIPLY);
    command.env("TILEWORK_TEST_SLOW_STORE", stage.path("slow-store"));
    let mut running = Running::start(command);
    stage.wait_for_commits("C.npy", 2, &mut running);
    let n_seen = stage.n_committed("C.npy");
    fs::write(stage.path("slow-store"), STORE_TAKES.as_millis().to_string()).unwrap();
    thread::sleep(Duration::from_millis(200)); // waits: until a call is slow
    running.signal(Signal::INT);
    running.signal(Signal::TERM);
    let signalled = Instant::now();
    let output = running.end();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(
        signalled.elapsed() < STORE_TAKES - Duration::from_secs(1),
        "{text}"
    );
    assert!(
        text.contains("once more to stop at once") && !text.contains("tilework resume"),
        "{text}"
    );
    assert!(stage.n_committed("C.npy") >= n_seen);
    stage.succeed(MULTIPLY);
    assert!(is_undisturbed(&stage));
}

#[test]
fn the_time_limit_stops_with_75_and_the_same_command_goes_on() {
    let stage = stage();
    let mut limit = Duration::from_millis(200);
    let mut n_stops = 0;
    loop {
        let n_before = stage.n_committed("C.npy");
        let output = stage
            .start(&format!("{MULTIPLY} --time-limit {}ms", limit.as_millis()))
            .end();
        if output.status.success() {
            break;
        }
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(75), "{text}");
        assert!(
            text.contains("next: go on with: tilework resume C.npy\n"),
            "{text}"
        );
        assert!(!stage.path("C.npy").exists());
        assert!(stage.n_committed("C.npy") >= n_before, "a stop lost commits");
        n_stops += 1;
        // On a slow machine a short limit may not suffice for a single task.
        limit = limit * 3 / 2;
        assert!(limit < PATIENCE);
    }
    assert!(
        n_stops > 0,
        "the limit never came: this test needs a longer product"
    );
    assert!(is_undisturbed(&stage));
}

/// The run used to hang here: it ended before its workers had said that they were there.
#[test]
fn r2_a_time_limit_that_is_over_at_the_start_stops_at_once() {
    let stage = stage();
    for limit in ["1ms", "3ms", "6ms", "10ms", "15ms"] {
        let output = stage.start(&format!("{MULTIPLY} --time-limit {limit}")).end();
        assert_eq!(output.status.code(), Some(75), "{limit}: {output:?}");
    }
    stage.succeed(MULTIPLY);
    assert!(is_undisturbed(&stage));
}

#[test]
fn a_second_run_on_one_output_names_the_first() {
    let stage = stage();
    let mut first = stage.start(MULTIPLY);
    stage.wait_for_commits("C.npy", 1, &mut first);
    let pid = first.pid();
    let mut texts = Vec::new();
    for line in [MULTIPLY, "resume C.npy", &format!("{MULTIPLY} --restart")] {
        let output = stage.start(line).end();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {text}");
        assert!(text.contains("`C.npy`"), "{line}: {text}");
        assert!(text.contains(&format!("process {pid} ")), "{line}: {text}");
        texts.push(text);
    }
    // The first did not notice.
    assert!(first.end().status.success());
    assert!(is_undisturbed(&stage));
    for text in texts {
        assert!(text.contains("\n  next: "), "no next step in: {text}");
    }
}

#[test]
fn an_overwrite_keeps_the_old_file_until_the_new_one_is_complete() {
    let stage = stage();
    let old = b"a file of somebody's";
    fs::write(stage.path("C.npy"), old).unwrap();
    let mut running = stage.start(&format!("{MULTIPLY} --overwrite"));
    stage.wait_for_commits("C.npy", 2, &mut running);
    assert!(running.kill());
    assert_eq!(fs::read(stage.path("C.npy")).unwrap(), old);
    let output = stage.start("verify C.npy").end();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let mut running = stage.start("resume C.npy --memory 15MiB");
    let n_before = stage.n_committed("C.npy");
    stage.wait_for_commits("C.npy", n_before + 1, &mut running);
    running.signal(Signal::INT);
    assert_eq!(running.end().status.code(), Some(130));
    assert_eq!(fs::read(stage.path("C.npy")).unwrap(), old);
    stage.succeed(MULTIPLY);
    assert!(is_undisturbed(&stage));

    // The same over a finished output of ours, whose journal goes first.
    let mut running = stage.start("multiply A.npy B.npy -o C.npy --memory 20MiB --overwrite");
    // A finished job has none; that of the next one is not the first again, for epochs go on. An empty one only keeps count.
    let segments = || {
        let names = fs::read_dir(stage.path("C.npy.tilework")).unwrap();
        names
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.len() > 0))
            .map(|entry| entry.file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".segment"))
            .collect::<Vec<_>>()
    };
    running.wait_until("the new run's first segment", || !segments().is_empty());
    assert!(!segments().contains(&"000001.segment".to_owned()));
    assert!(running.kill());
    assert!(is_undisturbed(&stage), "the old output was touched");
    stage.succeed("resume C.npy");
    assert!(is_undisturbed(&stage));
}
