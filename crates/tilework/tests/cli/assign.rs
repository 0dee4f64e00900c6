//! `--assign`: who gets the tasks when one of two workers is slow, and that the result does not depend on it.
//!
//! `TILEWORK_TEST_SLOW` makes worker 1 dawdle after each task.

use crate::vocabulary::{Answer, Folder};

/// Runs a job of about ten tasks on two workers, of which worker 1 takes this much longer; returns all tasks, and those of each.
fn tasks_of_each(folder: &Folder, output: &str, options: &str, slow: &str) -> (u64, [u64; 2]) {
    let line = format!("multiply A.npy B.npy -o {output} --memory 18MiB --workers 2 --json {options}");
    let mut command = folder.command(&line);
    let ended = command.env("TILEWORK_TEST_SLOW", slow).output().unwrap();
    let report = Answer::of(&line, ended).json();
    assert_eq!(report["status"], "done", "{report}");
    let n_tasks = report["tasks"].as_u64().unwrap();
    assert!(n_tasks >= 8, "this test needs smaller tiles: {report}");
    let of_each = [0, 1].map(|worker| report["workers"][worker]["tasks"].as_u64().unwrap());
    (n_tasks, of_each)
}

#[test]
fn a_slow_worker_gets_fewer_tasks_by_load_and_as_many_by_turns() {
    let folder = Folder::new();
    folder.done("generate normal 500x700 -o A.npy");
    folder.done("generate normal 700x900 -o B.npy --seed 2");
    // A fixed delay, many times as long as a task takes on any machine.
    let slow = "1:300ms";
    let (n_tasks, by_turns) = tasks_of_each(&folder, "by_turns.npy", "--assign round-robin", slow);
    assert_eq!(by_turns, [n_tasks.div_ceil(2), n_tasks / 2]);
    let (n_tasks, [quick, slowed]) = tasks_of_each(&folder, "by_load.npy", "--assign dynamic", slow);
    // What it had when the quick one was done with the rest; backups may add an attempt or two.
    assert!(
        slowed <= n_tasks / 3 && quick >= n_tasks - slowed,
        "{quick} and {slowed} of {n_tasks} tasks"
    );
    assert_eq!(folder.bytes("by_turns.npy"), folder.bytes("by_load.npy"));
    folder.done("multiply A.npy B.npy -o alone.npy");
    assert_eq!(folder.bytes("alone.npy"), folder.bytes("by_load.npy"));
}

#[test]
fn four_times_slower_is_seen_in_the_report() {
    let folder = Folder::new();
    folder.done("generate normal 500x700 -o A.npy");
    folder.done("generate normal 700x900 -o B.npy --seed 2");
    let line = "multiply A.npy B.npy -o C.npy --memory 18MiB --workers 2 --assign round-robin --json";
    let ended = folder
        .command(line)
        .env("TILEWORK_TEST_SLOW", "1:4x")
        .output()
        .unwrap();
    let report = Answer::of(line, ended).json();
    let seconds = [0, 1].map(|worker| report["workers"][worker]["seconds_busy"].as_f64().unwrap());
    assert!(seconds[1] > 1.5 * seconds[0], "{report}");
}
