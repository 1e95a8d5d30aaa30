//! Host and path to pool. Built once per topology; a look-up allocates nothing.
//!
//! An exact host goes before a wildcard, a wildcard before `*`; within one host the longest prefix
//! wins. Where a more specific host has no matching prefix, the less specific one is asked.

use std::collections::HashMap;

use crate::model::cell::HostId;
use crate::model::id::PoolId;
use crate::model::reading;
use crate::model::realm::RealmId;
use crate::model::topology::{HostPattern, Topology, covers};
use crate::model::ways::Ways;

/// Finds the pool of a request.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    exact: HashMap<Box<str>, Own>,
    /// By suffix with its leading dot.
    wildcard: HashMap<Box<str>, Own>,
    any: Own,
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
    /// Whether another reading of the path could belong to another route, where others may carry it: then
    /// it is refused.
    pub is_ambiguous: bool,
}

/// Where a host name comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spelling {
    /// A route spells it out.
    Ours,
    /// A wildcard covers it: clients can make up as many as they like.
    Theirs,
}

/// What one host has.
#[derive(Clone, Debug, Default)]
struct Own {
    /// Longest first.
    prefixes: Vec<(Box<str>, Pool)>,
    /// Whether the path of a request decides who may carry it or send it, see [`Ways`].
    is_divided: bool,
}

/// A pool, which of its hosts it is, and who may carry what comes this way.
type Pool = (PoolId, HostId, RealmId);

impl Matcher {
    /// Of the routes of one topology. Two routes with the same host and prefix are a mistake that
    /// the configuration refuses; here the first one wins.
    pub fn new(topology: &Topology) -> Self {
        let mut matcher = Self::default();
        let divided = Ways::of(topology).divided();
        let mut hosts: HashMap<PoolId, Vec<&HostPattern>> = HashMap::new();
        for route in &topology.routes {
            let known = hosts.entry(route.pool).or_default();
            let host = host_id(known, &route.host);
            let own = match &route.host {
                HostPattern::Exact(host) => matcher.exact.entry(host.clone()).or_default(),
                HostPattern::Wildcard(suffix) => {
                    matcher.wildcard.entry(suffix.clone()).or_default()
                }
                HostPattern::Any => &mut matcher.any,
            };
            own.is_divided = divided.needs_plain_paths(&route.host);
            own.prefixes.push((route.prefix.clone(), (route.pool, host, route.realm)));
        }
        let tables = matcher.exact.values_mut().chain(matcher.wildcard.values_mut());
        for own in tables.chain([&mut matcher.any]) {
            // Stable, so that among equals the first of the file stays first.
            own.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        }
        matcher
    }

    /// The pool for a host (lower case, no port) and an URL path. `None`: no route.
    pub fn find(&self, host: &str, url_path: &str) -> Option<Found> {
        let exact = self.exact.get(host);
        if let Some(own) = exact
            && let Some(pool) = own.longest(url_path)
        {
            return Some(own.found(pool, Spelling::Ours, url_path));
        }
        let wildcard = self.covering(host);
        let pool = wildcard.and_then(|own| own.longest(url_path));
        let pool = pool.or_else(|| self.any.longest(url_path))?;
        // The most specific one knows what all of them have.
        let own = exact.or(wildcard).unwrap_or(&self.any);
        Some(own.found(pool, Spelling::Theirs, url_path))
    }

    /// Of the wildcard that covers a host: one label, what stands before the first dot.
    fn covering(&self, host: &str) -> Option<&Own> {
        let suffix = &host[host.find('.')?..];
        let one_label = host.len() > suffix.len();
        self.wildcard.get(suffix).filter(|_| one_label)
    }
}

impl Own {
    fn longest(&self, url_path: &str) -> Option<Pool> {
        let mut prefixes = self.prefixes.iter();
        prefixes.find(|(prefix, _)| covers(prefix, url_path)).map(|(_, pool)| *pool)
    }

    fn found(&self, (pool, host, realm): Pool, spelling: Spelling, url_path: &str) -> Found {
        let is_ambiguous = self.is_divided && !reading::is_plain(url_path);
        Found { pool, host, realm, spelling, is_ambiguous }
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

#[cfg(test)]
mod tests {
    use super::*;

    use crate::model::topology::Route;

    fn matcher<const N: usize>(routes: [Route; N]) -> Matcher {
        Matcher::new(&Topology { routes: routes.into(), ..Topology::default() })
    }

    fn route(host: HostPattern, prefix: &str, pool: usize) -> Route {
        let (pool, realm) = (PoolId::new(pool), RealmId::WHOLE);
        Route { host, prefix: prefix.into(), pool, realm }
    }

    #[test]
    fn the_most_specific_host_then_the_longest_prefix_wins() {
        let exact = |h: &str| HostPattern::Exact(h.into());
        let wildcard = |h: &str| HostPattern::Wildcard(h.into());
        let matcher = matcher([
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
        let matcher = matcher([route(HostPattern::Exact("a.example".into()), "/x", 0)]);
        assert_eq!(matcher.find("a.example", "/y"), None);
        assert_eq!(matcher.find("b.example", "/x"), None);
    }

    #[test]
    fn what_is_asked_at_load_is_what_requests_find() {
        let host = HostPattern::Exact("www.portal.example".into());
        let topology = Topology {
            routes: vec![
                route(host.clone(), "/a/", 0),
                route(host.clone(), "/a/b", 1),
                route(HostPattern::Wildcard(".portal.example".into()), "/b", 2),
                route(HostPattern::Any, "/", 3),
            ],
            ..Topology::default()
        };
        let (ways, matcher) = (Ways::of(&topology), Matcher::new(&topology));
        for (url_path, pool) in [("/a/b/c", 1), ("/a/c", 0), ("/b/c", 2), ("/a", 3), ("*", 3)] {
            let lead = ways.lead(&host, url_path).map(|route| route.pool);
            let found = matcher.find("www.portal.example", url_path).map(|found| found.pool);
            assert_eq!((lead, found), (Some(PoolId::new(pool)), lead), "{url_path}");
        }
    }

    #[test]
    fn another_reading_is_looked_for_only_where_it_could_lead_out() {
        use crate::model::example::{self, Example};
        use crate::model::place::Residency;
        use crate::model::realm::{Charter, Charters};
        let of = |service| Example { service, provider: "one", seat: "SI", host: "a", port: 1 };
        let mut topology = example::topology(&[of("records"), of("site"), of("news")]);
        let residencies = [Residency::EuOnly, Residency::Any, Residency::EuOnly];
        let pools = std::mem::take(&mut topology.pools);
        for (pool, residency) in pools.into_iter().zip(residencies) {
            topology.pools.push(pool);
            topology.settle(&Charter::of(residency), &Charters::default());
        }
        topology.routes = vec![
            route(HostPattern::Exact("www.example".into()), "/patients/", 0),
            route(HostPattern::Any, "/", 1),
            route(HostPattern::Exact("news.example".into()), "/", 2),
        ];
        let matcher = Matcher::new(&topology);
        let is_ambiguous =
            |host, url_path| matcher.find(host, url_path).expect("a route").is_ambiguous;
        assert!(is_ambiguous("www.example", "/%70atients/1"), "to the wider host, and it knows");
        assert!(is_ambiguous("www.example", "/patients/../x"));
        assert!(!is_ambiguous("www.example", "/patients/1"));
        assert!(!is_ambiguous("other.example", "//x"), "a host that is not divided");
        assert!(!is_ambiguous("news.example", "//x"), "nor this one");
    }
}
