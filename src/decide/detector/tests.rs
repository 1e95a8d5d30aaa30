//! What the detector as a whole does in small worlds. Each world is a rule of who answers what,
//! when; requests, retries and probes follow the detector's own plan.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Detector;
use crate::decide::world::{Answer, Ask, Behaviour, World, three, topology};
use crate::model;
use crate::model::cell::HostId;
use crate::model::health::{Blame, Health, HealthTag, IncidentEdge, Reason, Transition, TripRule};
use crate::model::id::{PoolId, UpstreamId};
use crate::model::operator::{Order, Override, Target};
use crate::model::outcome::{FailureKind, MethodClass};
use crate::model::place::Residency;
use crate::model::plan::PoolMode;
use crate::model::topology::{FailoverMode, FailoverRule, Rules, Topology};

const BAD: Answer = Answer::Bad(FailureKind::ServerError);
const REFUSED: Answer = Answer::Bad(FailureKind::Connect);
const CUT: Answer = Answer::Bad(FailureKind::BodyCut);
/// When the faults of these worlds begin, in seconds.
const BEGIN: f64 = 60.0;

/// 200 requests a second, half of them safe, from a thousand witnesses, without a marker; all good.
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

/// From the beginning of the fault to the first failover, in seconds.
fn left_after(world: &World) -> Option<f64> {
    world.log.iter().find_map(|transition| match transition {
        Transition::Failover { at, .. } => Some(since_begin(world, *at)),
        _ => None,
    })
}

/// From the beginning of the fault to the first slice that was moved.
fn parted_after(world: &World) -> Option<f64> {
    world.log.iter().find_map(|transition| match transition {
        Transition::Slice { at, .. } => Some(since_begin(world, *at)),
        _ => None,
    })
}

fn back_after(world: &World) -> Option<f64> {
    world.log.iter().find_map(|transition| match transition {
        Transition::Failback { at, .. } => Some(since_begin(world, *at)),
        _ => None,
    })
}

fn since_begin(world: &World, at: Instant) -> f64 {
    (at - world.start).as_secs_f64() - BEGIN
}

fn origin_incidents(world: &World, wanted: IncidentEdge) -> usize {
    let is =
        |t: &&Transition| matches!(t, Transition::OriginIncident { edge, .. } if *edge == wanted);
    world.log.iter().filter(is).count()
}

fn gray_alerts(world: &World) -> usize {
    world.log.iter().filter(|t| matches!(t, Transition::GrayAlert { .. })).count()
}

fn with(residency: Residency, failover: FailoverRule) -> Topology {
    let providers: [(&str, &str, &[&str]); 5] = [
        ("cloudflare", "US", &[]),
        ("bunny", "SI", &[]),
        ("gcore", "LU", &[]),
        ("fastly", "US", &[]),
        ("direct", "FR", &[]),
    ];
    topology(&providers, residency, Rules { failover, ..Rules::default() })
}

fn five() -> World {
    World::new(with(Residency::PreferEu, FailoverRule::default()))
}

fn two() -> Topology {
    topology(&[("cloudflare", "US", &[]), ("bunny", "SI", &[])], Residency::Any, Rules::default())
}

#[test]
fn a_dead_primary_is_left_within_half_a_second_however_few_witnesses_there_are() {
    for witnesses in [1_u16, 2, 3, 4, 1000] {
        for green in [true, false] {
            for kind in [FailureKind::ServerError, FailureKind::Connect, FailureKind::BrokeOff] {
                let fails = |place: usize, at: f64| {
                    if place == 0 && at >= BEGIN { Answer::Bad(kind) } else { Answer::Good }
                };
                let behaviour = Behaviour {
                    witness: &|dice| (dice * f64::from(witnesses)) as u32 + 1,
                    answer: &|place, at, _| fails(place, at),
                    probe: &|place, at| if green { Answer::Good } else { fails(place, at) },
                    ..calm()
                };
                let mut world = World::new(three()).seeded(u64::from(witnesses));
                world.run(&behaviour, BEGIN + 10.0);
                let took = left_after(&world).expect("left");
                assert!(took <= 0.5, "{witnesses} witnesses: {took} s\n{}", world.told());
                assert_eq!((world.first(), world.flips()), (1, 1));
            }
        }
    }
}

