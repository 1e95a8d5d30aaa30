//! Which clients had a good answer from a service lately: a bounded table that every worker writes
//! and reads without waiting.
//!
//! A slot holds one client prefix and the minute of its last good answer, in one word, so that the
//! two never disagree. Two prefixes that fall into one slot forget each other: then a client is taken
//! for a stranger, and what is done to strangers says nothing. The table is made with the first good
//! answer that carries a marker; services without one never have it.

use std::num::NonZeroU64;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Client prefixes remembered of one service: 32 KiB.
const SLOTS: usize = 4096;
/// For how many whole minutes a good answer is remembered.
const MINUTES: u64 = 10;
/// Bits of a slot that hold the minute: two thousand years of them do not fit, thirty do.
const MINUTE_BITS: u32 = 24;
const MINUTE_MASK: u64 = (1 << MINUTE_BITS) - 1;

/// Clients of one service.
#[derive(Debug)]
pub struct KnownClients {
    began: Instant,
    slots: OnceLock<Box<[AtomicU64]>>,
}

impl KnownClients {
    /// Nobody is known.
    pub fn new(began: Instant) -> Self {
        Self { began, slots: OnceLock::new() }
    }

    /// The client of this prefix had a good answer.
    pub fn note(&self, prefix: NonZeroU64, now: Instant) {
        let slots = self.slots.get_or_init(|| (0..SLOTS).map(|_| AtomicU64::new(0)).collect());
        let (place, word) = self.word(prefix, now);
        // A busy client is written once a minute: the line stays shared between workers.
        if slots[place].load(Ordering::Relaxed) != word {
            slots[place].store(word, Ordering::Relaxed);
        }
    }

    /// Whether it had one in the last ten minutes.
    pub fn knows(&self, prefix: NonZeroU64, now: Instant) -> bool {
        let Some(slots) = self.slots.get() else { return false };
        let (place, word) = self.word(prefix, now);
        let kept = slots[place].load(Ordering::Relaxed);
        let age = (word & MINUTE_MASK).saturating_sub(kept & MINUTE_MASK);
        kept != 0 && kept >> MINUTE_BITS == word >> MINUTE_BITS && age <= MINUTES
    }

    fn word(&self, prefix: NonZeroU64, now: Instant) -> (usize, u64) {
        // Beginning at one, so that no word is zero.
        let minute = now.saturating_duration_since(self.began).as_secs() / MINUTE.as_secs() + 1;
        let hash = prefix.get();
        (hash as usize % SLOTS, hash << MINUTE_BITS | minute.min(MINUTE_MASK))
    }
}

const MINUTE: Duration = Duration::from_secs(60);

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
        let clients = KnownClients::new(began);
        assert!(!clients.knows(prefix(7), began), "nobody is known at first");
        clients.note(prefix(7), began + 5 * MINUTE);
        assert!(clients.knows(prefix(7), began + 15 * MINUTE));
        assert!(!clients.knows(prefix(7), began + 16 * MINUTE));
        assert!(!clients.knows(prefix(8), began + 5 * MINUTE), "another one");
    }

    #[test]
    fn two_clients_of_one_slot_are_never_taken_for_each_other() {
        let began = clock::now();
        let clients = KnownClients::new(began);
        let (first, second) = (prefix(9), prefix(9 + SLOTS as u64));
        clients.note(first, began);
        assert!(!clients.knows(second, began));
        clients.note(second, began);
        assert!(clients.knows(second, began) && !clients.knows(first, began));
    }
}
