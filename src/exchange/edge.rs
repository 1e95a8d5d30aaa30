//! What happens at the listeners before a request has a service: connections, refusals.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;

use super::clients::{Expectations, OpenByClient};
use super::forwarded::Forwarded;
use super::ledger::Counter;
use crate::model::refusal::Refusal;

/// Every listener's counters, and the count of open connections that the limit is about.
#[derive(Debug, Default)]
pub struct Edge {
    open: AtomicUsize,
    /// Open connections of each client.
    pub by_client: Arc<OpenByClient>,
    /// Made at the first request of a service that has a rate.
    expectations: OnceLock<Expectations>,
    listeners: ArcSwap<Vec<Arc<ListenerState>>>,
}

impl Edge {
    /// Takes a place for one connection; `None` when `limit` are open. The place is given back when
    /// the value is dropped.
    pub fn admit(self: &Arc<Self>, limit: usize) -> Option<Place> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        if before < limit {
            Some(Place(Arc::clone(self)))
        } else {
            self.open.fetch_sub(1, Ordering::Relaxed);
            None
        }
    }

    /// How often each client asks; times count from the first `now`.
    pub fn expectations(&self, now: Instant) -> &Expectations {
        self.expectations.get_or_init(|| Expectations::new(now))
    }

    /// Client connections that are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The listeners of the current configuration.
    pub fn listeners(&self) -> Arc<Vec<Arc<ListenerState>>> {
        self.listeners.load_full()
    }

    /// By reload only.
    pub fn replace(&self, listeners: Vec<Arc<ListenerState>>) {
        self.listeners.store(Arc::new(listeners));
    }
}

/// One open connection's place under the limit.
#[derive(Debug)]
pub struct Place(Arc<Edge>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counters of one listener.
#[derive(Debug)]
pub struct ListenerState {
    /// As it is bound; the `listener` label.
    pub address: SocketAddr,
    /// A row per worker.
    pub rows: Box<[EdgeRow]>,
}

impl ListenerState {
    /// Of a new listener.
    pub fn new(address: SocketAddr, workers: usize) -> Self {
        Self { address, rows: (0..workers).map(|_| EdgeRow::default()).collect() }
    }
}

/// What one worker counted at one listener.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct EdgeRow {
    /// Connections that are open.
    pub open: Counter,
    /// Connections accepted so far.
    pub accepted: Counter,
    /// Answers to requests that no service took, by class of their code, 1xx first.
    pub answers: [Counter; 5],
    refusals: [Counter; Refusal::ALL.len()],
    /// Whether clients come through somebody who should be trusted.
    pub forwarded: Forwarded,
}

impl EdgeRow {
    /// By its one writer only.
    pub fn refuse(&self, refusal: Refusal) {
        self.refusals[refusal.index()].add(1);
    }

    /// How often a reason applied.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refusals[refusal.index()].get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let edge = Arc::new(Edge::default());
        let first = edge.admit(1).expect("a free place");
        assert!(edge.admit(1).is_none());
        drop(first);
        assert!(edge.admit(1).is_some());
        assert_eq!(edge.open(), 0);
    }
}
