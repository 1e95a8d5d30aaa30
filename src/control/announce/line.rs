//! One transition as a line: the same facts for the log, for the board and for the journal.

use std::fmt;
use std::time::{Duration, Instant};

use tracing::field;

use super::InForce;
use super::words::{self, FAILBACK, FAILOVER, Level};
use crate::model::health::{Attribution, Evidence, Reason, Transition, TripRule};
use crate::model::id::{PoolId, UpstreamId};
use crate::model::topology::{FailoverMode, Topology};
use crate::model::unit::Generation;
use crate::telemetry::journal::{self, BlameLine, Event, EvidenceLine, rfc3339};

/// What stands for the service in a line about a provider as a whole.
const EVERY_SERVICE: &str = "*";

/// One log line before it is written.
#[derive(Debug)]
pub(super) struct Line<'a> {
    level: Level,
    event: Event,
    text: &'static str,
    service: &'a str,
    at: Option<Instant>,
    observed: bool,
    jurisdiction: Option<&'a str>,
    /// Which part of the requests.
    slice: Option<String>,
    probes_failed: Option<u32>,
    provider: Option<&'a str>,
    from: Option<&'a str>,
    to: Option<&'a str>,
    reason: Option<&'static str>,
    kind: Option<&'static str>,
    evidence: Option<Evidence>,
    attribution: Option<Attribution>,
    hold: Option<Duration>,
    detection: Option<Duration>,
}

impl<'a> Line<'a> {
    /// Of a transition, with the names of its topology.
    pub(super) fn of(transition: &Transition, topology: &'a Topology) -> Self {
        let words = words::of(transition);
        let pool = |pool: PoolId| Self::of_pool(topology, pool, words);
        let upstream = |upstream: UpstreamId| Self::of_upstream(topology, upstream, words);
        let line = match *transition {
            Transition::Health { upstream: whose, from, to, reason, hold, .. } => {
                let (from, to) = (Some(from.as_str()), Some(to.as_str()));
                Self { from, to, hold, ..upstream(whose) }.because(reason)
            }
            Transition::Withheld { upstream: whose, tier, evidence, .. } => Self {
                reason: Some(tier.as_str()),
                evidence: Some(evidence),
                attribution: Some(evidence.attribution),
                ..upstream(whose)
            },
            Transition::Failover { pool: whose, from, to, reason, detection, .. } => {
                Self { detection, ..pool(whose) }.between(topology, from, to).because(reason)
            }
            Transition::Failback { pool: whose, from, to, reason, .. } => {
                pool(whose).between(topology, from, to).because(reason)
            }
            Transition::Mode { pool: whose, from, to, .. } => {
                Self { from: Some(from.as_str()), to: Some(to.as_str()), ..pool(whose) }
            }
            Transition::OriginIncident { pool: whose, attribution, .. } => {
                Self { attribution: Some(attribution), ..pool(whose) }
            }
            Transition::Ordered { upstream: whose, from, to, .. } => {
                Self { from: Some(from.as_str()), to: Some(to.as_str()), ..upstream(whose) }
            }
            Transition::Slice { pool: whole, slice, upstream: whose, reason, .. } => {
                let slice = Some(slice.words(topology, whole));
                Self { slice, ..upstream(whose) }.because(reason)
            }
            Transition::Provider { provider, .. } => {
                let provider = Some(topology.provider(provider).name.as_str());
                Self { provider, ..Self::bare(EVERY_SERVICE, words) }
            }
            Transition::CommonCause { pool: whose, ground, .. } => {
                Self { reason: Some(ground.as_str()), ..pool(whose) }
            }
            Transition::GrayAlert { upstream: whose, .. }
            | Transition::Limit { upstream: whose, .. } => upstream(whose),
        };
        let text = match line.text {
            FAILOVER if line.observed => "failover observed: no traffic was moved",
            FAILBACK if line.observed => "failback observed: no traffic was moved",
            text => text,
        };
        let (event, at) = when(transition);
        Self { event, text, at: Some(at), ..line }
    }