#[test]
fn a_client_that_has_just_come_to_a_sleeping_service_is_believed() {
    for (witnesses, before) in [(1, 0.5), (1, 1.0), (2, 0.5), (2, 5.0)] {
        let witness = |dice| (dice * f64::from(witnesses)) as u32 + 1;
        let behaviour = |rate| Behaviour {
            rate,
            safe: 100,
            witness: &witness,
            answer: &|place, at, _| if place == 0 && at >= BEGIN { BAD } else { Answer::Good },
            ..calm()
        };
        let mut world = World::new(three());
        world.run(&behaviour(0.0), BEGIN - before);
        world.run(&behaviour(200.0), BEGIN + 10.0);
        let took = left_after(&world).expect("left");
        assert!(took <= 0.5, "{witnesses} witnesses, {before} s: {took} s\n{}", world.told());
    }
}

#[test]
fn edges_that_all_refuse_connections_leave_a_pool_that_fails_open() {
    for rate in [0.0, 0.1, 200.0] {
        let refuses = |at: f64| if at >= BEGIN { REFUSED } else { Answer::Good };
        let behaviour = Behaviour {
            rate,
            answer: &|_, at, _| refuses(at),
            probe: &|_, at| refuses(at),
            ..calm()
        };
        let mut world = World::new(two());
        world.run(&behaviour, BEGIN + 60.0);
        assert_eq!(world.ejections(), 2, "at {rate} a second\n{}", world.told());
        assert_eq!(world.plan().mode, PoolMode::FailOpen);
        assert_eq!(origin_incidents(&world, IncidentEdge::Raised), 0, "{}", world.told());
    }
}

#[test]
fn one_client_hammering_one_crashing_url_moves_nobody() {
    // The url crashes at the origin, or at the first provider alone.
    for (share, everywhere) in [(0.1, true), (0.1, false), (0.5, true), (0.5, false), (0.95, true)]
    {
        let behaviour = Behaviour {
            witness: &|dice| if dice < share { 1 } else { (dice * 1000.0) as u32 + 1 },
            answer: &|place, at, ask| {
                let crashes = at >= BEGIN && ask.witness == 1 && (everywhere || place == 0);
                if crashes { BAD } else { Answer::Good }
            },
            ..calm()
        };
        let mut world = World::new(three());
        world.run(&behaviour, BEGIN + 120.0);
        assert_eq!(world.ejections(), 0, "{share} {everywhere}\n{}", world.told());
    }
}

#[test]
fn everyday_errors_eject_nobody_and_alert_nobody() {
    let behaviour = Behaviour {
        rate: 50.0,
        answer: &|_, _, ask| if ask.dice < 0.002 { BAD } else { Answer::Good },
        ..calm()
    };
    let mut world = World::new(three());
    world.run(&behaviour, 3600.0);
    assert_eq!((world.ejections(), gray_alerts(&world)), (0, 0), "{}", world.told());
}

#[test]
fn the_origins_own_errors_move_nobody_and_are_announced() {
    let fault = BEGIN..BEGIN + 60.0;
    let behaviour = Behaviour {
        marked: true,
        answer: &|_, at, ask| {
            if fault.contains(&at) && ask.dice < 0.4 { Answer::Origin } else { Answer::Good }
        },
        probe: &|_, at| if fault.contains(&at) { Answer::Origin } else { Answer::Good },
        ..calm()
    };
    let mut world = World::new(three());
    world.run(&behaviour, BEGIN + 1.0);
    assert_eq!(origin_incidents(&world, IncidentEdge::Raised), 1, "within a second");
    world.run(&behaviour, BEGIN + 120.0);
    assert_eq!(origin_incidents(&world, IncidentEdge::Ended), 1);
    assert_eq!((world.ejections(), world.flips()), (0, 0));
}

/// An origin that is dead for 20 s, each provider saying so in its own way, without a marker.
fn origin_dead(place: usize, at: f64) -> Answer {
    if !(BEGIN..BEGIN + 20.0).contains(&at) {
        return Answer::Good;
    }
    match place {
        0 | 1 => Answer::Bad(FailureKind::EdgeLeg),
        2 | 3 => BAD,
        _ => REFUSED,
    }
}

