//! Dense block multiplication: aligned memory, strided views, packing and SIMD micro-kernels.
//!
//! The rule of this crate is one sentence: every element of a product is one chain of fused multiply-adds per depth block, in
//! ascending depth, and all sums around it (of depth blocks, or of Strassen's quadrants and products) are rounded one by one in
//! a fixed order, so all instruction sets give the same bits. There are no threads here, and no file or environment access.
//!
//! # Layout
//! - [`AlignedBuffer`]: large fallible allocations.
//! - [`Element`]: the two number types and their constants.
//! - [`Simd`]: the instruction sets and which of them this machine has.
//! - [`MatRef`] and [`MatMut`]: checked strided views.
//! - [`Kernel`]: packing and the loops around the micro-kernel, after Goto and van de Geijn, "Anatomy of High-Performance
//!   Matrix Multiplication" (ACM TOMS 34(3), 2008) and Van Zee and van de Geijn, "BLIS: A Framework for Rapidly
//!   Instantiating BLAS Functionality" (ACM TOMS 41(3), 2015).
//!
//! ```
//! use tilework_kernel::{Kernel, MatMut, MatRef, Simd};
//!
//! let kernel = Kernel::<f64>::new(Simd::detect());
//! let a = MatRef::row_major(&[1.0, 2.0, 3.0, 4.0], 2, 2);
//! let b = MatRef::row_major(&[5.0, 6.0, 7.0, 8.0], 2, 2);
//!
//! let mut packed_b = vec![0.0; kernel.packed_b_len(2, 2)];
//! kernel.pack_b_panel(b, &mut packed_b);
//! let mut scratch = vec![0.0; kernel.scratch_len(2, 2)];
//! let mut c = [0.0; 4];
//! kernel.multiply_band(a, &packed_b, MatMut::new(&mut c, 2, 2, 2), false, &mut scratch);
//! assert_eq!(c, [19.0, 22.0, 43.0, 50.0]);
//! ```

mod aligned;
mod element;
mod simd;
mod view;
mod view_mut;

mod band;
mod kernel;
mod micro;
mod pack;
mod strassen;

pub use aligned::{AlignedBuffer, OutOfMemory};
pub use element::Element;
pub use kernel::Kernel;
pub use simd::{Simd, UnknownSimd};
pub use strassen::SumsPlace;
pub use view::MatRef;
pub use view_mut::MatMut;
