//! The loop rehearses a failover: a drill begun or stopped by the operator, and told of when it ends.

use std::sync::Arc;

use super::{Handed, Steering};
use crate::clock;
use crate::control::announce::{self, DrillFate};
use crate::control::drills::Drills;
use crate::exchange::commands::{DrillRequest, DrillWord};
use crate::model::drill::{DrillEnd, DrillRecord, NoDrill};
use crate::model::id::Label;

impl Steering {
    /// Begins or stops a drill, and answers once that is in force.
    pub(super) fn rehearse(&mut self, request: DrillRequest) {
        let DrillRequest { service, word, done } = request;
        let answer = self.drill(&service, word);
        if let Err(refused) = &answer {
            tracing::info!(%refused, "drill refused");
        }
        if done.send(answer).is_err() {
            tracing::debug!("nobody waits for the drill any more");
        }
    }

    fn drill(&mut self, service: &Label, word: DrillWord) -> Result<DrillRecord, NoDrill> {
        if self.handed == Handed::Over {
            return Err(NoDrill::HandingOver);
        }
        let (now, wall) = (clock::now(), clock::wall());
        let topology = Arc::clone(&self.publisher.current().routing.topology);
        let (record, transitions) = match word {
            DrillWord::Begin { share, lasts, reason } => {
                let (standing, out) = self.detector.begin_drill(service, (share, lasts), now)?;
                let record =
                    self.drills.begin((service, &standing), (lasts, reason), &topology, wall);
                self.journal.add(
                    announce::announce_drill(&record, DrillFate::Begun, self.next_generation()),
                    wall,
                );
                (record, out)
            }
            DrillWord::Stop => {
                let out = self.detector.stop_drill(service, now)?;
                self.tell_drills();
                let all = self.drills.all();
                let mut stopped = all.iter().filter(|record| record.service == *service);
                let record = stopped.next().cloned();
                (record.ok_or_else(|| NoDrill::NotRunning(service.clone()))?, out)
            }
        };
        self.fall_behind();
        self.conclude(&transitions, now);
        Ok(record)
    }

    /// Tells which have ended, and keeps the figures of those that are on.
    pub(super) fn tell_drills(&mut self) {
        if self.drills.is_idle() {
            return;
        }
        let topology = Arc::clone(&self.publisher.current().routing.topology);
        for (id, standing) in self.detector.drilled() {
            let service = &topology.pool(id).service;
            self.drills.note(service, &standing);
            self.tell_end(service, standing.end.unwrap_or(Drills::GONE));
        }
        for service in self.drills.orphans(&topology) {
            self.tell_end(&service, Drills::GONE);
        }
        for (id, pool) in topology.pools() {
            if let Some((standing, _)) = self.detector.drill(id) {
                self.drills.note(&pool.service, &standing);
            }
        }
    }

    fn tell_end(&mut self, service: &Label, end: DrillEnd) {
        let wall = clock::wall();
        let Some(record) = self.drills.end(service, end, wall) else { return };
        self.metrics.drilled(service, end);
        let line = announce::announce_drill(&record, DrillFate::Ended, self.next_generation());
        self.journal.add(line, wall);
    }
}
