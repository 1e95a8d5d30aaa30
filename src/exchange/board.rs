//! What the detector thinks, as of the last drain, for people: admin shows it, nothing decides by it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::snapshot::View;
use crate::model::health::{PoolStanding, Transition, UpstreamStanding};
use crate::model::unit::Generation;

/// Transitions kept for the status page; older ones are in the log.
pub const RECENT: usize = 256;

/// One look at everything. Ids are those of `view`'s topology.
#[derive(Clone, Debug)]
pub struct BoardView {
    /// When it was drawn.
    pub at: SystemTime,
    /// The snapshot in force.
    pub view: Arc<View>,
    /// By `UpstreamId`.
    pub upstreams: Vec<UpstreamStanding>,
    /// By `PoolId`.
    pub pools: Vec<PoolStanding>,
    /// The last [`RECENT`] transitions, oldest first.
    pub recent: Arc<VecDeque<Entry>>,
}

/// A transition with the names it had, so that it survives a reload.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When, on the wall.
    pub at: SystemTime,
    /// Of which service.
    pub service: String,
    /// As the log says it.
    pub text: String,
    /// The snapshot in force after it.
    pub generation: Generation,
    /// The transition itself; its ids are those of the topology of its time.
    pub transition: Transition,
}

/// Written by steering at each drain, read by admin.
#[derive(Clone, Debug)]
pub struct Board(Arc<ArcSwap<BoardView>>);

impl Board {
    /// With a first look.
    pub fn new(first: BoardView) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(first)))
    }

    /// By steering only.
    pub fn publish(&self, next: BoardView) {
        self.0.store(Arc::new(next));
    }

    /// As of the last drain.
    pub fn current(&self) -> Arc<BoardView> {
        self.0.load_full()
    }
}
