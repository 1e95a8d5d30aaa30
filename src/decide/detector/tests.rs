//! What the detector as a whole does in small worlds. Each world is a table of who answers what,
//! when; requests, retries and probes follow the detector's own plan.

use std::cell::Cell;
use std::time::Duration;

use super::world::{Answer, Ask, Behaviour, World, three, topology};
use crate::model::health::{Blame, HealthTag, IncidentEdge, Reason, Tier, Transition};
use crate::model::outcome::{FailureKind, MethodClass};
use crate::model::place::Residency;
use crate::model::plan::PoolMode;
use crate::model::topology::{FailoverMode, Rules};

const BAD: Answer = Answer::Bad(FailureKind::ServerError);
const REFUSED: Answer = Answer::Bad(FailureKind::Connect);
const CUT: Answer = Answer::Bad(FailureKind::BodyCut);
/// When every fault in these worlds begins.
const BEGIN: f64 = 120.0;

/// 200 requests a second of all methods, from many, without a marker; all good.
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

fn since(world: &World, at: std::time::Instant) -> f64 {
    (at - world.start).as_secs_f64() - BEGIN
}

/// From the fault to the first failover, in seconds.
fn left_after(world: &World) -> Option<f64> {
    world.log.iter().find_map(|transition| match transition {
        Transition::Failover { at, .. } => Some(since(world, *at)),
        _ => None,
    })
}

fn origin_incidents(world: &World, wanted: IncidentEdge) -> usize {
    let is =
        |t: &&Transition| matches!(t, Transition::OriginIncident { edge, .. } if *edge == wanted);
    world.log.iter().filter(is).count()
}

fn five() -> World {
    World::new(topology(
        &[
            ("cloudflare", "US", &[]),
            ("bunny", "SI", &[]),
            ("gcore", "LU", &[]),
            ("fastly", "US", &[]),
            ("direct", "FR", &[]),
        ],
        Residency::PreferEu,
        Rules::default(),
    ))
}

#[test]
fn a_dead_primary_is_left_within_half_a_second_however_few_witnesses_there_are() {
    for witnesses in [1_u16, 2, 3, 4, 8, 1000] {
        for green in [true, false] {
            for seed in 0..5 {
                let fails = |place: usize, at: f64| {
                    if place == 0 && at >= BEGIN { BAD } else { Answer::Good }
                };
                let behaviour = Behaviour {
                    witness: &|dice| (dice * f64::from(witnesses)) as u32 + 1,
                    answer: &|place, at, _| fails(place, at),
                    probe: &|place, at| if green { Answer::Good } else { fails(place, at) },
                    ..calm()
                };
                let mut world = World::new(three()).seeded(seed);
                world.run(&behaviour, BEGIN + 30.0);
                let took = left_after(&world).expect("left");
                assert!(took <= 0.5, "{witnesses} witnesses, seed {seed}: {took} s");
                assert_eq!((world.first(), world.flips()), (1, 1));
            }
        }
    }
}

#[test]
fn one_client_hammering_one_crashing_url_moves_nobody() {
    // From a tenth of the traffic to nearly all of it; the url crashes at the origin, or at the
    // provider only.
    for (share, everywhere) in [(0.1, true), (0.1, false), (0.5, true), (0.5, false), (0.95, true)]
    {
        {
            let crash = |place: usize, at: f64, ask: &Ask| {
                let hammered = at >= BEGIN && ask.witness == 1;
                if hammered && (everywhere || place == 0) { BAD } else { Answer::Good }
            };
            let behaviour = Behaviour {
                witness: &|dice| if dice < share { 1 } else { (dice * 1000.0) as u32 + 1 },
                answer: &|place, at, ask| crash(place, at, ask),
                ..calm()
            };
            let mut world = World::new(three());
            world.run(&behaviour, BEGIN + 300.0);
            assert_eq!(world.ejections(), 0, "{share} {everywhere} {}", world.told());
        }
    }
}

#[test]
fn the_origins_own_errors_move_nobody_and_are_announced() {
    let behaviour = Behaviour {
        marked: true,
        answer: &|_, at, ask| {
            if at >= BEGIN && at < BEGIN + 60.0 && ask.dice < 0.4 {
                Answer::Origin
            } else {
                Answer::Good
            }
        },
        probe: &|_, at| {
            if at >= BEGIN && at < BEGIN + 60.0 { Answer::Origin } else { Answer::Good }
        },
        ..calm()
    };
    let mut world = World::new(three());
    world.run(&behaviour, BEGIN + 1.0);
    assert_eq!(origin_incidents(&world, IncidentEdge::Raised), 1, "within a second");
    world.run(&behaviour, BEGIN + 120.0);
    assert_eq!(origin_incidents(&world, IncidentEdge::Ended), 1);
    assert_eq!((world.ejections(), world.flips()), (0, 0));
}

/// An origin that is dead, relayed without a marker in each provider's own way.
fn origin_dead(place: usize, at: f64) -> Answer {
    if !(BEGIN..BEGIN + 120.0).contains(&at) {
        return Answer::Good;
    }
    match place {
        0 | 1 => Answer::Bad(FailureKind::EdgeLeg),
        2 | 3 => BAD,
        _ => REFUSED,
    }
}

