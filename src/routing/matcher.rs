//! Host and path to pool. Built once per topology; a look-up allocates nothing.
//!
//! An exact host goes before a wildcard, a wildcard before `*`; within one host the longest prefix
//! wins. Where a more specific host has no matching prefix, the less specific one is asked.

use std::collections::HashMap;

use crate::model::cell::HostId;
use crate::model::id::PoolId;
use crate::model::realm::RealmId;
use crate::model::topology::{HostPattern, Route, covers};

/// Finds the pool of a request.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    exact: HashMap<Box<str>, Prefixes>,
    /// By suffix with its leading dot.
    wildcard: HashMap<Box<str>, Prefixes>,
    any: Prefixes,
}

/// The pool of a request, and how its host led there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Found {
    /// Whose it is.
    pub pool: PoolId,
    /// Which of the pool's hosts.
    pub host: HostId,
    /// Who of the pool may carry it.
    pub realm: RealmId,
    /// Whether the host is one of the file's.
    pub spelling: Spelling,
}

/// Where a host name comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spelling {
    /// A route spells it out.
    Ours,
    /// A wildcard covers it: clients can make up as many as they like.
    Theirs,
}

/// Prefixes of one host, longest first.
type Prefixes = Vec<(Box<str>, Pool)>;

/// A pool, which of its hosts it is, and who may carry what comes this way.
type Pool = (PoolId, HostId, RealmId);

impl Matcher {
    /// Of the routes of one topology. Two routes with the same host and prefix are a mistake that
    /// the configuration refuses; here the first one wins.
    pub fn new(routes: &[Route]) -> Self {
        let mut matcher = Self::default();
        let mut hosts: HashMap<PoolId, Vec<&HostPattern>> = HashMap::new();
        for route in routes {
            let known = hosts.entry(route.pool).or_default();
            let host = host_id(known, &route.host);
            let prefixes = match &route.host {
                HostPattern::Exact(host) => matcher.exact.entry(host.clone()).or_default(),
                HostPattern::Wildcard(suffix) => {
                    matcher.wildcard.entry(suffix.clone()).or_default()
                }
                HostPattern::Any => &mut matcher.any,
            };
            prefixes.push((route.prefix.clone(), (route.pool, host, route.realm)));
        }
        let tables = matcher.exact.values_mut().chain(matcher.wildcard.values_mut());
        for prefixes in tables.chain([&mut matcher.any]) {
            // Stable, so that among equals the first of the file stays first.
            prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        }
        matcher
    }

    /// The pool for a host (lower case, no port) and an URL path. `None`: no route.
    pub fn find(&self, host: &str, url_path: &str) -> Option<Found> {
        let exact = self.exact.get(host).and_then(|prefixes| longest(prefixes, url_path));
        let covered = || {
            let wildcard = || {
                // One label: what stands before the first dot.
                let suffix = &host[host.find('.')?..];
                let one_label = host.len() > suffix.len();
                let prefixes = self.wildcard.get(suffix).filter(|_| one_label)?;
                longest(prefixes, url_path)
            };
            wildcard().or_else(|| longest(&self.any, url_path))
        };
        let found = |spelling| move |(pool, host, realm)| Found { pool, host, realm, spelling };
        exact.map(found(Spelling::Ours)).or_else(|| covered().map(found(Spelling::Theirs)))
    }
}

/// As [`Topology::hosts`](crate::model::topology::Topology::hosts) counts them.
fn host_id<'a>(known: &mut Vec<&'a HostPattern>, host: &'a HostPattern) -> HostId {
    let place = known.iter().position(|other| *other == host).unwrap_or_else(|| {
        known.push(host);
        known.len() - 1
    });
    HostId::new(place)
}

fn longest(prefixes: &[(Box<str>, Pool)], url_path: &str) -> Option<Pool> {
    prefixes.iter().find(|(prefix, _)| covers(prefix, url_path)).map(|(_, pool)| *pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(host: HostPattern, prefix: &str, pool: usize) -> Route {
        let (pool, realm) = (PoolId::new(pool), RealmId::WHOLE);
        Route { host, prefix: prefix.into(), pool, realm }
    }

    #[test]
    fn the_most_specific_host_then_the_longest_prefix_wins() {
        let exact = |h: &str| HostPattern::Exact(h.into());
        let wildcard = |h: &str| HostPattern::Wildcard(h.into());
        let matcher = Matcher::new(&[
            route(HostPattern::Any, "/", 0),
            route(wildcard(".portal.example"), "/", 1),
            route(wildcard(".portal.example"), "/api/v2/", 2),
            route(exact("www.portal.example"), "/", 3),
            route(exact("www.portal.example"), "/api", 4),
            route(exact("only.portal.example"), "/deep/", 5),
        ]);
        #[rustfmt::skip]
        let table = [
            ("an exact host wins over a longer prefix elsewhere", "www.portal.example", "/api/v2/x", 4),
            ("a prefix ends on a segment border",   "www.portal.example", "/apix", 3),
            ("a prefix covers itself",              "www.portal.example", "/api", 4),
            ("a wildcard takes one label",          "a.portal.example", "/", 1),
            ("the longest prefix wins",             "a.portal.example", "/api/v2/", 2),
            ("a wildcard does not take two labels", "a.b.portal.example", "/", 0),
            ("a wildcard does not take none",       "portal.example", "/", 0),
            ("an empty label is not a label",       ".portal.example", "/", 0),
            ("without a prefix the next host is asked", "only.portal.example", "/", 1),
            ("a star is all of a host",             "www.portal.example", "*", 3),
            ("and not a part of it",                "only.portal.example", "*", 1),
            ("anything else goes to any",           "other.example", "/", 0),
        ];
        for (shows, host, url_path, pool) in table {
            assert_eq!(
                matcher.find(host, url_path).map(|it| it.pool),
                Some(PoolId::new(pool)),
                "{shows}"
            );
        }
    }

    #[test]
    fn without_a_route_there_is_no_pool() {
        let matcher = Matcher::new(&[route(HostPattern::Exact("a.example".into()), "/x", 0)]);
        assert_eq!(matcher.find("a.example", "/y"), None);
        assert_eq!(matcher.find("b.example", "/x"), None);
    }
}
