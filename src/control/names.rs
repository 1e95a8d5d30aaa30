//! One look-up: a name to addresses, through whatever the file names as resolver.
//!
//! Every look-up is made by a fresh resolver: it reads the system's configuration anew, and a
//! resolver that lives long can get stuck on servers that have died (hickory-dns issue 3837).

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Record, RecordType};

use crate::clock;
use crate::exchange::addresses::MOST_FAILURES;
use crate::model::name_server::{NameServer, ServerHost, Speech};

/// Bounds of an answer's life, whatever its TTL says.
pub(super) const LIFE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// For one server's answer.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// For a whole look-up, however many servers are asked.
const TIMEOUT: Duration = Duration::from_secs(8);
/// Addresses looked at of one answer.
pub(super) const MOST_ADDRESSES: usize = MOST_FAILURES;
/// How long one family is waited for when the other has brought addresses: a server that never says
/// that there is none must not keep those back.
const RESOLUTION_DELAY: Duration = Duration::from_millis(500);
/// How long the address of a server that is known by name is gone by.
const SERVER_LIFE: Duration = Duration::from_secs(300);

/// Looks names up: by named servers, or the system's way (hosts file included in both).
#[derive(Clone, Debug)]
pub struct Names {
    servers: Arc<[NameServer]>,
    /// Towards servers that are spoken to over TLS.
    tls: Arc<rustls::ClientConfig>,
    /// Of servers that are known by name, with the time of the answer; one entry each at most.
    found: Arc<Mutex<ServersFound>>,
}

/// By name.
type ServersFound = HashMap<Box<str>, (IpAddr, Instant)>;

/// A good answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// At least one, IPv6 first, without repetition.
    pub addresses: Vec<IpAddr>,
    /// How long to go by it.
    pub life: Duration,
}

/// Why a look-up brought no address.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// The system's configuration cannot be read.
    #[error("the resolver cannot be set up")]
    Setup(#[source] NetError),
    /// No server gave an answer, or all say that there is none.
    #[error("no answer")]
    NoAnswer(#[source] NetError),
    /// An answer without an address.
    #[error("an empty answer")]
    Empty,
    /// No server answered in time.
    #[error("no answer in time")]
    TooLate,
    /// The system does not know where the servers of the file are.
    #[error("no address of any name server is known")]
    NoServer,
}

impl Names {
    /// By these servers; by the system's where there are none.
    pub fn new(servers: &[NameServer], tls: Arc<rustls::ClientConfig>) -> Self {
        Self { servers: servers.into(), tls, found: Arc::default() }
    }

    /// One look-up, both families.
    ///
    /// # Errors
    /// When it brings no address.
    pub async fn look_up(&self, name: &str) -> Result<Found, NameError> {
        match tokio::time::timeout(TIMEOUT, self.ask(name)).await {
            Ok(answer) => answer,
            Err(_) => Err(NameError::TooLate),
        }
    }

    async fn ask(&self, name: &str) -> Result<Found, NameError> {
        let mut servers = Vec::with_capacity(self.servers.len());
        for server in self.servers.iter() {
            match &server.host {
                ServerHost::Address(ip) => servers.push(configured(server, *ip)),
                ServerHost::Name(known_as) => {
                    let ip = self.server(known_as).await;
                    servers.extend(ip.map(|ip| configured(server, ip)));
                }
            }
        }
        if servers.is_empty() && !self.servers.is_empty() {
            return Err(NameError::NoServer);
        }
        let resolver = self.resolver(servers).map_err(NameError::Setup)?;
        found(&resolver, name).await
    }

    /// Where a server is that the file knows by name: as the system says, or last said.
    async fn server(&self, name: &str) -> Option<IpAddr> {
        let known = || self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let last = known().get(name).copied();
        let now = clock::now();
        if let Some((ip, at)) = last
            && now.saturating_duration_since(at) < SERVER_LIFE
        {
            return Some(ip);
        }
        let answer = match self.resolver(Vec::new()) {
            Ok(resolver) => found(&resolver, name).await.ok(),
            Err(_) => None,
        };
        match answer.and_then(|answer| answer.addresses.first().copied()) {
            Some(ip) => {
                known().insert(name.into(), (ip, now));
                Some(ip)
            }
            None => last.map(|(ip, _)| ip),
        }
    }

    /// By these; by the system's where there are none.
    fn resolver(&self, servers: Vec<NameServerConfig>) -> Result<TokioResolver, NetError> {
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
                .with_tls_config(rustls::ClientConfig::clone(&self.tls))
        };
        let options = builder.options_mut();
        options.timeout = SERVER_TIMEOUT;
        options.attempts = 1;
        // A word without a dot is asked for as it is typed, before any search list.
        options.ndots = 0;
        // The address book is the cache.
        options.cache_size = 0;
        builder.build()
    }
}

