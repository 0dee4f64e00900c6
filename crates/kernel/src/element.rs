//! The number types that can be multiplied, and the constants that fix their bits.

use std::fmt::Debug;
use std::ops::{Add, Sub};

use crate::micro::Instances;

/// A matrix element: `f64` or `f32`. Sealed: each type needs micro-kernels of its own.
pub trait Element:
    bytemuck::Pod
    + PartialEq
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Debug
    + Default
    + Send
    + Sync
    + Instances
    + 'static
{
    /// The dtype's name: `f64` or `f32`.
    const NAME: &'static str;

    /// Zero, the value of every padded element.
    const ZERO: Self;

    /// Length of a depth block. The partial sum of a block is one chain of fused multiply-adds, and block sums are added in
    /// depth order, so this constant is part of the numerics version: changing it changes the bits of results.
    const KC: usize;

    /// `self * a + b` with one rounding.
    fn mul_add(self, a: Self, b: Self) -> Self;

    /// Whether this is neither an infinity nor a NaN.
    fn is_finite(self) -> bool;

    /// The value as `f64`, exactly.
    fn to_f64(self) -> f64;

    /// The nearest value of this type.
    fn from_f64(value: f64) -> Self;
}

impl Element for f64 {
    const NAME: &'static str = "f64";
    const ZERO: f64 = 0.0;
    const KC: usize = 512;

    #[inline]
    fn mul_add(self, a: f64, b: f64) -> f64 {
        f64::mul_add(self, a, b)
    }

    #[inline]
    fn is_finite(self) -> bool {
        f64::is_finite(self)
    }

    #[inline]
    fn to_f64(self) -> f64 {
        self
    }

    #[inline]
    fn from_f64(value: f64) -> f64 {
        value
    }
}

impl Element for f32 {
    const NAME: &'static str = "f32";
    const ZERO: f32 = 0.0;
    const KC: usize = 512;

    #[inline]
    fn mul_add(self, a: f32, b: f32) -> f32 {
        f32::mul_add(self, a, b)
    }

    #[inline]
    fn is_finite(self) -> bool {
        f32::is_finite(self)
    }

    #[inline]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    #[inline]
    fn from_f64(value: f64) -> f32 {
        value as f32
    }
}
