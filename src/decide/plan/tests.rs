//! Layouts and the plans that follow from them.

use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, prop_assert_eq, prop_oneof, proptest};

use super::*;
use crate::decide::rank::Doubt;
use crate::decide::world::start;
use crate::model::example::{self, Example};
use crate::model::realm::{Charter, Charters};

fn member(index: usize, jurisdiction: Jurisdiction, health: Health) -> Member {
    let contender = Contender {
        upstream: UpstreamId::new(index),
        jurisdiction,
        preference: index as u16 + 1,
        weight: 100,
        doubt: Doubt::None,
        fate: Fate::Own,
    };
    Member { contender, health, admin: AdminState::Auto }
}

/// That admit the first few upstreams, whoever they are.
fn realms() -> Realms {
    let of =
        |provider| Example { service: "portal", provider, seat: "SI", host: "192.0.2.1", port: 80 };
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    example::topology(&names.map(of)).pools[0].realms.clone()
}

fn layout(healths: &[Health]) -> Layout {
    let members = (healths.iter().enumerate())
        .map(|(index, health)| member(index, Jurisdiction::Eu, *health))
        .collect();
    let trickle = Permille::from_fraction(0.02);
    Layout { members, realms: realms(), trickle, ..Layout::default() }
}

fn ejected(now: Instant) -> Health {
    Health::Ejected { since: now, until: now, ejections: 1 }
}

fn half_open(now: Instant) -> Health {
    Health::HalfOpen { since: now, passes: 0, ejections: 1 }
}

fn ramping(now: Instant, step: u8) -> Health {
    Health::Ramping { since: now, step, passes: 0, ejections: 1 }
}

/// Upstream, safe and unsafe share, place.
fn shown(plan: &PoolPlan) -> Vec<(usize, u16, u16, Place)> {
    let row = |c: &Candidate| (c.upstream().index(), c.safe.get(), c.unsafe_.get(), c.place);
    plan.candidates().iter().map(row).collect()
}

#[test]
fn each_layout_has_its_plan() {
    use Health::{Healthy, Suspect};
    use Place::{Fallback, Preferred, Standby};
    let now = start();
    let out = ejected(now);
    #[rustfmt::skip]
    let table = [
        // what it shows,                      healths, upstream, safe, unsafe, place
        ("all well",                           vec![Healthy, Healthy],
            vec![(0, 1000, 1000, Preferred), (1, 0, 0, Standby)]),
        ("doubt changes nothing",              vec![Suspect, Healthy],
            vec![(0, 1000, 1000, Preferred), (1, 0, 0, Standby)]),
        ("the ejected is absent",              vec![out, Healthy, Healthy],
            vec![(1, 1000, 1000, Fallback), (2, 0, 0, Standby)]),
        ("a trickle of safe requests only",    vec![half_open(now), Healthy],
            vec![(0, 20, 0, Place::HalfOpen), (1, 980, 1000, Fallback)]),
        ("a ramp of both",                     vec![ramping(now, 2), Healthy],
            vec![(0, 150, 150, Place::Ramping), (1, 850, 850, Fallback)]),
        ("the next is tried beside it",        vec![half_open(now), half_open(now), Healthy],
            vec![(0, 20, 0, Place::HalfOpen), (1, 20, 0, Place::HalfOpen), (2, 960, 1000, Fallback)]),
        ("by what the first leaves",           vec![ramping(now, 4), ramping(now, 3), Healthy],
            vec![(0, 700, 700, Place::Ramping), (1, 105, 105, Place::Ramping), (2, 195, 195, Fallback)]),
        ("nobody behind who serves",           vec![half_open(now), Healthy, half_open(now)],
            vec![(0, 20, 0, Place::HalfOpen), (1, 980, 1000, Fallback), (2, 0, 0, Place::HalfOpen)]),
        ("a standby is tried without traffic", vec![Healthy, half_open(now)],
            vec![(0, 1000, 1000, Preferred), (1, 0, 0, Place::HalfOpen)]),
        ("whoever ramps alone serves",         vec![ramping(now, 0), out],
            vec![(0, 1000, 1000, Place::Ramping)]),
    ];
    for (shows, healths, expected) in table {
        let plan = compile(&layout(&healths));
        assert_eq!(shown(&plan), expected, "{shows}");
        assert_eq!(plan.mode, PoolMode::Normal, "{shows}");
    }
}

#[test]
fn an_empty_pool_is_fail_closed() {
    let plan = compile(&Layout::default());
    assert_eq!((plan.mode, plan.candidates().len()), (PoolMode::FailClosed, 0));
}

