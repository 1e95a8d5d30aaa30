//! The topology of a replay: the scenario's providers with their seats, under a service's rules.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::model::id::{Label, PoolId, ProviderId, UpstreamId, UpstreamKey};
use crate::model::place::{Country, Jurisdiction, Residency};
use crate::model::topology::{
    Barred, Endpoint, EndpointHost, HostPattern, HostRule, HttpRule, MarkerRule, Pool, Provider,
    ProviderKind, Route, Rules, Scheme, Topology, Upstream,
};
use crate::rehearse::scenario::Scenario;
use crate::rehearse::world::DIRECT;

/// Countries of the legal entities of the providers that scenarios name.
const SEATS: [(&str, &str); 9] = [
    ("akamai", "US"),
    ("azure", "US"),
    ("bunny", "SI"),
    ("cloudflare", "US"),
    (DIRECT, "FR"),
    ("fastly", "US"),
    ("gcore", "LU"),
    ("ovh", "FR"),
    ("stackit", "DE"),
];
/// Of a provider that is not in the list: outside the EU, so that nothing is taken for inside.
const UNKNOWN_SEAT: &str = "US";
/// The one service of a replay.
const SERVICE: &str = "service";

/// What a replay takes from a configuration file.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How the service is attempted, judged and moved.
    pub rules: Rules,
    /// What may carry it.
    pub residency: Residency,
    /// Providers that the file knows, by name.
    pub jurisdictions: Vec<(Label, Country, Jurisdiction)>,
}

impl Default for Setup {
    /// The defaults of every key, and an origin that marks its answers.
    fn default() -> Self {
        let marker = MarkerRule {
            header: HeaderName::from_static("x-origin-id"),
            value: HeaderValue::from_static(SERVICE),
        };
        let rules = Rules { marker: Some(marker), ..Rules::default() };
        Self { rules, residency: Residency::default(), jurisdictions: Vec::new() }
    }
}

/// What exists, and the place in the scenario of each upstream that policy permits.
pub(super) fn topology(scenario: &Scenario, setup: &Setup) -> (Arc<Topology>, Vec<usize>) {
    let all: Vec<Provider> =
        scenario.upstreams.iter().map(|name| provider(name, scenario, setup)).collect();
    let permitted = |place: &usize| setup.residency.permits(all[*place].jurisdiction);
    let places: Vec<usize> = (0..all.len()).filter(permitted).collect();
    let barred = (0..all.len())
        .filter(|place| !permitted(place))
        .map(|place| Barred {
            provider: all[place].name.clone(),
            jurisdiction: all[place].jurisdiction,
        })
        .collect();
    let upstreams = places.iter().map(|place| upstream(*place, &all[*place])).collect();
    let pool = Pool {
        service: label(SERVICE),
        residency: setup.residency,
        upstreams: (0..places.len()).map(UpstreamId::new).collect(),
        barred,
        rules: setup.rules.clone(),
    };
    let route = Route { host: HostPattern::Any, prefix: "/".into(), pool: PoolId::new(0) };
    let topology = Topology { providers: all, upstreams, pools: vec![pool], routes: vec![route] };
    (Arc::new(topology), places)
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
    Provider { name: name.clone(), seat, jurisdiction, kind, substrates }
}

fn seat_of(name: &str) -> Country {
    let listed = SEATS.iter().find(|(known, _)| *known == name).map_or(UNKNOWN_SEAT, |(_, s)| s);
    Country::new(listed).expect("the table holds country codes: a test walks it")
}

fn upstream(place: usize, provider: &Provider) -> Upstream {
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
    };
    Upstream {
        key: UpstreamKey {
            service: label(SERVICE),
            provider: provider.name.clone(),
            endpoint: format!("https://{address}:443").into(),
        },
        provider: ProviderId::new(place),
        pool: PoolId::new(0),
        endpoint,
        preference: place as u16 + 1,
        weight: 100,
    }
}

fn label(text: &str) -> Label {
    Label::new(text).expect("a constant of this file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_seat_is_a_country() {
        for (name, seat) in SEATS {
            assert_eq!(seat_of(name).as_str(), seat);
        }
        assert_eq!(seat_of("nobody").as_str(), UNKNOWN_SEAT);
    }

    #[test]
    fn what_residency_forbids_has_no_upstream() {
        let text = "name: x\nupstreams: [cloudflare, bunny, direct]\ntimeline: []\n";
        let scenario = Scenario::read(text).expect("a scenario");
        let setup = Setup { residency: Residency::EuOnly, ..Setup::default() };
        let (topology, places) = topology(&scenario, &setup);
        assert_eq!(places, [1, 2]);
        let names = topology.upstreams().map(|(id, _)| topology.provider_of(id).name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["bunny", DIRECT]);
        assert_eq!(topology.pools[0].barred.len(), 1);
    }
}
