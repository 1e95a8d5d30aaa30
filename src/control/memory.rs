//! What is remembered, as a file: a mirror of the values with wall-clock moments in place of
//! instants, versioned and bounded.
//!
//! In: a [`Remembered`], or the bytes of a file. Out: the other one. A file of another version or of
//! anybody else's is refused whole; an entry that makes no sense is left out.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use self::books::RawBooks;
use self::upstream::RawUpstream;
use super::incidents::{self, Open};
use super::orders::Moment;
use crate::model::id::{Label, UpstreamKey};
use crate::model::memory::{Memory, PoolMemory};
use crate::model::operator::{Order, Override, StandingOrder, Target};

mod books;
mod upstream;

/// Written into the file, so that nobody takes another one for it.
const FORMAT: &str = "bascule-memory";
/// Of the file's shape; a file of another one is set aside.
const VERSION: u32 = 1;
/// The file, in bytes: ten thousand upstreams need a tenth.
pub const MOST_BYTES: u64 = 32 * 1024 * 1024;
/// What was believed longer ago than this says nothing any more; orders and addresses have ends of
/// their own.
const LIVES: Duration = Duration::from_secs(24 * 60 * 60);
/// Entries of any one list.
const MOST_ENTRIES: usize = 50_000;
/// Addresses of one upstream.
const MOST_ADDRESSES: usize = 32;

/// Everything that outlives a restart.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// What the detector knows.
    pub memory: Memory,
    /// What the operator ordered.
    pub orders: Vec<StandingOrder>,
    /// Where upstreams were dialled last.
    pub addresses: Vec<(UpstreamKey, KnownAddresses)>,
    /// Incidents that are open, and times away from the first choice.
    pub open: Vec<Open>,
}

/// The last good answer for one upstream's name.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownAddresses {
    /// In the order in which to try them.
    pub addresses: Vec<SocketAddr>,
    /// When it was obtained.
    pub at: Instant,
}

/// Why a file is not what was remembered.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Cut short, or never JSON.
    #[error("it is damaged")]
    Damaged(#[source] serde_json::Error),
    /// Somebody else's, or another version's.
    #[error("it is {format} of version {version}, not {FORMAT} of version {VERSION}")]
    Foreign {
        /// As it says.
        format: String,
        /// As it says.
        version: u32,
    },
}

/// As bytes of a file.
///
/// # Errors
/// Never for what the process itself remembers.
pub fn write(remembered: &Remembered, at: Moment) -> serde_json::Result<Vec<u8>> {
    let scale = Scale(at);
    let Remembered { memory, orders, addresses, open } = remembered;
    let addresses = addresses.iter().map(|(key, known)| RawAddresses {
        upstream: RawKey::of(key),
        addresses: known.addresses.clone(),
        at_ms: scale.write(known.at),
    });
    serde_json::to_vec(&RawMemory {
        format: FORMAT.to_owned(),
        version: VERSION,
        written_ms: milliseconds(at.wall),
        upstreams: memory.upstreams.iter().map(|known| RawUpstream::of(known, scale)).collect(),
        pools: memory.pools.iter().filter_map(|known| RawPool::of(known, scale)).collect(),
        orders: orders.iter().map(RawOrder::of).collect(),
        addresses: addresses.collect(),
        open: open.iter().map(|books| RawBooks::of(books, scale)).collect(),
    })
}

/// What the bytes of a file say.
///
/// # Errors
/// When they are damaged or not ours.
pub fn read(bytes: &[u8], at: Moment) -> Result<Remembered, MemoryError> {
    let head: Head = serde_json::from_slice(bytes).map_err(MemoryError::Damaged)?;
    if head.format != FORMAT || head.version != VERSION {
        let format = head.format.chars().filter(|c| !c.is_control()).take(40).collect();
        return Err(MemoryError::Foreign { format, version: head.version });
    }
    let raw: RawMemory = serde_json::from_slice(bytes).map_err(MemoryError::Damaged)?;
    let scale = Scale(at);
    let age = Duration::from_millis(milliseconds(at.wall).saturating_sub(raw.written_ms));
    let is_fresh = age < LIVES;
    let upstreams = raw.upstreams.into_iter().take(MOST_ENTRIES).filter(|_| is_fresh);
    let pools = raw.pools.into_iter().take(MOST_ENTRIES).filter(|_| is_fresh);
    let memory = Memory {
        upstreams: upstreams.filter_map(|raw| raw.known(scale)).collect(),
        pools: pools.filter_map(|raw| raw.known(scale)).collect(),
    };
    let orders = raw.orders.into_iter().take(super::orders::MOST);
    let addresses = raw.addresses.into_iter().take(MOST_ENTRIES);
    let open = raw.open.into_iter().take(MOST_ENTRIES).filter(|_| age < incidents::QUIET);
    Ok(Remembered {
        memory,
        orders: orders.filter_map(|raw| raw.standing(at)).collect(),
        addresses: addresses.filter_map(|raw| raw.known(scale)).collect(),
        open: open.filter_map(|raw| raw.books(scale)).collect(),
    })
}

