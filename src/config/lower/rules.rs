//! Every service key that is not a route or an upstream, laid over a base: first `defaults` over
//! the built-in ones, then each service over `defaults`, key by key.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::context::{Bounds, Context};
use crate::config::complaint::Place;
use crate::config::nearest;
use crate::config::raw::{
    RawAllDown, RawExpect, RawFailover, RawMarker, RawMode, RawPage, RawProbe, RawRate,
    RawResidency, RawRetry, RawRules, RawSensitivity, RawServe, RawShare, RawTimeouts,
};
use crate::config::tree::{At, Named};
use crate::config::values::{self, Flaw};
use crate::model::place::Residency;
use crate::model::topology::{
    AllDown, AllDownServe, Endpoint, Expect, FailoverMode, FailoverRule, HostRule, HttpRule,
    MarkerRule, OriginProbe, Page, ProbeRule, RetryRule, Rules, Sensitivity, Timeouts,
};

/// Longest body of a ready answer, in bytes.
const MAX_PAGE: u64 = 1024 * 1024;
/// Ranges and headers that one answer is compared with.
const MAX_EXPECTED: usize = 64;

/// Rules and the residency beside them.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    pub(super) residency: Residency,
    pub(super) rules: Rules,
}

/// Where the parts stand that lints speak of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RulePlaces {
    pub(super) probe: Option<Place>,
    pub(super) failover: Option<Place>,
    pub(super) methods: Option<Place>,
}

impl RulePlaces {
    /// Of the parts of `raw`; what it lacks comes from the base.
    pub(super) fn of(raw: &RawRules, base: Self) -> Self {
        let place = |at: Option<Place>, base: Option<Place>| at.or(base);
        let retry = raw.retry.as_ref().and_then(|at| at.value.as_ref());
        let methods = retry.and_then(|retry| retry.methods.as_ref());
        Self {
            probe: place(raw.probe.as_ref().map(|at| at.place), base.probe),
            failover: place(raw.failover.as_ref().map(|at| at.place), base.failover),
            methods: place(methods.map(|at| at.place), base.methods),
        }
    }
}

/// `raw` over `base`.
pub(super) fn terms(context: &Context<'_>, raw: RawRules, base: &Terms) -> Terms {
    let RawRules { residency, origin_marker, probe, timeouts, retry, failover, all_down } = raw;
    let Terms { residency: base_residency, rules: base } = base;
    let residency = match residency.and_then(|at| at.value) {
        None => *base_residency,
        Some(RawResidency::Any) => Residency::Any,
        Some(RawResidency::PreferEu) => Residency::PreferEu,
        Some(RawResidency::EuOnly) => Residency::EuOnly,
    };
    let marker = match origin_marker {
        None => base.marker.clone(),
        Some(at) => marker(context, at),
    };
    let rules = Rules {
        marker,
        probe: probe.map_or_else(|| base.probe.clone(), |at| self::probe(context, at, &base.probe)),
        timeouts: timeouts.map_or(base.timeouts, |at| self::timeouts(context, at, base.timeouts)),
        retry: retry.map_or_else(|| base.retry.clone(), |at| self::retry(context, at, &base.retry)),
        failover: failover.map_or(base.failover, |at| self::failover(context, at, base.failover)),
        all_down: all_down.map_or_else(
            || base.all_down.clone(),
            |at| self::all_down(context, at, &base.all_down),
        ),
    };
    Terms { residency, rules }
}

fn marker(context: &Context<'_>, raw: At<RawMarker>) -> Option<MarkerRule> {
    let place = raw.place;
    let RawMarker { header, value } = raw.value?;
    let header = context.needed("header", header, place);
    let value = context.needed("value", value, place);
    let header = header.and_then(|at| context.parsed("header", &at, marker_header));
    let value = value.and_then(|at| match header_value(at.value.as_deref()?) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Some(value)
        }
        Err(Flaw(mend)) => {
            // Unlike everywhere else what was typed is not repeated: it may be a secret.
            context.complaints.error(at.place, "this `value` cannot be used", &mend);
            None
        }
    });
    Some(MarkerRule { header: header?, value: value? })
}

/// A header that survives the way through a provider.
fn marker_header(text: &str) -> Result<HeaderName, Flaw> {
    const LOST: [&str; 12] = [
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "proxy-connection",
        "content-length",
        "date",
        "via",
        "server",
        "host",
    ];
    let name = header_name(text)?;
    if LOST.contains(&name.as_str()) {
        return Err(Flaw::new(
            "providers remove or rewrite it on the way; choose a name of your own, as in `X-Origin-Id`",
        ));
    }
    Ok(name)
}