#[test]
fn a_dead_origin_without_marker_moves_nobody_and_is_announced() {
    for make in [five, || World::new(three())] {
        for (marked, asked) in [(true, true), (true, false), (false, true), (false, false)] {
            let behaviour = Behaviour {
                marked,
                answer: &|place, at, _| origin_dead(place, at),
                probe: &origin_dead,
                origin: asked.then_some(&|at| origin_dead(0, at) == Answer::Good),
                ..calm()
            };
            let mut world = make();
            world.run(&behaviour, BEGIN + 90.0);
            assert_eq!((world.ejections(), world.flips()), (0, 0), "{}", world.told());
            assert_eq!(origin_incidents(&world, IncidentEdge::Raised), 1, "{}", world.told());
            assert_eq!(origin_incidents(&world, IncidentEdge::Ended), 1, "{}", world.told());
        }
    }
}

#[test]
fn the_origin_is_blamed_no_longer_than_its_incident_stands() {
    let behaviour = Behaviour {
        answer: &|place, at, _| origin_dead(place, at),
        probe: &origin_dead,
        origin: Some(&|at| origin_dead(0, at) == Answer::Good),
        ..calm()
    };
    let mut world = World::new(three());
    world.run(&behaviour, BEGIN + 15.0);
    let blame = |world: &World| {
        let standing = world.detector.pool(PoolId::new(0));
        standing.incident.and(standing.attribution).map(|attribution| attribution.blame)
    };
    assert_eq!(blame(&world), Some(Blame::Origin), "{}", world.told());
    while origin_incidents(&world, IncidentEdge::Ended) == 0 {
        let next = world.seconds() + 0.1;
        assert!(next < BEGIN + 60.0, "{}", world.told());
        world.run(&behaviour, next);
    }
    assert_eq!(blame(&world), Some(Blame::Unknown), "open, and the origin's no more");
    world.run(&behaviour, world.seconds() + 10.0);
    assert_eq!(blame(&world), Some(Blame::Unknown), "{}", world.told());
}

#[test]
fn an_overloaded_origin_that_fails_at_random_moves_nobody() {
    let mut shared = three();
    shared.upstreams.iter_mut().for_each(|upstream| upstream.preference = 1);
    for pool in [three(), shared] {
        for share in [0.05, 0.3, 0.6, 1.0] {
            for seed in 0..3 {
                let behaviour = Behaviour {
                    answer: &|_, at, ask| {
                        if at >= BEGIN && ask.dice < share { BAD } else { Answer::Good }
                    },
                    ..calm()
                };
                let mut world = World::new(pool.clone()).seeded(seed);
                world.run(&behaviour, BEGIN + 20.0);
                assert_eq!((world.ejections(), world.flips()), (0, 0), "{}", world.told());
            }
        }
    }
}

#[test]
fn what_fails_for_unsafe_methods_only_is_moved_alone_without_a_single_pair() {
    for marked in [true, false] {
        for share in [12, 50] {
            let behaviour = Behaviour {
                safe: 100 - share,
                marked,
                answer: &|place, at, ask| {
                    let post = ask.class == MethodClass::Unsafe;
                    if place == 0 && post && at >= BEGIN { BAD } else { Answer::Good }
                },
                ..calm()
            };
            let mut world = World::new(three());
            world.run(&behaviour, BEGIN + 10.0);
            assert!(parted_after(&world).is_some_and(|took| took < 5.0), "{}", world.told());
            assert_eq!((world.flips(), world.first()), (0, 0), "{}", world.told());
            let plan = world.plan();
            let (class, host) = (MethodClass::Unsafe, HostId::default());
            let posts = plan.of_cell(model::cell::Cell { class, host });
            assert_eq!(posts.first(), Some(UpstreamId::new(1)));
        }
    }
}

#[test]
fn bodies_cut_short_under_a_good_status_are_left_within_two_seconds() {
    for seed in 0..5 {
        let behaviour = Behaviour {
            safe: 0, // The world never retries what is unsafe, and nobody retries a cut body.
            answer: &|place, at, _| if place == 0 && at >= BEGIN { CUT } else { Answer::Good },
            ..calm()
        };
        let mut world = World::new(three()).seeded(seed);
        world.run(&behaviour, BEGIN + 10.0);
        assert!(left_after(&world).is_some_and(|took| took < 2.0), "{}", world.told());
    }
}

