//! Services to routes and pools, with every reference resolved. What policy forbids gets no
//! upstream: it is listed as barred and cannot be named by anything that comes after.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::ServicePlaces;
use super::context::Context;
use super::hosts;
use super::path;
use super::provenance;
use super::providers::Providers;
use super::rules::{self, RulePlaces, Terms};
use super::upstream::{self, Draft};
use crate::config::complaint::Place;
use crate::config::raw::{RawRoute, RawRules, RawService, RawUpstream};
use crate::config::tree::{At, Named};
use crate::config::values;
use crate::model::id::{Label, PoolId, UpstreamId, UpstreamKey};
use crate::model::realm::{Bar, Charter, Charters, RealmId, Realms};
use crate::model::topology::{
    Barred, Endpoint, EndpointHost, HostPattern, Pool, Route, Scheme, Topology, Upstream,
};

mod probed;

/// Services of one configuration.
const MAX_SERVICES: usize = 10_000;
/// Upstreams of one service.
const MAX_UPSTREAMS: usize = 16;
/// Upstreams of one configuration: some 22 KiB each, most of it counters.
const MAX_ALL_UPSTREAMS: usize = 50_000;
/// Routes of one configuration.
const MAX_ROUTES: usize = 50_000;

/// What a configuration publishes, as read.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) defaults: Option<At<RawRules>>,
    pub(super) services: Vec<At<Named<RawService>>>,
    pub(super) providers: Providers,
    /// Where we listen: no upstream may lead there.
    pub(super) addresses: Vec<SocketAddr>,
}

/// Everything that exists; `places` gets one entry a pool.
pub(super) fn topology(
    context: &Context<'_>,
    published: Published,
    places: &mut Vec<ServicePlaces>,
    whole: Place,
) -> Topology {
    let Published { defaults, services, providers, addresses } = published;
    let defaults = defaults.and_then(|at| at.value).unwrap_or_default();
    let default_places = RulePlaces::of(&defaults, RulePlaces::default());
    let defaults = rules::terms(context, defaults, &Terms::default());
    let mut builder = Builder {
        context,
        addresses,
        defaults,
        default_places,
        topology: Topology { providers: providers.all.clone(), ..Topology::default() },
        providers,
        names: HashMap::new(),
        routes: HashMap::new(),
    };
    let entries = services.into_iter().filter_map(|section| section.value);
    for (name, service) in entries.flat_map(|Named(entries)| entries) {
        places.extend(builder.service(name, service));
    }
    if builder.names.is_empty() {
        let mend = "there is nothing to serve; add at least one with `routes` and `upstreams`";
        context.complaints.error(whole, "`services` is missing or empty", mend);
    }
    for (count, most, what) in [
        (builder.names.len(), MAX_SERVICES, "services"),
        (builder.topology.upstreams.len(), MAX_ALL_UPSTREAMS, "upstreams"),
        (builder.topology.routes.len(), MAX_ROUTES, "routes"),
    ] {
        if count > most {
            let mend = format!("at most {most} are kept in memory; use another instance");
            context.complaints.error(whole, format_args!("there are {count} {what}"), &mend);
        }
    }
    hosts::refuse_unclear_prefixes(context, &builder.topology, &builder.routes);
    hosts::of_probes(context, &mut builder.topology, places);
    builder.topology
}

/// A list of the file, where it is there.
type Listed<T> = Option<At<Vec<At<T>>>>;

struct Builder<'a> {
    context: &'a Context<'a>,
    providers: Providers,
    addresses: Vec<SocketAddr>,
    defaults: Terms,
    default_places: RulePlaces,
    topology: Topology,
    names: HashMap<String, Place>,
    routes: hosts::Taken,
}

