//! What exists: providers, upstreams, pools, routes and the rules a service goes by. Immutable,
//! cross-references already resolved. One value per valid configuration file.
//!
//! What policy forbids does not exist here: an upstream that no route of its service may use has no
//! [`UpstreamId`], so no plan, probe, look-up or retry can name it. It is listed as [`Barred`] for
//! people to see. One that some routes may use and others may not is kept apart by their
//! [`Realms`].

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::habit::Habits;
use super::id::{Label, PoolId, ProviderId, UpstreamId, UpstreamKey};
use super::place::{Country, Footing, Jurisdiction, Residency};
use super::realm::{RealmId, Realms};

mod rules;

pub use rules::{
    Access, AllDown, AllDownServe, Asks, Expect, FailoverMode, FailoverRule, GRPC_HEALTH,
    MarkerProof, MarkerRule, OriginProbe, Page, ProbeRule, RetryRule, Rules, Sensitivity,
    SignedMarker, Sticky, Timeouts,
};

/// Everything that exists under one configuration.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// By [`ProviderId`].
    pub providers: Vec<Provider>,
    /// By [`UpstreamId`]; only those that policy permits.
    pub upstreams: Vec<Upstream>,
    /// By [`PoolId`].
    pub pools: Vec<Pool>,
    /// By [`RouteId`](super::id::RouteId), in the order of the file.
    pub routes: Vec<Route>,
}

impl Topology {
    /// The provider of an id of this topology.
    pub fn provider(&self, id: ProviderId) -> &Provider {
        &self.providers[id.index()]
    }

    /// The upstream of an id of this topology.
    pub fn upstream(&self, id: UpstreamId) -> &Upstream {
        &self.upstreams[id.index()]
    }

    /// The pool of an id of this topology.
    pub fn pool(&self, id: PoolId) -> &Pool {
        &self.pools[id.index()]
    }

    /// The provider an upstream goes through.
    pub fn provider_of(&self, id: UpstreamId) -> &Provider {
        self.provider(self.upstream(id).provider)
    }

    /// Every pool with its id.
    pub fn pools(&self) -> impl Iterator<Item = (PoolId, &Pool)> {
        self.pools.iter().enumerate().map(|(index, pool)| (PoolId::new(index), pool))
    }

    /// Every upstream with its id.
    pub fn upstreams(&self) -> impl Iterator<Item = (UpstreamId, &Upstream)> {
        self.upstreams.iter().enumerate().map(|(index, up)| (UpstreamId::new(index), up))
    }

    /// Whether two upstreams are known to share something, so that one's failure says something
    /// about the other: the same provider, or a common substrate.
    pub fn share_fate(&self, a: UpstreamId, b: UpstreamId) -> bool {
        let (pa, pb) = (self.provider_of(a), self.provider_of(b));
        self.upstream(a).provider == self.upstream(b).provider
            || pa.substrates.iter().any(|s| pb.substrates.contains(s))
    }
}

/// An organisation running an edge network, or our own origin without one.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Key in the file.
    pub name: Label,
    /// Country of the legal entity.
    pub seat: Country,
    /// The law that can reach what it carries.
    pub jurisdiction: Jurisdiction,
    /// What that rests on besides the seat.
    pub footing: Footing,
    /// An edge, or the origin itself.
    pub kind: ProviderKind,
    /// What it shares with others.
    pub substrates: Vec<Label>,
    /// What it is known to do with errors.
    pub habits: Habits,
}

/// What stands at the other end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ProviderKind {
    /// An edge network in front of the origin.
    #[default]
    Edge,
    /// Our own server, no edge in between.
    Origin,
    /// Somebody who answers by themselves, as another company's API: no origin of ours stands behind,
    /// so whatever fails there is theirs.
    Source,
}

/// One way to reach one service's origin through one provider.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// What makes it the same one after a reload.
    pub key: UpstreamKey,
    /// Through whom.
    pub provider: ProviderId,
    /// Whose.
    pub pool: PoolId,
    /// Where and how to connect.
    pub endpoint: Endpoint,
    /// Lower goes first; equal ones share by weight.
    pub preference: u16,
    /// `1..=1000`, relative to others of the same preference.
    pub weight: u16,
    /// Requests in flight, at most; what is more goes to the next one.
    pub max_in_flight: Option<NonZeroU32>,
}

