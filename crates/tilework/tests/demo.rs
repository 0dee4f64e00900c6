//! `demo` shows what it says, and leaves nothing behind.

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// No wait of these tests is longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(1);

/// The program, killed when dropped.
struct Running(Option<Child>);

impl Running {
    /// Starts `line` with `temporary` as the folder for temporary files.
    fn start(line: &str, temporary: &Path) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tilework"));
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TILEWORK_"))
        {
            command.env_remove(name);
        }
        command
            .args(line.split(' '))
            .env("TMPDIR", temporary)
            .stdin(Stdio::null());
        Running(Some(
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        ))
    }

    fn has_ended(&mut self) -> bool {
        self.0.as_mut().unwrap().try_wait().unwrap().is_some()
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
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn it_kills_resumes_verifies_and_cleans_up() {
    let temporary = tempfile::tempdir().unwrap();
    let output = Running::start("demo --size 1024 --json", temporary.path()).end();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (json["status"].as_str(), json["size"].as_u64()),
        (Some("done"), Some(1024))
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
    let output = Running::start("demo --size 1024", temporary.path()).end();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    let steps = [
        "1. two 1024 x 1024",
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
    let mut running = Running::start("demo --size 3000 --json", temporary.path());
    let deadline = Instant::now() + PATIENCE;
    while is_empty(temporary.path()) {
        assert!(
            !running.has_ended() && Instant::now() < deadline,
            "the demo made no folder"
        );
        thread::sleep(LOOK); // waits: the demo's folder, and with it the handling of signals soon after
    }
    thread::sleep(Duration::from_millis(50)); // waits: the signal handler, which shows nowhere outside
    let pid = rustix::process::Pid::from_child(running.0.as_ref().unwrap());
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = running.end();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(
        is_empty(temporary.path()),
        "something is left in the temporary folder"
    );
}
