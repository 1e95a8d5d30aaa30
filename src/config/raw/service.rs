//! The mirror of a service and of `defaults`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::unit::{RawDuration, RawFrequency, RawRate, RawShare, RawSize};
use super::{RawCertificate, RawMarker, RawPath, any_type};
use crate::config::tree::{At, Named};

/// What is published: hosts, and the ways to reach what serves them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Service")]
pub(in crate::config) struct RawService {
    /// Which requests belong to it.
    #[schemars(required)]
    pub(in crate::config) routes: Option<At<Vec<At<RawRoute>>>>,
    /// The ways to reach it, in order of preference; each through another provider.
    #[schemars(required)]
    pub(in crate::config) upstreams: Option<At<Vec<At<RawUpstream>>>>,
    /// Where it may be served from. Default: any.
    pub(in crate::config) residency: Option<At<RawResidency>>,
    /// Qualifications that a provider must have, all of them, as `[SecNumCloud]`. Default: none.
    pub(in crate::config) require: Option<At<Vec<At<String>>>>,
    /// A header that only your origin adds, on errors too: tells the origin's fault from a
    /// provider's.
    pub(in crate::config) origin_marker: Option<At<RawMarker>>,
    /// How each upstream is asked whether it works.
    pub(in crate::config) probe: Option<At<RawProbe>>,
    /// Patience with one upstream and with one request.
    pub(in crate::config) timeouts: Option<At<RawTimeouts>>,
    /// What is tried again at another provider, and how often.
    pub(in crate::config) retry: Option<At<RawRetry>>,
    /// When an upstream is left and when it is returned to.
    pub(in crate::config) failover: Option<At<RawFailover>>,
    /// What is answered when nothing good is left.
    pub(in crate::config) all_down: Option<At<RawAllDown>>,
    /// Which clients are let in, and how often each may ask. Default: all, as often as they like.
    pub(in crate::config) access: Option<At<RawAccess>>,
    /// Keeps a client at one upstream among those of the same preference: `none`, `client-ip`, or
    /// `{ cookie: name }`. Default: none.
    pub(in crate::config) sticky: Option<At<RawSticky>>,
}

/// Every key of a service that can also stand under `defaults`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rules")]
pub(in crate::config) struct RawRules {
    /// Where services may be served from. Default: any.
    pub(in crate::config) residency: Option<At<RawResidency>>,
    /// Qualifications that a provider must have, all of them. Default: none.
    pub(in crate::config) require: Option<At<Vec<At<String>>>>,
    /// A header that only your origin adds, on errors too.
    pub(in crate::config) origin_marker: Option<At<RawMarker>>,
    /// How each upstream is asked whether it works.
    pub(in crate::config) probe: Option<At<RawProbe>>,
    /// Patience with one upstream and with one request.
    pub(in crate::config) timeouts: Option<At<RawTimeouts>>,
    /// What is tried again at another provider, and how often.
    pub(in crate::config) retry: Option<At<RawRetry>>,
    /// When an upstream is left and when it is returned to.
    pub(in crate::config) failover: Option<At<RawFailover>>,
    /// What is answered when nothing good is left.
    pub(in crate::config) all_down: Option<At<RawAllDown>>,
    /// Which clients are let in, and how often each may ask. Default: all, as often as they like.
    pub(in crate::config) access: Option<At<RawAccess>>,
    /// Keeps a client at one upstream among those of the same preference: `none`, `client-ip`, or
    /// `{ cookie: name }`. Default: none.
    pub(in crate::config) sticky: Option<At<RawSticky>>,
}

/// What keeps a client at one upstream: a word, or the cookie that does.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Sticky")]
pub(in crate::config) enum RawSticky {
    /// Nothing.
    None,
    /// Its address.
    ClientIp,
    /// A cookie of this name, which is set where it is missing.
    Cookie(At<String>),
}

/// Which clients are let in. A client is who asks, behind the trusted proxies.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Access")]
pub(in crate::config) struct RawAccess {
    /// Networks that are let in; nobody else is. Default or empty: all.
    pub(in crate::config) allow: Option<At<Vec<At<String>>>>,
    /// Networks that are not let in, even where they are allowed. Default: none.
    pub(in crate::config) deny: Option<At<Vec<At<String>>>>,
    /// How often one client may ask. Default: as often as it likes.
    pub(in crate::config) rate: Option<At<RawRateLimit>>,
}

/// How often one client may ask: an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RateLimit")]
pub(in crate::config) struct RawRateLimit {
    /// Requests in a time, as `100/s`; what is more gets 429.
    #[schemars(required)]
    pub(in crate::config) per_client: Option<At<RawFrequency>>,
    /// Requests that may come at once. Default: what `per_client` allows in its time.
    pub(in crate::config) burst: Option<At<u32>>,
}