#[test]
fn a_dead_origin_without_marker_moves_nobody() {
    for make in [five, || World::new(three())] {
        for marked in [true, false] {
            for asked in [true, false] {
                for seed in 0..5 {
                    let behaviour = Behaviour {
                        marked,
                        answer: &|place, at, _| origin_dead(place, at),
                        probe: &origin_dead,
                        origin: asked.then_some(&|at| origin_dead(0, at) == Answer::Good),
                        ..calm()
                    };
                    let mut world = make().seeded(seed);
                    world.run(&behaviour, BEGIN + 200.0);
                    let told = (world.ejections(), world.flips());
                    assert_eq!(told, (0, 0), "marked {marked} {seed} {}", world.told());
                    assert_eq!(
                        origin_incidents(&world, IncidentEdge::Raised),
                        1,
                        "{}",
                        world.told()
                    );
                    assert_eq!(
                        origin_incidents(&world, IncidentEdge::Ended),
                        1,
                        "{}",
                        world.told()
                    );
                }
            }
        }
    }
}

#[test]
fn an_overloaded_origin_without_marker_moves_nobody() {
    for share in [0.3, 0.6, 1.0] {
        for seed in 0..10 {
            let behaviour = Behaviour {
                answer: &|_, at, ask| {
                    if at >= BEGIN && ask.dice < share { BAD } else { Answer::Good }
                },
                probe: &|_, _| Answer::Good,
                ..calm()
            };
            let mut world = World::new(three()).seeded(seed);
            world.run(&behaviour, BEGIN + 60.0);
            println!(
                "share {share} seed {seed} ejections {} flips {}",
                world.ejections(),
                world.flips()
            );
        }
    }
}

#[test]
fn what_only_fails_for_unsafe_methods_is_found_without_a_single_pair() {
    for marked in [true, false] {
        for share in [0.12, 0.5, 1.0] {
            let behaviour = Behaviour {
                safe: ((1.0 - share) * 100.0) as u32,
                marked,
                answer: &|place, at, ask| {
                    let post = ask.class == MethodClass::Unsafe;
                    if place == 0 && post && at >= BEGIN { BAD } else { Answer::Good }
                },
                ..calm()
            };
            let mut world = World::new(three());
            world.run(&behaviour, BEGIN + 10.0);
            let took = left_after(&world);
            println!("posts {share} marked {marked}: {took:?} lost {}", world.lost);
            assert!(took.is_some_and(|s| s < 5.0), "{took:?} {}", world.told());
        }
    }
}

#[test]
fn bodies_cut_short_under_a_good_status_are_left_within_two_seconds() {
    let cell = Cell::new(0);
    for seed in 0..10 {
        let behaviour = Behaviour {
            safe: 0, // never retried, as no cut body is
            answer: &|place, at, _| if place == 0 && at >= BEGIN { CUT } else { Answer::Good },
            ..calm()
        };
        let mut world = World::new(three()).seeded(seed);
        world.run(&behaviour, BEGIN + 10.0);
        let took = left_after(&world).expect("left");
        println!("cut {took}");
        assert!(took < 2.0);
        cell.set(cell.get() + 1);
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
        world.run(&behaviour, BEGIN + 60.0);
        println!("direct after {:?}: {:?}", left_after(&world), world.first());
        assert_eq!(world.first(), 4, "{}", world.told());
    }
}

#[test]
fn gray_failures() {
    for share in [0.01, 0.02, 0.03, 0.05, 0.1] {
        for marked in [true, false] {
            let behaviour = Behaviour {
                rate: 100.0,
                safe: 85,
                marked,
                answer: &|place, at, ask| {
                    if place == 0 && at >= BEGIN && ask.dice < share { BAD } else { Answer::Good }
                },
                probe: &|_, _| Answer::Good,
                ..calm()
            };
            let mut world = World::new(five().topology.as_ref().clone());
            world.run(&behaviour, BEGIN + 900.0);
            let alerts = world
                .log
                .iter()
                .filter(|t| matches!(t, Transition::GrayAlert { edge: IncidentEdge::Raised, .. }))
                .count();
            println!(
                "gray {share} marked {marked}: left {:?} alerts {alerts} flips {}",
                left_after(&world),
                world.flips()
            );
        }
    }
}

#[test]
fn shared_origin_by_weight() {
    for share in [0.05, 0.3, 1.0] {
        for probes in [true, false] {
            for seed in 0..10 {
                let mut t = three();
                for up in &mut t.upstreams {
                    up.preference = 1;
                }
                let behaviour = Behaviour {
                    answer: &|_, at, ask| {
                        if at >= BEGIN && ask.dice < share { BAD } else { Answer::Good }
                    },
                    probe: &|_, at| {
                        if probes && share == 1.0 && at >= BEGIN { BAD } else { Answer::Good }
                    },
                    ..calm()
                };
                let mut world = World::new(t).seeded(seed);
                world.run(&behaviour, BEGIN + 60.0);
                println!(
                    "weights share {share} probes {probes} seed {seed} ejections {} flips {}",
                    world.ejections(),
                    world.flips()
                );
            }
        }
    }
}

#[test]
fn dbg_one() {
    let behaviour = Behaviour {
        answer: &|_, at, _| if at >= BEGIN { BAD } else { Answer::Good },
        probe: &|_, _| Answer::Good,
        ..calm()
    };
    let mut world = World::new(three());
    world.run(&behaviour, BEGIN + 3.0);
    println!("{}", world.told());
}
