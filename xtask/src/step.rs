//! One step of `cargo xtask test`: a name, a verdict and the time it took.
//!
//! A step that fails does not stop the ones after it: one run tells everything that is wrong.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
    Skipped(&'static str),
}

impl Verdict {
    pub(crate) fn of(success: bool) -> Verdict {
        if success { Verdict::Passed } else { Verdict::Failed }
    }
}

/// A finished step, as the table at the end shows it.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
}

/// Announces `name`, does `work` and notes how long it took.
pub(crate) fn timed(
    name: &'static str,
    work: impl FnOnce() -> anyhow::Result<Verdict>,
) -> anyhow::Result<Step> {
    println!("\n=== {name}");
    let started = Instant::now();
    let verdict = work().with_context(|| format!("step `{name}`"))?;
    Ok(Step {
        name,
        verdict,
        took: started.elapsed(),
    })
}

/// Runs `command` with its output going where ours goes.
pub(crate) fn command(mut command: Command) -> anyhow::Result<Verdict> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    Ok(Verdict::of(status.success()))
}

/// Runs `command`, passes each line of its standard output on and shows it to `each_line`.
pub(crate) fn command_lines(
    mut command: Command,
    mut each_line: impl FnMut(&str),
) -> anyhow::Result<Verdict> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let stdout = child.stdout.take().context("standard output was piped")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        each_line(&line);
    }
    Ok(Verdict::of(child.wait()?.success()))
}
