//! What a transition is called in the log, on the board and in the journal, and how much it matters.

use crate::model::health::{HealthTag, IncidentEdge, Transition};
use crate::model::operator::AdminState;
use crate::model::plan::PoolMode;

pub(super) const FAILOVER: &str = "failover";
pub(super) const FAILBACK: &str = "failback";

/// How much a line matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Level {
    /// Act now.
    Error,
    /// Degraded.
    Warn,
    /// A transition.
    Info,
}

/// Constant text; facts stand beside it.
pub(super) const fn of(transition: &Transition) -> (Level, &'static str) {
    use IncidentEdge::{Ended, Raised};
    use Level::{Error, Info, Warn};
    match transition {
        Transition::Health { to, .. } => health_words(*to),
        Transition::Withheld { .. } => {
            (Warn, "trip withheld: the evidence does not blame the provider")
        }
        Transition::Failover { .. } => (Warn, FAILOVER),
        Transition::Failback { .. } => (Info, FAILBACK),
        Transition::Mode { to, .. } => mode_words(*to),
        Transition::OriginIncident { edge: Raised, .. } => {
            (Error, "origin incident: the origin fails through every provider")
        }
        Transition::OriginIncident { edge: Ended, .. } => (Info, "origin incident ended"),
        Transition::Ordered { to, .. } => (Warn, order_words(*to)),
        Transition::GrayAlert { edge: Raised, .. } => (Warn, "gray alert: a few per cent fail"),
        Transition::GrayAlert { edge: Ended, .. } => (Info, "gray alert ended"),
        Transition::Slice { edge: Raised, .. } => (Warn, "a part of the requests moved"),
        Transition::Slice { edge: Ended, .. } => (Info, "a part of the requests is back"),
        Transition::Provider { edge: Raised, .. } => (Error, "provider demoted for every service"),
        Transition::Provider { edge: Ended, .. } => (Info, "provider steady again"),
        Transition::CommonCause { edge: Raised, .. } => {
            (Error, "common cause: our own network or resolver fails")
        }
        Transition::CommonCause { edge: Ended, .. } => (Info, "common cause ended"),
        Transition::Limit { limit: Some(_), .. } => (Warn, "upstream limited to what it can hold"),
        Transition::Limit { limit: None, .. } => (Info, "upstream holds all it is asked for again"),
    }
}

const fn health_words(to: HealthTag) -> (Level, &'static str) {
    match to {
        HealthTag::Healthy => (Level::Info, "upstream healthy"),
        HealthTag::Suspect => (Level::Info, "upstream suspect"),
        HealthTag::Ejected => (Level::Warn, "upstream ejected"),
        HealthTag::HalfOpen => (Level::Info, "upstream half-open"),
        HealthTag::Ramping => (Level::Info, "upstream ramping"),
    }
}

const fn order_words(to: AdminState) -> &'static str {
    match to {
        AdminState::Auto => "upstream left to itself again: no order stands",
        AdminState::Draining => "upstream draining by order",
        AdminState::ForcedOut => "upstream forced out by order",
        AdminState::ForcedIn => "upstream forced in by order",
    }
}

const fn mode_words(to: PoolMode) -> (Level, &'static str) {
    match to {
        PoolMode::Normal => (Level::Info, "service normal again"),
        PoolMode::FailOpen => {
            (Level::Error, "fail-open: no upstream is good, the least bad serves")
        }
        PoolMode::FailClosed => {
            (Level::Error, "fail-closed: policy or the operator leaves no upstream")
        }
    }
}
