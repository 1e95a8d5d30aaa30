//! Names and indexes. An index is dense within one [`Topology`](super::topology::Topology) and
//! means nothing outside it; what outlives a reload is the [`UpstreamKey`].

use std::fmt;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(u32);

        impl $name {
            /// The index as it stands in its table. Tables hold far fewer than `u32::MAX` rows:
            /// the configuration file is capped long before.
            pub const fn new(index: usize) -> Self {
                Self(index as u32)
            }

            /// For indexing into the table of the same topology.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

index! {
    /// A row of `Topology::providers`.
    ProviderId
}
index! {
    /// A row of `Topology::upstreams`.
    UpstreamId
}
index! {
    /// A row of `Topology::pools`; one pool a service.
    PoolId
}
index! {
    /// A row of `Topology::routes`.
    RouteId
}

/// A name from the file, safe as a metric label and in a log line: 1 to 63 of `a-z A-Z 0-9 - _ .`,
/// not beginning with punctuation.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Label(Box<str>);

impl Label {
    /// Longest accepted name, in bytes.
    pub const MAX_LEN: usize = 63;

    /// `None` when empty, too long or with other characters.
    pub fn new(text: &str) -> Option<Self> {
        let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let first = text.chars().next()?;
        let fits = text.len() <= Self::MAX_LEN && first.is_ascii_alphanumeric();
        (fits && text.chars().all(ok)).then(|| Self(text.into()))
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What makes an upstream the same one after a reload: service, provider and where it leads.
/// Health, scores and counters follow the key; a changed URL is a new upstream.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UpstreamKey {
    /// The service whose pool holds the upstream.
    pub service: Label,
    /// The provider it goes through.
    pub provider: Label,
    /// Scheme, host and port as `https://host:443`.
    pub endpoint: Box<str>,
}

impl fmt::Display for UpstreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.provider)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_takes_only_what_is_safe_in_a_metric() {
        for good in ["portal", "a", "eu-1.edge_2", &"x".repeat(63)] {
            assert_eq!(Label::new(good).expect(good).as_str(), good);
        }
        for bad in ["", "-a", ".a", "a b", "a\"b", "a\n", "é", &"x".repeat(64)] {
            assert_eq!(Label::new(bad), None, "{bad:?}");
        }
    }
}
