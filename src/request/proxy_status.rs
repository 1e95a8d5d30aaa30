//! What goes wrong between the parties of one request, in the words of RFC 9209: told to clients of
//! our own errors, and read from the errors of edges.

use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{ListEntry, Parser};

/// The field (RFC 9209, section 2).
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Longest field that is read: an edge's own entry is at the end of a list of few.
const LONGEST: usize = 2_048;

/// What we have to say of a request, by the names of RFC 9209, section 2.3.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyError {
    /// No address is known for any upstream.
    DnsError,
    /// No route takes it.
    DestinationNotFound,
    /// Nothing is there to be asked, or policy permits none of it.
    DestinationUnavailable,
    /// An upstream took no connection.
    ConnectionRefused,
    /// It did not answer in time.
    ConnectionTimeout,
    /// It ended the connection before its answer.
    ConnectionTerminated,
    /// It stopped reading.
    ConnectionWriteTimeout,
    /// A limit of ours.
    ConnectionLimitReached,
    /// The handshake failed.
    TlsProtocolError,
    /// It is not who it should be.
    TlsCertificateError,
    /// The client's request is at fault.
    RequestError,
    /// The client is not let in.
    RequestDenied,
    /// No head in time.
    ResponseTimeout,
    /// No WebSocket there.
    UpgradeFailed,
    /// An answer that is not HTTP.
    ProtocolError,
    /// It has been here before.
    LoopDetected,
}

impl ProxyError {
    /// The whole field of an answer that we make ourselves.
    pub const fn field(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::DnsError => "bascule; error=dns_error",
            Self::DestinationNotFound => "bascule; error=destination_not_found",
            Self::DestinationUnavailable => "bascule; error=destination_unavailable",
            Self::ConnectionRefused => "bascule; error=connection_refused",
            Self::ConnectionTimeout => "bascule; error=connection_timeout",
            Self::ConnectionTerminated => "bascule; error=connection_terminated",
            Self::ConnectionWriteTimeout => "bascule; error=connection_write_timeout",
            Self::ConnectionLimitReached => "bascule; error=connection_limit_reached",
            Self::TlsProtocolError => "bascule; error=tls_protocol_error",
            Self::TlsCertificateError => "bascule; error=tls_certificate_error",
            Self::RequestError => "bascule; error=http_request_error",
            Self::RequestDenied => "bascule; error=http_request_denied",
            Self::ResponseTimeout => "bascule; error=http_response_timeout",
            Self::UpgradeFailed => "bascule; error=http_upgrade_failed",
            Self::ProtocolError => "bascule; error=http_protocol_error",
            Self::LoopDetected => "bascule; error=proxy_loop_detected",
        })
    }
}

/// Errors of an edge that are about the leg behind it: it asked its origin and got no answer.
const BEHIND: [&str; 17] = [
    "dns_timeout",
    "dns_error",
    "destination_not_found",
    "destination_unavailable",
    "destination_ip_unroutable",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "connection_read_timeout",
    "connection_write_timeout",
    "tls_protocol_error",
    "tls_certificate_error",
    "tls_alert_received",
    "http_response_incomplete",
    "http_response_timeout",
    "http_protocol_error",
    "http_upgrade_failed",
];

/// Whether an upstream says that it could not reach what stands behind it. What cannot be read says
/// nothing.
pub fn blames_what_is_behind(headers: &HeaderMap) -> bool {
    headers.get_all(PROXY_STATUS).iter().filter(|line| line.len() <= LONGEST).any(|line| {
        let Ok(list) = Parser::new(line.as_bytes()).parse::<sfv::List>() else { return false };
        list.iter().any(|entry| {
            let ListEntry::Item(item) = entry else { return false };
            let error = item.params.get("error").and_then(|error| error.as_token());
            error.is_some_and(|token| BEHIND.contains(&token.as_str()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blames(value: &'static str) -> bool {
        let line = (PROXY_STATUS, HeaderValue::from_static(value));
        blames_what_is_behind(&HeaderMap::from_iter([line]))
    }

    #[test]
    fn an_edge_that_could_not_reach_its_origin_says_so() {
        assert!(blames("ExampleCDN; error=connection_timeout"));
        assert!(blames(r#"cache.example; fwd=miss, "Example CDN"; error=dns_error; next-hop="a""#));
    }

    #[test]
    fn what_an_edge_says_of_itself_or_of_others_blames_nobody_behind_it() {
        for value in [
            "ExampleCDN; error=proxy_internal_error",
            "ExampleCDN; received-status=502",
            "connection_timeout",
            r#"ExampleCDN; error="connection_timeout"#,
            "ExampleCDN; error=connection_timeout; =",
            "",
        ] {
            assert!(!blames(value), "{value}");
        }
        assert!(!blames_what_is_behind(&HeaderMap::new()));
    }

    #[test]
    fn our_own_field_can_be_read() {
        let field = ProxyError::ConnectionRefused.field();
        assert!(blames_what_is_behind(&HeaderMap::from_iter([(PROXY_STATUS, field)])));
    }
}
