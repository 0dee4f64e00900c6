//! How long a child that ended waits before it is started again: longer each time, until it stays up.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);
/// Whoever ran this long is new to trouble.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// The pause before the next start.
#[derive(Debug, Clone)]
pub struct BackOff {
    pause: Duration,
}

impl Default for BackOff {
    fn default() -> BackOff {
        BackOff { pause: FIRST }
    }
}

impl BackOff {
    /// The pause after a run of `ran`.
    pub fn pause_after(&mut self, ran: Duration) -> Duration {
        if ran >= FORGIVEN_AFTER {
            self.pause = FIRST;
        }
        let pause = self.pause;
        self.pause = (2 * pause).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_ten_seconds_and_a_minute_without_trouble_ends_that() {
        let mut back_off = BackOff::default();
        let pauses: Vec<u128> = (0..8)
            .map(|_| back_off.pause_after(Duration::ZERO).as_millis())
            .collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(back_off.pause_after(FORGIVEN_AFTER), FIRST);
        assert_eq!(back_off.pause_after(Duration::from_secs(59)), 2 * FIRST);
    }
}
