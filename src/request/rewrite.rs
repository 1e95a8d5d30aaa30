//! What a path becomes on its way to an upstream that has another one, and what an answer's own paths
//! become on their way back.
//!
//! Byte for byte, as everywhere: nothing is decoded, no dot segment resolved. A request whose path a
//! server could resolve to somewhere outside what was put before it is refused, not cleaned: behind that
//! beginning an upstream's own key may open more than the client was given. Bodies are not looked at, nor
//! any other field: an answer's links are its origin's.

use std::borrow::Cow;

use http::header::{CONTENT_LOCATION, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

use crate::model::topology::PathRule;

/// Longest path and query that is rewritten, in bytes: with what is added it still fits into the 64 KiB
/// that an URI may have.
const LONGEST: usize = 60_000;

/// What the upstream is asked for: path and query, or the `*` of OPTIONS, which is no path.
pub fn towards<'a>(rule: &PathRule, target: &'a str) -> Cow<'a, str> {
    if rule.is_empty() || !target.starts_with('/') {
        return Cow::Borrowed(target);
    }
    Cow::Owned(exchanged(target, &rule.strip, &rule.add))
}

/// Whether a request is refused because of a rule: its path could be taken for one that does not begin
/// with what was added, for a host, or is too long.
pub fn refuses(rule: &PathRule, target: &str) -> bool {
    if rule.is_empty() || !target.starts_with('/') {
        return false;
    }
    let url_path = target.split('?').next().unwrap_or_default();
    target.len() > LONGEST || climbs(url_path) || towards(rule, target).starts_with("//")
}

/// Whether a segment is `.` or `..` to any server: also as `%2e`, behind `%2f` or `%5c`, coded twice, or
/// with a parameter behind it.
fn climbs(url_path: &str) -> bool {
    let mut text = Cow::Borrowed(url_path.as_bytes());
    // An edge and an origin may each decode once.
    for _ in 0..2 {
        if has_dot_segment(&text) || !text.contains(&b'%') {
            break;
        }
        text = Cow::Owned(decoded(&text));
    }
    has_dot_segment(&text)
}

fn has_dot_segment(text: &[u8]) -> bool {
    let bare = |segment: &[u8]| {
        let plain = segment.split(|byte| *byte == b';').next();
        matches!(plain, Some(b"." | b".."))
    };
    text.split(|byte| matches!(byte, b'/' | b'\\')).any(bare)
}

/// Each `%XX` as the byte that it stands for; what only looks like one stays.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|b| char::from(*b).to_digit(16));
        let byte = if *first == b'%' { digit(0).zip(digit(1)) } else { None };
        rest = if byte.is_some() { &after[2..] } else { after };
        out.push(byte.map_or(*first, |(high, low)| (high * 16 + low) as u8));
    }
    out
}

/// Turns an answer's own paths into those that the client knows: redirects and the paths of cookies.
/// `host` is what the upstream was asked for, `public` what the client asked for.
pub fn back(
    rule: &PathRule,
    (host, public): (&HeaderValue, &HeaderValue),
    headers: &mut HeaderMap,
) {
    if rule.is_empty() {
        return;
    }
    for name in [LOCATION, CONTENT_LOCATION] {
        let known = headers.get(&name).and_then(|value| {
            reference(rule, (host.to_str().ok()?, public.to_str().ok()?), value.to_str().ok()?)
        });
        if let Some(value) = known.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(name, value);
        }
    }
    if headers.contains_key(SET_COOKIE) {
        let turned = |line: &HeaderValue| {
            let text = cookie(rule, line.to_str().ok()?)?;
            HeaderValue::try_from(text).ok()
        };
        for line in headers.iter_mut().filter(|(name, _)| *name == SET_COOKIE).map(|(_, line)| line)
        {
            if let Some(turned) = turned(line) {
                *line = turned;
            }
        }
    }
}

