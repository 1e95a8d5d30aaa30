//! The origin of one pool: does it fail by its own word?
//!
//! Marked 5xx feed a score of the same mathematics as an upstream's. It raises an origin incident
//! and never ejects: whoever relays the origin's answer does its work.
//!
//! Not here: blame by comparison ([`super::attribution`]), which can raise the same incident where
//! there is no marker.

use std::time::{Duration, Instant};

use super::attribution::ORIGIN;
use super::cusum::{Failure, Guard};
use super::intake::Intake;
use super::scores::{Scores, Yardstick};
use super::window::Seconds;
use crate::model::health::{Attribution, Blame, IncidentEdge};
use crate::model::outcome::FailureKind;
use crate::model::signal::{Note, OriginReport, ProbeResult, Sample, Subject};
use crate::model::topology::Sensitivity;

/// An incident lasts until so long after what raised it: a few good answers end nothing.
const LASTS: Duration = Duration::from_secs(5);

/// One origin.
#[derive(Clone, Debug)]
pub struct Origin {
    scores: Scores,
    intake: Intake,
    seconds: Seconds,
    fed: Instant,
    /// Whether its score tripped and has not come down to half since.
    failing: bool,
    /// Its last own probe, and whether it passed.
    pub probe: Option<(Instant, bool)>,
    /// What an upstream's attribution says of it, while it does.
    pub blamed: Option<Attribution>,
    /// While an incident stands: when something last said that the origin is at fault.
    raised: Option<Instant>,
}

impl Origin {
    /// Nothing known.
    pub fn new(sensitivity: Sensitivity, now: Instant) -> Self {
        Self {
            scores: Scores::new(sensitivity),
            intake: Intake::default(),
            seconds: Seconds::new(now),
            fed: now,
            failing: false,
            probe: None,
            blamed: None,
            raised: None,
        }
    }

    /// Goes by another sensitivity from now on.
    pub fn adopt(&mut self, sensitivity: Sensitivity) {
        self.scores.adopt(sensitivity, 0.0);
    }

    /// Counters of one upstream.
    pub fn sample(&mut self, sample: &Sample, now: Instant) {
        let counts = &sample.counts;
        let sum = |by_class: [u32; 2]| by_class[0].saturating_add(by_class[1]);
        self.intake.count(sum(counts.successes), sum(counts.origin_errors));
        self.seconds.advance(now);
        self.seconds.add(counts, now.saturating_duration_since(self.fed));
    }

    /// One 5xx with the marker.
    pub fn note(&mut self, note: &Note) {
        match note.subject {
            Subject::OriginError => {
                let kind = FailureKind::ServerError;
                self.intake.note(Failure { at: note.at, kind, witness: note.witness });
            }
            Subject::Failure(_) => {}
        }
    }

    /// One probe of the origin itself.
    pub fn report(&mut self, report: &OriginReport) {
        let passed = match report.result {
            ProbeResult::Passed => true,
            ProbeResult::OriginError | ProbeResult::Failed(_) => false,
        };
        self.probe = Some((report.at, passed));
    }

    /// Takes in what came since the last call.
    pub fn absorb(&mut self, now: Instant) {
        self.fed = now;
        self.seconds.advance(now);
        let drain = self.intake.drain(now);
        let by = self.yardstick(now);
        self.scores.observe(&drain, by.threshold, Guard::Distinct);
        let level = self.scores.levels(&by).into_iter().fold(0.0, f64::max);
        self.failing = self.scores.trip(&by).is_some() || (self.failing && level >= 0.5);
    }

    /// Whether an incident stands.
    pub fn is_at_fault(&self) -> bool {
        self.raised.is_some()
    }

    /// Raises or ends the incident, if that is due; says so with what it stands on.
    pub fn announce(&mut self, now: Instant) -> Option<(IncidentEdge, Attribution)> {
        let fault = self.blamed.or(self.failing.then_some(BY_ITS_WORD));
        match (self.raised, fault) {
            (None, Some(fault)) => {
                self.raised = Some(now);
                Some((IncidentEdge::Raised, fault))
            }
            (Some(_), Some(_)) => {
                self.raised = Some(now);
                None
            }
            (Some(last), None) if now >= last + LASTS => {
                self.raised = None;
                Some((IncidentEdge::Ended, NO_FAULT))
            }
            (Some(_) | None, None) => None,
        }
    }

    /// When something is due even if nothing is heard.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let ends = self.raised.map(|last| last + LASTS);
        ends.into_iter().chain(self.scores.dwell_ends(&self.yardstick(now))).min()
    }

    fn yardstick(&self, now: Instant) -> Yardstick {
        let threshold = self.scores.threshold(self.seconds.rate());
        Yardstick { threshold, success_rate: None, now }
    }
}

/// The marker on its own 5xx is all the evidence that it takes.
const BY_ITS_WORD: Attribution =
    Attribution { blame: Blame::Origin, log_odds: ORIGIN, pairs_for: 0, pairs_against: 0 };
/// Nothing speaks against it any more.
const NO_FAULT: Attribution =
    Attribution { blame: Blame::Unknown, log_odds: 0.0, pairs_for: 0, pairs_against: 0 };
