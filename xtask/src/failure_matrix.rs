//! `cargo xtask failure-matrix [--runs N] [--row NAME]`: runs the tests of faults and writes what they measured to docs/failure-matrix.md, from
//! docs/failure-matrix.json, which has every figure. A row by name is measured and only printed; `--page` writes the page of the figures that are there.

use crate::step::{self, Verdict};
use crate::{nats_server, workspace};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FIGURES: &str = "docs/failure-matrix.json";
const PAGE: &str = "docs/failure-matrix.md";
/// What tests print before their figures.
const MARK: &str = "measured ";

/// Tests of one test program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Program {
    package: &'static str,
    test: &'static str,
    source: &'static str,
}

const CLUSTER: Program = Program {
    package: "tilework",
    test: "cluster",
    source: "crates/tilework/tests/cluster",
};
const ENGINE: Program = Program {
    package: "tilework-nats",
    test: "engine",
    source: "crates/nats/tests/engine",
};
const KILL: Program = Program {
    package: "tilework",
    test: "kill",
    source: "crates/tilework/tests",
};

/// A fault, and the test that makes it happen.
struct Row {
    name: &'static str,
    fails: &'static str,
    injected: &'static str,
    noticed_by: &'static str,
    /// What has to be done before it goes on; recovery counts from then.
    waits_for: &'static str,
    program: Program,
    test: &'static str,
}

