use super::*;

const FIRST: &str = "the-first-key-of-this-test-0123456789";
const SECOND: &str = "the-second-key-of-this-test-0123456789";
const HOST: &str = "www.portal.example";
const NOW: u64 = 1_795_701_600;

fn keys(lines: &[&str]) -> MarkerKeys {
    MarkerKeys::parse(lines.join("\n").as_bytes()).expect("keys")
}

fn rule(lines: &[&str]) -> MarkerRule {
    let max_age = Duration::from_secs(300);
    MarkerRule {
        header: HeaderName::from_static("x-origin-id"),
        proof: MarkerProof::Signed(SignedMarker { keys: keys(lines), host: None, max_age }),
    }
}

fn made(key: &str, host: &str, at: u64) -> String {
    sign(&keys(&[key]), host, Duration::from_secs(at))
}

fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
    }
    headers
}

/// As it is read now.
fn seen(rule: &MarkerRule, status: u16, fields: &[(&'static str, &str)]) -> Marker {
    let headers = map(fields);
    let status = StatusCode::from_u16(status).expect("a status");
    let answer = Answer { status, headers: &headers, authority: "WWW.Portal.example.:8443" };
    read(Some(rule), answer, || UNIX_EPOCH + Duration::from_secs(NOW))
}

#[test]
fn the_marker_is_what_the_documentation_computes_by_hand() {
    // printf v1.1795701600.www.portal.example |
    //     openssl dgst -sha256 -hmac the-first-key-of-this-test-0123456789
    let expected = "v1.1795701600.6e4f71d24261e24fd424e6734ac3b868b21dc5fadcad9526059c907fc2b9fd37";
    assert_eq!(made(FIRST, HOST, NOW), expected);
}

#[test]
fn a_signed_marker_is_believed_for_its_host_its_keys_and_its_time() {
    let both = rule(&[FIRST, SECOND]);
    let now = made(FIRST, HOST, NOW);
    let (said, mac) = now.rsplit_once('.').expect("two parts");
    #[rustfmt::skip]
    let table = [
        ("one of now",                        now.clone(),                              Marker::Present),
        ("by the key that was",               made(SECOND, HOST, NOW),                  Marker::Present),
        ("in capitals",                       format!("{said}.{}", mac.to_uppercase()), Marker::Present),
        ("as old as may be",                  made(FIRST, HOST, NOW - 300),             Marker::Present),
        ("older",                             made(FIRST, HOST, NOW - 301),             Marker::Old),
        ("as far ahead as may be",            made(FIRST, HOST, NOW + 60),              Marker::Present),
        ("farther",                           made(FIRST, HOST, NOW + 61),              Marker::Old),
        ("farther than any clock",            made(FIRST, HOST, 999_999_999_999),       Marker::Old),
        ("for another host",                  made(FIRST, "api.portal.example", NOW),   Marker::Absent),
        ("by a stranger's key",               made(&SECOND.replace('2', "3"), HOST, NOW), Marker::Absent),
        ("under another time",                now.replace("600.", "601."),              Marker::Absent),
        ("of another version",                now.replace("v1.", "v2."),                Marker::Absent),
        ("with a sign before its time",       now.replace("v1.", "v1.+"),               Marker::Absent),
        ("without a time",                    format!("v1..{mac}"),                     Marker::Absent),
        ("with a time without end",           format!("v1.{}.{mac}", "9".repeat(30)),   Marker::Absent),
        ("with its last digit changed",       format!("{}x", &now[..now.len() - 1]),    Marker::Absent),
        ("a digit short",                     now[..now.len() - 1].to_owned(),          Marker::Absent),
        ("no signature",                      said.to_owned(),                          Marker::Absent),
        ("something else",                    "portal".to_owned(),                      Marker::Absent),
        ("é",                                 "é".repeat(40),                           Marker::Absent),
    ];
    for (shows, value, expected) in table {
        for status in [200, 404, 500] {
            assert_eq!(seen(&both, status, &[("x-origin-id", &value)]), expected, "{shows}");
        }
    }
    assert_eq!(seen(&both, 200, &[]), Marker::Absent);
    assert_eq!(seen(&rule(&[SECOND]), 200, &[("x-origin-id", &now)]), Marker::Absent);
}

#[test]
fn an_old_marker_acquits_no_error_whatever_it_says_of_caches() {
    let rule = rule(&[FIRST]);
    let old = made(FIRST, HOST, NOW - 86_400);
    #[rustfmt::skip]
    let signs = [
        ("age", "86400"), ("cache-status", "edge; hit; ttl=30"), ("x-cache", "Hit from cloudfront"),
        ("x-cache", "MISS, HIT"), ("x-cache", "TCP_HIT"), ("cf-cache-status", "REVALIDATED"),
        ("cdn-cache", "HIT"), ("cache", "STALE"),
        ("x-cache", "caf\u{e9} HIT"), ("cache-status", "\u{e9}; hit"),
    ];
    for sign in signs {
        let fields = [("x-origin-id", &*old), sign];
        for status in [200, 206, 301, 304, 404, 410] {
            assert_eq!(seen(&rule, status, &fields), Marker::Present, "{status} {sign:?}");
        }
        for status in [403, 429, 500, 502, 503, 504, 522] {
            assert_eq!(seen(&rule, status, &fields), Marker::Old, "{status} {sign:?}");
        }
    }
    for sign in [("x-cache", "MISS"), ("cache-status", "white; fwd=miss"), ("cache-control", "hit")]
    {
        assert_eq!(seen(&rule, 200, &[("x-origin-id", &*old), sign]), Marker::Old, "{sign:?}");
    }
    let ahead = made(FIRST, HOST, NOW + 3600);
    let fields = [("x-origin-id", &*ahead), ("age", "1")];
    assert_eq!(seen(&rule, 200, &fields), Marker::Old, "no cache has what is yet to come");
}

#[test]
fn several_lines_of_the_header_are_looked_at_and_not_many() {
    let rule = rule(&[FIRST]);
    let (now, old) = (made(FIRST, HOST, NOW), made(FIRST, HOST, NOW - 3600));
    let line = |value| ("x-origin-id", value);
    assert_eq!(seen(&rule, 500, &[line("edge"), line(&old), line(&now)]), Marker::Present);
    let mut many = vec![line("edge"); 4];
    many.push(line(&now));
    assert_eq!(seen(&rule, 500, &many), Marker::Absent);
}

#[test]
fn the_host_is_what_the_client_asked_for_or_what_the_file_says() {
    let mut named = rule(&[FIRST]);
    if let MarkerProof::Signed(signed) = &mut named.proof {
        signed.host = Some("origin.portal.example".into());
    }
    let fields = |host| made(FIRST, host, NOW);
    assert_eq!(seen(&named, 500, &[("x-origin-id", &fields(HOST))]), Marker::Absent);
    let there = fields("origin.portal.example");
    assert_eq!(seen(&named, 500, &[("x-origin-id", &there)]), Marker::Present);
    assert_eq!(signed_host("[::1]:80").as_deref(), Some("[::1]"));
    assert_eq!(signed_host("a/b"), None);
}

#[test]
fn a_plain_marker_is_its_exact_value_under_any_line_of_its_name() {
    let rule = MarkerRule {
        header: HeaderName::from_static("x-origin-id"),
        proof: MarkerProof::Value(HeaderValue::from_static("portal")),
    };
    let at = |fields: &[(&'static str, &str)]| seen(&rule, 500, fields);
    assert_eq!(at(&[]), Marker::Absent);
    assert_eq!(at(&[("x-origin-id", "portal2")]), Marker::Absent);
    assert_eq!(at(&[("x-origin-id", "portal2"), ("x-origin-id", "portal")]), Marker::Present);
    let headers = HeaderMap::new();
    let answer = Answer { status: StatusCode::OK, headers: &headers, authority: HOST };
    assert_eq!(read(None, answer, || UNIX_EPOCH), Marker::Unconfigured);
}
