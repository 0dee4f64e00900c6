//! The readers of this crate, for the tests of hostile bytes and for fuzzers; nothing else has this module.

#[cfg(test)]
mod tests;

use crate::child_server::port_of;
use crate::join::JoinFile;
use crate::lease_keeper::read_holder;
use crate::requests::is_answerable;
use crate::server_address::ServerAddress;
use crate::streams::{job_of_token, job_token, parse_task_subject, task_subject};
use crate::wire::{
    FAILURE_TEXT_BYTES_MAX, FromWorker, decode_from_driver, decode_from_worker, decode_task,
    encode_from_driver, encode_from_worker, encode_task,
};
use std::path::Path;
use tilework_core::message::{ToDriver, WorkerReport};
use tilework_fuzzing::{Allowance, Target};

/// JSON is larger in memory than written.
const JSON: Allowance = Allowance {
    bytes: 64 << 10,
    bytes_per_byte: 128,
};

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "messages",
        check: messages,
        allowance: JSON,
    },
    Target {
        name: "join_file",
        check: join_file,
        allowance: JSON,
    },
    Target {
        name: "server_records",
        check: server_records,
        allowance: JSON,
    },
    Target {
        name: "subjects",
        check: subjects,
        allowance: JSON,
    },
    Target {
        name: "server_address",
        check: server_address,
        allowance: JSON,
    },
];

/// Tasks, commands and reports: what is written of what was read is read as the same.
fn messages(input: &[u8]) {
    if let Ok(task) = decode_task(input) {
        let bytes = encode_task(task).expect("it was short");
        assert_eq!(decode_task(&bytes), Ok(task));
    }
    if let Ok(command) = decode_from_driver(input) {
        let bytes = encode_from_driver(command).expect("it was short");
        assert_eq!(decode_from_driver(&bytes), Ok(command));
    }
    if let Ok(mut report) = decode_from_worker(input) {
        let bytes = encode_from_worker(report.clone()).expect("it was short");
        if let FromWorker::Report(ToDriver {
            body: WorkerReport::Failed(_, failure),
            ..
        }) = &mut report
        {
            let end = failure.text.floor_char_boundary(FAILURE_TEXT_BYTES_MAX);
            failure.text.truncate(end);
        }
        assert_eq!(decode_from_worker(&bytes), Ok(report));
    }
}

/// A join file: what is written of what was read is read as the same, and no error says its secret.
fn join_file(input: &[u8]) {
    let path = Path::new("worker.join");
    let Ok(join) = JoinFile::parse(path, input) else {
        return;
    };
    // A file may name its secret elsewhere too: where it is no secret.
    let is_elsewhere = join
        .servers
        .iter()
        .chain([&join.authority])
        .any(|text| text.contains(&join.seed));
    assert!(is_elsewhere || !format!("{join:?}").contains(&join.seed));
    let again = JoinFile::parse(path, join.text().as_bytes()).expect("a file of ours");
    assert_eq!(again, join);
}

/// The lease, and where a server says it listens.
fn server_records(input: &[u8]) {
    let _ = read_holder(input);
    let _ = port_of(input);
}

/// A subject on which something came: whatever is told by it is said there.
fn subjects(input: &[u8]) {
    let Ok(subject) = str::from_utf8(input) else {
        return;
    };
    if let Some((job, queue)) = parse_task_subject(subject) {
        assert_eq!(task_subject(job, queue), subject);
    }
    if let Some(job) = job_of_token(subject) {
        assert_eq!(job_token(job), subject);
    }
    assert!(!is_answerable(subject) || subject.starts_with('_'));
}

/// A server's address as it is given.
fn server_address(input: &[u8]) {
    let Some(address) = str::from_utf8(input)
        .ok()
        .and_then(|text| text.parse::<ServerAddress>().ok())
    else {
        return;
    };
    assert_eq!(
        address.to_string().parse::<ServerAddress>().ok(),
        Some(address.clone())
    );
    assert_ne!(address.listen().port(), 0);
    let _ = (address.url(), address.route(), address.is_loopback());
}