fn header_name(text: &str) -> Result<HeaderName, Flaw> {
    HeaderName::try_from(text)
        .map_err(|_| Flaw::new("a header's name is made of letters, digits and `-`"))
}

fn header_value(text: &str) -> Result<HeaderValue, Flaw> {
    const MEND: &str =
        "a header's value is one line of printable ASCII, neither empty nor with spaces around";
    let clean = !text.is_empty() && text.trim() == text;
    let printable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    HeaderValue::from_str(text).ok().filter(|_| clean && printable).ok_or_else(|| Flaw::new(MEND))
}

fn probe(context: &Context<'_>, raw: At<RawProbe>, base: &ProbeRule) -> ProbeRule {
    let place = raw.place;
    let Some(RawProbe { path, interval, timeout, expect, origin }) = raw.value else {
        return base.clone();
    };
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
        let what =
            format!("the probe's timeout ({timeout:?}) is longer than its interval ({interval:?})");
        let mend =
            "probes of one upstream would overlap; set both, the timeout to at most the interval";
        context.complaints.error(timeout_place, what, mend);
    }
    let origin = match origin {
        None => base.origin.clone(),
        Some(at) => {
            context.parsed("origin", &at, values::url).map(|url| origin_probe(url, &url_path))
        }
    };
    let expect =
        expect.map_or_else(|| base.expect.clone(), |at| self::expect(context, at, &base.expect));
    ProbeRule { path: url_path, interval, timeout, expect, host: base.host.clone(), origin }
}

