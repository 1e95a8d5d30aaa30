//! What is refused before it can reach an upstream, and the one host that everything after goes by.
//!
//! hyper has parsed the bytes; this is the policy on top: exactly one Host, a target that is a path,
//! one unambiguous framing. Section numbers are those of RFC 9112 (HTTP/1.1) and 9113 (HTTP/2).

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, Method, Version};

use crate::model::refusal::Refusal;

/// A request that may go on.
#[derive(Debug, Eq, PartialEq)]
pub struct Admitted<'a> {
    /// Host and optional port, as the client wrote it: what is sent on.
    pub authority: &'a str,
    /// Lower case, without port and trailing dot: what routes are matched by.
    pub host: Cow<'a, str>,
}

/// Checks a request's head.
///
/// # Errors
/// The reason to refuse it.
pub fn admit(head: &Parts) -> Result<Admitted<'_>, Refusal> {
    framing(&head.headers)?;
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(Refusal::Method);
    }
    target(head)?;
    if head.version == Version::HTTP_2 {
        values(&head.headers)?;
    }
    let authority = authority(head)?;
    let host = host_of(authority).ok_or(Refusal::BadHost)?;
    Ok(Admitted { authority, host: lower(host) })
}

/// A path, or `*` for OPTIONS (section 3.2 of RFC 9112); with a scheme that we speak, where it has one.
fn target(head: &Parts) -> Result<(), Refusal> {
    let spoken = |scheme: &Scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS;
    if !head.uri.scheme().is_none_or(spoken) {
        return Err(Refusal::BadTarget);
    }
    let url_path = head.uri.path();
    // A query alone, which only HTTP/1.1 can mean by an absolute target (section 8.3.1 of RFC 9113).
    let is_bare = head.version >= Version::HTTP_2
        && head.uri.path_and_query().is_some_and(|target| target.as_str().starts_with('?'));
    match url_path {
        _ if is_bare => Err(Refusal::BadTarget),
        "*" if head.method == Method::OPTIONS => Ok(()),
        // No path has one (RFC 3986, section 3.3), and some servers take it for a slash.
        _ if url_path.contains('\\') => Err(Refusal::BadTarget),
        _ if url_path.starts_with('/') => Ok(()),
        _ => Err(Refusal::BadTarget),
    }
}

/// One framing that no other reader can read differently (section 6.1 of RFC 9112).
fn framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let alone = codings.next().is_none() && !headers.contains_key(CONTENT_LENGTH);
        if !alone || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::Malformed);
        }
    }
    if headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(Refusal::Malformed);
    }
    Ok(())
}

/// None that begins or ends with a blank (section 8.2.1 of RFC 9113); HTTP/1.1 has them trimmed.
fn values(headers: &HeaderMap) -> Result<(), Refusal> {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_padded = |bytes: &[u8]| is_blank(bytes.first()) || is_blank(bytes.last());
    match headers.values().any(|value| is_padded(value.as_bytes())) {
        true => Err(Refusal::Malformed),
        false => Ok(()),
    }
}

/// Exactly one authority: from the target, from Host, or the same from both (sections 3.2 of RFC
/// 9112 and 8.3.1 of RFC 9113).
fn authority(head: &Parts) -> Result<&str, Refusal> {
    let mut lines = head.headers.get_all(HOST).iter();
    let line = match lines.next() {
        None => None,
        Some(value) => Some(value.to_str().map_err(|_| Refusal::BadHost)?),
    };
    if lines.next().is_some() {
        return Err(Refusal::BadHost);
    }
    match (head.uri.authority(), line) {
        (Some(target), Some(line)) if !target.as_str().eq_ignore_ascii_case(line) => {
            Err(Refusal::BadHost)
        }
        // Section 3.2 of RFC 9112: HTTP/1.1 needs the line even when the target names the host.
        (Some(_), None) if head.version < Version::HTTP_2 => Err(Refusal::BadHost),
        (Some(target), _) => Ok(target.as_str()),
        (None, Some(line)) => Ok(line),
        (None, None) => Err(Refusal::BadHost),
    }
}

/// The host of `uri-host [ ":" port ]` (RFC 3986, section 3.2), or `None` when it is not one.
/// Registered names are what TLS can ask for; no percent-encoding, no user.
pub fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let end = rest.find(']')? + 2;
        let inside = &authority[1..end - 1];
        inside.parse::<std::net::Ipv6Addr>().ok()?;
        (&authority[..end], &authority[end..])
    } else {
        let end = authority.bytes().position(|b| b == b':').unwrap_or(authority.len());
        let host = &authority[..end];
        is_name(host).then_some(())?;
        (host, &authority[end..])
    };
    let port_is_valid = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok(),
    };
    port_is_valid.then_some(host)
}

/// A name that DNS and a certificate can hold, underscore included (RFC 1123, section 2.1), or an IPv4
/// address. Anything else would fail at every upstream's handshake, and a client could make them all
/// look bad with it.
fn is_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    let ends_as_number = host.rsplit('.').next().is_some_and(is_number);
    host.len() <= 253
        && host.split('.').all(is_label)
        && (!ends_as_number || host.parse::<std::net::Ipv4Addr>().is_ok())
}

fn is_label(label: &str) -> bool {
    let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=63).contains(&label.len())
        && label.bytes().all(named)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Lower case and without the root's dot; borrowed where it already is.
