//! What is computed: C = alpha·op(A)·op(B) + beta·D; by default alpha is 1 and nothing is added.
//!
//! An element of C is `fma(alpha, ab, t)`, where `t` is beta·d, rounded. Without D it is alpha·ab, rounded once. Zero factors
//! are no exception: 0 times an infinity is NaN.

use crate::operand::{Number, Operand};
use std::fmt;
use tilework_kernel::Element;
use tilework_store::element_type::Dtype;

/// alpha, and what is added.
#[derive(Debug, Clone)]
pub struct Formula {
    alpha: f64,
    addend: Option<Addend>,
}

/// beta·D.
#[derive(Debug, Clone)]
pub struct Addend {
    /// D, of C's shape.
    pub d: Operand,
    /// Its factor, a number of the dtype that is computed in.
    pub beta: f64,
}

/// A factor that the dtype can't hold without losing more than a rounding.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error(
    "{name} is {value:e}, and {dtype} holds magnitudes from {:.1e} to {:.1e}, and 0",
    smallest(*dtype),
    largest(*dtype)
)]
pub struct FactorError {
    /// `alpha` or `beta`.
    pub name: &'static str,
    /// What was given.
    pub value: f64,
    /// What is computed in.
    pub dtype: Dtype,
}

fn smallest(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F64 => f64::MIN_POSITIVE,
        Dtype::F32 => f64::from(f32::MIN_POSITIVE),
    }
}

fn largest(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F64 => f64::MAX,
        Dtype::F32 => f64::from(f32::MAX),
    }
}

/// `value` as the nearest number of `dtype`.
fn factor(name: &'static str, value: f64, dtype: Dtype) -> Result<f64, FactorError> {
    let rounded = match dtype {
        Dtype::F64 => value,
        Dtype::F32 => f64::from(value as f32),
    };
    let is_held = value == 0.0 || (smallest(dtype)..=largest(dtype)).contains(&rounded.abs());
    is_held
        .then_some(rounded)
        .ok_or(FactorError { name, value, dtype })
}

impl Formula {
    /// C = op(A)·op(B).
    pub fn plain() -> Formula {
        Formula {
            alpha: 1.0,
            addend: None,
        }
    }

    /// C = alpha·op(A)·op(B) + beta·D, computed in `dtype`, to which the factors are rounded.
    ///
    /// # Errors
    /// If a factor is not finite, or too large or too small for `dtype`.
    pub fn new(alpha: f64, addend: Option<Addend>, dtype: Dtype) -> Result<Formula, FactorError> {
        let round = |addend: Addend| {
            let beta = factor("beta", addend.beta, dtype)?;
            Ok(Addend { beta, ..addend })
        };
        Ok(Formula {
            alpha: factor("alpha", alpha, dtype)?,
            addend: addend.map(round).transpose()?,
        })
    }

    /// Whether C is op(A)·op(B) itself.
    pub fn is_plain(&self) -> bool {
        self.alpha == 1.0 && self.addend.is_none()
    }

    /// The product's factor.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    /// What is added.
    pub fn addend(&self) -> Option<&Addend> {
        self.addend.as_ref()
    }

    /// D, where something is added.
    pub fn d(&self) -> Option<&Operand> {
        self.addend.as_ref().map(|addend| &addend.d)
    }

    /// The formula of C's transpose.
    pub fn transpose(&self) -> Formula {
        let transpose = |addend: &Addend| Addend {
            d: addend.d.transpose(),
            beta: addend.beta,
        };
        Formula {
            alpha: self.alpha,
            addend: self.addend.as_ref().map(transpose),
        }
    }

    /// The formula's arithmetic in `T`.
    pub(crate) fn factors<T: Number>(&self) -> Factors<T> {
        Factors {
            alpha: <T as Element>::from_f64(self.alpha),
            beta: <T as Element>::from_f64(self.addend.as_ref().map_or(0.0, |addend| addend.beta)),
            nothing: <T as Element>::from_f64(-0.0),
        }
    }
}

