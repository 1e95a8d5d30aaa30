//! What we believe of an upstream, what may be done with it, and every change of either.

use std::time::Instant;

use super::operator::AdminState;
use super::outcome::FailureKind;
use super::unit::Permille;

mod standing;
mod transition;

pub use standing::{PoolStanding, ProbePace, Retries, UpstreamStanding};
pub use transition::{Ground, IncidentEdge, Reason, Transition};

/// What we have observed of one upstream. The machine that moves it is `decide::breaker`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Health {
    /// Takes its full share.
    Healthy,
    /// A score is half-way to a trip: probed faster, nothing else changes.
    Suspect,
    /// Takes nothing before `until`, and then only once the up-time rule holds.
    Ejected {
        /// When it was taken out.
        since: Instant,
        /// Earliest instant of half-open.
        until: Instant,
        /// How many ejections count towards the length of the hold, this one included.
        ejections: u32,
    },
    /// A trickle of real, safe requests decides; probes may veto.
    HalfOpen {
        /// When the trickle began.
        since: Instant,
        /// Clean answers in a row.
        passes: u32,
        /// Carried on for the next hold, should it fail.
        ejections: u32,
    },
    /// Admitted step by step.
    Ramping {
        /// When this step began.
        since: Instant,
        /// Index into the ramp's steps.
        step: u8,
        /// Clean answers in this step.
        passes: u32,
        /// Carried on for the next hold, should it fail.
        ejections: u32,
    },
}

impl Health {
    /// The bare state.
    pub const fn tag(self) -> HealthTag {
        match self {
            Self::Healthy => HealthTag::Healthy,
            Self::Suspect => HealthTag::Suspect,
            Self::Ejected { .. } => HealthTag::Ejected,
            Self::HalfOpen { .. } => HealthTag::HalfOpen,
            Self::Ramping { .. } => HealthTag::Ramping,
        }
    }
}

/// [`Health`] without its data, as a metric label.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum HealthTag {
    /// See [`Health::Healthy`].
    Healthy,
    /// See [`Health::Suspect`].
    Suspect,
    /// See [`Health::Ejected`].
    Ejected,
    /// See [`Health::HalfOpen`].
    HalfOpen,
    /// See [`Health::Ramping`].
    Ramping,
}

impl HealthTag {
    /// All, in the order in which an upstream passes through them.
    pub const ALL: [Self; 5] =
        [Self::Healthy, Self::Suspect, Self::Ejected, Self::HalfOpen, Self::Ramping];

    /// As a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Suspect => "suspect",
            Self::Ejected => "ejected",
            Self::HalfOpen => "half_open",
            Self::Ramping => "ramping",
        }
    }
}

/// What routing may do with an upstream now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Its full share.
    Serve,
    /// At most this share of what it would have (ramp).
    Share(Permille),
    /// This share of the safe requests only (half-open).
    Trickle(Permille),
    /// Nothing.
    Avoid,
}

impl Verdict {
    /// The same, once the operator has had a word: it comes first.
    #[must_use]
    pub const fn under(self, admin: AdminState) -> Self {
        match admin {
            AdminState::Auto => self,
            AdminState::Draining | AdminState::ForcedOut => Self::Avoid,
            AdminState::ForcedIn => Self::Serve,
        }
    }
}

/// How bad a failure must look to trip.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Tier {
    /// Nearly everything fails.
    Cascade,
    /// A fifth fails.
    Brownout,
    /// A few per cent fail.
    Gray,
}

impl Tier {
    /// All, worst first.
    pub const ALL: [Self; 3] = [Self::Cascade, Self::Brownout, Self::Gray];

    /// As a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cascade => "cascade",
            Self::Brownout => "brownout",
            Self::Gray => "gray",
        }
    }
}

/// Whose fault the evidence of an incident says it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blame {
    /// The evidence does not say.
    Unknown,
    /// The provider's: leaving helps.
    Provider,
    /// The origin's: leaving helps nobody.
    Origin,
    /// Our own network's or resolver's: everything fails at once from here.
    CommonCause,
}

impl Blame {
    /// As a log field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Provider => "provider",
            Self::Origin => "origin",
            Self::CommonCause => "common_cause",
        }
    }
}

/// A conclusion about blame, with what it was drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attribution {
    /// The conclusion.
    pub blame: Blame,
    /// Log-odds of provider against origin; positive speaks against the provider.
    pub log_odds: f64,
    /// Requests that failed here and succeeded at another provider.
    pub pairs_for: u32,
    /// Requests that failed at another provider too.
    pub pairs_against: u32,
}

/// By which rule a score trips.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TripRule {
    /// The tier's CUSUM.
    Score,
    /// Witnesses were too few for it, and nothing succeeded for longer than chance explains.
    UnbrokenRun,
}

/// What a trip or an ejection stood on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// Which rule tripped.
    pub rule: TripRule,
    /// What the rule measured at that moment: a score, or failures without a success between them.
    pub score: f64,
    /// What it had to reach.
    pub threshold: f64,
    /// Failures since the score left zero, or of the run.
    pub failures: u32,
    /// Attempts since then.
    pub attempts: u32,
    /// Distinct witnesses among the failures.
    pub witnesses: u32,
    /// The commonest kind among them.
    pub commonest: FailureKind,
    /// When the score left zero, or the run began: detection took from here to the transition's
    /// instant.
    pub since: Instant,
    /// Whose fault.
    pub attribution: Attribution,
}

/// Whether a provider is avoided for all services.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ProviderHealth {
    /// It is not.
    #[default]
    Steady,
    /// Several services tripped on it.
    Demoted {
        /// When that was.
        since: Instant,
        /// How many they were.
        witnesses: u32,
    },
}
