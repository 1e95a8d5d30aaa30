//! Drills of services by name: begun, stopped, and told of once they have ended.

use std::time::{Duration, Instant};

use super::Detector;
use crate::model::drill::{DrillEnd, DrillStanding, NoDrill};
use crate::model::health::Transition;
use crate::model::id::{Label, PoolId};
use crate::model::unit::Permille;

impl Detector {
    /// Begins a drill of a service: `share` of its requests go to the fallback, for so long at most.
    ///
    /// # Errors
    /// When there is no such service, or this is no time for it.
    pub fn begin_drill(
        &mut self,
        service: &Label,
        (share, lasts): (Permille, Duration),
        now: Instant,
    ) -> Result<(DrillStanding, Vec<Transition>), NoDrill> {
        let index = self.index_of(service)?;
        self.shared.now = now;
        let (context, mut out) = (self.shared.context(index), Vec::new());
        let pool = &mut self.pools[index];
        if pool.drill().is_some() {
            return Err(NoDrill::Running(service.clone()));
        }
        let begun = pool.begin_drill((share, lasts), &context, &mut out);
        let begun = begun.map_err(|trouble| NoDrill::Trouble(service.clone(), trouble))?;
        self.publish();
        Ok((begun, out))
    }

    /// Ends the drill of a service by the operator's word.
    ///
    /// # Errors
    /// When there is none.
    pub fn stop_drill(
        &mut self,
        service: &Label,
        now: Instant,
    ) -> Result<Vec<Transition>, NoDrill> {
        let index = self.index_of(service)?;
        self.shared.now = now;
        let (context, mut out) = (self.shared.context(index), Vec::new());
        let pool = &mut self.pools[index];
        if pool.drill().is_none() {
            return Err(NoDrill::NotRunning(service.clone()));
        }
        pool.end_drill(DrillEnd::Stopped, &context, &mut out);
        self.publish();
        Ok(out)
    }

    /// The drill of a service that is on, and when it ends by itself.
    pub fn drill(&self, id: PoolId) -> Option<(DrillStanding, Instant)> {
        self.pools.get(id.index())?.drill()
    }

    /// Those that have ended since this was last asked.
    pub fn drilled(&mut self) -> Vec<(PoolId, DrillStanding)> {
        let pools = self.pools.iter_mut().enumerate();
        pools.filter_map(|(index, pool)| Some((PoolId::new(index), pool.drilled.take()?))).collect()
    }

