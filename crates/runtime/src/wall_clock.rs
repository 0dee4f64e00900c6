//! The time of day: for people, for records, and for time limits that another process may have to keep.
//!
//! It may be wrong, and be set while a job runs, so nothing waits by it: leases, deadlines and pauses run on the monotonic clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, as this machine has it.
pub fn unix_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since_1970.map_or(0, |since| since.as_millis() as u64);
    now.saturating_add_signed(stepped_ms())
}

/// By how much tests have set the clock: `TILEWORK_TEST_CLOCK` names a file with milliseconds, read anew every time.
#[cfg(debug_assertions)]
fn stepped_ms() -> i64 {
    let file = std::env::var_os("TILEWORK_TEST_CLOCK");
    let text = file.and_then(|file| std::fs::read_to_string(file).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(not(debug_assertions))]
fn stepped_ms() -> i64 {
    0
}
