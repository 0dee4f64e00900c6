//! The instruction sets that a kernel can use; all of them give the same bits, so the choice is about speed only.

use std::fmt;
use std::str::FromStr;

/// One instruction set, slowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Simd {
    /// Plain Rust on any machine.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512F.
    Avx512,
}

/// A name that is none of `portable`, `avx2` and `avx512`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown instruction set `{name}`: expected `portable`, `avx2` or `avx512`")]
pub struct UnknownSimd {
    /// The name as given.
    pub name: String,
}

impl Simd {
    const ALL: [Simd; 3] = [Simd::Portable, Simd::Avx2, Simd::Avx512];

    /// The fastest instruction set of this machine.
    pub fn detect() -> Simd {
        Simd::ALL
            .into_iter()
            .rfind(|simd| simd.is_supported())
            .unwrap_or(Simd::Portable)
    }

    /// Every instruction set of this machine, slowest first; [`Simd::Portable`] is always among them.
    pub fn available() -> Vec<Simd> {
        Simd::ALL.into_iter().filter(|simd| simd.is_supported()).collect()
    }

    /// Whether this machine can run it.
    pub fn is_supported(self) -> bool {
        match self {
            Simd::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(not(target_arch = "x86_64"))]
            Simd::Avx2 | Simd::Avx512 => false,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Simd::Portable => "portable",
            Simd::Avx2 => "avx2",
            Simd::Avx512 => "avx512",
        }
    }
}

impl fmt::Display for Simd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Simd {
    type Err = UnknownSimd;

    fn from_str(name: &str) -> Result<Simd, UnknownSimd> {
        let found = Simd::ALL.into_iter().find(|simd| simd.name() == name);
        found.ok_or_else(|| UnknownSimd {
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for simd in Simd::ALL {
            assert_eq!(simd.to_string().parse(), Ok(simd));
        }
        let error = "AVX2".parse::<Simd>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown instruction set `AVX2`: expected `portable`, `avx2` or `avx512`"
        );
    }

    #[test]
    fn the_detected_one_is_the_last_available() {
        assert_eq!(Simd::available().first(), Some(&Simd::Portable));
        assert_eq!(Simd::available().last(), Some(&Simd::detect()));
    }
}
