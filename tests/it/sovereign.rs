//! What must stay in the EU stays there: a bare counter of connections and bytes stands outside, alive
//! and well, while everything inside fails in every way.

use std::fs;

use http::Method;
use serde_json::json;

use crate::harness::PROBE;
use crate::harness::client::{Ask, Speak};
use crate::harness::counter::Counter;
use crate::harness::load::{Load, Record, turn};
use crate::harness::log::Line;
use crate::harness::proxy::{RunningProxy, folder, run_to_end};
use crate::harness::recipe::Recipe;
use crate::harness::upstream::{Act, FakeUpstream, Script, Transport};
use crate::harness::{PORTAL, within};

/// Outside in each of the three respects, all of them before those inside.
const OUTSIDE: [(&str, &str); 3] =
    [("seat", "US"), ("servers", "FR, territory: [FR, US]"), ("reach", "DE, subject_to: [US]")];

/// Every way that tempts: retries, fail-open, a standby kept warm, clients that stay.
fn recipe(outside: &Counter, si: &FakeUpstream, fr: &FakeUpstream) -> Recipe {
    let mut recipe = Recipe::portal().top("defaults: { failover: { standby_trickle: 20% } }");
    for (name, seat) in OUTSIDE {
        recipe = recipe.provider(name, seat, &outside.url());
    }
    recipe
        .upstream(si, "SI")
        .upstream(fr, "FR")
        .service("retry: { attempts: 3, budget: 100%, min_per_second: 1000 }")
        .service("timeouts: { head: 1s, body_stall: 1s, request: 3s }")
        .service("all_down: { serve: least-bad }")
        .service("sticky: client-ip")
}

/// Another valid file, under load.
async fn reload(proxy: &RunningProxy, recipe: &Recipe, number: usize) {
    let text = format!("{}# {number}\n", recipe.yaml());
    proxy.rename_over(&text);
    let reloaded = |line: &Line| line.message() == "configuration reloaded";
    proxy.log.wait("a reload", number, reloaded).await;
}

#[tokio::test]
async fn eu_only_sends_not_one_byte_outside_under_any_fault() {
    let _turn = turn().await;
    let si = FakeUpstream::start("si", Transport::Plain).await;
    let fr = FakeUpstream::start("fr", Transport::Plain).await;
    let outside = Counter::start().await;
    let recipe = recipe(&outside, &si, &fr).service("residency: eu-only");
    let proxy = RunningProxy::start(&recipe).await;
    let load = Load::start(&proxy, 60);
    load.goes_on(30).await;
    for (name, _) in OUTSIDE {
        let order = json!({ "target": name, "order": "force_in", "reason": "whatever it takes" });
        let answer = proxy.tell(Method::POST, "/v1/overrides", &order).await;
        assert_eq!(answer.status.as_u16(), 200, "taken for services that may: {}", answer.text());
    }
    let faults = [
        ("refused", None),
        ("reset", Some(Script::all(Act::Reset))),
        ("silent", Some(Script::mute())),
        ("5xx", Some(Script::all(Act::status(503)))),
        ("truncated", Some(Script::all(Act::CutBody))),
        ("slow", Some(Script::all(Act::Drip))),
    ];
    for (number, (name, script)) in faults.into_iter().enumerate() {
        for upstream in [&si, &fr] {
            match &script {
                Some(script) => upstream.behave(script.clone()),
                None => upstream.close().await,
            }
        }
        load.goes_on(60).await;
        reload(&proxy, &recipe, number + 1).await;
        load.goes_on(60).await;
        assert_eq!(outside.seen(), (0, 0), "under `{name}`");
        for upstream in [&si, &fr] {
            upstream.behave(Script::all(Act::Serve));
            if script.is_none() {
                upstream.open().await;
            }
        }
    }
    let metrics = proxy.metrics().await;
    let ejected = metrics.sum("bascule_upstream_health", &[("health", "healthy")]);
    let report = load.stop().await;
    assert!(!report.failed().is_empty(), "the faults were met");
    println!(
        "{} requests, {} failed, {ejected} of 2 healthy at the end; outside: {:?}",
        report.records.len(),
        report.failed().len(),
        outside.seen()
    );
    assert_eq!(outside.seen(), (0, 0));
    assert!(si.connections() > 0 && fr.connections() > 0, "both inside were tried");
}

