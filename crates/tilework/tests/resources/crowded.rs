//! Thousands of other files beside the output and beside the journal: they are nobody's business, and stay.

use crate::common::Running;
use crate::place::{PRODUCT, Place, WORDS, Work};
use std::fs;
use std::path::Path;

const N_FILES: usize = 10_000;

fn crowd(folder: &Path) {
    for file in 0..N_FILES {
        fs::write(folder.join(format!("other-{file:05}")), b"").unwrap();
    }
}

fn n_others(folder: &Path) -> usize {
    let names = fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("other-")).count()
}

fn goes_well_among_others(work: Work) {
    let place = Place::with(&[work]);
    let (beside, within) = (place.stage.folder().to_path_buf(), place.journal_folder(work));
    fs::create_dir(&within).unwrap();
    crowd(&beside);
    crowd(&within);
    // Killed first, so that a run goes on among them too.
    let mut command = place.command(work);
    command.env("TILEWORK_TEST_SLOW", "*:20ms");
    let mut running = Running::start(command);
    running.wait_until("a commit", || place.n_committed(work) > 0);
    assert!(running.kill(), "it ended too early");
    let output = place.run(work);
    assert!(output.status.success(), "{output:?}");
    place.is_unharmed(work, "10,000 others");
    assert_eq!((n_others(&beside), n_others(&within)), (N_FILES, N_FILES));
    for verb in ["status", "explain", "clean"] {
        let said = place
            .stage
            .run(&format!("{verb} {}", place.output(work).display()));
        assert!(said.status.success(), "{verb}: {said:?}");
    }
    assert_eq!((n_others(&beside), n_others(&within)), (N_FILES, N_FILES));
}

#[test]
fn a_product_goes_well_among_ten_thousand_other_files() {
    goes_well_among_others(PRODUCT);
}

#[test]
fn a_job_of_ones_own_goes_well_among_ten_thousand_other_files() {
    goes_well_among_others(WORDS);
}
