//! `cargo xtask soak`: the tests that take minutes or hours. Run by hand; keep what they print.
//!
//! Without more words kills at a user's size, in a release build. `soak cluster [--rounds N] [--seed S]` is chaos on real processes of a
//! cluster, whose machines check their invariants: a build for development. `soak lies` tells lies by the thousand to the check of each tile,
//! `soak resources` makes every call fail in turn.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::step::{self, Verdict};
use crate::{nats_server, workspace};

/// What the rounds on a cluster are told by.
const ROUNDS: &str = "TILEWORK_SOAK_ROUNDS";
const SEED: &str = "TILEWORK_SOAK_SEED";

/// Runs them and says whether all passed.
pub(crate) fn run(root: &Path) -> anyhow::Result<bool> {
    Ok(step::command(workspace::cargo(root, &test("soak", &["--release"])))? == Verdict::Passed)
}

/// Runs rounds of faults on a cluster and says whether all passed.
pub(crate) fn run_cluster(root: &Path, args: &[&str]) -> anyhow::Result<bool> {
    let settings = settings(args)?;
    let mut server: Option<PathBuf> = None;
    if nats_server::run(root, &mut server)? != Verdict::Passed {
        return Ok(false);
    }
    let mut command = workspace::cargo(root, &test("cluster_soak", &[]));
    command
        .envs(settings)
        .envs(server.map(|server| (nats_server::VARIABLE, server)));
    Ok(step::command(command)? == Verdict::Passed)
}

/// Makes every call to the disk fail in turn, and every system call of real processes, and says whether all passed.
pub(crate) fn run_resources(root: &Path) -> anyhow::Result<bool> {
    let tests = [("tilework-linalg", "faults"), ("tilework", "resources")];
    let mut passed = true;
    for (package, test) in tests {
        let words = [
            "test",
            "--package",
            package,
            "--examples",
            "--test",
            test,
            "--",
            "--nocapture",
        ];
        let mut command = workspace::cargo(root, &words);
        command.env("TILEWORK_FAULTS", "all");
        passed &= step::command(command)? == Verdict::Passed;
    }
    Ok(passed)
}

/// Tells lies and says whether all that are above the published detection limit were caught.
pub(crate) fn run_lies(root: &Path) -> anyhow::Result<bool> {
    let example = [
        "run",
        "--release",
        "--package",
        "tilework-linalg",
        "--features",
        "test-lies",
        "--example",
        "lies",
    ];
    Ok(step::command(workspace::cargo(root, &example))? == Verdict::Passed)
}

fn test<'a>(name: &'a str, profile: &[&'a str]) -> Vec<&'a str> {
    let of_package = [
        "--package",
        "tilework",
        "--features",
        "soak",
        "--test",
        name,
        "--",
        "--nocapture",
    ];
    [&["test"], profile, &of_package].concat()
}

/// Reads `--rounds N --seed S`.
fn settings(args: &[&str]) -> anyhow::Result<Vec<(&'static str, String)>> {
    let mut settings = Vec::new();
    for pair in args.chunks(2) {
        let &[name, value] = pair else {
            anyhow::bail!("`{}` lacks its number", pair[0]);
        };
        let variable = match name {
            "--rounds" => ROUNDS,
            "--seed" => SEED,
            _ => anyhow::bail!("`soak cluster` knows --rounds N and --seed S, not `{name}`"),
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
    fn rounds_and_seed_are_read_and_nothing_else() {
        let read = settings(&["--seed", "7", "--rounds", "20"]).unwrap();
        assert_eq!(read, [(SEED, "7".to_owned()), (ROUNDS, "20".to_owned())]);
        for bad in [&["--seed"][..], &["--seed", "x"], &["--round", "1"]] {
            assert!(settings(bad).is_err(), "{bad:?}");
        }
    }
}
