//! What answers to `check --live` say of how an upstream is set up. Pure: answers in, findings out.

use std::error::Error as _;
use std::io;
use std::time::{Duration, SystemTime};

use http::header::{AGE, LOCATION};
use http::{HeaderMap, HeaderName, Uri};
use rustls::CertificateError;

use super::Finding;
use super::visit::{Seen, Unreached};
use crate::config::catalogue::Known;
use crate::control::probe::Question;
use crate::model::outcome::Marker;
use crate::model::signal::ProbeResult;
use crate::model::topology::{HostPattern, Route};
use crate::request::classify;

/// A certificate that ends sooner is spoken of.
const ENDS_SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Fields in which caches say whether they had the answer, in the words of RFC 9211 or their own.
const CACHE_FIELDS: [&str; 12] = [
    "cache-status",
    "x-cache",
    "x-cache-status",
    "cf-cache-status",
    "cdn-cache",
    "x-proxy-cache",
    "x-77-cache",
    "tp-cache",
    "eo-cache-status",
    "ohc-cache-hit",
    "x-varnish-cache",
    "cache",
];

/// Who was asked, and for what.
pub(super) struct Subject<'a> {
    pub(super) question: &'a Question,
    /// As asked for.
    pub(super) host: String,
    /// As the file calls it.
    pub(super) provider: &'a str,
    /// Whatever is published here, by this service or another.
    pub(super) routes: &'a [Route],
    pub(super) known: Option<&'static Known>,
}

/// What it answered.
pub(super) struct Visits {
    pub(super) page: Result<Seen, Unreached>,
    /// To a made-up path, twice.
    pub(super) errors: Option<[Result<Seen, Unreached>; 2]>,
    /// As if through more proxies than a bascule lets pass.
    pub(super) through_many: Option<Result<Seen, Unreached>>,
}

/// Everything that is wrong with one upstream, for one host.
pub(super) fn upstream(subject: &Subject<'_>, visits: &Visits, now: SystemTime) -> Vec<Finding> {
    let page = match &visits.page {
        Err(why) => return vec![unreached(&subject.host, why)],
        Ok(page) => page,
    };
    let mut findings = Vec::new();
    findings.extend(page.certificate_end.and_then(|end| ending(end, now)));
    let through_many = visits.through_many.as_ref().and_then(|visit| visit.as_ref().ok());
    if page.is_loop() || through_many.is_some_and(Seen::is_loop) {
        findings.push(came_back(subject.provider));
    }
    if page.is_loop() {
        return findings;
    }
    let spoke = marker(subject.question, page);
    let answered = right_page(subject, page, spoke);
    let is_right = answered.is_none();
    findings.extend(answered);
    if is_right && classify::is_markable(page.status) {
        findings.extend(marked(subject, page, spoke));
    }
    findings.extend(recognised(subject, page));
    if let Some(says) = from_cache(&page.headers) {
        let what = format!(
            "`{}` at `{}` comes from a cache ({says})",
            subject.question.target, subject.host
        );
        let mend = "a probe of it stays green while the origin, or the way to it, is down; probe a page that is \
                    not kept";
        findings.push(Finding::warning(what, mend));
    }
    if let Some([first, second]) = &visits.errors {
        findings.extend(errors(subject, first, second, is_right && spoke == Marker::Present));
    }
    findings
}

/// What is wrong with the origin, asked itself.
pub(super) fn origin(
    question: &Question,
    visit: &Result<Seen, Unreached>,
    now: SystemTime,
) -> Vec<Finding> {
    let host = question.name();
    let seen = match visit {
        Ok(seen) => seen,
        Err(why) => {
            let Finding { what, .. } = unreached(&host, why);
            let mend = "its probes will fail likewise, and speak against the origin in an outage of a provider; let \
                        it answer this machine, or leave `probe.origin` out";
            return vec![Finding::warning(format!("the origin itself: {what}"), mend)];
        }
    };
    let mut findings = Vec::new();
    findings.extend(seen.certificate_end.and_then(|end| ending(end, now)));
    let spoke = marker(question, seen);
    if !matches!(question.judge(seen.status, &seen.headers, &seen.body), ProbeResult::Passed) {
        let what = format!("the origin itself answers {} at `{host}`", seen.status.as_u16());
        let mend = "`probe.expect` does not want that; look at the origin, or at the URL";
        findings.push(Finding::warning(what, mend));
    } else if spoke == Marker::Absent && classify::is_markable(seen.status) {
        let what = "the origin itself answers without the marker".to_owned();
        let mend = "no provider can pass on what is not sent; let the origin add it to every answer, errors too";
        findings.push(Finding::error(what, mend));
    }
    findings
}

