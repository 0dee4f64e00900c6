//! The clock is set by an hour, forward and back, while a run is under way and between two runs: neither notices.
//!
//! Only builds for development can be told to have another time of day; see `runtime/src/wall_clock.rs`.

use crate::common::Running;
use crate::place::{PRODUCT, Place, WORDS, Work};
use std::fs;

const HOUR_MS: i64 = 3_600_000;

fn is_unmoved(work: Work) {
    let place = Place::with(&[work]);
    let clock = place.stage.path("clock");
    let set = |ms: i64| {
        // Renamed, so that nobody reads a part of it.
        fs::write(place.stage.path("clock.new"), ms.to_string()).unwrap();
        fs::rename(place.stage.path("clock.new"), &clock).unwrap();
    };
    let started = || {
        let mut command = place.command_with(work, "--time-limit 10m");
        command
            .env("TILEWORK_TEST_CLOCK", &clock)
            .env("TILEWORK_TEST_SLOW", "*:20ms");
        Running::start(command)
    };
    set(HOUR_MS);
    let mut running = started();
    running.wait_until("a commit", || place.n_committed(work) > 0);
    set(-HOUR_MS);
    let n_before = place.n_committed(work);
    running.wait_until("more commits", || {
        place.n_committed(work) > n_before || place.journal_folder(work).join("round-000001").exists()
    });
    assert!(running.kill(), "it ended too early");
    // An hour before the run that it goes on with.
    let mut running = started();
    running.wait_until("the second run", || n_runs(&place, work) == 2);
    let runs = place
        .stage
        .journal(place.output(work).file_name().unwrap().to_str().unwrap());
    let runs: Vec<u64> = runs.unwrap().runs.iter().map(|run| run.started_unix_ms).collect();
    set(HOUR_MS);
    let output = running.end();
    assert!(output.status.success(), "{output:?}");
    assert!(
        runs[1] + HOUR_MS.unsigned_abs() < runs[0],
        "the clock was set back: {runs:?}"
    );
    place.goes_on(work, "the clock was set");
    let told = place
        .stage
        .run(&format!("explain {}", place.output(work).display()));
    assert!(told.status.success(), "{told:?}");
}

fn n_runs(place: &Place, work: Work) -> usize {
    let name = place.output(work);
    let journal = place.stage.journal(name.file_name().unwrap().to_str().unwrap());
    journal.map_or(0, |journal| journal.runs.len())
}

#[test]
fn a_product_does_not_notice_that_the_clock_is_set() {
    is_unmoved(PRODUCT);
}

#[test]
fn a_job_of_ones_own_does_not_notice_that_the_clock_is_set() {
    is_unmoved(WORDS);
}
