//! What the machine may refuse: open files, memory, room, writing at all; and a clock that is set meanwhile. Real processes: each run ends right, or
//! says what was refused, where, and what to do; the same command, once that is over, gives the undisturbed bytes.
//!
//! Every test counts how often its fault came, and fails if it never did. What a machine does not allow here, such as mounts, is skipped
//! and printed.

#![expect(
    clippy::print_stdout,
    reason = "what was refused how often, and what was skipped, is told"
)]

#[path = "../common/mod.rs"]
mod common;

mod place;

mod calls;
mod clock;
mod crowded;
mod disk;
mod files;
mod full;
mod group;
mod memory;
mod read_only;
