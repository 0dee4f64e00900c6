//! The operating system's own calls are interrupted, or fail in turn: strace puts the errors in. Skipped, and says so, where there is no strace, or
//! no right to trace.

use crate::common::Running;
use crate::place::{PRODUCT, Place, WORDS, Work, refusal, wrapped};
use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output, Stdio};

/// What touches files, and from which call on it is ours: the loader does not try again. Of several names for one call a machine has one.
const CALLS: [(&str, u32); 16] = [
    ("openat", 9),
    ("statx", 1),
    ("newfstatat,fstat", 6),
    ("mkdir", 1),
    ("getdents64", 1),
    ("rename", 1),
    ("linkat", 1),
    ("unlink", 1),
    ("rmdir", 1),
    ("ftruncate", 1),
    ("fallocate", 1),
    ("flock", 1),
    ("fsync", 1),
    ("fdatasync", 1),
    ("pread64", 5),
    ("pwrite64", 1),
];

/// Every how manieth call is interrupted: more than there are in a row in what is begun anew as a whole, such as listing a folder.
const EVERY: u32 = 7;

fn may_trace() -> bool {
    let tried = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=none", "true"])
        .stderr(Stdio::null())
        .status();
    let may = tried.is_ok_and(|status| status.success());
    if !may {
        println!("skipped: no strace here, or no right to trace");
    }
    may
}

/// Names of calls as strace takes them where it does not know them all.
fn optional(names: &str) -> String {
    format!("?{}", names.replace(',', ",?"))
}

/// Runs the work with errors put in: how it ended, and how many there were.
fn run_with(place: &Place, work: Work, faults: &[String]) -> (Output, usize) {
    let trace = place.stage.path("trace");
    let traced: Vec<String> = CALLS.iter().map(|(call, _)| optional(call)).collect();
    let traced = format!("trace={}", traced.join(","));
    let mut words = vec![
        "strace",
        "-f",
        "-qq",
        "-o",
        trace.to_str().unwrap(),
        "-e",
        &traced,
    ];
    words.extend(faults.iter().flat_map(|fault| ["-e", fault]));
    let mut command = wrapped(&words, &place.command(work));
    // Cargo's, where the loader would look first: its calls, and not ours, would fail.
    command.env_remove("LD_LIBRARY_PATH");
    let output = Running::start(command).end();
    let n_injected = fs::read_to_string(&trace).unwrap().matches("(INJECTED)").count();
    fs::remove_file(trace).unwrap();
    (output, n_injected)
}

#[test]
fn interrupted_system_calls_are_made_again() {
    if !may_trace() {
        return;
    }
    let place = Place::with(&[PRODUCT, WORDS]);
    for work in [PRODUCT, WORDS] {
        let now_and_then = |(call, first): &(&str, u32)| {
            format!("inject={}:error=EINTR:when={first}+{EVERY}", optional(call))
        };
        let (output, n_injected) =
            run_with(&place, work, &CALLS.iter().map(now_and_then).collect::<Vec<_>>());
        println!("{}: {n_injected} calls were interrupted", work.line);
        assert!(output.status.success(), "{output:?}");
        assert!(n_injected > 20, "{n_injected}");
        place.is_unharmed(work, "interrupted");
        assert!(place.output(work).exists());
    }
}

/// Minutes: only with `TILEWORK_FAULTS=all`, as `cargo xtask soak resources` has it. `disk.rs` does the same on a disk in memory.
#[test]
fn any_system_call_may_fail() {
    if std::env::var("TILEWORK_FAULTS").is_ok_and(|which| which == "all") && may_trace() {
        fail_each_call();
    } else {
        println!("skipped: `cargo xtask soak resources` runs it");
    }
}

fn fail_each_call() {
    let (mut n_failed, mut n_done) = (0, 0);
    let mut never_hit: BTreeSet<&str> = CALLS.iter().map(|(call, _)| *call).collect();
    for work in [PRODUCT, WORDS] {
        // Three tiles, each of which is written at once: few calls of each kind.
        let place = Place::with_product_of("320x40", "40x320", &[work]);
        for (call, first) in CALLS {
            let n_before = n_failed + n_done;
            for n in first.. {
                place.clear(work);
                let story = format!("{call} {n} of `{}`", work.line);
                let (output, n_injected) = run_with(
                    &place,
                    work,
                    &[format!("inject={}:error=EIO:when={n}", optional(call))],
                );
                if n_injected == 0 {
                    break;
                }
                never_hit.remove(call);
                if output.status.success() {
                    n_done += 1;
                } else {
                    let text = refusal(&output, &story);
                    assert!(text.contains("Input/output error"), "{story}: {text}");
                    n_failed += 1;
                }
                place.is_unharmed(work, &story);
                place.goes_on(work, &story);
            }
            println!(
                "{call} of `{}`: {} calls",
                work.line,
                n_failed + n_done - n_before
            );
        }
    }
    println!("{n_failed} runs failed, {n_done} did without what had failed");
    assert!(n_failed >= 100, "{n_failed} failed");
    assert!(never_hit.is_empty(), "{never_hit:?}");
}
