//! Does a request ask to go on as something else than HTTP, and does the answer agree?
//!
//! Only WebSockets: what else `Upgrade` can name is about one connection and goes no further. Over
//! HTTP/1.1 it is `GET` with `Upgrade: websocket` (RFC 6455, section 4.1), over HTTP/2 an extended
//! CONNECT (RFC 8441, section 4). Upstreams are asked over HTTP/1.1 in either case. A client of
//! HTTP/2 sends no key and checks no answer to it, so that falls to us.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version};

use super::headers::connection_says;

/// RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const WEBSOCKET: &str = "websocket";

/// What a request wants to go on as.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Switch {
    /// HTTP.
    No,
    /// A WebSocket, whose client checks the answer to its key itself.
    WebSocket,
    /// A WebSocket over HTTP/2, with the answer to the key that we sent.
    WebSocketByUs(HeaderValue),
}

/// Whether a head of HTTP/1.1 asks for a WebSocket.
pub fn asks_for_websocket(head: &Parts) -> bool {
    let one = |name: HeaderName| {
        let mut lines = head.headers.get_all(name).iter();
        lines.next().filter(|_| lines.next().is_none())
    };
    head.method == Method::GET
        && head.version == Version::HTTP_11
        && one(UPGRADE).is_some_and(is_websocket)
        && connection_says(&head.headers, "upgrade")
        && !head.headers.contains_key(CONTENT_LENGTH)
        && !head.headers.contains_key(TRANSFER_ENCODING)
}

fn is_websocket(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes())
}

impl Switch {
    /// For a client that sends no key: ours is made of `random`.
    pub fn by_us(headers: &mut HeaderMap, random: [u8; 16]) -> Self {
        let key = STANDARD.encode(random);
        let accept = accept(key.as_bytes());
        // Base64 is always a field value.
        if let Ok(key) = HeaderValue::from_str(&key) {
            headers.insert(SEC_WEBSOCKET_KEY, key);
        }
        Self::WebSocketByUs(accept)
    }

    /// Whether it stays HTTP.
    pub fn is_none(&self) -> bool {
        *self == Self::No
    }

    /// Whether the client leaves it to us to become a WebSocket at the upstream.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::WebSocketByUs(_))
    }

    /// Says so to the upstream, or to a client of HTTP/1.1: after everything that is about one
    /// connection was removed.
    pub fn announce(&self, headers: &mut HeaderMap) {
        if !self.is_none() {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
        }
    }

    /// Whether an answer of 101 is what was asked for.
    pub fn is_agreed(&self, headers: &HeaderMap) -> bool {
        let names_it =
            headers.get(UPGRADE).is_some_and(is_websocket) && connection_says(headers, "upgrade");
        match self {
            Self::No => false,
            Self::WebSocket => names_it,
            Self::WebSocketByUs(accept) => {
                names_it && headers.get(SEC_WEBSOCKET_ACCEPT) == Some(accept)
            }
        }
    }
}

/// The answer to a key (RFC 6455, section 4.2.2).
fn accept(key: &[u8]) -> HeaderValue {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    HeaderValue::try_from(STANDARD.encode(hash)).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, version: Version, lines: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).version(version).uri("/chat");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn only_a_get_that_names_websocket_once_asks_for_one() {
        const H11: Version = Version::HTTP_11;
        let (upgrade, websocket) =
            (("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket"));
        for (shows, head, expected) in [
            ("as a browser asks", head("GET", H11, &[upgrade, websocket]), true),
            ("HTTP/1.0 has none", head("GET", Version::HTTP_10, &[upgrade, websocket]), false),
            ("not a POST", head("POST", H11, &[upgrade, websocket]), false),
            ("not unnamed", head("GET", H11, &[websocket]), false),
            ("not h2c", head("GET", H11, &[upgrade, ("upgrade", "h2c")]), false),
            ("not two", head("GET", H11, &[upgrade, websocket, websocket]), false),
            (
                "not with a body",
                head("GET", H11, &[upgrade, websocket, ("content-length", "1")]),
                false,
            ),
        ] {
            assert_eq!(asks_for_websocket(&head), expected, "{shows}");
        }
    }

    #[test]
    fn the_answer_to_a_key_is_that_of_the_standard() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn an_upstream_that_did_not_read_our_key_has_not_agreed() {
        let mut asked = HeaderMap::new();
        let switch = Switch::by_us(&mut asked, [7; 16]);
        let mut answer = HeaderMap::new();
        switch.announce(&mut answer);
        assert!(!switch.is_agreed(&answer), "no answer to the key");
        answer.insert(SEC_WEBSOCKET_ACCEPT, accept(asked[SEC_WEBSOCKET_KEY].as_bytes()));
        assert!(switch.is_agreed(&answer));
        assert!(!Switch::No.is_agreed(&answer), "nobody asked");
    }
}
