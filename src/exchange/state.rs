//! What the planes share about each upstream and each pool. Kept across reloads by key, so that no
//! counter, address or verdict is forgotten when a file changes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderValue, Version};

use super::addresses::AddressBook;
use super::lately::{KnownNames, Lately};
use super::ledger::{HostLedger, PoolRow, UpstreamRow};
use crate::model::cell::HostId;
use crate::model::health::{ProbePace, Retries};
use crate::model::id::{Label, PoolId, UpstreamId, UpstreamKey};
use crate::model::instance::Instance;
use crate::model::operator::AdminState;
use crate::model::topology::{EndpointHost, Topology, Upstream};
use crate::model::unit::Permille;

/// Shared state of everything in one topology, index for index.
#[derive(Debug, Default)]
pub struct States {
    /// By [`UpstreamId`].
    pub upstreams: Vec<Arc<UpstreamState>>,
    /// By [`UpstreamId`]: outcomes by host, of pools that have several. Hosts are numbered by the
    /// topology, so that these do not outlive it.
    pub hosts: Vec<Option<Arc<HostLedger>>>,
    /// By [`PoolId`].
    pub pools: Vec<Arc<PoolState>>,
    /// This process.
    pub instance: Instance,
}

impl States {
    /// For a topology; whatever `before` knows under the same key is carried over. `serials` counts
    /// on from the last number given out in this process.
    pub fn adopt(topology: &Topology, before: &Self, seed: &mut Seed) -> Self {
        let known: HashMap<_, _> = before.upstreams.iter().map(|s| (&s.key, s)).collect();
        let upstreams = topology
            .upstreams
            .iter()
            .map(|upstream| match known.get(&upstream.key) {
                Some(state) => Arc::clone(state),
                None => Arc::new(UpstreamState::new(
                    upstream.key.clone(),
                    &upstream.endpoint.host,
                    upstream.endpoint.port,
                    seed,
                )),
            })
            .collect();
        let known: HashMap<_, _> = before.pools.iter().map(|s| (&s.service, s)).collect();
        let pools = topology
            .pools
            .iter()
            .map(|pool| match known.get(&pool.service) {
                Some(state) => Arc::clone(state),
                None => Arc::new(PoolState::new(pool.service.clone(), seed.workers, seed.now)),
            })
            .collect();
        let by_pool = topology.hosts_of_all();
        let mut ledger = |upstream: &Upstream| {
            let hosts = by_pool[upstream.pool.index()].len().min(HostId::MOST);
            (hosts > 1).then(|| {
                seed.serial += 1;
                Arc::new(HostLedger::new(seed.serial, seed.workers, hosts))
            })
        };
        let hosts = topology.upstreams.iter().map(&mut ledger).collect();
        Self { upstreams, hosts, pools, instance: seed.instance }
    }

    /// The state of an upstream of the same topology.
    pub fn upstream(&self, id: UpstreamId) -> &Arc<UpstreamState> {
        &self.upstreams[id.index()]
    }

    /// The state of a pool of the same topology.
    pub fn pool(&self, id: PoolId) -> &Arc<PoolState> {
        &self.pools[id.index()]
    }
}

/// What new states are made from.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    /// Rows of each ledger.
    pub workers: usize,
    /// Last serial number given out.
    pub serial: u64,
    /// The beginning of new windows.
    pub now: Instant,
    /// This process.
    pub instance: Instance,
}

fn via(signature: &str) -> [HeaderValue; 3] {
    // Digits and hyphens are a field value.
    ["1.0", "1.1", "2"].map(|version| {
        HeaderValue::try_from(format!("{version} {signature}"))
            .unwrap_or(HeaderValue::from_static("1.1 bascule"))
    })
}

/// Bits of [`UpstreamState::left`]: the operator keeps it out.
const OUT: u8 = 1;
/// Whoever waits there should move on.
const AVOIDED: u8 = 2;

/// What the planes share about one upstream.
#[derive(Debug)]
pub struct UpstreamState {
    /// Unique in this process, never reused: names the upstream in evidence and in pools of
    /// connections, whatever topology is current.
    pub serial: u64,
    /// Who it is.
    pub key: UpstreamKey,
    /// Our element of `Via` in requests to it, by the protocol in which they came to us.
    via: [HeaderValue; 3],
    /// Counters, a row per worker.
    pub rows: Box<[UpstreamRow]>,
    /// Where to dial.
    pub addresses: AddressBook,
    /// Host names that it answered well, among those that a wildcard covers.
    pub names: KnownNames,
    late_after_millis: AtomicU64,
    left: AtomicU8,
    marker_armed: AtomicBool,
    pace: AtomicU8,
    /// In thousandths.
    admits: AtomicU16,
}