#[test]
fn where_all_are_bad_the_best_serves_and_the_others_are_looked_at() {
    let now = start();
    let mut layout = layout(&[ejected(now), half_open(now), ejected(now)]);
    layout.least_bad = vec![Some(UpstreamId::new(1))];
    let plan = compile(&layout);
    let bad = Place::LeastBad;
    assert_eq!(plan.mode, PoolMode::FailOpen);
    assert_eq!(shown(&plan), [(1, 950, 1000, bad), (0, 25, 0, bad), (2, 25, 0, bad)]);
}

#[test]
fn all_that_are_half_open_take_a_quarter_at_most() {
    let now = start();
    for tried in 1..8 {
        let mut healths = vec![half_open(now); tried];
        healths.push(Health::Healthy);
        let layout = Layout { trickle: Permille::from_fraction(0.25), ..layout(&healths) };
        let plan = compile(&layout);
        let shares: Vec<u16> = plan.candidates().iter().map(|c| c.safe.get()).collect();
        assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
        assert!(shares[tried] >= 750, "{shares:?}");
    }
}

#[test]
fn one_in_the_eu_is_missed_only_under_prefer_eu_and_by_a_fallback_outside() {
    use Jurisdiction::{Eu, NonEu};
    let now = start();
    let (good, out, tried) = (Health::Healthy, ejected(now), half_open(now));
    let prefer = Residency::PreferEu;
    #[rustfmt::skip]
    let table = [
        // what it shows,                     residency, members, who of them is missed
        ("a fallback outside serves",         prefer, vec![(NonEu, tried), (Eu, tried), (NonEu, good)], vec![1]),
        ("the first choice may be outside",   prefer, vec![(NonEu, good), (Eu, tried), (NonEu, good)], vec![]),
        ("the first choice may be inside",    prefer, vec![(Eu, tried), (NonEu, good)], vec![0]),
        ("another inside serves",             prefer, vec![(NonEu, tried), (Eu, tried), (Eu, good)], vec![]),
        ("everyone inside",                   prefer, vec![(Eu, out), (NonEu, good), (Eu, tried)], vec![0, 2]),
        ("where all are alike nobody is",     Residency::Any, vec![(NonEu, out), (Eu, tried), (NonEu, good)], vec![]),
        ("where nobody serves nobody is",     prefer, vec![(NonEu, out), (Eu, tried)], vec![]),
    ];
    for (shows, residency, seats, expected) in table {
        let numbered = seats.iter().enumerate();
        let members = numbered.map(|(index, (seat, health))| member(index, *seat, *health));
        let (members, realms) = (members.collect(), realms());
        let layout = Layout { members, residency, realms, ..Layout::default() };
        let missed: Vec<usize> =
            (0..seats.len()).filter(|place| layout.is_missed(UpstreamId::new(*place))).collect();
        assert_eq!(missed, expected, "{shows}");
    }
}

#[test]
fn one_in_the_eu_is_missed_where_routes_of_one_charter_alone_miss_it() {
    use Jurisdiction::{Eu, NonEu};
    let now = start();
    let healths = [(NonEu, ejected(now)), (Eu, half_open(now)), (NonEu, Health::Healthy)];
    let members = healths.iter().enumerate().map(|(it, (seat, health))| member(it, *seat, *health));
    let members: Vec<Member> = members.collect();
    #[rustfmt::skip]
    let table = [
        // what it shows,                                 charters of the routes,                      missed
        ("some prefer it, of a service that does not",    [Residency::Any, Residency::PreferEu],       vec![1]),
        ("what must stay inside has nobody outside",      [Residency::Any, Residency::EuOnly],         vec![]),
        ("those that prefer it have a fallback outside",  [Residency::EuOnly, Residency::PreferEu],    vec![1]),
    ];
    for (shows, residencies, expected) in table {
        let of =
            |(provider, seat)| Example { service: "portal", provider, seat, host: "a", port: 80 };
        let mut topology = example::topology(&[("a", "US"), ("b", "SI"), ("c", "US")].map(of));
        let mut charters = Charters::default();
        for residency in residencies {
            charters.add(&Charter::of(residency)).expect("two at most");
        }
        topology.settle(&Charter::of(residencies[0]), &charters);
        let realms = topology.pools[0].realms.clone();
        assert_eq!(realms.narrower().len(), 2, "{shows}");
        let layout = Layout {
            members: members.clone(),
            residency: residencies[0],
            least_bad: vec![None; 3],
            realms,
            ..Layout::default()
        };
        let missed: Vec<usize> =
            (0..3).filter(|place| layout.is_missed(UpstreamId::new(*place))).collect();
        assert_eq!(missed, expected, "{shows}");
    }
}

