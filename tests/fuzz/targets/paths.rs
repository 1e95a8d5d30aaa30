//! A path on its way: nobody who decodes it comes out of what an upstream's rule puts before it, one that can be
//! read in one way only is read so by everybody, and its route is the longest that covers it.
#![no_main]

use bascule::model::reading;
use bascule::model::topology::{PathRule, covers};
use bascule::request::rewrite;
use http::header::{LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Uri};
use libfuzzer_sys::fuzz_target;

/// As servers read: codes decoded so many times, backslashes for slashes, parameters of a segment left out, dot
/// segments resolved, empty ones kept or not.
fn resolved(url_path: &str, decodings: usize, keeps_empty: bool) -> String {
    let mut text = url_path.as_bytes().to_vec();
    for _ in 0..decodings {
        text = decoded(&text);
    }
    let text = String::from_utf8_lossy(&text).replace('\\', "/");
    let mut out: Vec<&str> = Vec::new();
    for segment in text.split('/').skip(1) {
        match segment.split(';').next().unwrap_or_default() {
            "." => {}
            ".." => {
                out.pop();
            }
            "" if !keeps_empty => {}
            plain => out.push(plain),
        }
    }
    format!("/{}", out.join("/"))
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some((first, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

fuzz_target!(|text: &str| {
    let Ok(uri) = text.parse::<Uri>() else { return };
    let Some(target) = uri.path_and_query().map(|both| both.as_str()) else { return };
    let url_path = uri.path();
    if !url_path.starts_with('/') || url_path.contains('\\') {
        return;
    }
    let rule = PathRule { strip: "/api".into(), add: "/v1/their".into() };
    if covers("/api", url_path) && !rewrite::refuses(&rule, target) {
        let sent = rewrite::towards(&rule, target);
        let sent = sent.split('?').next().unwrap_or_default();
        for (times, keeps) in [(0, true), (1, true), (1, false), (2, true), (2, false)] {
            let seen = resolved(sent, times, keeps);
            assert!(covers("/v1/their", &seen), "{sent} is {seen}, decoded {times} times");
        }
    }
    if reading::is_plain(url_path) {
        let once = resolved(url_path, 1, true);
        assert_eq!(once.matches('/').count(), url_path.matches('/').count(), "{once}");
        for prefix in ["/patients", "/a/b", "/api"] {
            assert_eq!(covers(prefix, url_path), covers(prefix, &once), "{url_path} is {once}");
        }
    }
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(LOCATION, value.clone());
        headers.insert(SET_COOKIE, value);
    }
    let (host, public) = ("api.example", "www.portal.example");
    let hosts = (&HeaderValue::from_static(host), &HeaderValue::from_static(public));
    rewrite::back(&rule, hosts, &mut headers);
    let turned = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    if let Some(turned) = turned.filter(|turned| *turned != text) {
        assert!(!turned.starts_with("//") && !turned.starts_with("/\\"), "{turned} names a host");
    }
});