impl Builder<'_> {
    /// `None` where the service cannot be used at all, after a complaint.
    fn service(&mut self, name: At<String>, raw: At<RawService>) -> Option<ServicePlaces> {
        let text = name.value.clone()?;
        if let Some(first) = self.names.insert(text, name.place) {
            let named = self.context.named(first);
            let what =
                format!("service `{}` is defined a second time (first in {named})", name.shown);
            self.context.complaints.error(name.place, what, "rename or remove one");
            return None;
        }
        let label = self.context.label("service", &name);
        if name.value.as_deref() == Some("none") {
            let mend = "metrics call so what matches no route; choose another";
            self.context.complaints.error(name.place, "a service cannot be called `none`", mend);
        }
        let RawService {
            routes,
            upstreams,
            residency,
            require,
            origin_marker,
            probe,
            timeouts,
            retry,
            failover,
            all_down,
            access,
            sticky,
        } = raw.value?;
        let raw = RawRules {
            residency,
            require,
            origin_marker,
            probe,
            timeouts,
            retry,
            failover,
            all_down,
            access,
            sticky,
        };
        let places = RulePlaces::of(&raw, self.default_places);
        let terms = rules::terms(self.context, raw, &self.defaults);
        self.pool((name, label), terms, (routes, upstreams), places)
    }

    /// A service by its terms.
    fn pool(
        &mut self,
        (name, label): (At<String>, Option<Label>),
        Terms { charter, mut rules }: Terms,
        (routes, upstreams): (Listed<RawRoute>, Listed<RawUpstream>),
        places: RulePlaces,
    ) -> Option<ServicePlaces> {
        let RulePlaces { probe, failover, methods } = places;
        let pool = PoolId::new(self.topology.pools.len());
        let mut charters = Charters::default();
        let routes = self.routes((&name, &charter), routes, pool, &mut charters);
        let drafts = self.upstreams(&name, upstreams);
        rules.probe.host = routes.iter().find_map(|route| match &route.host {
            HostPattern::Exact(host) => Some(host.clone()),
            HostPattern::Wildcard(_) | HostPattern::Any => None,
        });
        // What all routes agree on is what the service says.
        let charter = if let [only] = charters.all() { only.clone() } else { charter };
        let mut pool = Pool {
            service: label?,
            residency: charter.residency,
            realms: Realms::default(),
            upstreams: Vec::new(),
            barred: Vec::new(),
            rules,
        };
        for draft in drafts.iter().filter(|draft| !draft.endpoint.path.strip.is_empty()) {
            let strip = (&*draft.endpoint.path.strip, draft.path_place);
            path::refuse_strip_of_others(self.context, strip, &routes, &pool);
        }
        let upstreams = self.admit(&mut pool, &charters, drafts);
        self.topology.pools.push(pool);
        self.topology.settle(&charter, &charters);
        self.topology.routes.extend(routes);
        Some(ServicePlaces { name: name.place, upstreams, probe, failover, methods })
    }

    fn routes(
        &mut self,
        (service, charter): (&At<String>, &Charter),
        raw: Option<At<Vec<At<RawRoute>>>>,
        pool: PoolId,
        charters: &mut Charters,
    ) -> Vec<Route> {
        let Some(listed) = self.context.needed("routes", raw, service.place) else {
            return Vec::new();
        };
        let Some(entries) = listed.value else { return Vec::new() };
        if entries.is_empty() {
            let mend = "no request could belong to the service; add `- host: www.portal.example`";
            self.context.complaints.error(listed.place, "`routes` is empty", mend);
        }
        let mut found = Vec::new();
        for entry in entries {
            let place = entry.place;
            let Some((route, own)) = self.route((service, charter), entry, pool) else { continue };
            match charters.add(&own) {
                Some(place) => found.push((route, place)),
                None => {
                    let what = "a further combination of `residency` and `require`";
                    let mend = format!(
                        "each has a plan of its own, and a service has at most {}; make it a service of its own",
                        RealmId::MOST
                    );
                    self.context.complaints.error(place, what, &mend);
                }
            }
        }
        let settled = |(route, place)| Route { realm: charters.realm(place), ..route };
        found.into_iter().map(settled).collect()
    }

    fn route(
        &mut self,
        (service, charter): (&At<String>, &Charter),
        raw: At<RawRoute>,
        pool: PoolId,
    ) -> Option<(Route, Charter)> {
        let place = raw.place;
        let RawRoute { host, prefix, residency, require } = raw.value?;
        let charter = provenance::charter(self.context, residency, require, charter);
        let host = self.context.needed("host", host, place)?;
        let place = host.place;
        let pattern = self.context.parsed("host", &host, values::host_pattern);
        let prefix = match prefix {
            None => Some("/".into()),
            Some(at) => self.context.parsed("prefix", &at, values::prefix),
        };
        let (pattern, prefix): (_, Box<str>) = (pattern?, prefix?);
        let key = (pattern.clone(), prefix.clone());
        let taken = self.routes.insert(key, (service.shown.clone(), place));
        if let Some((other, first)) = taken {
            let named = self.context.named(first);
            let what = format!("host `{}` with prefix `{prefix}` is taken", host.shown);
            let mend = format!(
                "a request can belong to one service only, and this is a route of `{other}` already ({named}); \
                 remove one or give it a longer prefix"
            );
            self.context.complaints.error(place, what, &mend);
            return None;
        }
        Some((Route { host: pattern, prefix, pool, realm: RealmId::WHOLE }, charter))
    }

    fn upstreams(&self, service: &At<String>, raw: Option<At<Vec<At<RawUpstream>>>>) -> Vec<Draft> {
        let Some(listed) = self.context.needed("upstreams", raw, service.place) else {
            return Vec::new();
        };
        let Some(entries) = listed.value else { return Vec::new() };
        if entries.is_empty() || entries.len() > MAX_UPSTREAMS {
            let what = format!("`upstreams` holds {}", entries.len());
            let mend = format!("requests have to go somewhere; list 1 to {MAX_UPSTREAMS}");
            self.context.complaints.error(listed.place, what, &mend);
            return Vec::new();
        }
        let mut drafts: Vec<Draft> = Vec::with_capacity(entries.len());
        for (entry, position) in entries.into_iter().zip(1..) {
            let draft =
                upstream::upstream(self.context, entry, position, &self.providers, &self.addresses);
            let Some(draft) = draft else { continue };
            if let Some(first) = drafts.iter().find(|other| other.provider == draft.provider) {
                let provider = &self.providers.all[draft.provider.index()].name;
                let what = format!("provider `{provider}` is in this list a second time");
                let mend = format!(
                    "two ways through one provider fail together (first in line {}); keep one, or name the \
                     second as a provider of its own with a common `substrate`",
                    first.place.line
                );
                self.context.complaints.error(draft.place, what, &mend);
                continue;
            }
            drafts.push(draft);
        }
        drafts
    }

    /// Gives an id to what policy permits, by preference; the places are in the pool's order.
    fn admit(
        &mut self,
        pool: &mut Pool,
        charters: &Charters,
        mut drafts: Vec<Draft>,
    ) -> Vec<Place> {
        // Stable: the position in the file decides among equals.
        drafts.sort_by_key(|draft| draft.preference);
        let mut places = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let Draft { provider: id, endpoint, preference, weight, max_in_flight, place, .. } =
                draft;
            let provider = &self.providers.all[id.index()];
            let bars: Vec<Bar> = charters.all().iter().filter_map(|it| it.bar(provider)).collect();
            if bars.len() == charters.all().len()
                && let Some(bar) = bars.first()
            {
                let because = bar.words(provider).into();
                let (provider, jurisdiction) = (provider.name.clone(), provider.jurisdiction);
                self.refuse_probe_of_barred(pool, &endpoint, place);
                pool.barred.push(Barred { provider, jurisdiction, because });
                continue;
            }
            self.refuse_grpc_over_http1(pool, &endpoint, place);
            let key = UpstreamKey {
                service: pool.service.clone(),
                provider: provider.name.clone(),
                endpoint: endpoint_key(&endpoint).into(),
            };
            pool.upstreams.push(UpstreamId::new(self.topology.upstreams.len()));
            let pool = PoolId::new(self.topology.pools.len());
            let upstream =
                Upstream { key, provider: id, pool, endpoint, preference, weight, max_in_flight };
            self.topology.upstreams.push(upstream);
            places.push(place);
        }
        places
    }
}

/// `https://host:443`, with what it puts before every path.
fn endpoint_key(endpoint: &Endpoint) -> String {
    let scheme = match endpoint.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let host = match &endpoint.host {
        EndpointHost::Name(name) => name.to_string(),
        EndpointHost::Address(address) => SocketAddr::new(*address, endpoint.port).to_string(),
    };
    match &endpoint.host {
        EndpointHost::Name(_) => {
            format!("{scheme}://{host}:{}{}", endpoint.port, endpoint.path.add)
        }
        EndpointHost::Address(_) => format!("{scheme}://{host}{}", endpoint.path.add),
    }
}