#[test]
fn equal_preference_shares_by_weight() {
    let mut layout = layout(&[Health::Healthy; 3]);
    for (member, weight) in layout.members.iter_mut().zip([1, 1, 1]) {
        member.contender.preference = 1;
        member.contender.weight = weight;
    }
    let shares: Vec<u16> = compile(&layout).candidates().iter().map(|c| c.unsafe_.get()).collect();
    assert_eq!(shares, [333, 333, 334]);
    layout.members[1].health = ejected(start());
    layout.members[2].contender.weight = 3;
    let shares: Vec<u16> = compile(&layout).candidates().iter().map(|c| c.unsafe_.get()).collect();
    assert_eq!(shares, [250, 750]);
}

#[test]
fn once_the_first_choice_is_left_the_eu_comes_first() {
    use Jurisdiction::{Eu, NonEu};
    let now = start();
    let members = vec![
        member(0, NonEu, ejected(now)),
        member(1, NonEu, Health::Healthy),
        member(2, Eu, Health::Healthy),
    ];
    let mut layout =
        Layout { members, residency: Residency::PreferEu, realms: realms(), ..Layout::default() };
    let expected = [(2, 1000, 1000, Place::EuFirst), (1, 0, 0, Place::Standby)];
    assert_eq!(shown(&compile(&layout)), expected);
    layout.residency = Residency::Any;
    let expected = [(1, 1000, 1000, Place::Fallback), (2, 0, 0, Place::Standby)];
    assert_eq!(shown(&compile(&layout)), expected);
}

#[test]
fn shared_fate_stands_behind() {
    let mut layout = layout(&[ejected(start()), Health::Healthy, Health::Healthy]);
    layout.members[1].contender.fate = Fate::Shared;
    let expected = [(2, 1000, 1000, Place::Fallback), (1, 0, 0, Place::SharedFate)];
    assert_eq!(shown(&compile(&layout)), expected);
}

#[test]
fn an_experiment_lends_a_tenth_and_changes_no_first_candidate() {
    let mut layout = layout(&[Health::Suspect, Health::Healthy]);
    let [from, to] = [0, 1].map(UpstreamId::new);
    layout.experiment = Some(Experiment { from, to });
    let plan = compile(&layout);
    let expected = [(0, 900, 900, Place::Preferred), (1, 100, 100, Place::Standby)];
    assert_eq!(shown(&plan), expected);
    assert_eq!(plan.first(), Some(from));
}

#[test]
fn retries_go_to_nobody_who_is_being_tried_out() {
    let now = start();
    let healths = [half_open(now), ramping(now, 2), ramping(now, 3), Health::Healthy];
    let rescues: Vec<Rescue> =
        compile(&layout(&healths)).candidates().iter().map(|c| c.rescue).collect();
    use Rescue::{Refuses, Takes};
    assert_eq!(rescues, [Refuses, Refuses, Takes, Takes]);
}