    fn index_of(&self, service: &Label) -> Result<usize, NoDrill> {
        let mut pools = self.shared.topology.pools.iter();
        let found = pools.position(|pool| pool.service == *service);
        found.ok_or_else(|| NoDrill::NoService(service.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::decide::world::{Answer, Behaviour, World, three, topology};
    use crate::model::drill::Trouble;
    use crate::model::example::label;
    use crate::model::id::UpstreamId;
    use crate::model::operator::{Order, Override, Target};
    use crate::model::outcome::FailureKind;
    use crate::model::place::Residency;
    use crate::model::topology::{FailoverMode, FailoverRule, Rules};

    const BAD: Answer = Answer::Bad(FailureKind::ServerError);
    const SHARE: Permille = Permille::TENTH;
    const LASTS: Duration = Duration::from_secs(60);
    /// When drills begin, in seconds.
    const BEGIN: f64 = 30.0;

    fn calm() -> Behaviour<'static> {
        Behaviour {
            rate: 200.0,
            safe: 50,
            witness: &|dice| (dice * 1000.0) as u32 + 1,
            marked: false,
            answer: &|_, _, _| Answer::Good,
            probe: &|_, _| Answer::Good,
            origin: None,
        }
    }

    /// A world that has lived for half a minute, and has a drill on.
    fn drilled() -> World {
        let mut world = World::new(three());
        world.run(&calm(), BEGIN);
        let (standing, out) = begin(&mut world).expect("a good time");
        assert_eq!((standing.from, standing.to), (UpstreamId::new(0), UpstreamId::new(1)));
        assert!(out.is_empty(), "nobody's place moves: {out:?}");
        world
    }

    fn begin(world: &mut World) -> Result<(DrillStanding, Vec<Transition>), NoDrill> {
        world.detector.begin_drill(&label("portal"), (SHARE, LASTS), world.now)
    }

    fn result(world: &mut World) -> DrillStanding {
        let ended = world.detector.drilled();
        let [(_, standing)] = ended[..] else { panic!("one has ended: {ended:?}") };
        assert!(world.detector.drill(PoolId::new(0)).is_none());
        let mut taken = world.plan().candidates().to_vec();
        taken.retain(|it| it.upstream() == UpstreamId::new(1) && it.unsafe_ == SHARE);
        assert!(taken.is_empty(), "its share has gone back");
        standing
    }

    #[test]
    fn a_drill_of_equals_passes_and_moves_its_share_and_nobodys_place() {
        let mut world = drilled();
        let plan = world.plan();
        let shares: Vec<u16> = plan.candidates().iter().map(|it| it.unsafe_.get()).collect();
        assert_eq!((shares, plan.first()), (vec![900, 100, 0], Some(UpstreamId::new(0))));
        world.run(&calm(), BEGIN + 59.0);
        assert!(world.detector.drilled().is_empty());
        world.run(&calm(), BEGIN + 61.0);
        let ended = result(&mut world);
        assert_eq!(ended.end, Some(DrillEnd::Passed));
        assert!((1_000..1_400).contains(&ended.fallback.attempts), "{ended:?}");
        assert!((10_000..11_500).contains(&ended.first.attempts), "{ended:?}");
        assert!(world.log.is_empty(), "{}", world.told());
    }

    #[test]
    fn a_fallback_that_fails_ends_the_drill_within_two_seconds_and_few_requests() {
        let fails = Behaviour {
            answer: &|place, _, ask| if place == 1 && ask.dice < 0.5 { BAD } else { Answer::Good },
            ..calm()
        };
        let mut world = drilled();
        world.run(&fails, BEGIN + 2.0);
        let ended = result(&mut world);
        let by_itself = DrillEnd::Trouble(Trouble::Incident);
        assert!([Some(DrillEnd::Failures), Some(by_itself)].contains(&ended.end), "{ended:?}");
        assert!(ended.fallback.failures > 0 && ended.fallback.attempts < 40, "{ended:?}");
        assert_eq!(world.first(), 0);
    }

    #[test]
    fn a_fallback_that_fails_too_little_for_a_trip_ends_the_drill_all_the_same() {
        let fails = Behaviour {
            answer: &|place, _, ask| if place == 1 && ask.dice < 0.04 { BAD } else { Answer::Good },
            ..calm()
        };
        let mut world = drilled();
        world.run(&fails, BEGIN + 61.0);
        let ended = result(&mut world);
        assert!(!matches!(ended.end, Some(DrillEnd::Passed | DrillEnd::TooLittle)), "{ended:?}");
    }

    #[test]
    fn an_outage_of_the_first_choice_ends_the_drill_and_is_met_as_ever() {
        let fails = Behaviour {
            answer: &|place, _, _| if place == 0 { BAD } else { Answer::Good },
            ..calm()
        };
        let mut world = drilled();
        world.run(&fails, BEGIN + 2.0);
        let ended = result(&mut world);
        assert!(matches!(ended.end, Some(DrillEnd::Trouble(_))), "{ended:?}");
        assert_eq!(world.first(), 1, "{}", world.told());
        let refused = begin(&mut world).expect_err("no time for it");
        assert!(matches!(refused, NoDrill::Trouble(_, Trouble::Incident)), "{refused}");
    }

    #[test]
    fn the_operator_ends_a_drill_by_an_order_or_by_saying_so() {
        let mut world = drilled();
        assert_eq!(begin(&mut world).expect_err("one is on"), NoDrill::Running(label("portal")));
        let target = Target::Provider(label("gcore"));
        let order = Override { target, order: Order::Drain, until: None };
        world.detector.obey(vec![order], world.now);
        world.run(&calm(), BEGIN + 1.0);
        assert_eq!(result(&mut world).end, Some(DrillEnd::Trouble(Trouble::Ordered)));
        assert!(begin(&mut world).is_err(), "an order stands");

        let (mut world, portal) = (drilled(), label("portal"));
        world.detector.stop_drill(&portal, world.now).expect("one is on");
        assert_eq!(result(&mut world).end, Some(DrillEnd::Stopped));
        let again = world.detector.stop_drill(&portal, world.now);
        assert_eq!(again.expect_err("none is on"), NoDrill::NotRunning(portal));
    }

    #[test]
    fn a_new_configuration_ends_a_drill() {
        let mut world = drilled();
        world.detector.adopt(Arc::clone(&world.topology), world.now);
        assert_eq!(result(&mut world).end, Some(DrillEnd::Trouble(Trouble::Reload)));
    }

    #[test]
    fn there_is_no_drill_without_somebody_permitted_behind_the_first() {
        let providers: [(&str, &str, &[&str]); 3] =
            [("bunny", "SI", &[]), ("cloudflare", "US", &[]), ("fastly", "US", &[])];
        let mut world = World::new(topology(&providers, Residency::EuOnly, Rules::default()));
        let refused = begin(&mut world).expect_err("nobody else may");
        assert_eq!(refused, NoDrill::Trouble(label("portal"), Trouble::NoFallback));
        let failover = FailoverRule { mode: FailoverMode::Observe, ..FailoverRule::default() };
        let rules = Rules { failover, ..Rules::default() };
        let mut world = World::new(topology(&providers, Residency::Any, rules));
        let refused = begin(&mut world).expect_err("nothing may move");
        assert_eq!(refused, NoDrill::Trouble(label("portal"), Trouble::Observed));
        let unknown = world.detector.begin_drill(&label("shop"), (SHARE, LASTS), world.now);
        assert_eq!(unknown.expect_err("no such service"), NoDrill::NoService(label("shop")));
    }
}
