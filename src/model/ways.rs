//! Where the requests for one host can lead to, over all services, and where their path decides who may
//! carry them. Asked at load, never by a request.
//!
//! A host is *divided* when the routes that its paths lead to keep different providers out, and *guarded* when they let
//! different clients in. There a path that is spelt otherwise, and means the same to its origin, could leave the route
//! that binds it.

use std::collections::{HashMap, HashSet};

use super::reading;
use super::realm::{Charter, Realm};
use super::topology::{Access, HostPattern, Route, Topology, covers};

/// The routes of one topology, by host.
#[derive(Debug)]
pub struct Ways<'a>(HashMap<&'a HostPattern, Own<'a>>);

/// The routes of one host.
#[derive(Debug, Default)]
struct Own<'a> {
    /// The longest prefix first; among equals, as in the file.
    routes: Vec<&'a Route>,
    /// What they go by, each once.
    charters: Vec<&'a Charter>,
    /// Whom they let in, each once.
    accesses: Vec<&'a Access>,
}

impl Own<'_> {
    /// Whether it takes every path, so that no wider host is asked.
    fn is_whole(&self) -> bool {
        self.routes.last().is_some_and(|route| &*route.prefix == "/")
    }
}

impl<'a> Ways<'a> {
    /// Of a topology whose realms are settled.
    pub fn of(topology: &'a Topology) -> Self {
        let mut all: HashMap<&HostPattern, Own<'_>> = HashMap::new();
        for route in &topology.routes {
            let own = all.entry(&route.host).or_default();
            own.routes.push(route);
            let charter = topology.charter_of(route);
            own.charters.extend(charter.filter(|it| !own.charters.contains(it)));
            let access = topology.pools.get(route.pool.index()).map(|pool| &pool.rules.access);
            let is_new = |it: &&Access| !own.accesses.iter().any(|known| known.lets_in_as(it));
            let access = access.filter(is_new);
            own.accesses.extend(access);
        }
        for own in all.values_mut() {
            own.routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
        }
        Self(all)
    }

    /// The route that takes a path of a host that some route names.
    pub fn lead(&self, host: &HostPattern, url_path: &str) -> Option<&'a Route> {
        let all = self.asked(host).flat_map(|(_, own)| &own.routes);
        all.copied().find(|route| covers(&route.prefix, url_path))
    }

    /// The divided hosts, among those that some route names.
    pub fn divided(&self) -> Divided<'a> {
        let mut divided = Divided::default();
        for host in self.0.keys() {
            let mut charters: Vec<&Charter> = Vec::new();
            for charter in self.asked(host).flat_map(|(_, own)| &own.charters) {
                if !charters.iter().any(|known| known.keeps_out_as(charter)) {
                    charters.push(charter);
                }
            }
            if self.is_guarded(host) {
                divided.guarded.insert(host);
            }
            if charters.len() < 2 {
                continue;
            }
            divided.hosts.insert(host);
            for (asked, _) in self.asked(host) {
                let beside = divided.beside.entry(asked).or_default();
                for charter in &charters {
                    if !beside.contains(charter) {
                        beside.push(charter);
                    }
                }
            }
        }
        divided
    }

    /// Whether its paths decide who is let in, and none of its prefixes can be spelt otherwise: with such a one nobody
    /// could ask for what is below it.
    fn is_guarded(&self, host: &HostPattern) -> bool {
        let mut accesses = self.asked(host).flat_map(|(_, own)| &own.accesses);
        let first = accesses.next();
        let differ = accesses.any(|other| first.is_some_and(|first| !first.lets_in_as(other)));
        let mut routes = self.asked(host).flat_map(|(_, own)| &own.routes);
        differ && routes.all(|route| reading::is_plain(&route.prefix))
    }

    /// A host and the wider ones that get what its own routes do not take.
    fn asked(&self, host: &HostPattern) -> impl Iterator<Item = (&'a HostPattern, &Own<'a>)> {
        let wildcard = match host {
            HostPattern::Exact(name) => {
                name.find('.').map(|dot| HostPattern::Wildcard(name[dot..].into()))
            }
            HostPattern::Wildcard(_) | HostPattern::Any => None,
        };
        let any = (*host != HostPattern::Any).then_some(HostPattern::Any);
        let mut is_over = false;
        [Some(host.clone()), wildcard, any]
            .into_iter()
            .flatten()
            .filter_map(|pattern| self.0.get_key_value(&pattern))
            .map(|(pattern, own)| (*pattern, own))
            .take_while(move |(_, own)| !std::mem::replace(&mut is_over, own.is_whole()))
    }
}

/// Hosts whose paths decide who may carry a request, or who may send one.
#[derive(Debug, Default)]
pub struct Divided<'a> {
    hosts: HashSet<&'a HostPattern>,
    guarded: HashSet<&'a HostPattern>,
    /// By host of a route: what the routes go by that other paths lead to.
    beside: HashMap<&'a HostPattern, Vec<&'a Charter>>,
}