pub(super) fn lower(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').filter(|h| !h.is_empty()).unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(method: &str, uri: &str, version: Version, lines: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri).version(version);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        const H1: Version = Version::HTTP_11;
        const H2: Version = Version::HTTP_2;
        let host = ("host", "a.example");
        let longest = format!("{}.example", "a".repeat(63));
        let too_long = format!("a{longest}");
        #[rustfmt::skip]
        let table = [
            ("a plain request is admitted",       head("GET", "/", H1, &[host]), Ok("a.example")),
            ("a port is sent on and not matched", head("GET", "/", H1, &[("host", "a.example:8443")]), Ok("a.example")),
            ("case and the root's dot are folded", head("GET", "/", H1, &[("host", "A.Example.")]), Ok("a.example")),
            ("an address is a host",              head("GET", "/", H1, &[("host", "[::1]:80")]), Ok("[::1]")),
            ("no Host is no host",                head("GET", "/", H1, &[]), Err(Refusal::BadHost)),
            ("two are one too many",              head("GET", "/", H1, &[host, host]), Err(Refusal::BadHost)),
            ("an empty one is none",              head("GET", "/", H1, &[("host", "")]), Err(Refusal::BadHost)),
            ("a user is not a host",              head("GET", "/", H1, &[("host", "u@a.example")]), Err(Refusal::BadHost)),
            ("an underscore is in use",           head("GET", "/", H1, &[("host", "a_b.example")]), Ok("a_b.example")),
            ("a label has 63 bytes",              head("GET", "/", H1, &[("host", &longest)]), Ok(longest.as_str())),
            ("and no more",                       head("GET", "/", H1, &[("host", &too_long)]), Err(Refusal::BadHost)),
            ("it is not empty",                   head("GET", "/", H1, &[("host", "a..example")]), Err(Refusal::BadHost)),
            ("it does not begin with a hyphen",   head("GET", "/", H1, &[("host", "-a.example")]), Err(Refusal::BadHost)),
            ("nor end with one",                  head("GET", "/", H1, &[("host", "a-.example")]), Err(Refusal::BadHost)),
            ("an IPv4 address is a host",         head("GET", "/", H1, &[("host", "192.0.2.7:80")]), Ok("192.0.2.7")),
            ("a name does not end as a number",   head("GET", "/", H1, &[("host", "a.1")]), Err(Refusal::BadHost)),
            ("a path is not a host",              head("GET", "/", H1, &[("host", "a.example/x")]), Err(Refusal::BadHost)),
            ("a port is a number",                head("GET", "/", H1, &[("host", "a.example:x")]), Err(Refusal::BadHost)),
            ("a port is at most 65535",           head("GET", "/", H1, &[("host", "a.example:65536")]), Err(Refusal::BadHost)),
            ("the target's host must agree",      head("GET", "http://b.example/", H1, &[host]), Err(Refusal::BadHost)),
            ("we speak no other scheme",          head("GET", "ftp://a.example/", H1, &[host]), Err(Refusal::BadTarget)),
            ("nor over HTTP/2",                   head("GET", "ftp://a.example/", H2, &[]), Err(Refusal::BadTarget)),
            ("it may agree",                      head("GET", "http://a.example/", H1, &[host]), Ok("a.example")),
            ("HTTP/2 has its own field",          head("GET", "https://a.example/", H2, &[]), Ok("a.example")),
            ("a query alone is no path",          head("GET", "https://a.example?x", H2, &[]), Err(Refusal::BadTarget)),
            ("which must agree with Host",        head("GET", "https://a.example/", H2, &[("host", "b.example")]), Err(Refusal::BadHost)),
            ("a star is for OPTIONS",             head("GET", "*", H1, &[host]), Err(Refusal::BadTarget)),
            ("and OPTIONS may have it",           head("OPTIONS", "*", H1, &[host]), Ok("a.example")),
            ("no tunnels",                        head("CONNECT", "a.example:443", H1, &[host]), Err(Refusal::Method)),
            ("no echo",                           head("TRACE", "/", H1, &[host]), Err(Refusal::Method)),
            ("a body without a clear end comes before all else", head("TRACE", "/", H1, &[host, ("transfer-encoding", ",chunked")]), Err(Refusal::Malformed)),
            ("chunked once is a framing",         head("POST", "/", H1, &[host, ("transfer-encoding", "Chunked")]), Ok("a.example")),
            ("twice is not",                      head("POST", "/", H1, &[host, ("transfer-encoding", "chunked, chunked")]), Err(Refusal::Malformed)),
            ("nor with another coding",           head("POST", "/", H1, &[host, ("transfer-encoding", "gzip, chunked")]), Err(Refusal::Malformed)),
            ("nor with a length",                 head("POST", "/", H1, &[host, ("transfer-encoding", "chunked"), ("content-length", "3")]), Err(Refusal::Malformed)),
            ("two lengths are none",              head("POST", "/", H1, &[host, ("content-length", "3"), ("content-length", "3")]), Err(Refusal::Malformed)),
        ];
        for (shows, head, expected) in table {
            let admitted = admit(&head).map(|admitted| admitted.host.into_owned());
            assert_eq!(admitted, expected.map(str::to_owned), "{shows}");
        }
    }
}
