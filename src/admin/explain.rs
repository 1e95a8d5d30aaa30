//! `/v1/explain`: which service a URL leads to, who would be asked in which order, and why each
//! stands where it does.

use std::time::{Duration, Instant};

use http::{Method, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inspect::{detail, hold_left, incident_view, stays_until};
use super::view::{BarredView, IncidentView};
use crate::exchange::board::BoardView;
use crate::model::cell::Cell;
use crate::model::health::{Health, UpstreamStanding};
use crate::model::id::{PoolId, UpstreamId};
use crate::model::operator::{AdminState, StandingOrder};
use crate::model::outcome::MethodClass;
use crate::model::plan::{Candidate, Place, Rescue};
use crate::model::topology::{HostPattern, Route, covers};
use crate::routing::matcher::Found;
use crate::telemetry::journal::rfc3339;

/// Everything about one URL.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct Explanation {
    /// As of when, RFC 3339.
    pub at: String,
    /// Number of the routing snapshot in force.
    pub generation: u64,
    /// As it was asked for.
    pub url: String,
    /// As it was asked for.
    pub method: String,
    /// Whether that is a `safe` or an `unsafe` method: they can have different shares.
    pub method_class: String,
    /// The route that takes it.
    pub route: RouteView,
    /// Where that leads.
    pub service: String,
    /// `any`, `prefer-eu` or `eu-only`.
    pub residency: String,
    /// `enforce` or `observe`.
    pub failover: String,
    /// The part of the service's requests that it belongs to, where that is served by others than the
    /// rest.
    pub slice: Option<String>,
    /// `normal`, `fail_open` or `fail_closed`.
    pub mode: String,
    /// Who would be first if decisions moved traffic; only in observe mode, and only if different.
    pub would_be_first: Option<String>,
    /// The open incident, if any.
    pub incident: Option<IncidentView>,
    /// In the order in which a request tries them.
    pub candidates: Vec<CandidateView>,
    /// Those that take nothing now.
    pub left_out: Vec<LeftOutView>,
    /// What the file lists and this route may not use.
    pub barred: Vec<BarredView>,
}

/// A route.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct RouteView {
    /// As it is typed in the file.
    pub host: String,
    /// Of the path.
    pub prefix: String,
}

/// A candidate of the plan.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct CandidateView {
    /// Through whom.
    pub provider: String,
    /// Scheme, host and port.
    pub endpoint: String,
    /// `eu` or `non_eu`.
    pub jurisdiction: String,
    /// Of requests with a method of this class, as a fraction of one.
    pub share: f64,
    /// Whether a request that failed elsewhere may be tried here.
    pub takes_retries: bool,
    /// Why it stands here, in one word.
    pub place: String,
    /// Why, in words.
    pub because: Vec<String>,
}

/// An upstream that takes nothing now.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct LeftOutView {
    /// Through whom it would go.
    pub provider: String,
    /// `eu` or `non_eu`.
    pub jurisdiction: String,
    /// Why not.
    pub because: Vec<String>,
}

/// Why nothing can be explained.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unexplained {
    /// Not absolute.
    #[error("`url` has to be a whole URL, as https://www.portal.example/page.")]
    NoUrl,
    /// No method.
    #[error("`method` is none.")]
    NoMethod,
    /// Nothing serves it: the client gets 404.
    #[error("No route takes host {host} and path {url_path}: the client gets 404.")]
    NoRoute {
        /// Of the URL.
        host: String,
        /// Of the URL.
        url_path: String,
    },
    /// Another reading of it could belong to another route: the client gets 400.
    #[error(
        "The path {url_path} can be read in several ways, and the routes of its host differ in who may carry \
         what: the client gets 400."
    )]
    Ambiguous {
        /// Of the URL.
        url_path: String,
    },
}