fn origin_probe(url: values::Url, url_path: &str) -> OriginProbe {
    let values::Url { scheme, host, port, rest } = url;
    let endpoint = Endpoint {
        scheme,
        host,
        port,
        host_rule: HostRule::Upstream,
        http: HttpRule::Auto,
        idle_timeout: super::upstream::IDLE_TIMEOUT,
        ca: None,
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

fn timeouts(context: &Context<'_>, raw: At<RawTimeouts>, base: Timeouts) -> Timeouts {
    let Some(RawTimeouts { connect, head, body_stall, body_min_rate, request }) = raw.value else {
        return base;
    };
    const WHY: &str =
        "an answer needs some time, and a silent upstream must not hold a client for ever";
    let body_min_rate = body_min_rate.and_then(|at| {
        let RawRate(text) = at.value.as_ref()?;
        context.sound("body_min_rate", &at, values::rate(text))
    });
    Timeouts {
        connect: context.duration(
            "connect",
            connect,
            Bounds {
                least: "10ms",
                most: "1m",
                why: "a handshake needs some time, and retries wait for it",
            },
            base.connect,
        ),
        head: context.duration(
            "head",
            head,
            Bounds { least: "50ms", most: "1h", why: WHY },
            base.head,
        ),
        body_stall: context.duration(
            "body_stall",
            body_stall,
            Bounds { least: "50ms", most: "24h", why: WHY },
            base.body_stall,
        ),
        body_min_rate: body_min_rate.unwrap_or(base.body_min_rate),
        request: context.duration(
            "request",
            request,
            Bounds { least: "50ms", most: "1h", why: WHY },
            base.request,
        ),
    }
}

fn retry(context: &Context<'_>, raw: At<RawRetry>, base: &RetryRule) -> RetryRule {
    let Some(RawRetry { attempts, budget, min_per_second, replay_body, methods }) = raw.value
    else {
        return base.clone();
    };
    let budget = budget.and_then(|at| {
        let RawShare(text) = at.value.as_ref()?;
        context.sound("budget", &at, values::share(text))
    });
    let replay_body = context.size(
        "replay_body",
        replay_body,
        Bounds {
            least: "0B",
            most: "16MiB",
            why: "every request in flight may hold this much memory",
        },
        base.replay_body as u64,
    );
    let methods = match methods {
        None => base.methods.clone(),
        Some(listed) => {
            let entries = listed.value.unwrap_or_default();
            entries.iter().filter_map(|at| context.parsed("methods", at, method)).collect()
        }
    };
    RetryRule {
        attempts: context.number(
            "attempts",
            attempts,
            Bounds {
                least: 0,
                most: 3,
                why: "each attempt is load on a provider that is no better",
            },
            base.attempts,
        ),
        budget: budget.unwrap_or(base.budget),
        min_per_second: context.number(
            "min_per_second",
            min_per_second,
            Bounds { least: 0, most: 1000, why: "what is always allowed is no budget" },
            base.min_per_second,
        ),
        replay_body: replay_body as usize,
        methods,
    }
}

/// A method whose second execution does no harm (RFC 9110, section 9.2.2).
fn method(text: &str) -> Result<Method, Flaw> {
    const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
    if IDEMPOTENT.contains(&text) {
        return Method::try_from(text).map_err(|_| Flaw::new("no such method"));
    }
    if matches!(text.to_ascii_uppercase().as_str(), "POST" | "PATCH" | "CONNECT") {
        return Err(Flaw::new(
            "two upstreams could both carry it out, and an order would be placed twice; leave it out (it is \
             still tried again when the first upstream cannot have seen it)",
        ));
    }
    let near = nearest(&text.to_ascii_uppercase(), IDEMPOTENT);
    Err(Flaw::new(match near {
        Some(near) => {
            format!("only idempotent methods can be tried again; the nearest is `{near}`")
        }
        None => {
            "only idempotent methods can be tried again: GET, HEAD, OPTIONS, PUT, DELETE".to_owned()
        }
    }))
}

fn failover(context: &Context<'_>, raw: At<RawFailover>, base: FailoverRule) -> FailoverRule {
    let place = raw.place;
    let Some(RawFailover { mode, sensitivity, hold, max_hold, min_stay, ramp }) = raw.value else {
        return base;
    };
    let mode = match mode.and_then(|at| at.value) {
        None => base.mode,
        Some(RawMode::Enforce) => FailoverMode::Enforce,
        Some(RawMode::Observe) => FailoverMode::Observe,
    };
    let sensitivity = match sensitivity.and_then(|at| at.value) {
        None => base.sensitivity,
        Some(RawSensitivity::Cautious) => Sensitivity::Cautious,
        Some(RawSensitivity::Balanced) => Sensitivity::Balanced,
        Some(RawSensitivity::Fast) => Sensitivity::Fast,
    };
    let hold_place = hold.as_ref().map_or(place, |at| at.place);
    let holds = Bounds {
        least: "100ms",
        most: "24h",
        why: "an ejection without length flaps, and one without end forgets",
    };
    let hold = context.duration("hold", hold, holds, base.hold);
    let max_hold = context.duration("max_hold", max_hold, holds, base.max_hold);
    if hold > max_hold && base.hold <= base.max_hold {
        let what = format!("`hold` ({hold:?}) is longer than `max_hold` ({max_hold:?})");
        let mend = "the first ejection is the shortest; raise `max_hold` or lower `hold`";
        context.complaints.error(hold_place, what, mend);
    }
    FailoverRule {
        mode,
        sensitivity,
        hold,
        max_hold,
        min_stay: context.duration(
            "min_stay",
            min_stay,
            Bounds { least: "0s", most: "24h", why: "the way back has to come" },
            base.min_stay,
        ),
        ramp: context.duration(
            "ramp",
            ramp,
            Bounds { least: "0s", most: "1h", why: "the way back has to end" },
            base.ramp,
        ),
    }
}

fn all_down(context: &Context<'_>, raw: At<RawAllDown>, base: &AllDown) -> AllDown {
    let Some(RawAllDown { serve, page }) = raw.value else { return base.clone() };
    let serve = match serve.and_then(|at| at.value) {
        None => base.serve,
        Some(RawServe::LeastBad) => AllDownServe::LeastBad,
        Some(RawServe::Page) => AllDownServe::Page,
    };
    let page = page.map_or_else(|| base.page.clone(), |at| self::page(context, at, &base.page));
    AllDown { serve, page }
}

fn page(context: &Context<'_>, raw: At<RawPage>, base: &Page) -> Page {
    let Some(RawPage { status, body_file, retry_after }) = raw.value else { return base.clone() };
    let status = context.number(
        "status",
        status,
        Bounds {
            least: 400,
            most: 599,
            why: "caches and monitors would take the page for the real one",
        },
        base.status.as_u16(),
    );
    let body = body_file.and_then(|at| context.file("body_file", &at, MAX_PAGE));
    let (body, content_type) = match body {
        None => (Arc::clone(&base.body), base.content_type.clone()),
        Some((file, bytes)) => (bytes.into(), content_type(&file)),
    };
    let retry_after = context.duration(
        "retry_after",
        retry_after,
        Bounds {
            least: "1s",
            most: "24h",
            why: "clients read whole seconds, and come back some day",
        },
        base.retry_after,
    );
    Page {
        status: StatusCode::from_u16(status).unwrap_or(base.status),
        body,
        content_type,
        retry_after: Duration::from_secs(retry_after.as_secs()),
    }
}

fn content_type(file: &std::path::Path) -> HeaderValue {
    let ending = file.extension().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
    HeaderValue::from_static(match ending.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "json" => "application/json",
        "xml" => "application/xml",
        _ => "text/plain; charset=utf-8",
    })
}
