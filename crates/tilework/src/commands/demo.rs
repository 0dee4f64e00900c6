//! `demo`: multiplies two matrices in a temporary folder, kills the process half way, resumes, verifies, and cleans up.
//!
//! It runs this very program as its children, so what is shown is what a user gets.

use crate::args::inspect::DemoArgs;
use crate::failure::{CliError, Exit};
use crate::output::Output;
use crate::{human, own_program, signals};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tilework_core::failure::StopCause;
use tilework_runtime::{FolderState, StopSwitch, folder};
use tilework_store::disk::RealDisk;
use tilework_store::journal::JobFiles;

/// Less than the matrices of the default size need, so that the demo also shows a product larger than its memory.
const MEMORY: &str = "48MiB";
/// How often the demo looks at its child.
const LOOK: Duration = Duration::from_millis(2);

/// Runs the command.
pub fn run(args: &DemoArgs, output: &Output) -> Result<(), CliError> {
    let folder = tempfile::Builder::new().prefix("tilework-demo-").tempdir();
    let folder =
        folder.map_err(|error| CliError::io("make a temporary folder in", &std::env::temp_dir(), &error))?;
    let stop = StopSwitch::default();
    let _signals = signals::stop_on_signals(&stop, output)?;
    let stage = Stage {
        folder: folder.path(),
        output,
        stop,
        size: args.size,
    };
    let shown = stage.play()?;
    let path = folder.path().to_path_buf();
    folder
        .close()
        .map_err(|error| CliError::io("remove", &path, &error))?;
    output.note("6. removed the temporary folder");
    output.report(shown.json(args.size), |out| shown.describe(out))
}

/// What the demo has to work with.
struct Stage<'a> {
    folder: &'a Path,
    output: &'a Output,
    stop: StopSwitch,
    size: u64,
}

/// What was shown.
struct Shown {
    n_tasks_killed_at: u64,
    report: Value,
    verification: Value,
}

