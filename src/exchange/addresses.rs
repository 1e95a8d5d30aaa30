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