impl Explanation {
    /// Of one look at the board.
    ///
    /// # Errors
    /// When the question makes no sense, or when no service takes the URL.
    pub fn of(
        board: &BoardView,
        url: &str,
        method: &str,
        now: Instant,
    ) -> Result<Self, Unexplained> {
        let uri: Uri = url.parse().map_err(|_| Unexplained::NoUrl)?;
        let host = uri.host().ok_or(Unexplained::NoUrl)?.to_ascii_lowercase();
        let method: Method = method.parse().map_err(|_| Unexplained::NoMethod)?;
        let class = MethodClass::of(&method);
        let routing = &board.view.routing;
        let found = routing.matcher.find(&host, uri.path());
        let no_route = || {
            let url_path = uri.path().to_owned();
            Unexplained::NoRoute { host: host.clone(), url_path }
        };
        let found = found.ok_or_else(no_route)?;
        if found.is_ambiguous {
            return Err(Unexplained::Ambiguous { url_path: uri.path().to_owned() });
        }
        let Found { pool: id, host: host_id, realm, .. } = found;
        let cell = Cell { class, host: host_id };
        let (topology, plan) = (&routing.topology, routing.plan(id).of_cell(cell).of_realm(realm));
        let slice = routing.plan(id).slice_of(cell).map(|slice| slice.words(topology, id));
        let pool = topology.pool(id);
        let realm = pool.realms.find(realm).unwrap_or(pool.realms.whole());
        let name = |upstream: UpstreamId| topology.provider_of(upstream).name.to_string();
        let intended = board.pools[id.index()].intended;
        let (mine, kept_out): (Vec<UpstreamId>, Vec<UpstreamId>) =
            pool.upstreams.iter().partition(|upstream| realm.admits(**upstream));
        let out = mine.into_iter().filter(|upstream| plan.candidate(*upstream).is_none());
        let kept_out = kept_out.into_iter().filter_map(|upstream| {
            let provider = topology.provider_of(upstream);
            Some(BarredView::of(provider, &realm.charter().bar(provider)?))
        });
        Ok(Self {
            at: rfc3339(board.at),
            generation: routing.generation.get(),
            url: url.to_owned(),
            method: method.to_string(),
            method_class: match class {
                MethodClass::Safe => "safe",
                MethodClass::Unsafe => "unsafe",
            }
            .to_owned(),
            route: route_view(&topology.routes, id, (&host, uri.path())),
            service: pool.service.to_string(),
            residency: realm.charter().residency.as_str().to_owned(),
            failover: pool.rules.failover.mode.as_str().to_owned(),
            slice: slice.clone(),
            mode: plan.mode.as_str().to_owned(),
            would_be_first: intended.filter(|to| Some(*to) != plan.first()).map(name),
            incident: incident_view(&board.pools[id.index()], now),
            candidates: plan
                .candidates()
                .iter()
                .map(|candidate| candidate_view(board, candidate, class, now))
                .collect(),
            left_out: out
                .map(|upstream| left_out_view(board, upstream, slice.as_deref(), now))
                .collect(),
            barred: pool.barred.iter().map(BarredView::listed).chain(kept_out).collect(),
        })
    }
}

/// The route that the matcher went by: the most specific one of this pool that fits.
fn route_view(routes: &[Route], pool: PoolId, (host, url_path): (&str, &str)) -> RouteView {
    let fits = |route: &&Route| {
        route.pool == pool && route.host.covers(host) && covers(&route.prefix, url_path)
    };
    let rank = |route: &&Route| {
        let exactness = match route.host {
            HostPattern::Exact(_) => 2,
            HostPattern::Wildcard(_) => 1,
            HostPattern::Any => 0,
        };
        (exactness, route.prefix.len())
    };
    let route = routes.iter().filter(fits).max_by_key(rank);
    let host = match route.map(|route| &route.host) {
        Some(HostPattern::Exact(host)) => host.to_string(),
        Some(HostPattern::Wildcard(suffix)) => format!("*{suffix}"),
        Some(HostPattern::Any) | None => "*".to_owned(),
    };
    RouteView { host, prefix: route.map_or("/", |route| &*route.prefix).to_owned() }
}

fn candidate_view(
    board: &BoardView,
    candidate: &Candidate,
    class: MethodClass,
    now: Instant,
) -> CandidateView {
    let topology = &board.view.routing.topology;
    let upstream = topology.upstream(candidate.upstream());
    let provider = topology.provider(upstream.provider);
    let standing = &board.upstreams[candidate.upstream().index()];
    let share = match class {
        MethodClass::Safe => candidate.safe,
        MethodClass::Unsafe => candidate.unsafe_,
    };
    let mut because = vec![place_words(candidate.place, upstream.preference)];
    because.extend(health_words(board, standing, now));
    because.extend(order_words(board, candidate.upstream()));
    CandidateView {
        provider: provider.name.to_string(),
        endpoint: upstream.key.endpoint.to_string(),
        jurisdiction: provider.jurisdiction.as_str().to_owned(),
        share: share.fraction(),
        takes_retries: candidate.rescue == Rescue::Takes,
        place: candidate.place.as_str().to_owned(),
        because,
    }
}