/// A redirect's target; `None` where it leads to somewhere else. What names the host that only the
/// upstream goes by loses it.
fn reference(rule: &PathRule, (host, public): (&str, &str), target: &str) -> Option<String> {
    let path_at = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?', '#']) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            rest[..end].eq_ignore_ascii_case(host).then_some(scheme.len() + 3 + end)?
        }
        Some(_) | None => 0,
    };
    let (before, target) = target.split_at(path_at);
    let is_path = target.starts_with('/') && !target.starts_with("//");
    (is_path && below(target, &rule.add).is_some()).then_some(())?;
    let target = exchanged(target, &rule.add, &rule.strip);
    // What begins with two slashes would name a host, and browsers take a backslash for one and leave
    // tabs out (WHATWG URL, section 4.4).
    let second = target.as_bytes().get(1).copied();
    (!second.is_some_and(|byte| matches!(byte, b'/' | b'\\') || byte.is_ascii_control()))
        .then_some(())?;
    match host.eq_ignore_ascii_case(public) {
        true => Some(format!("{before}{target}")),
        false => Some(target),
    }
}

/// A cookie with its path turned back; `None` where it has none of the upstream's.
fn cookie(rule: &PathRule, line: &str) -> Option<String> {
    let mut is_turned = false;
    let attributes: Vec<Cow<'_, str>> = line
        .split(';')
        .enumerate()
        .map(|(place, part)| {
            let attribute = part.split_once('=').filter(|_| place > 0);
            let Some((name, value)) = attribute else { return Cow::Borrowed(part) };
            let value = value.trim();
            let is_ours = name.trim().eq_ignore_ascii_case("path") && value.starts_with('/');
            if !is_ours || below(value, &rule.add).is_none() {
                return Cow::Borrowed(part);
            }
            is_turned = true;
            Cow::Owned(format!("{name}={}", exchanged(value, &rule.add, &rule.strip)))
        })
        .collect();
    is_turned.then(|| attributes.join(";"))
}

/// One beginning in place of another; what does not begin with the first keeps all it has.
fn exchanged(target: &str, from: &str, to: &str) -> String {
    let rest = below(target, from).unwrap_or(target);
    let slash = if to.is_empty() && !rest.starts_with('/') { "/" } else { "" };
    format!("{to}{slash}{rest}")
}

