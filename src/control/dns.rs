//! Upstream names to addresses, off the request path: one keeper a name, each writing the address
//! book of its upstream. The last good answer is kept when no new one comes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::names::{Found, NameError, Names};
use crate::clock;
use crate::exchange::addresses::Answer;
use crate::exchange::evidence::{Evidence, EvidenceSender};
use crate::exchange::snapshot::{SnapshotReader, View};
use crate::exchange::state::UpstreamState;
use crate::model::signal::Reply;
use crate::model::topology::EndpointHost;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::setup::Chain;

/// Least time between two look-ups of one name, asked for or not.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// Longest time between two look-ups while they fail.
const MOST_BACKOFF: Duration = Duration::from_secs(30);
/// How long an address is still tried, after the others, that a later answer does not name: providers
/// show each time a few of many.
const RECENT: Duration = Duration::from_secs(60);
/// Addresses kept of an answer.
const MOST_KEPT: usize = 32;

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
                recent: Vec::new(),
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
    /// Addresses with the time at which an answer named them last.
    recent: Vec<(SocketAddr, Instant)>,
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
                let fresh = addresses.into_iter().map(|ip| SocketAddr::new(ip, self.port));
                let addresses = self.with_recent(fresh.collect(), now);
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

impl Keeper {
    /// The addresses of an answer, then those of answers just before it.
    fn with_recent(&mut self, mut fresh: Vec<SocketAddr>, now: Instant) -> Vec<SocketAddr> {
        // Of more than there is room for, those that have not failed.
        if fresh.len() > MOST_KEPT {
            self.upstream.addresses.order(&mut fresh, now);
            fresh.truncate(MOST_KEPT);
        }
        let is_recent = |at: Instant| now.saturating_duration_since(at) < RECENT;
        self.recent.retain(|(address, at)| is_recent(*at) && !fresh.contains(address));
        let mut all = fresh.clone();
        all.extend(self.recent.iter().map(|(address, _)| *address));
        all.truncate(MOST_KEPT);
        self.recent.extend(fresh.into_iter().map(|address| (address, now)));
        self.recent.truncate(2 * MOST_KEPT);
        all
    }
}

/// 1 s, 2 s, 4 s and so on, bounded.
fn backoff(failures: u32) -> Duration {
    LEAST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(MOST_BACKOFF)
}

#[cfg(test)]
mod tests;
