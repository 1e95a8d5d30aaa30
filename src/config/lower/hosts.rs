//! Hosts and who may carry what they have: at which one each upstream is probed, and how prefixes are spelt
//! where the path decides it.

use std::collections::HashMap;

use super::context::Context;
use crate::config::complaint::Place;
use crate::model::topology::{HostPattern, Pool, Route, Topology, covers};
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

/// A probe asks for content too: where routes differ, each upstream is asked for a host at which
/// the path of the probe is something that it may carry.
pub(super) fn of_probes(
    context: &Context<'_>,
    pool: &mut Pool,
    routes: &[Route],
    places: &[Place],
) {
    if pool.realms.narrower().is_empty() {
        return;
    }
    let path_only = pool.rules.probe.path.split('?').next().unwrap_or("/").to_owned();
    for (upstream, place) in pool.upstreams.iter().zip(places) {
        // The path's own route at a host is the one with the longest prefix.
        let own = |route: &&Route| {
            let takes = |it: &&Route| it.host == route.host && covers(&it.prefix, &path_only);
            routes.iter().filter(takes).max_by_key(|it| it.prefix.len())
        };
        let may = |route: &&Route| {
            let realm = own(route).and_then(|own| pool.realms.find(own.realm));
            matches!(route.host, HostPattern::Exact(_))
                && realm.is_some_and(|realm| realm.admits(*upstream))
        };
        match routes.iter().find(may).map(|route| &route.host) {
            Some(HostPattern::Exact(host)) => {
                pool.rules.probe.hosts.push((*upstream, host.clone()));
            }
            Some(HostPattern::Wildcard(_) | HostPattern::Any) | None => {
                let what = format!(
                    "probes of service `{}` ask for `{path_only}`, and no route lets this upstream carry that \
                     at a whole host",
                    pool.service
                );
                let mend = "not even a probe may go where its content may not; choose another `probe.path`, or \
                            add a route with an exact host";
                context.complaints.error(*place, what, mend);
            }
        }
    }
}
