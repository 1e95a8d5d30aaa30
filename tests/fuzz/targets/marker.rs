//! What an answer's fields say: the marker is there exactly where a line equals it, and what nobody
//! can read says nothing.
#![no_main]

use bascule::model::outcome::Marker;
use bascule::model::topology::MarkerRule;
use bascule::request::{classify, headers, proxy_status, sticky};
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|lines: Vec<&[u8]>| {
    let header = HeaderName::from_static("x-origin-id");
    let value = HeaderValue::from_static("portal");
    let rule = MarkerRule { header: header.clone(), value: value.clone() };
    let mut map = HeaderMap::new();
    for line in lines.iter().take(32) {
        let Ok(line) = HeaderValue::from_bytes(line) else { continue };
        for name in ["x-origin-id", "proxy-status", "cookie", "traceparent", "via"] {
            map.append(name, line.clone());
        }
    }
    let expected = map.get_all(&header).iter().any(|line| line == "portal");
    assert_eq!(classify::marker(Some(&rule), &map) == Marker::Present, expected);
    assert_eq!(classify::marker(None, &map), Marker::Unconfigured);
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
