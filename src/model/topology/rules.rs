//! The rules a service goes by: how its requests are attempted, judged and moved.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::Endpoint;
use crate::model::allowance::Allowance;
use crate::model::client::Networks;
use crate::model::id::UpstreamId;
use crate::model::marker::MarkerKeys;
use crate::model::unit::Permille;

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
    /// Which clients are let in, and how often.
    pub access: Access,
    /// Whether a client stays at one upstream among those that share.
    pub sticky: Sticky,
}

/// Whether a client stays at one upstream among those that share a service's requests.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Sticky {
    /// It does not.
    #[default]
    None,
    /// By its address.
    ClientIp,
    /// By a cookie of this name, which is set where it is missing.
    Cookie(Box<str>),
}

/// Which clients are let in, and how often each may ask. A client is who asks, behind the trusted
/// proxies.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Nobody else, where it is given.
    pub allow: Option<Networks>,
    /// None of these, even where they are allowed.
    pub deny: Networks,
    /// How often one client may ask; `None`: as often as it likes.
    pub rate: Option<Allowance>,
}

impl Access {
    /// Whether both let the same clients in, as they are written.
    pub fn lets_in_as(&self, other: &Self) -> bool {
        self.allow == other.allow && self.deny == other.deny
    }

    /// Whether it matters who the client is.
    pub fn asks_who(&self) -> bool {
        self.allow.is_some() || !self.deny.is_empty() || self.rate.is_some()
    }

    /// Whether a client is let in at all.
    pub fn admits(&self, client: IpAddr) -> bool {
        !self.deny.contains(client)
            && self.allow.as_ref().is_none_or(|allowed| allowed.contains(client))
    }
}

/// A header that only the origin adds, on errors too.
#[derive(Clone, Debug)]
pub struct MarkerRule {
    /// Its name.
    pub header: HeaderName,
    /// What it has to hold.
    pub proof: MarkerProof,
}

/// What an origin marker has to hold.
#[derive(Clone, Debug)]
pub enum MarkerProof {
    /// Exactly this.
    Value(HeaderValue),
    /// Time and host, signed.
    Signed(SignedMarker),
}

/// Who may sign an origin marker, for whom, and for how long that is worth something.
#[derive(Clone, Debug)]
pub struct SignedMarker {
    /// Each of them is believed.
    pub keys: MarkerKeys,
    /// What is signed, in lower case and without port; `None`: the host that the client asked for.
    pub host: Option<Box<str>>,
    /// Of one on an error, and on any answer that does not say that a cache had it.
    pub max_age: Duration,
}

/// What a probe asks for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Asks {
    /// The page of its rule.
    #[default]
    Page,
    /// The health of this service of gRPC (`grpc.health.v1.Health/Check`); of the whole server where the name
    /// is empty.
    GrpcHealth(Box<str>),
}

/// How to ask each upstream whether it works.
#[derive(Clone, Debug)]
pub struct ProbeRule {
    /// What is asked for.
    pub asks: Asks,
    /// Path and query of a real page.
    pub path: Box<str>,
    /// Between two probes of one upstream, ± 20 %.
    pub interval: Duration,
    /// From dialling to the last byte that is read.
    pub timeout: Duration,
    /// What a good answer is.
    pub expect: Expect,
    /// Host header of probes: the first host of the service's routes that all of its upstreams may carry, or
    /// simply the first.
    pub host: Option<Box<str>>,
    /// In its place for an upstream, where there is none that all may carry.
    pub hosts: Vec<(UpstreamId, Box<str>)>,
    /// The origin itself, only ever probed.
    pub origin: Option<OriginProbe>,
}

impl Default for ProbeRule {
    fn default() -> Self {
        Self {
            asks: Asks::Page,
            path: "/".into(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            expect: Expect::default(),
            host: None,
            hosts: Vec::new(),
            origin: None,
        }
    }
}

/// The path of a health check of gRPC (its health checking protocol, version 1).
pub const GRPC_HEALTH: &str = "/grpc.health.v1.Health/Check";

impl ProbeRule {
    /// The path that a probe asks for, without query.
    pub fn page(&self) -> &str {
        match &self.asks {
            Asks::Page => self.path.split('?').next().unwrap_or_default(),
            Asks::GrpcHealth(_) => GRPC_HEALTH,
        }
    }

    /// What an upstream is asked for as Host; `None`: its own.
    pub fn host_for(&self, upstream: UpstreamId) -> Option<&str> {
        let own = self.hosts.iter().find(|(id, _)| *id == upstream).map(|(_, host)| host);
        own.or(self.host.as_ref()).map(|host| &**host)
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
    /// Least share of the safe requests of nobody in particular that keeps a standby warm; 0 = off.
    pub standby_trickle: Permille,
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
            standby_trickle: Permille::from_fraction(0.01),
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

impl FailoverMode {
    /// As it is typed in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
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
