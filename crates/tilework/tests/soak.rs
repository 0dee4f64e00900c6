//! The kill test at the size and with the options that a user has: f64 8192, defaults. `cargo xtask soak` runs it.

#![expect(clippy::print_stdout, reason = "its figures are kept with the results")]

mod common;

use common::Stage;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SIZE: &str = "8192x8192";
const N_KILLS: usize = 5;
/// No run takes longer, kills included.
const PATIENCE: Duration = Duration::from_secs(300);

fn tilework(stage: &Stage, line: &str) -> Command {
    let mut command = stage.command(line);
    command.stdout(Stdio::piped());
    command
}

/// As [`Stage::succeed`], however long it takes.
fn succeed(stage: &Stage, line: &str) -> Value {
    let output = tilework(stage, &format!("{line} --json")).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Kills the run after `delay`; whether it was still running.
fn kill_after(mut child: Child, delay: Duration) -> bool {
    let started = Instant::now();
    while started.elapsed() < delay {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5)); // waits: the random moment
    }
    let running = child.try_wait().unwrap().is_none();
    let _ = child.kill();
    child.wait().unwrap();
    running
}

fn same_contents(one: &Path, two: &Path) -> bool {
    let (mut one, mut two) = (File::open(one).unwrap(), File::open(two).unwrap());
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let n = one.read(&mut left).unwrap();
        if n == 0 {
            return two.read(&mut right).unwrap() == 0;
        }
        if two.read_exact(&mut right[..n]).is_err() || left[..n] != right[..n] {
            return false;
        }
    }
}

#[test]
fn kills_at_the_default_options_give_the_undisturbed_bytes() {
    let stage = Stage::empty();
    succeed(&stage, &format!("generate normal {SIZE} -o A.npy --seed 1"));
    succeed(&stage, &format!("generate normal {SIZE} -o B.npy --seed 2"));
    let undisturbed = succeed(&stage, "multiply A.npy B.npy -o undisturbed.npy");
    let (n_tasks, seconds) = (
        undisturbed["tasks"].as_u64().unwrap(),
        undisturbed["seconds"].as_f64().unwrap(),
    );
    let mut random = ChaCha8Rng::seed_from_u64(8192);
    let deadline = Instant::now() + PATIENCE;
    let (mut n_kills, mut n_between) = (0, 0);
    while n_kills < N_KILLS {
        assert!(Instant::now() < deadline, "the kills take too long");
        let delay =
            Duration::from_secs_f64(seconds * 0.4 * f64::from(random.next_u32()) / f64::from(u32::MAX));
        let child = tilework(&stage, "multiply A.npy B.npy -o C.npy --quiet")
            .spawn()
            .unwrap();
        assert!(kill_after(child, delay), "the run ended before its kill");
        n_kills += 1;
        let n_kept = stage.n_committed("C.npy");
        n_between += usize::from(n_kept > 0 && n_kept < n_tasks);
        println!(
            "kill {n_kills} after {:.2} s: {n_kept} of {n_tasks} tasks are committed",
            delay.as_secs_f64()
        );
        if n_kept + 2 >= n_tasks {
            break;
        }
    }
    assert!(n_between > 0, "no kill fell between two commits");
    let resumed = succeed(&stage, "multiply A.npy B.npy -o C.npy");
    println!("resumed: {resumed}");
    assert!(same_contents(
        &stage.path("undisturbed.npy"),
        &stage.path("C.npy")
    ));
}
