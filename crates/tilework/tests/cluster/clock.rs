//! Clocks of machines are set by an hour, forward and back, while they are at work: nobody is lost, no time limit is over, no task runs again.
//!
//! Only builds for development can be told to have another time of day; see `runtime/src/wall_clock.rs`. The server's clock stays: it is another
//! project's program, whose timers are monotonic.

use crate::harness::{Cluster, MULTIPLY, of_kind, wait_for};
use std::fs;
use tilework::cluster::record::unix_ms;

const HOUR_MS: i64 = 3_600_000;
const SLOW: &str = "*:150ms";

fn set(cluster: &Cluster, clock: &str, ms: i64) {
    // Renamed, so that nobody reads a part of it.
    let new = cluster.stage.path("clock.new");
    fs::write(&new, ms.to_string()).unwrap();
    fs::rename(new, cluster.stage.path(clock)).unwrap();
}

/// Whether a time an hour before or after now stands in what somebody wrote.
fn is_off_by(ms: i64, written: u64) -> bool {
    (written as i64 - unix_ms() as i64 - ms).abs() < HOUR_MS / 4
}

/// Numbers that stand in the segments beside an output, times among them: a segment begins with when it was begun.
fn times_in_segments(cluster: &Cluster, output: &str) -> Vec<u64> {
    let Ok(names) = fs::read_dir(cluster.data(&format!("{output}.tilework"))) else {
        return Vec::new();
    };
    let paths = names.filter_map(|entry| Some(entry.ok()?.path()));
    let segments = paths.filter(|path| path.extension().is_some_and(|extension| extension == "segment"));
    let bytes: Vec<u8> = segments
        .filter_map(|path| fs::read(path).ok())
        .flatten()
        .collect();
    let windows = bytes
        .windows(8)
        .map(|window| u64::from_le_bytes(window.try_into().unwrap()));
    windows.collect()
}

#[test]
fn clocks_that_are_set_while_a_job_runs_cost_nothing() {
    let cluster = Cluster::start();
    for clock in ["of-driver", "of-worker", "of-client"] {
        set(&cluster, clock, 0);
    }
    let _driver = cluster.with_clock(
        "d1",
        "driver --cluster c/driver.join --data-root data=data",
        "",
        "of-driver",
    );
    let joins = "--cluster c/worker.join --data-root data=data";
    let mut worker = cluster.with_clock(
        "w1",
        &format!("worker --memory 16MiB --threads 1 {joins}"),
        SLOW,
        "of-worker",
    );
    worker.wait_for_number();
    let _other = cluster.worker("w2", SLOW);
    let steps = [
        ("the driver's", &["of-driver"][..], HOUR_MS),
        ("the worker's", &["of-worker"][..], HOUR_MS),
        ("both", &["of-driver", "of-worker"][..], -HOUR_MS),
    ];
    let mut n_by_driver = 0;
    for (whose, clocks, ms) in steps {
        // The client is as far off, the other way round.
        set(&cluster, "of-client", -ms);
        let output = format!("{}.npy", clocks.join("-"));
        let line = format!("{MULTIPLY} data:/{output} --time-limit 5m --detach");
        let submitted = cluster.succeed_with_clock(&line, "of-client");
        let mut job = cluster.job(
            submitted["id"].as_str().unwrap(),
            submitted["output"].as_str().unwrap(),
        );
        job.wait_for_commits(1);
        clocks.iter().for_each(|clock| set(&cluster, clock, ms));
        job.wait_for_commits(4);
        if clocks.contains(&"of-driver") {
            let said = cluster.client("doctor").end();
            let said =
                String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
            assert!(said.contains("clock"), "{said}");
            println!(
                "{whose} clock: doctor says: {}",
                said.lines().find(|line| line.contains("clock")).unwrap()
            );
        }
        clocks.iter().for_each(|clock| set(&cluster, clock, 0));
        let report = cluster.is_right(&job);
        assert_eq!(report["retries"], 0, "{whose}: {report}");
        let events = job.all_events();
        let in_another_hour = events.iter().filter(|event| is_off_by(ms, event.unix_ms)).count();
        n_by_driver += in_another_hour;
        assert_eq!(
            of_kind(events, "began").count(),
            1,
            "{whose}: another driver came"
        );
        assert!(of_kind(events, "failed").next().is_none(), "{whose}: {events:?}");
        println!("{whose} clock: {in_another_hour} events in another hour");
    }
    assert!(n_by_driver >= 4, "{n_by_driver} events in another hour");
    // The worker opens a job while its clock is off: its segment says so.
    set(&cluster, "of-worker", HOUR_MS);
    let job = cluster.submit(&format!("{MULTIPLY} data:/last.npy"));
    wait_for("the worker's segment", || {
        let times = times_in_segments(&cluster, &job.output);
        times.iter().any(|time| is_off_by(HOUR_MS, *time)).then_some(())
    });
    cluster.is_right(&job);
}
