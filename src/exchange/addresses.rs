//! Where to dial an upstream: the last good answer, with its age, which of its addresses failed
//! lately, and a bell for a new look-up.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

/// How long an address that failed is tried after the others.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Failures remembered; for a further one the oldest is forgotten. As many as addresses are looked at
/// of one answer.
pub const MOST_FAILURES: usize = 1024;

/// Addresses of one upstream. Written by `control::dns`, read at every dial.
#[derive(Debug)]
pub struct AddressBook {
    current: ArcSwap<Answer>,
    wanted: Notify,
    /// Of every worker: none has to find out by itself.
    failures: Mutex<Failures>,
}

/// Addresses that failed lately, the latest last.
#[derive(Debug, Default)]
struct Failures(Vec<(SocketAddr, Instant)>);

impl Failures {
    fn note(&mut self, address: SocketAddr, now: Instant) {
        self.0.retain(|(other, at)| *other != address && is_recent(*at, now));
        if self.0.len() >= MOST_FAILURES {
            self.0.remove(0);
        }
        self.0.push((address, now));
    }

    fn forgive(&mut self, address: SocketAddr) {
        self.0.retain(|(other, _)| *other != address);
    }

    /// Those that did not fail first, as they came; then those whose failure is the longest ago, so that
    /// where all have failed each has its turn.
    fn order(&self, addresses: &mut [SocketAddr], now: Instant) {
        addresses.sort_by_cached_key(|address| {
            let known = self.0.iter().position(|(other, _)| other == address);
            known.filter(|place| is_recent(self.0[*place].1, now))
        });
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < REMEMBERED
}

/// One answer. Empty until the first look-up succeeded.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// In the order in which to try them.
    pub addresses: Vec<SocketAddr>,
    /// When it was obtained; `None` for a literal address or before the first one.
    pub at: Option<Instant>,
}

impl AddressBook {
    /// Nothing known yet.
    pub fn empty() -> Self {
        Self::of(Answer::default())
    }

    /// A literal address that no look-up ever changes.
    pub fn fixed(address: SocketAddr) -> Self {
        Self::of(Answer { addresses: vec![address], at: None })
    }

    fn of(answer: Answer) -> Self {
        let current = ArcSwap::from_pointee(answer);
        Self { current, wanted: Notify::new(), failures: Mutex::default() }
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        // A list of failures is right even where another thread panicked right after it.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last good answer's addresses in the order in which to try them.
    pub fn to_try(&self, now: Instant) -> Vec<SocketAddr> {
        let mut addresses = self.current.load().addresses.clone();
        self.order(&mut addresses, now);
        addresses
    }

    /// Puts those last that failed lately.
    pub fn order(&self, addresses: &mut [SocketAddr], now: Instant) {
        let failures = self.failures();
        if !failures.0.is_empty() {
            failures.order(addresses, now);
        }
    }

    /// An address took no connection, or shook no hands on it.
    pub fn failed(&self, address: SocketAddr, now: Instant) {
        self.failures().note(address, now);
    }

    /// An address serves.
    pub fn served(&self, address: SocketAddr) {
        self.failures().forgive(address);
    }

    /// The last good answer.
    pub fn current(&self) -> Arc<Answer> {
        self.current.load_full()
    }

    /// Whether an address is one to dial today; where none is known, whatever was is.
    pub fn names(&self, address: SocketAddr) -> bool {
        let answer = self.current.load();
        answer.addresses.is_empty() || answer.addresses.contains(&address)
    }

    /// By `control::dns` only, and never with an empty answer: the last good one is kept.
    pub fn publish(&self, answer: Answer) {
        debug_assert!(!answer.addresses.is_empty(), "an empty answer never replaces a good one");
        self.current.store(Arc::new(answer));
    }

    /// By `control::dns` only, when the last good answer is too old to go by.
    pub fn forget(&self) {
        self.current.store(Arc::default());
    }

    /// A dial failed: look the name up again soon. Never waits.
    pub fn ask_again(&self) {
        self.wanted.notify_one();
    }

    /// Ends when somebody asked for a new look-up.
    pub async fn asked(&self) {
        self.wanted.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin at")]
    fn start() -> Instant {
        Instant::now()
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 443))
    }

    #[test]
    fn addresses_that_failed_come_last_until_they_serve_or_it_is_forgotten() {
        let start = start();
        let book = AddressBook::empty();
        book.publish(Answer { addresses: (1..=4).map(address).collect(), at: None });
        let order = |now| book.to_try(now).iter().map(|a| a.to_string()).collect::<Vec<_>>();
        let expected = |order: [u8; 4]| order.map(|last| address(last).to_string());
        assert_eq!(order(start), expected([1, 2, 3, 4]));
        book.failed(address(2), start);
        book.failed(address(1), start);
        assert_eq!(order(start), expected([3, 4, 2, 1]));
        book.failed(address(3), start);
        book.failed(address(4), start);
        book.failed(address(2), start);
        assert_eq!(order(start), expected([1, 3, 4, 2]), "where all failed each has its turn");
        book.served(address(4));
        assert_eq!(order(start), expected([4, 1, 3, 2]));
        assert_eq!(order(start + REMEMBERED), expected([1, 2, 3, 4]));
    }

    #[test]
    fn no_more_failures_are_remembered_than_there_is_room_for() {
        let start = start();
        let mut failures = Failures::default();
        let many = 2 * MOST_FAILURES as u32;
        let address = |n: u32| SocketAddr::from((n.to_be_bytes(), 443));
        (0..many).for_each(|n| failures.note(address(n), start));
        assert_eq!(failures.0.len(), MOST_FAILURES);
        let mut two = [address(many - 1), address(0)];
        failures.order(&mut two, start);
        assert_eq!(two, [address(0), address(many - 1)], "the oldest is forgotten");
    }

    #[test]
    fn a_book_names_what_its_answer_holds_and_everything_while_it_has_none() {
        let book = AddressBook::empty();
        assert!(book.names(address(1)), "nothing is known better");
        book.publish(Answer { addresses: vec![address(1)], at: None });
        assert!(book.names(address(1)) && !book.names(address(2)));
        book.forget();
        assert!(book.names(address(2)));
        assert!(!AddressBook::fixed(address(1)).names(address(2)));
    }
}
