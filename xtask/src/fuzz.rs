//! `cargo xtask soak fuzz [--minutes N] [--target T]`: fuzzers guided by coverage, one for each reader of foreign bytes. By hand; keep what it prints.
//!
//! They run the checks of the normal tests, in a release build with all assertions, and begin with the committed corpus. What they find worth keeping
//! stays in `fuzz/found`, what breaks a check in `fuzz/artifacts`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::step::{self, Verdict};
use crate::workspace;

/// How each fuzzer is built. There is no `unsafe` code to sanitise, and without a sanitizer it needs no nightly toolchain.
const BUILT: &[&str] = &[
    "--fuzz-dir",
    "fuzz",
    "--sanitizer",
    "none",
    "--release",
    "--debug-assertions",
    "--no-cfg-fuzzing",
];
/// An input that takes longer is a finding.
const INPUT_SECONDS_MAX: u64 = 10;
/// Longer inputs are not made.
const INPUT_BYTES_MAX: u64 = 4096;

#[derive(Debug, PartialEq, Eq)]
struct Settings {
    minutes: u64,
    target: Option<String>,
}

/// How one target went.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    seconds: u64,
    executions: u64,
    edges: u64,
    /// When it last covered more than before: far from the end, more time is not likely to help.
    last_edge_seconds: u64,
    findings: u64,
}

/// Runs one target or all, and says whether nothing was found.
pub(crate) fn run(root: &Path, args: &[&str]) -> anyhow::Result<bool> {
    let settings = settings(args)?;
    let mut targets = targets(root)?;
    if let Some(target) = &settings.target {
        ensure!(targets.contains(target), "no target `{target}`: {targets:?}");
        targets = BTreeSet::from([target.clone()]);
    }
    if !workspace::has_subcommand(root, "fuzz") {
        bail!("cargo-fuzz is not installed: cargo install cargo-fuzz --locked");
    }
    let built: Vec<&str> = settings.target.iter().map(String::as_str).collect();
    if step::command(fuzz(root, "build", &built))? != Verdict::Passed {
        return Ok(false);
    }
    let mut outcomes = Vec::new();
    for target in targets {
        let outcome = run_target(root, &target, settings.minutes * 60)?;
        outcomes.push((target, outcome));
    }
    println!("\n| target | seconds | executions | edges | the last one after | findings |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (target, outcome) in &outcomes {
        let Outcome {
            seconds,
            executions,
            edges,
            last_edge_seconds,
            findings,
        } = outcome;
        println!("| `{target}` | {seconds} | {executions} | {edges} | {last_edge_seconds} s | {findings} |");
    }
    Ok(outcomes.iter().all(|(_, outcome)| outcome.findings == 0))
}

/// Its standard error is what it says.
fn run_target(root: &Path, target: &str, seconds: u64) -> anyhow::Result<Outcome> {
    println!("\n=== {target}");
    let found_in = format!("fuzz/found/{target}");
    let artifacts = root.join("fuzz/artifacts").join(target);
    fs::create_dir_all(root.join(&found_in))?;
    let before = names(&artifacts)?;
    let started = Instant::now();
    let mut outcome = Outcome::default();
    // It ends with its first finding; what is left of the time is for others.
    while started.elapsed() < Duration::from_secs(seconds) {
        let left = Duration::from_secs(seconds)
            .saturating_sub(started.elapsed())
            .as_secs()
            .max(1);
        let limits = [
            format!("-max_total_time={left}"),
            format!("-timeout={INPUT_SECONDS_MAX}"),
            format!("-max_len={INPUT_BYTES_MAX}"),
            "-print_final_stats=1".to_owned(),
        ];
        let corpora = [target, &found_in, &format!("fuzz/corpus/{target}"), "--"];
        let limits = limits.iter().map(String::as_str);
        let command = fuzz(
            root,
            "run",
            &corpora.into_iter().chain(limits).collect::<Vec<_>>(),
        );
        let passed = watch(command, started, &mut outcome)?;
        let now = names(&artifacts)?;
        let found = now.difference(&before).count() as u64;
        ensure!(
            passed || found > outcome.findings,
            "`{target}` ended without a finding to show for it"
        );
        outcome.findings = found;
        if passed {
            break;
        }
    }
    outcome.seconds = started.elapsed().as_secs();
    Ok(outcome)
}

