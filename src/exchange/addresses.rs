//! Where to dial an upstream: the last good answer, with its age, and a bell for a new look-up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

/// Addresses of one upstream. Written by `control::dns`, read at every dial.
#[derive(Debug)]
pub struct AddressBook {
    current: ArcSwap<Answer>,
    wanted: Notify,
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
        Self { current: ArcSwap::from_pointee(Answer::default()), wanted: Notify::new() }
    }

    /// A literal address that no look-up ever changes.
    pub fn fixed(address: SocketAddr) -> Self {
        let answer = Answer { addresses: vec![address], at: None };
        Self { current: ArcSwap::from_pointee(answer), wanted: Notify::new() }
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

    #[test]
    fn a_book_names_what_its_answer_holds_and_everything_while_it_has_none() {
        let address = |last| SocketAddr::from(([192, 0, 2, last], 443));
        let book = AddressBook::empty();
        assert!(book.names(address(1)), "nothing is known better");
        book.publish(Answer { addresses: vec![address(1)], at: None });
        assert!(book.names(address(1)) && !book.names(address(2)));
        book.forget();
        assert!(book.names(address(2)));
        assert!(!AddressBook::fixed(address(1)).names(address(2)));
    }
}
