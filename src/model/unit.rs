//! Numbers with a unit.

use std::fmt;

/// A share in thousandths, `0..=1000`. An integer, so values compare exactly and no NaN exists.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Permille(u16);

impl Permille {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Everything.
    pub const ALL: Self = Self(1000);
    /// A tenth.
    pub const TENTH: Self = Self(100);

    /// `None` above 1000.
    pub const fn new(value: u16) -> Option<Self> {
        if value <= 1000 { Some(Self(value)) } else { None }
    }

    /// The nearest share of a fraction; below 0 is 0, above 1 is all, NaN is 0.
    pub fn from_fraction(fraction: f64) -> Self {
        // `as` saturates and sends NaN to 0, so the clamp alone decides.
        Self((fraction.clamp(0.0, 1.0) * 1000.0).round() as u16)
    }

    /// In thousandths.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// As a fraction of one.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// What is left of one.
    #[must_use]
    pub const fn rest(self) -> Self {
        Self(1000 - self.0)
    }
}

impl fmt::Display for Permille {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(10) {
            write!(f, "{}%", self.0 / 10)
        } else {
            write!(f, "{}.{}%", self.0 / 10, self.0 % 10)
        }
    }
}

/// Number of a routing snapshot. Only grows within one process; in every transition's log line.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Generation(u64);

impl Generation {
    /// Before the first snapshot.
    pub const ZERO: Self = Self(0);

    /// As it was written down.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// For display and metrics.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_above_all() {
        assert_eq!(Permille::new(1001), None);
        assert_eq!(Permille::from_fraction(7.0), Permille::ALL);
        assert_eq!(Permille::from_fraction(f64::NAN), Permille::ZERO);
        assert_eq!(Permille::from_fraction(0.0125).to_string(), "1.3%");
        assert_eq!(Permille::ALL.to_string(), "100%");
    }
}