impl UpstreamState {
    /// Of a new upstream; one with a literal address needs no look-up.
    pub fn new(key: UpstreamKey, host: &EndpointHost, port: u16, seed: &mut Seed) -> Self {
        seed.serial += 1;
        let addresses = match host {
            EndpointHost::Address(ip) => AddressBook::fixed(SocketAddr::new(*ip, port)),
            EndpointHost::Name(_) => AddressBook::empty(),
        };
        Self {
            serial: seed.serial,
            key,
            via: via(&seed.instance.signature(seed.serial)),
            rows: (0..seed.workers).map(|_| UpstreamRow::default()).collect(),
            addresses,
            names: KnownNames::new(seed.now),
            late_after_millis: AtomicU64::new(1000),
            left: AtomicU8::new(0),
            marker_armed: AtomicBool::new(false),
            pace: AtomicU8::new(0),
            admits: AtomicU16::new(Permille::ALL.get()),
        }
    }

    /// Our element of `Via` for a request that came to us in this version.
    pub fn via(&self, came_in: Version) -> &HeaderValue {
        match came_in {
            Version::HTTP_2 => &self.via[2],
            Version::HTTP_10 => &self.via[0],
            _ => &self.via[1],
        }
    }

    /// From when a head counts as late. Written by steering, at least 1 s.
    pub fn late_after(&self) -> Duration {
        Duration::from_millis(self.late_after_millis.load(Ordering::Relaxed))
    }

    /// By steering only.
    pub fn set_late_after(&self, limit: Duration) {
        self.late_after_millis.store(limit.as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether the upstream was left: waiting safe requests move on, idle connections close.
    pub fn is_avoided(&self) -> bool {
        self.left.load(Ordering::Acquire) >= AVOIDED
    }

    /// Whether a request that began under an older snapshot may still come here: not once the
    /// operator has said no, even if nothing else is left.
    pub fn is_out(&self) -> bool {
        self.left.load(Ordering::Acquire) & OUT != 0
    }

    /// By steering only, before the snapshot that leaves the upstream out is published.
    pub fn set_left(&self, avoided: bool, admin: AdminState) {
        let by_health = if avoided { AVOIDED } else { 0 };
        let code = match admin {
            AdminState::Auto | AdminState::ForcedIn => by_health,
            // What waits at a draining one may finish.
            AdminState::Draining => OUT,
            AdminState::ForcedOut => OUT | AVOIDED,
        };
        self.left.store(code, Ordering::Release);
    }

    /// By steering only, when a new configuration has it no more: requests that began under the old
    /// one go there no more either.
    pub fn retire(&self) {
        self.left.store(OUT | AVOIDED, Ordering::Release);
    }

    /// Whether the absence of its origin marker means something.
    pub fn is_marker_armed(&self) -> bool {
        self.marker_armed.load(Ordering::Relaxed)
    }

    /// By steering only.
    pub fn set_marker_armed(&self, armed: bool) {
        self.marker_armed.store(armed, Ordering::Relaxed);
    }

    /// Share of what the plan gives it that it can hold, as far as it was learned.
    pub fn admits(&self) -> Permille {
        Permille::new(self.admits.load(Ordering::Relaxed)).unwrap_or(Permille::ALL)
    }

    /// By steering only.
    pub fn set_admits(&self, share: Permille) {
        self.admits.store(share.get(), Ordering::Relaxed);
    }

    /// Attempts whose answer has not ended yet, of all workers.
    pub fn in_flight(&self) -> u64 {
        self.rows.iter().map(|row| row.in_flight.get()).sum()
    }

    /// How fast to probe.
    pub fn pace(&self) -> ProbePace {
        match self.pace.load(Ordering::Relaxed) {
            1 => ProbePace::Brisk,
            2 => ProbePace::Urgent,
            _ => ProbePace::Normal,
        }
    }

    /// By steering only.
    pub fn set_pace(&self, pace: ProbePace) {
        let code = match pace {
            ProbePace::Normal => 0,
            ProbePace::Brisk => 1,
            ProbePace::Urgent => 2,
        };
        self.pace.store(code, Ordering::Relaxed);
    }
}

/// What the planes share about one pool.
#[derive(Debug)]
pub struct PoolState {
    /// Whose.
    pub service: Label,
    /// Counters, a row per worker.
    pub rows: Box<[PoolRow]>,
    /// Who had a good answer lately.
    pub clients: Lately,
    /// Beginning of the budget's seconds.
    pub began: Instant,
    one_retry_a_second: AtomicBool,
}

impl PoolState {
    /// Of a new pool.
    pub fn new(service: Label, workers: usize, began: Instant) -> Self {
        let rows = (0..workers).map(|_| PoolRow::default()).collect();
        let one_retry_a_second = AtomicBool::new(false);
        Self { service, rows, clients: Lately::new(began), began, one_retry_a_second }
    }

    /// How many requests may be tried a second time.
    pub fn retries(&self) -> Retries {
        match self.one_retry_a_second.load(Ordering::Relaxed) {
            true => Retries::OneASecond,
            false => Retries::Budget,
        }
    }

    /// By steering only.
    pub fn set_retries(&self, retries: Retries) {
        self.one_retry_a_second.store(retries == Retries::OneASecond, Ordering::Relaxed);
    }
}