#[test]
fn when_every_edge_is_dead_the_origin_itself_serves() {
    for seed in 0..5 {
        let dead =
            |place: usize, at: f64| if place < 4 && at >= BEGIN { REFUSED } else { Answer::Good };
        let behaviour =
            Behaviour { answer: &|place, at, _| dead(place, at), probe: &dead, ..calm() };
        let mut world = five().seeded(seed);
        world.run(&behaviour, BEGIN + 10.0);
        assert_eq!(world.first(), 4, "{}", world.told());
    }
}

#[test]
fn few_per_cent_eject_only_with_strong_evidence() {
    // Share that fails, whether answers are marked, whether it is left within 10 s.
    for (share, marked, left) in
        [(0.01, true, false), (0.01, false, false), (0.05, true, true), (0.03, false, false)]
    {
        let behaviour = Behaviour {
            rate: 100.0,
            safe: 85,
            marked,
            answer: &|place, at, ask| {
                if place == 0 && at >= BEGIN && ask.dice < share { BAD } else { Answer::Good }
            },
            ..calm()
        };
        let mut world = five();
        world.run(&behaviour, BEGIN + 120.0);
        assert_eq!(left_after(&world).is_some_and(|took| took < 10.0), left, "{}", world.told());
        assert_eq!(gray_alerts(&world) > 0, share == 0.03, "{}", world.told());
    }
}

/// Failing share of the first provider on 18 November 2025, its beginning moved to [`BEGIN`].
fn november(at: f64) -> f64 {
    let at = at - BEGIN;
    if !(0.0..20_280.0).contains(&at) {
        0.0
    } else if at < 5_820.0 {
        if at % 600.0 < 300.0 { 0.98 } else { 0.0 }
    } else if at < 10_920.0 {
        0.98
    } else {
        0.03
    }
}

#[test]
fn the_18th_of_november_takes_four_flips_at_most_whatever_the_least_stay() {
    for min_stay in [0, 600] {
        let failover =
            FailoverRule { min_stay: Duration::from_secs(min_stay), ..FailoverRule::default() };
        let dice = Cell::new(0.1);
        let behaviour = Behaviour {
            rate: 20.0,
            safe: 85,
            answer: &|place, at, ask| {
                if place == 0 && ask.dice < november(at) { BAD } else { Answer::Good }
            },
            probe: &|place, at| {
                dice.set((dice.get() * 997.13 + 0.37_f64).fract());
                if place == 0 && dice.get() < november(at) { BAD } else { Answer::Good }
            },
            ..calm()
        };
        let mut world = World::new(with(Residency::PreferEu, failover));
        world.run(&behaviour, BEGIN + 24_000.0);
        assert!((2..=4).contains(&world.flips()), "{}", world.told());
        assert_eq!(world.first(), 0, "it is back in the end\n{}", world.told());
        assert!(world.lost < 200, "{} lost", world.lost);
    }
}

#[test]
fn green_probes_bring_nobody_back_while_requests_fail() {
    let behaviour = Behaviour {
        rate: 50.0,
        answer: &|place, at, _| {
            if place == 0 && (BEGIN..BEGIN + 1500.0).contains(&at) { BAD } else { Answer::Good }
        },
        ..calm()
    };
    let mut world = World::new(three());
    world.run(&behaviour, BEGIN + 4000.0);
    assert!(back_after(&world).is_some_and(|at| at > 1500.0), "{}", world.told());
    assert_eq!(world.flips(), 2);
    assert_eq!(world.health(0).tag(), HealthTag::Healthy);
}

#[test]
fn a_service_that_always_fails_a_little_can_return_all_the_same() {
    let behaviour = Behaviour {
        rate: 100.0,
        answer: &|place, at, ask| {
            let dead = place == 0 && (BEGIN..BEGIN + 60.0).contains(&at);
            if dead || ask.dice < 0.03 { BAD } else { Answer::Good }
        },
        ..calm()
    };
    let mut world = World::new(three());
    world.run(&behaviour, BEGIN + 3600.0);
    assert_eq!((world.first(), world.flips()), (0, 2), "{}", world.told());
}

