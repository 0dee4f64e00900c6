//! What is asked of every function that reads bytes which others wrote: by the normal tests, and by fuzzers that search for hours.
//!
//! A crate lists its readers as [`Target`]s in a module of its own, which only its tests and the feature `fuzzing` compile. Whatever
//! links this crate counts its allocations.
//!
//! # Layout
//! - [`target`]: one reader: what must hold of any bytes, and how much it may allocate for them
//! - [`corpus`]: the files in `fuzz/corpus`, read again by the normal tests
//! - [`mod@mangled`]: bytes that were right once

#![forbid(unsafe_code)]

pub mod corpus;
pub mod mangled;
pub mod target;

pub use mangled::mangled;
pub use target::{Allowance, Target};
