//! Who had a good answer lately: bounded tables that every worker writes and reads without waiting.
//! One says which clients a service knows, the other which host names an upstream does.
//!
//! A slot holds one hash and the minute of its last good answer, in one word, so that the two never
//! disagree. Two that fall into one slot forget each other: then one is taken for a stranger, and what
//! is done to strangers says nothing. A table is made with its first entry; who needs none has none.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU64;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Hashes remembered by one table: 32 KiB.
const SLOTS: usize = 4096;
/// For how many whole minutes a good answer is remembered.
const MINUTES: u64 = 10;
/// Bits of a slot that hold the minute: two thousand years of them do not fit, thirty do.
const MINUTE_BITS: u32 = 24;
const MINUTE_MASK: u64 = (1 << MINUTE_BITS) - 1;

/// One table.
#[derive(Debug)]
pub struct Lately {
    began: Instant,
    slots: OnceLock<Box<[AtomicU64]>>,
}

impl Lately {
    /// Nobody is known.
    pub fn new(began: Instant) -> Self {
        Self { began, slots: OnceLock::new() }
    }

    /// This one had a good answer.
    pub fn note(&self, hash: NonZeroU64, now: Instant) {
        let slots = self.slots.get_or_init(|| (0..SLOTS).map(|_| AtomicU64::new(0)).collect());
        let (place, word) = self.word(hash, now);
        // A busy client is written once a minute: the line stays shared between workers.
        if slots[place].load(Ordering::Relaxed) != word {
            slots[place].store(word, Ordering::Relaxed);
        }
    }

    /// Whether it had one in the last ten minutes.
    pub fn knows(&self, hash: NonZeroU64, now: Instant) -> bool {
        let Some(slots) = self.slots.get() else { return false };
        let (place, word) = self.word(hash, now);
        let kept = slots[place].load(Ordering::Relaxed);
        let age = (word & MINUTE_MASK).saturating_sub(kept & MINUTE_MASK);
        kept != 0 && kept >> MINUTE_BITS == word >> MINUTE_BITS && age <= MINUTES
    }

    /// Whether it never had an entry.
    pub fn is_empty(&self) -> bool {
        self.slots.get().is_none()
    }

    fn word(&self, hash: NonZeroU64, now: Instant) -> (usize, u64) {
        // Beginning at one, so that no word is zero.
        let minute = now.saturating_duration_since(self.began).as_secs() / MINUTE.as_secs() + 1;
        let hash = hash.get();
        (hash as usize % SLOTS, hash << MINUTE_BITS | minute.min(MINUTE_MASK))
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// Host names that an upstream answers well. Clients can make up any name that a wildcard covers, and
/// how an upstream fails for it says nothing: its certificate was never meant to cover it.
#[derive(Debug)]
pub struct KnownNames {
    /// Nobody outside can find two names of one hash.
    key: RandomState,
    table: Lately,
}

/// A name, as one upstream remembers it.
#[derive(Clone, Copy, Debug)]
pub struct NameHash(NonZeroU64);

impl KnownNames {
    /// None is known.
    pub fn new(began: Instant) -> Self {
        Self { key: RandomState::new(), table: Lately::new(began) }
    }

    /// A name, letters in either case being the same.
    pub fn hash(&self, name: &[u8]) -> NameHash {
        let hash = self.key.hash_one(name.to_ascii_lowercase());
        NameHash(NonZeroU64::MIN.saturating_add(hash >> 1))
    }

    /// It had a good answer.
    pub fn note(&self, name: NameHash, now: Instant) {
        self.table.note(name.0, now);
    }

    /// Whether it had one in the last ten minutes.
    pub fn knows(&self, name: NameHash, now: Instant) -> bool {
        self.table.knows(name.0, now)
    }

    /// Whether no name ever had one.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn prefix(hash: u64) -> NonZeroU64 {
        NonZeroU64::new(hash).expect("not zero")
    }

    #[test]
    fn a_client_is_known_for_ten_minutes_after_its_last_good_answer() {
        let began = clock::now();
        let clients = Lately::new(began);
        assert!(!clients.knows(prefix(7), began), "nobody is known at first");
        clients.note(prefix(7), began + 5 * MINUTE);
        assert!(clients.knows(prefix(7), began + 15 * MINUTE));
        assert!(!clients.knows(prefix(7), began + 16 * MINUTE));
        assert!(!clients.knows(prefix(8), began + 5 * MINUTE), "another one");
    }

    #[test]
    fn a_name_is_known_however_it_is_spelled() {
        let began = clock::now();
        let names = KnownNames::new(began);
        assert!(names.is_empty());
        names.note(names.hash(b"WWW.portal.example"), began);
        assert!(names.knows(names.hash(b"www.Portal.example"), began) && !names.is_empty());
        assert!(!names.knows(names.hash(b"x.portal.example"), began));
    }

    #[test]
    fn two_clients_of_one_slot_are_never_taken_for_each_other() {
        let began = clock::now();
        let clients = Lately::new(began);
        let (first, second) = (prefix(9), prefix(9 + SLOTS as u64));
        clients.note(first, began);
        assert!(!clients.knows(second, began));
        clients.note(second, began);
        assert!(clients.knows(second, began) && !clients.knows(first, began));
    }
}
