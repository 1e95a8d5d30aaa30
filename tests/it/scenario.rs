//! Every embedded outage through replay: what its file expects holds.

use std::sync::atomic::{AtomicUsize, Ordering};

use bascule::model::place::Residency;
use bascule::rehearse::library::{self, OUTAGES, Outage};
use bascule::rehearse::replay::{self, Setup};
use bascule::rehearse::report::Report;
use bascule::rehearse::scenario::Scenario;

fn replayed(outage: &Outage, setup: &Setup, seed: u64) -> Report {
    let scenario = Scenario::read(outage.text).expect(outage.name);
    Report::new(&scenario, &replay::play(&scenario, setup, seed))
}

/// Replays each outage, on every core, and gives what `complain` says of them.
fn complaints(complain: impl Fn(&Report) -> Option<String> + Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        while let Some(outage) = OUTAGES.get(next.fetch_add(1, Ordering::Relaxed)) {
            found.extend(complain(&replayed(outage, &Setup::default(), 1)));
        }
        found
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    })
}

#[test]
fn every_embedded_outage_goes_as_expected() {
    let failed = complaints(|report| (!report.holds).then(|| report.text()));
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_embedded_outage_expects_something() {
    for outage in &OUTAGES {
        let scenario = Scenario::read(outage.text).expect(outage.name);
        assert!(!scenario.timeline.is_empty(), "{}", outage.name);
        assert!(outage.text.contains("expect:"), "{}", outage.name);
    }
}

#[test]
fn the_same_seed_gives_the_same_result_to_the_last_figure() {
    let outage = library::find("health-ok-traffic-5xx").expect("embedded");
    let json =
        |seed| serde_json::to_string(&replayed(outage, &Setup::default(), seed)).expect("a report");
    assert_eq!(json(7), json(7));
    assert_ne!(json(7), json(8));
}

#[test]
fn an_eu_only_service_never_leaves_the_eu() {
    let setup = Setup { residency: Some(Residency::EuOnly), ..Setup::default() };
    let outage = library::find("total-loss-all-edges").expect("embedded");
    let report = replayed(outage, &setup, 1);
    assert!(report.requests > 0);
    assert_eq!(report.share_outside_eu, 0.0);
}

#[test]
fn without_failover_the_first_provider_takes_everyone_down_with_it() {
    let outage = library::find("cf-2025-11-18-fl2-flap").expect("embedded");
    let report = replayed(outage, &Setup::default(), 1);
    assert!(report.errors_without_failover > 100 * report.errors.max(1));
    assert_eq!(report.errors_safe, 0, "no GET fails");
}

#[test]
fn every_embedded_outage_stands_in_the_table_of_the_documents() {
    let table = include_str!("../../docs/REPLAY.md");
    let missing: Vec<&str> = (OUTAGES.iter().map(|outage| outage.name))
        .filter(|name| !table.contains(&format!("| {name} |")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
