//! What an answer's fields say: the marker is there exactly where a line equals it, a signed one is by
//! nobody without the key, and what nobody can read says nothing.
#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use bascule::model::marker::MarkerKeys;
use bascule::model::outcome::Marker;
use bascule::model::topology::{MarkerProof, MarkerRule, SignedMarker};
use bascule::request::marker::{self, Answer};
use bascule::request::{headers, proxy_status, sticky};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|lines: Vec<&[u8]>| {
    let header = HeaderName::from_static("x-origin-id");
    let value = HeaderValue::from_static("portal");
    let rule = MarkerRule { header: header.clone(), proof: MarkerProof::Value(value) };
    let keys = MarkerKeys::parse(b"a-key-that-no-fuzzer-will-ever-sign-with").expect("a key");
    let max_age = Duration::from_secs(300);
    let proof = MarkerProof::Signed(SignedMarker { keys, host: None, max_age });
    let signed = MarkerRule { header: header.clone(), proof };
    let mut map = HeaderMap::new();
    for line in lines.iter().take(32) {
        let Ok(line) = HeaderValue::from_bytes(line) else { continue };
        for name in ["x-origin-id", "proxy-status", "cookie", "traceparent", "via"] {
            map.append(name, line.clone());
        }
    }
    let expected = map.get_all(&header).iter().any(|line| line == "portal");
    for status in [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE] {
        let answer = Answer { status, headers: &map, authority: "www.portal.example" };
        let now = || UNIX_EPOCH + Duration::from_secs(1_795_701_600);
        assert_eq!(marker::read(Some(&rule), answer, now) == Marker::Present, expected);
        assert_eq!(marker::read(Some(&signed), answer, now), Marker::Absent);
        assert_eq!(marker::read(None, answer, now), Marker::Unconfigured);
    }
    proxy_status::blames_what_is_behind(&map);
    headers::has_been_everywhere(&map);
    if let Some(token) = sticky::token(&map, "edge") {
        let cookie = sticky::cookie("edge", token, true).expect("a cookie");
        let text = cookie.to_str().expect("text").split(';').next().expect("a pair").to_owned();
        let back = HeaderMap::from_iter([(
            http::header::COOKIE,
            HeaderValue::try_from(text).expect("a value"),
        )]);
        assert_eq!(sticky::token(&back, "edge"), Some(token));
    }
    let trace = map.get("traceparent").and_then(headers::trace_id);
    assert!(trace.is_none_or(|id| id.len() == 32));
});
