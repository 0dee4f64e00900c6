//! The readers of this crate, for the tests of hostile bytes and for fuzzers; nothing else has this module.
//!
//! # Layout
//! - `arguments`: what users type
//! - `cluster`: requests, answers, records, the board, events
//! - `jobs`: descriptions and specs of jobs, outputs of tasks

mod arguments;
mod cluster;
mod jobs;
#[cfg(test)]
mod tests;

use tilework_fuzzing::{Allowance, Target};

const TEXT: Allowance = Allowance {
    bytes: 64 << 10,
    bytes_per_byte: 64,
};
/// JSON is larger in memory than written.
const JSON: Allowance = Allowance {
    bytes: 128 << 10,
    bytes_per_byte: 512,
};

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "values",
        check: arguments::values,
        allowance: TEXT,
    },
    Target {
        name: "webhook_address",
        check: arguments::webhook_address,
        allowance: TEXT,
    },
    Target {
        name: "command_line",
        check: arguments::command_line,
        // The parser's own description of all verbs.
        allowance: Allowance {
            bytes: 4 << 20,
            bytes_per_byte: 1 << 10,
        },
    },
    Target {
        name: "job_spec",
        check: jobs::spec,
        allowance: Allowance {
            bytes: 4 << 20,
            bytes_per_byte: 1 << 10,
        },
    },
    Target {
        name: "product_description",
        check: jobs::product,
        // Verifying has buffers of its own.
        allowance: Allowance {
            bytes: 32 << 20,
            bytes_per_byte: 512,
        },
    },
    Target {
        name: "task_output",
        check: jobs::task_output,
        // What a list claims is reserved up to a megabyte.
        allowance: Allowance {
            bytes: 8 << 20,
            bytes_per_byte: 512,
        },
    },
    Target {
        name: "requests",
        check: cluster::requests,
        allowance: JSON,
    },
    Target {
        name: "job_record",
        check: cluster::job_record,
        allowance: JSON,
    },
    Target {
        name: "board_and_events",
        check: cluster::board_and_events,
        allowance: JSON,
    },
];