/// A name with a dot in it is whole: with the system's search list behind it, one that is gone would
/// become somebody else's.
fn whole(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.contains('.').then(|| format!("{name}."))
}

async fn found(resolver: &TokioResolver, name: &str) -> Result<Found, NameError> {
    let records = match whole(name) {
        Some(whole) => both_families(resolver, &whole).await?,
        // A word of this machine's own network: both families of the first name that has any.
        None => {
            let answer = resolver.lookup_ip(name).await.map_err(NameError::NoAnswer)?;
            answer.as_lookup().answers().to_vec()
        }
    };
    let mut addresses = Vec::new();
    for address in records.iter().filter_map(|record| record.data.ip_addr()) {
        if addresses.len() < MOST_ADDRESSES && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(NameError::Empty);
    }
    // A chain of records lives as long as its shortest link.
    let ttl = records.iter().map(|record| record.ttl).min();
    let life = Duration::from_secs(ttl.unwrap_or(0).into()).clamp(LIFE.0, LIFE.1);
    Ok(Found { addresses, life })
}

/// Both families, IPv6 first; the one that has come where the other is late.
async fn both_families(resolver: &TokioResolver, name: &str) -> Result<Vec<Record>, NameError> {
    let asked = |family| async move {
        let answer = resolver.lookup(name, family).await.map_err(NameError::NoAnswer)?;
        Ok::<_, NameError>(answer.answers().to_vec())
    };
    let (mut v6, mut v4) = (pin!(asked(RecordType::AAAA)), pin!(asked(RecordType::A)));
    // What the other one has learned so far stays in its future.
    let (v6, v4) = tokio::select! {
        first = &mut v6 => {
            let second = second(&first, v4).await;
            (Some(first), second)
        }
        first = &mut v4 => {
            let second = second(&first, v6).await;
            (second, Some(first))
        }
    };
    match (v6, v4) {
        (Some(Ok(mut v6)), Some(Ok(v4))) => {
            v6.extend(v4);
            Ok(v6)
        }
        (Some(Ok(one)), _) | (_, Some(Ok(one))) => Ok(one),
        (Some(Err(error)), _) | (_, Some(Err(error))) => Err(error),
        (None, None) => Err(NameError::Empty),
    }
}

/// The other family, if it comes in time: where the first one brought nothing there is no hurry.
async fn second<A: Future<Output = Answered>>(first: &Answered, other: A) -> Option<Answered> {
    match first {
        Ok(records) if !records.is_empty() => {
            tokio::time::timeout(RESOLUTION_DELAY, other).await.ok()
        }
        Ok(_) | Err(_) => Some(other.await),
    }
}

type Answered = Result<Vec<Record>, NameError>;

fn configured(server: &NameServer, ip: IpAddr) -> NameServerConfig {
    let connections = match &server.speech {
        Speech::Plain => vec![ConnectionConfig::udp(), ConnectionConfig::tcp()],
        Speech::Tls(name) => vec![ConnectionConfig::tls((**name).into())],
        Speech::Https { name, path } => {
            vec![ConnectionConfig::https((**name).into(), Some((**path).into()))]
        }
    };
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = server.port;
        connection
    };
    NameServerConfig::new(ip, true, connections.into_iter().map(at_port).collect())
}

#[cfg(test)]
mod tests;
