//! What we believe of an upstream, what may be done with it, and every change of either.

use std::time::{Duration, Instant};

use super::id::{PoolId, UpstreamId};
use super::operator::AdminState;
use super::outcome::FailureKind;
use super::plan::PoolMode;
use super::unit::Permille;

mod standing;

pub use standing::{PoolStanding, ProbePace, Retries, UpstreamStanding};

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
}

impl Blame {
    /// As a log field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Provider => "provider",
            Self::Origin => "origin",
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

/// Why a transition happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// A score tripped on live traffic.
    Trip(Tier, Evidence),
    /// Probes failed in a row while there was no traffic to judge by.
    Probes {
        /// How many.
        failed: u32,
        /// How the last one failed.
        kind: FailureKind,
    },
    /// A score passed half of its threshold.
    Doubt {
        /// Which one.
        tier: Tier,
        /// Score over threshold.
        level: Permille,
    },
    /// Every score is below half of its threshold again.
    Settled,
    /// The hold is over and the up-time rule holds.
    HoldOver,
    /// Enough clean answers in a row, or enough passed probes where traffic is too thin.
    Proven,
    /// A failure during half-open or the ramp.
    Relapse(FailureKind),
    /// The last step of the ramp is done.
    RampDone,
    /// A probe failed during half-open.
    ProbeVeto(FailureKind),
    /// The upstreams before it cannot serve.
    Fallback,
    /// It is the preferred one and able again.
    Recovered,
    /// The configuration changed.
    Reload,
    /// It was so before a restart.
    Remembered,
    /// Nothing permitted is healthy; the best of the bad serves.
    AllBad,
    /// The operator ordered it, or took an order back, or it lapsed.
    Ordered,
}

impl Reason {
    /// As a metric label and a log field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trip(tier, _) => tier.as_str(),
            Self::Probes { .. } => "probes",
            Self::Doubt { .. } => "doubt",
            Self::Settled => "settled",
            Self::HoldOver => "hold_over",
            Self::Proven => "proven",
            Self::Relapse(_) => "relapse",
            Self::RampDone => "ramp_done",
            Self::ProbeVeto(_) => "probe_veto",
            Self::Fallback => "fallback",
            Self::Recovered => "recovered",
            Self::Reload => "reload",
            Self::Remembered => "remembered",
            Self::AllBad => "all_bad",
            Self::Ordered => "ordered",
        }
    }
}

/// A change of what we believe or of what routing does; the thing logged, counted and alerted on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Transition {
    /// One upstream's health moved.
    Health {
        /// Whose.
        upstream: UpstreamId,
        /// From what.
        from: HealthTag,
        /// To what.
        to: HealthTag,
        /// When.
        at: Instant,
        /// Why.
        reason: Reason,
        /// How long the hold is, when it was ejected.
        hold: Option<Duration>,
    },
    /// A trip that did not eject: the blame is not the provider's, or not yet known.
    Withheld {
        /// Whose.
        upstream: UpstreamId,
        /// How bad.
        tier: Tier,
        /// On what.
        evidence: Evidence,
        /// When.
        at: Instant,
    },
    /// The pool's first candidate changed for the worse: a verdict moved everyone.
    Failover {
        /// Of which pool.
        pool: PoolId,
        /// The first candidate before.
        from: UpstreamId,
        /// The first candidate now.
        to: UpstreamId,
        /// When.
        at: Instant,
        /// Why `from` was left.
        reason: Reason,
        /// From the first failure that led here to this instant.
        detection: Duration,
    },
    /// The preferred upstream is first again.
    Failback {
        /// Of which pool.
        pool: PoolId,
        /// The first candidate before.
        from: UpstreamId,
        /// The first candidate now.
        to: UpstreamId,
        /// When.
        at: Instant,
        /// Why.
        reason: Reason,
    },
    /// The pool as a whole changed.
    Mode {
        /// Which.
        pool: PoolId,
        /// From what.
        from: PoolMode,
        /// To what.
        to: PoolMode,
        /// When.
        at: Instant,
    },
    /// The origin itself was found at fault, or no longer.
    OriginIncident {
        /// Whose origin.
        pool: PoolId,
        /// Raised or ended.
        edge: IncidentEdge,
        /// When.
        at: Instant,
        /// On what.
        attribution: Attribution,
    },
    /// The operator's word about an upstream changed.
    Ordered {
        /// Whose.
        upstream: UpstreamId,
        /// From what.
        from: AdminState,
        /// To what.
        to: AdminState,
        /// When.
        at: Instant,
    },
    /// The gray tier tripped without the blame that an ejection takes: alert, move nothing.
    GrayAlert {
        /// Whose.
        upstream: UpstreamId,
        /// Raised or ended.
        edge: IncidentEdge,
        /// When.
        at: Instant,
    },
}

/// Begin or end of something that lasts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IncidentEdge {
    /// It began.
    Raised,
    /// It ended.
    Ended,
}
