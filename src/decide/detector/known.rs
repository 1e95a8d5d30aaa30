//! What was known before a reload, by what outlives it.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::decide::pool::PoolWatch;
use crate::decide::watch::Watch;
use crate::model::id::{Label, UpstreamId, UpstreamKey};
use crate::model::topology::{HostPattern, Pool, Topology};

/// What was known under the topology before, by what outlives it.
#[derive(Default)]
pub(super) struct Known {
    watches: BTreeMap<UpstreamKey, Watch>,
    pools: BTreeMap<Label, PoolWatch>,
}

impl Known {
    /// From `before`, with the upstreams' ids as they are in `after`.
    pub(super) fn of(pools: Vec<PoolWatch>, before: &Topology, after: &Topology) -> Self {
        let ids: BTreeMap<_, _> = after.upstreams().map(|(id, up)| (&up.key, id)).collect();
        let renumber = |id: UpstreamId| ids.get(&before.upstream(id).key).copied();
        let mut known = Self::default();
        for (mut pool, was) in pools.into_iter().zip(&before.pools) {
            let now = after.pools.iter().find(|pool| pool.service == was.service);
            let realms = now.map(|pool| pool.realms.clone()).unwrap_or_default();
            pool.renumber(&realms, &renumber);
            let watches = std::mem::take(&mut pool.watches);
            known.watches.extend(watches.into_iter().map(|watch| (watch.key.clone(), watch)));
            known.pools.insert(was.service.clone(), pool);
        }
        known
    }

    pub(super) fn resume(
        &mut self,
        (pool, hosts): (&Pool, Vec<HostPattern>),
        topology: &Topology,
        now: Instant,
    ) -> PoolWatch {
        let rule = &pool.rules.failover;
        let mut watches = Vec::new();
        for upstream in &pool.upstreams {
            let key = &topology.upstream(*upstream).key;
            let known = self.watches.remove(key);
            let mut watch = known.unwrap_or_else(|| Watch::new(key.clone(), rule, now));
            watch.adopt(rule);
            watches.push(watch);
        }
        let Some(mut known) = self.pools.remove(&pool.service) else {
            return PoolWatch::new(watches, pool, hosts, now);
        };
        known.adopt(watches, pool, now);
        known.adopt_hosts(hosts, pool, now);
        known
    }
}
