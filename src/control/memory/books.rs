//! What the file holds of an incident that is open, or of a time away from the first choice.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Scale;
use crate::control::incidents::{Open, Sample, Totals};
use crate::model::id::Label;

#[derive(Deserialize, Serialize)]
pub(super) struct RawBooks {
    service: String,
    totals: RawTotals,
    incident: Option<RawSample>,
    away: Option<RawSample>,
}

#[derive(Deserialize, Serialize)]
struct RawSample {
    at_ms: u64,
    totals: RawTotals,
}

#[derive(Deserialize, Serialize)]
struct RawTotals {
    requests: u64,
    errors: u64,
    broken: u64,
    retries: u64,
    attempts: u64,
    failed_attempts: u64,
    outside_attempts: u64,
    outside_ms: u64,
}

impl RawBooks {
    pub(super) fn of(open: &Open, scale: Scale) -> Self {
        let Open { service, totals, incident, away } = open;
        let sample = |sample: Sample| RawSample {
            at_ms: scale.write(sample.at),
            totals: RawTotals::of(&sample.totals),
        };
        Self {
            service: service.to_string(),
            totals: RawTotals::of(totals),
            incident: incident.map(sample),
            away: away.map(sample),
        }
    }

    /// `None` for one that makes no sense.
    pub(super) fn books(self, scale: Scale) -> Option<Open> {
        let Self { service, totals, incident, away } = self;
        let sample = |RawSample { at_ms, totals }: RawSample| Sample {
            at: scale.read(at_ms),
            totals: totals.totals(),
        };
        Some(Open {
            service: Label::new(&service)?,
            totals: totals.totals(),
            incident: incident.map(sample),
            away: away.map(sample),
        })
        .filter(|open| open.incident.is_some() || open.away.is_some())
    }
}

impl RawTotals {
    fn of(totals: &Totals) -> Self {
        let Totals { requests, errors, broken, retries, .. } = *totals;
        let Totals { attempts, failed_attempts, outside_attempts, outside, .. } = *totals;
        let outside_ms = outside.as_millis() as u64;
        Self {
            requests,
            errors,
            broken,
            retries,
            attempts,
            failed_attempts,
            outside_attempts,
            outside_ms,
        }
    }

    fn totals(self) -> Totals {
        let Self { requests, errors, broken, retries, .. } = self;
        let Self { attempts, failed_attempts, outside_attempts, outside_ms, .. } = self;
        let outside = Duration::from_millis(outside_ms);
        Totals {
            requests,
            errors,
            broken,
            retries,
            attempts,
            failed_attempts,
            outside_attempts,
            outside,
        }
    }
}
