//! A transition to its log line, its counters and its place in the journal: constant text, facts
//! beside it, so that people and machines read the same.

use std::time::{Instant, SystemTime};

use crate::model::drill::{DrillEnd, DrillRecord};
use crate::model::health::Transition;
use crate::model::id::UpstreamId;
use crate::model::operator::StandingOrder;
use crate::model::topology::{FailoverMode, Topology};
use crate::model::unit::Generation;
use crate::telemetry::journal::{self, Event, OrderLine, rfc3339};
use crate::telemetry::metrics::{Metrics, Move};

mod line;
mod words;

use line::Line;

/// Where and when a transition came into force.
#[derive(Clone, Copy, Debug)]
pub struct InForce<'a> {
    /// Names for the transition's ids.
    pub topology: &'a Topology,
    /// The snapshot that holds its consequences.
    pub generation: Generation,
    /// When that was.
    pub at: Instant,
    /// The same on the wall.
    pub wall: SystemTime,
}

/// Logs and counts it; what is returned belongs into the journal.
pub fn announce(
    transition: &Transition,
    in_force: InForce<'_>,
    metrics: &Metrics,
) -> journal::Line {
    let line = Line::of(transition, in_force.topology);
    line.log(in_force.generation);
    count(transition, &in_force, metrics);
    line.written(&in_force)
}

fn count(transition: &Transition, in_force: &InForce<'_>, metrics: &Metrics) {
    let topology = in_force.topology;
    let provider = |upstream: UpstreamId| &topology.provider_of(upstream).name;
    match *transition {
        Transition::Failover { pool, from, to, at, reason, detection } => {
            let service = &topology.pool(pool).service;
            let moved =
                Move { service, from: provider(from), to: provider(to), reason: reason.as_str() };
            metrics.failover(moved, detection);
            if topology.pool(pool).rules.failover.mode == FailoverMode::Enforce {
                metrics.switched(service, in_force.at.saturating_duration_since(at));
            }
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
        | Transition::Ordered { .. }
        | Transition::GrayAlert { .. }
        | Transition::Slice { .. }
        | Transition::Provider { .. }
        | Transition::CommonCause { .. }
        | Transition::Limit { .. } => {}
    }
}

/// Which end of a drill is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DrillFate {
    /// It began.
    Begun,
    /// It ended.
    Ended,
}

/// Logs a drill's begin or end; what is returned belongs into the journal.
pub fn announce_drill(
    record: &DrillRecord,
    fate: DrillFate,
    generation: Generation,
) -> journal::Line {
    let DrillRecord { service, from, to, share, first, fallback, reason, .. } = record;
    let share = share.fraction();
    let (at, result) = match (fate, record.ended) {
        (DrillFate::Ended, Some((end, at))) => (at, Some(end)),
        (DrillFate::Begun, _) | (DrillFate::Ended, None) => (record.began, None),
    };
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let text = match result {
        None => {
            let until = rfc3339(record.until);
            format!(
                "drill begun: {:.1} % of {service} from {from} to {to} until {until}{because}",
                share * 100.0
            )
        }
        Some(end) => format!(
            "drill {end}; {to} failed {} of {} and was slow {} times, {from} {} of {} and {} times{because}",
            fallback.failures,
            fallback.attempts,
            fallback.slow,
            first.failures,
            first.attempts,
            first.slow,
        ),
    };
    let (service, from, to) = (service.to_string(), from.to_string(), to.to_string());
    let word = result.map(|end: DrillEnd| end.as_str());
    tracing::warn!(service, from, to, share, result = word, detail = text, "drill");
    journal::Line {
        at: rfc3339(at),
        event: Event::Drill,
        text,
        service: Some(service),
        from: Some(from),
        to: Some(to),
        reason: word.map(str::to_owned),
        generation: generation.get(),
        ..journal::Line::default()
    }
}

/// What became of an order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OrderFate {
    /// It was given.
    Given,
    /// The operator took it back.
    TakenBack,
    /// Its time was over.
    Lapsed,
}

/// Logs what became of an order; what is returned belongs into the journal.
pub fn announce_order(
    standing: &StandingOrder,
    fate: OrderFate,
    generation: Generation,
    wall: SystemTime,
) -> journal::Line {
    let target = standing.word.target.to_string();
    let until = standing.lapses.map(rfc3339);
    let (text, order) = match fate {
        OrderFate::Given => ("order given", standing.word.order.as_str()),
        OrderFate::TakenBack => ("order taken back", "auto"),
        OrderFate::Lapsed => ("order lapsed", "auto"),
    };
    let (was, because) = (standing.word.order.as_str(), &*standing.reason);
    tracing::warn!(target = target, order = was, until, because, "{text}");
    let because = if because.is_empty() { String::new() } else { format!(": {because}") };
    let end = until.as_ref().filter(|_| fate == OrderFate::Given);
    let end = end.map_or_else(String::new, |until| format!(" until {until}"));
    journal::Line {
        at: rfc3339(wall),
        event: Event::Order,
        text: format!("{text}: {was} {target}{end}{because}"),
        service: standing.word.target.service().map(ToString::to_string),
        provider: Some(standing.word.target.provider().to_string()),
        generation: generation.get(),
        order: Some(OrderLine {
            target,
            order: order.to_owned(),
            until,
            reason: standing.reason.to_string(),
        }),
        ..journal::Line::default()
    }
}
