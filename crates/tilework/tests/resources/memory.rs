//! Little memory: what the system refuses is a failure with a cause and a next step, not a panic, for as long as the program itself fits.

use crate::place::{PRODUCT, Place, WORDS, Work, refusal};
use std::os::unix::process::ExitStatusExt;

/// SIGABRT: an allocation of a few bytes failed, which Rust ends the process for. It loses as much as a kill.
const SIGABRT: i32 = 6;

/// Runs the work with every amount of address space, from what the program does not start with to enough. How often it was aborted.
fn sweep(work: Work) -> u32 {
    let place = Place::with(&[work]);
    let (mut n_unstarted, mut n_refused, mut n_aborted, mut n_done) = (0, 0, 0, 0);
    for mib in 12.. {
        let story = format!("{mib} MiB of address space");
        place.clear(work);
        let output = place.run_limited(work, &format!("-v {}", mib * 1024));
        match output.status.code() {
            Some(0) => n_done += 1,
            // The shell or the loader could not map the program.
            Some(126 | 127) => n_unstarted += 1,
            None if n_refused == 0 => n_unstarted += 1,
            None if output.status.signal() == Some(SIGABRT) => n_aborted += 1,
            _ => {
                let text = refusal(&output, &story);
                assert_eq!(output.status.code(), Some(3), "{story}: {text}");
                n_refused += 1;
            }
        }
        place.is_unharmed(work, &story);
        place.goes_on(work, &story);
        assert!(mib < 512, "never enough");
        if n_done == 3 {
            break;
        }
    }
    println!(
        "{}: {n_unstarted} did not start, {n_aborted} aborted, {n_refused} were refused, {n_done} done",
        work.line
    );
    assert!(n_refused >= 5, "{n_refused} refused");
    n_aborted
}

#[test]
fn a_product_with_any_amount_of_memory_ends_right_or_goes_on_later() {
    let n_aborted = sweep(PRODUCT);
    assert!(n_aborted <= 2, "{n_aborted} aborted");
}

#[test]
fn a_job_of_ones_own_with_any_amount_of_memory_ends_right_or_goes_on_later() {
    // Its own code asks for many small pieces, of which any may be the one that is refused.
    sweep(WORDS);
}
