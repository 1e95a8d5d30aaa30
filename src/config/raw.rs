//! The mirror of the file: what can be typed, and nothing about what it means.
//!
//! The comments here become the descriptions of `bascule schema`. Every key is optional in the
//! mirror, so that one missing key does not hide the other mistakes; `lower` asks for the needed
//! ones.

use schemars::JsonSchema;
use serde::Deserialize;

use super::tree::{At, Named};

/// The configuration of bascule: where clients connect, which providers there are, and which
/// services are reached through them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "bascule.yaml")]
pub(super) struct RawFile {
    /// Where clients connect.
    #[schemars(required)]
    pub(super) listeners: Option<At<Vec<At<RawListener>>>>,
    /// Networks whose X-Forwarded-For is believed: the proxies that stand before this one.
    pub(super) trusted_proxies: Option<At<Vec<At<String>>>>,
    /// Where the operator connects: status and metrics. Default: nowhere.
    pub(super) admin: Option<At<RawAdmin>>,
    /// Files that hold more `providers:` and `services:`; `*` stands for any part of a file's name.
    pub(super) include: Option<At<Vec<At<String>>>>,
    /// How the names of upstreams become addresses.
    pub(super) resolver: Option<At<RawResolver>>,
    /// Bounds on what clients can take.
    pub(super) limits: Option<At<RawLimits>>,
    /// Worker threads. Default: 0, one per core.
    pub(super) workers: Option<At<u16>>,
    /// The organisations through which services are reached, by a name of your choice.
    pub(super) providers: Option<At<Named<RawProvider>>>,
    /// Any key of a service but `routes` and `upstreams`, for every service that does not say
    /// otherwise.
    pub(super) defaults: Option<At<RawRules>>,
    /// What is published, by a name of your choice.
    pub(super) services: Option<At<Named<RawService>>>,
}

/// An included file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Included")]
pub(super) struct RawIncluded {
    /// More providers.
    pub(super) providers: Option<At<Named<RawProvider>>>,
    /// More services.
    pub(super) services: Option<At<Named<RawService>>>,
}

/// Where clients connect.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Listener")]
pub(super) struct RawListener {
    /// IP address and port, as `0.0.0.0:8080`; `[::]:8080` takes IPv4 and IPv6.
    #[schemars(required)]
    pub(super) address: Option<At<String>>,
    /// Default: cleartext.
    pub(super) tls: Option<At<RawListenerTls>>,
}

/// TLS towards clients.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ListenerTls")]
pub(super) struct RawListenerTls {
    /// Chosen by the name that the client asks for; the first one where none fits.
    #[schemars(required)]
    pub(super) certificates: Option<At<Vec<At<RawCertificate>>>>,
    /// Least version. Default: 1.2.
    pub(super) min_version: Option<At<RawTlsVersion>>,
}

/// A certificate with its key; both are read again when the files change.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Certificate")]
pub(super) struct RawCertificate {
    /// PEM file: the certificate, then those that signed it.
    #[schemars(required)]
    pub(super) certificate: Option<At<String>>,
    /// PEM file: its private key.
    #[schemars(required)]
    pub(super) key: Option<At<String>>,
}