/// Whether the origin spoke: the one place here that asks.
fn marker(question: &Question, seen: &Seen) -> Marker {
    question.spoke(seen.status, &seen.headers)
}

fn came_back(provider: &str) -> Finding {
    Finding::error(
        "its way leads back to a bascule: this one, or another",
        format!(
            "the origin set at {provider} is the proxy and not the server behind it, so that each of its requests \
             goes round; set the real origin there"
        ),
    )
}

/// A page that is not the one that was asked for; `None` where it is.
fn right_page(subject: &Subject<'_>, page: &Seen, spoke: Marker) -> Option<Finding> {
    let Subject { question, host, provider, .. } = subject;
    let (status, code) = (page.status, page.status.as_u16());
    if let Some(elsewhere) = sent_elsewhere(subject, page) {
        let what = format!("it sends clients of `{host}` to `{elsewhere}`");
        // A page may be meant to lead elsewhere, if it is the origin that says so.
        return Some(if spoke == Marker::Present {
            let mend = format!(
                "the origin says so; if it is not meant to, {provider} passes another name on as Host than the \
                 public one"
            );
            Finding::warning(what, mend)
        } else {
            let mend = format!(
                "so somebody answers who was asked for another host: let {provider} pass the public name on as \
                 Host, and let the origin know it"
            );
            Finding::error(what, mend)
        });
    }
    if matches!(question.judge(status, &page.headers, &page.body), ProbeResult::Passed) {
        return None;
    }
    let what = format!("it answers {code} to `{}` at `{host}`", question.target);
    let mend = match spoke {
        Marker::Present => {
            "with the marker, so the origin says so; look there, or at `probe.path`".to_owned()
        }
        _ if matches!(code, 401 | 403 | 429) => format!(
            "{provider}, or the origin, turns this request away: let probes of bascule through there (their \
             User-Agent begins with `bascule/`), and make sure that it knows `{host}`"
        ),
        _ if status.is_client_error() => format!(
            "{provider} may not know this name, or pass another one on as Host: add `{host}` there as a host name \
             of yours, and let it go through to the origin"
        ),
        _ if status.is_server_error() => format!(
            "{provider} gets no good answer from its origin, or fails itself; look at the origin that is set there"
        ),
        _ => "`probe.expect` of the service does not want that; look at the page".to_owned(),
    };
    Some(Finding::error(what, mend))
}

/// Where a redirect leads that is not published here.
fn sent_elsewhere(subject: &Subject<'_>, page: &Seen) -> Option<String> {
    if !page.status.is_redirection() {
        return None;
    }
    let location: Uri = page.headers.get(LOCATION)?.to_str().ok()?.parse().ok()?;
    let other = location.host()?.to_ascii_lowercase();
    let ours = subject.routes.iter().any(|route| takes(&route.host, &other));
    (!ours && other != subject.host).then_some(other)
}

fn takes(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(exact) => **exact == *host,
        HostPattern::Wildcard(suffix) => {
            let label = host.strip_suffix(&**suffix);
            label.is_some_and(|label| !label.is_empty() && !label.contains('.'))
        }
        HostPattern::Any => true,
    }
}

/// The marker of a page that looks right.
fn marked(subject: &Subject<'_>, page: &Seen, spoke: Marker) -> Option<Finding> {
    let rule = subject.question.marker.as_ref()?;
    if spoke == Marker::Present {
        return None;
    }
    let (header, host, provider) = (&rule.header, &subject.host, subject.provider);
    if spoke == Marker::Old {
        let what =
            format!("its page at `{host}` carries `{header}`, signed at another time than now");
        let mend = format!(
            "on an error it would prove nothing: {provider} keeps the page without saying so, the origin signs too \
             seldom, or a clock is wrong (`max_age` says how old it may be)"
        );
        return Some(Finding::warning(what, mend));
    }
    Some(if page.headers.contains_key(header) {
        Finding::error(
            format!(
                "its page at `{host}` carries `{header}`, and not as the origin of this service signs"
            ),
            format!(
                "another origin answers, or one that was asked for another host, or the marker of this file is not \
                 what the origin sends; compare the three, and look at the Host that {provider} passes on"
            ),
        )
    } else {
        Finding::error(
            format!("its page at `{host}` lacks the origin marker `{header}`"),
            format!(
                "without it no error can be told from the origin's: {provider} strips it or answers by itself, or \
                 the origin does not send it; let the field pass"
            ),
        )
    })
}

