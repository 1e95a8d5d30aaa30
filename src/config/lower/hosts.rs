//! Hosts and who may carry what they have: at which one each upstream is probed, and how prefixes are spelt
//! where the path decides it.

use std::collections::{HashMap, HashSet};

use super::ServicePlaces;
use super::context::Context;
use crate::config::complaint::Place;
use crate::model::id::UpstreamId;
use crate::model::reading;
use crate::model::topology::{Asks, HostPattern, Pool, Route, Topology};
use crate::model::ways::{Divided, Ways};

/// Routes by host and prefix: the service as it is named, and where it stands.
pub(super) type Taken = HashMap<(HostPattern, Box<str>), (Box<str>, Place)>;

/// Requests for another reading of a path are refused there, and a prefix with anything that can be written
/// in two ways would leave one of them open, or be one that nobody can ask for.
pub(super) fn refuse_unclear_prefixes(context: &Context<'_>, topology: &Topology, taken: &Taken) {
    let ways = Ways::of(topology);
    let divided = ways.divided();
    let is_clear = |it: &char| it.is_ascii_alphanumeric() || "-._~/".contains(*it);
    for route in &topology.routes {
        let Some(character) = route.prefix.chars().find(|it| !is_clear(it)) else { continue };
        let place = taken.get(&(route.host.clone(), route.prefix.clone()));
        if let (Some((_, place)), false) = (place, divided.beside(route).is_empty()) {
            let what = format!(
                "the prefix `{}` can be spelt in other ways (`{character}`), and its host `{}` has routes that \
                 differ in who may carry them",
                route.prefix, route.host
            );
            let mend = "another spelling would lead to another route; keep to letters, digits and `-._~`, or give it a \
                        host of its own";
            context.complaints.error(*place, what, mend);
        }
    }
}

/// A probe asks for content too: each upstream is asked for a host at which the path of the probe is something
/// that it may carry, whichever service publishes it there. One host for all where there is one, since answers are
/// compared.
pub(super) fn of_probes(context: &Context<'_>, topology: &mut Topology, places: &[ServicePlaces]) {
    let book = Book::of(topology);
    let mut hosts: Vec<Vec<&str>> = vec![Vec::new(); topology.pools.len()];
    let mut known = HashSet::new();
    for route in &topology.routes {
        if let (Some(hosts), HostPattern::Exact(host)) =
            (hosts.get_mut(route.pool.index()), &route.host)
            && known.insert((route.pool, host))
        {
            hosts.push(host);
        }
    }
    let mut chosen = Vec::new();
    for (((id, pool), hosts), at) in topology.pools().zip(&hosts).zip(places) {
        // Without a whole host each is asked for its own.
        if hosts.is_empty() && pool.realms.narrower().is_empty() {
            continue;
        }
        // Looked up when it is needed: nearly always the first one will do.
        let mut pages = hosts.iter().map(|host| (*host, book.page_at(pool, host)));
        let all_may = |(_, page): &(&str, Page<'_>)| {
            pool.upstreams.iter().all(|upstream| book.may_ask(*page, pool, *upstream))
        };
        if let Some((host, _)) = pages.find(all_may) {
            chosen.push((id, None, Box::from(host)));
            continue;
        }
        let found: Vec<_> = hosts.iter().map(|host| (*host, book.page_at(pool, host))).collect();
        for (upstream, place) in pool.upstreams.iter().zip(&at.upstreams) {
            match found.iter().find(|(_, page)| book.may_ask(*page, pool, *upstream)) {
                Some((host, _)) => chosen.push((id, Some(*upstream), Box::from(*host))),
                None => complain(context, pool, *place),
            }
        }
    }
    for (id, upstream, host) in chosen {
        let probe = &mut topology.pools[id.index()].rules.probe;
        match upstream {
            None => probe.host = Some(host),
            Some(upstream) => probe.hosts.push((upstream, host)),
        }
    }
}

/// Whose a page is.
#[derive(Clone, Copy)]
enum Page<'a> {
    /// This route's.
    Of(&'a Route),
    /// No route takes it.
    Nobodys,
    /// Its path can be read in another way, which another route may take.
    Unclear,
}

/// Who may carry what.
struct Book<'a> {
    topology: &'a Topology,
    ways: Ways<'a>,
    divided: Divided<'a>,
}

impl<'a> Book<'a> {
    fn of(topology: &'a Topology) -> Self {
        let ways = Ways::of(topology);
        let divided = ways.divided();
        Self { topology, ways, divided }
    }

    /// What probes of a pool ask for at a whole host.
    fn page_at(&self, pool: &Pool, host: &str) -> Page<'a> {
        let (host, page) = (HostPattern::Exact(host.into()), pool.rules.probe.page());
        match self.ways.lead(&host, page) {
            _ if self.divided.has(&host) && !reading::is_plain(page) => Page::Unclear,
            Some(route) => Page::Of(route),
            None => Page::Nobodys,
        }
    }

    /// Whether an upstream may carry it.
    fn may_ask(&self, page: Page<'_>, pool: &Pool, upstream: UpstreamId) -> bool {
        let provider = self.topology.provider_of(upstream);
        match page {
            Page::Of(route) => {
                let charter = self.topology.charter_of(route);
                charter.is_some_and(|charter| charter.bar(provider).is_none())
            }
            // It says nothing where routes differ.
            Page::Nobodys => pool.realms.narrower().is_empty(),
            Page::Unclear => false,
        }
    }
}

fn complain(context: &Context<'_>, pool: &Pool, place: Place) {
    let what = format!(
        "probes of service `{}` ask for `{}`, and no route lets this upstream carry that at a whole host",
        pool.service,
        pool.rules.probe.page()
    );
    let mend = match &pool.rules.probe.asks {
        Asks::Page => {
            "not even a probe may go where its content may not; choose another `probe.path`, or add a route with an \
             exact host"
        }
        Asks::GrpcHealth(_) => {
            "not even a probe may go where its content may not; add a route of this service with the prefix \
             `/grpc.health.v1.Health/`, or with an exact host of its own"
        }
    };
    context.complaints.error(place, what, mend);
}
