//! `/metrics`: the workers' rows summed, the board's gauges, and what was counted as it happened.

use std::sync::Arc;
use std::time::Instant;

use super::inspect::{is_fallback_outside_eu, is_first_choice};
use crate::exchange::board::{Board, BoardView};
use crate::exchange::edge::Edge;
use crate::exchange::evidence::EvidenceSender;
use crate::exchange::ledger::{CODE_CLASSES, DurationCounts};
use crate::exchange::state::{PoolState, UpstreamState};
use crate::model::health::{HealthTag, ProviderHealth, UpstreamStanding};
use crate::model::id::{PoolId, UpstreamId};
use crate::model::operator::Order;
use crate::model::outcome::{MethodClass, Outcome};
use crate::model::plan::PoolMode;
use crate::model::refusal::Refusal;
use crate::model::signal::DURATION_BOUNDS;
use crate::model::topology::EndpointHost;
use crate::telemetry::families as f;
use crate::telemetry::labels::{Dropped, NO_SERVICE};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::page::{Distribution, Page};
use crate::telemetry::process;

/// Where the numbers come from.
#[derive(Debug)]
pub struct Sources {
    /// Topology, states, plans and standings, as one look.
    pub board: Board,
    /// What happens before a request has a service.
    pub edge: Arc<Edge>,
    /// Knows what it let go.
    pub evidence: EvidenceSender,
    /// What was counted as it happened.
    pub metrics: Metrics,
}