fn recognised(subject: &Subject<'_>, page: &Seen) -> Option<Finding> {
    let known = subject.known?;
    (known.recognised(&page.headers) == Some(false)).then(|| {
        let what = format!("nothing in its answer says that it is {}", known.sheet.name);
        let mend = "what the catalogue knows of that provider is taken for this one; make sure that the URL leads \
                    there (`bascule providers` shows by what it is recognised)";
        Finding::warning(what, mend)
    })
}

/// Answers to a path that nobody has.
fn errors(
    subject: &Subject<'_>,
    first: &Result<Seen, Unreached>,
    second: &Result<Seen, Unreached>,
    page_was_marked: bool,
) -> Vec<Finding> {
    let (Ok(first), Ok(second)) = (first, second) else {
        return [first, second]
            .into_iter()
            .find_map(|visit| visit.as_ref().err())
            .map(|why| unreached(&subject.host, why))
            .into_iter()
            .collect();
    };
    // An application that answers every path well has no errors to be seen.
    if !(second.status.is_client_error() || second.status.is_server_error()) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let (provider, code) = (subject.provider, second.status.as_u16());
    if let Some(says) = from_cache(&second.headers) {
        findings.push(Finding::error(
            format!("it keeps errors: the second {code} for a made-up path came from a cache ({says})"),
            format!(
                "clients get the error when the origin is well again, and so do probes; turn the caching of errors \
                 off at {provider}"
            ),
        ));
    }
    if page_was_marked && marker(subject.question, first) != Marker::Present {
        let replaces =
            subject.known.is_some_and(|known| known.habits.replaced.contains(&first.status));
        let whose = if replaces {
            "is known to do so"
        } else {
            "puts its own page in place of the origin's"
        };
        findings.push(Finding::error(
            format!("its {code} for a made-up path lacks the origin marker, which its pages carry"),
            format!(
                "so an error of the origin looks like the provider's: {provider} {whose}, or the origin marks good \
                 answers only; pass error pages through, and mark every answer"
            ),
        ));
    }
    findings
}

/// What says that an answer was kept by a cache on the way; `None` where nothing does.
fn from_cache(headers: &HeaderMap) -> Option<String> {
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.trim().parse::<u64>().ok());
    if let Some(age) = age.filter(|age| *age > 0) {
        return Some(format!("Age: {age}"));
    }
    CACHE_FIELDS.iter().find_map(|name| {
        let values = headers.get_all(HeaderName::from_static(name)).iter();
        let hits = |value: &http::HeaderValue| {
            let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
            text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "hit")
        };
        values.into_iter().any(hits).then(|| format!("{name}: hit"))
    })
}

/// A certificate that ends soon.
pub(super) fn ending(end: SystemTime, now: SystemTime) -> Option<Finding> {
    let left = end.duration_since(now).unwrap_or_default();
    (left < ENDS_SOON).then(|| {
        let what = format!("its certificate ends in {} days", left.as_secs() / 86_400);
        Finding::warning(
            what,
            "then it is left like any upstream that fails; let the provider renew it",
        )
    })
}

/// Why there is no answer.
pub(super) fn unreached(host: &str, why: &Unreached) -> Finding {
    match why {
        Unreached::Handshake(error) => handshake(host, error),
        Unreached::Name(error) => Finding::error(
            format!("its name `{host}` has no address ({error})"),
            "nobody can be sent there; look at the URL, and at `resolver`",
        ),
        Unreached::Connect(error) => Finding::error(
            format!("it takes no connection ({error})"),
            "nobody can be sent there; look at the URL's host and port, and at filters on the way",
        ),
        Unreached::Http(error) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            Finding::error(
                format!("asked for `{host}` it speaks no HTTP that can be read ({error}{cause})"),
                "look at `http` and at the URL's scheme and port",
            )
        }
        Unreached::Request | Unreached::Late => Finding::error(
            format!("asked for `{host}`: {why}"),
            "look at the origin that is set at the provider, and at the way to it",
        ),
    }
}

