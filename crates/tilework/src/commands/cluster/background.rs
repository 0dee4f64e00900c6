//! `up --detach`: this program once more, without a terminal; it says on a pipe when the cluster is ready, or why it is not.

use super::preparation::Preparation;
use super::started::Started;
use super::{log_file, up_lock};
use crate::args::cluster::UpArgs;
use crate::failure::{CliError, Exit};
use crate::output::Output;
use crate::{own_program, signals};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::failure::StopCause;
use tilework_runtime::StopSwitch;

/// Longer than the background process itself waits for anything before it is ready.
const ANSWER_WAIT: Duration = Duration::from_secs(90);
/// Longer than it takes to stop its processes.
const END_WAIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// Starts `up` in the background and waits until it is ready.
///
/// # Errors
/// Its own, if it does not get ready; then nothing is left of it.
pub(super) fn start(args: &UpArgs, preparation: &Preparation, output: &Output) -> Result<(), CliError> {
    let cluster = &preparation.cluster;
    if let Some(owner) = up_lock::holder(cluster)? {
        return Err(up_lock::runs_already(cluster.path(), owner.as_ref()));
    }
    let stop = StopSwitch::default();
    let _signals = signals::stop_on_signals(&stop, output)?;
    let log_path = cluster.path().join("logs/up.log");
    let log =
        log_file::open(&log_path).map_err(|error| CliError::io("open the log file", &log_path, &error))?;
    let mut child = command(args, preparation)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|error| CliError::io("start", &own_program::path(), &error))?;
    let answer = match answer(&mut child, &stop) {
        Ok(answer) => answer,
        Err(error) => {
            end(&mut child);
            return Err(error);
        }
    };
    if let Ok(started) = serde_json::from_value::<Started>(answer.clone()) {
        return output.result(answer, |out| started.describe(out));
    }
    let status = child.wait();
    if answer["error"].is_string() {
        return Err(failure_of(answer));
    }
    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
    Err(ended_silently(&status, &log_path))
}

/// `cluster up` with the same options.
fn command(args: &UpArgs, preparation: &Preparation) -> Command {
    let mut command = own_program::command();
    command.args(["cluster", "up", "--in-background", "--json", "-v"]);
    let numbers = [
        ("--workers", args.workers.map(u64::from)),
        ("--threads", args.threads.map(u64::from)),
        ("--memory", args.memory),
    ];
    for (option, value) in numbers {
        if let Some(value) = value {
            command.arg(option).arg(value.to_string());
        }
    }
    for root in &preparation.data_roots {
        let mut named = OsString::from(format!("{}=", root.name));
        named.push(&root.dir);
        command.arg("--data-root").arg(named);
    }
    command.arg("--").arg(&args.dir);
    command
}

/// The one line that it prints; no line at all becomes `null`.
fn answer(child: &mut Child, stop: &StopSwitch) -> Result<Value, CliError> {
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        // It ends with the line, or with the process.
        thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(line);
        });
    }
    let until = Instant::now() + ANSWER_WAIT;
    loop {
        match receiver.recv_timeout(LOOK) {
            Ok(line) => return Ok(serde_json::from_str(&line).unwrap_or_default()),
            Err(RecvTimeoutError::Disconnected) => return Ok(Value::Null),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if stop.requested().is_some() {
            let text = "interrupted before the cluster was ready";
            return Err(CliError::stopped(StopCause::Interrupted, text));
        }
        if Instant::now() >= until {
            let text = format!(
                "the background process said nothing within {} s",
                ANSWER_WAIT.as_secs()
            );
            return Err(CliError::new(Exit::JobFailed, text));
        }
    }
}

/// Stops it as `cluster down` would, at once if that takes too long.
fn end(child: &mut Child) {
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
    let until = Instant::now() + END_WAIT;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
        thread::sleep(LOOK);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// The background process's failure is this one's.
fn failure_of(answer: Value) -> CliError {
    let exits = [Exit::Usage, Exit::Resources, Exit::JobFailed, Exit::Interrupted];
    let exit = exits.into_iter().find(|exit| answer["exit_code"] == exit.code());
    let message = answer["error"].as_str().unwrap_or_default();
    let error = CliError::new(exit.unwrap_or(Exit::JobFailed), message);
    match answer["next"].as_str() {
        Some(next) => error.with_next(next).with_facts(answer.clone()),
        None => error.with_facts(answer),
    }
}

fn ended_silently(status: &str, log: &Path) -> CliError {
    let message = format!(
        "the background process ended ({status}); its log `{}` ends: {}",
        log.display(),
        log_file::end_of(log)
    );
    CliError::new(Exit::JobFailed, message).with_next("try without `--detach`, to see what it says")
}