const ROWS: &[Row] = &[
    Row {
        name: "process-killed",
        fails: "the process of a run on one machine",
        injected: "SIGKILL at random moments, 20 a run of the test",
        noticed_by: "whoever started it",
        waits_for: "the same command again",
        program: KILL,
        test: "twenty_kills_at_random_moments_cost_only_the_tasks_in_flight",
    },
    Row {
        name: "worker-killed",
        fails: "a worker is killed",
        injected: "SIGKILL in mid-task",
        noticed_by: "the driver: no heartbeat",
        waits_for: "",
        program: CLUSTER,
        test: "workers::a_killed_workers_task_is_committed_by_another",
    },
    Row {
        name: "worker-hung",
        fails: "a worker hangs",
        injected: "SIGSTOP in mid-task; woken later",
        noticed_by: "the driver: no heartbeat",
        waits_for: "",
        program: CLUSTER,
        test: "workers::a_stopped_worker_is_lost_and_wakes_without_harm",
    },
    Row {
        name: "worker-cut-off",
        fails: "a worker is cut off",
        injected: "a proxy passes no bytes and closes nothing",
        noticed_by: "the driver: no heartbeat",
        waits_for: "",
        program: CLUSTER,
        test: "network::a_frozen_network_costs_its_workers_task_and_heals",
    },
    Row {
        name: "worker-slow",
        fails: "a worker is slow",
        injected: "300 times as slow as the other",
        noticed_by: "the driver: half as long again as usual",
        waits_for: "all other tasks",
        program: CLUSTER,
        test: "workers::a_stragglers_task_is_done_again_by_another",
    },
    Row {
        name: "driver-killed",
        fails: "the driver, with one that stands by",
        injected: "SIGKILL while tasks run",
        noticed_by: "the other: the lease",
        waits_for: "",
        program: CLUSTER,
        test: "drivers::a_killed_drivers_jobs_go_on_with_another",
    },
    Row {
        name: "no-driver",
        fails: "the only driver",
        injected: "SIGKILL while tasks run",
        noticed_by: "clients, who are told; the next driver",
        waits_for: "another driver",
        program: CLUSTER,
        test: "drivers::without_a_driver_the_client_says_so_and_waits",
    },
    Row {
        name: "driver-and-worker-killed",
        fails: "driver and worker at once",
        injected: "SIGKILL of both in mid-task",
        noticed_by: "the other driver: the lease, then no heartbeat",
        waits_for: "",
        program: CLUSTER,
        test: "drivers::a_driver_and_a_worker_die_at_once",
    },
    Row {
        name: "client-killed",
        fails: "the client",
        injected: "SIGKILL while it waits",
        noticed_by: "nobody needs it",
        waits_for: "",
        program: CLUSTER,
        test: "clients::a_killed_clients_job_goes_on_and_the_same_command_attaches",
    },
    Row {
        name: "one-server-of-three",
        fails: "one NATS server of three",
        injected: "SIGKILL of the one that leads the queue of tasks",
        noticed_by: "the other two: an election",
        waits_for: "",
        program: ENGINE,
        test: "three::the_death_of_a_server_keeps_new_tasks_back_for_an_election_and_live_ones_not_at_all",
    },
    Row {
        name: "server-killed",
        fails: "the only NATS server",
        injected: "SIGKILL in mid-task",
        noticed_by: "everybody: the connection breaks",
        waits_for: "the server again",
        program: CLUSTER,
        test: "servers::a_killed_server_comes_back_with_what_it_kept",
    },
    Row {
        name: "nats-lost",
        fails: "all of NATS with its disk",
        injected: "SIGKILL, and its store removed",
        noticed_by: "who watches the job",
        waits_for: "the server again, and `resume`",
        program: CLUSTER,
        test: "servers::a_driver_outlives_the_loss_of_all_of_nats",
    },
    Row {
        name: "nats-and-driver-lost",
        fails: "all of NATS with its disk, and the driver",
        injected: "SIGKILL of both, and the store removed",
        noticed_by: "who asks for the job",
        waits_for: "both again, and `resume`",
        program: CLUSTER,
        test: "servers::all_of_nats_is_lost_and_the_journal_has_everything",
    },
    Row {
        name: "power-lost",
        fails: "the power of all machines",
        injected: "SIGKILL of server, driver and workers at once (what a disk loses then is tested on one in memory: `linalg/tests/crash.rs`)",
        noticed_by: "whoever starts them again",
        waits_for: "everything again",
        program: CLUSTER,
        test: "servers::everything_is_killed_at_once_and_goes_on_once_it_is_started_again",
    },
    Row {
        name: "result-wrong",
        fails: "a worker computes wrong results",
        injected: "a row of each tile is changed after the multiplication, before the check",
        noticed_by: "the worker's check of the tile; after three of them the driver gives it no more tasks",
        waits_for: "",
        program: CLUSTER,
        test: "lies::a_worker_that_lies_is_quarantined_and_its_job_ends_right",
    },
    Row {
        name: "bit-flipped",
        fails: "the storage flips a bit",
        injected: "one bit of a committed tile in the unfinished output",
        noticed_by: "the driver: reads back all tiles at the end",
        waits_for: "the end of the other tasks",
        program: CLUSTER,
        test: "inputs::a_bit_that_flips_in_a_committed_tile_is_found_before_the_output_has_its_name",
    },
    Row {
        name: "worker-woke-later",
        fails: "a worker sleeps and wakes in a later run",
        injected: "SIGSTOP in mid-task, the job cancelled, another one to the same output, SIGCONT",
        noticed_by: "nobody has to: what it writes to is the old job's file, which has no name any more; one that had not opened it yet is told that its run is over",
        waits_for: "",
        program: CLUSTER,
        test: "stale::a_worker_that_slept_over_a_cancel_does_not_touch_the_next_job",
    },
    Row {
        name: "disk-full",
        fails: "the output's disk is full",
        injected: "a small file system is filled in mid-task",
        noticed_by: "the worker; the client, with exit code 3",
        waits_for: "room, and `resume`",
        program: CLUSTER,
        test: "inputs::a_disk_that_fills_up_stops_the_job_which_can_be_resumed",
    },
    Row {
        name: "store-away",
        fails: "the store is away as a driver takes over",
        injected: "SIGKILL of the driver, the job's folder renamed",
        noticed_by: "the next driver, which says what it waits for",
        waits_for: "the store",
        program: CLUSTER,
        test: "takeovers::a_job_whose_files_are_away_is_taken_over_when_they_are_back",
    },
    Row {
        name: "input-changed",
        fails: "an input is gone or changed",
        injected: "cut, replaced, or removed, in mid-task",
        noticed_by: "the worker; the client, with exit code 2",
        waits_for: "the input as it was, and `resume`",
        program: CLUSTER,
        test: "inputs::an_input_that_changes_ends_the_job_with_2_and_it_goes_on_with_the_input_as_it_was",
    },
];

/// What the command line says.
#[derive(Debug, PartialEq, Eq)]
struct Settings {
    runs: usize,
    row: Option<String>,
}

impl Settings {
    fn read(args: &[&str]) -> anyhow::Result<Settings> {
        let mut settings = Settings { runs: 5, row: None };
        for pair in args.chunks(2) {
            match *pair {
                ["--runs", runs] => settings.runs = runs.parse().with_context(|| format!("--runs {runs}"))?,
                ["--row", name] if ROWS.iter().any(|row| row.name == name) => {
                    settings.row = Some(name.to_owned());
                }
                ["--row", name] => {
                    let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
                    bail!("no row `{name}`; there are {}", names.join(", "))
                }
                _ => bail!(
                    "`failure-matrix` knows --runs N and --row NAME, not `{}`",
                    pair[0]
                ),
            }
        }
        anyhow::ensure!(settings.runs > 0, "--runs 0 measures nothing");
        Ok(settings)
    }
}

