//! Hostile bytes in the normal tests: the corpora, arbitrary bytes, and what is right after damage.

use super::{TARGETS, Target};
use proptest::prelude::*;
use tilework_fuzzing::{corpus, mangled};

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect(name)
}

#[test]
fn what_is_in_the_corpora_stays_right() {
    TARGETS.iter().for_each(corpus::replay);
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    corpus::inputs(target(name))
        .into_iter()
        .map(|(_, input)| input)
        .collect()
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_borne(input in prop::collection::vec(any::<u8>(), 0..400)) {
        TARGETS.iter().for_each(|target| target.run(&input));
    }

    #[test]
    fn damaged_descriptions_are_other_jobs_or_none(input in mangled(prop::sample::select(seeds("job_description")))) {
        target("job_description").run(&input);
    }

    #[test]
    fn damaged_notes_are_left_out(input in mangled(prop::sample::select(seeds("notes_beside_a_job")))) {
        target("notes_beside_a_job").run(&input);
    }
}