/// Which requests belong to a service: an exact host wins over a wildcard, a longer prefix over a
/// shorter one.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Route")]
pub(in crate::config) struct RawRoute {
    /// `www.portal.example`, `*.portal.example` (one label) or `*` (any).
    #[schemars(required)]
    pub(in crate::config) host: Option<At<String>>,
    /// Beginning of the URL path, on a segment border. Default: /.
    pub(in crate::config) prefix: Option<At<String>>,
    /// Where what comes this way may be served from. Default: as the service says.
    pub(in crate::config) residency: Option<At<RawResidency>>,
    /// Qualifications that a provider must have for it. Default: as the service says.
    pub(in crate::config) require: Option<At<Vec<At<String>>>>,
}

/// Where a service may be served from. `prefer-eu`: once the first choice is left, every upstream
/// in the EU comes before any other. `eu-only`: never outside the EU, not even when all else is
/// down.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Residency")]
pub(in crate::config) enum RawResidency {
    Any,
    PreferEu,
    EuOnly,
}

/// One way to reach a service, through one provider.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Upstream")]
pub(in crate::config) struct RawUpstream {
    /// A name from `providers`.
    #[schemars(required)]
    pub(in crate::config) provider: Option<At<String>>,
    /// `https://` or `http://`, host and port; no path, see `path`.
    #[schemars(required)]
    pub(in crate::config) url: Option<At<String>>,
    /// Host, SNI and certificate name: `public` (what the client asked for), `upstream` (the
    /// url's), or a name. Default: public.
    pub(in crate::config) host: Option<At<String>>,
    /// Lower goes first; the same number shares by weight. Default: position in the list.
    pub(in crate::config) preference: Option<At<u16>>,
    /// Relative to others of the same preference, 1 to 1000. Default: 100.
    pub(in crate::config) weight: Option<At<u16>>,
    /// `auto` (chosen at the TLS handshake), 1 or 2. Default: auto.
    pub(in crate::config) http: Option<At<RawHttp>>,
    /// Requests in flight, at most, 1 to 1000000; what is more goes to the next one. Default: no limit.
    pub(in crate::config) max_in_flight: Option<At<u32>>,
    /// Idle connections older than this are closed; keep it below the provider's own. Default: 60s.
    pub(in crate::config) idle_timeout: Option<At<RawDuration>>,
    /// PEM file of the authorities that may sign its certificate. Default: the system's.
    pub(in crate::config) ca_file: Option<At<String>>,
    /// Who we are to it (mutual TLS); both files are read again when they change. Default: nobody.
    pub(in crate::config) client_certificate: Option<At<RawCertificate>>,
    /// How the paths of clients become its own. Default: as they are.
    pub(in crate::config) path: Option<At<RawPath>>,
    /// Header fields of its requests, probes included.
    pub(in crate::config) headers: Option<At<RawHeaders>>,
}

/// Header fields of the requests to one upstream.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Headers")]
pub(in crate::config) struct RawHeaders {
    /// Fields with their values, in place of the client's; `${file:…}` keeps a secret out of this file.
    pub(in crate::config) set: Option<At<Named<String>>>,
    /// Fields that it does not get to see.
    pub(in crate::config) remove: Option<At<Vec<At<String>>>>,
}

/// HTTP versions towards an upstream.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[schemars(extend("enum" = ["auto", "1", "2", 1, 2]), transform = any_type)]
#[schemars(rename = "Http")]
pub(in crate::config) enum RawHttp {
    #[serde(rename = "auto")]
    Auto,
    #[serde(rename = "1")]
    Http1,
    #[serde(rename = "2")]
    Http2,
}

/// How each upstream is asked whether it works.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Probe")]
pub(in crate::config) struct RawProbe {
    /// Path and query of a real page: a static health file stays green in real outages. Default: /.
    pub(in crate::config) path: Option<At<String>>,
    /// Instead of a page, the health of a gRPC server (`grpc.health.v1.Health/Check`): `off`, `server` (as a
    /// whole), or `{ service: name }`. Default: off.
    pub(in crate::config) grpc: Option<At<RawGrpc>>,
    /// Between two probes of one upstream, ± 20 %. Default: 5s.
    pub(in crate::config) interval: Option<At<RawDuration>>,
    /// At most `interval`. Default: 2s.
    pub(in crate::config) timeout: Option<At<RawDuration>>,
    /// What a good answer is; all of it must hold.
    pub(in crate::config) expect: Option<At<RawExpect>>,
    /// URL of the origin itself, only ever probed: tells a provider's fault from the origin's.
    pub(in crate::config) origin: Option<At<String>>,
}

/// Whether the health of a gRPC server is asked for, and which.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Grpc")]
pub(in crate::config) enum RawGrpc {
    /// A page is asked for.
    Off,
    /// Of the server as a whole.
    Server,
    /// Of one service of it, as `portal.v1.Orders`.
    Service(At<String>),
}

