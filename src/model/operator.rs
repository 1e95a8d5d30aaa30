//! The operator's word: what was ordered for a provider or for one upstream, and until when.
//!
//! An axis of its own: it stands beside what was observed and is never merged into it. An order for
//! one upstream outranks one for its provider. No order brings back what policy forbids: such an
//! upstream does not exist in a [`Topology`](super::topology::Topology).

use std::fmt;
use std::time::{Instant, SystemTime};

use super::id::{Label, UpstreamKey};

/// What can be ordered.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Order {
    /// Takes nothing new; what waits there may finish.
    Drain,
    /// Takes nothing at once; safe requests that wait there move on.
    ForceOut,
    /// Serves at its place whatever is observed of it.
    ForceIn,
}

impl Order {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Drain, Self::ForceOut, Self::ForceIn];

    /// As a metric label, in the admin API and in the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::ForceOut => "force_out",
            Self::ForceIn => "force_in",
        }
    }

    /// The state that it puts an upstream into.
    pub const fn state(self) -> AdminState {
        match self {
            Self::Drain => AdminState::Draining,
            Self::ForceOut => AdminState::ForcedOut,
            Self::ForceIn => AdminState::ForcedIn,
        }
    }
}

/// What the operator's orders make of one upstream.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AdminState {
    /// No order: what is observed decides.
    #[default]
    Auto,
    /// See [`Order::Drain`].
    Draining,
    /// See [`Order::ForceOut`].
    ForcedOut,
    /// See [`Order::ForceIn`].
    ForcedIn,
}

impl AdminState {
    /// In the status and in log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Draining => "draining",
            Self::ForcedOut => "forced_out",
            Self::ForcedIn => "forced_in",
        }
    }

    /// Whether it takes no new request by the operator's word.
    pub const fn is_out(self) -> bool {
        match self {
            Self::Draining | Self::ForcedOut => true,
            Self::Auto | Self::ForcedIn => false,
        }
    }
}

/// Whom an order is about, by names, so that it outlives a reload.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Target {
    /// Every upstream through this provider.
    Provider(Label),
    /// One upstream.
    Upstream {
        /// Of this service.
        service: Label,
        /// Through this provider.
        provider: Label,
    },
}

impl Target {
    /// Whether an order for it is one for this upstream.
    pub fn covers(&self, key: &UpstreamKey) -> bool {
        match self {
            Self::Provider(provider) => *provider == key.provider,
            Self::Upstream { service, provider } => {
                *service == key.service && *provider == key.provider
            }
        }
    }

    /// The provider it names.
    pub const fn provider(&self) -> &Label {
        match self {
            Self::Provider(provider) | Self::Upstream { provider, .. } => provider,
        }
    }

    /// The service it names, if it is about one.
    pub const fn service(&self) -> Option<&Label> {
        match self {
            Self::Provider(_) => None,
            Self::Upstream { service, .. } => Some(service),
        }
    }
}

/// `PROVIDER` or `SERVICE/PROVIDER`, as it is typed.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(provider) => provider.fmt(f),
            Self::Upstream { service, provider } => write!(f, "{service}/{provider}"),
        }
    }
}

/// An order that stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Override {
    /// Whom it is about.
    pub target: Target,
    /// What was ordered.
    pub order: Order,
    /// When it lapses by itself; `None`: when it is taken back.
    pub until: Option<Instant>,
}

impl Override {
    /// Whether it still stands.
    pub fn stands(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// An order with what people want to know of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StandingOrder {
    /// The order itself.
    pub word: Override,
    /// When it was given, on the wall.
    pub since: SystemTime,
    /// When it lapses, on the wall.
    pub lapses: Option<SystemTime>,
    /// As the operator gave it; empty: none was given.
    pub reason: Box<str>,
}

/// What these orders make of one upstream: the narrower one wins.
pub fn state_of(overrides: &[Override], key: &UpstreamKey, now: Instant) -> AdminState {
    let standing = overrides.iter().filter(|o| o.stands(now) && o.target.covers(key));
    let narrowest = standing.max_by_key(|o| o.target.service().is_some());
    narrowest.map_or(AdminState::Auto, |o| o.order.state())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::example::label;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary beginning of invented time")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_narrower_order_wins_and_a_lapsed_one_is_none() {
        let start = start();
        let key = |service, provider| UpstreamKey {
            service: label(service),
            provider: label(provider),
            endpoint: "https://a.example:443".into(),
        };
        let wide = Override {
            target: Target::Provider(label("bunny")),
            order: Order::ForceOut,
            until: Some(start + Duration::from_secs(60)),
        };
        let narrow = Override {
            target: Target::Upstream { service: label("portal"), provider: label("bunny") },
            order: Order::ForceIn,
            until: None,
        };
        let both = [narrow, wide];
        let after = |seconds| start + Duration::from_secs(seconds);
        #[rustfmt::skip]
        let table = [
            ("narrow beats wide",            key("portal", "bunny"), after(0),  AdminState::ForcedIn),
            ("wide is for the others",       key("forms", "bunny"),  after(0),  AdminState::ForcedOut),
            ("it stands to its last moment", key("forms", "bunny"),  after(59), AdminState::ForcedOut),
            ("then it has lapsed",           key("forms", "bunny"),  after(60), AdminState::Auto),
            ("other providers are free",     key("portal", "gcore"), after(0),  AdminState::Auto),
        ];
        for (shows, key, now, state) in table {
            assert_eq!(state_of(&both, &key, now), state, "{shows}");
        }
    }
}
