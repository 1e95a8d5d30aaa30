//! Header fields on their way through: what belongs to one connection stays on it, what the next
//! party must know about the client is added.

use std::net::IpAddr;

use http::header::{
    CONNECTION, COOKIE, EXPECT, FORWARDED, HeaderName, MAX_FORWARDS, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderValue, Method};

use crate::model::instance::Instance;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// Identifies a request across parties.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Addresses of the client and of the proxies between.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What we say of a request, besides `Via` and `Forwarded`.
pub const OURS: [HeaderName; 4] =
    [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, X_REQUEST_ID];

/// Fields in which edges and servers say who the client is, without the end that all of them have: an
/// origin that is used to an edge's word would believe a stranger's.
const CLAIMS: [&str; 5] = ["x-real", "x-client", "true-client", "cf-connecting", "fastly-client"];

/// Proxies between a client and its origin: real chains have a handful.
const MOST_PROXIES: usize = 32;

/// How many fields [`HOP_BY_HOP`] names.
const HOPS: usize = 10;

/// Fields that are about one connection (RFC 9110, section 7.6.1), and what can only confuse the
/// next one.
const HOP_BY_HOP: [HeaderName; HOPS] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HTTP2_SETTINGS,
];

/// Place in [`HOP_BY_HOP`].
fn hop_by_hop(name: &HeaderName) -> Option<usize> {
    // Their lengths rule most other names out.
    match name.as_str().len() {
        2 | 7 | 10 | 14 | 16..=19 => HOP_BY_HOP.iter().position(|ours| ours == name),
        _ => None,
    }
}

/// Removes what is about one connection, and whatever `Connection` names: in both directions, and
/// before anything of ours is added, so that a client cannot name one of our fields away.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // A look at each name costs less than a look-up of each of ours: most heads hold one or none.
    let mut present = [false; HOPS];
    for name in headers.keys() {
        if let Some(place) = hop_by_hop(name) {
            present[place] = true;
        }
    }
    if present == [false; HOPS] {
        return;
    }
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    for (name, _) in HOP_BY_HOP.iter().zip(present).filter(|(_, is_present)| *is_present) {
        headers.remove(name);
    }
}

/// The elements of a list that stands in one or more fields (RFC 9110, section 5.6.1). Of bytes: one
/// beyond ASCII anywhere in a field would hide all the others of it.
pub fn elements<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a> {
    let lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let parts = lines.flat_map(|line| line.split(|byte| *byte == b','));
    parts.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// Whether `Connection` names this word, whatever else it names.
pub fn connection_says(headers: &HeaderMap, word: &str) -> bool {
    elements(headers, &CONNECTION).any(|said| said.eq_ignore_ascii_case(word.as_bytes()))
}

/// Framing and routing are decided already; naming their fields in `Connection` changes neither.
/// Its everyday words name no field that would need a removal of its own.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let is_everyday = |token: &&[u8]| {
        [&b"keep-alive"[..], b"close"].iter().any(|word| token.eq_ignore_ascii_case(word))
    };
    elements(headers, &CONNECTION)
        .filter(|token| !is_everyday(token))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| name != http::header::HOST && name != http::header::CONTENT_LENGTH)
        .collect()
}

/// Whether what a peer says about the client is believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trust {
    /// It is a client: what it says about itself is replaced.
    Stranger,
    /// It is one of `trusted_proxies`: what it says is kept and added to.
    TrustedProxy,
}

/// How the client reached us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Proto {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

impl Proto {
    /// As in `X-Forwarded-Proto`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What the upstream is told about the client.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Address of the connection's other end.
    pub peer: &'a HeaderValue,
    /// Whether that end is believed.
    pub trust: Trust,
    /// How it reached us.
    pub proto: Proto,
    /// Host and port it asked for.
    pub authority: &'a HeaderValue,
    /// Its element of `Forwarded`, from [`forwarded_element`].
    pub forwarded: HeaderValue,
    /// For a request that has no trusted `X-Request-Id`.
    pub request_id: HeaderValue,
}

