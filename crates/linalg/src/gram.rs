//! The job `gram`: a matrix times its own transpose, A'·A or A·A', at half the flops.
//!
//! It is [`multiply`](crate::multiply) of op(A) and op(A)' on a symmetric [`Grid`](crate::tiles::Grid). Only elements on or below the
//! diagonal are computed, by bands of rows that each end at the diagonal; [`mirror`](crate::mirror) makes the others of them. Both
//! have the bits that `multiply` gives them: a chain of fused multiply-adds does not change when the factors of each product change
//! places.

/// Name of the job in its description.
pub const KIND: &str = "gram";
/// Version of the job's code, as far as stored jobs depend on it.
pub const VERSION: u32 = 1;
