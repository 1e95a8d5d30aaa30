//! Hosts and who may carry what they have: at which one each upstream is probed, and how prefixes are spelt
//! where the path decides it.

use std::collections::HashMap;

use super::ServicePlaces;
use super::context::Context;
use crate::config::complaint::Place;
use crate::model::id::UpstreamId;
use crate::model::topology::{HostPattern, Pool, Topology};
use crate::model::ways::Ways;

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
    let ways = Ways::of(topology);
    let mut hosts: Vec<Vec<&str>> = vec![Vec::new(); topology.pools.len()];
    for route in &topology.routes {
        if let (Some(hosts), HostPattern::Exact(host)) =
            (hosts.get_mut(route.pool.index()), &route.host)
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
        let may = |host: &str, upstream: UpstreamId| may_ask(topology, &ways, (host, upstream));
        let all_may = |host: &&&str| pool.upstreams.iter().all(|upstream| may(host, *upstream));
        if let Some(host) = hosts.iter().find(all_may) {
            chosen.push((id, None, Box::from(*host)));
            continue;
        }
        for (upstream, place) in pool.upstreams.iter().zip(&at.upstreams) {
            match hosts.iter().find(|host| may(host, *upstream)) {
                Some(host) => chosen.push((id, Some(*upstream), Box::from(*host))),
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

/// Whether an upstream may carry the page of its probes at a whole host.
fn may_ask(topology: &Topology, ways: &Ways<'_>, (host, upstream): (&str, UpstreamId)) -> bool {
    let pool = topology.pool(topology.upstream(upstream).pool);
    match ways.lead(&HostPattern::Exact(host.into()), page_of(pool)) {
        Some(route) => topology
            .charter_of(route)
            .is_some_and(|charter| charter.bar(topology.provider_of(upstream)).is_none()),
        // Nobody's, which says nothing where routes differ.
        None => pool.realms.narrower().is_empty(),
    }
}

fn page_of(pool: &Pool) -> &str {
    pool.rules.probe.path.split('?').next().unwrap_or("/")
}

fn complain(context: &Context<'_>, pool: &Pool, place: Place) {
    let what = format!(
        "probes of service `{}` ask for `{}`, and no route lets this upstream carry that at a whole host",
        pool.service,
        page_of(pool)
    );
    let mend = "not even a probe may go where its content may not; choose another `probe.path`, or add a route with \
                an exact host";
    context.complaints.error(place, what, mend);
}
