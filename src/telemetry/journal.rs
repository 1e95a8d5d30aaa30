//! One line of the journal: why something happened, as one JSON object, the same on disk, in the
//! admin API and for whoever reads it years later.
//!
//! Fields are only ever added. A reader ignores those that it does not know, and takes an event that
//! it does not know for [`Event::Other`].

use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::health::{Attribution, Evidence};

/// One line.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct Line {
    /// RFC 3339, to the millisecond.
    pub at: String,
    /// What happened.
    pub event: Event,
    /// As the log says it.
    pub text: String,
    /// Of which service; none: of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Through whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// What was before: a health, a mode, a state, or the provider that was first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Of the provider that is first now: `eu` or `non_eu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jurisdiction: Option<String>,
    /// Which part of the service's requests, where only a part was moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slice: Option<String>,
    /// Why, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The commonest kind of failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The snapshot in force after it.
    pub generation: u64,
    /// Whether it was only observed: decided and told, and no traffic moved by it.
    #[serde(skip_serializing_if = "is_false")]
    pub observed: bool,
    /// Least length of an ejection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_seconds: Option<f64>,
    /// From the first failure to the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detection_seconds: Option<f64>,
    /// What a trip stood on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceLine>,
    /// How many probes failed in a row, where probes decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes_failed: Option<u32>,
    /// Whose fault the evidence said it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blame: Option<BlameLine>,
    /// What the operator ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<OrderLine>,
    /// What an incident cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostLine>,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The process began to serve.
    Started,
    /// What we believe of an upstream changed.
    Health,
    /// A trip ejected nobody.
    Withheld,
    /// A service's first candidate was left.
    Failover,
    /// A service returned to a candidate that stands before the one it left.
    Failback,
    /// A service as a whole changed: normal, fail-open, fail-closed.
    Mode,
    /// The origin itself was found at fault, or no longer.
    OriginIncident,
    /// A few per cent fail, or no longer.
    GrayAlert,
    /// A part of a service's requests was moved by itself, or is back.
    Slice,
    /// A provider is avoided by every service, or no longer.
    Provider,
    /// Our own network or resolver was found at fault, or no longer.
    CommonCause,
    /// What an upstream can hold was found to be less than it is asked for, or more again.
    Limit,
    /// A failover was rehearsed: begun, or ended with its result.
    Drill,
    /// What the operator ordered, took back or let lapse.
    Order,
    /// The same, for one upstream.
    AdminState,
    /// Something began to fail.
    IncidentBegan,
    /// Nothing has failed for a minute.
    IncidentEnded,
    /// What was open as the process before this one ended goes on: an incident, a time away from the
    /// first choice.
    Resumed,
    /// A service is back at its first choice after having been elsewhere.
    Returned,
    /// Something that a later version writes.
    #[default]
    #[serde(other)]
    Other,
}

/// What a trip stood on.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct EvidenceLine {
    /// Sum of log-likelihoods at that moment.
    pub score: f64,
    /// What it had to reach.
    pub threshold: f64,
    /// Failures since the score left zero.
    pub failures: u32,
    /// Attempts since the score left zero.
    pub attempts: u32,
    /// Distinct witnesses among the failures.
    pub witnesses: u32,
    /// How long before the line the first of them was.
    pub first_failure_seconds_before: f64,
}

/// Whose fault the evidence said it was.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct BlameLine {
    /// `provider`, `origin` or `unknown`.
    pub verdict: String,
    /// Provider against origin; positive speaks against the provider.
    pub log_odds: f64,
    /// Requests that failed here and succeeded at another provider.
    pub pairs_for: u32,
    /// Requests that failed at another provider too.
    pub pairs_against: u32,
}

/// What the operator ordered.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct OrderLine {
    /// `PROVIDER` or `SERVICE/PROVIDER`.
    pub target: String,
    /// `drain`, `force_out`, `force_in`, or `auto` when it ended.
    pub order: String,
    /// When it lapses by itself, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// As the operator gave it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What an incident cost one service.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct CostLine {
    /// The first failure, RFC 3339.
    pub began: String,
    /// From then to the last failure.
    pub seconds: f64,
    /// Requests answered in that time.
    pub requests: u64,
    /// Of which with a 5xx, or with a body that broke off.
    pub lost: u64,
    /// Attempts that failed, those that a retry masked included.
    pub failed_attempts: u64,
    /// Requests that were tried a second time.
    pub retries: u64,
    /// How long the first candidate was outside the EU.
    pub outside_eu_seconds: f64,
    /// Attempts at upstreams outside the EU.
    pub outside_eu_attempts: u64,
    /// All attempts.
    pub attempts: u64,
}

impl EvidenceLine {
    /// Of the evidence of a transition at `at`.
    pub fn of(evidence: &Evidence, at: std::time::Instant) -> Self {
        let Evidence { score, threshold, failures, attempts, witnesses, .. } = *evidence;
        let before = at.saturating_duration_since(evidence.since);
        Self {
            score: rounded(score),
            threshold: rounded(threshold),
            failures,
            attempts,
            witnesses,
            first_failure_seconds_before: seconds(before),
        }
    }
}

impl BlameLine {
    /// Of a conclusion.
    pub fn of(attribution: &Attribution) -> Self {
        let Attribution { blame, log_odds, pairs_for, pairs_against } = *attribution;
        let verdict = blame.as_str().to_owned();
        Self { verdict, log_odds: rounded(log_odds), pairs_for, pairs_against }
    }
}

impl Line {
    /// As it stands in the file, without its line end. `None` for figures that JSON cannot hold;
    /// ours are all finite.
    pub fn to_json(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// Of a line of the file; `None` when it is none, as the last one may be after a crash.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// When it was; the beginning of 1970 where that is not written.
    pub fn moment(&self) -> SystemTime {
        moment(&self.at).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// RFC 3339, to the millisecond; the beginning of 1970 for a clock that is beyond what can be
/// written.
pub fn rfc3339(at: SystemTime) -> String {
    let stamp = jiff::Timestamp::try_from(at).unwrap_or_default();
    format!("{stamp:.3}")
}

/// The moment that [`rfc3339`] wrote.
pub fn moment(text: &str) -> Option<SystemTime> {
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

/// To the millisecond.
pub fn seconds(span: Duration) -> f64 {
    rounded(span.as_secs_f64())
}

/// Three decimals: more would only be noise in a file that people read.
fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let line = Line {
            at: rfc3339(SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_466_600_250)),
            event: Event::Failover,
            text: "failover".to_owned(),
            service: Some("portal".to_owned()),
            detection_seconds: Some(0.25),
            blame: Some(BlameLine { verdict: "provider".to_owned(), ..BlameLine::default() }),
            ..Line::default()
        };
        let text = line.to_json().expect("JSON");
        assert!(!text.contains('\n') && !text.contains("null"), "{text}");
        assert_eq!(Line::from_json(&text), Some(line));
        assert!(text.contains("\"at\":\"2025-11-18T11:50:00.250Z\""), "{text}");
    }

    #[test]
    fn what_a_later_version_writes_is_read_as_far_as_it_is_known() {
        let text = r#"{"at":"2025-11-18T11:50:00Z","event":"parity","text":"x","new":[1]}"#;
        let line = Line::from_json(text).expect("a line");
        assert_eq!((line.event, line.text.as_str()), (Event::Other, "x"));
        assert_eq!(rfc3339(line.moment()), "2025-11-18T11:50:00.000Z");
        assert_eq!(Line::from_json(r#"{"at":"2025-11-18T11:5"#), None, "cut short");
    }
}