/// Turns the client's fields into the upstream's: hop-by-hop stripped, forwarding fields set
/// (RFC 7239 and their older forms), cookie crumbs of HTTP/2 joined (RFC 9113, section 8.2.3).
pub fn towards_upstream(headers: &mut HeaderMap, facts: Facts<'_>) {
    strip_hop_by_hop(headers);
    // Our own server has answered it; the upstream's answer would come too late to be passed on.
    headers.remove(EXPECT);
    join_cookies(headers);
    headers.reserve(6);
    match facts.trust {
        Trust::Stranger => {
            strip_claims(headers);
            headers.insert(X_FORWARDED_FOR, facts.peer.clone());
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(facts.proto.as_str()));
            headers.insert(X_FORWARDED_HOST, facts.authority.clone());
            headers.insert(FORWARDED, facts.forwarded);
            headers.insert(X_REQUEST_ID, facts.request_id);
        }
        Trust::TrustedProxy => {
            append_to_list(headers, X_FORWARDED_FOR, facts.peer);
            append_to_list(headers, FORWARDED, &facts.forwarded);
            let proto = HeaderValue::from_static(facts.proto.as_str());
            headers.entry(X_FORWARDED_PROTO).or_insert(proto);
            headers.entry(X_FORWARDED_HOST).or_insert_with(|| facts.authority.clone());
            headers.entry(X_REQUEST_ID).or_insert(facts.request_id);
        }
    }
}

/// Removes a stranger's word on its own address, whichever field it stands in. None of ours takes its
/// place: `X-Forwarded-For` and `Forwarded` say it already.
fn strip_claims(headers: &mut HeaderMap) {
    let is_claim = |name: &&HeaderName| {
        name.as_str().strip_suffix("-ip").is_some_and(|front| CLAIMS.contains(&front))
    };
    let claims: Vec<HeaderName> = headers.keys().filter(is_claim).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

/// The upstream through which a request came back to us, by the serial number in our own signature.
pub fn came_back_through(headers: &HeaderMap, instance: Instance) -> Option<u64> {
    let mut pseudonyms = elements(headers, &VIA).filter_map(|element| {
        let mut words = element.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.nth(1)
    });
    pseudonyms.find_map(|pseudonym| instance.serial_of(str::from_utf8(pseudonym).ok()?))
}

/// Whether a request has come through more proxies than any chain has: it goes round in a circle of
/// which we know no part.
pub fn has_been_everywhere(headers: &HeaderMap) -> bool {
    let commas = |line: &HeaderValue| line.as_bytes().iter().filter(|byte| **byte == b',').count();
    headers.get_all(VIA).iter().map(|line| 1 + commas(line)).sum::<usize>() > MOST_PROXIES
}

/// The trace that a `traceparent` belongs to (W3C Trace Context, section 3.2): 32 digits.
pub fn trace_id(traceparent: &HeaderValue) -> Option<&str> {
    let id = traceparent.to_str().ok()?.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// Whether an OPTIONS may go on to an upstream (RFC 9110, section 7.6.2): counts its `Max-Forwards`
/// down, and says no where it was 0. What is no number counts nothing; other methods are not bound by
/// it, and TRACE goes nowhere anyway.
pub fn may_be_forwarded(method: &Method, headers: &mut HeaderMap) -> bool {
    if *method != Method::OPTIONS {
        return true;
    }
    let said = headers.get(MAX_FORWARDS).and_then(|line| line.to_str().ok()?.parse::<u32>().ok());
    match said {
        None => true,
        Some(0) => false,
        Some(left) => {
            headers.insert(MAX_FORWARDS, HeaderValue::from(left - 1));
            true
        }
    }
}

/// Whether the client takes trailers (RFC 9110, section 10.1.4): the one word of `TE` that may be
/// said over HTTP/2, and without which servers of gRPC refuse a request.
pub fn takes_trailers(headers: &HeaderMap) -> bool {
    elements(headers, &TE).any(|word| word.eq_ignore_ascii_case(b"trailers"))
}

/// Who asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientAddress {
    /// Whoever is there.
    Known(IpAddr),
    /// Somebody behind this trusted proxy, which says who in a way that we cannot read.
    Behind(IpAddr),
}

impl ClientAddress {
    /// The last one that is known on the way to the client.
    pub const fn last_known(self) -> IpAddr {
        match self {
            Self::Known(address) | Self::Behind(address) => address,
        }
    }
}

/// The client's own address: the peer, or behind trusted proxies the last address of
/// `X-Forwarded-For` that is not one of theirs. What stands before the first one that cannot be read
/// may be anybody's word: it is not looked at.
pub fn client_address(
    peer: IpAddr,
    headers: &HeaderMap,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> ClientAddress {
    let mut client = peer;
    for hop in elements(headers, &X_FORWARDED_FOR).rev() {
        if !is_trusted(client) {
            break;
        }
        let Some(address) = hop_address(hop) else { return ClientAddress::Behind(client) };
        client = address.to_canonical();
    }
    ClientAddress::Known(client)
}

/// An address as proxies write it: with or without a port, brackets or quotes.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let hop = str::from_utf8(hop).ok()?;
    let bare = hop.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(hop);
    let inside = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inside {
        Some(inside) => inside.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6),
        None => {
            let with_port = || bare.parse::<std::net::SocketAddr>().ok().map(|both| both.ip());
            bare.parse().ok().or_else(with_port)
        }
    }
}

