//! `/v1/status`: everything for people, as structs of its own, so that what the planes share can
//! change without breaking anyone's script. Shares are fractions of one, times are seconds.

use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::exchange::board::{BoardView, Entry};
use crate::model::health::{Health, Reason, Tier, UpstreamStanding, Verdict};
use crate::model::id::{PoolId, ProviderId, UpstreamId};
use crate::model::topology::{Pool, Provider, ProviderKind};

/// Everything, as of one moment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    /// Of bascule.
    pub version: String,
    /// RFC 3339.
    pub at: String,
    /// Number of the routing snapshot in force.
    pub generation: u64,
    /// In the order of the file.
    pub providers: Vec<ProviderView>,
    /// In the order of the file.
    pub services: Vec<ServiceView>,
    /// The latest transitions, newest first.
    pub recent: Vec<TransitionView>,
}

/// One provider.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ProviderView {
    /// Key in the file.
    pub name: String,
    /// Country of the legal entity.
    pub seat: String,
    /// `eu` or `non_eu`.
    pub jurisdiction: String,
    /// `edge` or `origin`.
    pub kind: String,
    /// What it shares with others.
    pub substrates: Vec<String>,
    /// Services that can go through it.
    pub services: Vec<String>,
    /// Services that would now: those whose first candidate it is.
    pub first_for: Vec<String>,
}

/// One service.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ServiceView {
    /// Key in the file.
    pub name: String,
    /// `any`, `prefer-eu` or `eu-only`.
    pub residency: String,
    /// `normal`, `fail_open` or `fail_closed`.
    pub mode: String,
    /// Provider of the first candidate; none when fail-closed.
    pub first: Option<String>,
    /// The open incident, if any.
    pub incident: Option<IncidentView>,
    /// By preference.
    pub upstreams: Vec<UpstreamView>,
    /// What the file lists and policy forbids.
    pub barred: Vec<BarredView>,
}

/// An open incident.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct IncidentView {
    /// How long it has lasted.
    pub seconds: f64,
    /// `unknown`, `provider` or `origin`, once there is evidence.
    pub blame: Option<String>,
    /// Positive speaks against the provider.
    pub log_odds: Option<f64>,
    /// Whether the origin itself is at fault.
    pub origin: bool,
}

/// One upstream.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct UpstreamView {
    /// Through whom.
    pub provider: String,
    /// Scheme, host and port.
    pub endpoint: String,
    /// `eu` or `non_eu`.
    pub jurisdiction: String,
    /// Lower goes first.
    pub preference: u16,
    /// Relative to others of the same preference.
    pub weight: u16,
    /// `healthy`, `suspect`, `ejected`, `half_open` or `ramping`.
    pub health: String,
    /// Until it may be tried again, while ejected.
    pub hold_seconds: Option<f64>,
    /// `serve`, `share`, `trickle` or `avoid`.
    pub verdict: String,
    /// Of the safe requests.
    pub share: f64,
    /// Of all other requests.
    pub unsafe_share: f64,
    /// Why it stands where it does in the plan; none: it is not in it.
    pub place: Option<String>,
    /// Each tier's score over its threshold; 1 is a trip.
    pub scores: ScoresView,
    /// Attempts a second, mean of the last 10 s.
    pub rate: f64,
    /// Failing share of the last 10 s.
    pub failing: f64,
    /// The last probe.
    pub probe: Option<ProbeView>,
    /// From when a head counts as late.
    pub late_after_seconds: f64,
    /// Whether the absence of its origin marker means something.
    pub marker_armed: bool,
    /// Whether a gray alert stands.
    pub gray_alert: bool,
    /// The last change of health.
    pub last: Option<ChangeView>,
    /// Where it is dialled.
    pub addresses: Vec<String>,
}

/// Scores over thresholds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct ScoresView {
    /// Nearly everything fails.
    pub cascade: f64,
    /// A fifth fails.
    pub brownout: f64,
    /// A few per cent fail.
    pub gray: f64,
}

