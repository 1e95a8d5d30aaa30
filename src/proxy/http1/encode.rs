//! A request's head, ready to be written.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method};

/// Room for an everyday head, so that it is allocated once.
const EVERYDAY: usize = 1024;

/// How a request's body is delimited (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::proxy) enum Sends {
    /// There is none.
    Nothing,
    /// So many bytes.
    Exactly(u64),
    /// In chunks: its length is not known.
    Chunked,
}

impl Sends {
    /// For a body that is not empty: the length that the client announced, if it did.
    pub(in crate::proxy) fn announced(headers: &HeaderMap) -> Self {
        let length =
            headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        length.map_or(Self::Chunked, Self::Exactly)
    }
}

/// What a head is made of.
#[derive(Debug)]
pub(in crate::proxy) struct RequestHead<'a> {
    /// As the client sent it.
    pub(in crate::proxy) method: &'a Method,
    /// Path and query.
    pub(in crate::proxy) target: &'a str,
    /// Written as they are, but for Host and the body's framing.
    pub(in crate::proxy) headers: &'a HeaderMap,
    /// For the Host line.
    pub(in crate::proxy) host: &'a HeaderValue,
    /// Our element of `Via`, after those of others.
    pub(in crate::proxy) via: &'a HeaderValue,
    /// The body's framing: always ours, never the client's lines.
    pub(in crate::proxy) sends: Sends,
}

impl RequestHead<'_> {
    /// The bytes to write.
    pub(in crate::proxy) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(EVERYDAY);
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b' ');
        if !self.target.starts_with('/') && self.target != "*" {
            out.push(b'/');
        }
        out.extend_from_slice(self.target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        line(&mut out, "host", self.host.as_bytes());
        for (name, value) in self.headers {
            if name != HOST && name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
                line(&mut out, name.as_str(), value.as_bytes());
            }
        }
        line(&mut out, "via", self.via.as_bytes());
        match self.sends {
            Sends::Nothing if self.expects_content() => line(&mut out, "content-length", b"0"),
            Sends::Nothing => {}
            Sends::Exactly(length) => {
                line(&mut out, "content-length", length.to_string().as_bytes());
            }
            Sends::Chunked => line(&mut out, "transfer-encoding", b"chunked"),
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    /// Whether the absence of a body should be said (RFC 9110, section 8.6).
    fn expects_content(&self) -> bool {
        matches!(*self.method, Method::POST | Method::PUT | Method::PATCH)
            || self.headers.contains_key(CONTENT_LENGTH)
    }
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    static HOST_NAME: HeaderValue = HeaderValue::from_static("www.portal.example");
    static OURS: HeaderValue = HeaderValue::from_static("1.1 us");

    fn encoded(
        method: Method,
        target: &str,
        lines: &[(&'static str, &'static str)],
        sends: Sends,
    ) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let head = RequestHead {
            method: &method,
            target,
            headers: &headers,
            host: &HOST_NAME,
            via: &OURS,
            sends,
        };
        String::from_utf8(head.encode()).expect("text")
    }

    #[test]
    fn a_head_is_written_line_by_line() {
        let lines = [("host", "elsewhere.example"), ("accept", "a"), ("accept", "b")];
        assert_eq!(
            encoded(Method::GET, "/x?y=1", &lines, Sends::Nothing),
            "GET /x?y=1 HTTP/1.1\r\nhost: www.portal.example\r\naccept: a\r\naccept: b\r\nvia: 1.1 us\r\n\r\n"
        );
    }

    #[test]
    fn a_query_alone_is_a_query_of_the_root() {
        let head = encoded(Method::GET, "?y=1", &[], Sends::Nothing);
        assert!(head.starts_with("GET /?y=1 HTTP/1.1\r\n"), "{head}");
        let head = encoded(Method::OPTIONS, "*", &[], Sends::Nothing);
        assert!(head.starts_with("OPTIONS * HTTP/1.1\r\n"), "{head}");
    }

    #[test]
    fn framing_is_never_the_clients() {
        let lies = [("content-length", "5"), ("transfer-encoding", "chunked")];
        for (method, sends, line) in [
            (Method::GET, Sends::Nothing, Some("content-length: 0")),
            (Method::POST, Sends::Exactly(7), Some("content-length: 7")),
            (Method::POST, Sends::Chunked, Some("transfer-encoding: chunked")),
        ] {
            let head = encoded(method, "/", &lies, sends);
            let framing: Vec<_> = head
                .lines()
                .filter(|line| line.starts_with("content-length") || line.starts_with("transfer-"))
                .collect();
            assert_eq!(framing, Vec::from_iter(line), "{sends:?}");
        }
    }

    #[test]
    fn a_missing_body_is_said_where_one_is_expected() {
        assert!(encoded(Method::POST, "/", &[], Sends::Nothing).contains("content-length: 0\r\n"));
        assert!(!encoded(Method::GET, "/", &[], Sends::Nothing).contains("content-length"));
    }
}
