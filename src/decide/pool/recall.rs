//! What a pool should still know after a restart, and how it goes on from there.

use std::collections::BTreeMap;

use super::{Context, PoolWatch};
use crate::decide::course::{Course, Occasion};
use crate::model::health::Transition;
use crate::model::id::{Label, UpstreamKey};
use crate::model::memory::{Memory, PoolMemory, UpstreamMemory};

/// What is remembered, by what it is about.
pub struct Recall<'a> {
    upstreams: BTreeMap<&'a UpstreamKey, &'a UpstreamMemory>,
    pools: BTreeMap<&'a Label, &'a PoolMemory>,
}

impl<'a> Recall<'a> {
    /// Of a process before this one.
    pub fn of(memory: &'a Memory) -> Self {
        Self {
            upstreams: memory.upstreams.iter().map(|known| (&known.key, known)).collect(),
            pools: memory.pools.iter().map(|known| (&known.service, known)).collect(),
        }
    }
}

impl PoolWatch {
    /// What should still be known after a restart.
    pub fn memory(&self, context: &Context) -> PoolMemory {
        let stay_until = self.course.stay_until().filter(|until| context.now < *until);
        PoolMemory { service: context.pool().service.clone(), stay_until }
    }

    /// Goes on from there: plans anew, as if the pool had never had another plan.
    pub fn resume(&mut self, recall: &Recall<'_>, context: &Context, out: &mut Vec<Transition>) {
        self.wake();
        let rule = context.pool().rules.failover;
        for (watch, upstream) in self.watches.iter_mut().zip(&context.pool().upstreams) {
            if let Some(known) = recall.upstreams.get(&watch.key) {
                watch.resume(known, &rule, (*upstream, context.now), out);
            }
        }
        let known = recall.pools.get(&context.pool().service);
        let most = context.now + rule.min_stay;
        let stay_until = known.and_then(|known| known.stay_until).map(|until| until.min(most));
        self.course = Course::resume(stay_until);
        self.replan(Occasion::Reload, context, out);
    }
}
