//! The process is killed, interrupted and stopped: what was committed is kept, and the next run gives the undisturbed
//! bytes.
//!
//! How far a run is, is read here from the journal on the disk and from the append-only log, never asked of the program.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tilework_core::limits::UNCOMMITTED_MAX;
use tilework_store::disk::RealDisk;
use tilework_store::journal::{JobFiles, Recovered, recover};

/// No wait of these tests is longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a process or a journal.
const LOOK: Duration = Duration::from_millis(1);
/// A worker holds one attempt that runs and the outputs of others that are not committed yet: its slots.
const SLOTS: u64 = UNCOMMITTED_MAX as u64 + 1;

/// So little memory that this product has dozens of tasks, of some milliseconds each.
const MULTIPLY: &str = "multiply A.npy B.npy -o C.npy --memory 15MiB";

/// A folder with A, B and runs of the program in it.
struct Stage {
    folder: TempDir,
}

impl Stage {
    fn new() -> Stage {
        let stage = Stage {
            folder: tempfile::tempdir().unwrap(),
        };
        stage.succeed("generate normal 2400x600 -o A.npy --seed 1");
        stage.succeed("generate normal 600x2400 -o B.npy --seed 2");
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, line: &str) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tilework"));
        command
            .args(line.split(' '))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TILEWORK_"))
        {
            command.env_remove(name);
        }
        Running(Some(
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        ))
    }

    /// Runs to the end, with success.
    fn succeed(&self, line: &str) -> Value {
        let output = self.start(&format!("{line} --json")).end();
        assert!(output.status.success(), "{line}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn journal(&self) -> Recovered {
        let files = JobFiles::beside(&self.path("C.npy"));
        // A run that ends compacts its segments: they may vanish while they are read.
        recover(&RealDisk, &files)
            .ok()
            .flatten()
            .map_or_else(Recovered::default, |(recovered, _)| recovered)
    }

    fn n_committed(&self) -> u64 {
        self.journal().commits.len() as u64
    }

    /// Waits until the journal holds `n` commits.
    fn wait_for_commits(&self, n: u64, running: &mut Running) {
        let deadline = Instant::now() + PATIENCE;
        while self.n_committed() < n {
            assert!(!running.has_ended(), "the run ended before {n} commits were seen");
            assert!(Instant::now() < deadline, "no {n} commits after {PATIENCE:?}");
            thread::sleep(LOOK); // waits: the next commit in the journal
        }
    }
}

/// A run of the program, which does not outlive the test.
struct Running(Option<Child>);

impl Running {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    fn has_ended(&mut self) -> bool {
        self.child().try_wait().unwrap().is_some()
    }

