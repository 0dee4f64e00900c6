//! One product, file to file, for the commands that plan, run, resume and verify it.
//!
//! - [`inputs`]: opening and matching the two matrices
//! - [`request`]: what is asked, against what stands at the output
//! - [`running`]: from request to report
//! - [`report`]: what is told about a plan and a finished product
//! - [`certificate`]: what `verify` checks

pub mod certificate;
pub mod inputs;
pub mod report;
pub mod request;
pub mod running;
