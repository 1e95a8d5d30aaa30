//! What tells who is at fault: the probes of upstreams and origin. The origin marker is read in
//! [`super::marker`].

use http::{HeaderName, HeaderValue};

use super::context::{Bounds, Context};
use super::upstream;
use crate::config::complaint::Place;
use crate::config::raw::{RawExpect, RawGrpc, RawProbe};
use crate::config::tree::{At, Named};
use crate::config::values::{self, Flaw, spelled};
use crate::model::topology::{Asks, Endpoint, Expect, HostRule, HttpRule, OriginProbe, ProbeRule};

/// Ranges and headers that one answer is compared with.
const MAX_EXPECTED: usize = 64;

pub(super) fn header_name(text: &str) -> Result<HeaderName, Flaw> {
    HeaderName::try_from(text)
        .map_err(|_| Flaw::new("a header's name is made of letters, digits and `-`"))
}

pub(super) fn header_value(text: &str) -> Result<HeaderValue, Flaw> {
    const MEND: &str =
        "a header's value is one line of printable ASCII, neither empty nor with spaces around";
    let clean = !text.is_empty() && text.trim() == text;
    let printable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    HeaderValue::from_str(text).ok().filter(|_| clean && printable).ok_or_else(|| Flaw::new(MEND))
}

pub(super) fn probe(context: &Context<'_>, raw: At<RawProbe>, base: &ProbeRule) -> ProbeRule {
    let place = raw.place;
    let Some(RawProbe { path, grpc, interval, timeout, expect, origin }) = raw.value else {
        return base.clone();
    };
    let asks = grpc.map_or_else(|| base.asks.clone(), |at| self::grpc(context, at));
    if asks != Asks::Page {
        refuse_page(context, "path", path.as_ref().map(|at| at.place));
        refuse_page(context, "expect", expect.as_ref().map(|at| at.place));
    }
    let url_path = path.and_then(|at| context.parsed("path", &at, values::url_path));
    let url_path = url_path.unwrap_or_else(|| base.path.clone());
    let interval = context.duration(
        "interval",
        interval,
        Bounds {
            least: "50ms",
            most: "1h",
            why: "probes are requests too, and an outage must not wait for them",
        },
        base.interval,
    );
    let timeout_place = timeout.as_ref().map_or(place, |at| at.place);
    let timeout = context.duration(
        "timeout",
        timeout,
        Bounds {
            least: "10ms",
            most: "1m",
            why: "an answer needs some time, and no answer is one too",
        },
        base.timeout,
    );
    // A base that is wrong has its own complaint.
    if timeout > interval && base.timeout <= base.interval {
        let what = format!(
            "the probe's timeout ({}) is longer than its interval ({})",
            spelled(timeout),
            spelled(interval)
        );
        let mend =
            "probes of one upstream would overlap; set both, the timeout to at most the interval";
        context.complaints.error(timeout_place, what, mend);
    }
    let mut origin = match origin {
        None => base.origin.clone(),
        Some(at) => {
            context.parsed("origin", &at, values::url).map(|url| origin_probe(url, &url_path))
        }
    };
    if let Some(origin) = &mut origin {
        origin.endpoint.http = match asks {
            Asks::Page => HttpRule::Auto,
            // It is spoken over HTTP/2 only, in cleartext by prior knowledge.
            Asks::GrpcHealth(_) => HttpRule::Http2,
        };
    }
    let expect =
        expect.map_or_else(|| base.expect.clone(), |at| self::expect(context, at, &base.expect));
    let host = base.host.clone();
    let hosts = Vec::new();
    ProbeRule { asks, path: url_path, interval, timeout, expect, host, hosts, origin }
}

fn grpc(context: &Context<'_>, raw: At<RawGrpc>) -> Asks {
    match raw.value {
        None | Some(RawGrpc::Off) => Asks::Page,
        Some(RawGrpc::Server) => Asks::GrpcHealth("".into()),
        Some(RawGrpc::Service(at)) => {
            let name = context.parsed("service", &at, grpc_service);
            Asks::GrpcHealth(name.unwrap_or_default())
        }
    }
}

/// A name of a service of gRPC, as its `.proto` file spells it with its package.
fn grpc_service(text: &str) -> Result<Box<str>, Flaw> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match !text.is_empty() && text.len() <= 256 && text.bytes().all(is_name) {
        true => Ok(text.into()),
        false => Err(Flaw::new(
            "write its full name, as in `portal.v1.Orders`; up to 256 letters, digits, `.`, `_` and `-`",
        )),
    }
}

fn refuse_page(context: &Context<'_>, key: &str, place: Option<Place>) {
    let Some(place) = place else { return };
    let what = format!("`{key}` stands where the probe asks for the health of a gRPC server");
    let mend = "there is no page to ask for; leave it out, or write `grpc: off`";
    context.complaints.error(place, what, mend);
}

fn origin_probe(url: values::Url, url_path: &str) -> OriginProbe {
    let values::Url { scheme, host, port, rest } = url;
    let endpoint = Endpoint {
        scheme,
        host,
        port,
        host_rule: HostRule::Upstream,
        http: HttpRule::Auto,
        idle_timeout: upstream::IDLE_TIMEOUT,
        ca: None,
        identity: None,
        path: crate::model::topology::PathRule::default(),
        headers: crate::model::topology::HeaderRule::default(),
    };
    OriginProbe { endpoint, path: rest.unwrap_or_else(|| url_path.into()) }
}

fn expect(context: &Context<'_>, raw: At<RawExpect>, base: &Expect) -> Expect {
    let place = raw.place;
    let Some(RawExpect { status, body_contains, headers }) = raw.value else { return base.clone() };
    let status = match status {
        None => base.status.clone(),
        Some(listed) => {
            let entries = listed.value.unwrap_or_default();
            if entries.is_empty() || entries.len() > MAX_EXPECTED {
                let mend = format!(
                    "no answer could be good, or too many ranges; name 1 to {MAX_EXPECTED}"
                );
                context.complaints.error(listed.place, "`status` cannot be used", &mend);
            }
            let read = |at: &At<String>| context.parsed("status", at, values::statuses);
            entries.iter().filter_map(read).collect()
        }
    };
    let body_contains = match body_contains.and_then(|at| Some((at.place, at.value?))) {
        None => base.body_contains.clone(),
        Some((place, text)) if text.is_empty() || text.len() > 1024 => {
            let mend = "an empty text is in every body, and a long one is more than a sign; up to 1024 bytes";
            context.complaints.error(place, "`body_contains` cannot be used", mend);
            None
        }
        Some((_, text)) => Some(text.into()),
    };
    let headers = match headers.and_then(|at| at.value) {
        None => base.headers.clone(),
        Some(Named(entries)) if entries.len() > MAX_EXPECTED => {
            let mend = format!("at most {MAX_EXPECTED}");
            context.complaints.error(place, "too many `headers`", &mend);
            Vec::new()
        }
        Some(Named(entries)) => {
            let read = |(name, value): (At<String>, At<String>)| {
                let header = context.parsed("headers", &name, header_name);
                Some((header?, context.parsed(&name.shown, &value, header_value)?))
            };
            entries.into_iter().filter_map(read).collect()
        }
    };
    Expect { status, body_contains, headers }
}
