//! Matrices and journals on storage.
//!
//! # Layout
//! - [`disk`]: the narrow traits through which everything here touches files; [`fake_disk`] is the one that crashes,
//!   [`data_roots`] the one that never leaves some directories.
//! - [`element_type`]: what a file's elements are, and the two types that we compute in.
//! - [`matrix`]: an input matrix, opened from any format and read block by block;
//!   [`identity`] says whether it is still the same.
//! - [`npy`], [`text`]: the formats.
//! - [`journal`], [`lock`]: what a job leaves beside its output, and who may write there.
//! - `fuzzing`: all that reads bytes of others, for tests and fuzzers only.

#![forbid(unsafe_code)]

#[cfg(not(target_endian = "little"))]
compile_error!("tilework writes its files in the processor's byte order, which must be little-endian");

pub mod data_roots;
pub mod disk;
pub mod element_type;
pub mod fake_disk;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod identity;
pub mod journal;
pub mod lock;
pub mod matrix;
pub mod npy;
mod real_disk;
pub mod text;
