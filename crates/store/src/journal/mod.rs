//! The journal on storage: framed records in segments beside the output, the only source of truth about what is committed.
//!
//! A run opens its own new segment; nothing is appended to, or truncated in, an older one. What no round needs any more goes. Readers skip damage and go on
//! at the next intact record. docs/journal-format.md has the byte map.
//!
//! # Layout
//! - [`frame`]: one record as bytes, and finding records in damaged bytes
//! - [`layout`]: which files stand beside an output
//! - [`segment`]: writing a segment
//! - [`mod@recover`]: reading all segments into what is known of the job
//! - [`rounds`]: the beginning of a round, published once
//! - [`shedding`]: what no round needs any more
//! - [`task_files`]: files that tasks write, beside the journal
//! - [`report`]: what a job leaves in one piece
//! - [`mod@compact`]: one file after success

pub mod compact;
pub mod frame;
pub mod layout;
pub mod recover;
pub mod report;
pub mod rounds;
pub mod segment;
pub mod shedding;
pub mod task_files;

pub use compact::{Compacted, compact};
pub use layout::{JobFiles, SegmentOwner};
pub use recover::{Recovered, latest_run, make_durable, recover, run_of_segment};
pub use report::{begin_report, publish_report};
pub use rounds::{begin_round, begun_round};
pub use segment::SegmentWriter;
pub use shedding::{shed_rounds, shed_segments};
pub use task_files::TaskFileName;
