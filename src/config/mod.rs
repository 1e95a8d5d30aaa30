//! YAML text to one immutable [`Config`], or every complaint at once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rustls::sign::CertifiedKey;

use crate::model::limits::Limits;
use crate::model::topology::Topology;

/// A valid configuration, everything it names already read.
#[derive(Clone, Debug)]
pub struct Config {
    /// What exists.
    pub topology: Arc<Topology>,
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Where the operator connects.
    pub admin: Option<Admin>,
    /// How upstream names become addresses.
    pub resolver: Resolver,
    /// Bounds on what clients can take.
    pub limits: Limits,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Worker threads; at least 1 (`0` in the file is one per core, resolved by the caller's count).
    pub workers: usize,
    /// Every file that was read, for the watcher: the file itself, includes, certificates, pages.
    pub files: Vec<PathBuf>,
    /// What is valid and still probably not meant.
    pub lints: Vec<complaint::Complaint>,
}

/// Where clients connect.
#[derive(Clone, Debug)]
pub struct Listener {
    /// `[::]` takes IPv4 too.
    pub address: SocketAddr,
    /// `None`: cleartext.
    pub tls: Option<ListenerTls>,
}

/// TLS of one listener.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// In the order of the file: the first one serves clients without SNI. Each with the names it
    /// holds (lower case; wildcards as `*.example`).
    pub certificates: Vec<Certificate>,
    /// Least version.
    pub min_version: TlsVersion,
}

/// One certificate with its key, checked to belong together.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// DNS names and addresses of its subject alternative names.
    pub names: Vec<Box<str>>,
    /// Chain and key.
    pub key: Arc<CertifiedKey>,
}

/// Least TLS version towards clients.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TlsVersion {
    /// 1.2 and 1.3.
    #[default]
    V1_2,
    /// 1.3 only.
    V1_3,
}

/// Where the operator connects.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Loopback unless there is a token.
    pub address: SocketAddr,
    /// Bearer token, read from its file; never logged.
    pub token: Option<Secret>,
}

/// A value that no log line, answer or error ever shows.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps it.
    pub fn new(value: &str) -> Self {
        Self(value.into())
    }

    /// The value, for comparing or sending; never for showing.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How upstream names become addresses.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// Asked in parallel pairs; empty: the system's.
    pub servers: Vec<SocketAddr>,
    /// How long the last good answer is kept when no new one comes.
    pub stale: Duration,
}

pub mod complaint;