/// What a good answer to a probe is; all of it must hold.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Expect")]
pub(in crate::config) struct RawExpect {
    /// Status codes and ranges of them, as `200` and `200-399`. Default: [200-399].
    #[schemars(schema_with = "statuses")]
    pub(in crate::config) status: Option<At<Vec<At<String>>>>,
    /// Text somewhere in the first 64 KiB.
    pub(in crate::config) body_contains: Option<At<String>>,
    /// Headers with exactly these values.
    pub(in crate::config) headers: Option<At<Named<String>>>,
}

/// Patience with one upstream and with one request.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Timeouts")]
pub(in crate::config) struct RawTimeouts {
    /// TCP and TLS, one attempt. Default: 1s.
    pub(in crate::config) connect: Option<At<RawDuration>>,
    /// To the head of the answer, one attempt. Default: 10s.
    pub(in crate::config) head: Option<At<RawDuration>>,
    /// Longest silence inside a body while we are ready to read. Default: 15s.
    pub(in crate::config) body_stall: Option<At<RawDuration>>,
    /// Least bytes a second of a body, mean of 10 s; `0B/s` turns it off. Default: 240B/s.
    pub(in crate::config) body_min_rate: Option<At<RawRate>>,
    /// To the head of the answer, all attempts together. Default: 60s.
    pub(in crate::config) request: Option<At<RawDuration>>,
}

/// What is tried again at another provider, and how often.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Retry")]
pub(in crate::config) struct RawRetry {
    /// Extra attempts of one request, 0 to 3; 0 turns retries off. Default: 1.
    pub(in crate::config) attempts: Option<At<u8>>,
    /// Share of the requests of the last 10 s. Default: 20%.
    pub(in crate::config) budget: Option<At<RawShare>>,
    /// Retries a second that are always allowed. Default: 3.
    pub(in crate::config) min_per_second: Option<At<u16>>,
    /// Largest request body that is kept for a second attempt. Default: 64KiB.
    pub(in crate::config) replay_body: Option<At<RawSize>>,
    /// Methods that may be tried again after the first upstream may have acted on them. Default:
    /// [GET, HEAD, OPTIONS].
    pub(in crate::config) methods: Option<At<Vec<At<String>>>>,
}

/// When an upstream is left and when it is returned to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Failover")]
pub(in crate::config) struct RawFailover {
    /// `observe`: decide, log and count, but leave traffic alone. Default: enforce.
    pub(in crate::config) mode: Option<At<RawMode>>,
    /// How much evidence it takes to leave. Default: balanced.
    pub(in crate::config) sensitivity: Option<At<RawSensitivity>>,
    /// Length of the first ejection. Default: 30s.
    pub(in crate::config) hold: Option<At<RawDuration>>,
    /// Length of the longest one. Default: 15m.
    pub(in crate::config) max_hold: Option<At<RawDuration>>,
    /// Least time on the fallback; while one outside the EU serves, `prefer-eu` lets those in the EU
    /// return sooner. Default: 10m.
    pub(in crate::config) min_stay: Option<At<RawDuration>>,
    /// From the first share of a readmitted upstream to its full one. Default: 120s.
    pub(in crate::config) ramp: Option<At<RawDuration>>,
    /// Share of safe requests without cookie and authorization that keeps a standby warm. 0 = off.
    /// Default: 1%, and at least one in two seconds.
    pub(in crate::config) standby_trickle: Option<At<RawShare>>,
}

/// Whether decisions move traffic.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Mode")]
pub(in crate::config) enum RawMode {
    Enforce,
    Observe,
}

/// How much evidence it takes to leave an upstream.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Sensitivity")]
pub(in crate::config) enum RawSensitivity {
    Cautious,
    Balanced,
    Fast,
}

/// What is answered when nothing good is left.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AllDown")]
pub(in crate::config) struct RawAllDown {
    /// `least-bad`: ask the best of the bad and relay what it says; `page`: the page instead of our
    /// own 502 and 504. Where policy leaves nothing it is always the page. Default: least-bad.
    pub(in crate::config) serve: Option<At<RawServe>>,
    /// The page.
    pub(in crate::config) page: Option<At<RawPage>>,
}

/// What is served when every permitted upstream is bad.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Serve")]
pub(in crate::config) enum RawServe {
    LeastBad,
    Page,
}

/// A ready answer.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Page")]
pub(in crate::config) struct RawPage {
    /// 400 to 599. Default: 503.
    pub(in crate::config) status: Option<At<u16>>,
    /// File that holds the body, at most 1 MiB. Default: one line of text.
    pub(in crate::config) body_file: Option<At<String>>,
    /// Value of Retry-After, in whole seconds. Default: 60s.
    pub(in crate::config) retry_after: Option<At<RawDuration>>,
}

/// `200` is a number, `200-399` is text.
fn statuses(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "description": "Status codes and ranges of them, as 200 and 200-399. Default: [200-399].",
        "items": {
            "type": ["string", "integer"],
            "pattern": "^[1-5][0-9][0-9](-[1-5][0-9][0-9])?$",
        },
    })
}
