//! What is counted for each client: connections that are open, and how often it asks. Bounded, however
//! many clients there are.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::model::allowance::{Allowance, TICKS, ticks};
use crate::model::client::ClientKey;
use crate::model::id::Label;

/// Parts of the table of connections, so that workers seldom wait for each other.
const SHARDS: usize = 16;

/// Open connections of each client. Holds no more clients than there are connections, which
/// `limits.max_connections` bounds.
#[derive(Debug, Default)]
pub struct OpenByClient {
    hasher: RandomState,
    shards: [Mutex<HashMap<ClientKey, u32>>; SHARDS],
}

impl OpenByClient {
    /// Takes a place for one connection of a client; `None` when it has `limit` already. The place is
    /// given back when the value is dropped.
    pub fn admit(self: &Arc<Self>, client: ClientKey, limit: u32) -> Option<ClientPlace> {
        let mut shard = self.shard(client);
        let open = shard.entry(client).or_insert(0);
        if *open >= limit {
            return None;
        }
        *open += 1;
        drop(shard);
        Some(ClientPlace { all: Arc::clone(self), client })
    }

    fn shard(&self, client: ClientKey) -> MutexGuard<'_, HashMap<ClientKey, u32>> {
        let place = self.hasher.hash_one(client) as usize % SHARDS;
        // A count is right even where another thread panicked right after it.
        self.shards[place].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open connection's place among its client's.
#[derive(Debug)]
pub struct ClientPlace {
    all: Arc<OpenByClient>,
    client: ClientKey,
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        let mut shard = self.all.shard(self.client);
        if let Some(open) = shard.get_mut(&self.client) {
            *open -= 1;
            if *open == 0 {
                shard.remove(&self.client);
            }
        }
    }
}

/// Slots that a client may have: one cache line.
const WAYS: usize = 8;
/// Sets of slots; with 8 bytes a slot the table takes 4 MiB.
const SETS: usize = 1 << 16;
/// Bits of a slot that say when the next request is expected: 14 years of ticks.
const TIME_BITS: u32 = 52;
/// Attempts at a slot that other workers write too; after that the request is allowed.
const PATIENCE: usize = 8;

/// When each client of each service is expected next. Of fixed size: a client whose time has come is
/// as good as forgotten, and where eight clients of one set are all ahead of theirs, the one that is
/// least so is forgiven.
#[derive(Debug)]
pub struct Expectations {
    hasher: RandomState,
    began: Instant,
    /// A tag of the client above [`TIME_BITS`], then the time; 0: free.
    slots: Box<[AtomicU64]>,
}

impl Expectations {
    /// Of nobody yet; times count from `began`.
    pub fn new(began: Instant) -> Self {
        let slots = (0..SETS * WAYS).map(|_| AtomicU64::new(0)).collect();
        Self { hasher: RandomState::new(), began, slots }
    }

    /// Takes one request of a client of a service into account.
    ///
    /// # Errors
    /// The wait until it would be allowed.
    pub fn admit(
        &self,
        service: &Label,
        client: ClientKey,
        allowance: Allowance,
        now: Instant,
    ) -> Result<(), Duration> {
        let hash = self.hasher.hash_one((service.as_str(), client));
        let set = hash as usize % SETS * WAYS;
        let set = &self.slots[set..set + WAYS];
        let tag = (hash >> TIME_BITS).max(1) << TIME_BITS;
        // 0 would be a free slot's.
        let now = ticks(now.saturating_duration_since(self.began)).saturating_add(1);
        for _ in 0..PATIENCE {
            let (slot, word) = find(set, tag, now);
            let expected = if is_tagged(word, tag) { time(word) } else { now };
            let next = match allowance.admit(expected, now) {
                Ok(next) => tag | time(next),
                Err(early) => return Err(duration(early)),
            };
            let swapped = slot.compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed);
            if swapped.is_ok() {
                break;
            }
        }
        Ok(())
    }
}

/// The slot of a tag, or the one that it may have: whose time has come, or comes soonest.
fn find(set: &[AtomicU64], tag: u64, now: u64) -> (&AtomicU64, u64) {
    let words = || set.iter().map(|slot| (slot, slot.load(Ordering::Relaxed)));
    let own = words().find(|(_, word)| is_tagged(*word, tag));
    let soonest = || words().min_by_key(|(_, word)| time(*word).max(now));
    own.or_else(soonest).unwrap_or((&set[0], 0))
}

fn is_tagged(word: u64, tag: u64) -> bool {
    word >> TIME_BITS == tag >> TIME_BITS
}

fn time(word: u64) -> u64 {
    word & ((1 << TIME_BITS) - 1)
}

fn duration(wait: u64) -> Duration {
    Duration::from_nanos(wait.saturating_mul(1_000_000_000 / TICKS))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn client(number: u32) -> ClientKey {
        ClientKey::of(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin at")]
    fn now() -> Instant {
        Instant::now()
    }

    fn service(name: &str) -> Label {
        Label::new(name).expect("a label")
    }

    #[test]
    fn a_client_has_its_places_and_no_more() {
        let open = Arc::new(OpenByClient::default());
        let first = open.admit(client(1), 2).expect("a place");
        let _second = open.admit(client(1), 2).expect("a place");
        assert!(open.admit(client(1), 2).is_none());
        assert!(open.admit(client(2), 2).is_some(), "another client has its own");
        drop(first);
        assert!(open.admit(client(1), 2).is_some());
    }

    #[test]
    fn no_client_is_remembered_once_its_connections_are_closed() {
        let open = Arc::new(OpenByClient::default());
        let places: Vec<_> = (0..1000).map(|n| open.admit(client(n), 1)).collect();
        assert!(open.admit(client(3), 1).is_none());
        drop(places);
        assert!(open.shards.iter().all(|s| s.lock().expect("a shard").is_empty()));
    }

    #[test]
    fn each_client_of_each_service_has_a_rate_of_its_own() {
        let now = now();
        let all = Expectations::new(now);
        let allowance = Allowance::new(Duration::from_secs(1), 2);
        let (portal, api) = (service("portal"), service("api"));
        let ask = |service, client| all.admit(service, client, allowance, now);
        assert!(ask(&portal, client(1)).is_ok());
        assert!(ask(&portal, client(1)).is_ok());
        assert_eq!(ask(&portal, client(1)), Err(Duration::from_secs(1)));
        assert!(ask(&portal, client(2)).is_ok());
        assert!(ask(&api, client(1)).is_ok());
        let later = now + Duration::from_secs(1);
        assert!(all.admit(&portal, client(1), allowance, later).is_ok());
    }

    #[test]
    fn a_full_table_forgives_rather_than_refusing_a_stranger() {
        let now = now();
        let all = Expectations::new(now);
        let allowance = Allowance::new(Duration::from_secs(3600), 1);
        let portal = service("portal");
        let strangers = (SETS * WAYS * 2) as u32;
        let refused = (0..strangers)
            .filter(|n| all.admit(&portal, client(*n), allowance, now).is_err())
            .count();
        // Two clients with one tag in one set are taken for one: 8 in 4,096 at the most.
        assert!(refused < strangers as usize / 250, "{refused} of {strangers}");
    }
}
