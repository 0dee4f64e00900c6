//! numpy's `.npy` format: one header, then the elements in one run.
//!
//! Specification: numpy's `numpy/lib/_format_impl.py`, versions 1.0, 2.0 and 3.0 read, 1.0 written.

mod convert;
mod dictionary;
pub mod header;
pub mod output;
pub mod source;

#[cfg(test)]
pub(crate) mod sample;