fn left_out_view(
    board: &BoardView,
    id: UpstreamId,
    slice: Option<&str>,
    now: Instant,
) -> LeftOutView {
    let provider = board.view.routing.topology.provider_of(id);
    let standing = &board.upstreams[id.index()];
    let mut because: Vec<String> = order_words(board, id).into_iter().collect();
    because.extend(health_words(board, standing, now));
    if let (true, Some(slice)) = (because.is_empty(), slice) {
        because.push(format!("{slice} fail there, the rest does not"));
    }
    LeftOutView {
        provider: provider.name.to_string(),
        jurisdiction: provider.jurisdiction.as_str().to_owned(),
        because,
    }
}

fn place_words(place: Place, preference: u16) -> String {
    match place {
        Place::Preferred => "the first choice of the file, and able".to_owned(),
        Place::Standby => format!("stands by with preference {preference}"),
        Place::Fallback => "serves because those before it cannot".to_owned(),
        Place::EuFirst => "in the EU, which goes first once the first choice is left".to_owned(),
        Place::SharedFate => {
            "behind others because it shares something with one that failed".into()
        }
        Place::Drill => "takes a share of the first choice's in a drill".to_owned(),
        Place::HalfOpen => "on trial with a trickle of safe requests".to_owned(),
        Place::Ramping => "on its way back, step by step".to_owned(),
        Place::LeastBad => "every upstream is bad; this is its place among them".to_owned(),
    }
}

/// What was observed, where it is more than that nothing is wrong.
fn health_words(board: &BoardView, standing: &UpstreamStanding, now: Instant) -> Option<String> {
    let ago = |at: Instant| now.saturating_duration_since(at).as_secs();
    let why = || {
        let (_, reason) = standing.last?;
        let detail = detail(reason).map(|detail| format!(" ({detail})")).unwrap_or_default();
        Some(format!(": {}{detail}", reason.as_str().replace('_', " ")))
    };
    let why = || why().unwrap_or_default();
    let next = |what: &str| {
        let at = stays_until(standing, board, now);
        at.map(|at| format!("; may {what} from {at} (`min_stay`)")).unwrap_or_default()
    };
    match standing.health {
        Health::Healthy => None,
        Health::Suspect => Some(format!("suspect, and nothing moves yet{}", why())),
        Health::Ejected { since, .. } => {
            let left = hold_left(standing.health, now).unwrap_or(Duration::ZERO).as_secs();
            let ago = ago(since);
            let next = if left > 0 {
                format!("; its hold lasts {left} s more")
            } else {
                "; its hold is over, and it has to be good for a while first".to_owned()
            };
            Some(format!("ejected {ago} s ago{}{next}", why()))
        }
        Health::HalfOpen { since, passes, .. } => {
            let (ago, next) = (ago(since), next("ramp"));
            Some(format!("half-open for {ago} s, {passes} clean answers in a row{next}"))
        }
        Health::Ramping { since, step, passes, .. } => {
            let (step, ago, next) = (step + 1, ago(since), next("take more"));
            Some(format!("step {step} of its ramp for {ago} s, {passes} clean answers{next}"))
        }
    }
}

/// The order in force for it: the narrower one where there are two.
fn order_words(board: &BoardView, id: UpstreamId) -> Option<String> {
    let words = match board.upstreams[id.index()].admin {
        AdminState::Auto => return None,
        AdminState::Draining => "draining by order",
        AdminState::ForcedOut => "forced out by order",
        AdminState::ForcedIn => "forced in by order, whatever is observed",
    };
    let key = &board.view.routing.topology.upstream(id).key;
    let covering = board.orders.iter().filter(|standing| standing.word.target.covers(key));
    let order = covering.max_by_key(|standing| standing.word.target.service().is_some());
    Some(format!("{words}{}", order.map(order_facts).unwrap_or_default()))
}

fn order_facts(standing: &StandingOrder) -> String {
    let since = rfc3339(standing.since);
    let until = standing.lapses.map(|at| format!(" until {}", rfc3339(at))).unwrap_or_default();
    let reason = &standing.reason;
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!(" for {} since {since}{until}{reason}", standing.word.target)
}
