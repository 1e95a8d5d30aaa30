//! The mirror of the file: what can be typed, and nothing about what it means.
//!
//! The comments here become the descriptions of `bascule schema`. Every key is optional in the
//! mirror, so that one missing key does not hide the other mistakes; `lower` asks for the needed
//! ones.

use schemars::JsonSchema;
use serde::Deserialize;

use super::tree::{At, Named};

mod marker;
mod service;
mod traces;
mod unit;

pub(super) use marker::{RawMarker, RawPath};
pub(super) use service::{
    RawAccess, RawAllDown, RawExpect, RawFailover, RawGrpc, RawHeaders, RawHttp, RawMode, RawPage,
    RawProbe, RawRateLimit, RawResidency, RawRetry, RawRoute, RawRules, RawSensitivity, RawServe,
    RawService, RawSticky, RawTimeouts, RawUpstream,
};
pub(super) use traces::RawTraces;
pub(super) use unit::{RawDuration, RawFrequency, RawRate, RawShare, RawSize};

/// The configuration of bascule: where clients connect, which providers there are, and which
/// services are reached through them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "bascule.yaml")]
pub(super) struct RawFile {
    /// Where clients connect.
    #[schemars(required)]
    pub(super) listeners: Option<At<Vec<At<RawListener>>>>,
    /// Networks whose X-Forwarded-For and PROXY header are believed: the proxies that stand before this
    /// one.
    pub(super) trusted_proxies: Option<At<Vec<At<String>>>>,
    /// Where the operator connects: status and metrics. Default: nowhere.
    pub(super) admin: Option<At<RawAdmin>>,
    /// Folder for what outlives a restart: journal, health, orders, last good addresses. Default:
    /// nothing outlives it.
    pub(super) state_dir: Option<At<String>>,
    /// Files that hold more `providers:` and `services:`; `*` stands for any part of a file's name.
    pub(super) include: Option<At<Vec<At<String>>>>,
    /// How the names of upstreams become addresses.
    pub(super) resolver: Option<At<RawResolver>>,
    /// Hosts that have nothing to do with any provider, as `192.0.2.53:53` or `www.example:443`: when
    /// independent upstreams fail and none of these takes a connection, the fault is taken for our own
    /// network's and nobody is left. Default or empty: the resolver's servers, where they are named here.
    pub(super) control_targets: Option<At<Vec<At<String>>>>,
    /// Bounds on what clients can take.
    pub(super) limits: Option<At<RawLimits>>,
    /// A line for each request, when it ends. Default: none.
    pub(super) access_log: Option<At<RawAccessLog>>,
    /// Spans of requests, sent to a collector of OpenTelemetry. Default: none.
    #[cfg_attr(not(feature = "otlp"), schemars(skip))]
    pub(super) traces: Option<At<RawTraces>>,
    /// Worker threads. Default: 0, one per core.
    pub(super) workers: Option<At<u16>>,
    /// The organisations through which services are reached, by a name of your choice.
    pub(super) providers: Option<At<Named<RawProvider>>>,
    /// Countries that count as the EU besides the 27, as `[NO, IS, LI]`. Default: none.
    pub(super) eu_also: Option<At<Vec<At<String>>>>,
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
    /// Serves nothing here, says where it is. Default: serves.
    pub(super) redirect: Option<At<RawRedirect>>,
    /// Whether connections begin with a header of the PROXY protocol (version 1 or 2) that says who
    /// the client is; believed from `trusted_proxies` only. Default: off.
    pub(super) proxy_protocol: Option<At<RawProxyProtocol>>,
}

/// Whether connections begin with a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ProxyProtocol")]
pub(super) enum RawProxyProtocol {
    /// They do not.
    Off,
    /// Each does, or is closed.
    Required,
}

/// Where clients are sent that came in cleartext.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Redirect")]
pub(super) enum RawRedirect {
    /// 308 to the same host and path over TLS, at port 443.
    Https,
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

/// A certificate with its key; both are read again when the files change. What its authority last said
/// of a listener's one (OCSP, DER) is stapled if it lies beside it, in a file with `.ocsp` added to its
/// name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Certificate")]
pub(in crate::config) struct RawCertificate {
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

/// A line for each request, when it ends; `{}` is enough.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AccessLog")]
pub(super) struct RawAccessLog {
    /// `stdout`, or a file that is appended to and opened anew on SIGHUP. Default: stdout.
    pub(super) target: Option<At<String>>,
    /// Default: json.
    pub(super) format: Option<At<RawLineFormat>>,
    /// Share of the requests that went well; the others are all written. Default: 100%.
    pub(super) sample: Option<At<RawShare>>,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "LineFormat")]
pub(super) enum RawLineFormat {
    /// One JSON object.
    Json,
    /// The combined format of web servers, with further fields behind it.
    Text,
}

/// How the names of upstreams become addresses.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Resolver")]
pub(super) struct RawResolver {
    /// `system` alone, or servers as `udp://192.0.2.53`, `tls://192.0.2.53#name` (DNS over TLS) and
    /// `https://name/dns-query` or `https://192.0.2.53/dns-query#name` (DNS over HTTPS). Default: system.
    pub(super) servers: Option<At<Vec<At<String>>>>,
    /// PEM file of the authorities that may sign their certificates. Default: the system's.
    pub(super) ca_file: Option<At<String>>,
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
    /// Connections of one client: an IPv4 address, or an IPv6 network of 64 bits. Trusted proxies may
    /// have more. Default: 200, which does not count what runs on this machine itself.
    pub(super) max_connections_per_client: Option<At<u32>>,
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
    /// ISO 3166 country of its legal entity, as `FR`. In the EU is who has its seat there, all its
    /// servers, and no law from elsewhere that reaches it. Default: by the catalogue, for an edge that is
    /// in it (`bascule providers`).
    pub(super) seat: Option<At<String>>,
    /// Countries where the servers stand that serve you. Default: the seat.
    pub(super) territory: Option<At<Vec<At<String>>>>,
    /// Countries whose law reaches it wherever its servers stand: by its owner, or by an establishment
    /// there. Default: by the catalogue, where that is not disputed; else none.
    pub(super) subject_to: Option<At<Vec<At<String>>>>,
    /// What it is certified for, by names that `require` asks for, as `[SecNumCloud]`. Default: none.
    pub(super) qualifications: Option<At<Vec<At<String>>>>,
    /// `origin`: your own server with no edge in between. `source`: somebody who answers by themselves, as
    /// another company's API, with no origin of yours behind. Default: edge.
    pub(super) kind: Option<At<RawProviderKind>>,
    /// What it shares with others (a network, an owner, a data centre), by names of your choice:
    /// providers with a common one are never counted as independent. Default: by the catalogue.
    pub(super) substrate: Option<At<Vec<At<String>>>>,
}

/// What stands at the other end.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "ProviderKind")]
pub(super) enum RawProviderKind {
    Edge,
    Origin,
    Source,
}

/// `1.2` unquoted is a number in YAML, and accepted all the same: the schema says so too.
fn any_type(schema: &mut schemars::Schema) {
    schema.remove("type");
    schema.remove("oneOf");
}
