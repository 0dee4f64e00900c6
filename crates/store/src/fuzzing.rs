//! The readers of this crate, for the tests of hostile bytes and for fuzzers; nothing else has this module.
//!
//! # Layout
//! - `journal`: records, frames, and what they add up to in a job's folder
//! - `matrix`: input files
//! - `names`: names of files, and paths in data roots

mod journal;
mod matrix;
mod names;
#[cfg(test)]
mod tests;

use tilework_fuzzing::{Allowance, Target};

const SMALL: Allowance = Allowance {
    bytes: 64 << 10,
    bytes_per_byte: 64,
};
/// A disk in memory keeps what it holds twice, and its names.
const ON_DISK: Allowance = Allowance {
    bytes: 256 << 10,
    bytes_per_byte: 512,
};

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "record",
        check: journal::record,
        allowance: SMALL,
    },
    Target {
        name: "journal_frames",
        check: journal::frames,
        allowance: SMALL,
    },
    Target {
        name: "journal_folder",
        check: journal::folder,
        allowance: ON_DISK,
    },
    Target {
        name: "npy_header",
        check: matrix::npy_header,
        allowance: SMALL,
    },
    Target {
        name: "text_matrix",
        check: matrix::text,
        allowance: SMALL,
    },
    Target {
        name: "matrix_file",
        check: matrix::file,
        allowance: ON_DISK,
    },
    Target {
        name: "file_names",
        check: names::of_files,
        allowance: SMALL,
    },
    Target {
        name: "data_root_paths",
        check: names::in_data_roots,
        allowance: SMALL,
    },
];
