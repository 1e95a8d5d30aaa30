//! The topology of a replay: the scenario's providers with their seats, and its services, all under
//! the same rules.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::peer::Rule;
use crate::config::catalogue;
use crate::model::habit::Habits;
use crate::model::id::{Label, PoolId, ProviderId, UpstreamId, UpstreamKey};
use crate::model::place::{Country, Footing, Jurisdiction, Residency};
use crate::model::realm::{RealmId, Realms};
use crate::model::topology::{
    Barred, Endpoint, EndpointHost, HostPattern, HostRule, HttpRule, MarkerProof, MarkerRule, Pool,
    Provider, ProviderKind, Route, Rules, Scheme, Sensitivity, Topology, Upstream,
};
use crate::rehearse::scenario::{Scenario, Service};
use crate::rehearse::traffic::HOSTS;
use crate::rehearse::world::DIRECT;

/// Country of whoever has the origin.
const OWN_SEAT: &str = "FR";
/// Of a provider that is not in the catalogue: outside the EU, so that nothing is taken for inside.
const UNKNOWN_SEAT: &str = "US";
/// Value of the marker where no file says otherwise.
const MARKER: &str = "service";

/// What a replay takes from a configuration file.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How the service is attempted, judged and moved.
    pub rules: Rules,
    /// What may carry it; `None`: what the outage's file says, or anybody.
    pub residency: Option<Residency>,
    /// Providers that the file knows, by name.
    pub jurisdictions: Vec<(Label, Country, Jurisdiction)>,
    /// Who decides when to move.
    pub decider: Decider,
}

/// Who decides when to move.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Decider {
    /// The real detector.
    #[default]
    Bascule,
    /// Somebody to compare it with.
    Peer(Rule),
}

impl Default for Setup {
    /// The defaults of every key, and an origin that marks its answers.
    fn default() -> Self {
        let marker = MarkerRule {
            header: HeaderName::from_static("x-origin-id"),
            proof: MarkerProof::Value(HeaderValue::from_static(MARKER)),
        };
        Self {
            rules: Rules { marker: Some(marker), ..Rules::default() },
            residency: None,
            jurisdictions: Vec::new(),
            decider: Decider::default(),
        }
    }
}

impl Setup {
    /// The same world, retries and budget, with a peer to decide, who knows of no marker.
    #[must_use]
    pub fn with_peer(&self, rule: Rule) -> Self {
        let rules = Rules { marker: None, ..self.rules.clone() };
        Self { rules, decider: Decider::Peer(rule), ..self.clone() }
    }

    /// The same with another amount of evidence that a trip takes.
    #[must_use]
    pub fn with_sensitivity(mut self, sensitivity: Sensitivity) -> Self {
        self.rules.failover.sensitivity = sensitivity;
        self
    }
}

/// What exists, and the place in the scenario of each upstream's provider. Policy decides which
/// upstreams there are; they stand service by service.
pub(super) fn topology(scenario: &Scenario, setup: &Setup) -> (Arc<Topology>, Vec<usize>) {
    let providers: Vec<Provider> =
        scenario.upstreams.iter().map(|name| provider(name, scenario, setup)).collect();
    let residency = setup.residency.or(scenario.residency).unwrap_or_default();
    let permitted = |place: &usize| residency.permits(providers[*place].jurisdiction);
    let places: Vec<usize> = (0..providers.len()).filter(permitted).collect();
    let barred: Vec<Barred> = (0..providers.len())
        .filter(|place| !permitted(place))
        .map(|place| Barred {
            provider: providers[place].name.clone(),
            jurisdiction: providers[place].jurisdiction,
            because: "it is outside the EU".into(),
        })
        .collect();
    let mut topology = Topology { providers, ..Topology::default() };
    for (number, service) in scenario.services.iter().enumerate() {
        let first = topology.upstreams.len();
        let pool = PoolId::new(number);
        let upstreams =
            places.iter().map(|place| upstream(*place, &topology.providers[*place], service, pool));
        let upstreams: Vec<Upstream> = upstreams.collect();
        topology.upstreams.extend(upstreams);
        topology.pools.push(Pool {
            service: service.name.clone(),
            residency,
            realms: Realms::default(),
            upstreams: (first..topology.upstreams.len()).map(UpstreamId::new).collect(),
            barred: barred.clone(),
            rules: setup.rules.clone(),
        });
        topology.routes.extend(HOSTS.map(|host| Route {
            host: HostPattern::Exact(host.into()),
            prefix: "/".into(),
            pool,
            realm: RealmId::WHOLE,
        }));
    }
    let places = topology.upstreams.iter().map(|upstream| upstream.provider.index()).collect();
    (Arc::new(topology.settled()), places)
}