#[test]
fn a_fallback_that_fails_sends_everyone_back_at_once() {
    // The first is dead for a minute; long before `min_stay` is over the only fallback dies.
    let dead = |place: usize, at: f64| {
        let bad = match place {
            0 => (BEGIN..BEGIN + 60.0).contains(&at),
            _ => at >= BEGIN + 200.0,
        };
        if bad { BAD } else { Answer::Good }
    };
    for green in [true, false] {
        let behaviour = Behaviour {
            answer: &|place, at, _| dead(place, at),
            probe: &|place, at| if green { Answer::Good } else { dead(place, at) },
            ..calm()
        };
        let mut world = World::new(two());
        world.run(&behaviour, BEGIN + 210.0);
        assert!(back_after(&world).is_some_and(|at| at < 203.0), "{green}\n{}", world.told());
        world.run(&behaviour, BEGIN + 400.0);
        assert_eq!((world.first(), world.plan().mode), (0, PoolMode::Normal), "{}", world.told());
    }
}

/// Who was first from which time on, in seconds since the beginning of the fault.
fn stays(world: &World) -> Vec<(f64, usize)> {
    let moved = |t: &Transition| match t {
        Transition::Failover { to, at, .. } | Transition::Failback { to, at, .. } => {
            Some((since_begin(world, *at), to.index()))
        }
        _ => None,
    };
    world.log.iter().filter_map(moved).collect()
}

#[test]
fn under_prefer_eu_the_least_stay_keeps_nobody_outside_once_the_eu_is_well_again() {
    // The first choice and the EU die at once; the EU is mended before a minute is over.
    let pool = [("cloudflare", "US", &[][..]), ("bunny", "SI", &[]), ("fastly", "US", &[])];
    // Requests a second, end of the first choice's fault, latest return of the EU.
    for (rate, mended, latest) in [
        (20.0, 10_000.0, 240.0),
        (20.0, 20.0, 240.0),
        (2.0, 20.0, 400.0),
        (0.2, 10_000.0, 300.0),
        (0.2, 20.0, 300.0),
    ] {
        let dead = |place: usize, at: f64| {
            let until = [mended, 15.0, 0.0][place];
            if (0.0..until).contains(&(at - BEGIN)) { BAD } else { Answer::Good }
        };
        let behaviour =
            Behaviour { rate, answer: &|place, at, _| dead(place, at), probe: &dead, ..calm() };
        let mut world = World::new(topology(&pool, Residency::PreferEu, Rules::default()));
        world.run(&behaviour, BEGIN + 590.0);
        let stays = stays(&world);
        let inside = stays.iter().rev().find(|(_, first)| *first == 1);
        let back = inside.map_or(f64::INFINITY, |(at, _)| *at);
        assert!(back < latest, "{rate}, {mended}: {stays:?}\n{}", world.told());
        assert_eq!(world.first(), 1, "the first choice waits for the least stay: {stays:?}");
        assert!(stays.iter().any(|(_, first)| *first == 2), "one outside had served: {stays:?}");
    }
}

#[test]
fn one_in_the_eu_that_does_worse_than_who_serves_outside_never_skips_its_ramp() {
    let pool = [("bunny", "SI", &[][..]), ("fastly", "US", &[])];
    for failing in [0.02, 0.05, 0.08] {
        let answer = |place: usize, at: f64, ask: &Ask| match at - BEGIN {
            after if place != 0 || after < 0.0 => Answer::Good,
            after if after < 60.0 || ask.dice < failing => BAD,
            _ => Answer::Good,
        };
        let probe = |place: usize, at: f64| {
            let dead = place == 0 && (0.0..60.0).contains(&(at - BEGIN));
            if dead { BAD } else { Answer::Good }
        };
        let behaviour = Behaviour { rate: 20.0, answer: &answer, probe: &probe, ..calm() };
        let mut world = World::new(topology(&pool, Residency::PreferEu, Rules::default()));
        world.run(&behaviour, BEGIN + 3000.0);
        let leapt = |t: &&Transition| {
            matches!(
                t,
                Transition::Health { from: HealthTag::HalfOpen, to: HealthTag::Healthy, .. }
            )
        };
        assert_eq!(world.log.iter().filter(leapt).count(), 0, "{failing}\n{}", world.told());
    }
}

