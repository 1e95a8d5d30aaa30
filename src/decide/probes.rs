//! One upstream's probes in a row.
//!
//! In: reports. Out: how many passed or failed since the opposite, and when. What follows is decided
//! elsewhere: probes alone take out only what has no traffic, and may veto a return.

use std::time::Instant;

use crate::model::outcome::FailureKind;
use crate::model::signal::{ProbeReport, ProbeResult};

/// Failed probes in a row that take out an upstream without traffic.
pub const TO_EJECT: u32 = 3;
/// Failed probes in a row that end half-open. One would end it by chance, in ten minutes of one a
/// second.
pub const TO_VETO: u32 = 2;

/// Probes in a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Probes {
    /// Failures since the last pass.
    pub failed: u32,
    /// Passes since the last failure, or since half-open began.
    pub passed: u32,
    /// When the last one was, and whether it passed.
    pub last: Option<(Instant, bool)>,
    /// How the last failure came about.
    pub kind: Option<FailureKind>,
    /// The first failure since the last pass.
    pub failing_since: Option<Instant>,
    /// A failure that was not compared with what siblings did yet.
    pub uncompared: Option<Instant>,
}

/// Whether a probe speaks for its upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Word {
    /// It passed, or brought the origin's own error: the provider did its work.
    For,
    /// It failed.
    Against,
}

impl Probes {
    /// Takes in one report.
    pub fn record(&mut self, report: &ProbeReport) -> Word {
        let at = report.at;
        match report.result {
            ProbeResult::Passed | ProbeResult::OriginError => {
                let passed = self.passed.saturating_add(1);
                let (last, kind) = (Some((at, true)), self.kind);
                *self = Self { passed, last, kind, ..Self::default() };
                Word::For
            }
            ProbeResult::Failed(kind) => {
                self.passed = 0;
                self.failed = self.failed.saturating_add(1);
                self.last = Some((at, false));
                self.kind = Some(kind);
                self.failing_since.get_or_insert(at);
                self.uncompared = Some(at);
                Word::Against
            }
        }
    }
}
