//! The routing snapshot: matcher, plans and what they are about, under one number.

use std::sync::Arc;

use super::matcher::Matcher;
use crate::model::id::PoolId;
use crate::model::plan::PoolPlan;
use crate::model::topology::Topology;
use crate::model::unit::Generation;

/// Immutable; a request reads one from its head to its last byte.
#[derive(Clone, Debug)]
pub struct RoutingSnapshot {
    /// Only grows.
    pub generation: Generation,
    /// What exists.
    pub topology: Arc<Topology>,
    /// Host and prefix to pool; rebuilt only when the topology changes.
    pub matcher: Arc<Matcher>,
    /// By [`PoolId`].
    pub plans: Vec<Arc<PoolPlan>>,
}

impl RoutingSnapshot {
    /// The plan of a pool of this snapshot's topology, for people; a request goes by that of its realm.
    pub fn plan(&self, pool: PoolId) -> &PoolPlan {
        &self.plans[pool.index()]
    }
}
