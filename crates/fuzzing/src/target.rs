//! One reader of foreign bytes. Whatever it is given, it ends without a panic and within its allowance of memory.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// A reader and what must hold of it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Reads the bytes, and panics if what must hold does not.
    pub check: fn(&[u8]),
    /// What reading and checking may allocate.
    pub allowance: Allowance,
}

/// Memory that is held at one time, at most: a function of the input's length, whatever the input says of its own length.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// For any input.
    pub bytes: u64,
    /// For each byte of the input.
    pub bytes_per_byte: u64,
}

impl Target {
    /// Checks one input.
    ///
    /// # Panics
    /// If something that must hold does not, or too much is allocated.
    pub fn run(&self, input: &[u8]) {
        let mut outcome = Ok(());
        // Unwinding through the counter would leave it counting.
        let counted = allocation_counter::measure(|| {
            outcome = catch_unwind(AssertUnwindSafe(|| (self.check)(input)));
        });
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
        let allowed = self.allowance.bytes + self.allowance.bytes_per_byte * input.len() as u64;
        assert!(
            counted.bytes_max <= allowed,
            "`{}` allocated {} bytes for {} bytes, {allowed} are allowed",
            self.name,
            counted.bytes_max,
            input.len()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = Target {
        name: "lies",
        check: |input| {
            let claimed = input.first().map_or(0, |byte| usize::from(*byte) << 20);
            drop(std::hint::black_box(vec![1_u8; claimed]));
        },
        allowance: Allowance {
            bytes: 100,
            bytes_per_byte: 10,
        },
    };

    #[test]
    fn an_input_that_makes_its_reader_allocate_what_it_claims_is_found() {
        TARGET.run(&[]);
        TARGET.run(&[0]);
        let panic = catch_unwind(|| TARGET.run(&[1])).unwrap_err();
        let message = panic.downcast_ref::<String>().unwrap();
        assert!(
            message.contains("allocated 1048576 bytes for 1 bytes"),
            "{message}"
        );
    }

    #[test]
    fn a_panic_is_passed_on_any_number_of_times() {
        let target = Target {
            check: |_| panic!("as expected"),
            ..TARGET
        };
        for _ in 0..100 {
            let panic = catch_unwind(|| target.run(&[])).unwrap_err();
            assert_eq!(panic.downcast_ref::<&str>(), Some(&"as expected"));
        }
    }
}