impl Stage<'_> {
    fn play(&self) -> Result<Shown, CliError> {
        self.make_inputs()?;
        let n_tasks = self.show_plan()?;
        let n_tasks_killed_at = self.kill_half_way(n_tasks)?;
        let report = self.resume()?;
        self.output.note("5. tilework verify A.npy B.npy C.npy");
        let verification = self.run_for_json(&["verify", "A.npy", "B.npy", "C.npy"])?;
        Ok(Shown {
            n_tasks_killed_at,
            report,
            verification,
        })
    }

    fn make_inputs(&self) -> Result<(), CliError> {
        let shape = format!("{0}x{0}", self.size);
        let n_bytes = self.size * self.size * 8;
        self.output.note(&format!(
            "1. two {} x {} matrices ({} each) in {}",
            self.size,
            self.size,
            human::bytes(n_bytes),
            self.folder.display()
        ));
        for (name, seed) in [("A.npy", "1"), ("B.npy", "2")] {
            self.run_for_json(&["generate", "normal", &shape, "-o", name, "--seed", seed])?;
        }
        Ok(())
    }

    fn show_plan(&self) -> Result<u64, CliError> {
        self.output.note(&format!(
            "2. tilework plan multiply A.npy B.npy --memory {MEMORY}"
        ));
        let plan = self.run_for_json(&["plan", "multiply", "A.npy", "B.npy", "--memory", MEMORY])?;
        let number = |name: &str| plan[name].as_u64().unwrap_or_default();
        self.output.note(&format!(
            "   {} tasks of up to {} x {}, {} of memory at most, about {}",
            number("tasks"),
            number("tile_rows"),
            number("tile_cols"),
            human::bytes(number("memory_planned_bytes")),
            human::seconds(plan["seconds"].as_f64().unwrap_or_default()),
        ));
        Ok(number("tasks"))
    }

    /// Starts the multiplication and kills it without warning once half of its tasks are committed.
    fn kill_half_way(&self, n_tasks: u64) -> Result<u64, CliError> {
        self.output.note(&format!(
            "3. tilework multiply A.npy B.npy -o C.npy --memory {MEMORY}"
        ));
        let words = [
            "multiply", "A.npy", "B.npy", "-o", "C.npy", "--memory", MEMORY, "--quiet",
        ];
        let mut child = self
            .command(&words)
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| self.cannot_start(&error))?;
        let half = n_tasks.div_ceil(2);
        let files = JobFiles::beside(&self.folder.join("C.npy"));
        let n_committed = self.watch(&mut child, || {
            let state = folder::inspect(&RealDisk, &files);
            let n_committed = match state {
                Ok(FolderState::Unfinished(recovered)) => recovered.commits.len() as u64,
                _ => 0,
            };
            (n_committed >= half).then_some(n_committed)
        })?;
        let _ = child.kill();
        let _ = child.wait();
        let Some(n_committed) = n_committed else {
            let message = "the multiplication ended before it could be killed half way";
            return Err(CliError::new(Exit::JobFailed, message)
                .with_next("try a larger one: tilework demo --size 8192"));
        };
        self.output.note(&format!(
            "   killed (SIGKILL) after {n_committed} of {n_tasks} tasks; C.npy does not exist yet"
        ));
        Ok(n_committed)
    }

    fn resume(&self) -> Result<Value, CliError> {
        self.output.note("4. the same command again");
        let report = self.run_for_json(&["multiply", "A.npy", "B.npy", "-o", "C.npy", "--memory", MEMORY])?;
        let number = |name: &str| report[name].as_u64().unwrap_or_default();
        self.output.note(&format!(
            "   {} tasks kept, {} run, every tile read back and checked; {:.1} GF/s, {} peak memory",
            number("tasks_resumed"),
            number("tasks_run"),
            report["gflops"].as_f64().unwrap_or_default(),
            human::bytes(number("memory_peak_bytes")),
        ));
        Ok(report)
    }

    /// This program with other arguments, in the demo's folder.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = own_program::command();
        command
            .args(words.iter().map(OsStr::new))
            .current_dir(self.folder)
            .stdin(Stdio::null());
        command
    }

    fn cannot_start(&self, error: &std::io::Error) -> CliError {
        CliError::new(
            Exit::JobFailed,
            format!("the demo cannot start `tilework` as its child: {error}"),
        )
    }

    /// Runs a child with `--json` and returns what it prints; a failure of the child is the demo's.
    fn run_for_json(&self, words: &[&str]) -> Result<Value, CliError> {
        let mut command = self.command(words);
        let mut child = command
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| self.cannot_start(&error))?;
        self.watch(&mut child, || None::<()>)?;
        let finished = child
            .wait_with_output()
            .map_err(|error| self.cannot_start(&error))?;
        let value: Value = serde_json::from_slice(&finished.stdout).unwrap_or_default();
        if finished.status.success() {
            return Ok(value);
        }
        let why = value["error"]
            .as_str()
            .map_or_else(|| finished.status.to_string(), str::to_owned);
        Err(CliError::new(
            Exit::JobFailed,
            format!("`tilework {}` failed: {why}", words[0]),
        ))
    }

    /// Waits until the child ends (`None`) or `found` has an answer; ends both when the user wants to stop.
    fn watch<R>(
        &self,
        child: &mut Child,
        mut found: impl FnMut() -> Option<R>,
    ) -> Result<Option<R>, CliError> {
        loop {
            if self.stop.requested().is_some() {
                let _ = child.kill();
                let _ = child.wait();
                return Err(CliError::stopped(
                    StopCause::Interrupted,
                    "the demo was interrupted",
                ));
            }
            if let Some(answer) = found() {
                return Ok(Some(answer));
            }
            if child.try_wait().is_ok_and(|status| status.is_some()) {
                return Ok(None);
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Shown {
    fn json(&self, size: u64) -> Value {
        json!({
            "status": "done",
            "size": size,
            "tasks_at_kill": self.n_tasks_killed_at,
            "multiply": self.report,
            "verify": self.verification,
        })
    }

    fn describe(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        let matrices = 3 * self.report["m"].as_u64().unwrap_or_default().pow(2) * 8;
        let peak = self.report["memory_peak_bytes"].as_u64().unwrap_or_default();
        writeln!(out, "\nWhat you saw:")?;
        writeln!(
            out,
            "- {} of matrices multiplied file to file in {} of memory, as planned",
            human::bytes(matrices),
            human::bytes(peak)
        )?;
        writeln!(
            out,
            "- a kill without warning cost the tasks in flight, nothing that was committed"
        )?;
        let residual = self.verification["residual_max"].as_f64().unwrap_or_default();
        let bound = self.verification["residual_bound"].as_f64().unwrap_or_default();
        writeln!(
            out,
            "- every tile was checked before it was committed, and the whole product again: residual {residual:.1e}, bound {bound:.1e}"
        )?;
        writeln!(out, "Yours: tilework multiply A.npy B.npy -o C.npy")
    }
}
