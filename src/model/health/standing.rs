//! Upstreams and pools as the detector sees them, for people, the prober and the shared states.

use std::time::{Duration, Instant};

use super::{Attribution, Health, Reason, Verdict};
use crate::model::id::UpstreamId;
use crate::model::operator::AdminState;
use crate::model::unit::Permille;

/// How fast an upstream should be probed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProbePace {
    /// At `probe.interval`.
    Normal,
    /// Every second: half-open.
    Brisk,
    /// Every 500 ms: suspect.
    Urgent,
}

/// How many requests of a pool may be tried a second time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Retries {
    /// What the service's retry budget allows.
    Budget,
    /// The origin is to blame: one a second, which is enough to notice that it is not.
    OneASecond,
}

/// One upstream as the detector sees it, for people.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamStanding {
    /// What we have observed.
    pub health: Health,
    /// What the operator ordered.
    pub admin: AdminState,
    /// What routing may do.
    pub verdict: Verdict,
    /// Score over threshold of each tier, in the order of [`Tier::ALL`](super::Tier::ALL); 1000 is a trip.
    pub levels: [Permille; 3],
    /// Attempts a second, mean of the last 10 s.
    pub rate: f64,
    /// Failing share of the last 10 s.
    pub failing: Permille,
    /// The last probe: whether it passed, and when it was.
    pub probe: Option<(Instant, bool)>,
    /// How fast to probe.
    pub pace: ProbePace,
    /// From when a head counts as late.
    pub late_after: Duration,
    /// Whether the absence of its origin marker means something.
    pub marker_armed: bool,
    /// Share of what the plan would give it that it can hold.
    pub admits: Permille,
    /// Whether a gray alert stands.
    pub gray_alert: bool,
    /// Until when `min_stay` keeps it from the ramp or from its next step; only while it does.
    pub stays_until: Option<Instant>,
    /// The last change of health: when and why.
    pub last: Option<(Instant, Reason)>,
}

/// One pool as the detector sees it, for people.
#[derive(Clone, Copy, Debug)]
pub struct PoolStanding {
    /// Whether an incident is open, and since when.
    pub incident: Option<Instant>,
    /// The first failure of what fails now, where something does.
    pub failing_since: Option<Instant>,
    /// The evidence of the open incident about blame.
    pub attribution: Option<Attribution>,
    /// Whether the origin itself is at fault.
    pub origin_incident: bool,
    /// Whether our own network or resolver is.
    pub common_cause: bool,
    /// Who is first by what was decided; in observe mode that need not be who serves.
    pub intended: Option<UpstreamId>,
}
