//! What the detector as a whole does in small worlds.

use super::world::{Answer, Behaviour, World, three};
use crate::model::health::{HealthTag, Transition};
use crate::model::outcome::FailureKind;

const BAD: Answer = Answer::Bad(FailureKind::ServerError);

fn good(_: usize, _: f64) -> Answer {
    Answer::Good
}

fn detection(world: &World) -> f64 {
    world
        .log
        .iter()
        .find_map(|t| match t {
            Transition::Failover { at, .. } => Some((*at - world.start).as_secs_f64()),
            _ => None,
        })
        .unwrap_or(f64::INFINITY)
}

#[test]
fn a_dead_primary_is_left_within_half_a_second_however_few_witnesses_there_are() {
    for witnesses in [1, 2, 3, 4, 8, 1000] {
        for green in [true, false] {
            for seed in 0..10 {
                let fails = |place: usize, at: f64| {
                    if place == 0 && at >= 20.0 { BAD } else { Answer::Good }
                };
                let behaviour = Behaviour {
                    rate: 200.0,
                    safe: 50,
                    witnesses,
                    marked: false,
                    answer: &|place, at, _| fails(place, at),
                    probe: &|place, at| if green { Answer::Good } else { fails(place, at) },
                    origin: None,
                };
                let mut world = World::new(three()).seeded(seed);
                world.run(&behaviour, 30.0);
                let took = detection(&world) - 20.0;
                assert!(
                    took <= 0.5,
                    "{witnesses} witnesses, seed {seed}: {took} s {:#?}",
                    world.log
                );
                assert_eq!(world.first(), 1);
            }
        }
    }
}

#[test]
fn explore_18_november() {
    let bad = |at: f64| {
        let at = at - 60.0;
        if at < 0.0 {
            0.0
        } else if at < 5820.0 {
            if (at % 600.0) < 300.0 { 0.98 } else { 0.0 }
        } else if at < 10920.0 {
            0.98
        } else if at < 20280.0 {
            0.03
        } else {
            0.0
        }
    };
    for marked in [true, false] {
        for seed in 0..3 {
            let dice = std::cell::Cell::new(seed as f64);
            let answer = |place: usize, at: f64, ask: &super::world::Ask| {
                if place == 0 && ask.dice < bad(at) { BAD } else { Answer::Good }
            };
            let probe = |place: usize, at: f64| {
                dice.set((dice.get() * 997.13 + 0.37).fract());
                if place == 0 && dice.get() < bad(at) { BAD } else { Answer::Good }
            };
            let behaviour = Behaviour {
                rate: 100.0,
                safe: 85,
                witnesses: 4000,
                marked,
                answer: &answer,
                probe: &probe,
                origin: None,
            };
            let mut world = World::new(three()).seeded(seed);
            world.run(&behaviour, 24000.0);
            println!(
                "=== seed {seed} marked {marked} flips {} lost {} of {}",
                world.flips(),
                world.lost,
                world.requests
            );
            for t in &world.log {
                match t {
                    Transition::Health { upstream, from, to, at, reason, hold }
                        if *to != HealthTag::Suspect && *from != HealthTag::Suspect
                            || hold.is_some() =>
                    {
                        println!(
                            "{:9.2} {} {:?}->{:?} {} {:?}",
                            (*at - world.start).as_secs_f64(),
                            upstream.index(),
                            from,
                            to,
                            reason.as_str(),
                            hold
                        )
                    }
                    Transition::Failover { at, detection, reason, .. } => println!(
                        "{:9.2} FAILOVER {} {:?}",
                        (*at - world.start).as_secs_f64(),
                        reason.as_str(),
                        detection
                    ),
                    Transition::Failback { at, reason, .. } => println!(
                        "{:9.2} FAILBACK {}",
                        (*at - world.start).as_secs_f64(),
                        reason.as_str()
                    ),
                    _ => {}
                }
            }
        }
    }
}