#[test]
fn a_first_choice_in_the_eu_is_not_kept_waiting_while_one_outside_serves() {
    let pool = [("bunny", "SI", &[][..]), ("fastly", "US", &[])];
    for (residency, soon) in [(Residency::PreferEu, true), (Residency::Any, false)] {
        let dead = |place: usize, at: f64| {
            let bad = place == 0 && (BEGIN..BEGIN + 15.0).contains(&at);
            if bad { BAD } else { Answer::Good }
        };
        let behaviour = Behaviour {
            rate: 20.0,
            answer: &|place, at, _| dead(place, at),
            probe: &dead,
            ..calm()
        };
        let mut world = World::new(topology(&pool, residency, Rules::default()));
        let of = |world: &World| world.detector.upstream(UpstreamId::new(0), world.now);
        world.run(&behaviour, BEGIN + 50.0);
        assert_eq!(of(&world).health.tag(), HealthTag::HalfOpen, "{}", world.told());
        assert_eq!(of(&world).stays_until.is_none(), soon, "what people are told is what is done");
        world.run(&behaviour, BEGIN + 590.0);
        let back = back_after(&world);
        assert_eq!(back.is_some_and(|at| at < 240.0), soon, "{back:?}\n{}", world.told());
    }
}

#[test]
fn when_all_permitted_ones_are_dead_they_still_serve_and_nobody_else_does() {
    let dead = |_: usize, at: f64| {
        if (BEGIN..BEGIN + 120.0).contains(&at) { REFUSED } else { Answer::Good }
    };
    let behaviour = Behaviour { answer: &|place, at, _| dead(place, at), probe: &dead, ..calm() };
    let mut world = World::new(with(Residency::EuOnly, FailoverRule::default()));
    assert_eq!(world.topology.upstreams.len(), 3, "bunny, gcore and direct");
    world.run(&behaviour, BEGIN + 100.0);
    assert!(!world.plan().candidates().is_empty());
    world.run(&behaviour, BEGIN + 135.0);
    let lost = world.lost;
    world.run(&behaviour, BEGIN + 150.0);
    assert!(world.lost - lost < 10, "good again soon: {} lost\n{}", world.lost, world.told());
}

#[test]
fn a_standby_that_fails_its_probes_is_ejected_without_traffic_and_returns_by_probes() {
    let fails = |place: usize, at: f64| {
        if place == 1 && (BEGIN..BEGIN + 60.0).contains(&at) { BAD } else { Answer::Good }
    };
    let behaviour = Behaviour { probe: &fails, ..calm() };
    let mut world = World::new(three());
    world.run(&behaviour, BEGIN + 15.0);
    assert_eq!(world.health(1).tag(), HealthTag::Ejected);
    let by_probes = |t: &Transition| {
        matches!(t, Transition::Health { reason: Reason::Probes { failed: 3.., .. }, .. })
    };
    assert!(world.log.iter().any(by_probes), "{}", world.told());
    world.run(&behaviour, BEGIN + 600.0);
    assert_eq!(world.health(1).tag(), HealthTag::Healthy, "{}", world.told());
    assert_eq!((world.flips(), world.first()), (0, 0));
}

#[test]
fn what_shares_a_substrate_with_the_dead_is_skipped() {
    let pool = topology(
        &[("bunny", "SI", &["white"]), ("stackit", "DE", &["white"]), ("gcore", "LU", &[])],
        Residency::EuOnly,
        Rules::default(),
    );
    let dead =
        |place: usize, at: f64| if place < 2 && at >= BEGIN { REFUSED } else { Answer::Good };
    let behaviour = Behaviour { answer: &|place, at, _| dead(place, at), probe: &dead, ..calm() };
    let mut world = World::new(pool);
    world.run(&behaviour, BEGIN + 5.0);
    assert_eq!((world.first(), world.flips()), (2, 1), "{}", world.told());
}

#[test]
fn an_observer_decides_and_leaves_traffic_alone() {
    let failover = FailoverRule { mode: FailoverMode::Observe, ..FailoverRule::default() };
    let behaviour = Behaviour {
        answer: &|place, at, _| if place == 0 && at >= BEGIN { BAD } else { Answer::Good },
        ..calm()
    };
    let mut world = World::new(with(Residency::Any, failover));
    let before = world.plan();
    world.run(&behaviour, BEGIN + 10.0);
    assert!(left_after(&world).is_some_and(|took| took < 0.5), "{}", world.told());
    assert!(Arc::ptr_eq(&before, &world.plan()));
}

