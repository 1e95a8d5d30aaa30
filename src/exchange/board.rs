//! What the detector thinks, as of the last drain, for people: admin shows it, nothing decides by it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::snapshot::View;
use crate::model::drill::DrillRecord;
use crate::model::health::{PoolStanding, ProviderHealth, UpstreamStanding};
use crate::model::operator::StandingOrder;
use crate::model::unit::Generation;

/// Entries of the journal kept at hand; older ones are on disk, where there is a state folder.
pub const RECENT: usize = 4096;

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
    /// By `ProviderId`.
    pub providers: Vec<ProviderHealth>,
    /// What the operator ordered.
    pub orders: Arc<[StandingOrder]>,
    /// Drills that are on, then the last that ended.
    pub drills: Arc<[DrillRecord]>,
    /// The last [`RECENT`] entries of the journal, oldest first.
    pub recent: Arc<VecDeque<Arc<Entry>>>,
}

/// One entry of the journal, with the names it had, so that it survives a reload.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When, on the wall.
    pub at: SystemTime,
    /// Of which service; empty: of all.
    pub service: String,
    /// As the log says it.
    pub text: String,
    /// The snapshot in force after it.
    pub generation: Generation,
    /// All of it, as one JSON object.
    pub json: Box<str>,
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