    fn signal(&mut self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(self.child());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end; what the program prints fits the pipes.
    fn end(mut self) -> Output {
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended() {
            assert!(Instant::now() < deadline, "still running after {PATIENCE:?}");
            thread::sleep(LOOK); // waits: the child's end
        }
        self.0.take().unwrap().wait_with_output().unwrap()
    }

    /// Kills without warning; `false` if the run had ended by itself.
    fn kill(mut self) -> bool {
        self.child().kill().unwrap();
        self.end().status.signal() == Some(9)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The product as a run gives it that nobody disturbs.
static UNDISTURBED: LazyLock<Undisturbed> = LazyLock::new(|| {
    let stage = Stage::new();
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
    let stage = Stage::new();
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
        let committed_before: BTreeSet<u64> =
            stage.journal().commits.keys().map(|(_, task)| task.0).collect();
        let n_before = committed_before.len() as u64;
        let n_started_before = started_tasks(&log).len();
        let mut running = stage.start(&line);
        // Every fifth kill comes whenever it comes, the start of the program included; the others once some tasks, but
        // not all that are left, are committed.
        if kill % 5 != 4 {
            let n_new = (1 + below(3)).min((n_tasks - n_before) / (N_KILLS - kill + 1));
            stage.wait_for_commits(n_before + n_new, &mut running);
        }
        let n_seen = stage.n_committed();
        thread::sleep(Duration::from_millis(below(20))); // waits: the random moment
        assert!(running.kill(), "kill {kill} came after the end");

        let n_after = stage.n_committed();
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
    }
    assert!(
        n_between >= 15,
        "only {n_between} kills came between a first and a last commit"
    );

    let n_kept = stage.n_committed();
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
    let stage = Stage::new();
    // Each worker has buffers of its own.
    let line = "multiply A.npy B.npy -o C.npy --memory 20MiB --workers 3";
    let n_tasks = stage.succeed(&format!("plan {line}"))["tasks"].as_u64().unwrap();
    assert!(n_tasks >= 30, "{n_tasks} tasks are too few for this test");
    let line = format!("{line} --log-file log");
    for kill in 1..=4 {
        let mut running = stage.start(&line);
        stage.wait_for_commits(kill * n_tasks / 6, &mut running);
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
    let stage = Stage::new();
    let n_tasks = UNDISTURBED.n_tasks;
    // The first stops a `multiply`, the others the `resume` of what the one before has left.
    let resume = "resume C.npy --memory 15MiB";
    for (signal, line) in [
        (Signal::INT, MULTIPLY),
        (Signal::TERM, resume),
        (Signal::HUP, resume),
    ] {
        let n_before = stage.n_committed();
        let mut running = stage.start(line);
        stage.wait_for_commits(n_before + 3, &mut running);
        let n_seen = stage.n_committed();
        running.signal(signal);
        let output = running.end();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{signal:?}: {text}");
        assert!(
            text.contains("next: go on with: tilework resume C.npy\n"),
            "{signal:?}: {text}"
        );
        assert!(output.stdout.is_empty());
        let n_kept = stage.n_committed();
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
    let n_kept = stage.n_committed();
    let report = stage.succeed(resume);
    assert_eq!(report["tasks_resumed"], n_kept);
    assert!(is_undisturbed(&stage));
}

#[test]
fn a_stopped_run_says_so_in_json() {
    let stage = Stage::new();
    let mut running = stage.start(&format!("{MULTIPLY} --json"));
    stage.wait_for_commits(1, &mut running);
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

#[test]
fn a_second_signal_stops_at_once_and_loses_nothing() {
    let stage = Stage::new();
    let mut running = stage.start(MULTIPLY);
    stage.wait_for_commits(2, &mut running);
    let n_seen = stage.n_committed();
    running.signal(Signal::INT);
    running.signal(Signal::TERM);
    assert_eq!(running.end().status.code(), Some(130));
    assert!(stage.n_committed() >= n_seen);
    stage.succeed(MULTIPLY);
    assert!(is_undisturbed(&stage));
}

#[test]
fn the_time_limit_stops_with_75_and_the_same_command_goes_on() {
    let stage = Stage::new();
    let mut limit = Duration::from_millis(200);
    let mut n_stops = 0;
    loop {
        let n_before = stage.n_committed();
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
        assert!(stage.n_committed() >= n_before, "a stop lost commits");
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
    let stage = Stage::new();
    for limit in ["1ms", "3ms", "6ms", "10ms", "15ms"] {
        let output = stage.start(&format!("{MULTIPLY} --time-limit {limit}")).end();
        assert_eq!(output.status.code(), Some(75), "{limit}: {output:?}");
    }
    stage.succeed(MULTIPLY);
    assert!(is_undisturbed(&stage));
}

#[test]
fn a_second_run_on_one_output_names_the_first() {
    let stage = Stage::new();
    let mut first = stage.start(MULTIPLY);
    stage.wait_for_commits(1, &mut first);
    let pid = first.child().id();
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
    let stage = Stage::new();
    let old = b"a file of somebody's";
    fs::write(stage.path("C.npy"), old).unwrap();
    let mut running = stage.start(&format!("{MULTIPLY} --overwrite"));
    stage.wait_for_commits(2, &mut running);
    assert!(running.kill());
    assert_eq!(fs::read(stage.path("C.npy")).unwrap(), old);
    let output = stage.start("verify C.npy").end();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let mut running = stage.start("resume C.npy --memory 15MiB");
    let n_before = stage.n_committed();
    stage.wait_for_commits(n_before + 1, &mut running);
    running.signal(Signal::INT);
    assert_eq!(running.end().status.code(), Some(130));
    assert_eq!(fs::read(stage.path("C.npy")).unwrap(), old);
    stage.succeed(MULTIPLY);
    assert!(is_undisturbed(&stage));

    // The same over a finished output of ours, whose journal goes first.
    let mut running = stage.start("multiply A.npy B.npy -o C.npy --memory 20MiB --overwrite");
    let deadline = Instant::now() + PATIENCE;
    while !stage.path("C.npy.tilework/000001.segment").exists() {
        assert!(!running.has_ended() && Instant::now() < deadline);
        thread::sleep(LOOK); // waits: the new run's first segment
    }
    assert!(running.kill());
    assert!(is_undisturbed(&stage), "the old output was touched");
    stage.succeed("resume C.npy");
    assert!(is_undisturbed(&stage));
}