/// Measures, and says whether all tests passed.
pub(crate) fn run(root: &Path, args: &[&str]) -> anyhow::Result<bool> {
    if *args == ["--page"] {
        return write_page(root);
    }
    let settings = Settings::read(args)?;
    let mut server: Option<PathBuf> = None;
    if nats_server::run(root, &mut server)? != Verdict::Passed {
        return Ok(false);
    }
    let rows: Vec<&Row> = ROWS
        .iter()
        .filter(|row| settings.row.as_deref().is_none_or(|name| name == row.name))
        .collect();
    let mut measured = Vec::new();
    let mut passed = true;
    for _ in 0..settings.runs {
        for row in &rows {
            let figures = measure(root, row, server.as_deref())?;
            passed &= figures.is_some();
            measured.extend(figures.unwrap_or_default());
        }
    }
    let figures = json!({
        "machine": machine()?,
        "date": date()?,
        "runs": settings.runs,
        "measured": measured,
    });
    let page = page(&figures);
    // Figures of some rows are not put beside those of another day.
    if settings.row.is_some() || !passed {
        println!("{page}");
        return Ok(passed);
    }
    fs::write(root.join(FIGURES), lines(&figures)? + "\n")?;
    write_page(root)
}

/// Writes the page of the figures that are there.
fn write_page(root: &Path) -> anyhow::Result<bool> {
    fs::write(root.join(PAGE), page(&read_figures(root)?))?;
    println!("written: {PAGE}, of {FIGURES}");
    Ok(true)
}

fn read_figures(root: &Path) -> anyhow::Result<Value> {
    let figures = fs::read_to_string(root.join(FIGURES)).context(FIGURES)?;
    serde_json::from_str(&figures).context(FIGURES)
}

/// What one run of a row's test printed; nothing if it failed or printed no figures.
fn measure(root: &Path, row: &Row, server: Option<&Path>) -> anyhow::Result<Option<Vec<Value>>> {
    let Program { package, test, .. } = row.program;
    let mut command = workspace::cargo(root, &["test", "--quiet", "--package", package, "--test", test]);
    command
        .args(["--", "--exact", row.test, "--nocapture"])
        .envs(server.map(|server| (nats_server::VARIABLE, server)));
    let mut figures = Vec::new();
    let verdict = step::command_lines(command, |line| {
        // The harness prints a test's name before the first thing that it prints, on the same line.
        let told = line
            .split_once(MARK)
            .and_then(|(_, told)| serde_json::from_str(told).ok());
        figures.extend(told.filter(|told: &Value| told["row"] == row.name));
    })?;
    if verdict != Verdict::Passed || figures.is_empty() {
        println!("FAILED: {} of {package}: {} figures", row.test, figures.len());
        return Ok(None);
    }
    Ok(Some(figures))
}

fn machine() -> anyhow::Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let models = cpus.lines().filter_map(|line| line.strip_prefix("model name"));
    let names: Vec<&str> = models
        .map(|rest| rest.trim_start_matches([':', ' ', '\t']))
        .collect();
    Ok(format!(
        "{}, {} cores",
        names.first().unwrap_or(&"unknown"),
        names.len()
    ))
}

