//! Who is who in evidence, under the current topology.

use std::collections::HashMap;

use crate::exchange::evidence::Evidence;
use crate::exchange::state::States;
use crate::model::id::{Label, PoolId, UpstreamId};
use crate::model::signal::{
    ControlReport, Note, OriginReport, Pair, ProbeReport, ResolutionReport, Signal,
};
use crate::model::topology::Topology;

/// Who is who in evidence, under the current topology.
#[derive(Debug, Default)]
pub(super) struct Roster {
    upstreams: HashMap<u64, UpstreamId>,
    pools: HashMap<Label, PoolId>,
}

impl Roster {
    pub(super) fn of(topology: &Topology, states: &States) -> Self {
        let serials = states.upstreams.iter().map(|state| state.serial);
        Self {
            upstreams: serials.zip(topology.upstreams().map(|(id, _)| id)).collect(),
            pools: topology.pools().map(|(id, pool)| (pool.service.clone(), id)).collect(),
        }
    }

    /// `None` for evidence about what does not exist any more.
    pub(super) fn signal(&self, evidence: Evidence) -> Option<Signal> {
        let upstream = |serial: u64| self.upstreams.get(&serial).copied();
        Some(match evidence {
            Evidence::Note { serial, at, subject, witness, cell, marker } => {
                let upstream = upstream(serial)?;
                Signal::Note(Note { upstream, at, subject, witness, cell, marker })
            }
            Evidence::Pair { first, second, second_went, at, cell } => {
                let (first, second) = (upstream(first)?, upstream(second)?);
                Signal::Pair(Pair { first, second, second_went, at, cell })
            }
            Evidence::Probe { serial, at, result, took } => {
                Signal::Probe(ProbeReport { upstream: upstream(serial)?, at, result, took })
            }
            Evidence::Origin { service, at, result } => {
                Signal::Origin(OriginReport { pool: *self.pools.get(&service)?, at, result })
            }
            Evidence::Resolution { serial, at, reply } => {
                Signal::Resolution(ResolutionReport { upstream: upstream(serial)?, at, reply })
            }
            Evidence::Control { at, reply } => Signal::Control(ControlReport { at, reply }),
        })
    }
}