#[test]
fn a_reload_forgets_nothing_and_renumbers_everyone() {
    let behaviour = Behaviour {
        answer: &|place, at, _| if place == 0 && at >= BEGIN { BAD } else { Answer::Good },
        ..calm()
    };
    let mut world = World::new(three());
    world.run(&behaviour, BEGIN + 5.0);
    let ejected = world.health(0);
    assert_eq!((ejected.tag(), world.first()), (HealthTag::Ejected, 1));

    // The same three, in another order, and one more.
    let providers: [(&str, &str, &[&str]); 4] = [
        ("gcore", "LU", &[]),
        ("cloudflare", "US", &[]),
        ("bunny", "SI", &[]),
        ("direct", "FR", &[]),
    ];
    let mut next = topology(&providers, Residency::PreferEu, Rules::default());
    for (upstream, preference) in next.upstreams.iter_mut().zip([3, 1, 2, 4]) {
        upstream.preference = preference;
    }
    next.pools[0].upstreams.sort_by_key(|id| next.upstreams[id.index()].preference);
    let said = world.detector.adopt(Arc::new(next), world.now);
    assert_eq!(said, [], "nothing changed but the numbers");
    assert_eq!(world.health(1), ejected);
    assert_eq!(world.first(), 2, "bunny still serves");

    // Without the one that serves.
    let said = world.detector.adopt(Arc::new(two_others()), world.now);
    assert_eq!(world.first(), 1, "{said:?}");
    assert_eq!(world.health(0).tag(), HealthTag::Ejected);
}

#[test]
fn reloads_in_the_middle_of_an_outage_delay_nothing() {
    let behaviour = Behaviour {
        answer: &|place, at, _| if place == 0 && at >= BEGIN { BAD } else { Answer::Good },
        ..calm()
    };
    let mut world = World::new(three());
    world.run(&behaviour, BEGIN - 0.5);
    for tenth in 0..20 {
        let topology = Arc::clone(&world.topology);
        assert_eq!(world.detector.adopt(topology, world.now), []);
        world.run(&behaviour, BEGIN - 0.5 + 0.05 * f64::from(tenth));
    }
    assert!(left_after(&world).is_some_and(|took| took <= 0.5), "{}", world.told());
}

fn two_others() -> Topology {
    let providers: [(&str, &str, &[&str]); 2] = [("cloudflare", "US", &[]), ("gcore", "LU", &[])];
    topology(&providers, Residency::PreferEu, Rules::default())
}

#[test]
fn an_ejection_says_whose_fault_it_was_and_on_what_evidence() {
    let behaviour = Behaviour {
        answer: &|place, at, _| if place == 0 && at >= BEGIN { BAD } else { Answer::Good },
        ..calm()
    };
    let mut world = World::new(three());
    world.run(&behaviour, BEGIN + 2.0);
    let evidence = world.log.iter().find_map(|transition| match transition {
        Transition::Health { reason: Reason::Trip(_, evidence), .. } => Some(*evidence),
        _ => None,
    });
    let evidence = evidence.expect("a trip");
    assert_eq!(evidence.attribution.blame, Blame::Provider);
    assert!(evidence.attribution.pairs_for >= 2, "{evidence:?}");
    assert!(evidence.witnesses >= 3 && evidence.failures >= 5, "{evidence:?}");
    assert_eq!(evidence.rule, TripRule::Score);
    assert!(evidence.score >= evidence.threshold);
}

#[test]
fn quiet_hours_need_no_attention_and_an_unchanged_plan_is_the_same() {
    let mut world = World::new(three());
    let behaviour = Behaviour { probe: &|_, _| Answer::Good, ..calm() };
    let before = world.plan();
    world.run(&behaviour, 600.0);
    assert_eq!(world.detector.next_deadline(), None);
    assert!(!world.detector.in_doubt());
    assert!(Arc::ptr_eq(&before, &world.plan()));
    assert_eq!(world.log, []);
}

