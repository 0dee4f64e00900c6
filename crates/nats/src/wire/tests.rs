//! Every message comes back as it was written, and nothing that is read panics.

use super::*;
use proptest::prelude::*;
use tilework_core::failure::{Cause, Failure, Remedy};
use tilework_core::ids::{Attempt, AttemptNo, JobId, RoundIdx, RunEpoch, TaskIdx};
use tilework_core::message::Holding;

const REMEDIES: [Remedy; 3] = [Remedy::Retry, Remedy::Fatal, Remedy::Corrupt];
const CAUSES: [Cause; 11] = [
    Cause::Storage,
    Cause::DiskFull,
    Cause::OutOfMemory,
    Cause::InputChanged,
    Cause::Check,
    Cause::Panic,
    Cause::Job,
    Cause::WorkerLost,
    Cause::Deadline,
    Cause::Hung,
    Cause::Cancelled,
];

fn attempts() -> impl Strategy<Value = JobAttempt> {
    let ids = (any::<[u8; 16]>(), any::<(u32, u32, u64, u8)>());
    ids.prop_map(|(job, (epoch, round, task, attempt))| JobAttempt {
        job: JobId(job),
        attempt: Attempt {
            epoch: RunEpoch(epoch),
            round: RoundIdx(round),
            task: TaskIdx(task),
            attempt: AttemptNo(attempt),
        },
    })
}

fn failures() -> impl Strategy<Value = Failure> {
    let parts = (
        prop::sample::select(&REMEDIES),
        prop::sample::select(&CAUSES),
        ".*",
    );
    parts.prop_map(|(remedy, cause, text)| Failure { remedy, cause, text })
}

fn from_drivers() -> impl Strategy<Value = FromDriver> {
    (0..5, attempts()).prop_map(|(kind, attempt)| match kind {
        0 => FromDriver::Command(ToWorker::CancelJob {
            job: attempt.job,
            epoch: attempt.attempt.epoch,
        }),
        1 => FromDriver::Command(ToWorker::Abandon(attempt)),
        2 => FromDriver::Command(ToWorker::Recall(attempt)),
        3 => FromDriver::Command(ToWorker::Drain),
        _ => FromDriver::SayAgain,
    })
}

fn reports() -> impl Strategy<Value = WorkerReport> {
    let held = prop::collection::vec((attempts(), any::<bool>()), 0..8);
    (0..9, attempts(), failures(), any::<u64>(), held).prop_map(
        |(kind, attempt, failure, memory_bytes, held)| match kind {
            0 => WorkerReport::Joined { memory_bytes },
            1 => WorkerReport::Heartbeat {
                memory_bytes,
                holding: held
                    .into_iter()
                    .map(|(attempt, started)| Holding { attempt, started })
                    .collect(),
            },
            2 => WorkerReport::Took(attempt),
            3 => WorkerReport::Started(attempt),
            4 => WorkerReport::Committed(attempt),
            5 => WorkerReport::Failed(attempt, failure),
            6 => WorkerReport::GaveBack(attempt),
            7 => WorkerReport::Left(attempt.job),
            _ => WorkerReport::Drained,
        },
    )
}

fn from_workers() -> impl Strategy<Value = FromWorker> {
    (any::<Option<u32>>(), any::<u32>(), reports()).prop_map(|(gone, worker, body)| match gone {
        Some(worker) => FromWorker::Gone(WorkerIdx(worker)),
        None => FromWorker::Report(ToDriver {
            worker: WorkerIdx(worker),
            body,
        }),
    })
}

proptest! {
    #[test]
    fn tasks_come_back(attempt in attempts()) {
        let bytes = encode_task(attempt).unwrap();
        prop_assert_eq!(decode_task(&bytes), Ok(attempt));
    }

    #[test]
    fn commands_come_back(message in from_drivers()) {
        let bytes = encode_from_driver(message).unwrap();
        prop_assert_eq!(decode_from_driver(&bytes), Ok(message));
    }

    #[test]
    fn reports_come_back(message in from_workers()) {
        let bytes = encode_from_worker(message.clone()).unwrap();
        prop_assert_eq!(decode_from_worker(&bytes), Ok(message));
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode_task(&bytes).is_err());
        prop_assert!(decode_from_driver(&bytes).is_err());
        prop_assert!(decode_from_worker(&bytes).is_err());
    }

    #[test]
    fn a_damaged_message_is_another_one_or_none(
        message in from_workers(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut bytes = encode_from_worker(message).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        let _ = decode_from_worker(&bytes);
        let _ = decode_from_driver(&bytes);
        let _ = decode_task(&bytes);
    }
}

