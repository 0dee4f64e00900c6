//! A fuzzer for each reader of foreign bytes, which runs the checks that the normal tests run. `cargo xtask soak fuzz` runs them.

#[doc(hidden)]
pub use libfuzzer_sys;
pub use tilework_fuzzing::Target;

/// Makes the fuzzer of a crate's target.
#[macro_export]
macro_rules! fuzz {
    ($owner:ident, $name:literal) => {
        $crate::libfuzzer_sys::fuzz_target!(|input: &[u8]| {
            static TARGET: std::sync::LazyLock<&'static $crate::Target> = std::sync::LazyLock::new(|| {
                let found = $owner::fuzzing::TARGETS.iter().find(|target| target.name == $name);
                found.expect("the crate has the target")
            });
            TARGET.run(input);
        });
    };
}
