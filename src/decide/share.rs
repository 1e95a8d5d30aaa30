//! Which share of attempts fails, as far as so few of them can tell?
//!
//! The interval of Wilson (1927). It stays honest where the simple share does not, with few attempts
//! and near 0 and 1.

/// Attempts and failures over some time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    /// All.
    pub attempts: u64,
    /// Those that failed.
    pub failures: u64,
}

impl Traffic {
    /// What was added since it stood at `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            attempts: self.attempts.saturating_sub(before.attempts),
            failures: self.failures.saturating_sub(before.failures),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { attempts: self.attempts + other.attempts, failures: self.failures + other.failures }
    }

    /// The failing share.
    pub fn share(self) -> Share {
        Share::of(self.failures, self.attempts)
    }
}

/// Each end of the interval is wrong one time in twenty.
const USUAL: f64 = 1.64;
/// Each end is wrong one time in eight hundred.
const STRICT: f64 = 3.0;

/// A failing share between its bounds, `0 ≤ least < most ≤ 1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// It is at least this.
    pub least: f64,
    /// And at most this.
    pub most: f64,
}

impl Share {
    /// Of a dead upstream: nearly everything. Not all, or one answer would prove infinitely much.
    pub const DEAD: Self = Self { least: 0.95, most: 1.0 };

    /// From counts; of no attempts, anything. `least` stays below [`Share::DEAD`]'s.
    pub fn of(failures: u64, attempts: u64) -> Self {
        Self::within(failures, attempts, USUAL)
    }

    /// The same, for counts of a stretch that was picked because it is bad: it says too much, and
    /// of many stretches one is bad by chance.
    pub fn of_the_worst(failures: u64, attempts: u64) -> Self {
        Self::within(failures, attempts, STRICT)
    }

    fn within(failures: u64, attempts: u64, z: f64) -> Self {
        if attempts == 0 {
            return Self { least: 0.0, most: 1.0 };
        }
        let (n, z2) = (attempts as f64, z * z);
        let share = (failures as f64 / n).min(1.0);
        let middle = share + z2 / (2.0 * n);
        let spread = (z2 * (share * (1.0 - share) / n + z2 / (4.0 * n * n))).sqrt();
        let whole = 1.0 + z2 / n;
        let least = ((middle - spread) / whole).clamp(0.0, Self::DEAD.least);
        Self { least, most: ((middle + spread) / whole).clamp(0.0, 1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_wilsons() {
        #[rustfmt::skip]
        let table = [
            // failures, attempts, least, most
            (0,    52,   0.0,    0.0492),
            (1,    1,    0.2710, 1.0),
            (5,    5,    0.6503, 1.0),
            (20,   1000, 0.0139, 0.0288),
            (1000, 1000, 0.95,   1.0),
        ];
        for (failures, attempts, least, most) in table {
            let share = Share::of(failures, attempts);
            assert!((share.least - least).abs() < 2e-3, "{failures}/{attempts}: {share:?}");
            assert!((share.most - most).abs() < 2e-3, "{failures}/{attempts}: {share:?}");
        }
    }
}