fn healths() -> impl Strategy<Value = Health> {
    let now = start();
    prop_oneof![
        Just(Health::Healthy),
        Just(Health::Suspect),
        Just(ejected(now)),
        Just(half_open(now)),
        (0_u8..5).prop_map(move |step| ramping(now, step)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn shares_sum_to_one_whatever_the_layout(
        members in vec((healths(), 1_u16..4, 1_u16..=1000), 1..9),
        trickle in 0.01_f64..0.25,
        experiment in (0_usize..9, 0_usize..9),
    ) {
        let mut layout = layout(&members.iter().map(|(health, ..)| *health).collect::<Vec<_>>());
        for (member, (_, preference, weight)) in layout.members.iter_mut().zip(&members) {
            member.contender.preference = *preference;
            member.contender.weight = *weight;
        }
        layout.trickle = Permille::from_fraction(trickle);
        let [from, to] = [experiment.0, experiment.1].map(UpstreamId::new);
        layout.experiment = Some(Experiment { from, to });
        let plan = compile(&layout);
        let sum = |share: fn(&Candidate) -> Permille| -> u16 {
            plan.candidates().iter().map(|candidate| share(candidate).get()).sum()
        };
        prop_assert_eq!(sum(|c| c.safe), 1000);
        prop_assert_eq!(sum(|c| c.unsafe_), 1000);
    }
}

#[test]
fn a_standby_is_kept_warm_where_the_law_and_its_health_allow_it() {
    use Jurisdiction::{Eu, NonEu};
    let now = start();
    let aside = Permille::from_fraction(0.01);
    let warm = |residency, seats: &[(Jurisdiction, Health)]| {
        let numbered = seats.iter().enumerate();
        let members = numbered.map(|(index, (seat, health))| member(index, *seat, *health));
        let layout = Layout {
            members: members.collect(),
            residency,
            aside,
            realms: realms(),
            ..Layout::default()
        };
        let plan = compile(&layout);
        plan.standby().map(|standby| plan.candidates()[standby.place].upstream().index())
    };
    let (prefer, any) = (Residency::PreferEu, Residency::Any);
    let (good, out) = (Health::Healthy, ejected(now));
    #[rustfmt::skip]
    let table = [
        ("the next in order",                  prefer, vec![(NonEu, good), (Eu, good), (Eu, good)], Some(1)),
        ("nobody outside while the EU serves", prefer, vec![(NonEu, out), (Eu, good), (NonEu, good)], None),
        ("anyone where all are alike",         any,    vec![(NonEu, out), (Eu, good), (NonEu, good)], Some(2)),
        ("nobody in doubt",                    prefer, vec![(NonEu, good), (Eu, Health::Suspect)], None),
        ("nobody who is being tried out",      prefer, vec![(NonEu, good), (Eu, half_open(now))], None),
        ("nobody where there is nobody",       any,    vec![(Eu, good)], None),
    ];
    for (shows, residency, seats, expected) in table {
        assert_eq!(warm(residency, &seats), expected, "{shows}");
    }
}

/// Whether one outside serves that does not stand first in the file, while the one inside is being
/// tried out; if so it gets requests to prove itself by.
fn is_missed(layout: &Layout, plan: &PoolPlan, inside: Member, id: UpstreamId) -> bool {
    let is_instead =
        |it: &Candidate| it.unsafe_.get() > 0 && it.upstream() != id && it.upstream().index() != 0;
    let is_tried = matches!(inside.health, Health::HalfOpen { .. } | Health::Ramping { .. });
    let missed = plan.candidates().iter().any(is_instead)
        && is_tried
        && plan.mode == PoolMode::Normal
        && inside.contender.doubt == Doubt::None;
    if missed {
        let share = plan.candidate(id).map_or(0, |it| it.safe.get());
        assert!(share > 0 && layout.is_missed(id), "no way back: {layout:?}");
    }
    missed
}

/// One in the EU and two outside, in every order of the file, in every state that each can be in. And
/// whenever one outside serves that is not the first choice, the one inside gets requests to prove
/// itself by, if it is being tried out.
#[test]
fn under_prefer_eu_the_one_inside_serves_whenever_it_can_once_the_first_is_left() {
    use Health::{Healthy, Suspect};
    let now = start();
    let healths =
        [Healthy, Suspect, ejected(now), half_open(now), ramping(now, 0), ramping(now, 4)];
    let admins = [AdminState::Auto, AdminState::Draining, AdminState::ForcedIn];
    let doubts = [Doubt::None, Doubt::Standing];
    let is_first = |place: usize, inside: usize| place != inside && place == 0;
    let (mut looked_at, mut missed) = (0, 0);
    for inside in 0..3 {
        for state in 0..(healths.len() * admins.len() * doubts.len()).pow(3) {
            let mut rest = state;
            let mut next = |most: usize| {
                let it = rest % most;
                rest /= most;
                it
            };
            let members: Vec<Member> = (0..3)
                .map(|place| {
                    let law = if place == inside { Jurisdiction::Eu } else { Jurisdiction::NonEu };
                    let health = healths[next(healths.len())];
                    let admin = admins[next(admins.len())];
                    let doubt = doubts[next(doubts.len())];
                    let member = member(place, law, health);
                    Member { admin, contender: Contender { doubt, ..member.contender }, ..member }
                })
                .collect();
            let Some(able) = members[inside].in_force() else { continue };
            let is_able =
                matches!(able.health, Healthy | Suspect) && able.contender.doubt == Doubt::None;
            let layout = Layout {
                members,
                residency: Residency::PreferEu,
                realms: realms(),
                trickle: Permille::from_fraction(0.02),
                ..Layout::default()
            };
            let plan = compile(&layout);
            missed += usize::from(is_missed(&layout, &plan, able, UpstreamId::new(inside)));
            let first = plan.first().expect("somebody").index();
            if !is_able || is_first(first, inside) {
                continue;
            }
            looked_at += 1;
            assert_eq!(first, inside, "{layout:?}");
            // And who is tried next when the first choice fails is the one inside, too.
            let order: Vec<usize> =
                plan.candidates().iter().map(|it| it.upstream().index()).collect();
            let others = order.iter().filter(|place| **place != 0 || inside == 0);
            assert_eq!(others.into_iter().next(), Some(&inside), "{layout:?}");
        }
    }
    assert!(looked_at > 10_000 && missed > 1_000, "{looked_at}, {missed}");
}
