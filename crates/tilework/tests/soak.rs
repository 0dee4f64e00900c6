//! The kill test at the size and with the options that a user has: f64 8192, defaults. `cargo xtask soak` runs it.

#![expect(clippy::print_stdout, reason = "its figures are kept with the results")]

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tilework_store::disk::RealDisk;
use tilework_store::journal::{JobFiles, recover};

const SIZE: &str = "8192x8192";
const N_KILLS: usize = 5;
/// No run takes longer, kills included.
const PATIENCE: Duration = Duration::from_secs(300);

fn tilework(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tilework"));
    command
        .args(line.split(' '))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

fn succeed(folder: &Path, line: &str) -> Value {
    let output = tilework(folder, &format!("{line} --json")).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn n_committed(folder: &Path) -> usize {
    let found = recover(&RealDisk, &JobFiles::beside(&folder.join("C.npy")))
        .ok()
        .flatten();
    found.map_or(0, |(recovered, _)| recovered.commits.len())
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
    let stage = tempfile::tempdir().unwrap();
    let folder = stage.path();
    succeed(folder, &format!("generate normal {SIZE} -o A.npy --seed 1"));
    succeed(folder, &format!("generate normal {SIZE} -o B.npy --seed 2"));
    let undisturbed = succeed(folder, "multiply A.npy B.npy -o undisturbed.npy");
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
        let child = tilework(folder, "multiply A.npy B.npy -o C.npy --quiet")
            .spawn()
            .unwrap();
        assert!(kill_after(child, delay), "the run ended before its kill");
        n_kills += 1;
        let n_kept = n_committed(folder) as u64;
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
    let resumed = succeed(folder, "multiply A.npy B.npy -o C.npy");
    println!("resumed: {resumed}");
    assert!(same_contents(
        &folder.join("undisturbed.npy"),
        &folder.join("C.npy")
    ));
}
