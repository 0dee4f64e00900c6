//! `cargo xtask chaos [--minutes N] [--seed S]`: faults on the real processes of a cluster, for as long as it is told to, by default the two
//! minutes of the normal tests. The machines check their invariants: a build for development. Run by hand for an hour; keep what it prints.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::step::{self, Verdict};
use crate::{nats_server, workspace};

/// What the test is told by.
const MINUTES: &str = "TILEWORK_CHAOS_MINUTES";
const SEED: &str = "TILEWORK_CHAOS_SEED";

/// Runs rounds of faults and says whether all passed.
pub(crate) fn run(root: &Path, args: &[&str]) -> anyhow::Result<bool> {
    let settings = settings(args)?;
    let mut server: Option<PathBuf> = None;
    if nats_server::run(root, &mut server)? != Verdict::Passed {
        return Ok(false);
    }
    // All that a test may run, which are the examples too.
    let program = ["build", "--package", "tilework", "--bins", "--example", "relay"];
    if step::command(workspace::cargo(root, &program))? != Verdict::Passed {
        return Ok(false);
    }
    let test = [
        "test",
        "--package",
        "tilework",
        "--test",
        "chaos",
        "--",
        "--nocapture",
    ];
    let mut command = workspace::cargo(root, &test);
    command
        .envs(settings)
        .envs(server.map(|server| (nats_server::VARIABLE, server)));
    Ok(step::command(command)? == Verdict::Passed)
}

/// Reads `--minutes N --seed S`.
fn settings(args: &[&str]) -> anyhow::Result<Vec<(&'static str, String)>> {
    let mut settings = Vec::new();
    for pair in args.chunks(2) {
        let &[name, value] = pair else {
            anyhow::bail!("`{}` lacks its number", pair[0]);
        };
        let variable = match name {
            "--minutes" => MINUTES,
            "--seed" => SEED,
            _ => anyhow::bail!("`chaos` knows --minutes N and --seed S, not `{name}`"),
        };
        let number: u64 = value.parse().with_context(|| format!("{name} {value}"))?;
        settings.push((variable, number.to_string()));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_and_seed_are_read_and_nothing_else() {
        let read = settings(&["--seed", "7", "--minutes", "60"]).unwrap();
        assert_eq!(read, [(SEED, "7".to_owned()), (MINUTES, "60".to_owned())]);
        for bad in [&["--seed"][..], &["--seed", "x"], &["--rounds", "1"]] {
            assert!(settings(bad).is_err(), "{bad:?}");
        }
    }
}