fn provider(name: &Label, scenario: &Scenario, setup: &Setup) -> Provider {
    let known = setup.jurisdictions.iter().find(|(known, ..)| known == name);
    let (seat, jurisdiction) = known.map_or_else(
        || {
            let seat = seat_of(name.as_str());
            (seat, Jurisdiction::of_seat(seat))
        },
        |(_, seat, jurisdiction)| (*seat, *jurisdiction),
    );
    let kind = if name.as_str() == DIRECT { ProviderKind::Origin } else { ProviderKind::Edge };
    let substrates = scenario.substrates.get(name.as_str()).cloned().unwrap_or_default();
    let known = catalogue::known(name.as_str()).filter(|_| kind == ProviderKind::Edge);
    let habits = known.map_or_else(Habits::default, |known| known.habits.clone());
    let footing = Footing::default();
    Provider { name: name.clone(), seat, jurisdiction, footing, kind, substrates, habits }
}

fn seat_of(name: &str) -> Country {
    let own = |code| Country::new(code).expect("a country code: a test asks for each");
    match catalogue::known(name) {
        _ if name == DIRECT => own(OWN_SEAT),
        Some(known) => known.seat,
        None => own(UNKNOWN_SEAT),
    }
}

fn upstream(place: usize, provider: &Provider, service: &Service, pool: PoolId) -> Upstream {
    // An address from the block for documentation (RFC 5737): nothing is ever dialled.
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, place as u8));
    let endpoint = Endpoint {
        scheme: Scheme::Https,
        host: EndpointHost::Address(address),
        port: 443,
        host_rule: HostRule::Public,
        http: HttpRule::Auto,
        idle_timeout: Duration::from_secs(60),
        ca: None,
        identity: None,
        path: crate::model::topology::PathRule::default(),
        headers: crate::model::topology::HeaderRule::default(),
    };
    Upstream {
        key: UpstreamKey {
            service: service.name.clone(),
            provider: provider.name.clone(),
            endpoint: format!("https://{address}:443").into(),
        },
        provider: ProviderId::new(place),
        pool,
        endpoint,
        preference: place as u16 + 1,
        weight: 100,
        max_in_flight: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_those_of_the_catalogue_and_outside_the_eu_for_strangers() {
        for (name, seat) in [(DIRECT, OWN_SEAT), ("bunny", "SI"), ("nobody", UNKNOWN_SEAT)] {
            assert_eq!(seat_of(name).as_str(), seat);
        }
    }

    #[test]
    fn what_residency_forbids_has_no_upstream() {
        let text = "name: x\nupstreams: [cloudflare, bunny, direct]\ntimeline: []\n";
        let scenario = Scenario::read(text).expect("a scenario");
        let setup = Setup { residency: Some(Residency::EuOnly), ..Setup::default() };
        let (topology, places) = topology(&scenario, &setup);
        assert_eq!(places, [1, 2]);
        let names = topology.upstreams().map(|(id, _)| topology.provider_of(id).name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["bunny", DIRECT]);
        assert_eq!(topology.pools[0].barred.len(), 1);
    }

    #[test]
    fn every_service_has_an_upstream_at_every_provider() {
        let text = "name: x\nupstreams: [bunny, gcore]\n\
                    services: [{name: a, rate: 5}, {name: b, count: 2, rate: 0.2}]\ntimeline: []\n";
        let scenario = Scenario::read(text).expect("a scenario");
        let (topology, places) = topology(&scenario, &Setup::default());
        assert_eq!(places, [0, 1, 0, 1, 0, 1]);
        let services: Vec<&str> = topology.pools.iter().map(|pool| pool.service.as_str()).collect();
        assert_eq!(services, ["a", "b-1", "b-2"]);
    }
}
