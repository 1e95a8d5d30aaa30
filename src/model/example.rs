//! Small topologies for tests.

use std::time::Duration;

use super::habit::Habits;
use super::id::{Label, PoolId, ProviderId, UpstreamId, UpstreamKey};
use super::place::{Country, Footing, Jurisdiction, Residency};
use super::realm::{RealmId, Realms};
use super::topology::{
    Endpoint, EndpointHost, HostPattern, HostRule, HttpRule, Pool, Provider, ProviderKind, Route,
    Rules, Scheme, Topology, Upstream,
};

/// One upstream of an example, by names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Example<'a> {
    pub(crate) service: &'a str,
    pub(crate) provider: &'a str,
    pub(crate) seat: &'a str,
    /// A name or an address.
    pub(crate) host: &'a str,
    pub(crate) port: u16,
}

/// The topology of these upstreams, in order of preference; plain HTTP, rules by default, each
/// service at the host `SERVICE.example`.
pub(crate) fn topology(examples: &[Example<'_>]) -> Topology {
    let mut topology = Topology::default();
    for example in examples {
        let provider = provider(&mut topology, example);
        let pool = pool(&mut topology, example);
        let id = UpstreamId::new(topology.upstreams.len());
        let members = &mut topology.pools[pool.index()].upstreams;
        members.push(id);
        let preference = u16::try_from(members.len()).expect("few");
        let upstream = upstream(example, provider, pool);
        topology.upstreams.push(Upstream { preference, ..upstream });
    }
    topology.settled()
}

fn provider(topology: &mut Topology, example: &Example<'_>) -> ProviderId {
    let name = label(example.provider);
    if let Some(known) = topology.providers.iter().position(|p| p.name == name) {
        return ProviderId::new(known);
    }
    let seat = Country::new(example.seat).expect("a country");
    topology.providers.push(Provider {
        name,
        seat,
        jurisdiction: Jurisdiction::of_seat(seat),
        footing: Footing::default(),
        kind: ProviderKind::Edge,
        substrates: Vec::new(),
        habits: Habits::default(),
    });
    ProviderId::new(topology.providers.len() - 1)
}

fn pool(topology: &mut Topology, example: &Example<'_>) -> PoolId {
    let service = label(example.service);
    if let Some(known) = topology.pools.iter().position(|p| p.service == service) {
        return PoolId::new(known);
    }
    let pool = PoolId::new(topology.pools.len());
    let host = HostPattern::Exact(format!("{service}.example").into());
    topology.routes.push(Route { host, prefix: "/".into(), pool, realm: RealmId::WHOLE });
    topology.pools.push(Pool {
        service,
        residency: Residency::PreferEu,
        realms: Realms::default(),
        upstreams: Vec::new(),
        barred: Vec::new(),
        rules: Rules::default(),
    });
    pool
}

fn upstream(example: &Example<'_>, provider: ProviderId, pool: PoolId) -> Upstream {
    let Example { service, provider: name, host, port, .. } = *example;
    Upstream {
        key: UpstreamKey {
            service: label(service),
            provider: label(name),
            endpoint: format!("http://{host}:{port}").into(),
        },
        provider,
        pool,
        endpoint: endpoint(host, port),
        preference: 1,
        weight: 100,
        max_in_flight: None,
    }
}

/// Plain HTTP to a name or an address.
pub(crate) fn endpoint(host: &str, port: u16) -> Endpoint {
    Endpoint {
        scheme: Scheme::Http,
        host: host.parse().map_or_else(|_| EndpointHost::Name(host.into()), EndpointHost::Address),
        port,
        host_rule: HostRule::Public,
        http: HttpRule::Auto,
        idle_timeout: Duration::from_secs(60),
        ca: None,
        identity: None,
        path: crate::model::topology::PathRule::default(),
        headers: crate::model::topology::HeaderRule::default(),
    }
}

/// A name of an example.
pub(crate) fn label(text: &str) -> Label {
    Label::new(text).expect("a label")
}