/// One probe.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct ProbeView {
    /// Whether it passed.
    pub passed: bool,
    /// How long ago it was.
    pub seconds_ago: f64,
}

/// One change of health.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ChangeView {
    /// Why.
    pub reason: String,
    /// In words and figures, where there is more to say.
    pub detail: Option<String>,
    /// How long ago it was.
    pub seconds_ago: f64,
}

/// An upstream that policy forbids.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BarredView {
    /// Through whom it would have gone.
    pub provider: String,
    /// Why not.
    pub jurisdiction: String,
}

/// One transition.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TransitionView {
    /// RFC 3339.
    pub at: String,
    /// Whose.
    pub service: String,
    /// As the log says it.
    pub text: String,
    /// The snapshot in force after it.
    pub generation: u64,
}

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
            recent: board.recent.iter().rev().map(transition_view).collect(),
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
        }
        .to_owned(),
        substrates: provider.substrates.iter().map(ToString::to_string).collect(),
        services: names(&|_, pool| pool.upstreams.iter().any(|upstream| is_through(*upstream))),
        first_for: names(&|pool_id, _| routing.plan(pool_id).first().is_some_and(is_through)),
    }
}

fn service_view(board: &BoardView, id: PoolId, pool: &Pool, now: Instant) -> ServiceView {
    let routing = &board.view.routing;
    let plan = routing.plan(id);
    let standing = &board.pools[id.index()];
    let seconds = |since: Instant| now.saturating_duration_since(since).as_secs_f64();
    let attribution = standing.attribution;
    ServiceView {
        name: pool.service.to_string(),
        residency: pool.residency.as_str().to_owned(),
        mode: plan.mode.as_str().to_owned(),
        first: plan.first().map(|first| routing.topology.provider_of(first).name.to_string()),
        incident: standing.incident.map(|since| IncidentView {
            seconds: seconds(since),
            blame: attribution.map(|attribution| attribution.blame.as_str().to_owned()),
            log_odds: attribution.map(|attribution| attribution.log_odds),
            origin: standing.origin_incident,
        }),
        upstreams: pool.upstreams.iter().map(|up| upstream_view(board, *up, now)).collect(),
        barred: pool
            .barred
            .iter()
            .map(|barred| BarredView {
                provider: barred.provider.to_string(),
                jurisdiction: barred.jurisdiction.as_str().to_owned(),
            })
            .collect(),
    }
}

fn upstream_view(board: &BoardView, id: UpstreamId, now: Instant) -> UpstreamView {
    let routing = &board.view.routing;
    let upstream = routing.topology.upstream(id);
    let provider = routing.topology.provider(upstream.provider);
    let standing = &board.upstreams[id.index()];
    let plan = routing.plan(upstream.pool);
    let candidate = plan.candidates.iter().find(|candidate| candidate.upstream == id);
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

fn hold_left(health: Health, now: Instant) -> Option<Duration> {
    match health {
        Health::Ejected { until, .. } => Some(until.saturating_duration_since(now)),
        Health::Healthy | Health::Suspect | Health::HalfOpen { .. } | Health::Ramping { .. } => {
            None
        }
    }
}

const fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Serve => "serve",
        Verdict::Share(_) => "share",
        Verdict::Trickle(_) => "trickle",
        Verdict::Avoid => "avoid",
    }
}

fn detail(reason: Reason) -> Option<String> {
    match reason {
        Reason::Trip(_, evidence) => {
            let blame = evidence.attribution.blame.as_str();
            Some(format!(
                "{} of {} attempts failed, mostly {}, {} witnesses, blame {blame}",
                evidence.failures,
                evidence.attempts,
                evidence.commonest.as_str(),
                evidence.witnesses
            ))
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
        | Reason::AllBad
        | Reason::Demoted => None,
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

/// To the millisecond; the beginning of 1970 for a clock that is beyond what can be written.
fn rfc3339(at: SystemTime) -> String {
    let stamp = jiff::Timestamp::try_from(at).unwrap_or_default();
    format!("{stamp:.3}")
}
