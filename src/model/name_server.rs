//! Who tells the addresses of upstream names.

use std::net::{IpAddr, SocketAddr};

/// A server of names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NameServer {
    /// Where it is.
    pub host: ServerHost,
    /// TCP and UDP port.
    pub port: u16,
    /// How it is spoken to.
    pub speech: Speech,
}

/// Where a server of names is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServerHost {
    /// There.
    Address(IpAddr),
    /// Where the system says that this name is.
    Name(Box<str>),
}

/// How a server of names is spoken to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Speech {
    /// UDP, and TCP for long answers.
    Plain,
    /// DNS over TLS (RFC 7858), for a certificate of this name.
    Tls(Box<str>),
    /// DNS over HTTPS (RFC 8484).
    Https {
        /// Of its certificate, and asked for as host.
        name: Box<str>,
        /// Beginning with a slash.
        path: Box<str>,
    },
}

impl NameServer {
    /// Where it is, if nobody has to be asked for that.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.host {
            ServerHost::Address(ip) => Some(SocketAddr::new(ip, self.port)),
            ServerHost::Name(_) => None,
        }
    }
}
