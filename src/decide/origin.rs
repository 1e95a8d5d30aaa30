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
use crate::model::health::{Attribution, Blame};
use crate::model::outcome::FailureKind;
use crate::model::signal::{Note, OriginReport, ProbeResult, Sample, Subject};
use crate::model::topology::Sensitivity;

/// The origin's own score says that it failed, until this long after it last did so.
const LASTS: Duration = Duration::from_secs(5);

/// One origin.
#[derive(Debug)]
pub struct Origin {
    scores: Scores,
    intake: Intake,
    seconds: Seconds,
    fed: Instant,
    /// When its score last stood above half, since it tripped.
    failing: Option<Instant>,
    /// Its last own probe, and whether it passed.
    pub probe: Option<(Instant, bool)>,
    /// What an upstream's attribution says of it, while it does.
    pub blamed: Option<Attribution>,
    /// Whether an incident was announced.
    pub raised: bool,
}

impl Origin {
    /// Nothing known.
    pub fn new(sensitivity: Sensitivity, now: Instant) -> Self {
        Self {
            scores: Scores::new(sensitivity),
            intake: Intake::default(),
            seconds: Seconds::new(now),
            fed: now,
            failing: None,
            probe: None,
            blamed: None,
            raised: false,
        }
    }

    /// Goes by another sensitivity from now on.
    pub fn adopt(&mut self, sensitivity: Sensitivity) {
        self.scores.adopt(sensitivity);
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
        if self.scores.trip(&by).is_some() || (self.failing.is_some() && level >= 0.5) {
            self.failing = Some(now);
        } else if self.failing.is_some_and(|last| now >= last + LASTS) {
            self.failing = None;
        }
    }

    /// What says that the origin is at fault, if anything does.
    pub fn fault(&self) -> Option<Attribution> {
        let by_its_word =
            Attribution { blame: Blame::Origin, log_odds: ORIGIN, pairs_for: 0, pairs_against: 0 };
        self.blamed.or(self.failing.map(|_| by_its_word))
    }

    /// Whether what fails now may be the beginning of something.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let ends = self.failing.map(|last| last + LASTS);
        ends.into_iter().chain(self.scores.dwell_ends(&self.yardstick(now))).min()
    }

    fn yardstick(&self, now: Instant) -> Yardstick {
        let threshold = self.scores.threshold(self.seconds.rate());
        Yardstick { threshold, success_rate: None, now }
    }
}