/// The whole page as of now.
///
/// # Errors
/// When it cannot be written; see [`Page::render`].
pub fn page(sources: &Sources, now: Instant) -> prometheus::Result<Vec<u8>> {
    let mut page = Page::default();
    let board = sources.board.current();
    for (id, _) in board.view.routing.topology.pools() {
        pool(&mut page, &board, id);
    }
    for (id, _) in board.view.routing.topology.upstreams() {
        upstream(&mut page, &board, id);
        address_age(&mut page, &board, id, now);
    }
    let providers = &board.view.routing.topology.providers;
    for (provider, health) in providers.iter().zip(&board.providers) {
        let is_demoted = *health != ProviderHealth::Steady;
        page.flag(&f::PROVIDER_DEMOTED, &[provider.name.as_str()], is_demoted);
    }
    edge(&mut page, &sources.edge);
    let generation = board.view.routing.generation.get();
    page.add(&f::ROUTING_GENERATION, &[], generation as f64);
    let dropped = sources.evidence.dropped() as f64;
    page.add(&f::DROPPED, &[Dropped::Evidence.as_str()], dropped);
    let dropped = sources.evidence.probe_reports_dropped() as f64;
    page.add(&f::DROPPED, &[Dropped::ProbeReport.as_str()], dropped);
    let lines = sources.metrics.journal_lines_dropped() as f64;
    page.add(&f::DROPPED, &[Dropped::Journal.as_str()], lines);
    let lines = sources.metrics.access_log_lines_dropped() as f64;
    page.add(&f::DROPPED, &[Dropped::AccessLog.as_str()], lines);
    let lines = sources.metrics.log_lines_lost() as f64;
    page.add(&f::DROPPED, &[Dropped::Log.as_str()], lines);
    let spans = sources.metrics.spans_dropped() as f64;
    page.add(&f::DROPPED, &[Dropped::Traces.as_str()], spans);
    page.add(&f::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
    this_process(&mut page);
    page.render(sources.metrics.gather())
}

fn pool(page: &mut Page, board: &BoardView, id: PoolId) {
    let view = &board.view;
    let pool = view.routing.topology.pool(id);
    let plan = view.routing.plan(id);
    let service = [pool.service.as_str()];
    page.flag(&f::ORIGIN_INCIDENT, &service, board.pools[id.index()].origin_incident);
    page.flag(&f::COMMON_CAUSE, &service, board.pools[id.index()].common_cause);
    let drills = || board.drills.iter().filter(|drill| drill.ended.is_none());
    page.flag(
        &f::DRILL_ACTIVE,
        &service,
        drills().any(|drill| drill.service.as_str() == service[0]),
    );
    page.add(&f::PARTS_MOVED, &service, plan.parts().len() as f64);
    page.flag(&f::FAIL_OPEN, &service, plan.in_use().any(|plan| plan.mode == PoolMode::FailOpen));
    page.flag(
        &f::FAIL_CLOSED,
        &service,
        plan.in_use().any(|plan| plan.mode == PoolMode::FailClosed),
    );
    page.flag(&f::FALLBACK_OUTSIDE_EU, &service, is_fallback_outside_eu(board, id));
    pool_rows(page, view.states.pool(id));
}

fn pool_rows(page: &mut Page, state: &PoolState) {
    let service = state.service.as_str();
    let mut durations = DurationCounts::default();
    for row in &state.rows {
        for (class, answers) in CODE_CLASSES.iter().zip(&row.answers) {
            page.add(&f::REQUESTS, &[service, class], answers.get() as f64);
        }
        page.add(&f::REQUESTS_IN_FLIGHT, &[service], row.in_flight.get() as f64);
        page.add(&f::RETRIES, &[service], row.retries.get() as f64);
        page.add(&f::SPILLED, &[service], row.spilled.get() as f64);
        page.add(&f::OVERLOAD_REFUSALS, &[service], row.overload_refusals.get() as f64);
        page.add(&f::RETRY_BUDGET_EXHAUSTED, &[service], row.budget_refusals.get() as f64);
        row.durations.add_to(&mut durations);
    }
    page.distribution(&f::REQUEST_DURATION, &[service], distribution(&durations));
}

fn upstream(page: &mut Page, board: &BoardView, id: UpstreamId) {
    let routing = &board.view.routing;
    let plan = routing.plan(routing.topology.upstream(id).pool);
    let state = board.view.states.upstream(id);
    let jurisdiction = routing.topology.provider_of(id).jurisdiction.as_str();
    let names = [state.key.service.as_str(), state.key.provider.as_str()];
    standing(page, names, &board.upstreams[id.index()]);
    // Where routes differ in who may carry them: of those that give it most.
    let shares = plan.of_realms().iter().filter_map(|plan| plan.candidate(id));
    let share = shares.map(|candidate| candidate.safe.fraction()).fold(0.0, f64::max);
    page.add(&f::UPSTREAM_SHARE, &names, share);
    let admits = board.upstreams[id.index()].admits.fraction();
    page.add(&f::UPSTREAM_ADMITS, &names, admits);
    let labels = [names[0], names[1], jurisdiction];
    let serves = |id| plan.of_realms().iter().any(|plan| plan.first() == Some(id));
    page.flag(&f::ACTIVE_UPSTREAM, &labels, serves(id));
    let topology = &routing.topology;
    let is_left = is_first_choice(topology, id)
        && plan.first().is_some_and(|first| !is_first_choice(topology, first));
    page.flag(&f::FIRST_CHOICE_LEFT, &names, is_left);
    upstream_rows(page, state, jurisdiction);
}

fn standing(page: &mut Page, names: [&str; 2], standing: &UpstreamStanding) {
    for health in HealthTag::ALL {
        let labels = [names[0], names[1], health.as_str()];
        page.flag(&f::UPSTREAM_HEALTH, &labels, standing.health.tag() == health);
    }
    for order in Order::ALL {
        let labels = [names[0], names[1], order.as_str()];
        page.flag(&f::OVERRIDE_ACTIVE, &labels, standing.admin == order.state());
    }
    page.flag(&f::ORIGIN_MARKER_ARMED, &names, standing.marker_armed);
    page.flag(&f::GRAY_ALERT, &names, standing.gray_alert);
}

fn upstream_rows(page: &mut Page, state: &UpstreamState, jurisdiction: &str) {
    let (service, provider) = (state.key.service.as_str(), state.key.provider.as_str());
    let mut durations = DurationCounts::default();
    for row in &state.rows {
        for outcome in Outcome::all() {
            let both: u64 = MethodClass::ALL.into_iter().map(|m| row.outcome(m, outcome)).sum();
            page.add(&f::ATTEMPTS, &[service, provider, outcome.as_str()], both as f64);
        }
        for (direction, bytes) in [("sent", &row.sent), ("received", &row.received)] {
            let labels = [service, provider, jurisdiction, direction];
            page.add(&f::BYTES, &labels, bytes.get() as f64);
        }
        row.durations.add_to(&mut durations);
    }
    page.distribution(&f::ATTEMPT_DURATION, &[service, provider], distribution(&durations));
}

fn address_age(page: &mut Page, board: &BoardView, id: UpstreamId, now: Instant) {
    let endpoint = &board.view.routing.topology.upstream(id).endpoint;
    let answer = board.view.states.upstream(id).addresses.current();
    if let (EndpointHost::Name(name), Some(at)) = (&endpoint.host, answer.at) {
        let age = now.saturating_duration_since(at).as_secs_f64();
        page.largest(&f::DNS_ANSWER_AGE, &[name], age);
    }
}

fn edge(page: &mut Page, edge: &Edge) {
    for state in edge.listeners().iter() {
        let listener = state.address.to_string();
        let suspected = state.rows.iter().any(|row| row.forwarded.is_suspected());
        page.flag(&f::UNTRUSTED_PROXY, &[&listener], suspected);
        for row in &state.rows {
            page.add(&f::CONNECTIONS, &[&listener], row.open.get() as f64);
            for refusal in Refusal::ALL {
                let refused = row.refused(refusal) as f64;
                let labels = [listener.as_str(), refusal.as_str()];
                if refusal.is_of_connection() {
                    page.add(&f::CONNECTIONS_REJECTED, &labels, refused);
                } else {
                    let class = usize::from(refusal.status().as_u16() / 100 - 1);
                    page.add(&f::REQUESTS_REJECTED, &labels, refused);
                    page.add(&f::REQUESTS, &[NO_SERVICE, CODE_CLASSES[class]], refused);
                }
            }
        }
    }
}

fn this_process(page: &mut Page) {
    let figures = process::figures();
    let known = [
        (&f::PROCESS_CPU, figures.cpu_seconds),
        (&f::PROCESS_RESIDENT_MEMORY, figures.resident_bytes),
        (&f::PROCESS_OPEN_FDS, figures.open_fds),
        (&f::PROCESS_MAX_FDS, figures.max_fds),
        (&f::PROCESS_START_TIME, figures.started),
    ];
    for (family, figure) in known {
        if let Some(figure) = figure {
            page.add(family, &[], figure);
        }
    }
}

fn distribution(counts: &DurationCounts) -> Distribution {
    Distribution {
        bounds: &DURATION_BOUNDS,
        counts: counts.buckets.to_vec(),
        sum: counts.sum_micros as f64 / 1e6,
    }
}
