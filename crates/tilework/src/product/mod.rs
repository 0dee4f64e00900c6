//! One product, file to file, for the commands that plan, run, resume and verify it.
//!
//! - [`inputs`]: opening and matching the two matrices
//! - [`request`]: what is asked, against what stands at the output
//! - [`running`]: from request to report
//! - [`report`]: what is told about a plan and a finished product
//! - [`damage`]: what of a finished product's file is not what was committed
//! - [`certificate`]: what `verify` checks
//! - [`repair`]: computing damaged tiles again

pub mod certificate;
pub mod damage;
pub mod inputs;
pub mod repair;
pub mod report;
pub mod request;
pub mod running;
