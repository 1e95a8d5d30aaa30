//! `/v1/status`: everything for people, as of one look at the board.

use std::time::{Duration, Instant, UNIX_EPOCH};

use super::view::{
    BarredView, ChangeView, IncidentView, OrderView, PartView, ProbeView, ProviderView, RealmView,
    ScoresView, ServiceView, Status, TransitionView, UpstreamView,
};
use crate::exchange::board::{BoardView, Entry};
use crate::model::health::{
    Evidence, Health, PoolStanding, ProviderHealth, Reason, Tier, TripRule, UpstreamStanding,
    Verdict,
};
use crate::model::id::{PoolId, ProviderId, UpstreamId};
use crate::model::operator::StandingOrder;
use crate::model::place::{Jurisdiction, Residency};
use crate::model::plan::PoolPlan;
use crate::model::realm::{Bar, Realm};
use crate::model::topology::{Barred, Pool, Provider, ProviderKind, Topology};
use crate::telemetry::journal::rfc3339;

/// Transitions in the status; the journal has more.
const RECENT: usize = 256;

impl Status {
    /// Of one look at the board.
    pub fn of(board: &BoardView, now: Instant) -> Self {
        let topology = &board.view.routing.topology;
        let providers = topology.providers.iter().enumerate();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at: rfc3339(board.at),
            generation: board.view.routing.generation.get(),
            providers: providers
                .map(|(index, provider)| provider_view(board, ProviderId::new(index), provider))
                .collect(),
            services: topology
                .pools()
                .map(|(id, pool)| service_view(board, id, pool, now))
                .collect(),
            overrides: board.orders.iter().map(OrderView::of).collect(),
            recent: board
                .recent
                .iter()
                .rev()
                .take(RECENT)
                .map(|entry| transition_view(entry))
                .collect(),
        }
    }
}

fn provider_view(board: &BoardView, id: ProviderId, provider: &Provider) -> ProviderView {
    let routing = &board.view.routing;
    let topology = &routing.topology;
    let names = |keep: &dyn Fn(PoolId, &Pool) -> bool| {
        let kept = topology.pools().filter(|(pool_id, pool)| keep(*pool_id, pool));
        kept.map(|(_, pool)| pool.service.to_string()).collect()
    };
    let is_through = |upstream: UpstreamId| topology.upstream(upstream).provider == id;
    ProviderView {
        name: provider.name.to_string(),
        seat: provider.seat.to_string(),
        jurisdiction: provider.jurisdiction.as_str().to_owned(),
        kind: match provider.kind {
            ProviderKind::Edge => "edge",
            ProviderKind::Origin => "origin",
            ProviderKind::Source => "source",
        }
        .to_owned(),
        substrates: provider.substrates.iter().map(ToString::to_string).collect(),
        services: names(&|_, pool| pool.upstreams.iter().any(|upstream| is_through(*upstream))),
        first_for: names(&|pool_id, _| routing.plan(pool_id).first().is_some_and(is_through)),
        demoted: matches!(board.providers[id.index()], ProviderHealth::Demoted { .. }),
    }
}

fn service_view(board: &BoardView, id: PoolId, pool: &Pool, now: Instant) -> ServiceView {
    let routing = &board.view.routing;
    let plan = routing.plan(id);
    let standing = &board.pools[id.index()];
    let name = |upstream: UpstreamId| routing.topology.provider_of(upstream).name.to_string();
    ServiceView {
        name: pool.service.to_string(),
        residency: pool.residency.as_str().to_owned(),
        mode: plan.worst().as_str().to_owned(),
        first: plan.first().map(name),
        failover: pool.rules.failover.mode.as_str().to_owned(),
        would_be_first: standing.intended.filter(|to| Some(*to) != plan.first()).map(name),
        parts: (plan.parts().iter())
            .map(|(slice, plan)| PartView {
                slice: slice.words(&routing.topology, id),
                mode: plan.worst().as_str().to_owned(),
                first: plan.first().map(name),
            })
            .collect(),
        incident: incident_view(standing, now),
        upstreams: pool.upstreams.iter().map(|up| upstream_view(board, *up, now)).collect(),
        barred: pool.barred.iter().map(BarredView::listed).collect(),
        on_fallback: plan
            .first()
            .is_some_and(|first| !is_first_choice(&board.view.routing.topology, first)),
        fallback_outside_eu: is_fallback_outside_eu(board, id),
        common_cause: standing.common_cause,
        origin_incident: standing.origin_incident,
        realms: realm_views(board, id, pool),
    }
}

