//! One way to reach a service: provider, URL, and how to speak there.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::context::{Bounds, Context};
use super::identity;
use super::providers::Providers;
use crate::config::certificate::{self, MAX_PEM};
use crate::config::complaint::Place;
use crate::config::raw::{RawHttp, RawUpstream};
use crate::config::tree::At;
use crate::config::values::{self, Flaw, Url};
use crate::model::id::ProviderId;
use crate::model::topology::{Endpoint, EndpointHost, HostRule, HttpRule, Scheme};

/// Idle connections are closed after this unless the file says otherwise: below what the edge
/// providers that we know of allow.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// An upstream before it has an id.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) provider: ProviderId,
    pub(super) endpoint: Endpoint,
    pub(super) preference: u16,
    pub(super) weight: u16,
    pub(super) max_in_flight: Option<NonZeroU32>,
    pub(super) place: Place,
    pub(super) path_place: Place,
}

/// `position`: in the list, from 1.
pub(super) fn upstream(
    context: &Context<'_>,
    raw: At<RawUpstream>,
    position: u16,
    providers: &Providers,
    ours: &[SocketAddr],
) -> Option<Draft> {
    let place = raw.place;
    let RawUpstream {
        provider,
        url,
        host,
        preference,
        weight,
        http,
        max_in_flight,
        idle_timeout,
        ca_file,
        client_certificate,
        path,
        headers,
    } = raw.value?;
    let provider = context.needed("provider", provider, place);
    let provider = provider.and_then(|at| Some((at.place, providers.find(context, &at)?)));
    let url = context.needed("url", url, place);
    let url = url.and_then(|at| context.parsed("url", &at, |text| upstream_url(text, ours)));
    let host_rule = host.and_then(|at| context.parsed("host", &at, host_rule));
    let http = match http.and_then(|at| at.value) {
        None | Some(RawHttp::Auto) => HttpRule::Auto,
        Some(RawHttp::Http1) => HttpRule::Http1,
        Some(RawHttp::Http2) => HttpRule::Http2,
    };
    let preference = context.number(
        "preference",
        preference,
        Bounds { least: 1, most: 1000, why: "1 goes first" },
        position,
    );
    let weight = context.number(
        "weight",
        weight,
        Bounds { least: 1, most: 1000, why: "an upstream without weight would never be asked; leave it out of the list instead" },
        100,
    );
    let max_in_flight = max_in_flight.and_then(|at| self::max_in_flight(context, at));
    let idle_timeout = context.duration(
        "idle_timeout",
        idle_timeout,
        Bounds {
            least: "1s",
            most: "1h",
            why: "a connection is kept for the next request, and providers close idle ones",
        },
        IDLE_TIMEOUT,
    );
    let ca = ca_file.and_then(|at| ca_over_tls(context, &at, url.as_ref()));
    let identity = client_certificate.and_then(|at| identity::identity(context, at, url.as_ref()));
    let (path, path_place) = super::path::path(context, path, place);
    let headers = headers.map(|at| identity::headers(context, at)).unwrap_or_default();
    let Url { scheme, host, port, rest: _ } = url?;
    let host_rule = host_rule.unwrap_or_default();
    let endpoint =
        Endpoint { scheme, host, port, host_rule, http, idle_timeout, ca, identity, path, headers };
    let (place, provider) = provider?;
    Some(Draft { provider, endpoint, preference, weight, max_in_flight, place, path_place })
}

fn max_in_flight(context: &Context<'_>, at: At<u32>) -> Option<NonZeroU32> {
    let why = "an upstream that may have none in flight would never be asked; leave it out of the list instead";
    let bounds = Bounds { least: 1, most: 1_000_000, why };
    NonZeroU32::new(context.number("max_in_flight", Some(at), bounds, 1_000_000))
}

/// An URL that names a server and nothing below it, and not ourselves.
fn upstream_url(text: &str, ours: &[SocketAddr]) -> Result<Url, Flaw> {
    let url = values::url(text)?;
    if url.rest.is_some() {
        return Err(Flaw::new(
            "requests keep the path that the client asked for, so none can stand here; end it after the host, and write \
             `path: { add: /… }` where the upstream has another",
        ));
    }
    if ours.iter().any(|own| leads_to(&url, *own)) {
        return Err(Flaw::new(
            "that is where we listen ourselves, and every request would come back; name the provider's address",
        ));
    }
    Ok(url)
}

fn leads_to(url: &Url, own: SocketAddr) -> bool {
    let ours = own.ip().to_canonical();
    let is_here = ours.is_loopback() || ours.is_unspecified();
    let is_own = match &url.host {
        EndpointHost::Name(name) => &**name == "localhost" && is_here,
        EndpointHost::Address(address) => {
            let address = address.to_canonical();
            // To connect to 0.0.0.0 is to connect to this machine.
            let leads_here = address.is_loopback() || address.is_unspecified();
            address == ours
                || leads_here && (ours.is_unspecified() || address.is_unspecified() && is_here)
        }
    };
    is_own && url.port == own.port()
}

fn host_rule(text: &str) -> Result<HostRule, Flaw> {
    match text {
        "public" => Ok(HostRule::Public),
        "upstream" => Ok(HostRule::Upstream),
        // A word without a dot is far more likely a misspelt rule than a host.
        word if !word.contains('.') && word != "localhost" => Err(Flaw::new(
            "write `public` (what the client asked for), `upstream` (the url's host) or a full name",
        )),
        name => values::host_name(name).map(HostRule::Literal),
    }
}

/// The authorities of a `ca_file`.
pub(super) fn ca(context: &Context<'_>, at: &At<String>) -> Option<Arc<[u8]>> {
    let (_, pem) = context.file("ca_file", at, MAX_PEM)?;
    context.sound("ca_file", at, certificate::bundle(&pem))?;
    Some(pem.into())
}

/// The same, for an upstream that has a certificate to check.
fn ca_over_tls(context: &Context<'_>, at: &At<String>, url: Option<&Url>) -> Option<Arc<[u8]>> {
    let ca = ca(context, at)?;
    if url.is_some_and(|url| url.scheme == Scheme::Http) {
        context.complaints.error(
            at.place,
            "`ca_file` stands beside an `http://` url",
            "there is no certificate to check without TLS; write `https://` or leave it out",
        );
    }
    Some(ca)
}
