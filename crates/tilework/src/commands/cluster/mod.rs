//! `cluster`: one file per verb, and what `up` is made of.
//!
//! - [`init`], [`up`], [`down`], [`status`]: the verbs
//! - `preparation`: what has to be there before anything starts; [`up_lock`]: one `up` per folder
//! - [`supervisor`]: server, driver and workers, each [`kept`] running, as often as [`back_off`] lets it
//! - [`process`]: one of them; [`log_file`]: what it writes
//! - [`readiness`]: waits until all of them are on the board
//! - [`started`]: what `up` prints; [`background`]: `up --detach`

pub mod back_off;
pub mod background;
pub mod down;
pub mod init;
pub mod kept;
pub mod log_file;
mod preparation;
pub mod process;
pub mod readiness;
pub mod started;
pub mod status;
pub mod supervisor;
pub mod up;
pub mod up_lock;