    fn of_pool(topology: &'a Topology, pool: PoolId, words: (Level, &'static str)) -> Self {
        let pool = topology.pool(pool);
        let observed = pool.rules.failover.mode == FailoverMode::Observe;
        Self { observed, ..Self::bare(pool.service.as_str(), words) }
    }

    fn bare(service: &'a str, (level, text): (Level, &'static str)) -> Self {
        Self {
            level,
            event: Event::Other,
            text,
            service,
            at: None,
            observed: false,
            jurisdiction: None,
            slice: None,
            probes_failed: None,
            provider: None,
            from: None,
            to: None,
            reason: None,
            kind: None,
            evidence: None,
            attribution: None,
            hold: None,
            detection: None,
        }
    }

    fn of_upstream(
        topology: &'a Topology,
        upstream: UpstreamId,
        words: (Level, &'static str),
    ) -> Self {
        let line = Self::of_pool(topology, topology.upstream(upstream).pool, words);
        Self { provider: Some(topology.provider_of(upstream).name.as_str()), ..line }
    }

    fn between(self, topology: &'a Topology, from: UpstreamId, to: UpstreamId) -> Self {
        let name = |upstream| Some(topology.provider_of(upstream).name.as_str());
        let jurisdiction = Some(topology.provider_of(to).jurisdiction.as_str());
        Self { from: name(from), to: name(to), jurisdiction, ..self }
    }

    fn because(self, reason: Reason) -> Self {
        let evidence = match reason {
            Reason::Trip(_, evidence) => Some(evidence),
            _ => None,
        };
        let probes_failed = match reason {
            Reason::Probes { failed, .. } => Some(failed),
            _ => None,
        };
        Self {
            probes_failed,
            reason: Some(reason.as_str()),
            kind: kind_of(reason),
            evidence,
            attribution: evidence.map(|evidence| evidence.attribution),
            ..self
        }
    }

    /// As it stands in the journal.
    pub(super) fn written(&self, in_force: &InForce<'_>) -> journal::Line {
        let own = |word: Option<&str>| word.map(str::to_owned);
        let evidence = self.evidence.as_ref();
        journal::Line {
            at: rfc3339(in_force.wall),
            event: self.event,
            text: self.to_string(),
            service: Some(self.service.to_owned()),
            provider: own(self.provider),
            from: own(self.from),
            to: own(self.to),
            jurisdiction: own(self.jurisdiction),
            slice: self.slice.clone(),
            reason: own(self.reason),
            kind: own(self.kind),
            generation: in_force.generation.get(),
            observed: self.observed,
            hold_seconds: self.hold.map(journal::seconds),
            detection_seconds: self.detection.map(journal::seconds),
            evidence: evidence.zip(self.at).map(|(evidence, at)| EvidenceLine::of(evidence, at)),
            probes_failed: self.probes_failed,
            blame: self.attribution.as_ref().map(BlameLine::of),
            order: None,
            cost: None,
        }
    }

    /// Writes the log line.
    pub(super) fn log(&self, generation: Generation) {
        macro_rules! write_line {
            ($level:ident) => {
                tracing::$level!(
                    service = self.service,
                    provider = self.provider,
                    slice = self.slice,
                    from = self.from,
                    to = self.to,
                    reason = self.reason,
                    kind = self.kind,
                    rule = self.evidence.map(|e| rule_word(e.rule)),
                    score = self.evidence.map(|e| e.score),
                    threshold = self.evidence.map(|e| e.threshold),
                    failures = self.evidence.map(|e| e.failures),
                    attempts = self.evidence.map(|e| e.attempts),
                    witnesses = self.evidence.map(|e| e.witnesses),
                    blame = self.attribution.map(|a| a.blame.as_str()),
                    log_odds = self.attribution.map(|a| a.log_odds),
                    hold = self.hold.map(field::debug),
                    detection = self.detection.map(field::debug),
                    mode = self.observed.then_some("observe"),
                    generation = generation.get(),
                    "{}",
                    self.text
                )
            };
        }
        match self.level {
            Level::Error => write_line!(error),
            Level::Warn => write_line!(warn),
            Level::Info => write_line!(info),
        }
    }
}

/// What kind of entry it makes, and when it happened.
const fn when(transition: &Transition) -> (Event, Instant) {
    match *transition {
        Transition::Health { at, .. } => (Event::Health, at),
        Transition::Withheld { at, .. } => (Event::Withheld, at),
        Transition::Failover { at, .. } => (Event::Failover, at),
        Transition::Failback { at, .. } => (Event::Failback, at),
        Transition::Mode { at, .. } => (Event::Mode, at),
        Transition::OriginIncident { at, .. } => (Event::OriginIncident, at),
        Transition::Ordered { at, .. } => (Event::AdminState, at),
        Transition::GrayAlert { at, .. } => (Event::GrayAlert, at),
        Transition::Slice { at, .. } => (Event::Slice, at),
        Transition::Provider { at, .. } => (Event::Provider, at),
        Transition::CommonCause { at, .. } => (Event::CommonCause, at),
        Transition::Limit { at, .. } => (Event::Limit, at),
    }
}

const fn rule_word(rule: TripRule) -> &'static str {
    match rule {
        TripRule::Score => "score",
        TripRule::UnbrokenRun => "unbroken_run",
    }
}

fn kind_of(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::Trip(_, evidence) => Some(evidence.commonest.as_str()),
        Reason::Probes { kind, .. } | Reason::Relapse(kind) | Reason::ProbeVeto(kind) => {
            Some(kind.as_str())
        }
        Reason::Doubt { .. }
        | Reason::Settled
        | Reason::HoldOver
        | Reason::Proven
        | Reason::RampDone
        | Reason::Fallback
        | Reason::Recovered
        | Reason::Reload
        | Reason::Remembered
        | Reason::AllBad
        | Reason::Demoted
        | Reason::Ordered => None,
    }
}

