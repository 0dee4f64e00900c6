//! Hostile bytes in the normal tests: the corpora, arbitrary bytes, and what is right after damage.

use super::TARGETS;
use crate::join::JoinFile;
use crate::role::Role;
use proptest::prelude::*;
use std::path::Path;
use tilework_fuzzing::{corpus, mangled};

#[test]
fn what_is_in_the_corpora_stays_right() {
    TARGETS.iter().for_each(corpus::replay);
}

fn seeds() -> Vec<(usize, Vec<u8>)> {
    let of_target = |nth: usize| {
        corpus::inputs(&TARGETS[nth])
            .into_iter()
            .map(move |(_, input)| (nth, input))
    };
    (0..TARGETS.len()).flat_map(of_target).collect()
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_borne(input in prop::collection::vec(any::<u8>(), 0..400)) {
        TARGETS.iter().for_each(|target| target.run(&input));
    }

    #[test]
    fn join_files_come_back(
        role in prop::sample::select(&Role::ALL), servers in prop::collection::vec(".{0,30}", 1..4), authority in ".*",
    ) {
        let seed = nkeys::KeyPair::new_user().seed().expect("a new key has a seed");
        let join = JoinFile::new(role, servers, authority, seed);
        let again = JoinFile::parse(Path::new("j"), join.text().as_bytes()).expect("a file of ours");
        prop_assert_eq!(again, join);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_was_right_once_is_read_or_refused(
        (nth, input) in prop::sample::select(seeds()).prop_flat_map(|(nth, seed)| (Just(nth), mangled(Just(seed))))
    ) {
        TARGETS[nth].run(&input);
    }
}