fn append_to_list(headers: &mut HeaderMap, name: HeaderName, element: &HeaderValue) {
    let mut list = Vec::new();
    for value in headers.get_all(&name) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(element.as_bytes());
    // Values joined by a comma are a value.
    if let Ok(list) = HeaderValue::from_bytes(&list) {
        headers.insert(name, list);
    }
}

/// One element of `Forwarded` (RFC 7239, section 4). Made anew only when a connection's client asks
/// for another host.
pub fn forwarded_element(peer: IpAddr, authority: &HeaderValue, proto: Proto) -> HeaderValue {
    let peer = match peer {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("\"[{v6}]\""),
    };
    let host = authority.to_str().unwrap_or("");
    let quote = if host.contains(':') { "\"" } else { "" };
    let element = format!("for={peer};host={quote}{host}{quote};proto={}", proto.as_str());
    // Of an address and a host that were checked: both are fit for a field.
    HeaderValue::try_from(element).unwrap_or_else(|_| HeaderValue::from_static("for=unknown"))
}

/// HTTP/1.1 has one Cookie line; HTTP/2 clients may split it.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    static AUTHORITY: HeaderValue = HeaderValue::from_static("www.portal.example:8443");

    fn facts(peer: &HeaderValue, trust: Trust) -> Facts<'_> {
        let address = "192.0.2.7".parse().expect("address");
        Facts {
            peer,
            trust,
            proto: Proto::Https,
            authority: &AUTHORITY,
            forwarded: forwarded_element(address, &AUTHORITY, Proto::Https),
            request_id: HeaderValue::from_static("ours"),
        }
    }

    #[test]
    fn every_hop_by_hop_field_is_recognised() {
        let places: Vec<_> = HOP_BY_HOP.iter().map(hop_by_hop).collect();
        assert_eq!(places, (0..HOPS).map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn what_belongs_to_one_connection_stays_on_it() {
        let mut headers = map(&[
            ("connection", "close, X-Secret, host"),
            ("x-secret", "1"),
            ("host", "a.example"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("accept", "*/*"),
        ]);
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "host"]);
    }

    #[test]
    fn no_byte_hides_what_a_list_names_beside_it() {
        let line = |text: &[u8]| HeaderValue::from_bytes(text).expect("a value");
        let mut headers = map(&[("x-secret", "1"), ("accept", "*/*")]);
        headers.append(CONNECTION, line(b"X-Secret, \xe9"));
        headers.append(TE, line(b"\xff, trailers"));
        assert!(takes_trailers(&headers) && connection_says(&headers, "x-secret"));
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
        let ours = Instance::new(7);
        let via = format!("1.1 {} (caf\u{e9}), 1.1 \u{e9}", ours.signature(3));
        let came = HeaderMap::from_iter([(VIA, line(via.as_bytes()))]);
        assert_eq!(came_back_through(&came, ours), Some(3));
    }

    #[test]
    fn what_a_stranger_says_about_itself_is_replaced() {
        let peer = HeaderValue::from_static("192.0.2.7");
        let mut headers = map(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("x-request-id", "theirs"),
            ("connection", "x-forwarded-for"),
            ("x-real-ip", "10.0.0.1"),
            ("true-client-ip", "10.0.0.1"),
            ("x-strip", "no"),
        ]);
        towards_upstream(&mut headers, facts(&peer, Trust::Stranger));
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "www.portal.example:8443");
        assert_eq!(
            headers["forwarded"],
            "for=192.0.2.7;host=\"www.portal.example:8443\";proto=https"
        );
        assert_eq!(headers["x-request-id"], "ours");
        assert!(!headers.contains_key("x-real-ip") && !headers.contains_key("true-client-ip"));
        assert!(headers.contains_key("x-strip"), "only what says who the client is");
    }

    #[test]
    fn what_a_trusted_proxy_says_is_kept_and_added_to() {
        let peer = HeaderValue::from_static("192.0.2.7");
        let mut headers = map(&[
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-proto", "http"),
            ("forwarded", "for=203.0.113.9"),
            ("x-request-id", "theirs"),
            ("x-real-ip", "203.0.113.9"),
        ]);
        towards_upstream(&mut headers, facts(&peer, Trust::TrustedProxy));
        assert_eq!(headers["x-real-ip"], "203.0.113.9");
        assert_eq!(headers["x-forwarded-for"], "203.0.113.9, 192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert!(headers["forwarded"].to_str().expect("text").starts_with("for=203.0.113.9, for="));
        assert_eq!(headers["x-request-id"], "theirs");
    }

    #[test]
    fn a_request_that_came_back_says_through_whom() {
        let ours = Instance::new(7);
        let lines = |via: &str| {
            let mut headers = HeaderMap::new();
            headers.append("via", HeaderValue::from_static("1.1 first"));
            headers.append("via", HeaderValue::from_str(via).expect("a value"));
            headers
        };
        let signed = format!("1.1 edge (x), 2 {}, 1.1 other", ours.signature(3));
        assert_eq!(came_back_through(&lines(&signed), ours), Some(3));
        assert_eq!(came_back_through(&lines("1.1 edge, 1.1"), ours), None);
        assert_eq!(came_back_through(&HeaderMap::new(), ours), None);
    }

    #[test]
    fn no_chain_of_proxies_is_as_long_as_a_circle() {
        let through = |count: usize| {
            let line = vec!["1.1 a"; count].join(", ");
            HeaderMap::from_iter([(VIA, HeaderValue::from_str(&line).expect("a value"))])
        };
        assert!(!has_been_everywhere(&HeaderMap::new()));
        assert!(!has_been_everywhere(&through(32)));
        assert!(has_been_everywhere(&through(33)));
    }

    #[test]
    fn only_the_word_trailers_asks_for_them() {
        for (te, expected) in [("trailers", true), ("gzip;q=1, Trailers", true), ("gzip", false)] {
            let headers = HeaderMap::from_iter([(TE, HeaderValue::from_static(te))]);
            assert_eq!(takes_trailers(&headers), expected, "{te}");
        }
        assert!(!takes_trailers(&HeaderMap::new()));
    }

    #[test]
    fn an_options_goes_as_far_as_it_says() {
        let (options, get) = (Method::OPTIONS, Method::GET);
        for (method, said, goes_on, left) in [
            (&options, Some("2"), true, Some("1")),
            (&options, Some("0"), false, Some("0")),
            (&options, Some("-1"), true, Some("-1")),
            (&options, None, true, None),
            (&get, Some("0"), true, Some("0")),
        ] {
            let value = |text| (MAX_FORWARDS, HeaderValue::from_static(text));
            let mut headers = HeaderMap::from_iter(said.map(value));
            assert_eq!(may_be_forwarded(method, &mut headers), goes_on, "{method} {said:?}");
            let now = headers.get(MAX_FORWARDS).map(HeaderValue::as_bytes);
            assert_eq!(now, left.map(str::as_bytes), "{method} {said:?}");
        }
    }

    #[test]
    fn cookie_crumbs_leave_as_one_line() {
        let peer = HeaderValue::from_static("192.0.2.7");
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2")]);
        towards_upstream(&mut headers, facts(&peer, Trust::Stranger));
        let lines: Vec<_> = headers.get_all("cookie").iter().collect();
        assert_eq!(lines, ["a=1; b=2"]);
    }

    #[test]
    fn the_client_is_the_last_address_nobody_trusted_vouches_for() {
        let trusted = |ip: IpAddr| ip.to_string().starts_with("192.0.2.");
        let peer = |text: &str| text.parse::<IpAddr>().expect("address");
        let chain =
            map(&[("x-forwarded-for", "10.0.0.1, 203.0.113.9"), ("x-forwarded-for", "192.0.2.8")]);
        let known = |text| ClientAddress::Known(peer(text));
        assert_eq!(client_address(peer("192.0.2.7"), &chain, trusted), known("203.0.113.9"));
        assert_eq!(client_address(peer("198.51.100.1"), &chain, trusted), known("198.51.100.1"));
        let none = HeaderMap::new();
        assert_eq!(client_address(peer("192.0.2.7"), &none, trusted), known("192.0.2.7"));
    }

    fn behind_192_0_2_7(lines: &[&[u8]]) -> ClientAddress {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(line).expect("a value"));
        }
        let trusted = |ip: IpAddr| ip.to_string().starts_with("192.0.2.");
        client_address("192.0.2.7".parse().expect("address"), &headers, trusted)
    }

    #[test]
    fn nothing_that_a_client_says_hides_the_address_that_a_trusted_proxy_appended() {
        for lines in [
            &[&b"\xe9, 203.0.113.9"[..]][..],
            &[b"10.0.0.5", b"\xe9,203.0.113.9"],
            &[b"unknown, 203.0.113.9"],
            &[b"\"10.0.0.5, 203.0.113.9"],
            &[b"203.0.113.9, "],
            &[b"203.0.113.9", b""],
            &[b"203.0.113.9:4711"],
            &[b"\"203.0.113.9\""],
            &[b"[::ffff:203.0.113.9]:1"],
            &[b"\"[::ffff:203.0.113.9]\""],
            &[b"203.0.113.9", b"[::ffff:192.0.2.8]"],
        ] {
            let known = ClientAddress::Known("203.0.113.9".parse().expect("address"));
            assert_eq!(behind_192_0_2_7(lines), known, "{lines:?}");
        }
    }

    #[test]
    fn a_word_that_cannot_be_read_is_no_address_and_neither_is_what_stands_before_it() {
        for lines in [
            &[&b"unknown"[..]][..],
            &[b"10.0.0.5, 203.0.113.9\xe9"],
            &[b"10.0.0.5", b"unix:"],
            &[b"10.0.0.5, 203.0.113.999"],
            &[b"10.0.0.5, 203.0.113.9 x"],
            &[b"10.0.0.5, [203.0.113.9]"],
        ] {
            let behind = ClientAddress::Behind("192.0.2.7".parse().expect("address"));
            assert_eq!(behind_192_0_2_7(lines), behind, "{lines:?}");
        }
    }
}
