//! Hostile bytes in the normal tests: the corpora, arbitrary bytes, and what is right after damage.

use super::TARGETS;
use super::jobs::verified;
use crate::TaskFile;
use crate::product::request::Description;
use proptest::prelude::*;
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

/// Verifying such an output panicked: it looked for the tile of the task.
#[test]
fn a_journal_with_a_commit_of_no_task_is_refused_by_verify() {
    let inputs = corpus::inputs(
        TARGETS
            .iter()
            .find(|target| target.name == "product_description")
            .expect("it is"),
    );
    let (_, text) = inputs
        .iter()
        .find(|(path, _)| path.ends_with("two-tiles"))
        .expect("it is");
    let description = || Description::from_text(text).expect("a seed");
    let verification = verified(description(), &[0, 1]).expect("a product of zeros");
    assert_eq!(verification.n_tiles_checked, 2);
    for task in [2, u8::MAX] {
        let error = verified(description(), &[0, task]).expect_err("no such task");
        assert!(error.message.contains("2 tiles"), "{}", error.message);
    }
}

/// Adding up their lengths overflowed, and a reader began anywhere.
#[test]
fn a_task_file_that_is_shorter_than_its_sections_is_none() {
    let read = |sections: &[(u64, u32)]| {
        let file = rmp_serde::to_vec(&("000001-r000000-t0-a0-0", 8, 0, sections)).expect("plain data");
        rmp_serde::from_slice::<TaskFile>(&file).map_err(|error| error.to_string())
    };
    assert!(read(&[(3, 0), (5, 0)]).is_ok() && read(&[(3, 0)]).is_ok());
    for sections in [&[(9, 0)][..], &[(u64::MAX, 0), (2, 0)]] {
        assert!(read(sections).unwrap_err().contains("more than its 8 bytes"));
    }
}

/// The pieces of what users type, in any order.
fn words() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(
        &[
            "0",
            "1",
            "9",
            "18446744073709551615",
            "9223372036854775808",
            ".",
            "-",
            "+",
            "e",
            "E",
            "ns",
            "us",
            "ms",
            "s",
            "m",
            "h",
            "d",
            "y",
            "month",
            "KiB",
            "MB",
            "G",
            "ib",
            "PiB",
            "/s",
            " ",
            "x",
            "×",
            "inf",
            "nan",
            "\u{663}",
            "1e308",
            "http://",
            "https:",
            "//",
            "@",
            ":",
            "[::1]",
            "a.b",
            "/",
            "?",
            "#",
            "%00",
            ",",
        ][..],
    );
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_borne(input in prop::collection::vec(any::<u8>(), 0..400)) {
        let is_cheap = |name: &str| !matches!(name, "command_line" | "job_spec");
        for target in TARGETS.iter().filter(|target| is_cheap(target.name)) {
            target.run(&input);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_users_type_is_a_value_or_refused(text in words()) {
        for target in TARGETS.iter().filter(|target| matches!(target.name, "values" | "webhook_address")) {
            target.run(text.as_bytes());
        }
    }

    #[test]
    fn what_was_right_once_is_read_or_refused(
        (nth, input) in prop::sample::select(seeds()).prop_flat_map(|(nth, seed)| (Just(nth), mangled(Just(seed))))
    ) {
        TARGETS[nth].run(&input);
    }
}
