//! Few open files: the run is refused, or stops, and says what was refused; nothing of it is in the way of the next one.

use crate::place::{PRODUCT, Place, WORDS, Work, refusal};

/// Runs the work with every number of open files from the least with which a program starts to enough.
fn sweep(work: Work, limits: std::ops::RangeInclusive<u32>) {
    let place = Place::with(&[work]);
    let (mut n_refused, mut n_done) = (0, 0);
    for limit in limits {
        let story = format!("{limit} open files");
        place.clear(work);
        let output = place.run_limited(work, &format!("-n {limit}"));
        if output.status.success() {
            n_done += 1;
        } else {
            let text = refusal(&output, &story);
            assert!(text.contains("Too many open files"), "{story}: {text}");
            n_refused += 1;
        }
        place.is_unharmed(work, &story);
        place.goes_on(work, &story);
    }
    println!(
        "{}: {n_refused} runs had too few files, {n_done} had enough",
        work.line
    );
    assert!(
        n_refused >= 4 && n_done >= 2,
        "{n_refused} refused, {n_done} done"
    );
}

#[test]
fn a_product_with_any_number_of_open_files_ends_right_or_goes_on_later() {
    // Three are the standard streams, the fourth loads the program's libraries.
    sweep(PRODUCT, 4..=15);
}

#[test]
fn a_job_of_ones_own_with_any_number_of_open_files_ends_right_or_goes_on_later() {
    sweep(WORDS, 5..=17);
}
