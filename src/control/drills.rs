//! The drills that are on, and the last that ended: by name, with the operator's reason.
//!
//! Not here: when a drill ends ([`crate::decide::drill`], [`crate::decide::pool`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::model::drill::{DrillEnd, DrillRecord, DrillStanding, Trouble};
use crate::model::id::Label;
use crate::model::topology::Topology;

/// Ended drills that are still shown; the journal has them all.
const KEPT: usize = 64;

/// All of them.
#[derive(Debug, Default)]
pub struct Drills {
    /// At most one a service.
    running: Vec<DrillRecord>,
    /// Oldest first.
    ended: VecDeque<DrillRecord>,
}

impl Drills {
    /// One has begun.
    pub fn begin(
        &mut self,
        (service, standing): (&Label, &DrillStanding),
        (lasts, reason): (Duration, Box<str>),
        topology: &Topology,
        wall: SystemTime,
    ) -> DrillRecord {
        let name = |upstream| topology.provider_of(upstream).name.clone();
        let record = DrillRecord {
            service: service.clone(),
            from: name(standing.from),
            to: name(standing.to),
            share: standing.share,
            began: wall,
            until: wall + lasts,
            reason,
            first: standing.first,
            fallback: standing.fallback,
            ended: None,
        };
        self.running.push(record.clone());
        record
    }

    /// What one that is on has come to so far.
    pub fn note(&mut self, service: &Label, standing: &DrillStanding) {
        let mut running = self.running.iter_mut();
        if let Some(record) = running.find(|record| record.service == *service) {
            (record.first, record.fallback) = (standing.first, standing.fallback);
        }
    }

    /// One has ended; `None` if nobody knew of it.
    pub fn end(&mut self, service: &Label, end: DrillEnd, wall: SystemTime) -> Option<DrillRecord> {
        let place = self.running.iter().position(|record| record.service == *service)?;
        let record = DrillRecord { ended: Some((end, wall)), ..self.running.remove(place) };
        if self.ended.len() == KEPT {
            self.ended.pop_front();
        }
        self.ended.push_back(record.clone());
        Some(record)
    }

    /// Services whose drill has gone with them.
    pub fn orphans(&self, topology: &Topology) -> Vec<Label> {
        let exists = |service: &Label| topology.pools.iter().any(|pool| pool.service == *service);
        let running = self.running.iter().map(|record| &record.service);
        running.filter(|service| !exists(service)).cloned().collect()
    }

    /// How such a one ends.
    pub const GONE: DrillEnd = DrillEnd::Trouble(Trouble::Reload);

    /// Whether none is on.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// For people: those that are on, then those that ended, the last one first.
    pub fn all(&self) -> Arc<[DrillRecord]> {
        self.running.iter().chain(self.ended.iter().rev()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::drill::DrillSide;
    use crate::model::example::{self, Example, label};
    use crate::model::id::UpstreamId;
    use crate::model::unit::Permille;

    fn topology() -> Topology {
        let of = |provider| Example {
            service: "portal",
            provider,
            seat: "SI",
            host: "192.0.2.1",
            port: 80,
        };
        example::topology(&[of("cloudflare"), of("bunny")])
    }

    #[test]
    fn only_the_last_that_ended_are_kept() {
        let (topology, portal) = (topology(), label("portal"));
        let mut drills = Drills::default();
        let fallback = DrillSide { attempts: 40, ..DrillSide::default() };
        let standing = DrillStanding {
            from: UpstreamId::new(0),
            to: UpstreamId::new(1),
            share: Permille::TENTH,
            first: DrillSide::default(),
            fallback,
            end: None,
        };
        let wall = SystemTime::UNIX_EPOCH;
        for _ in 0..KEPT + 5 {
            let lasts = (Duration::from_secs(60), "".into());
            drills.begin((&portal, &standing), lasts, &topology, wall);
            drills.note(&portal, &standing);
            let ended = drills.end(&portal, DrillEnd::Passed, wall).expect("it was on");
            assert_eq!((ended.to, ended.fallback), (label("bunny"), fallback));
        }
        assert_eq!(drills.all().len(), KEPT);
        assert_eq!(drills.end(&portal, DrillEnd::Passed, wall), None);
    }

    #[test]
    fn a_drill_whose_service_is_gone_is_an_orphan() {
        let (topology, portal) = (topology(), label("portal"));
        let mut drills = Drills::default();
        let standing = DrillStanding {
            from: UpstreamId::new(0),
            to: UpstreamId::new(1),
            share: Permille::TENTH,
            first: DrillSide::default(),
            fallback: DrillSide::default(),
            end: None,
        };
        let lasts = (Duration::from_secs(60), "".into());
        drills.begin((&portal, &standing), lasts, &topology, SystemTime::UNIX_EPOCH);
        assert!(drills.orphans(&topology).is_empty());
        assert_eq!(drills.orphans(&Topology::default()), [portal]);
    }
}