/// Passes on what it says and takes the figures from it; whether it ended well.
fn watch(mut command: Command, started: Instant, outcome: &mut Outcome) -> anyhow::Result<bool> {
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let stderr = child.stderr.take().context("standard error was piped")?;
    for line in BufReader::new(stderr).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        std::io::stdout().flush()?;
        outcome.add_line(&line, started.elapsed());
    }
    Ok(child.wait()?.success())
}

impl Outcome {
    /// A line of libFuzzer's, said so long after the target's start.
    fn add_line(&mut self, line: &str, after: Duration) {
        if let Some(number) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions += number.trim().parse::<u64>().unwrap_or(0);
        } else if let Some((_, rest)) = line.split_once(" cov: ") {
            let edges = rest.split(' ').next().unwrap_or_default().parse().unwrap_or(0);
            if edges > self.edges {
                self.edges = edges;
                self.last_edge_seconds = after.as_secs();
            }
        }
    }
}

fn fuzz(root: &Path, verb: &str, args: &[&str]) -> Command {
    let mut command = workspace::cargo(root, &["fuzz", verb]);
    command.args(BUILT).args(args);
    command
}

/// A target is a file.
fn targets(root: &Path) -> anyhow::Result<BTreeSet<String>> {
    let names = names(&root.join("fuzz/fuzz_targets"))?;
    Ok(names
        .iter()
        .filter_map(|name| Some(name.strip_suffix(".rs")?.to_owned()))
        .collect())
}

/// The names in a folder; none if it is not there.
fn names(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    if !folder.exists() {
        return Ok(BTreeSet::new());
    }
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Reads `--minutes N --target T`.
fn settings(args: &[&str]) -> anyhow::Result<Settings> {
    let mut settings = Settings {
        minutes: 60,
        target: None,
    };
    for pair in args.chunks(2) {
        let &[name, value] = pair else {
            bail!("`{}` lacks its value", pair[0]);
        };
        match name {
            "--minutes" => settings.minutes = value.parse().with_context(|| format!("{name} {value}"))?,
            "--target" => settings.target = Some(value.to_owned()),
            _ => bail!("`soak fuzz` knows --minutes N and --target T, not `{name}`"),
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_and_target_are_read_and_nothing_else() {
        let read = settings(&["--target", "values", "--minutes", "7"]).unwrap();
        let expected = Settings {
            minutes: 7,
            target: Some("values".to_owned()),
        };
        assert_eq!(read, expected);
        assert_eq!(settings(&[]).unwrap().minutes, 60);
        for bad in [&["--minutes"][..], &["--minutes", "x"], &["--minute", "1"]] {
            assert!(settings(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_figures_are_taken_from_what_a_fuzzer_says() {
        let mut outcome = Outcome::default();
        let lines = [
            "#2\tINITED cov: 81 ft: 82 corp: 1/1b exec/s: 0 rss: 30Mb",
            "#8192\tNEW    cov: 140 ft: 300 corp: 9/1Kb lim: 4 exec/s: 5461 rss: 40Mb",
            "#16384\tpulse  cov: 140 ft: 300 corp: 9/1Kb lim: 4 exec/s: 5461 rss: 40Mb",
            "stat::number_of_executed_units: 16384",
            "stat::number_of_executed_units: 16",
        ];
        for (second, line) in (0..).zip(lines) {
            outcome.add_line(line, Duration::from_secs(second));
        }
        let expected = Outcome {
            executions: 16_400,
            edges: 140,
            last_edge_seconds: 1,
            ..Outcome::default()
        };
        assert_eq!(outcome, expected);
    }

    /// The crates' own tests read the corpora; this one sees that none lies there unread, and that each target is built.
    #[test]
    fn every_target_has_a_fuzzer_and_a_corpus() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let targets = targets(root).unwrap();
        assert_eq!(names(&root.join("fuzz/corpus")).unwrap(), targets);
        let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
        for target in &targets {
            assert!(manifest.contains(&format!("name = \"{target}\"\n")), "{target}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), targets.len());
    }
}
