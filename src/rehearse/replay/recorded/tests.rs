//! A log made up line by line, through a file of two upstreams.

use std::fmt::Write;

use super::*;
use crate::rehearse::replay::cast;
use crate::rehearse::scenario::Scenario;

fn topology() -> Arc<Topology> {
    let text = "name: x\nupstreams: [cloudflare, bunny]\ntimeline: []\n";
    let scenario = Scenario::read(text).expect("a scenario");
    cast::topology(&scenario, &Setup::default()).0
}

/// Ten minutes at ten requests a second; the first provider fails from the fifth minute to the
/// eighth. A failed GET was tried at the other one.
fn outage() -> String {
    let mut log = String::new();
    for n in 0..6000_u32 {
        let (minute, second) = (n / 600, n / 10 % 60);
        let (status, tried) = match minute {
            5..8 => (200, "upstream=\"cloudflare, bunny\" upstream_status=\"502, 200\""),
            _ => (200, "upstream=cloudflare"),
        };
        let (client, page) = (n % 97, char::from(b'a' + (n % 23) as u8));
        writeln!(
            log,
            "10.0.{client}.1 - - [18/Nov/2025:11:{minute:02}:{second:02} +0000] \"GET /{page} HTTP/1.1\" {status} 5 \"-\" \"-\" {tried}"
        )
        .expect("a String takes everything");
    }
    log
}

#[test]
fn a_recorded_outage_says_when_it_would_have_switched() {
    let found = replay(&topology(), outage().as_bytes(), 1).expect("a readable log");
    assert_eq!((found.lines, found.requests), (6000, 6000));
    assert!(found.not_understood.is_empty(), "{:?}", found.not_understood);
    let switch = found.happenings.iter().find(|it| it.text.starts_with("failover cloudflare"));
    let at = switch.expect("a failover").at.to_string();
    assert!(at.starts_with("2025-11-18T11:05:0"), "{at}");
    assert!((1500.0..4800.0).contains(&found.elsewhere), "{}", found.elsewhere);
}

#[test]
fn a_log_without_failures_moves_nothing() {
    let good: String = outage()
        .lines()
        .filter(|l| !l.contains("502"))
        .fold(String::new(), |all, line| all + line + "\n");
    let found = replay(&topology(), good.as_bytes(), 1).expect("a readable log");
    assert_eq!(found.requests, 4200);
    assert!(found.happenings.is_empty(), "{:?}", found.happenings);
    assert!(found.elsewhere.abs() < 1e-9);
}

#[test]
fn lines_that_are_not_understood_are_counted_by_reason() {
    let log = "nonsense\n\
               {\"time\":1763465283,\"status\":200,\"request\":\"GET / HTTP/2\",\"upstream\":\"nobody\"}\n\
               {\"time\":1763465283,\"status\":200,\"request\":\"GET / HTTP/2\"}\n\
               more nonsense\n\n";
    let found = replay(&topology(), log.as_bytes(), 1).expect("a readable log");
    assert_eq!((found.lines, found.requests), (4, 1));
    assert_eq!(found.not_understood[&BadLine::Shape.to_string()], (2, 1));
    assert_eq!(found.not_understood[&BadLine::Upstream.to_string()], (1, 2));
}

#[test]
fn a_gap_of_years_is_passed_over_at_once() {
    let at = |seconds: u64| {
        format!("{{\"time\":{seconds},\"status\":200,\"request\":\"GET / HTTP/2\"}}\n")
    };
    let log = at(1_000_000_000) + &at(1_763_465_283) + &at(5);
    let found = replay(&topology(), log.as_bytes(), 1).expect("a readable log");
    assert_eq!(found.requests, 3);
}

#[test]
fn requests_of_one_second_are_spread_over_it() {
    let mut pace = Pace::default();
    let second = |n: u64| Duration::from_secs(n);
    (0..4).for_each(|_| {
        pace.place(second(1));
    });
    let places: Vec<u128> = (0..4).map(|_| pace.place(second(2)).as_millis()).collect();
    assert_eq!(places, [2000, 2250, 2500, 2750]);
    assert_eq!(pace.place(Duration::from_millis(2777)).as_millis(), 2777);
}