fn realm_views(board: &BoardView, id: PoolId, pool: &Pool) -> Vec<RealmView> {
    let routing = &board.view.routing;
    let plan = routing.plan(id);
    let name = |upstream: UpstreamId| routing.topology.provider_of(upstream).name.to_string();
    let realms = pool.realms.narrower().iter().zip(plan.of_realms());
    let view = |(realm, confined): (&Realm, &PoolPlan)| {
        let permitted = pool.upstreams.iter().filter(|upstream| realm.admits(**upstream));
        RealmView {
            residency: realm.charter().residency.as_str().to_owned(),
            require: realm.charter().require.iter().map(ToString::to_string).collect(),
            mode: confined.mode.as_str().to_owned(),
            first: confined.first().map(name),
            permitted: permitted.map(|upstream| name(*upstream)).collect(),
        }
    };
    realms.map(view).collect()
}

/// Whether no upstream of its service is preferred to it.
pub(super) fn is_first_choice(topology: &Topology, id: UpstreamId) -> bool {
    let choice = |upstream: UpstreamId| topology.upstream(upstream).preference;
    let others = &topology.pool(topology.upstream(id).pool).upstreams;
    !others.iter().any(|other| choice(*other) < choice(id))
}

/// Of routes with `prefer-eu`: whether what serves is outside the EU and not the first choice of those that
/// may carry them.
pub(super) fn is_fallback_outside_eu(board: &BoardView, id: PoolId) -> bool {
    let topology = &board.view.routing.topology;
    let pool = topology.pool(id);
    let choice = |upstream: UpstreamId| topology.upstream(upstream).preference;
    let goes_past = |plan: &PoolPlan, realm: &Realm| {
        let permitted = pool.upstreams.iter().filter(|upstream| realm.admits(**upstream));
        let best = permitted.map(|upstream| choice(*upstream)).min();
        plan.first().is_some_and(|first| {
            topology.provider_of(first).jurisdiction == Jurisdiction::NonEu
                && Some(choice(first)) != best
        })
    };
    let in_force = |plan: &PoolPlan| {
        let realms = pool.realms.in_use().iter().zip(plan.of_realms());
        let wants = |realm: &Realm| realm.charter().residency == Residency::PreferEu;
        realms.into_iter().any(|(realm, plan)| wants(realm) && goes_past(plan, realm))
    };
    board.view.routing.plan(id).all().any(in_force)
}

/// The open incident, if any.
pub(super) fn incident_view(standing: &PoolStanding, now: Instant) -> Option<IncidentView> {
    let attribution = standing.attribution;
    standing.incident.map(|since| IncidentView {
        seconds: now.saturating_duration_since(since).as_secs_f64(),
        blame: attribution.map(|attribution| attribution.blame.as_str().to_owned()),
        log_odds: attribution.map(|attribution| attribution.log_odds),
        origin: standing.origin_incident,
    })
}

impl BarredView {
    /// One that no route of its service may use.
    pub(super) fn listed(barred: &Barred) -> Self {
        Self {
            provider: barred.provider.to_string(),
            jurisdiction: barred.jurisdiction.as_str().to_owned(),
            because: barred.because.to_string(),
        }
    }

    /// One that other routes may use.
    pub(super) fn of(provider: &Provider, bar: &Bar) -> Self {
        Self {
            provider: provider.name.to_string(),
            jurisdiction: provider.jurisdiction.as_str().to_owned(),
            because: bar.words(provider),
        }
    }
}

impl OrderView {
    fn of(standing: &StandingOrder) -> Self {
        Self {
            target: standing.word.target.to_string(),
            order: standing.word.order.as_str().to_owned(),
            since: rfc3339(standing.since),
            until: standing.lapses.map(rfc3339),
            reason: standing.reason.to_string(),
        }
    }
}