/// Least TLS version.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[schemars(extend("enum" = ["1.2", "1.3", 1.2, 1.3]), transform = any_type)]
#[schemars(rename = "TlsVersion")]
pub(super) enum RawTlsVersion {
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

/// Where the operator connects.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Admin")]
pub(super) struct RawAdmin {
    /// IP address and port, as `127.0.0.1:9180`.
    #[schemars(required)]
    pub(super) address: Option<At<String>>,
    /// File that holds the bearer token; needed on any address that is not loopback.
    pub(super) token_file: Option<At<String>>,
}

/// How the names of upstreams become addresses.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Resolver")]
pub(super) struct RawResolver {
    /// `system` alone, or servers as `udp://192.0.2.53`. Default: system.
    pub(super) servers: Option<At<Vec<At<String>>>>,
    /// How long the last good addresses are kept when names cannot be looked up. Default: 24h.
    pub(super) stale: Option<At<RawDuration>>,
}

/// Bounds on what clients can take.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Limits")]
pub(super) struct RawLimits {
    /// Client connections of the whole process. Default: 20000.
    pub(super) max_connections: Option<At<u32>>,
    /// From the first byte of a request's head to its last. Default: 10s.
    pub(super) header_read_timeout: Option<At<RawDuration>>,
    /// The whole head of a request. Default: 64KiB.
    pub(super) max_header_bytes: Option<At<RawSize>>,
    /// The whole body of a request. Default: 1GiB.
    pub(super) max_request_body: Option<At<RawSize>>,
    /// Longest silence of a client's connection between two requests. Default: 75s.
    pub(super) idle_timeout: Option<At<RawDuration>>,
    /// How long requests in flight may take to finish at shutdown. Default: 30s.
    pub(super) drain: Option<At<RawDuration>>,
}

/// An organisation through which services are reached.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Provider")]
pub(super) struct RawProvider {
    /// ISO 3166 country of its legal entity, as `FR`; decides whether it is in the EU.
    #[schemars(required)]
    pub(super) seat: Option<At<String>>,
    /// `origin`: your own server with no edge in between. Default: edge.
    pub(super) kind: Option<At<RawProviderKind>>,
    /// What it shares with others (a network, an owner, a data centre), by names of your choice:
    /// providers with a common one are never counted as independent.
    pub(super) substrate: Option<At<Vec<At<String>>>>,
}

/// What stands at the other end.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "ProviderKind")]
pub(super) enum RawProviderKind {
    Edge,
    Origin,
}

/// What is published: hosts, and the ways to reach what serves them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Service")]
pub(super) struct RawService {
    /// Which requests belong to it.
    #[schemars(required)]
    pub(super) routes: Option<At<Vec<At<RawRoute>>>>,
    /// The ways to reach it, in order of preference; each through another provider.
    #[schemars(required)]
    pub(super) upstreams: Option<At<Vec<At<RawUpstream>>>>,
    /// Where it may be served from. Default: any.
    pub(super) residency: Option<At<RawResidency>>,
    /// A header that only your origin adds, on errors too: tells the origin's fault from a
    /// provider's.
    pub(super) origin_marker: Option<At<RawMarker>>,
    /// How each upstream is asked whether it works.
    pub(super) probe: Option<At<RawProbe>>,
    /// Patience with one upstream and with one request.
    pub(super) timeouts: Option<At<RawTimeouts>>,
    /// What is tried again at another provider, and how often.
    pub(super) retry: Option<At<RawRetry>>,
    /// When an upstream is left and when it is returned to.
    pub(super) failover: Option<At<RawFailover>>,
    /// What is answered when nothing good is left.
    pub(super) all_down: Option<At<RawAllDown>>,
}

/// Every key of a service that can also stand under `defaults`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rules")]
pub(super) struct RawRules {
    /// Where services may be served from. Default: any.
    pub(super) residency: Option<At<RawResidency>>,
    /// A header that only your origin adds, on errors too.
    pub(super) origin_marker: Option<At<RawMarker>>,
    /// How each upstream is asked whether it works.
    pub(super) probe: Option<At<RawProbe>>,
    /// Patience with one upstream and with one request.
    pub(super) timeouts: Option<At<RawTimeouts>>,
    /// What is tried again at another provider, and how often.
    pub(super) retry: Option<At<RawRetry>>,
    /// When an upstream is left and when it is returned to.
    pub(super) failover: Option<At<RawFailover>>,
    /// What is answered when nothing good is left.
    pub(super) all_down: Option<At<RawAllDown>>,
}

/// Which requests belong to a service: an exact host wins over a wildcard, a longer prefix over a
/// shorter one.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Route")]
pub(super) struct RawRoute {
    /// `www.portal.example`, `*.portal.example` (one label) or `*` (any).
    #[schemars(required)]
    pub(super) host: Option<At<String>>,
    /// Beginning of the URL path, on a segment border. Default: /.
    pub(super) prefix: Option<At<String>>,
}

/// Where a service may be served from. `prefer-eu`: once the first choice is left, every upstream
/// in the EU comes before any other. `eu-only`: never outside the EU, not even when all else is
/// down.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Residency")]
pub(super) enum RawResidency {
    Any,
    PreferEu,
    EuOnly,
}

/// One way to reach a service, through one provider.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Upstream")]
pub(super) struct RawUpstream {
    /// A name from `providers`.
    #[schemars(required)]
    pub(super) provider: Option<At<String>>,
    /// `https://` or `http://`, host and port; no path.
    #[schemars(required)]
    pub(super) url: Option<At<String>>,
    /// Host, SNI and certificate name: `public` (what the client asked for), `upstream` (the
    /// url's), or a name. Default: public.
    pub(super) host: Option<At<String>>,
    /// Lower goes first; the same number shares by weight. Default: position in the list.
    pub(super) preference: Option<At<u16>>,
    /// Relative to others of the same preference, 1 to 1000. Default: 100.
    pub(super) weight: Option<At<u16>>,
    /// `auto` (chosen at the TLS handshake), 1 or 2. Default: auto.
    pub(super) http: Option<At<RawHttp>>,
    /// Idle connections older than this are closed; keep it below the provider's own. Default: 60s.
    pub(super) idle_timeout: Option<At<RawDuration>>,
    /// PEM file of the authorities that may sign its certificate. Default: the system's.
    pub(super) ca_file: Option<At<String>>,
}

/// HTTP versions towards an upstream.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[schemars(extend("enum" = ["auto", "1", "2", 1, 2]), transform = any_type)]
#[schemars(rename = "Http")]
pub(super) enum RawHttp {
    #[serde(rename = "auto")]
    Auto,
    #[serde(rename = "1")]
    Http1,
    #[serde(rename = "2")]
    Http2,
}

/// A header that only the origin adds, on errors too.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Marker")]
pub(super) struct RawMarker {
    /// Its name.
    #[schemars(required)]
    pub(super) header: Option<At<String>>,
    /// Its exact value; `${file:…}` keeps it out of this file.
    #[schemars(required)]
    pub(super) value: Option<At<String>>,
}

/// How each upstream is asked whether it works.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Probe")]
pub(super) struct RawProbe {
    /// Path and query of a real page: a static health file stays green in real outages. Default: /.
    pub(super) path: Option<At<String>>,
    /// Between two probes of one upstream, ± 20 %. Default: 5s.
    pub(super) interval: Option<At<RawDuration>>,
    /// At most `interval`. Default: 2s.
    pub(super) timeout: Option<At<RawDuration>>,
    /// What a good answer is; all of it must hold.
    pub(super) expect: Option<At<RawExpect>>,
    /// URL of the origin itself, only ever probed: tells a provider's fault from the origin's.
    pub(super) origin: Option<At<String>>,
}

/// What a good answer to a probe is; all of it must hold.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Expect")]
pub(super) struct RawExpect {
    /// Status codes and ranges of them, as `200` and `200-399`. Default: [200-399].
    #[schemars(schema_with = "statuses")]
    pub(super) status: Option<At<Vec<At<String>>>>,
    /// Text somewhere in the first 64 KiB.
    pub(super) body_contains: Option<At<String>>,
    /// Headers with exactly these values.
    pub(super) headers: Option<At<Named<String>>>,
}

/// Patience with one upstream and with one request.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Timeouts")]
pub(super) struct RawTimeouts {
    /// TCP and TLS, one attempt. Default: 1s.
    pub(super) connect: Option<At<RawDuration>>,
    /// To the head of the answer, one attempt. Default: 10s.
    pub(super) head: Option<At<RawDuration>>,
    /// Longest silence inside a body while we are ready to read. Default: 15s.
    pub(super) body_stall: Option<At<RawDuration>>,
    /// Least bytes a second of a body, mean of 10 s; `0B/s` turns it off. Default: 240B/s.
    pub(super) body_min_rate: Option<At<RawRate>>,
    /// To the head of the answer, all attempts together. Default: 60s.
    pub(super) request: Option<At<RawDuration>>,
}

/// What is tried again at another provider, and how often.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Retry")]
pub(super) struct RawRetry {
    /// Extra attempts of one request, 0 to 3; 0 turns retries off. Default: 1.
    pub(super) attempts: Option<At<u8>>,
    /// Share of the requests of the last 10 s. Default: 20%.
    pub(super) budget: Option<At<RawShare>>,
    /// Retries a second that are always allowed. Default: 3.
    pub(super) min_per_second: Option<At<u16>>,
    /// Largest request body that is kept for a second attempt. Default: 64KiB.
    pub(super) replay_body: Option<At<RawSize>>,
    /// Methods that may be tried again after the first upstream may have acted on them. Default:
    /// [GET, HEAD, OPTIONS].
    pub(super) methods: Option<At<Vec<At<String>>>>,
}

/// When an upstream is left and when it is returned to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Failover")]
pub(super) struct RawFailover {
    /// `observe`: decide, log and count, but leave traffic alone. Default: enforce.
    pub(super) mode: Option<At<RawMode>>,
    /// How much evidence it takes to leave. Default: balanced.
    pub(super) sensitivity: Option<At<RawSensitivity>>,
    /// Length of the first ejection. Default: 30s.
    pub(super) hold: Option<At<RawDuration>>,
    /// Length of the longest one. Default: 15m.
    pub(super) max_hold: Option<At<RawDuration>>,
    /// Least time on the fallback. Default: 10m.
    pub(super) min_stay: Option<At<RawDuration>>,
    /// From the first share of a readmitted upstream to its full one. Default: 120s.
    pub(super) ramp: Option<At<RawDuration>>,
}

/// Whether decisions move traffic.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Mode")]
pub(super) enum RawMode {
    Enforce,
    Observe,
}

/// How much evidence it takes to leave an upstream.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Sensitivity")]
pub(super) enum RawSensitivity {
    Cautious,
    Balanced,
    Fast,
}

/// What is answered when nothing good is left.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AllDown")]
pub(super) struct RawAllDown {
    /// `least-bad`: ask the best of the bad and relay what it says; `page`: the page instead of our
    /// own 502 and 504. Where policy leaves nothing it is always the page. Default: least-bad.
    pub(super) serve: Option<At<RawServe>>,
    /// The page.
    pub(super) page: Option<At<RawPage>>,
}

/// What is served when every permitted upstream is bad.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Serve")]
pub(super) enum RawServe {
    LeastBad,
    Page,
}

/// A ready answer.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Page")]
pub(super) struct RawPage {
    /// 400 to 599. Default: 503.
    pub(super) status: Option<At<u16>>,
    /// File that holds the body, at most 1 MiB. Default: one line of text.
    pub(super) body_file: Option<At<String>>,
    /// Value of Retry-After, in whole seconds. Default: 60s.
    pub(super) retry_after: Option<At<RawDuration>>,
}

/// A duration: `250ms`, `5s`, `15m` or `24h`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("pattern" = "^[0-9]+(ms|s|m|h)$"))]
pub(super) struct RawDuration(pub(super) String);

/// A size: `512B`, `64KiB`, `10MiB` or `1GiB`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("pattern" = "^[0-9]+(B|KiB|MiB|GiB|TiB)$"))]
pub(super) struct RawSize(pub(super) String);

/// Bytes a second: `240B/s` or `1KiB/s`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("pattern" = "^[0-9]+(B|KiB|MiB|GiB)/s$"))]
pub(super) struct RawRate(pub(super) String);

/// A share: `20%` or `0.5%`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("pattern" = "^[0-9]+([.][0-9])?%$"))]
pub(super) struct RawShare(pub(super) String);

/// `1.2` unquoted is a number in YAML, and accepted all the same: the schema says so too.
fn any_type(schema: &mut schemars::Schema) {
    schema.remove("type");
    schema.remove("oneOf");
}

/// `200` is a number, `200-399` is text.
fn statuses(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": ["array", "null"],
        "description": "Status codes and ranges of them, as 200 and 200-399. Default: [200-399].",
        "items": {
            "type": ["string", "integer"],
            "pattern": "^[1-5][0-9][0-9](-[1-5][0-9][0-9])?$",
        },
    })
}
