//! Which process a request went through: the name by which a loop is recognised.

use std::fmt;

/// How all of them begin.
const NAME: &str = "bascule-";

/// One process, as it calls itself towards others (`Via`, RFC 9110, section 7.6.3): a number drawn at
/// its start, that nobody outside can know beforehand.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Instance(u64);

impl Instance {
    /// By a random number.
    pub const fn new(random: u64) -> Self {
        Self(random)
    }

    /// Its pseudonym in requests to the upstream of this serial number.
    pub fn signature(self, serial: u64) -> String {
        format!("{self}{serial}")
    }

    /// The upstream's serial number, if a pseudonym is one of ours.
    pub fn serial_of(self, pseudonym: &str) -> Option<u64> {
        // Nearly all are somebody else's: seen without writing our own.
        pseudonym.strip_prefix(NAME)?;
        pseudonym.strip_prefix(&self.to_string())?.parse().ok()
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{NAME}{:016x}-", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_signature_is_recognised() {
        let ours = Instance::new(7);
        assert_eq!(ours.serial_of(&ours.signature(42)), Some(42));
        for other in [Instance::new(8).signature(42).as_str(), "bascule", "bascule-", "varnish"] {
            assert_eq!(ours.serial_of(other), None, "{other}");
        }
    }
}
