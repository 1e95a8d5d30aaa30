//! One row of evidence at a time, and what they say together.

use std::time::Duration;

use super::*;
use crate::decide::case::{Armed, HALF_LIFE};
use crate::decide::world::{start, topology};
use crate::model::outcome::Marker;
use crate::model::place::Residency;
use crate::model::signal::PairEnd;
use crate::model::topology::Rules;

const SECOND: Duration = Duration::from_secs(1);

/// Four edges and the origin itself; the fourth shares a substrate with the third, the fifth with
/// the first.
fn pool() -> Topology {
    topology(
        &[
            ("cloudflare", "US", &["x"]),
            ("bunny", "SI", &[]),
            ("gcore", "LU", &["y"]),
            ("fastly", "US", &["y"]),
            ("akamai", "US", &["x"]),
            ("direct", "FR", &[]),
        ],
        Residency::Any,
        Rules::default(),
    )
}

struct Trial {
    topology: Topology,
    members: Vec<Member>,
    case: Case,
    place: usize,
    failing: Share,
    origin_probe: Option<bool>,
    since: Instant,
}

impl Trial {
    fn new() -> Self {
        let topology = pool();
        let traffic = Traffic::default();
        let members: Vec<Member> =
            topology.upstreams().map(|(upstream, _)| Member { upstream, traffic }).collect();
        let since = start();
        let case = Case::open(&members, since);
        let (place, failing, origin_probe) = (0, Share::DEAD, None);
        Self { topology, members, case, place, failing, origin_probe, since }
    }

    fn pairs(mut self, sibling: usize, went: PairEnd, times: usize) -> Self {
        (0..times).for_each(|_| self.case.compare(sibling, went));
        self
    }

    fn failures(mut self, kind: FailureKind, marker: Marker, times: usize) -> Self {
        (0..times).for_each(|_| self.case.failed(kind, marker, Armed::Yes));
        self
    }

    fn unarmed(mut self, kind: FailureKind, marker: Marker, times: usize) -> Self {
        (0..times).for_each(|_| self.case.failed(kind, marker, Armed::No));
        self
    }

    fn attribution(&self) -> Attribution {
        let since = self.since;
        let doubt = Doubt {
            place: self.place,
            case: &self.case,
            failing: self.failing,
            sample: Sampling::Fair,
            since,
            probe_kind: None,
        };
        let around = Surroundings {
            topology: &self.topology,
            members: &self.members,
            origin_probe: self.origin_probe.map(|passed| (since + SECOND, passed)),
            now: since + SECOND,
        };
        attribute(&doubt, &around)
    }

    fn log_odds(&self) -> f64 {
        self.attribution().log_odds
    }
}

#[test]
fn each_row_adds_what_the_table_says() {
    use FailureKind::{Connect, EdgeLeg, MarkerMissing, ServerError, Tls};
    use PairEnd::{FailedToo, Succeeded};
    let new = Trial::new;
    let absent = Marker::Absent;
    let marked = |times: u32| {
        let mut trial = new().failures(ServerError, Marker::Unconfigured, 3);
        trial.case.marked = f64::from(times);
        trial
    };
    let asked = |passed| Trial { origin_probe: Some(passed), ..new() };
    let at_the_origin = Trial { place: 5, ..new() }.failures(Connect, Marker::Unconfigured, 3);
    let by_itself = || {
        let mut trial = new();
        trial.topology.providers[0].kind = ProviderKind::Source;
        trial
    };
    #[rustfmt::skip]
    let table = [
        ("who answers by itself fails by itself", by_itself().pairs(1, FailedToo, 9).pairs(2, FailedToo, 9), 4.6),
        ("at its front door too",               by_itself().failures(Connect, absent, 9), 4.6),
        ("nothing says nothing",                new(), 0.0),
        ("a pair that succeeds elsewhere",      new().pairs(1, Succeeded, 1), 3.0),
        ("many of them",                        new().pairs(1, Succeeded, 50), 9.0),
        ("a sibling that fails too",            new().pairs(1, FailedToo, 50), -3.9),
        ("two of them",                         new().pairs(1, FailedToo, 50).pairs(2, FailedToo, 50), -7.8),
        ("two that share a substrate are one",  new().pairs(2, FailedToo, 50).pairs(3, FailedToo, 50), -3.9),
        ("one that shares with the suspect",    new().pairs(4, FailedToo, 50), 0.0),
        ("one success refutes two failures",    new().pairs(1, FailedToo, 9).pairs(2, FailedToo, 9).pairs(5, Succeeded, 1), 3.0),
        ("a silent marker",                     new().failures(ServerError, absent, 1), 2.3),
        ("no matter how often",                 new().failures(MarkerMissing, absent, 9), 4.6),
        ("one whose page the provider replaces", new().failures(ServerError, Marker::Replaced, 9), 0.0),
        ("a page of the provider's own",        new().unarmed(ServerError, Marker::Own, 1), 1.5),
        ("no matter how often it says so",      new().unarmed(ServerError, Marker::Own, 9), 3.0),
        ("beside an armed marker",              new().failures(ServerError, Marker::Own, 9), 7.6),
        ("its own page about the leg",          new().failures(EdgeLeg, Marker::Own, 9), 0.0),
        ("the leg behind the edge",             new().failures(EdgeLeg, absent, 9), 0.0),
        ("a closed front door",                 new().failures(Connect, absent, 9), 4.6),
        ("a third of them",                     new().failures(Tls, absent, 1).failures(EdgeLeg, absent, 2), 4.6),
        ("less than that",                      new().failures(Tls, absent, 1).failures(EdgeLeg, absent, 3), 0.0),
        ("siblings cannot acquit a shut door",  new().failures(Connect, absent, 9).pairs(1, FailedToo, 9).pairs(2, FailedToo, 9), 4.6),
        ("they can where it is only ajar",      new().failures(Connect, absent, 1).failures(EdgeLeg, absent, 1).pairs(1, FailedToo, 9), 0.7),
        ("the origin's own front door",         at_the_origin, -2.3),
        ("the origin probe passes",             asked(true), 2.3),
        ("the origin probe fails",              asked(false), -2.3),
        ("the origin spoke half of the time",   marked(3), -4.6),
        ("less than that",                      marked(2), 0.0),
    ];
    for (shows, trial, expected) in table {
        let found = trial.log_odds();
        assert!((found - expected).abs() < 0.15, "{shows}: {found} instead of {expected}");
    }
}

