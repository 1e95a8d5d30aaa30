//! Tables for the three scores together.

use std::time::{Duration, Instant};

use super::*;
use crate::decide::world::start;
use crate::model::health::Blame;
use crate::model::signal::Witness;

const RATE: f64 = 100.0;

fn scores() -> Scores {
    Scores::new(Sensitivity::Balanced)
}

fn yardstick(scores: &Scores, success_rate: Option<f64>, now: Instant) -> Yardstick {
    Yardstick { threshold: scores.threshold(RATE), success_rate, now }
}

fn failure(at: Instant, witness: u32) -> Failure {
    Failure { at, kind: FailureKind::ServerError, witness: Witness(witness) }
}

/// How many requests at 100 a second, of which so many of a thousand fail, until the first trip.
fn requests_to_trip(failing: u64, seed: u64) -> u32 {
    let begin = start();
    let mut scores = scores();
    let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for request in 0..100_000 {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let now = begin + Duration::from_millis(10) * request;
        let fails = dice % 1000 < failing;
        let failures = if fails { vec![failure(now, request)] } else { Vec::new() };
        let drain = Drain { successes: u32::from(!fails), failures };
        let by = yardstick(&scores, Some(RATE), now);
        scores.observe(&drain, by.threshold, Guard::Distinct);
        if scores.trip(&by).is_some() {
            return request + 1;
        }
    }
    u32::MAX
}

#[test]
fn trips_come_as_soon_as_the_table_promises() {
    // Per mille that fail, and the mean number of requests: the least that evidence takes, and what
    // the dwell of 200 ms or 500 ms adds at a hundred requests a second.
    for (failing, least, most) in [(1000, 4, 25), (300, 16, 60), (100, 60, 150), (50, 150, 370)] {
        let total: u32 = (1..=100).map(|seed| requests_to_trip(failing, seed)).sum();
        let mean = total / 100;
        assert!((least..=most).contains(&mean), "{failing} per mille: {mean} requests");
    }
}

#[test]
fn five_failures_in_one_drain_trip_once_the_dwell_is_over() {
    let now = start();
    let mut scores = scores();
    let drain = Drain { successes: 2, failures: (0..7).map(|n| failure(now, n)).collect() };
    let by = yardstick(&scores, Some(RATE), now);
    scores.observe(&drain, by.threshold, Guard::Distinct);
    assert_eq!(scores.trip(&by), None);
    assert_eq!(scores.dwell_ends(&by), Some(now + Duration::from_millis(200)));
    let by = Yardstick { now: now + Duration::from_millis(200), ..by };
    assert_eq!(scores.trip(&by), Some(Tier::Cascade));
    assert_eq!(scores.since(), Some(now));
    assert!(scores.may_be_cascade());
}

#[test]
fn an_unbroken_run_trips_where_witnesses_are_too_few() {
    let begin = start();
    let millis = |n: u64| begin + Duration::from_millis(n);
    #[rustfmt::skip]
    let table = [
        // what it shows                             failures, successes a second, lasted ms, trips
        ("ten failures, and all is silent",          10, Some(200.0), 200, true),
        ("nine are too few",                          9, Some(200.0), 200, false),
        ("too short a time",                         50, Some(200.0), 199, false),
        ("a quiet service is silent by chance",      50, Some(0.5), 5_000, false),
        ("until it is so no longer",                 50, Some(0.5), 14_000, true),
        ("where nothing ever worked, length decides", 10, Some(0.0), 200, true),
        ("retries of one request prove nothing",     500, None, 60_000, false),
    ];
    for (shows, failures, success_rate, lasted, trips) in table {
        let mut scores = scores();
        let drain = Drain { successes: 0, failures: vec![failure(begin, 1); failures] };
        let by = yardstick(&scores, success_rate, millis(lasted));
        scores.observe(&drain, by.threshold, Guard::Distinct);
        assert_eq!(scores.trip(&by).is_some(), trips, "{shows}");
        if trips {
            let unknown = Attribution {
                blame: Blame::Unknown,
                log_odds: 0.0,
                pairs_for: 0,
                pairs_against: 0,
            };
            let evidence = scores.evidence(Tier::Cascade, &by, unknown);
            assert_eq!(evidence.rule, TripRule::UnbrokenRun, "{shows}");
            assert!(evidence.score >= evidence.threshold, "{shows}: {evidence:?}");
        }
    }
}

#[test]
fn an_unbroken_run_fails_wholly_whatever_was_drained_with_its_beginning() {
    let begin = start();
    let mut scores = scores();
    let by = yardstick(&scores, Some(200.0), begin + Duration::from_millis(200));
    let mixed = Drain { successes: 5, failures: vec![failure(begin, 1); 8] };
    scores.observe(&mixed, by.threshold, Guard::Distinct);
    let bad = Drain { successes: 0, failures: vec![failure(begin, 1); 20] };
    scores.observe(&bad, by.threshold, Guard::Distinct);
    assert_eq!(scores.trip(&by), Some(Tier::Cascade));
    let failing = scores.failing(Tier::Cascade, &by);
    assert!(failing.least > 0.85, "{failing:?}");
}

#[test]
fn a_single_success_breaks_the_run() {
    let now = start();
    let mut scores = scores();
    let drain = Drain { successes: 1, failures: vec![failure(now, 1); 100] };
    let by = yardstick(&scores, Some(200.0), now + Duration::from_secs(10));
    scores.observe(&drain, by.threshold, Guard::Distinct);
    scores.observe(&Drain { successes: 1, failures: Vec::new() }, by.threshold, Guard::Distinct);
    assert_eq!(scores.trip(&by), None);
}

#[test]
fn whoever_has_to_prove_itself_fails_by_three_failures_of_anyone() {
    let now = start();
    let mut scores = scores();
    let by = yardstick(&scores, Some(RATE), now + Duration::from_secs(1));
    scores.half_way(by.threshold, now);
    for (count, trips) in [(1, false), (2, false), (3, true)] {
        let drain = Drain { successes: 0, failures: vec![failure(now, 7)] };
        scores.observe(&drain, by.threshold, Guard::Anyone);
        assert_eq!(scores.trip(&by).is_some(), trips, "{count}");
    }
}
