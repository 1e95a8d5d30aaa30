//! Every change of what we believe or of what routing does, with its reason.

use std::time::{Duration, Instant};

use super::{Attribution, Evidence, HealthTag, Tier};
use crate::model::cell::Slice;
use crate::model::id::{PoolId, ProviderId, UpstreamId};
use crate::model::operator::AdminState;
use crate::model::outcome::FailureKind;
use crate::model::plan::PoolMode;
use crate::model::unit::Permille;

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
    /// Its provider is avoided by every service.
    Demoted,
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
            Self::Demoted => "demoted",
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
        /// From the first failure that led here to this instant; `None` where nothing had to be detected,
        /// as for an order or a reload.
        detection: Option<Duration>,
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
    /// A part of a pool's requests was moved by itself, or is back with the others.
    Slice {
        /// Of which pool.
        pool: PoolId,
        /// Which part.
        slice: Slice,
        /// Moved or back.
        edge: IncidentEdge,
        /// The upstream that it left, or is back at.
        upstream: UpstreamId,
        /// When.
        at: Instant,
        /// Why.
        reason: Reason,
    },
    /// A provider is avoided by every service that can, or no longer.
    Provider {
        /// Which.
        provider: ProviderId,
        /// Demoted, or steady again.
        edge: IncidentEdge,
        /// Services that tripped on it.
        witnesses: u32,
        /// When.
        at: Instant,
    },
    /// Our own network or resolver was found at fault, or no longer; the pool's plan is frozen.
    CommonCause {
        /// Whose plan.
        pool: PoolId,
        /// Raised or ended.
        edge: IncidentEdge,
        /// By what.
        ground: Ground,
        /// When.
        at: Instant,
    },
    /// What an upstream can hold was found to be less than it is asked for, or more again.
    Limit {
        /// Whose.
        upstream: UpstreamId,
        /// Requests a second, at most; `None`: as many as come.
        limit: Option<u32>,
        /// When.
        at: Instant,
    },
}

/// What speaks for a common cause.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ground {
    /// Connections fail on independent substrates, and to every control target.
    Connections,
    /// Look-ups fail for names on independent substrates.
    Names,
}

impl Ground {
    /// As a log field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Names => "names",
        }
    }
}

/// Begin or end of something that lasts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IncidentEdge {
    /// It began.
    Raised,
    /// It ended.
    Ended,
}
