//! How often one client may ask: the generic cell rate algorithm in its virtual scheduling form
//! (ITU-T I.371, annex A), in whole ticks of a tenth of a microsecond.

use std::time::Duration;

/// In a second.
pub const TICKS: u64 = 10_000_000;

/// A burst that would take longer than a year to earn is as good as one of a year.
const LONGEST: u64 = 365 * 24 * 3600 * TICKS;

/// What one client is allowed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Allowance {
    /// Between two requests that come evenly, in ticks; at least 1.
    pub interval: u64,
    /// Further requests that may come at once, in ticks of their intervals.
    pub tolerance: u64,
}

impl Allowance {
    /// One request each `interval`, and `burst` of them at once.
    pub fn new(interval: Duration, burst: u32) -> Self {
        let interval = ticks(interval).max(1);
        let tolerance = interval.saturating_mul(u64::from(burst.saturating_sub(1)));
        let tolerance = tolerance.min(LONGEST);
        Self { interval, tolerance }
    }

    /// A request at `now` of a client whose next one was expected `expected`, both in ticks: when the
    /// one after it is expected.
    ///
    /// # Errors
    /// The wait until it would be allowed, in ticks.
    pub fn admit(self, expected: u64, now: u64) -> Result<u64, u64> {
        match expected.checked_sub(now.saturating_add(self.tolerance)) {
            None | Some(0) => Ok(expected.max(now).saturating_add(self.interval)),
            Some(early) => Err(early),
        }
    }
}

/// Whole ticks of a duration.
pub fn ticks(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos() / 100).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = TICKS;

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let allowance = Allowance::new(Duration::from_millis(100), 3);
        let mut expected = 0;
        for _ in 0..3 {
            expected = allowance.admit(expected, SECOND).expect("within the burst");
        }
        assert_eq!(allowance.admit(expected, SECOND), Err(SECOND / 10), "the fourth at once");
        assert!(allowance.admit(expected, SECOND + SECOND / 10).is_ok(), "a tenth later");
    }

    #[test]
    fn whoever_keeps_to_the_rate_is_never_refused() {
        let allowance = Allowance::new(Duration::from_millis(10), 1);
        let mut expected = 0;
        for step in 0..10_000 {
            expected = allowance.admit(expected, step * SECOND / 100).expect("on time");
        }
    }

    #[test]
    fn a_refusal_costs_nothing() {
        let allowance = Allowance::new(Duration::from_secs(1), 1);
        let expected = allowance.admit(0, SECOND).expect("the first");
        for _ in 0..100 {
            assert!(allowance.admit(expected, SECOND + 1).is_err());
        }
        assert!(allowance.admit(expected, 2 * SECOND).is_ok());
    }
}
