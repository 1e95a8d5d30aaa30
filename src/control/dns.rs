//! Upstream names to addresses, off the request path: one keeper a name, each writing the address
//! book of its upstream. The last good answer is kept when no new one comes.
//!
//! Every look-up is made by a fresh resolver: it reads the system's configuration anew, and a
//! resolver that lives long can get stuck on servers that have died (hickory-dns issue 3837).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::clock;
use crate::exchange::addresses::Answer;
use crate::exchange::evidence::{Evidence, EvidenceSender};
use crate::exchange::snapshot::{SnapshotReader, View};
use crate::exchange::state::UpstreamState;
use crate::model::signal::Reply;
use crate::model::topology::EndpointHost;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::setup::Chain;

/// Bounds of an answer's life, whatever its TTL says.
const LIFE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// Least time between two look-ups of one name, asked for or not.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// Longest time between two look-ups while they fail.
const MOST_BACKOFF: Duration = Duration::from_secs(30);
/// For one server's answer.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// For a whole look-up, however many servers are asked.
const TIMEOUT: Duration = Duration::from_secs(8);
/// Addresses kept of one answer.
const MOST_ADDRESSES: usize = 32;

/// Looks names up: by named servers, or the system's way (hosts file included in both).
#[derive(Clone, Debug)]
pub struct Names {
    servers: Arc<[SocketAddr]>,
}

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
}

impl Names {
    /// By these servers; by the system's where there are none.
    pub fn new(servers: &[SocketAddr]) -> Self {
        Self { servers: servers.into() }
    }

    /// One look-up, both families.
    ///
    /// # Errors
    /// When it brings no address.
    pub async fn look_up(&self, name: &str) -> Result<Found, NameError> {
        let resolver = self.resolver().map_err(NameError::Setup)?;
        let answer = tokio::time::timeout(TIMEOUT, resolver.lookup_ip(name))
            .await
            .map_err(|_| NameError::TooLate)?
            .map_err(NameError::NoAnswer)?;
        let mut addresses = Vec::new();
        for address in answer.iter() {
            if addresses.len() < MOST_ADDRESSES && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(NameError::Empty);
        }
        // A chain of records lives as long as its shortest link.
        let ttl = answer.as_lookup().answers().iter().map(|record| record.ttl).min();
        let life = Duration::from_secs(ttl.unwrap_or(0).into()).clamp(LIFE.0, LIFE.1);
        Ok(Found { addresses, life })
    }

    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let mut builder = if self.servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let servers = self.servers.iter().map(|server| name_server(*server)).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.timeout = SERVER_TIMEOUT;
        options.attempts = 1;
        // Names are asked for as they are typed, before any search list.
        options.ndots = 0;
        // The address book is the cache.
        options.cache_size = 0;
        builder.build()
    }
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    NameServerConfig::new(server.ip(), true, connections.into())
}

/// Keeps every address book of the current topology.
#[derive(Debug)]
pub struct Dns {
    /// What there is to look up.
    pub snapshots: SnapshotReader,
    /// How.
    pub names: Names,
    /// How long the last good answer is kept when no new one comes.
    pub stale: Duration,
    /// Where each look-up's end goes.
    pub evidence: EvidenceSender,
    /// Where failures are counted.
    pub metrics: Metrics,
}

impl Dns {
    /// Keeps them until shutdown. Upstreams with a literal address need nothing.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut keepers = JoinSet::new();
        let mut running = HashMap::new();
        loop {
            self.adopt(&mut keepers, &mut running);
            // Dropping either arm half-way loses nothing: both only wait for a value that stays.
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => return,
                writing = self.snapshots.changed() => if !writing { return },
            }
        }
    }

    fn adopt(&self, keepers: &mut JoinSet<()>, running: &mut HashMap<u64, AbortHandle>) {
        let view = self.snapshots.current();
        running.retain(|serial, keeper| {
            let stays = view.states.upstreams.iter().any(|state| state.serial == *serial);
            if !stays {
                keeper.abort();
            }
            stays
        });
        for keeper in self.keepers(&view) {
            running
                .entry(keeper.upstream.serial)
                .or_insert_with(|| keepers.spawn_local(keeper.run()));
        }
        while keepers.try_join_next().is_some() {}
    }

    fn keepers(&self, view: &View) -> impl Iterator<Item = Keeper> {
        view.routing.topology.upstreams().filter_map(|(id, upstream)| {
            let EndpointHost::Name(name) = &upstream.endpoint.host else { return None };
            Some(Keeper {
                upstream: Arc::clone(view.states.upstream(id)),
                name: Rc::from(&**name),
                port: upstream.endpoint.port,
                names: self.names.clone(),
                stale: self.stale,
                evidence: self.evidence.clone(),
                metrics: self.metrics.clone(),
                failures: 0,
            })
        })
    }
}

/// Keeps one address book.
struct Keeper {
    upstream: Arc<UpstreamState>,
    name: Rc<str>,
    port: u16,
    names: Names,
    stale: Duration,
    evidence: EvidenceSender,
    metrics: Metrics,
    /// In a row.
    failures: u32,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            let result = self.names.look_up(&self.name).await;
            let now = clock::now();
            let reply = if result.is_ok() { Reply::Came } else { Reply::Missing };
            let serial = self.upstream.serial;
            self.evidence.send(Evidence::Resolution { serial, at: now, reply });
            let next = now + self.take(result, now);
            tokio::time::sleep_until((now + LEAST_PAUSE).into()).await;
            // Dropping either arm half-way loses nothing: a wish that comes in between stays.
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = self.upstream.addresses.asked() => {}
            }
        }
    }

    /// Takes a look-up's end in; how long to wait for the next one.
    fn take(&mut self, result: Result<Found, NameError>, now: Instant) -> Duration {
        match result {
            Ok(Found { addresses, life }) => {
                let addresses =
                    addresses.into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect();
                self.upstream.addresses.publish(Answer { addresses, at: Some(now) });
                if std::mem::take(&mut self.failures) > 0 {
                    tracing::info!(name = &*self.name, "name resolved again");
                }
                life
            }
            Err(error) => {
                self.metrics.dns_failure(&self.name);
                if self.failures == 0 {
                    tracing::warn!(name = &*self.name, error = %Chain(&error), "name not resolved");
                }
                self.failures = self.failures.saturating_add(1);
                let age = self.upstream.addresses.current().at.map(|at| now - at);
                if age.is_some_and(|age| age >= self.stale) {
                    self.upstream.addresses.forget();
                    tracing::error!(name = &*self.name, "last good addresses are too old");
                }
                backoff(self.failures)
            }
        }
    }
}

/// 1 s, 2 s, 4 s and so on, bounded.
fn backoff(failures: u32) -> Duration {
    LEAST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(MOST_BACKOFF)
}

#[cfg(test)]
mod tests;
