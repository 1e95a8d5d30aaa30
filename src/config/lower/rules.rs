//! Every service key that is not a route or an upstream, laid over a base: first `defaults` over
//! the built-in ones, then each service over `defaults`, key by key.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};

use super::context::{Bounds, Context};
use super::{access, evidence, marker, provenance};
use crate::config::complaint::Place;
use crate::config::nearest;
use crate::config::raw::{
    RawAllDown, RawFailover, RawMode, RawPage, RawRate, RawRetry, RawRules, RawSensitivity,
    RawServe, RawShare, RawTimeouts,
};
use crate::config::tree::At;
use crate::config::values::{self, Flaw, spelled};
use crate::model::realm::Charter;
use crate::model::topology::{
    AllDown, AllDownServe, FailoverMode, FailoverRule, Page, RetryRule, Rules, Sensitivity,
    Timeouts,
};

/// Longest body of a ready answer, in bytes.
const MAX_PAGE: u64 = 1024 * 1024;

/// Rules, and beside them what may carry the requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    pub(super) charter: Charter,
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
    let RawRules {
        residency,
        require,
        origin_marker,
        probe,
        timeouts,
        retry,
        failover,
        all_down,
        access,
        sticky,
    } = raw;
    let Terms { charter, rules: base } = base;
    let charter = provenance::charter(context, residency, require, charter);
    let rules = Rules {
        marker: match origin_marker {
            None => base.marker.clone(),
            Some(at) => marker::marker(context, at),
        },
        probe: probe
            .map_or_else(|| base.probe.clone(), |at| evidence::probe(context, at, &base.probe)),
        timeouts: timeouts.map_or(base.timeouts, |at| self::timeouts(context, at, base.timeouts)),
        retry: retry.map_or_else(|| base.retry.clone(), |at| self::retry(context, at, &base.retry)),
        failover: failover.map_or(base.failover, |at| self::failover(context, at, base.failover)),
        all_down: all_down.map_or_else(
            || base.all_down.clone(),
            |at| self::all_down(context, at, &base.all_down),
        ),
        access: access
            .map_or_else(|| base.access.clone(), |at| access::access(context, at, &base.access)),
        sticky: sticky
            .map_or_else(|| base.sticky.clone(), |at| access::sticky(context, at, &base.sticky)),
    };
    Terms { charter, rules }
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
    let Some(RawFailover { mode, sensitivity, hold, max_hold, min_stay, ramp, standby_trickle }) =
        raw.value
    else {
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
        let what =
            format!("`hold` ({}) is longer than `max_hold` ({})", spelled(hold), spelled(max_hold));
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
        standby_trickle: standby_trickle
            .and_then(|at| {
                let text = at.value.as_ref().map(|RawShare(text)| text.as_str())?;
                context.sound("standby_trickle", &at, values::share(text))
            })
            .unwrap_or(base.standby_trickle),
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