/// What follows a beginning that ends on a segment border.
fn below<'a>(target: &'a str, beginning: &str) -> Option<&'a str> {
    let rest = target.strip_prefix(beginning)?;
    (rest.is_empty() || rest.starts_with(['/', '?', '#'])).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(strip: &str, add: &str) -> PathRule {
        PathRule { strip: strip.into(), add: add.into() }
    }

    #[test]
    fn one_beginning_takes_the_place_of_another_on_a_segment_border() {
        #[rustfmt::skip]
        let table = [
            ("",    "",           "/v1/chat?x=1",   "/v1/chat?x=1"),
            ("/v1", "/openai/v1", "/v1/chat?x=/v1", "/openai/v1/chat?x=/v1"),
            ("/v1", "/openai/v1", "/v1",            "/openai/v1"),
            ("/v1", "/openai/v1", "/v1/",           "/openai/v1/"),
            ("/v1", "/openai/v1", "/v1?x",          "/openai/v1?x"),
            ("/v1", "",           "/v1/chat",       "/chat"),
            ("/v1", "",           "/v1",            "/"),
            ("/v1", "",           "/v1?x",          "/?x"),
            ("",    "/base",      "/v1/chat",       "/base/v1/chat"),
            ("",    "/base",      "/",              "/base/"),
            ("",    "/base",      "*",              "*"),
            ("/v1", "/openai/v1", "/v1/a%2Fb//c",   "/openai/v1/a%2Fb//c"),
        ];
        for (strip, add, target, expected) in table {
            assert_eq!(towards(&rule(strip, add), target), expected, "{strip} {add} {target}");
        }
    }

    #[test]
    fn what_could_leave_the_beginning_is_refused() {
        let rule = rule("/v1", "/openai/v1");
        for bad in [
            "/v1/../admin",
            "/v1/..",
            "/v1/./x",
            "/v1/%2e%2E/admin",
            "/v1/.%2e/admin",
            "/v1/..%2fadmin",
            "/v1/x%2F..%5cadmin",
            "/v1/..;x=1/admin",
            "/v1/%252E%252e/admin",
            "/v1/%25%32%65%25%32%65/admin",
            "/v1/%%32%65%%32%65/admin",
        ] {
            assert!(refuses(&rule, bad), "{bad}");
            assert!(!refuses(&PathRule::default(), bad), "{bad}: nothing is put before it");
        }
        for good in ["/v1", "/v1/a..b/...", "/v1/x?y=/../z", "/v1/a%20b", "/v1//x", "*"] {
            assert!(!refuses(&rule, good), "{good}");
        }
        assert!(refuses(&rule, &format!("/v1/{}", "x".repeat(LONGEST))));
        assert!(refuses(&self::rule("/v1", ""), "/v1//host.example/x"), "it would name a host");
    }

    fn told(rule: &PathRule, host: &'static str, name: &'static str, value: &str) -> String {
        let (host, public) = (HeaderValue::from_static(host), "www.portal.example:8443");
        let public = HeaderValue::from_static(public);
        let mut headers = HeaderMap::new();
        headers.append(name, HeaderValue::from_str(value).expect("a value"));
        back(rule, (&host, &public), &mut headers);
        headers[name].to_str().expect("text").to_owned()
    }

    #[test]
    fn a_redirect_leads_to_where_the_client_can_go() {
        let rule = rule("/v1", "/openai/v1");
        #[rustfmt::skip]
        let table = [
            ("/openai/v1/files/7?x#y",                          "/v1/files/7?x#y"),
            ("/openai/v1",                                      "/v1"),
            ("https://api.eu.example/openai/v1/files",          "/v1/files"),
            ("https://API.eu.example/openai/v1",                "/v1"),
            ("https://login.eu.example/openai/v1/files",        "https://login.eu.example/openai/v1/files"),
            ("//api.eu.example/openai/v1/files",                "//api.eu.example/openai/v1/files"),
            ("/openai/v12",                                     "/openai/v12"),
            ("/login",                                          "/login"),
            ("files/7",                                         "files/7"),
            ("/openai/v1/a?back=https://api.eu.example/x",      "/v1/a?back=https://api.eu.example/x"),
        ];
        for (value, expected) in table {
            for name in ["location", "content-location"] {
                assert_eq!(told(&rule, "api.eu.example", name, value), expected, "{value}");
            }
        }
        let own = "https://www.portal.example:8443/openai/v1/x";
        let kept = "https://www.portal.example:8443/v1/x";
        assert_eq!(told(&rule, "www.portal.example:8443", "location", own), kept);
        let stripped = self::rule("/v1", "");
        assert_eq!(told(&stripped, "api.eu.example", "location", "/files"), "/v1/files");
        let added = self::rule("", "/base");
        assert_eq!(told(&added, "api.eu.example", "location", "/base"), "/");
        let host = "/base//evil.example";
        assert_eq!(told(&added, "api.eu.example", "location", host), host, "never to a host");
        for host in ["/base/\\evil.example/", "/base/\t/evil.example"] {
            assert_eq!(
                told(&added, "api.eu.example", "location", host),
                host,
                "nor to a browser's"
            );
        }
    }

    #[test]
    fn a_cookie_comes_back_where_it_is_wanted() {
        let rule = rule("/v1", "/openai/v1");
        #[rustfmt::skip]
        let table = [
            ("a=1; Path=/openai/v1; Secure",   "a=1; Path=/v1; Secure"),
            ("a=1;path=/openai/v1/x",          "a=1;path=/v1/x"),
            ("path=/openai/v1; Path=/",        "path=/openai/v1; Path=/"),
            ("a=1",                            "a=1"),
        ];
        for (value, expected) in table {
            assert_eq!(told(&rule, "api.eu.example", "set-cookie", value), expected, "{value}");
        }
    }
}
