//! What the reader takes, and what it says of what it does not take.

use super::*;

fn with_event(event: &str) -> String {
    format!("name: x\nupstreams: [one, two, direct]\ntimeline:\n- {event}\n")
}

fn read(event: &str) -> Vec<Change> {
    Scenario::read(&with_event(event)).expect("a scenario").timeline
}

#[test]
fn a_star_is_every_edge_and_not_the_origin() {
    let changes = read("{t_s: 5, provider: '*', mode: timeout}");
    let subjects: Vec<Subject> = changes.iter().map(|change| change.subject).collect();
    assert_eq!(subjects, [Subject::Provider(0), Subject::Provider(1)]);
    assert!(changes.iter().all(|change| change.at == Duration::from_secs(5)));
}

#[test]
fn a_key_of_match_is_one_or_many() {
    let one = read("{t_s: 0, provider: one, mode: reset, match: {path_not: /a}}");
    let many = read("{t_s: 0, provider: one, mode: reset, match: {path_not: [/a, /b]}}");
    let not = |changes: &[Change]| {
        changes[0].fault.as_ref().map(|fault| fault.only.url_paths_not.clone()).expect("a fault")
    };
    assert_eq!(not(&one), ["/a"]);
    assert_eq!(not(&many), ["/a", "/b"]);
}

#[test]
fn the_origins_own_errors_carry_its_marker_unless_said() {
    let marker = |event| read(event)[0].fault.as_ref().map(|fault| fault.marker);
    let origin = "{t_s: 0, provider: origin, mode: status, status: 500}";
    let edge = "{t_s: 0, provider: one, mode: status, status: 500}";
    let said = "{t_s: 0, provider: origin, mode: status, status: 500, origin_marker: absent}";
    assert_eq!(marker(origin), Some(MarkerFate::Kept));
    assert_eq!(marker(edge), Some(MarkerFate::Absent));
    assert_eq!(marker(said), Some(MarkerFate::Absent));
}

#[test]
fn changes_are_put_in_order_of_time() {
    let text = "name: x\nupstreams: [one]\ntimeline:\n\
                - {t_s: 9, provider: one, mode: ok}\n- {t_s: 1, provider: one, mode: reset}\n";
    let scenario = Scenario::read(text).expect("a scenario");
    assert!(scenario.timeline[0].fault.is_some());
    assert_eq!(scenario.last_change(), Duration::from_secs(9));
}

#[test]
fn every_mistake_is_named_with_its_place() {
    #[rustfmt::skip]
    let table = [
        // what is wrong                  the event                                                     what is said
        ("an unknown provider",           "{t_s: 0, provider: three, mode: ok}",                         "timeline[0]: `three` is not one of the upstreams"),
        ("a status without its number",   "{t_s: 0, provider: one, mode: status}",                       "timeline[0]: this mode needs `status`"),
        ("a number that is no status",    "{t_s: 0, provider: one, mode: status, status: 900}",          "timeline[0]: 900 is not a status of an answer"),
        ("a latency without its length",  "{t_s: 0, provider: one, mode: latency}",                      "timeline[0]: this mode needs `latency_ms`"),
        ("a key without effect",          "{t_s: 0, provider: one, mode: reset, status: 500}",           "timeline[0]: `status` says nothing in this mode"),
        ("more than everything",          "{t_s: 0, provider: one, mode: reset, fraction: 1.5}",         "timeline[0]: fraction 1.5 is not between 0 and 1"),
        ("a time before the beginning",   "{t_s: -1, provider: one, mode: ok}",                          "timeline[0]: -1 is not a number of seconds"),
        ("a wave that stands still",      "{t_s: 0, provider: one, mode: reset, repeat: {on_s: 0, off_s: 1, until_s: 9}}", "timeline[0]: `repeat` needs `on_s` and `off_s` above 0"),
    ];
    for (shows, event, said) in table {
        let error = Scenario::read(&with_event(event)).expect_err(shows);
        assert_eq!(error.to_string(), said, "{shows}");
    }
}

#[test]
fn an_expectation_that_names_nobody_is_a_mistake() {
    let text = |expect: &str| {
        format!("{}expect: {expect}\n", with_event("{t_s: 0, provider: one, mode: ok}"))
    };
    for (expect, said) in [
        ("{ejected: [four]}", "expect: `four` is not one of the upstreams"),
        ("{blame: somebody}", "expect: `somebody` is not one of the upstreams"),
        ("{errors_at_most: little}", "expect: `little` is not a share such as 0.1%"),
    ] {
        let error = Scenario::read(&text(expect)).expect_err(expect);
        assert_eq!(error.to_string(), said);
    }
    assert!(Scenario::read(&text("{blame: origin, not_ejected: ['*']}")).is_ok());
}

#[test]
fn an_unknown_key_is_a_mistake_with_its_line() {
    let error = Scenario::read(&with_event("{t_s: 0, provider: one, mode: ok, colour: red}"))
        .expect_err("an unknown key");
    let said = error.to_string();
    assert!(said.starts_with("line 4, ") && said.contains("colour"), "{said}");
}

#[test]
fn nothing_that_a_file_says_is_dropped() {
    let text = "name: x\nabout: a\nsource: s\nstart_utc: 2025-01-01T00:00\nbasis: {times: fact}\n\
                upstreams: [one]\nresidency: prefer-eu\nservices: [{name: busy, count: 2, rate: 5}]\n\
                timeline:\n- {t_s: 0, provider: one, mode: dns, dns: SERVFAIL}\n\
                - {t_s: 1, provider: one, mode: status, status: 500, headers: {server: edge}}\n\
                - {t_s: 2, provider: one, mode: slowloris, latency_ms: 30000}\n\
                expect: {spared_after_moves: 2, outside_eu_at_most_s: 1.5, note: n}\n";
    let scenario = Scenario::read(text).expect("a scenario");
    let modes: Vec<Mode> =
        scenario.timeline.iter().filter_map(|change| Some(change.fault.as_ref()?.mode)).collect();
    let trickle = Mode::Slowloris(Duration::from_secs(30));
    assert_eq!(modes, [Mode::Dns(DnsFailure::Servfail), Mode::Status(500), trickle]);
    let fault = scenario.timeline[1].fault.as_ref().expect("a fault");
    assert_eq!(fault.headers["server"], "edge");
    assert_eq!(scenario.basis.as_deref(), Some("times (fact)"));
    assert_eq!(scenario.expect.note.as_deref(), Some("n"));
    assert_eq!(scenario.expect.outside_eu_at_most, Some(Duration::from_millis(1500)));
    assert_eq!(scenario.residency, Some(Residency::PreferEu));
    assert_eq!(scenario.services.len(), 2);
}
