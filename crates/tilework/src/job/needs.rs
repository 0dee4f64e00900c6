//! What a task needs, as the driver reckons with it. Whatever a job's own code says of it, nothing overflows.

use super::Needs;
use tilework_core::driver;
use tilework_core::failure::{Cause, Failure};

/// What the job `kind` says of its tasks.
///
/// # Errors
/// A time that is none, or a deadline that no task could keep.
pub(super) fn reckoned(kind: &str, needs: Needs) -> Result<driver::Needs, Failure> {
    let refused = |text: String| Failure::fatal(Cause::Job, format!("`needs` of `{kind}` {text}"));
    let Needs {
        memory_bytes,
        expected_s,
        deadline_s,
    } = needs;
    if deadline_s.is_nan() || deadline_s <= 0.0 {
        let text = format!("has a deadline of {deadline_s} s: no task could keep it");
        return Err(refused(text));
    }
    if expected_s.is_nan() || expected_s < 0.0 {
        return Err(refused(format!("expects a task to take {expected_s} s")));
    }
    Ok(driver::Needs {
        memory_bytes,
        expected_ms: milliseconds(expected_s),
        deadline_ms: deadline_s.is_finite().then(|| milliseconds(deadline_s)),
    })
}

/// At least one, and as many as there can be for what is longer.
fn milliseconds(seconds: f64) -> u64 {
    ((seconds * 1e3).round() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(expected_s: f64, deadline_s: f64) -> Result<(u64, Option<u64>), String> {
        let needs = Needs {
            memory_bytes: 1,
            expected_s,
            deadline_s,
        };
        let reckoned = reckoned("x", needs).map_err(|failure| failure.text)?;
        Ok((reckoned.expected_ms, reckoned.deadline_ms))
    }

    #[test]
    fn times_are_milliseconds_at_least_one() {
        assert_eq!(of(0.5, 1.1), Ok((500, Some(1_100))));
        assert_eq!(of(0.0, 1e-300), Ok((1, Some(1))));
        assert_eq!(of(f64::INFINITY, f64::INFINITY), Ok((u64::MAX, None)));
        assert_eq!(of(1e300, 1e300), Ok((u64::MAX, Some(u64::MAX))));
    }

    #[test]
    fn times_that_are_none_are_refused() {
        for deadline_s in [0.0, -0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
            let text = of(1.0, deadline_s).unwrap_err();
            assert_eq!(
                text,
                format!("`needs` of `x` has a deadline of {deadline_s} s: no task could keep it")
            );
        }
        for expected_s in [-0.001, f64::NAN, f64::NEG_INFINITY] {
            let text = of(expected_s, 1.0).unwrap_err();
            assert_eq!(
                text,
                format!("`needs` of `x` expects a task to take {expected_s} s")
            );
        }
    }
}
