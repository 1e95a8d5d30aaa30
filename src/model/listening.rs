//! How a listener treats those who connect.

/// What one listener does, besides TLS.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Manner {
    /// Whether it serves at all.
    pub redirect: Redirect,
    /// Whether connections begin with who the client is.
    pub proxy_header: ProxyHeader,
}

/// Whether clients are served, or sent to another place.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Redirect {
    /// They are served.
    #[default]
    No,
    /// 308 to the same host and path over TLS.
    Https,
}

/// Whether connections begin with a header of the PROXY protocol, which says who the client is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ProxyHeader {
    /// They do not.
    #[default]
    Off,
    /// Each does, in version 1 or 2, and comes from one of `trusted_proxies`.
    Required,
}