#[tokio::test]
async fn a_route_that_may_not_leave_the_eu_does_not_beside_one_that_may() {
    let _turn = turn().await;
    let si = FakeUpstream::start("si", Transport::Plain).await;
    let fr = FakeUpstream::start("fr", Transport::Plain).await;
    let outside = Counter::start().await;
    let recipe = recipe(&outside, &si, &fr)
        .route("{ host: open.portal.example, residency: any }")
        .service("residency: eu-only");
    let proxy = RunningProxy::start(&recipe).await;
    let open = Ask::get("/open").host("open.portal.example");
    let load = Load::start(&proxy, 60);
    load.goes_on(30).await;
    let answer = proxy.send(Speak::Http1, &open).await;
    assert_eq!(answer.served_by(), "outside", "the other route goes where it may");
    for (number, script) in [Script::all(Act::Reset), Script::all(Act::status(500)), Script::mute()]
        .into_iter()
        .enumerate()
    {
        si.behave(script.clone());
        fr.behave(script);
        load.goes_on(50).await;
        reload(&proxy, &recipe, number + 1).await;
        proxy.send(Speak::Http1, &open).await;
        load.goes_on(50).await;
    }
    load.stop().await;
    let (connections, bytes) = outside.seen();
    let said = outside.said();
    println!("outside: {connections} connections, {bytes} bytes, all of the open route");
    assert!(said.contains("GET /open HTTP/1.1\r\n"), "{said}");
    let lines = said.lines().map(str::to_ascii_lowercase);
    let hosts: Vec<String> = lines.filter(|line| line.starts_with("host:")).collect();
    assert!(!hosts.is_empty());
    let stray: Vec<&String> =
        hosts.iter().filter(|it| *it != "host: open.portal.example").collect();
    assert!(stray.is_empty(), "probes included: {stray:?}");
    let (_, why) = proxy.verb(&["explain", "http://www.portal.example/"]).await;
    assert!(why.contains("seat (non-EU): kept out, for its seat is in US"), "{why}");
    assert!(why.contains("servers (non-EU): kept out, for it serves from US"), "{why}");
    assert!(why.contains("reach (non-EU): kept out, for the law of US reaches it"), "{why}");
}

#[tokio::test]
async fn a_request_in_flight_does_not_leave_once_a_new_file_forbids_it() {
    let si = FakeUpstream::start("si", Transport::Plain).await;
    let outside = Counter::start().await;
    // The open host keeps the upstream outside alive over the reload.
    let file = |residency: &str| {
        Recipe::portal()
            .upstream(&si, "SI")
            .provider("seat", "US", &outside.url())
            .route("{ host: open.portal.example, residency: any }")
            .service(&format!("residency: {residency}"))
            .service("timeouts: { head: 5s, request: 10s }")
            .probe("{ path: /front-page, interval: 1h, timeout: 400ms }")
    };
    si.behave(Script::green_probes(Act::HandOver));
    let proxy = RunningProxy::start(&file("any")).await;
    let session = proxy.session(Speak::Http1).await;
    let mut asked = tokio::task::JoinSet::new();
    asked.spawn(async move {
        let mut session = session;
        session.send(&Ask::get("/in-flight")).await
    });
    let held = si.conversation().await;
    reload(&proxy, &file("eu-only"), 1).await;
    // A GET that broke off is tried at the next one, were that not forbidden by now.
    held.wire.reset();
    let answer = asked.join_next().await.expect("one").expect("no panic").expect("an answer");
    assert_eq!(answer.status.as_u16(), 502, "{}", answer.text());
    assert!(!outside.said().contains("/in-flight"), "{}", outside.said());
}

#[tokio::test]
async fn check_live_asks_nobody_outside_for_what_must_stay_inside() {
    let si = FakeUpstream::start("si", Transport::Plain).await;
    let fr = FakeUpstream::start("fr", Transport::Plain).await;
    let outside = Counter::start().await;
    // The probe's page is all that may leave: not the other host, not the other paths of its own host.
    let recipe = recipe(&outside, &si, &fr)
        .route("{ host: open.portal.example }")
        .route(&format!("{{ host: open.portal.example, prefix: {PROBE}, residency: any }}"))
        .service("residency: eu-only");
    let folder = folder();
    fs::write(folder.path().join("bascule.yaml"), recipe.yaml()).expect("the folder is ours");
    let ended = run_to_end(&folder, &["check", "--live"]).await;
    assert!(ended.output.contains("live: 5 upstreams asked"), "{}", ended.output);
    let said = outside.said();
    let asked: Vec<(&str, &str)> = said
        .split("\r\n\r\n")
        .filter(|head| !head.is_empty())
        .map(|head| {
            let host = head.lines().find_map(|line| line.strip_prefix("host: "));
            (head.split(' ').nth(1).unwrap_or_default(), host.unwrap_or_default())
        })
        .collect();
    println!("outside: {asked:?}");
    assert_eq!(
        asked.len(),
        3 * 4,
        "each of the three: the page, and three times something made up"
    );
    for (target, host) in asked {
        let below = target.strip_prefix(PROBE).expect("below the page that may leave");
        assert!(below.is_empty() || below.starts_with("/bascule-check-"), "{target}");
        assert_eq!(host, "open.portal.example");
    }
    let inside = [si.sightings().probes(), si.sightings().traffic()].concat();
    let of_both = ["www.portal.example", "open.portal.example"]
        .map(|name| inside.iter().filter(|seen| seen.get("host") == Some(name)).count());
    assert_eq!(of_both, [4, 4], "who may carry both is asked for both");
}

