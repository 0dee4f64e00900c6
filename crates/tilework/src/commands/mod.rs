//! One file per verb: each takes its arguments and an [`Output`](crate::output::Output), and does it.

pub mod asking;
pub mod audience;
pub mod clean;
pub mod cluster;
pub(crate) mod clustered;
pub mod compare;
pub mod completions;
pub mod demo;
pub mod doctor;
pub mod explain;
pub mod generate;
pub mod gram;
pub mod inspect;
pub mod introduction;
mod job_on_cluster;
pub mod man;
pub mod multiply;
pub mod plan;
pub mod processes;
pub mod repair;
pub mod resume;
pub mod run;
pub mod simulate;
pub mod status;
pub mod verify;