/// The formula's arithmetic on one element.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Factors<T> {
    alpha: T,
    beta: T,
    /// -0: what can be added to any number without changing it, not even the sign of a zero.
    nothing: T,
}

impl<T: Number> Factors<T> {
    /// alpha·ab.
    #[inline(always)]
    pub(crate) fn scale(&self, ab: T) -> T {
        ab.mul_add(self.alpha, self.nothing)
    }

    /// alpha·ab + beta·d.
    #[inline(always)]
    pub(crate) fn combine(&self, ab: T, d: T) -> T {
        ab.mul_add(self.alpha, d.mul_add(self.beta, self.nothing))
    }
}

/// A formula as it is written: its factors, and how A and B are used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FormulaText {
    /// A's transpose is used.
    pub transpose_a: bool,
    /// B's transpose is used.
    pub transpose_b: bool,
    /// The product's factor.
    pub alpha: f64,
    /// D's factor, where D is added.
    pub beta: Option<f64>,
}

impl fmt::Display for FormulaText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = |transposed: bool| if transposed { "ᵀ" } else { "" };
        let (a, b) = (op(self.transpose_a), op(self.transpose_b));
        write!(f, "C = {}A{a}·B{b}", FactorText(self.alpha))?;
        match self.beta {
            Some(beta) if beta.is_sign_negative() => write!(f, " - {}D", FactorText(-beta)),
            Some(beta) => write!(f, " + {}D", FactorText(beta)),
            None => Ok(()),
        }
    }
}

/// A factor before what it multiplies: nothing for 1, exponents where a number would be long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FactorText(pub f64);

impl fmt::Display for FactorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1.0 => Ok(()),
            -1.0 => write!(f, "-"),
            value if value == 0.0 || (1e-4..1e9).contains(&value.abs()) => write!(f, "{value}·"),
            value => write!(f, "{value:e}·"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_that_the_dtype_cannot_hold_are_refused() {
        for alpha in [0.0, 1.0, -1e300, 1e-300, f64::MAX, f64::MIN_POSITIVE] {
            assert_eq!(Formula::new(alpha, None, Dtype::F64).unwrap().alpha(), alpha);
        }
        for alpha in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5e-324] {
            assert!(Formula::new(alpha, None, Dtype::F64).is_err(), "{alpha}");
        }
        for alpha in [f64::NAN, 1e39, -1e39, 1e-40, 1e-300] {
            assert!(Formula::new(alpha, None, Dtype::F32).is_err(), "{alpha}");
        }
        let third = Formula::new(1.0 / 3.0, None, Dtype::F32).unwrap().alpha();
        assert_eq!(third, f64::from(1.0f32 / 3.0));
        let error = Formula::new(1e300, None, Dtype::F32).unwrap_err();
        assert_eq!(
            error.to_string(),
            "alpha is 1e300, and f32 holds magnitudes from 1.2e-38 to 3.4e38, and 0"
        );
    }

    #[test]
    fn scaling_is_one_multiplication_with_its_signed_zeros() {
        let factors = Formula::new(-0.3, None, Dtype::F64).unwrap().factors::<f64>();
        for ab in [0.0, -0.0, 1.7, -1e-320, f64::INFINITY] {
            assert_eq!(factors.scale(ab).to_bits(), (-0.3 * ab).to_bits(), "{ab}");
        }
    }

    #[test]
    fn formulas_are_written_as_people_write_them() {
        let text = |alpha: f64, beta: Option<f64>, transpose_b: bool| {
            let text = FormulaText {
                transpose_a: false,
                transpose_b,
                alpha,
                beta,
            };
            text.to_string()
        };
        assert_eq!(text(1.0, None, false), "C = A·B");
        assert_eq!(text(0.5, Some(1.0), true), "C = 0.5·A·Bᵀ + D");
        assert_eq!(text(-1.0, Some(-2.0), false), "C = -A·B - 2·D");
        assert_eq!(text(-1e-9, Some(0.0), false), "C = -1e-9·A·B + 0·D");
        assert_eq!(text(3e20, Some(-1.0), false), "C = 3e20·A·B - D");
    }
}