#[tokio::test]
async fn a_path_that_must_stay_inside_does_not_leave_by_another_spelling() {
    let si = FakeUpstream::start("si", Transport::Plain).await;
    let other = FakeUpstream::start("other", Transport::Plain).await;
    let outside = Counter::start().await;
    let recipe = Recipe::portal()
        .provider("seat", "US", &outside.url())
        .upstream(&si, "SI")
        .route("{ host: www.portal.example, prefix: /patients, residency: eu-only }")
        .probe("{ path: /, interval: 1h, timeout: 400ms }")
        .beside("other", &other, "{ host: other.portal.example }");
    let proxy = RunningProxy::start(&recipe).await;
    for target in [
        "/%70atients/1",
        "//patients/1",
        "/x/../patients/1",
        "/./patients/1",
        "/%2e/patients/1",
        "/patients%2F1",
        "/patients%5C1",
        "/patients;x/1",
    ] {
        let answer = proxy.get(target).await;
        assert_eq!(answer.status.as_u16(), 400, "{target}: {}", answer.text());
        let elsewhere = Ask::get(target).host("other.portal.example");
        let answer = proxy.send(Speak::Http1, &elsewhere).await;
        assert_eq!(answer.served_by(), "other", "{target}: nothing there that it could leave");
    }
    let answer = proxy.get("/patients/1?page=//../%70").await;
    assert_eq!(answer.served_by(), "si", "the query is no path");
    assert_eq!(proxy.get("/caf%C3%A9").await.served_by(), "outside", "which needs its code");
    let said = outside.said();
    let targets: Vec<&str> = said
        .split("\r\n\r\n")
        .filter_map(|head| head.split(' ').nth(1))
        .filter(|target| *target != "/")
        .collect();
    assert_eq!(targets, ["/caf%C3%A9"], "and probes");
    let (_, why) = proxy.verb(&["explain", "http://www.portal.example//patients/1"]).await;
    assert!(why.contains("the client gets 400"), "{why}");
    let refused =
        proxy.metrics().await.sum("bascule_requests_rejected_total", &[("reason", "bad_target")]);
    assert_eq!(refused, 8.0);
}

#[tokio::test]
async fn a_body_on_its_way_breaks_off_once_a_new_file_forbids_where_it_goes() {
    let us = FakeUpstream::start("us", Transport::Plain).await;
    let si = FakeUpstream::start("si", Transport::Plain).await;
    us.behave(Script::green_probes(Act::HandOver));
    let file = |residency: &str| {
        Recipe::portal()
            .top("limits: { drain: 1s }")
            .upstream(&us, "US")
            .upstream(&si, "SI")
            .service(&format!("residency: {residency}"))
    };
    let proxy = RunningProxy::start(&file("any")).await;
    let head = format!("POST /up HTTP/1.1\r\nHost: {PORTAL}\r\nContent-Length: 9\r\n\r\n");
    let mut up = proxy.wire().await;
    up.send(head + "some").await.expect("sent");
    let mut taken = us.conversation().await;
    assert_eq!(within("its beginning", taken.wire.take(4)).await.expect("bytes"), b"some");
    let mut down = proxy.wire().await;
    down.send(format!("GET /down HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n")).await.expect("sent");
    let mut given = us.conversation().await;
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nsome";
    given.wire.send(head).await.expect("sent");
    within("the beginning", down.until(b"\r\n\r\nsome")).await.expect("arrives");
    reload(&proxy, &file("eu-only"), 1).await;
    let reply = within("an answer", up.reply()).await.expect("whole");
    assert_eq!(reply.head.status(), 502);
    assert!(within("the end of what was sent", taken.wire.is_ended()).await);
    within("the end of what comes, byte for byte", async {
        while given.wire.send("m").await.is_ok() && down.take(1).await.is_ok() {}
    })
    .await;
}

/// One inside, two outside, in every order of the file; then the first choice fails.
#[tokio::test]
async fn prefer_eu_goes_inside_whatever_the_order_once_the_first_choice_is_left() {
    let _turn = turn().await;
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let names = ["eu", "us", "ch"];
        let seats = ["SI", "US", "CH"];
        let mut all = Vec::new();
        for name in names {
            all.push(FakeUpstream::start(name, Transport::Plain).await);
        }
        let mut recipe = Recipe::portal().service("residency: prefer-eu");
        for place in order {
            recipe = recipe.upstream(&all[place], seats[place]);
        }
        let proxy = RunningProxy::start(&recipe).await;
        let load = Load::start(&proxy, 100);
        load.goes_on(60).await;
        all[order[0]].behave(Script::all(Act::status(500)));
        let expected = names[if order[0] == 0 { order[1] } else { 0 }];
        let by_them = |records: &[Record]| {
            let served = |it: &&Record| matches!(&it.answer, Ok((200, by)) if by == expected);
            records.iter().rev().take_while(served).count() >= 40
        };
        load.until(&format!("{expected} to serve"), by_them).await;
        load.stop().await;
        if order[0] != 0 {
            let other = 3 - order[0];
            let strayed = all[other].sightings().traffic().len();
            assert_eq!(strayed, 0, "{} of {order:?} got requests", names[other]);
        }
    }
}
