//! A transition to its log line, its counters and its place on the board: constant text, facts
//! beside it, so that people and machines read the same.

use std::fmt;
use std::time::{Duration, SystemTime};

use tracing::field;

use crate::exchange::board::Entry;
use crate::model::health::{Attribution, Evidence, HealthTag, IncidentEdge, Reason, Transition};
use crate::model::id::{PoolId, UpstreamId};
use crate::model::plan::PoolMode;
use crate::model::topology::Topology;
use crate::model::unit::Generation;
use crate::telemetry::metrics::{Metrics, Move};

/// Where and when a transition came into force.
#[derive(Clone, Copy, Debug)]
pub struct InForce<'a> {
    /// Names for the transition's ids.
    pub topology: &'a Topology,
    /// The snapshot that holds its consequences.
    pub generation: Generation,
    /// When that was.
    pub at: std::time::Instant,
    /// The same on the wall.
    pub wall: SystemTime,
}

/// Logs and counts it; what is returned belongs on the board.
pub fn announce(transition: Transition, in_force: InForce<'_>, metrics: &Metrics) -> Entry {
    let line = Line::of(&transition, in_force.topology);
    line.log(in_force.generation);
    count(&transition, in_force, metrics);
    Entry {
        at: in_force.wall,
        service: line.service.to_owned(),
        text: line.to_string(),
        generation: in_force.generation,
        transition,
    }
}

fn count(transition: &Transition, in_force: InForce<'_>, metrics: &Metrics) {
    let topology = in_force.topology;
    let provider = |upstream: UpstreamId| &topology.provider_of(upstream).name;
    match *transition {
        Transition::Failover { pool, from, to, at, reason, detection } => {
            let service = &topology.pool(pool).service;
            let moved =
                Move { service, from: provider(from), to: provider(to), reason: reason.as_str() };
            metrics.failover(moved, detection);
            metrics.switched(service, in_force.at.saturating_duration_since(at));
        }
        Transition::Failback { pool, from, to, reason, .. } => metrics.failback(Move {
            service: &topology.pool(pool).service,
            from: provider(from),
            to: provider(to),
            reason: reason.as_str(),
        }),
        // Gauges of what lasts are read off the board at a scrape.
        Transition::Health { .. }
        | Transition::Withheld { .. }
        | Transition::Mode { .. }
        | Transition::OriginIncident { .. }
        | Transition::GrayAlert { .. }
        | Transition::Slice { .. }
        | Transition::Provider { .. }
        | Transition::CommonCause { .. }
        | Transition::Limit { .. } => {}
    }
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Level {
    /// Act now.
    Error,
    /// Degraded.
    Warn,
    /// A transition.
    Info,
}

/// One log line before it is written.
#[derive(Debug)]
struct Line<'a> {
    level: Level,
    text: &'static str,
    service: &'a str,
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
    fn of(transition: &Transition, topology: &'a Topology) -> Self {
        let words = words(transition);
        let pool = |pool: PoolId| Self::of_pool(topology, pool, words);
        let upstream = |upstream: UpstreamId| Self::of_upstream(topology, upstream, words);
        match *transition {
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
                let detection = Some(detection);
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
            Transition::Slice { upstream: whose, reason, .. } => upstream(whose).because(reason),
            Transition::Provider { provider, .. } => {
                let provider = Some(topology.provider(provider).name.as_str());
                Self { provider, ..Self::bare("all", words) }
            }
            Transition::CommonCause { pool: whose, ground, .. } => {
                Self { reason: Some(ground.as_str()), ..pool(whose) }
            }
            Transition::GrayAlert { upstream: whose, .. }
            | Transition::Limit { upstream: whose, .. } => upstream(whose),
        }
    }

    fn of_pool(topology: &'a Topology, pool: PoolId, words: (Level, &'static str)) -> Self {
        Self::bare(topology.pool(pool).service.as_str(), words)
    }

    const fn bare(service: &'a str, (level, text): (Level, &'static str)) -> Self {
        Self {
            level,
            text,
            service,
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
        Self { from: name(from), to: name(to), ..self }
    }

    fn because(self, reason: Reason) -> Self {
        let evidence = match reason {
            Reason::Trip(_, evidence) => Some(evidence),
            _ => None,
        };
        Self {
            reason: Some(reason.as_str()),
            kind: kind_of(reason),
            evidence,
            attribution: evidence.map(|evidence| evidence.attribution),
            ..self
        }
    }

    fn log(&self, generation: Generation) {
        macro_rules! write_line {
            ($level:ident) => {
                tracing::$level!(
                    service = self.service,
                    provider = self.provider,
                    from = self.from,
                    to = self.to,
                    reason = self.reason,
                    kind = self.kind,
                    score = self.evidence.map(|e| e.score),
                    threshold = self.evidence.map(|e| e.threshold),
                    failures = self.evidence.map(|e| e.failures),
                    attempts = self.evidence.map(|e| e.attempts),
                    witnesses = self.evidence.map(|e| e.witnesses),
                    blame = self.attribution.map(|a| a.blame.as_str()),
                    log_odds = self.attribution.map(|a| a.log_odds),
                    hold = self.hold.map(field::debug),
                    detection = self.detection.map(field::debug),
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
        | Reason::AllBad
        | Reason::Demoted => None,
    }
}

/// How much a transition matters, and what it is called.
const fn words(transition: &Transition) -> (Level, &'static str) {
    use IncidentEdge::{Ended, Raised};
    use Level::{Error, Info, Warn};
    match transition {
        Transition::Health { to, .. } => health_words(*to),
        Transition::Withheld { .. } => {
            (Warn, "trip withheld: the evidence does not blame the provider")
        }
        Transition::Failover { .. } => (Warn, "failover"),
        Transition::Failback { .. } => (Info, "failback"),
        Transition::Mode { to, .. } => mode_words(*to),
        Transition::OriginIncident { edge: Raised, .. } => {
            (Error, "origin incident: the origin fails through every provider")
        }
        Transition::OriginIncident { edge: Ended, .. } => (Info, "origin incident ended"),
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

const fn mode_words(to: PoolMode) -> (Level, &'static str) {
    match to {
        PoolMode::Normal => (Level::Info, "service normal again"),
        PoolMode::FailOpen => {
            (Level::Error, "fail-open: no upstream is good, the least bad serves")
        }
        PoolMode::FailClosed => (Level::Error, "fail-closed: no upstream is permitted"),
    }
}

/// The line as the board shows it.
impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)?;
        let words = [
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
            let Evidence { score, threshold, failures, attempts, witnesses, .. } = evidence;
            write!(f, " score={score:.1}/{threshold:.1} failures={failures}/{attempts}")?;
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
    use crate::model::example::{self, Example};
    use crate::model::health::{Blame, Tier};
    use crate::model::outcome::FailureKind;

    fn evidence(since: Instant) -> Evidence {
        let blame = Blame::Provider;
        Evidence {
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
                Transition::Failover { pool, from, to, at, reason: Reason::Probes { failed: 3, kind: FailureKind::Tls }, detection: Duration::from_millis(250) },
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
