//! What exists: providers, upstreams, pools, routes and the rules a service goes by. Immutable,
//! cross-references already resolved. One value per valid configuration file.
//!
//! What policy forbids does not exist here: an upstream outside the EU of an `eu-only` service has
//! no [`UpstreamId`], so no plan, probe, look-up or retry can name it. It is listed as [`Barred`]
//! for people to see.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::id::{Label, PoolId, ProviderId, UpstreamId, UpstreamKey};
use super::place::{Country, Jurisdiction, Residency};
use super::unit::Permille;

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
    /// The law it is under.
    pub jurisdiction: Jurisdiction,
    /// An edge, or the origin itself.
    pub kind: ProviderKind,
    /// What it shares with others.
    pub substrates: Vec<Label>,
}

/// What stands at the other end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ProviderKind {
    /// An edge network in front of the origin.
    #[default]
    Edge,
    /// Our own server, no edge in between.
    Origin,
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
    /// The rule that decided which upstreams exist here.
    pub residency: Residency,
    /// Permitted ones only, by preference, then position in the file.
    pub upstreams: Vec<UpstreamId>,
    /// What the file lists and policy forbids.
    pub barred: Vec<Barred>,
    /// How requests are attempted, judged and moved.
    pub rules: Rules,
}

/// An upstream that policy forbids: named for people, unreachable for code.
#[derive(Clone, Debug)]
pub struct Barred {
    /// Through whom it would have gone.
    pub provider: Label,
    /// Why not.
    pub jurisdiction: Jurisdiction,
}

/// Every service key that is not a route or an upstream.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// How to tell that the origin spoke.
    pub marker: Option<MarkerRule>,
    /// How to ask each upstream whether it works.
    pub probe: ProbeRule,
    /// Patience.
    pub timeouts: Timeouts,
    /// What is tried again, and how often.
    pub retry: RetryRule,
    /// When to leave and when to return.
    pub failover: FailoverRule,
    /// What to answer when nothing is left.
    pub all_down: AllDown,
}

/// A header that only the origin adds, on errors too.
#[derive(Clone, Debug)]
pub struct MarkerRule {
    /// Its name.
    pub header: HeaderName,
    /// Its exact value.
    pub value: HeaderValue,
}

/// How to ask each upstream whether it works.
#[derive(Clone, Debug)]
pub struct ProbeRule {
    /// Path and query of a real page.
    pub path: Box<str>,
    /// Between two probes of one upstream, ± 20 %.
    pub interval: Duration,
    /// From dialling to the last byte that is read.
    pub timeout: Duration,
    /// What a good answer is.
    pub expect: Expect,
    /// Host header of probes: a host of the service's first route.
    pub host: Option<Box<str>>,
    /// The origin itself, only ever probed.
    pub origin: Option<OriginProbe>,
}

impl Default for ProbeRule {
    fn default() -> Self {
        Self {
            path: "/".into(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            expect: Expect::default(),
            host: None,
            origin: None,
        }
    }
}

/// What a good answer to a probe is; all of it must hold.
#[derive(Clone, Debug)]
pub struct Expect {
    /// Any of these.
    pub status: Vec<RangeInclusive<u16>>,
    /// Somewhere in the first 64 KiB.
    pub body_contains: Option<Box<str>>,
    /// Exactly these values.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Default for Expect {
    fn default() -> Self {
        Self { status: vec![200..=399], body_contains: None, headers: Vec::new() }
    }
}

/// An URL of the origin itself.
#[derive(Clone, Debug)]
pub struct OriginProbe {
    /// Where it is; its host rule is the URL's own host.
    pub endpoint: Endpoint,
    /// Path and query.
    pub path: Box<str>,
}

/// Patience with one upstream, and with one request.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// TCP and TLS, one attempt.
    pub connect: Duration,
    /// From the last byte of a request without body, or of its head, to the answer's head.
    pub head: Duration,
    /// Longest silence inside a body while we are ready to read.
    pub body_stall: Duration,
    /// Bytes a second, mean of 10 s while we are ready to read; 0 = off.
    pub body_min_rate: u64,
    /// To the answer's head, all attempts together.
    pub request: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            head: Duration::from_secs(10),
            body_stall: Duration::from_secs(15),
            body_min_rate: 240,
            request: Duration::from_secs(60),
        }
    }
}

/// What is tried again, and how often.
#[derive(Clone, Debug)]
pub struct RetryRule {
    /// Extra attempts of one request; 0 = off.
    pub attempts: u8,
    /// Of the requests of the last 10 s.
    pub budget: Permille,
    /// Retries a second that are always allowed, so that a quiet service can retry at all.
    pub min_per_second: u16,
    /// Largest request body kept for a second attempt, in bytes.
    pub replay_body: usize,
    /// Methods that may be tried again after the first may have acted on them.
    pub methods: Vec<Method>,
}

impl Default for RetryRule {
    fn default() -> Self {
        Self {
            attempts: 1,
            budget: Permille::from_fraction(0.2),
            min_per_second: 3,
            replay_body: 64 * 1024,
            methods: vec![Method::GET, Method::HEAD, Method::OPTIONS],
        }
    }
}

/// When to leave an upstream and when to return.
#[derive(Clone, Copy, Debug)]
pub struct FailoverRule {
    /// Whether decisions move traffic.
    pub mode: FailoverMode,
    /// How much evidence a trip takes.
    pub sensitivity: Sensitivity,
    /// First ejection.
    pub hold: Duration,
    /// Longest ejection.
    pub max_hold: Duration,
    /// Least time on the fallback.
    pub min_stay: Duration,
    /// From the first step of the ramp to the full share.
    pub ramp: Duration,
}

impl Default for FailoverRule {
    fn default() -> Self {
        Self {
            mode: FailoverMode::default(),
            sensitivity: Sensitivity::default(),
            hold: Duration::from_secs(30),
            max_hold: Duration::from_secs(15 * 60),
            min_stay: Duration::from_secs(10 * 60),
            ramp: Duration::from_secs(120),
        }
    }
}

/// Whether decisions move traffic.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FailoverMode {
    /// They do.
    #[default]
    Enforce,
    /// Decide, log and count, but leave traffic alone.
    Observe,
}

/// How much evidence a trip takes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Sensitivity {
    /// Twice the dwell, a threshold higher by 4.
    Cautious,
    /// At most one false alarm in 30 days per upstream at any traffic.
    #[default]
    Balanced,
    /// Half the dwell, a threshold lower by 3.
    Fast,
}

/// What to answer when health leaves nothing good, or policy leaves nothing.
#[derive(Clone, Debug, Default)]
pub struct AllDown {
    /// When every permitted upstream is bad.
    pub serve: AllDownServe,
    /// The page itself; also the answer where policy leaves nothing.
    pub page: Page,
}

/// When every permitted upstream is bad.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AllDownServe {
    /// Try the least bad, relay what it says.
    #[default]
    LeastBad,
    /// Try the least bad; our own 502 and 504 become the page.
    Page,
}

/// A ready answer.
#[derive(Clone, Debug)]
pub struct Page {
    /// 4xx or 5xx.
    pub status: StatusCode,
    /// Read at load; at most 1 MiB.
    pub body: Arc<[u8]>,
    /// By the file's ending; `text/plain; charset=utf-8` without one.
    pub content_type: HeaderValue,
    /// `Retry-After`, in whole seconds.
    pub retry_after: Duration,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            body: Arc::from(&b"This service is not available at the moment.\n"[..]),
            content_type: HeaderValue::from_static("text/plain; charset=utf-8"),
            retry_after: Duration::from_secs(60),
        }
    }
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