impl<'a> Divided<'a> {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Whether the paths of a host, as some route names it, decide who may carry a request.
    pub fn has(&self, host: &HostPattern) -> bool {
        self.hosts.contains(host)
    }

    /// Whether they decide that or who may send one: then a path has to be one that can be read in one way only.
    pub fn needs_plain_paths(&self, host: &HostPattern) -> bool {
        self.hosts.contains(host) || self.guarded.contains(host)
    }

    /// What else the paths of a divided host lead to that leads to this route too; empty elsewhere.
    pub fn beside(&self, route: &Route) -> &[&'a Charter] {
        self.beside.get(&route.host).map_or(&[], Vec::as_slice)
    }
}

impl Topology {
    /// What a route goes by.
    pub fn charter_of(&self, route: &Route) -> Option<&Charter> {
        let pool = self.pools.get(route.pool.index())?;
        pool.realms.find(route.realm).map(Realm::charter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::Networks;
    use crate::model::example::{self, Example};
    use crate::model::place::Residency;
    use crate::model::realm::{Charters, RealmId};

    /// Routes as `host prefix residency`, each of a service of its own.
    fn topology(routes: &[(&str, &str, Residency)]) -> Topology {
        let names: Vec<String> = (0..routes.len()).map(|number| format!("s{number}")).collect();
        let of = |service| Example { service, provider: "one", seat: "SI", host: "a", port: 1 };
        let examples: Vec<Example<'_>> = names.iter().map(|name| of(name.as_str())).collect();
        let mut topology = example::topology(&examples);
        for pool in std::mem::take(&mut topology.pools) {
            let (_, _, residency) = routes[topology.pools.len()];
            topology.pools.push(pool);
            topology.settle(&Charter::of(residency), &Charters::default());
        }
        for (route, (host, prefix, _)) in topology.routes.iter_mut().zip(routes) {
            route.host = match host.strip_prefix('*') {
                Some("") => HostPattern::Any,
                Some(suffix) => HostPattern::Wildcard(suffix.into()),
                None => HostPattern::Exact((*host).into()),
            };
            (route.prefix, route.realm) = ((*prefix).into(), RealmId::WHOLE);
        }
        topology
    }

    #[test]
    fn a_host_is_guarded_when_its_paths_let_different_clients_in() {
        const HOST: &str = "www.portal.example";
        let closed = Access {
            deny: Networks::new(["0.0.0.0/0".parse().expect("a network")]),
            ..Access::default()
        };
        for (shows, prefix, access, guarded) in [
            ("one is closed", "/admin/", closed.clone(), true),
            ("both are open", "/admin/", Access::default(), false),
            ("nobody could ask below such a prefix", "/%61dmin/", closed, false),
        ] {
            let routes = [(HOST, "/", Residency::Any), (HOST, prefix, Residency::Any)];
            let mut topology = topology(&routes);
            topology.pools[1].rules.access = access;
            let ways = Ways::of(&topology);
            let host = HostPattern::Exact(HOST.into());
            assert_eq!(ways.divided().needs_plain_paths(&host), guarded, "{shows}");
            assert!(!ways.divided().has(&host), "{shows}: anybody may carry both");
        }
    }

    #[test]
    fn a_host_is_divided_when_its_paths_lead_to_who_keeps_others_out() {
        use Residency::{Any, EuOnly, PreferEu};
        const HOST: &str = "www.portal.example";
        #[rustfmt::skip]
        let table = [
            ("one route",                      vec![(HOST, "/", EuOnly)], false),
            ("the same of all",                vec![(HOST, "/", EuOnly), (HOST, "/a/", EuOnly)], false),
            ("another below it",               vec![(HOST, "/", Any), (HOST, "/a/", EuOnly)], true),
            ("wishes keep nobody out",         vec![(HOST, "/", Any), (HOST, "/a/", PreferEu)], false),
            ("another host's are its own",     vec![(HOST, "/", Any), ("other.example", "/", EuOnly)], false),
            ("a wildcard gets the rest",       vec![(HOST, "/a/", EuOnly), ("*.portal.example", "/", Any)], true),
            ("and so does any",                vec![(HOST, "/a/", EuOnly), ("*", "/", Any)], true),
            ("unless there is no rest",        vec![(HOST, "/", EuOnly), ("*.portal.example", "/", Any), ("*", "/", Any)], false),
            ("nor is one beyond the wildcard", vec![(HOST, "/a/", Any), ("*.portal.example", "/", Any), ("*", "/", EuOnly)], false),
        ];
        for (shows, routes, divided) in table {
            let topology = topology(&routes);
            let ways = Ways::of(&topology);
            assert_eq!(ways.divided().has(&HostPattern::Exact(HOST.into())), divided, "{shows}");
            let wider = [HostPattern::Wildcard(".portal.example".into()), HostPattern::Any];
            assert!(
                !wider.iter().any(|host| ways.divided().has(host)),
                "{shows}: by itself it is whole"
            );
        }
    }
}