/// Between instants, which mean nothing in another process, and milliseconds since 1970.
#[derive(Clone, Copy)]
struct Scale(Moment);

impl Scale {
    fn write(self, at: Instant) -> u64 {
        let Self(Moment { now, wall }) = self;
        let behind = now.saturating_duration_since(at);
        let ahead = at.saturating_duration_since(now);
        milliseconds(wall.checked_sub(behind).unwrap_or(UNIX_EPOCH) + ahead)
    }

    /// A moment of another process; one that this clock cannot hold is now.
    fn read(self, ms: u64) -> Instant {
        let Self(Moment { now, wall }) = self;
        let wall = milliseconds(wall);
        let behind = Duration::from_millis(wall.saturating_sub(ms));
        let ahead = Duration::from_millis(ms.saturating_sub(wall));
        now.checked_sub(behind).and_then(|at| at.checked_add(ahead)).unwrap_or(now)
    }
}

fn milliseconds(wall: SystemTime) -> u64 {
    wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn wall(ms: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(ms))
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    format: String,
    #[serde(default)]
    version: u32,
}

#[derive(Deserialize, Serialize)]
struct RawMemory {
    format: String,
    version: u32,
    written_ms: u64,
    upstreams: Vec<RawUpstream>,
    pools: Vec<RawPool>,
    orders: Vec<RawOrder>,
    addresses: Vec<RawAddresses>,
    /// Missing in a file of before there were any.
    #[serde(default)]
    open: Vec<RawBooks>,
}

#[derive(Deserialize, Serialize)]
struct RawKey {
    service: String,
    provider: String,
    endpoint: String,
}

#[derive(Deserialize, Serialize)]
struct RawPool {
    service: String,
    stay_until_ms: u64,
}

#[derive(Deserialize, Serialize)]
struct RawOrder {
    service: Option<String>,
    provider: String,
    order: RawOrderKind,
    since_ms: u64,
    lapses_ms: Option<u64>,
    reason: String,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum RawOrderKind {
    Drain,
    ForceOut,
    ForceIn,
}

#[derive(Deserialize, Serialize)]
struct RawAddresses {
    upstream: RawKey,
    addresses: Vec<SocketAddr>,
    at_ms: u64,
}

impl RawKey {
    fn of(key: &UpstreamKey) -> Self {
        Self {
            service: key.service.to_string(),
            provider: key.provider.to_string(),
            endpoint: key.endpoint.to_string(),
        }
    }

    fn key(self) -> Option<UpstreamKey> {
        Some(UpstreamKey {
            service: Label::new(&self.service)?,
            provider: Label::new(&self.provider)?,
            endpoint: self.endpoint.into(),
        })
    }
}

impl RawPool {
    fn of(known: &PoolMemory, scale: Scale) -> Option<Self> {
        let stay_until_ms = scale.write(known.stay_until?);
        Some(Self { service: known.service.to_string(), stay_until_ms })
    }

    fn known(self, scale: Scale) -> Option<PoolMemory> {
        let stay_until = Some(scale.read(self.stay_until_ms));
        Some(PoolMemory { service: Label::new(&self.service)?, stay_until })
    }
}

impl RawOrder {
    fn of(standing: &StandingOrder) -> Self {
        let target = &standing.word.target;
        Self {
            service: target.service().map(ToString::to_string),
            provider: target.provider().to_string(),
            order: match standing.word.order {
                Order::Drain => RawOrderKind::Drain,
                Order::ForceOut => RawOrderKind::ForceOut,
                Order::ForceIn => RawOrderKind::ForceIn,
            },
            since_ms: milliseconds(standing.since),
            lapses_ms: standing.lapses.map(milliseconds),
            reason: standing.reason.to_string(),
        }
    }

    /// `None` for one that makes no sense. One that lapsed meanwhile lapses at once, and is told.
    fn standing(self, at: Moment) -> Option<StandingOrder> {
        let provider = Label::new(&self.provider)?;
        let target = match self.service {
            None => Target::Provider(provider),
            Some(service) => Target::Upstream { service: Label::new(&service)?, provider },
        };
        let order = match self.order {
            RawOrderKind::Drain => Order::Drain,
            RawOrderKind::ForceOut => Order::ForceOut,
            RawOrderKind::ForceIn => Order::ForceIn,
        };
        let until = self.lapses_ms.map(|ms| Scale(at).read(ms));
        let lapses = self.lapses_ms.and_then(wall);
        let reason = self.reason.chars().filter(|c| !c.is_control()).collect::<String>().into();
        let since = wall(self.since_ms)?;
        Some(StandingOrder { word: Override { target, order, until }, since, lapses, reason })
    }
}

impl RawAddresses {
    fn known(self, scale: Scale) -> Option<(UpstreamKey, KnownAddresses)> {
        let mut addresses = self.addresses;
        addresses.truncate(MOST_ADDRESSES);
        let known = KnownAddresses { addresses, at: scale.read(self.at_ms) };
        Some((self.upstream.key()?, known)).filter(|(_, known)| !known.addresses.is_empty())
    }
}
