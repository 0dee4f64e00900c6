//! Hostile bytes in the normal tests: the corpora, arbitrary bytes, and valid files after damage.

use super::{TARGETS, Target};
use crate::element_type::Dtype;
use crate::journal::{JobFiles, frame};
use crate::npy::header::{NpyHeaderError, format_header, parse_header};
use crate::npy::sample::npy_bytes_of_version;
use proptest::prelude::*;
use std::path::Path;
use tilework_core::ids::{Attempt, AttemptNo, JobId, RoundIdx, RunEpoch, TaskIdx, WorkerIdx};
use tilework_core::record::{Barrier, Commit, Record, RoundStart, RunStart, Winner};
use tilework_fuzzing::{corpus, mangled};

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect(name)
}

#[test]
fn what_is_in_the_corpora_stays_right() {
    TARGETS.iter().for_each(corpus::replay);
}

fn records() -> Vec<Record> {
    let attempt = Attempt {
        epoch: RunEpoch(2),
        round: RoundIdx(1),
        task: TaskIdx(3),
        attempt: AttemptNo(1),
    };
    let commit = Commit {
        attempt,
        worker: WorkerIdx(1),
        checked: true,
        crc32c: 7,
        residual: 0.5,
        residual_bound: 1.0,
        seconds: 0.1,
        output: b"TWJ1 in an output".to_vec(),
    };
    let winner = Winner {
        epoch: RunEpoch(2),
        attempt: AttemptNo(0),
    };
    vec![
        Record::Job(b"{}".to_vec()),
        Record::Run(RunStart {
            job: JobId([7; 16]),
            epoch: RunEpoch(2),
            started_unix_ms: 1,
            pid: 9,
        }),
        Record::Commit(commit),
        Record::Barrier(Barrier {
            round: RoundIdx(1),
            epoch: RunEpoch(2),
            winners: vec![winner; 3],
        }),
        Record::Round(RoundStart {
            round: RoundIdx(2),
            n_tasks: 1 << 60,
            state: b"state".to_vec(),
        }),
        Record::Done(b"{}".to_vec()),
    ]
}

fn segment() -> Vec<u8> {
    let mut bytes = Vec::new();
    records()
        .iter()
        .for_each(|record| frame::append(record, &mut bytes));
    bytes
}

fn npy_file() -> Vec<u8> {
    let mut file = format_header(2, 3, Dtype::F64);
    file.extend((0..6).flat_map(|i| f64::from(i).to_le_bytes()));
    file
}

fn with_first(first: &[u8], rest: &[u8]) -> Vec<u8> {
    [first, rest].concat()
}

/// Names as they are, and as they almost are.
fn names() -> Vec<Vec<u8>> {
    let files = JobFiles::beside(Path::new("c"));
    let paths = [
        files.compacted(),
        files.segment(RunEpoch(7)),
        files.worker_segment(RunEpoch(7), WorkerIdx(3), 1),
        files.round(RoundIdx(2)),
        files.compacting(RunEpoch(7)),
    ];
    let names = paths
        .iter()
        .map(|path| path.file_name().expect("a name").as_encoded_bytes().to_vec());
    names.chain([b"000001-r000002-t3-a4-5".to_vec()]).collect()
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_borne(input in prop::collection::vec(any::<u8>(), 0..400)) {
        for target in TARGETS.iter().filter(|target| target.name != "data_root_paths") {
            target.run(&input);
        }
    }

    #[test]
    fn a_damaged_record_is_another_one_or_none(nth in 0..6_usize, damage in any::<prop::sample::Index>(), byte: u8) {
        let record = &records()[nth];
        let mut input = with_first(&[record.kind()], &record.encode());
        let at = damage.index(input.len());
        input[at] = byte;
        target("record").run(&input);
        target("record").run(&input[..at]);
    }

    /// No damage makes a record that was not written.
    #[test]
    fn of_a_damaged_segment_only_what_was_written_is_read(input in mangled(Just(segment()))) {
        target("journal_frames").run(&input);
        let written = records();
        for record in frame::scan(&input).records {
            prop_assert!(written.contains(&record), "{:?}", record);
        }
    }

    #[test]
    fn folders_of_damaged_segments_are_read_and_gone_on_with(
        kinds in prop::collection::vec((0..7_u8, 0..4_u8), 1..5), input in mangled(Just(segment())),
        script in prop::collection::vec(0..9_u8, 0..80),
    ) {
        let mut folder = Vec::new();
        for (kind, number) in kinds {
            folder.extend_from_slice(&[kind, number, number, number]);
            folder.extend(script.iter());
            for part in input.chunks(255) {
                folder.extend_from_slice(&[1, part.len() as u8]);
                folder.extend_from_slice(part);
            }
            folder.push(0);
        }
        target("journal_folder").run(&folder);
    }

    #[test]
    fn damaged_matrices_are_read_or_refused(input in mangled(Just(npy_file())), is_npy: bool) {
        target("matrix_file").run(&with_first(&[u8::from(!is_npy)], &input));
        target("npy_header").run(&with_first(&(input.len() as u64).to_le_bytes(), &input));
        target("npy_header").run(&with_first(&[0xff; 8], &input));
    }

    #[test]
    fn damaged_texts_are_read_or_refused(input in mangled(Just(b"# a\n1, 2.5e3\n-inf, nan\n".to_vec()))) {
        target("text_matrix").run(&input);
        target("matrix_file").run(&with_first(&[1], &input));
    }

    #[test]
    fn damaged_names_are_other_names_or_none(input in mangled(prop::sample::select(names()))) {
        target("file_names").run(&input);
    }

    #[test]
    fn damaged_headers_claim_no_memory(claimed: u32, version in 2..4_u8) {
        let mut bytes = npy_bytes_of_version(version, "{}", &[]);
        bytes[8..12].copy_from_slice(&claimed.to_le_bytes());
        target("npy_header").run(&with_first(&u64::MAX.to_le_bytes(), &bytes));
        target("matrix_file").run(&with_first(&[0], &bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn mangled_paths_stay_in_their_root(
        input in mangled(Just(b"d=/x\nd:/l/secret\nd:/s/../f\nd:a\n/etc\nd:/s/r\nd:/new".to_vec()))
    ) {
        target("data_root_paths").run(&input);
    }
}

#[test]
fn a_short_header_that_claims_a_huge_matrix_is_refused_without_memory_for_it() {
    let dictionary = "{'descr': '<f8', 'fortran_order': False, 'shape': (1073741824, 1073741824), }";
    let bytes = npy_bytes_of_version(1, dictionary, &[]);
    let error = parse_header(&bytes, bytes.len() as u64).unwrap_err();
    assert!(matches!(error, NpyHeaderError::TooLarge { .. }));
    target("matrix_file").run(&with_first(&[0], &bytes));
    // 2^57 elements fit a file's length, but not this file's.
    let dictionary = "{'descr': '<f8', 'fortran_order': False, 'shape': (1073741824, 134217728), }";
    target("matrix_file").run(&with_first(&[0], &npy_bytes_of_version(1, dictionary, &[])));
}
