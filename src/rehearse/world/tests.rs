//! Ramps, waves, matches and luck.

use super::*;

struct Stage {
    world: World,
    demand: Demand,
    rng: Rng,
}

/// A world with these events; upstreams are `one`, `two` and `direct`.
fn stage(events: &[&str]) -> Stage {
    let events: String = events.iter().map(|event| format!("- {event}\n")).collect();
    let text = format!("name: x\nupstreams: [one, two, direct]\ntimeline:\n{events}");
    let scenario = Scenario::read(&text).expect("a scenario");
    let demand = Demand::new(scenario.named_paths(), "/", scenario.audience);
    Stage { world: World::new(&scenario, &demand), demand, rng: Rng::with_seed(1) }
}

impl Stage {
    /// Share of 4000 requests that an upstream spoils at a second of the outage.
    fn spoilt(&mut self, upstream: usize, second: f64) -> f64 {
        self.spoilt_of(upstream, second, |_| true)
    }

    fn spoilt_of(&mut self, upstream: usize, second: f64, pick: fn(&Request) -> bool) -> f64 {
        let at = LEAD + Duration::from_secs_f64(second);
        let mut asked = 0.0;
        let mut bad = 0.0;
        while asked < 4000.0 {
            let request = self.demand_without_rest_errors();
            if !pick(&request) {
                continue;
            }
            let ask = Ask { upstream, request: &request, at };
            let answer = self.world.answer(ask, &self.demand, &mut self.rng);
            asked += 1.0;
            bad += f64::from(u8::from(answer.cause != Cause::Nobody));
        }
        bad / asked
    }

    fn demand_without_rest_errors(&mut self) -> Request {
        let mut request = self.demand.draw(&mut self.rng);
        request.origin_fails = false;
        request
    }

    fn one_answer(&mut self, upstream: usize, second: f64) -> Answer {
        let request = self.demand_without_rest_errors();
        let at = LEAD + Duration::from_secs_f64(second);
        self.world.answer(Ask { upstream, request: &request, at }, &self.demand, &mut self.rng)
    }
}

fn near(found: f64, wanted: f64) -> bool {
    (found - wanted).abs() < 0.03
}

#[test]
fn before_and_after_the_outage_all_is_well() {
    let mut stage = stage(&[
        "{t_s: 0, provider: one, mode: status, status: 500}",
        "{t_s: 10, provider: one, mode: ok}",
    ]);
    assert_eq!(stage.spoilt(0, 10.0), 0.0);
    assert_eq!(stage.spoilt(0, 5.0), 1.0);
    assert_eq!(stage.spoilt(1, 5.0), 0.0, "the other provider is well");
    assert_eq!(stage.world.slowness(0, None, Duration::ZERO), Some(Vec::new()));
}

#[test]
fn a_ramp_rises_from_the_previous_fraction() {
    let mut stage = stage(&[
        "{t_s: 0, provider: one, mode: status, status: 500, fraction: 0.4, ramp_s: 100}",
        "{t_s: 200, provider: one, mode: status, status: 500, fraction: 0.8, ramp_s: 100}",
    ]);
    for (second, wanted) in [(25.0, 0.1), (100.0, 0.4), (199.0, 0.4), (250.0, 0.6), (400.0, 0.8)] {
        let found = stage.spoilt(0, second);
        assert!(near(found, wanted), "at {second} s: {found}");
    }
}

#[test]
fn a_wave_is_bad_and_good_by_turns_until_its_end() {
    let mut stage = stage(&[
        "{t_s: 0, provider: one, mode: reset, repeat: {on_s: 10, off_s: 20, until_s: 65}}",
    ]);
    for (second, wanted) in
        [(0.0, 1.0), (9.0, 1.0), (10.0, 0.0), (29.0, 0.0), (31.0, 1.0), (64.0, 1.0), (66.0, 0.0)]
    {
        assert_eq!(stage.spoilt(0, second), wanted, "at {second} s");
    }
    let turns = [0, 10, 30, 40, 60, 65].map(|second| LEAD + Duration::from_secs(second));
    assert_eq!(stage.world.turns, turns);
}

#[test]
fn a_match_spares_all_other_requests() {
    let mut stage =
        stage(&["{t_s: 0, provider: one, mode: status, status: 500, match: {method: [POST]}}"]);
    assert_eq!(stage.spoilt_of(0, 1.0, |request| request.method() == http::Method::POST), 1.0);
    assert_eq!(stage.spoilt_of(0, 1.0, |request| request.method() != http::Method::POST), 0.0);
}

