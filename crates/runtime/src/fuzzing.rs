//! The readers of this crate, for the tests of hostile bytes and for fuzzers; nothing else has this module.

#[cfg(test)]
mod tests;

use crate::alarm_log;
use crate::description::JobDescription;
use crate::under_way::UnderWay;
use serde_json::Value;
use std::path::Path;
use tilework_core::ids::RoundIdx;
use tilework_fuzzing::{Allowance, Target};
use tilework_store::fake_disk::FakeDisk;
use tilework_store::journal::JobFiles;

/// All of them. A disk in memory keeps what it holds twice, and JSON is larger in memory than written.
pub const TARGETS: &[Target] = &[
    Target {
        name: "job_description",
        check: job_description,
        allowance: Allowance {
            bytes: 64 << 10,
            bytes_per_byte: 512,
        },
    },
    Target {
        name: "notes_beside_a_job",
        check: notes,
        allowance: Allowance {
            bytes: 64 << 10,
            bytes_per_byte: 64,
        },
    },
];

type Description = JobDescription<Value, Value>;

/// A job's text: what is written of what was read is read as the same, and is the same job.
fn job_description(input: &[u8]) {
    let Ok(description) = Description::from_text(input) else {
        return;
    };
    let text = description.to_text();
    let again = Description::from_text(&text).expect("a text of ours");
    assert_eq!(again, description);
    assert_eq!(again.to_text(), text);
    assert_eq!(again.id(), description.id());
    let _ = description.compare_inputs(&again.inputs);
}

/// Alarms and tasks under way: what can't be read is left out.
fn notes(input: &[u8]) {
    let disk = FakeDisk::new(1);
    let files = JobFiles::beside(Path::new("/c.npy"));
    disk.install(files.alarms(), input);
    disk.install(files.under_way(), input);
    let alarms = alarm_log::read(&disk, &files).expect("the disk has no faults");
    assert!(alarms.len() <= input.split(|byte| *byte == b'\n').count());
    for round in [0, 1, u32::MAX] {
        let left = UnderWay::left(&disk, &files, RoundIdx(round), |_| false);
        assert!(left.len() <= input.len() / 28);
        assert!(left.values().all(|n_times| *n_times > 0));
    }
}
