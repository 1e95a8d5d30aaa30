//! The routing snapshot and the states that belong to it, as one value: one writer, many readers.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::state::States;
use crate::model::unit::Generation;
use crate::routing::snapshot::RoutingSnapshot;

/// What a request reads once, at its beginning, and keeps to its end.
#[derive(Debug)]
pub struct View {
    /// Whom to ask, in which order.
    pub routing: RoutingSnapshot,
    /// Counters, addresses and the rest, index for index with the snapshot's topology.
    pub states: Arc<States>,
    /// TLS towards each upstream, index for index; `None` for cleartext ones.
    pub tls: Arc<[Option<Arc<rustls::ClientConfig>>]>,
}

/// The readers' end. Clone freely.
#[derive(Clone, Debug)]
pub struct SnapshotReader {
    current: Arc<ArcSwap<View>>,
    changed: watch::Receiver<Generation>,
}

/// The writer's end. Not `Clone`: the steering loop owns the only one.
#[derive(Debug)]
pub struct SnapshotPublisher {
    current: Arc<ArcSwap<View>>,
    changed: watch::Sender<Generation>,
}

/// Both ends, around a first view.
pub fn channel(first: View) -> (SnapshotPublisher, SnapshotReader) {
    let (sender, receiver) = watch::channel(first.routing.generation);
    let current = Arc::new(ArcSwap::from_pointee(first));
    let reader = SnapshotReader { current: Arc::clone(&current), changed: receiver };
    (SnapshotPublisher { current, changed: sender }, reader)
}

impl SnapshotReader {
    /// Call once per request and keep the `Arc`: two loads may show two different worlds.
    pub fn current(&self) -> Arc<View> {
        self.current.load_full()
    }

    /// Ends when a view newer than the last one awaited here is current; `false` once there is no
    /// writer any more.
    pub async fn changed(&mut self) -> bool {
        self.changed.changed().await.is_ok()
    }
}

impl SnapshotPublisher {
    /// Requests in flight finish on the view they began with.
    pub fn publish(&mut self, next: View) {
        let generation = next.routing.generation;
        debug_assert!(self.current.load().routing.generation < generation, "generations only grow");
        self.current.store(Arc::new(next));
        self.changed.send_replace(generation);
    }

    /// What readers see now.
    pub fn current(&self) -> Arc<View> {
        self.current.load_full()
    }
}