fn handshake(host: &str, error: &io::Error) -> Finding {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(reason)) = inner else {
        return Finding::error(
            format!("the TLS handshake for `{host}` fails ({error})"),
            "look at the URL's port, at the versions of TLS it speaks, and at `client_certificate`",
        );
    };
    let (what, mend) = match reason {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            "is for other names",
            "add the public name at the provider as a host name of yours, with a certificate; `host` says which name \
             is asked for",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("has expired", "let the provider renew it")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("is not valid yet", "look at the clock of this machine, then at the certificate")
        }
        CertificateError::UnknownIssuer => (
            "is signed by nobody we trust",
            "the provider may not have issued it yet; for an authority of your own write `ca_file`",
        ),
        _ => {
            return Finding::error(
                format!("its certificate for `{host}` cannot be used ({error})"),
                "no client request goes there; let the provider issue another one",
            );
        }
    };
    Finding::error(format!("its certificate for `{host}` {what}"), mend)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, StatusCode};

    use super::*;
    use crate::config::complaint::Severity;
    use crate::model::id::PoolId;
    use crate::model::realm::RealmId;
    use crate::model::topology::{MarkerProof, MarkerRule};

    fn says(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        HeaderMap::from_iter(pairs.iter().map(pair))
    }

    #[test]
    fn an_answer_from_a_cache_is_known_by_what_it_says() {
        for (name, value) in [
            ("age", "7"),
            ("x-cache", "Hit from cloudfront"),
            ("x-cache", "TCP_HIT"),
            ("x-cache", "MISS, HIT"),
            ("cf-cache-status", "HIT"),
            ("cdn-cache", "HIT"),
            ("cache-status", "edge; hit"),
        ] {
            assert!(from_cache(&says(&[(name, value)])).is_some(), "{name}: {value}");
        }
        for (name, value) in [
            ("age", "0"),
            ("age", "soon"),
            ("x-cache", "Miss from cloudfront"),
            ("x-cache", "Error from cloudfront"),
            ("cf-cache-status", "DYNAMIC"),
            ("cache-status", "edge; fwd=miss"),
            ("x-cache", "white"),
        ] {
            assert_eq!(from_cache(&says(&[(name, value)])), None, "{name}: {value}");
        }
    }

    #[test]
    fn a_certificate_is_spoken_of_a_fortnight_before_it_ends() {
        let now = SystemTime::UNIX_EPOCH + ENDS_SOON;
        let day = Duration::from_secs(86_400);
        assert_eq!(ending(now + 15 * day, now), None);
        let found = ending(now + 3 * day, now).expect("soon");
        assert!(found.what.contains("3 days"), "{}", found.what);
        assert!(ending(now - day, now).is_some(), "or has ended");
    }

    fn question(rule: Option<MarkerRule>) -> Question {
        Question {
            endpoint: crate::model::example::endpoint("edge.example", 443),
            tls: None,
            public_host: Some("www.portal.example".into()),
            asks: crate::model::topology::Asks::Page,
            target: "/".into(),
            expect: crate::model::topology::Expect::default(),
            marker: rule,
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_page_that_leads_elsewhere_is_a_mistake_unless_the_origin_says_so() {
        let header = HeaderName::from_static("x-origin-id");
        let rule =
            MarkerRule { header, proof: MarkerProof::Value(HeaderValue::from_static("portal")) };
        let question = question(Some(rule));
        let route =
            |host| Route { host, prefix: "/".into(), pool: PoolId::new(0), realm: RealmId::WHOLE };
        let routes = [
            route(HostPattern::Exact("portal.example".into())),
            route(HostPattern::Wildcard(".forms.example".into())),
        ];
        let host = "www.portal.example".to_owned();
        let subject =
            Subject { question: &question, host, provider: "edge", routes: &routes, known: None };
        let found = |fields: &[(&'static str, &'static str)]| {
            let headers = says(fields);
            let (status, body) = (StatusCode::FOUND, Vec::new());
            let page = Seen { status, headers, body, certificate_end: None };
            let spoke = marker(&question, &page);
            right_page(&subject, &page, spoke).map(|finding| finding.severity)
        };
        let elsewhere = ("location", "https://login.example/");
        assert_eq!(found(&[elsewhere]), Some(Severity::Error));
        assert_eq!(found(&[elsewhere, ("x-origin-id", "portal")]), Some(Severity::Warning));
        assert_eq!(found(&[("location", "https://PORTAL.example/")]), None, "a host of ours");
        assert_eq!(found(&[("location", "https://tax.forms.example/")]), None, "another one");
        assert!(found(&[("location", "https://a.b.forms.example/")]).is_some(), "one label only");
        assert_eq!(found(&[("location", "/start")]), None, "no host at all");
    }

    #[test]
    fn only_a_loop_that_is_said_is_one() {
        let seen = |status| Seen {
            status,
            headers: HeaderMap::new(),
            body: Vec::new(),
            certificate_end: None,
        };
        assert!(seen(StatusCode::LOOP_DETECTED).is_loop());
        assert!(!seen(StatusCode::BAD_GATEWAY).is_loop());
    }
}