#[test]
fn luck_that_sticks_to_a_client_does_not_change() {
    let mut stage = stage(&["{t_s: 0, provider: one, mode: reset, fraction: 0.5, sticky: client}"]);
    let at = LEAD;
    let mut met: std::collections::BTreeMap<u64, Cause> = std::collections::BTreeMap::new();
    for _ in 0..4000 {
        let request = stage.demand_without_rest_errors();
        let ask = Ask { upstream: 0, request: &request, at };
        let cause = stage.world.answer(ask, &stage.demand, &mut stage.rng).cause;
        assert_eq!(*met.entry(request.client_key()).or_insert(cause), cause);
    }
    let unlucky = met.values().filter(|cause| **cause == Cause::Upstream).count();
    assert!((70..130).contains(&unlucky), "{unlucky} of {}", met.len());
}

#[test]
fn one_dead_address_family_costs_time_and_no_answer() {
    for (family, extra) in [("v4", Duration::ZERO), ("v6", FAMILY_DELAY)] {
        let event = format!("{{t_s: 0, provider: one, mode: timeout, match: {{ip: {family}}}}}");
        let mut stage = stage(&[event.as_str()]);
        assert_eq!(stage.spoilt(0, 1.0), 0.0);
        let Seen::Head { after, .. } = stage.one_answer(0, 1.0).seen else {
            panic!("no head over the other family");
        };
        assert!(after >= extra, "{family}: {after:?}");
    }
}

#[test]
fn a_dead_origin_is_a_status_through_an_edge_and_silence_without_one() {
    let mut stage = stage(&["{t_s: 0, provider: origin, mode: timeout}"]);
    let edge = stage.one_answer(0, 1.0);
    assert!(matches!(edge.seen, Seen::Head { status: 504, marker: MarkerFate::Absent, .. }));
    assert_eq!(edge.cause, Cause::Origin);
    assert_eq!(stage.one_answer(2, 1.0), Answer { seen: Seen::Nothing, cause: Cause::Origin });
}

#[test]
fn a_providers_own_fault_hides_the_origins() {
    let mut stage = stage(&[
        "{t_s: 0, provider: origin, mode: timeout}",
        "{t_s: 0, provider: one, mode: status, status: 522}",
    ]);
    assert!(matches!(stage.one_answer(0, 1.0).seen, Seen::Head { status: 522, .. }));
}

#[test]
fn stale_addresses_and_a_providers_api_touch_no_request() {
    let mut stage = stage(&[
        "{t_s: 0, provider: one, mode: dns, dns: SERVFAIL}",
        "{t_s: 0, provider: one, id: api, mode: control_plane}",
        "{t_s: 0, provider: resolver, mode: dns, dns: TIMEOUT}",
    ]);
    assert_eq!(stage.spoilt(0, 1.0), 0.0);
    assert_eq!(stage.world.slowness(0, None, LEAD + Duration::from_secs(1)), Some(Vec::new()));
}

#[test]
fn what_exceeds_a_capacity_is_refused() {
    let mut stage = stage(&["{t_s: 0, provider: one, mode: capacity, fraction: 0.25}"]);
    stage.world.serve(&[100.0 * LEAD.as_secs_f64(), 0.0, 0.0], LEAD);
    assert!(near(stage.world.load.of(0), 1.0), "{}", stage.world.load.of(0));
    let refused = (0..1000).filter(|n| {
        let later = f64::from(*n) / 100.0;
        stage.one_answer(0, later).cause == Cause::Upstream
    });
    let refused = refused.count() as f64 / 1000.0;
    assert!(near(refused, 0.75), "{refused}");
    assert!(near(stage.world.harm(0, LEAD, None), 0.75));
}

#[test]
fn steady_slowness_is_told_apart_from_what_differs_by_request() {
    let lasting = "{t_s: 0, provider: one, id: a, mode: latency, latency_ms: 300, fraction: 0.2}";
    let rising = "{t_s: 0, provider: one, id: b, mode: latency, latency_ms: 50, ramp_s: 60}";
    let at = LEAD + Duration::from_secs(30);
    let steady = stage(&[lasting]).world.slowness(0, None, at);
    assert_eq!(steady, Some(vec![(0.2, Duration::from_millis(300))]));
    assert_eq!(stage(&[lasting, rising]).world.slowness(0, None, at), None);
}