fn upstream_view(board: &BoardView, id: UpstreamId, now: Instant) -> UpstreamView {
    let routing = &board.view.routing;
    let upstream = routing.topology.upstream(id);
    let provider = routing.topology.provider(upstream.provider);
    let standing = &board.upstreams[id.index()];
    let plan = routing.plan(upstream.pool);
    let candidate = plan.candidate(id);
    let answer = board.view.states.upstream(id).addresses.current();
    let ago = |at: Instant| now.saturating_duration_since(at).as_secs_f64();
    UpstreamView {
        provider: provider.name.to_string(),
        endpoint: upstream.key.endpoint.to_string(),
        jurisdiction: provider.jurisdiction.as_str().to_owned(),
        preference: upstream.preference,
        weight: upstream.weight,
        health: standing.health.tag().as_str().to_owned(),
        hold_seconds: hold_left(standing.health, now).map(|left| left.as_secs_f64()),
        stays_until: stays_until(standing, board, now),
        admin: standing.admin.as_str().to_owned(),
        verdict: verdict_word(standing.verdict).to_owned(),
        share: candidate.map_or(0.0, |candidate| candidate.safe.fraction()),
        unsafe_share: candidate.map_or(0.0, |candidate| candidate.unsafe_.fraction()),
        place: candidate.map(|candidate| candidate.place.as_str().to_owned()),
        scores: scores_view(standing),
        rate: standing.rate,
        failing: standing.failing.fraction(),
        probe: standing.probe.map(|(at, passed)| ProbeView { passed, seconds_ago: ago(at) }),
        late_after_seconds: standing.late_after.as_secs_f64(),
        marker_armed: standing.marker_armed,
        gray_alert: standing.gray_alert,
        last: standing.last.map(|(at, reason)| ChangeView {
            reason: reason.as_str().to_owned(),
            detail: detail(reason),
            seconds_ago: ago(at),
        }),
        addresses: answer.addresses.iter().map(ToString::to_string).collect(),
        admits: standing.admits.fraction(),
    }
}

fn scores_view(standing: &UpstreamStanding) -> ScoresView {
    let level = |tier: Tier| {
        let place = Tier::ALL.iter().position(|other| *other == tier).unwrap_or(0);
        standing.levels[place].fraction()
    };
    ScoresView {
        cascade: level(Tier::Cascade),
        brownout: level(Tier::Brownout),
        gray: level(Tier::Gray),
    }
}

pub(super) fn hold_left(health: Health, now: Instant) -> Option<Duration> {
    match health {
        Health::Ejected { until, .. } => Some(until.saturating_duration_since(now)),
        Health::Healthy | Health::Suspect | Health::HalfOpen { .. } | Health::Ramping { .. } => {
            None
        }
    }
}

/// To the second: the board is up to a tenth of one old.
pub(super) fn stays_until(
    standing: &UpstreamStanding,
    board: &BoardView,
    now: Instant,
) -> Option<String> {
    let left = standing.stays_until?.saturating_duration_since(now);
    let since = board.at.checked_add(left)?.duration_since(UNIX_EPOCH).ok()?;
    let rounded = since.saturating_add(Duration::from_millis(500)).as_secs();
    Some(rfc3339(UNIX_EPOCH.checked_add(Duration::from_secs(rounded))?))
}

const fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Serve => "serve",
        Verdict::Share(_) => "share",
        Verdict::Trickle(_) => "trickle",
        Verdict::Avoid => "avoid",
    }
}

/// In words and figures, where there is more to say than the reason.
pub(super) fn detail(reason: Reason) -> Option<String> {
    match reason {
        Reason::Trip(_, evidence) => {
            let Evidence { failures, attempts, commonest, witnesses, attribution, .. } = evidence;
            let (kind, blame) = (commonest.as_str(), attribution.blame.as_str());
            Some(match evidence.rule {
                TripRule::Score => format!(
                    "{failures} of {attempts} attempts failed, mostly {kind}, {witnesses} \
                     witnesses, blame {blame}"
                ),
                TripRule::UnbrokenRun => format!(
                    "{failures} attempts failed and none succeeded, mostly {kind}, blame {blame}"
                ),
            })
        }
        Reason::Probes { failed, kind } => {
            Some(format!("{failed} probes failed: {}", kind.as_str()))
        }
        Reason::Doubt { tier, level } => Some(format!("{} score at {level}", tier.as_str())),
        Reason::Relapse(kind) | Reason::ProbeVeto(kind) => Some(kind.as_str().to_owned()),
        Reason::Settled
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

fn transition_view(entry: &Entry) -> TransitionView {
    TransitionView {
        at: rfc3339(entry.at),
        service: entry.service.clone(),
        text: entry.text.clone(),
        generation: entry.generation.get(),
    }
}
