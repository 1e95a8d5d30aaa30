//! The loop obeys the operator: an instruction to the detector, to the journal and to an answer.

use std::sync::Arc;
use std::time::Instant;

use super::{Handed, Steering, same};
use crate::clock;
use crate::control::announce::{self, OrderFate};
use crate::control::orders::{self, Change, Moment};
use crate::exchange::commands::{Disobeyed, Instruction, Obeyed};
use crate::model::id::PoolId;
use crate::model::operator::Target;
use crate::model::plan::PoolMode;
use crate::model::realm::Realm;
use crate::model::unit::Generation;

impl Steering {
    /// Does what the operator says, and answers once it is in force.
    pub(super) fn obey(&mut self, instruction: Instruction) {
        let Instruction { target, word, done } = instruction;
        let at = Moment { now: clock::now(), wall: clock::wall() };
        let topology = Arc::clone(&self.publisher.current().routing.topology);
        let taken = match self.handed {
            Handed::Over => Err(Disobeyed::HandingOver),
            Handed::At(_) | Handed::Behind => self.orders.take(&target, &word, &topology, at),
        };
        let answer = taken.map(|change| {
            let transitions = self.detector.obey(self.orders.overrides(), at.now);
            self.tell_order(&change, at);
            self.fall_behind();
            self.conclude(&transitions, at.now);
            self.obeyed(&target, change != Change::Nothing)
        });
        if let Err(refused) = &answer {
            tracing::info!(%refused, "order refused");
        }
        if done.send(answer).is_err() {
            tracing::debug!("nobody waits for the order any more");
        }
    }

    fn tell_order(&mut self, change: &Change, at: Moment) {
        let (order, fate) = match change {
            Change::Given(order) => (order, OrderFate::Given),
            Change::TakenBack(order) => (order, OrderFate::TakenBack),
            Change::Nothing => return,
        };
        self.journal
            .add(announce::announce_order(order, fate, self.next_generation(), at.wall), at.wall);
    }

    /// Tells which orders are over; the detector knows by itself.
    pub(super) fn lapse(&mut self, now: Instant) {
        if self.orders.is_empty() {
            return;
        }
        let wall = clock::wall();
        for order in self.orders.lapse(now) {
            let line =
                announce::announce_order(&order, OrderFate::Lapsed, self.next_generation(), wall);
            self.journal.add(line, wall);
        }
    }

    fn obeyed(&self, target: &Target, changed: bool) -> Obeyed {
        let routing = &self.publisher.current().routing;
        let topology = &routing.topology;
        let about = topology.upstreams.iter().filter(|upstream| target.covers(&upstream.key));
        let mut pools: Vec<PoolId> = about.clone().map(|upstream| upstream.pool).collect();
        pools.dedup();
        let (mut closed, mut closed_routes) = (Vec::new(), Vec::new());
        for id in pools {
            let (pool, plan) = (topology.pool(id), routing.plan(id));
            let realms = pool.realms.in_use().iter().enumerate();
            let is_closed =
                |(place, _): &(usize, &Realm)| plan.worst_of(*place) == PoolMode::FailClosed;
            let (shut, open): (Vec<_>, Vec<_>) = realms.partition(is_closed);
            if open.is_empty() {
                closed.push(pool.service.clone());
            } else {
                let routes =
                    |(_, realm): (usize, &Realm)| (pool.service.clone(), realm.charter().clone());
                closed_routes.extend(shut.into_iter().map(routes));
            }
        }
        Obeyed {
            generation: routing.generation,
            changed,
            upstreams: about.map(|upstream| upstream.key.to_string()).collect(),
            barred: orders::barred(target, topology),
            closed,
            closed_routes,
            others: self.orders.others(target),
        }
    }

    /// The snapshot in force once the detector's plans are.
    pub(super) fn next_generation(&self) -> Generation {
        let routing = &self.publisher.current().routing;
        let stays = same(&self.detector.plans(), &routing.plans);
        if stays { routing.generation } else { routing.generation.next() }
    }
}
