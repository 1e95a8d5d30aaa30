//! The configuration that the demo's proxy runs with: what an operator would write for these
//! providers, with the times of a return made as short as the demo's clock.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::script::{ROLES, Timing};
use super::stand_in::MARKER;
use crate::config::{Admin, Config, Listener, Resolver, Spots};
use crate::model::habit::Habits;
use crate::model::id::{Label, PoolId, ProviderId, UpstreamId, UpstreamKey};
use crate::model::limits::Limits;
use crate::model::listening::Manner;
use crate::model::place::{Country, Footing, Jurisdiction, Residency};
use crate::model::realm::{RealmId, Realms};
use crate::model::topology::{
    Endpoint, EndpointHost, FailoverRule, HostPattern, HostRule, HttpRule, MarkerProof, MarkerRule,
    Pool, ProbeRule, Provider, ProviderKind, Route, Rules, Scheme, Topology, Upstream,
};
use crate::rehearse::traffic::HOSTS;
use crate::rehearse::world::DIRECT;

/// The one service.
pub const SERVICE: &str = "portal";
/// Requests that still run when the demo ends get no more time than this.
const DRAIN: Duration = Duration::from_secs(1);

/// Times of a return, as short as the demo.
pub fn failover(timing: &Timing) -> FailoverRule {
    let part = |divisor: u32| timing.total / divisor;
    FailoverRule {
        hold: part(20),
        max_hold: part(8),
        min_stay: part(8),
        ramp: part(10),
        ..FailoverRule::default()
    }
}

/// For stand-ins at these addresses, by role.
pub fn config(stand_ins: &[SocketAddr], timing: &Timing) -> Config {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Config {
        topology: Arc::new(topology(stand_ins, timing)),
        access_log: None,
        #[cfg(feature = "otlp")]
        traces: None,
        listeners: vec![Listener { address: any_port, tls: None, manner: Manner::default() }],
        state_dir: None,
        admin: Some(Admin { address: any_port, token: None }),
        resolver: Resolver::default(),
        control_targets: Vec::new(),
        limits: Limits { drain: DRAIN, ..Limits::default() },
        trusted_proxies: Vec::new(),
        workers: 1,
        files: Vec::new(),
        lints: Vec::new(),
        spots: Spots::default(),
    }
}

fn topology(stand_ins: &[SocketAddr], timing: &Timing) -> Topology {
    let marker = MarkerRule {
        header: HeaderName::from_static(MARKER.0),
        proof: MarkerProof::Value(HeaderValue::from_static(MARKER.1)),
    };
    let probe = ProbeRule {
        interval: timing.total / 40,
        host: Some(HOSTS[0].into()),
        ..ProbeRule::default()
    };
    let rules =
        Rules { marker: Some(marker), probe, failover: failover(timing), ..Rules::default() };
    let pool = Pool {
        service: label(SERVICE),
        residency: Residency::PreferEu,
        realms: Realms::default(),
        upstreams: (0..ROLES.len()).map(UpstreamId::new).collect(),
        barred: Vec::new(),
        rules,
    };
    Topology {
        providers: ROLES.iter().map(|role| provider(role.name, role.seat)).collect(),
        upstreams: stand_ins.iter().enumerate().map(|(n, address)| upstream(n, *address)).collect(),
        pools: vec![pool],
        routes: vec![Route {
            host: HostPattern::Any,
            prefix: "/".into(),
            pool: PoolId::new(0),
            realm: RealmId::WHOLE,
        }],
    }
    .settled()
}

fn provider(name: &str, seat: &str) -> Provider {
    let seat = Country::new(seat).expect("the roles hold country codes: a test walks them");
    Provider {
        name: label(name),
        seat,
        jurisdiction: Jurisdiction::of_seat(seat),
        footing: Footing::default(),
        kind: if name == DIRECT { ProviderKind::Origin } else { ProviderKind::Edge },
        substrates: Vec::new(),
        habits: Habits::default(),
    }
}

fn upstream(place: usize, address: SocketAddr) -> Upstream {
    Upstream {
        key: UpstreamKey {
            service: label(SERVICE),
            provider: label(ROLES[place].name),
            endpoint: format!("http://{address}").into(),
        },
        provider: ProviderId::new(place),
        pool: PoolId::new(0),
        endpoint: Endpoint {
            scheme: Scheme::Http,
            host: EndpointHost::Address(address.ip()),
            port: address.port(),
            host_rule: HostRule::Public,
            http: HttpRule::Auto,
            idle_timeout: Duration::from_secs(60),
            ca: None,
            identity: None,
            path: crate::model::topology::PathRule::default(),
            headers: crate::model::topology::HeaderRule::default(),
        },
        preference: place as u16 + 1,
        weight: 100,
        max_in_flight: None,
    }
}

fn label(text: &str) -> Label {
    Label::new(text).expect("a constant of the demo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_has_a_place_in_the_topology() {
        let timing = Timing::new(Duration::from_secs(40));
        let addresses = [SocketAddr::from(([127, 0, 0, 1], 1)); ROLES.len()];
        let topology = topology(&addresses, &timing);
        for (id, upstream) in topology.upstreams() {
            let provider = topology.provider_of(id);
            assert_eq!(provider.name.as_str(), ROLES[id.index()].name);
            assert_eq!(upstream.key.provider, provider.name);
        }
        assert_eq!(topology.providers[2].jurisdiction, Jurisdiction::Eu);
    }
}
