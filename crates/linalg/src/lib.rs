//! Matrix jobs: `C = alpha·op(A)·op(B) + beta·D`, planned within a memory budget, streamed from storage, checked before it is committed.
//!
//! # Layout
//! - [`operand`]: an input matrix as the product sees it
//! - [`formula`]: alpha, beta and D
//! - [`input_guard`]: noticing that an input changes
//! - [`bound`]: how few bytes any algorithm must move
//! - [`tiles`]: the grid of output tiles, one per task
//! - [`layout`]: what a worker keeps in memory, summed in one place
//! - [`plan`]: choosing tiles and layout
//! - [`workspace`]: the buffers and threads of one worker
//! - [`pipeline`]: streaming panels through a tile, with `schedule` (which ones, in order), `reader` (ahead of their use), and
//!   `packed_cols` (columns of B that stay packed)
//! - `classical`, `strassen` (by `halves`): what is computed of them, by a `crew` of threads; `largest` notes whether it is safe
//! - `epilogue`: scaling a tile, and adding D
//! - [`matvec`], [`check`]: Freivalds' check, computed apart from the kernel
//! - [`certify`], [`recompute`]: the same check for any C, non-finite values included
//! - [`multiply`]: the job, and [`gram`]: what is different where a matrix is multiplied with its own transpose
//! - [`mirror`]: the other half of a symmetric C
//! - `lies`: wrong results on purpose, in tests only
//! - [`in_memory`]: products without a job, of matrices that are in memory already, small ones by `fork_join`

#![forbid(unsafe_code)]

pub mod bound;
pub mod certify;
pub mod check;
mod classical;
mod crew;
mod epilogue;
mod fork_join;
pub mod formula;
pub mod gram;
mod halves;
pub mod in_memory;
pub mod input_guard;
mod largest;
pub mod layout;
#[cfg(any(debug_assertions, feature = "test-lies"))]
pub mod lies;
pub mod matvec;
pub mod mirror;
pub mod multiply;
pub mod operand;
mod packed_cols;
pub mod pipeline;
pub mod plan;
mod reader;
pub mod recompute;
mod schedule;
mod second_look;
mod strassen;
pub mod tiles;
pub mod workspace;

pub use formula::Formula;
pub use in_memory::InMemory;
pub use multiply::{Multiply, MultiplySpec};
pub use operand::{Number, Operand};
pub use plan::{Algorithm, AlgorithmChoice, Plan, PlanError, PlanRequest};
