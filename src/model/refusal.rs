//! What bascule turns away by itself, in a closed list that serves as a metric label.

use http::StatusCode;

/// Why a request never reached an upstream, or a connection never became one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refusal {
    /// Not HTTP, or framed so that two readers could disagree.
    Malformed,
    /// Missing, repeated, conflicting or invalid `Host` or `:authority`.
    BadHost,
    /// A request target of a form that a proxy for services does not take.
    BadTarget,
    /// CONNECT or TRACE.
    Method,
    /// The head is larger than `limits.max_header_bytes`.
    HeadTooLarge,
    /// The head did not arrive within `limits.header_read_timeout`.
    SlowHead,
    /// The body is larger than `limits.max_request_body`.
    BodyTooLarge,
    /// It came back: the origin of an upstream points at us.
    Loop,
    /// The client's body came too slowly, or stopped coming.
    SlowBody,
    /// `access` of the service does not let this client in.
    Denied,
    /// The client asks more often than `access.rate` of the service allows.
    RateLimited,
    /// No route takes the host and path.
    NoRoute,
    /// `limits.max_connections` are open already.
    TooManyConnections,
    /// `limits.max_connections_per_client` of this client are open already.
    TooManyFromClient,
    /// The header of the PROXY protocol is malformed, too slow, or not from a trusted proxy.
    ProxyHeader,
    /// The TLS handshake failed or took too long.
    Handshake,
    /// The client did not take what was to be sent to it.
    SlowReader,
}

impl Refusal {
    /// Every reason, in the order of its discriminant.
    pub const ALL: [Self; 17] = [
        Self::Malformed,
        Self::BadHost,
        Self::BadTarget,
        Self::Method,
        Self::HeadTooLarge,
        Self::SlowHead,
        Self::BodyTooLarge,
        Self::Loop,
        Self::SlowBody,
        Self::Denied,
        Self::RateLimited,
        Self::NoRoute,
        Self::TooManyConnections,
        Self::TooManyFromClient,
        Self::ProxyHeader,
        Self::Handshake,
        Self::SlowReader,
    ];

    /// As a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::BadHost => "bad_host",
            Self::BadTarget => "bad_target",
            Self::Method => "method",
            Self::HeadTooLarge => "head_too_large",
            Self::SlowHead => "slow_head",
            Self::BodyTooLarge => "body_too_large",
            Self::Loop => "loop",
            Self::SlowBody => "slow_body",
            Self::Denied => "denied",
            Self::RateLimited => "rate_limited",
            Self::NoRoute => "no_route",
            Self::TooManyConnections => "too_many_connections",
            Self::TooManyFromClient => "too_many_from_client",
            Self::ProxyHeader => "proxy_header",
            Self::Handshake => "handshake",
            Self::SlowReader => "slow_reader",
        }
    }

    /// What the client is told, where it is told anything.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Malformed
            | Self::BadHost
            | Self::BadTarget
            | Self::ProxyHeader
            | Self::Handshake => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::SlowHead | Self::SlowBody | Self::SlowReader => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::TooManyConnections | Self::TooManyFromClient => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// One sentence for the client.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Malformed => "The request is malformed.",
            Self::BadHost => "The request needs exactly one valid Host.",
            Self::BadTarget => "The request target is not a path.",
            Self::Method => "This method is not forwarded.",
            Self::HeadTooLarge => "The request head is too large.",
            Self::SlowHead => "The request head took too long.",
            Self::BodyTooLarge => "The request body is too large.",
            Self::Loop => "The request has been here before.",
            Self::SlowBody => "The request body took too long.",
            Self::Denied => "This client is not let in.",
            Self::RateLimited => "Too many requests. Please try again in a moment.",
            Self::NoRoute => "Nothing is published under this host and path.",
            Self::TooManyConnections => "Too many connections are open.",
            Self::TooManyFromClient => "Too many connections of this client are open.",
            Self::ProxyHeader => "The PROXY header is not believed.",
            Self::Handshake => "The TLS handshake failed.",
            Self::SlowReader => "The answer was not taken.",
        }
    }

    /// Whether a whole connection was turned away, not a request on one.
    pub const fn is_of_connection(self) -> bool {
        matches!(
            self,
            Self::TooManyConnections
                | Self::TooManyFromClient
                | Self::ProxyHeader
                | Self::Handshake
                | Self::SlowReader
        )
    }

    /// For tables of counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}