fn date() -> anyhow::Result<String> {
    let output = Command::new("date").arg("+%F").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// JSON with a line for each measurement.
fn lines(figures: &Value) -> anyhow::Result<String> {
    let measured = figures["measured"].as_array().context("no measurements")?;
    let measured: Vec<String> = measured.iter().map(|one| format!("  {one}")).collect();
    Ok(format!(
        "{{\"machine\": {}, \"date\": {}, \"runs\": {}, \"measured\": [\n{}\n]}}",
        figures["machine"],
        figures["date"],
        figures["runs"],
        measured.join(",\n")
    ))
}

const INTRODUCTION: &str = "# What may fail, and what it costs

Every fault that the [design](../ARCHITECTURE.md) promises to survive, made to happen to real processes: how it is made, who notices and after which time, after which time all goes on, and which work is lost.
This page is written by the tests themselves: `cargo xtask failure-matrix` runs each of them, holds their answers against the undisturbed bytes, and takes the figures from what they print.
";

const READING: &str = "
- **Each fault is shown to have hit**: a task had begun and was not committed when it came, by the events and by the journal. Of the 20 kills of *process-killed* every fifth comes whenever it comes, and counts too; in *one-server-of-three* the server led the queue that
  tasks were held in.
- **Goes on after** counts from the fault; where something has to be done first, from when it was done. Then a task that was hit is committed elsewhere, or new tasks run; for *store away*, the driver has taken the job over.
- **Work lost** is what had begun when the fault came and counts nowhere in the end: executions of tasks, and the time since they had begun. Tasks take 0.6 s in most of these tests, so that they are hit. A killed worker holds
  one task that runs and at most a few that are being written: no fault costs more than that of each process that it hits, however long the job.
- Times are those of the limits that [messages](messages.md) has (a worker is lost after 6 s of silence, a lease after 6 s), and of the tests' own looks of 20 ms. All processes share one machine.
- **One row again**: `cargo xtask failure-matrix --row worker-killed --runs 1` runs its test, which the file `xtask/src/failure_matrix.rs` names, and prints what it measures.
- More faults, several at a time and for hours: [chaos, simulation and fuzzing](testing.md).
";

/// The page that the figures make.
fn page(figures: &Value) -> String {
    let mut page = INTRODUCTION.to_owned();
    let text = |name: &str| figures[name].as_str().unwrap_or("unknown").to_owned();
    write!(
        page,
        "\n{} runs of each test on {}, {}; median, and the worst in brackets. Every figure: [failure-matrix.json](failure-matrix.json).\n\n",
        figures["runs"],
        text("machine"),
        text("date")
    )
    .expect("a string takes it");
    page += "| what fails | how it is made to | who notices | after | goes on after | which waits for | work lost | row |\n";
    page += "| --- | --- | --- | --- | --- | --- | --- | --- |\n";
    let empty = Vec::new();
    let measured = figures["measured"].as_array().unwrap_or(&empty);
    for row in ROWS {
        let of_row: Vec<&Value> = measured.iter().filter(|one| one["row"] == row.name).collect();
        if of_row.is_empty() {
            continue;
        }
        let seconds = |name: &str| {
            let times = of_row.iter().filter_map(|one| one[name].as_f64());
            spread(times, |ms| match ms {
                ..100.0 => format!("{ms:.0} ms"),
                _ => format!("{:.1} s", ms / 1e3),
            })
        };
        let n_lost = spread(
            of_row.iter().filter_map(|one| one["attempts_lost"].as_f64()),
            |n| n.to_string(),
        );
        let lost = match (&*n_lost, &*seconds("work_lost_ms")) {
            ("0", _) => "nothing".to_owned(),
            (n, "") => format!("tasks: {n}"),
            (n, time) => format!("tasks: {n}; {time}"),
        };
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {lost} | `{}` |",
            row.fails,
            row.injected,
            row.noticed_by,
            seconds("noticed_ms"),
            seconds("recovered_ms"),
            row.waits_for,
            row.name,
        )
        .expect("a string takes it");
    }
    page + READING
}

/// The median, and the worst if it differs; nothing of nothing.
fn spread(values: impl Iterator<Item = f64>, shown: impl Fn(f64) -> String) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let Some(worst) = values.last().copied() else {
        return String::new();
    };
    let median = shown(values[(values.len() - 1) / 2]);
    let worst = shown(worst);
    if median == worst {
        median
    } else {
        format!("{median} ({worst})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_row_has_its_median_and_its_worst() {
        let one = |ms: u64, lost: u64| json!({"row": "worker-killed", "noticed_ms": ms, "recovered_ms": ms + 1000, "attempts_lost": lost, "work_lost_ms": 300 * lost});
        let figures = json!({"machine": "M", "date": "D", "runs": 3, "measured": [one(6200, 1), one(6000, 0), one(7000, 1)]});
        let page = page(&figures);
        let line = page
            .lines()
            .find(|line| line.starts_with("| a worker is killed"))
            .unwrap();
        assert!(
            line.contains("| 6.2 s (7.0 s) | 7.2 s (8.0 s) |  | tasks: 1; 0.3 s |"),
            "{line}"
        );
        assert!(
            !page.contains("one NATS server of three"),
            "a row without figures is left out"
        );
    }

    #[test]
    fn every_row_is_measured_by_a_test_of_its_name() {
        let root = workspace::root().unwrap();
        for row in ROWS {
            let name = row.test.rsplit("::").next().unwrap();
            let files = fs::read_dir(root.join(row.program.source)).unwrap();
            let sources = files.filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok());
            let found =
                sources.filter(|source| source.contains(&format!("fn {name}(")) && source.contains(row.name));
            assert_eq!(found.count(), 1, "{}", row.test);
        }
        let names: BTreeSet<&str> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len());
    }

    #[test]
    fn the_page_is_what_the_figures_make() {
        let root = workspace::root().unwrap();
        let figures = read_figures(&root).unwrap();
        let written = fs::read_to_string(root.join(PAGE)).unwrap();
        assert!(
            written == page(&figures),
            "write it anew: cargo xtask failure-matrix --page"
        );
        for row in ROWS {
            let measured = figures["measured"].as_array().unwrap();
            assert!(
                measured.iter().any(|one| one["row"] == row.name),
                "{} was never measured",
                row.name
            );
        }
    }

    #[test]
    fn rows_and_runs_are_read_and_nothing_else() {
        let read = Settings::read(&["--runs", "2", "--row", "nats-lost"]).unwrap();
        assert_eq!((read.runs, read.row.as_deref()), (2, Some("nats-lost")));
        for bad in [&["--runs"][..], &["--runs", "0"], &["--row", "x"], &["x", "y"]] {
            assert!(Settings::read(bad).is_err(), "{bad:?}");
        }
    }
}