fn any_attempt() -> JobAttempt {
    JobAttempt {
        job: JobId([0x5a; 16]),
        attempt: Attempt {
            epoch: RunEpoch(3),
            round: RoundIdx(0),
            task: TaskIdx(7),
            attempt: AttemptNo(1),
        },
    }
}

#[test]
fn a_task_looks_like_this() {
    let bytes = encode_task(any_attempt()).unwrap();
    let expected = concat!(
        r#"{"v":3,"body":{"job":"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a","#,
        r#""attempt":{"epoch":3,"round":0,"task":7,"attempt":1}}}"#
    );
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}

#[test]
fn messages_look_like_this() {
    let job = JobId([0x5a; 16]);
    let epoch = RunEpoch(3);
    let cancel = encode_from_driver(FromDriver::Command(ToWorker::CancelJob { job, epoch })).unwrap();
    let joined = encode_from_worker(FromWorker::Report(ToDriver {
        worker: WorkerIdx(1),
        body: WorkerReport::Joined { memory_bytes: 8 },
    }));
    let gone = encode_from_worker(FromWorker::Gone(WorkerIdx(1)));
    for (bytes, expected) in [
        (
            cancel,
            r#"{"v":3,"body":{"command":{"cancel_job":{"job":"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a","epoch":3}}}}"#,
        ),
        (
            joined.unwrap(),
            r#"{"v":3,"body":{"report":{"worker":1,"body":{"joined":{"memory_bytes":8}}}}}"#,
        ),
        (gone.unwrap(), r#"{"v":3,"body":{"gone":1}}"#),
    ] {
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
}

#[test]
fn another_version_is_named_whatever_its_body_is() {
    let newer = br#"{"v":70000,"body":["anything"],"and":"more"}"#;
    assert_eq!(
        decode_from_driver(newer),
        Err(WireError::OtherVersion { found: 70_000 })
    );
    let older = br#"{"v":1,"body":"say_again"}"#;
    assert_eq!(
        decode_from_driver(older),
        Err(WireError::OtherVersion { found: 1 })
    );
}

#[test]
fn what_is_too_large_is_not_even_parsed() {
    let mut bytes = encode_task(any_attempt()).unwrap();
    bytes.resize(TASK_BYTES_MAX + 1, b' ');
    let too_large = WireError::TooLarge {
        bytes: TASK_BYTES_MAX + 1,
        bytes_max: TASK_BYTES_MAX,
    };
    assert_eq!(decode_task(&bytes), Err(too_large));
}

#[test]
fn a_field_too_many_or_too_few_is_refused() {
    for text in [
        r#"{"v":3,"body":"say_again","more":1}"#,
        r#"{"v":3}"#,
        r#"{"body":"say_again"}"#,
        r#"{"v":3,"body":{"command":{"cancel_job":{"job":"5a","epoch":1}}}}"#,
    ] {
        let read = decode_from_driver(text.as_bytes());
        assert!(
            matches!(read, Err(WireError::Malformed { .. })),
            "{text}: {read:?}"
        );
    }
}

#[test]
fn the_longest_text_of_a_failure_is_cut_and_fits_even_when_escaped() {
    let text = format!("é{}", "\u{1}".repeat(100_000));
    let report = |text: String| {
        let failure = Failure::fatal(Cause::Job, text);
        FromWorker::Report(ToDriver {
            worker: WorkerIdx(0),
            body: WorkerReport::Failed(any_attempt(), failure),
        })
    };
    let bytes = encode_from_worker(report(text.clone())).unwrap();
    let cut = text[..FAILURE_TEXT_BYTES_MAX].to_string();
    assert_eq!(decode_from_worker(&bytes), Ok(report(cut)));
}
