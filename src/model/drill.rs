//! A drill: a failover rehearsed with a share of a service's live requests.

use std::fmt;
use std::time::SystemTime;

use super::id::{Label, UpstreamId};
use super::unit::Permille;

/// What one side of a drill did while it lasted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DrillSide {
    /// Attempts that came to a success or a failure.
    pub attempts: u64,
    /// Of which failures.
    pub failures: u64,
    /// Answers slower than twice what the first choice needs for 95 of 100.
    pub slow: u64,
}

/// A drill that is on, or has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DrillStanding {
    /// Whose place is rehearsed.
    pub from: UpstreamId,
    /// Who takes the share.
    pub to: UpstreamId,
    /// Of the service's requests.
    pub share: Permille,
    /// What the first choice did.
    pub first: DrillSide,
    /// What the fallback did.
    pub fallback: DrillSide,
    /// `None` while it is on.
    pub end: Option<DrillEnd>,
}

/// A drill by names, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct DrillRecord {
    /// Of which service.
    pub service: Label,
    /// Through whom the first choice goes.
    pub from: Label,
    /// Through whom the fallback goes.
    pub to: Label,
    /// Of the service's requests.
    pub share: Permille,
    /// When it began.
    pub began: SystemTime,
    /// When it ends, if nothing ends it before.
    pub until: SystemTime,
    /// As the operator gave it.
    pub reason: Box<str>,
    /// What the first choice did.
    pub first: DrillSide,
    /// What the fallback did.
    pub fallback: DrillSide,
    /// How and when it ended; `None` while it is on.
    pub ended: Option<(DrillEnd, SystemTime)>,
}

/// How a drill ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DrillEnd {
    /// Its time was over and nothing spoke against the fallback.
    Passed,
    /// Its time was over, and the fallback had too few requests to say anything.
    TooLittle,
    /// The fallback failed more than the first choice.
    Failures,
    /// The fallback answered later than the first choice.
    Latency,
    /// Something real happened.
    Trouble(Trouble),
    /// The operator ended it.
    Stopped,
}

impl DrillEnd {
    /// As a metric label and a field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::TooLittle => "too_little",
            Self::Failures => "failures",
            Self::Latency => "latency",
            Self::Trouble(_) => "trouble",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for DrillEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed: the fallback is no worse than the first choice",
            Self::TooLittle => "ended without a result: too few requests to tell",
            Self::Failures => "aborted: the fallback fails more than the first choice",
            Self::Latency => "aborted: the fallback answers later than the first choice",
            Self::Trouble(trouble) => return write!(f, "aborted: {trouble}"),
            Self::Stopped => "stopped by the operator",
        })
    }
}

/// What stands against a drill.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// Decisions move nothing here.
    Observed,
    /// There is nobody to rehearse with.
    NoFallback,
    /// Something fails, or did a moment ago.
    Incident,
    /// Our own network or resolver is at fault.
    CommonCause,
    /// Not every upstream is healthy.
    Unhealthy,
    /// An upstream cannot hold what it is asked for.
    Limited,
    /// An order stands for the service.
    Ordered,
    /// Another is first, or another would be next.
    Moved,
    /// The configuration changed.
    Reload,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observed => "the service is in observe mode, nothing may be moved",
            Self::NoFallback => "nobody stands behind the first choice",
            Self::Incident => "an incident is open",
            Self::CommonCause => "our own network or resolver is at fault",
            Self::Unhealthy => "not every upstream is healthy",
            Self::Limited => "an upstream cannot hold what it is asked for",
            Self::Ordered => "an order of the operator's stands for the service",
            Self::Moved => "another upstream is first or would be next now",
            Self::Reload => "the configuration changed",
        })
    }
}

/// Why no drill began.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NoDrill {
    /// There is no such service.
    NoService(Label),
    /// One is on.
    Running(Label),
    /// None is on, and so none can be stopped.
    NotRunning(Label),
    /// This is no time for it.
    Trouble(Label, Trouble),
    /// Another process is about to serve in place of this one, and would not know of it.
    HandingOver,
}

impl fmt::Display for NoDrill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoService(service) => write!(f, "there is no service {service}"),
            Self::Running(service) => write!(f, "a drill of {service} is on already"),
            Self::NotRunning(service) => write!(f, "no drill of {service} is on"),
            Self::Trouble(service, trouble) => write!(f, "no drill of {service} now: {trouble}"),
            Self::HandingOver => {
                f.write_str("a new process takes over at this moment; say it again in a second")
            }
        }
    }
}

impl std::error::Error for NoDrill {}