#[test]
fn one_that_is_well_again_says_until_when_it_waits_for_the_least_stay() {
    let fails = |place: usize, at: f64, _: &Ask| {
        if place == 0 && (BEGIN..BEGIN + 20.0).contains(&at) { BAD } else { Answer::Good }
    };
    let mut world = World::new(three());
    world.run(&Behaviour { answer: &fails, ..calm() }, BEGIN + 200.0);
    let of = |world: &World| world.detector.upstream(UpstreamId::new(0), world.now);
    assert_eq!(of(&world).health.tag(), HealthTag::HalfOpen, "{}", world.told());
    let until = since_begin(&world, of(&world).stays_until.expect("it waits"));
    let left = left_after(&world).expect("it was left");
    assert!((until - left - 600.0).abs() < 0.1, "{until} after {left}");
    world.run(&Behaviour { answer: &fails, ..calm() }, BEGIN + until + 1.0);
    assert_eq!(of(&world).health.tag(), HealthTag::Ramping, "{}", world.told());
    assert_eq!(of(&world).stays_until, None);
}

#[test]
fn the_same_signals_at_the_same_times_give_the_same_result() {
    let behaviour = Behaviour {
        answer: &|place, at, ask: &Ask| {
            if place == 0 && ask.dice < november(at) { BAD } else { Answer::Good }
        },
        ..calm()
    };
    let live = || {
        let mut world = World::new(three());
        world.run(&behaviour, BEGIN + 700.0);
        let at = |t: &Transition| match *t {
            Transition::Health { upstream, at, to, .. } => Some((at - world.start, upstream, to)),
            _ => None,
        };
        let moves: Vec<(Duration, UpstreamId, HealthTag)> =
            world.log.iter().filter_map(at).collect();
        (moves, world.plan())
    };
    let first = live();
    assert!(first.0.len() > 3);
    assert_eq!(first, live());
}

#[test]
fn a_restart_forgets_no_ejection_and_brings_nobody_back_sooner() {
    let mut world = World::new(three());
    let fails = |place: usize, _: f64, _: &Ask| if place == 0 { BAD } else { Answer::Good };
    world.run(&Behaviour { answer: &fails, ..calm() }, 10.0);
    let before = world.health(0);
    assert!(matches!(before, Health::Ejected { .. }), "{}", world.told());
    let memory = world.detector.memory();
    let later = world.now + Duration::from_secs(3);
    let mut after = Detector::new(Arc::clone(&world.topology), 7, later);
    let told = after.resume(&memory, later);
    assert_eq!(after.upstream(UpstreamId::new(0), later).health, before);
    assert_eq!(after.plans()[0].first(), world.plan().first(), "it goes on where it was");
    assert!(after.plans()[0].candidate(UpstreamId::new(0)).is_none());
    let [Transition::Health { from, to, reason, hold: Some(_), .. }] = told[..] else {
        panic!("a change of health and no failover: {told:?}")
    };
    assert_eq!((from, to), (HealthTag::Healthy, HealthTag::Ejected));
    assert_eq!(reason, Reason::Remembered);
    assert_eq!(after.memory(), memory, "what is remembered is not worn by remembering");
}

#[test]
fn forced_out_the_first_choice_makes_room_for_the_eu_and_not_for_the_next_in_the_file() {
    let all = [("us", "US", &[][..]), ("other", "US", &[][..]), ("eu", "SI", &[][..])];
    let topology = Arc::new(topology(&all, Residency::PreferEu, Rules::default()));
    let now = crate::decide::world::start();
    let mut detector = Detector::new(Arc::clone(&topology), 7, now);
    let order = |target: &str, order| Override {
        target: Target::Provider(crate::model::example::label(target)),
        order,
        until: Some(now + Duration::from_secs(60)),
    };
    let first = |detector: &Detector| detector.plans()[0].first().map(UpstreamId::index);
    detector.obey(vec![order("us", Order::ForceOut)], now);
    assert_eq!(first(&detector), Some(2));
    detector.obey(vec![order("us", Order::Drain), order("other", Order::ForceIn)], now);
    assert_eq!(first(&detector), Some(2), "forced in, it serves at its place");
    detector.obey(["us", "other", "eu"].map(|who| order(who, Order::ForceOut)).into(), now);
    assert_eq!((first(&detector), detector.plans()[0].mode), (None, PoolMode::FailClosed));
    assert_eq!(detector.next_deadline(), Some(now + Duration::from_secs(60)));
    let told = detector.decide(now + Duration::from_secs(60));
    assert_eq!(first(&detector), Some(0), "{told:?}");
}