#[test]
fn the_origin_is_blamed_on_independent_evidence_only() {
    use PairEnd::FailedToo;
    let blame = |trial: Trial| trial.attribution().blame;
    let one = || Trial::new().pairs(1, FailedToo, 50);
    assert_eq!(blame(one()), Blame::Unknown, "one sibling may be broken by itself");
    assert_eq!(blame(one().pairs(2, FailedToo, 50)), Blame::Origin, "two are not");
    assert_eq!(blame(Trial { origin_probe: Some(false), ..one() }), Blame::Origin);
    let mut spoke = Trial::new();
    spoke.case.marked = 50.0;
    assert_eq!(blame(spoke), Blame::Origin, "by its own word");
}

#[test]
fn an_origin_that_fails_in_random_requests_is_not_taken_for_the_provider() {
    // Of the requests that failed here, seven of ten succeed at either sibling: overload, not fault.
    let mut trial = Trial::new();
    trial.failing = Share::of(30, 100);
    for _ in 0..10 {
        trial = trial.pairs(1, PairEnd::Succeeded, 7).pairs(1, PairEnd::FailedToo, 3);
        trial = trial.pairs(2, PairEnd::FailedToo, 3).pairs(2, PairEnd::Succeeded, 7);
        assert!(trial.log_odds() < PROVIDER, "{}", trial.log_odds());
    }
    assert_eq!(trial.attribution().blame, Blame::Origin);
}

#[test]
fn a_brownout_of_the_provider_takes_a_dozen_pairs() {
    let mut trial = Trial::new();
    trial.failing = Share::of(30, 100);
    assert!(Trial { ..trial }.pairs(1, PairEnd::Succeeded, 20).log_odds() >= PROVIDER);
}

#[test]
fn evidence_counts_for_half_after_thirty_seconds() {
    let mut trial = Trial::new().failures(FailureKind::ServerError, Marker::Absent, 80);
    trial.case.fade(trial.since + HALF_LIFE);
    assert!((trial.case.failures - 40.0).abs() < 0.01, "{}", trial.case.failures);
}

#[test]
fn where_few_fail_evidence_counts_for_half_after_forty_failures() {
    let mut trial = Trial::new();
    for second in 1..=3600 {
        trial = trial.failures(FailureKind::ServerError, Marker::Absent, second % 10 / 9);
        trial.case.fade(trial.since + Duration::from_secs(second as u64));
    }
    // 40 / ln 2 in balance, as many a half-life as are forgotten.
    assert!((55.0..60.0).contains(&trial.case.failures), "{}", trial.case.failures);
}

#[test]
fn what_siblings_answer_while_the_fault_begins_is_not_compared() {
    let mut trial = Trial::new();
    trial.members[1].traffic = Traffic { attempts: 40, failures: 0 };
    assert!(trial.log_odds() > PROVIDER, "a second later it is");
    trial.case.compare_from(&trial.members.clone());
    assert!(trial.log_odds().abs() < 0.01, "{}", trial.log_odds());
}

#[test]
fn a_page_in_place_of_the_origins_is_no_reason_to_leave_and_one_that_is_owned_up_to_is() {
    let blame =
        |marker| Trial::new().failures(FailureKind::ServerError, marker, 9).attribution().blame;
    assert_eq!(blame(Marker::Absent), Blame::Provider, "an origin that spoke would have signed");
    assert_eq!(blame(Marker::Replaced), Blame::Unknown, "here nobody could see it");
    assert_eq!(blame(Marker::Own), Blame::Provider);
    let unarmed = Trial::new().unarmed(FailureKind::ServerError, Marker::Own, 2);
    assert_eq!(unarmed.attribution().blame, Blame::Provider, "without any marker too");
}