/// The line as the board shows it.
impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)?;
        let words = [
            ("slice", self.slice.as_deref()),
            ("provider", self.provider),
            ("from", self.from),
            ("to", self.to),
            ("reason", self.reason),
            ("kind", self.kind),
        ];
        for (name, word) in words {
            if let Some(word) = word {
                write!(f, " {name}={word}")?;
            }
        }
        if let Some(evidence) = self.evidence {
            let Evidence { rule, score, threshold, failures, attempts, witnesses, .. } = evidence;
            match rule {
                TripRule::Score => write!(f, " score={score:.1}/{threshold:.1}")?,
                TripRule::UnbrokenRun => write!(f, " run={score:.0}/{threshold:.0}")?,
            }
            write!(f, " failures={failures}/{attempts}")?;
            write!(f, " witnesses={witnesses}")?;
        }
        if let Some(attribution) = self.attribution {
            let Attribution { blame, log_odds, .. } = attribution;
            write!(f, " blame={} log_odds={log_odds:+.1}", blame.as_str())?;
        }
        if let Some(hold) = self.hold {
            write!(f, " hold={hold:.1?}")?;
        }
        if let Some(detection) = self.detection {
            write!(f, " detection={detection:.1?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::clock;
    use crate::model::cell::Slice;
    use crate::model::example::{self, Example};
    use crate::model::health::{Blame, HealthTag, IncidentEdge, Tier};
    use crate::model::outcome::{FailureKind, MethodClass};
    use crate::model::plan::PoolMode;

    fn evidence(since: Instant) -> Evidence {
        let blame = Blame::Provider;
        Evidence {
            rule: TripRule::Score,
            score: 18.44,
            threshold: 17.2,
            failures: 6,
            attempts: 7,
            witnesses: 4,
            commonest: FailureKind::Late,
            since,
            attribution: Attribution { blame, log_odds: 7.5, pairs_for: 2, pairs_against: 0 },
        }
    }

    #[test]
    fn a_transition_is_told_with_its_facts() {
        let of =
            |provider, host| Example { service: "portal", provider, seat: "SI", host, port: 1 };
        let topology = example::topology(&[of("bunny", "192.0.2.1"), of("gcore", "192.0.2.2")]);
        let (pool, at) = (PoolId::new(0), clock::now());
        let (from, to) = (UpstreamId::new(0), UpstreamId::new(1));
        let trip = Reason::Trip(Tier::Cascade, evidence(at));
        let attribution = evidence(at).attribution;
        #[rustfmt::skip]
        let table = [
            (
                Transition::Health {
                    upstream: from, from: HealthTag::Suspect, to: HealthTag::Ejected, at,
                    reason: trip, hold: Some(Duration::from_millis(28_475)),
                },
                Level::Warn,
                "upstream ejected provider=bunny from=suspect to=ejected reason=cascade kind=late \
                 score=18.4/17.2 failures=6/7 witnesses=4 blame=provider log_odds=+7.5 hold=28.5s",
            ),
            (
                Transition::Failover { pool, from, to, at, reason: Reason::Probes { failed: 3, kind: FailureKind::Tls }, detection: Some(Duration::from_millis(250)) },
                Level::Warn,
                "failover from=bunny to=gcore reason=probes kind=tls detection=250.0ms",
            ),
            (
                Transition::Failback { pool, from: to, to: from, at, reason: Reason::Recovered },
                Level::Info,
                "failback from=gcore to=bunny reason=recovered",
            ),
            (
                Transition::Mode { pool, from: PoolMode::Normal, to: PoolMode::FailOpen, at },
                Level::Error,
                "fail-open: no upstream is good, the least bad serves from=normal to=fail_open",
            ),
            (
                Transition::OriginIncident { pool, edge: IncidentEdge::Raised, at, attribution },
                Level::Error,
                "origin incident: the origin fails through every provider blame=provider log_odds=+7.5",
            ),
            (
                Transition::Slice {
                    pool, slice: Slice::Class(MethodClass::Unsafe), edge: IncidentEdge::Ended, upstream: from, at,
                    reason: Reason::RampDone,
                },
                Level::Info,
                "a part of the requests is back slice=unsafe requests provider=bunny reason=ramp_done",
            ),
            (
                Transition::GrayAlert { upstream: to, edge: IncidentEdge::Ended, at },
                Level::Info,
                "gray alert ended provider=gcore",
            ),
        ];
        for (transition, level, text) in table {
            let line = Line::of(&transition, &topology);
            assert_eq!((line.level, line.service), (level, "portal"), "{text}");
            assert_eq!(line.to_string(), text);
        }
    }
}