/// Where and how to connect to an upstream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// Plain or TLS.
    pub scheme: Scheme,
    /// A name to resolve, or an address.
    pub host: EndpointHost,
    /// TCP port.
    pub port: u16,
    /// What to send as Host, SNI and to expect in the certificate.
    pub host_rule: HostRule,
    /// Which protocol versions to speak.
    pub http: HttpRule,
    /// Idle connections older than this are closed, not reused.
    pub idle_timeout: Duration,
    /// PEM bundle read at load; `None`: the system's roots.
    pub ca: Option<Arc<[u8]>>,
    /// Who we say we are in its TLS handshakes; `None`: nobody.
    pub identity: Option<Arc<Identity>>,
    /// How the paths of clients become its own, those of probes included.
    pub path: PathRule,
    /// What every request to it says besides, probes included.
    pub headers: HeaderRule,
}

/// How the paths of clients become one upstream's: a beginning is taken away and another put there.
/// Both end on a segment border and without a slash; empty ones change nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PathRule {
    /// What every path of the service begins with.
    pub strip: Box<str>,
    /// What the upstream has in its place.
    pub add: Box<str>,
}

impl PathRule {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.strip == self.add
    }
}

/// A certificate with its key, as PEM, checked at load to belong together.
#[derive(Eq, PartialEq)]
pub struct Identity {
    /// The certificate, then those that signed it.
    pub chain: Box<[u8]>,
    /// Its private key.
    pub key: Box<[u8]>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

/// Header fields that one upstream's requests have, or have not.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderRule {
    /// In place of whatever the client said.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Not for this upstream to see.
    pub remove: Vec<HeaderName>,
}

impl HeaderRule {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// Changes the fields of one request.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
    }
}

impl Endpoint {
    /// `host:port`, as the URL names it.
    pub fn authority(&self) -> String {
        let default_port = match self.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        let host = match &self.host {
            EndpointHost::Name(name) => name.to_string(),
            EndpointHost::Address(IpAddr::V4(v4)) => v4.to_string(),
            EndpointHost::Address(IpAddr::V6(v6)) => format!("[{v6}]"),
        };
        if self.port == default_port { host } else { format!("{host}:{}", self.port) }
    }
}

/// Transport of an upstream URL.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

/// Host part of an upstream URL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EndpointHost {
    /// Resolved off the request path.
    Name(Box<str>),
    /// Dialled as it is.
    Address(IpAddr),
}

/// Host header, SNI and certificate name of attempts at an upstream.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum HostRule {
    /// What the client asked for.
    #[default]
    Public,
    /// The host of the upstream's URL.
    Upstream,
    /// This name.
    Literal(Box<str>),
}

/// HTTP versions towards an upstream.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HttpRule {
    /// ALPN over TLS, HTTP/1.1 in cleartext.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only; by prior knowledge in cleartext.
    Http2,
}

/// The upstreams of one service, and the rules it goes by.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Key in the file; the `service` label.
    pub service: Label,
    /// The service's own rule; its routes may have others.
    pub residency: Residency,
    /// Who may carry which of its requests; see [`Topology::settle`].
    pub realms: Realms,
    /// Those that some route may use, by preference, then position in the file.
    pub upstreams: Vec<UpstreamId>,
    /// What the file lists and no route may use.
    pub barred: Vec<Barred>,
    /// How requests are attempted, judged and moved.
    pub rules: Rules,
}

/// An upstream that policy forbids: named for people, unreachable for code.
#[derive(Clone, Debug)]
pub struct Barred {
    /// Through whom it would have gone.
    pub provider: Label,
    /// The law that can reach it.
    pub jurisdiction: Jurisdiction,
    /// Why not, as `its seat is in US`.
    pub because: Box<str>,
}

/// A host and URL-prefix rule leading to one pool.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// Which hosts.
    pub host: HostPattern,
    /// Which paths: a prefix that ends on a segment border.
    pub prefix: Box<str>,
    /// Where to.
    pub pool: PoolId,
    /// Who of it may carry what comes this way.
    pub realm: RealmId,
}

/// Whether a prefix covers a path, on a segment border: `/api` covers `/api` and `/api/x`, not
/// `/apix`. The `*` of OPTIONS asks about all of a host, and so whoever has all of it.
pub fn covers(prefix: &str, url_path: &str) -> bool {
    if url_path == "*" {
        return prefix == "/";
    }
    url_path
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
}

/// Which hosts a route takes. Names are lower case, without port.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum HostPattern {
    /// Exactly this one.
    Exact(Box<str>),
    /// One label before this suffix; holds `.portal.example` for `*.portal.example`.
    Wildcard(Box<str>),
    /// Every host.
    Any,
}

impl HostPattern {
    /// Whether it takes a host (lower case, no port).
    pub fn covers(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            // One label: what stands before the first dot.
            Self::Wildcard(suffix) => {
                host.find('.').is_some_and(|dot| dot > 0 && host[dot..] == **suffix)
            }
            Self::Any => true,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Wildcard(suffix) => write!(f, "*{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}
