//! Under a steady load, a provider fails in one of the ways that providers do: it is left within
//! moments, no GET fails, no POST is repeated, and nobody goes back while it stays bad.
//!
//! Reaction times are the proxy's own, from its metrics; the figures are printed. What is asserted
//! of them is a ceiling of twice the promise, because this machine is shared.

use std::time::Duration;

use crate::harness::client::{Ask, Speak};
use crate::harness::load::{Load, Record, Report, turn};
use crate::harness::metrics::Metrics;
use crate::harness::recipe::Recipe;
use crate::harness::stage::Stage;
use crate::harness::upstream::{Act, Script, Transport};
use crate::harness::{now, within};

/// Requests a second.
const RATE: u32 = 200;

/// Served in a row by the fallback before it counts as first.
const SETTLED: usize = 40;

/// How a provider fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    Errors,
    ErrorsBehindGreenProbes,
    StopsAccepting,
    AcceptsAndStaysSilent,
    AnswersLateForEver,
    ResetsBeforeTheHead,
}

impl Fault {
    async fn strike(self, stage: &Stage) {
        match self {
            Self::Errors => stage.us.behave(Script::all(Act::status(500))),
            Self::ErrorsBehindGreenProbes => {
                stage.us.behave(Script::green_probes(Act::status(500)));
            }
            Self::StopsAccepting => stage.us.close().await,
            Self::AcceptsAndStaysSilent => stage.us.behave(Script::mute()),
            Self::AnswersLateForEver => stage.us.behave(Script::green_probes(Act::Silent)),
            Self::ResetsBeforeTheHead => stage.us.behave(Script::all(Act::Reset)),
        }
    }

    /// From the outage to the change of the first candidate.
    fn promise(self) -> Duration {
        match self {
            Self::AcceptsAndStaysSilent | Self::AnswersLateForEver => Duration::from_millis(1500),
            Self::Errors
            | Self::ErrorsBehindGreenProbes
            | Self::StopsAccepting
            | Self::ResetsBeforeTheHead => Duration::from_millis(500),
        }
    }
}

/// A short hold, so that the test sees returns if there are any, and a short wait for POSTs that
/// went to a silent upstream.
fn watched(recipe: Recipe) -> Recipe {
    recipe
        .service("failover: { hold: 1s, max_hold: 2s, min_stay: 1s, ramp: 5s }")
        .service("timeouts: { head: 3s }")
}

async fn leaves(transport: Transport, fault: Fault) {
    let _turn = turn().await;
    let stage = Stage::start(transport, watched).await;
    let load = Load::start(&stage.proxy, RATE);
    load.goes_on(RATE as usize).await;
    let struck = now();
    fault.strike(&stage).await;
    load.until("the fallback to serve everybody", |records| is_settled(records, "eu")).await;
    let outside = struck.elapsed();
    load.goes_on(4 * RATE as usize).await;
    let report = load.stop().await;
    let metrics = stage.proxy.metrics().await;
    show(&format!("{fault:?} over {transport:?}"), &report, &metrics, outside);

    assert!(report.failed_gets().is_empty(), "failed: {:?}", report.failed_gets());
    let repeated = report.repeated_posts(&[&stage.us, &stage.eu]);
    assert!(repeated.is_empty(), "seen more than once: {repeated:?}");
    assert_left_for_good(&metrics);
    let reaction = reaction(&metrics);
    assert!(reaction <= fault.promise() * 2, "the first candidate changed after {reaction:?}");
    let p99 = report.gets_took(990);
    assert!(p99 < Duration::from_millis(2500), "GET p99 {p99:?}");
}

/// The last requests were all served by this one.
fn is_settled(records: &[Record], name: &str) -> bool {
    let by = |record: &&Record| matches!(&record.answer, Ok((200, served_by)) if served_by == name);
    records.iter().rev().take_while(by).count() >= SETTLED
}

fn reaction(metrics: &Metrics) -> Duration {
    let seconds = |name: &str| metrics.mean(name, &[("service", "portal")]).unwrap_or(f64::NAN);
    let detection = seconds("bascule_failover_detection_seconds");
    assert!(detection.is_finite(), "a failover says how long its detection took");
    let switch = seconds("bascule_failover_switch_seconds");
    Duration::from_secs_f64(detection + if switch.is_finite() { switch } else { 0.0 })
}

fn assert_left_for_good(metrics: &Metrics) {
    let portal = ("service", "portal");
    let moved = [portal, ("from", "us"), ("to", "eu")];
    assert_eq!(metrics.sum("bascule_failovers_total", &moved), 1.0);
    assert_eq!(metrics.sum("bascule_failovers_total", &[portal]), 1.0, "one failover, no flap");
    assert_eq!(metrics.sum("bascule_failbacks_total", &[portal]), 0.0, "it stays bad");
    assert_eq!(metrics.sum("bascule_active_upstream", &[portal, ("provider", "eu")]), 1.0);
    assert_eq!(metrics.sum("bascule_active_upstream", &[portal, ("provider", "us")]), 0.0);
}

fn show(what: &str, report: &Report, metrics: &Metrics, outside: Duration) {
    println!(
        "{what}: {} requests, {} failed ({} of them GET), first candidate changed after {:?} \
         (settled, seen from outside: {outside:?}), GET p50 {:?}, p99 {:?}",
        report.records.len(),
        report.failed().len(),
        report.failed_gets().len(),
        reaction(metrics),
        report.gets_took(500),
        report.gets_took(990),
    );
}

#[tokio::test]
async fn errors_to_everything_are_left_over_tls() {
    leaves(Transport::Tls, Fault::Errors).await;
}

#[tokio::test]
async fn errors_to_everything_are_left_in_cleartext() {
    leaves(Transport::Plain, Fault::Errors).await;
}

#[tokio::test]
async fn errors_to_everything_are_left_over_http2() {
    leaves(Transport::TlsHttp2, Fault::Errors).await;
}

#[tokio::test]
async fn errors_behind_green_probes_are_left_over_tls() {
    leaves(Transport::Tls, Fault::ErrorsBehindGreenProbes).await;
}

#[tokio::test]
async fn errors_behind_green_probes_are_left_in_cleartext() {
    leaves(Transport::Plain, Fault::ErrorsBehindGreenProbes).await;
}

#[tokio::test]
async fn a_provider_that_stops_accepting_is_left_over_tls() {
    leaves(Transport::Tls, Fault::StopsAccepting).await;
}

#[tokio::test]
async fn a_provider_that_stops_accepting_is_left_in_cleartext() {
    leaves(Transport::Plain, Fault::StopsAccepting).await;
}

#[tokio::test]
async fn a_provider_that_accepts_and_stays_silent_is_left_over_tls() {
    leaves(Transport::Tls, Fault::AcceptsAndStaysSilent).await;
}

#[tokio::test]
async fn a_provider_that_accepts_and_stays_silent_is_left_in_cleartext() {
    leaves(Transport::Plain, Fault::AcceptsAndStaysSilent).await;
}

#[tokio::test]
async fn a_provider_silent_behind_green_probes_is_left_over_http2() {
    leaves(Transport::TlsHttp2, Fault::AnswersLateForEver).await;
}

#[tokio::test]
async fn resets_before_the_head_are_left_over_tls() {
    leaves(Transport::Tls, Fault::ResetsBeforeTheHead).await;
}

#[tokio::test]
async fn resets_before_the_head_are_left_in_cleartext() {
    leaves(Transport::Plain, Fault::ResetsBeforeTheHead).await;
}

/// One client that asks for so few pages that no three witnesses fail, of a service that had been
/// asked for `before` requests.
async fn leaves_for_one_client(pages: usize, before: usize) {
    let _turn = turn().await;
    let stage = Stage::start(Transport::Plain, watched).await;
    let load = Load::reading(&stage.proxy, RATE, pages);
    load.goes_on(before).await;
    let struck = now();
    stage.us.behave(Script::all(Act::status(500)));
    load.until("the fallback to serve everybody", |records| is_settled(records, "eu")).await;
    let outside = struck.elapsed();
    load.goes_on(RATE as usize).await;
    let report = load.stop().await;
    let metrics = stage.proxy.metrics().await;
    show(&format!("{pages} pages after {before} requests"), &report, &metrics, outside);
    assert!(report.failed_gets().is_empty(), "failed: {:?}", report.failed_gets());
    assert_left_for_good(&metrics);
    let reaction = reaction(&metrics);
    assert!(reaction <= Duration::from_secs(1), "the first candidate changed after {reaction:?}");
}

#[tokio::test]
async fn errors_are_left_however_few_pages_one_client_asks_for() {
    for pages in 1..=4 {
        leaves_for_one_client(pages, RATE as usize).await;
    }
}

#[tokio::test]
async fn errors_are_left_by_one_client_that_has_just_come() {
    for pages in [1, 2] {
        leaves_for_one_client(pages, RATE as usize / 2).await;
    }
}

async fn leaves_cut_bodies(transport: Transport) {
    let _turn = turn().await;
    let stage = Stage::start(transport, watched).await;
    let load = Load::start(&stage.proxy, RATE);
    load.goes_on(RATE as usize).await;
    let struck = now();
    stage.us.behave(Script::green_probes(Act::CutBody));
    load.until("the fallback to serve everybody", |records| is_settled(records, "eu")).await;
    let outside = struck.elapsed();
    load.goes_on(2 * RATE as usize).await;
    let report = load.stop().await;
    let metrics = stage.proxy.metrics().await;
    show(&format!("bodies cut short over {transport:?}"), &report, &metrics, outside);

    assert_left_for_good(&metrics);
    let reaction = reaction(&metrics);
    assert!(reaction <= Duration::from_secs(2), "left after {reaction:?}");
    // A cut body cannot be healed, but it must never look whole: every answer that counts as
    // served was read to its announced end by the client.
    let cut = metrics.sum("bascule_attempts_total", &[("outcome", "body_cut")]);
    let failed = report.failed().len() as f64;
    assert!(failed >= 1.0 && failed <= cut, "{failed} broken answers of {cut} cut bodies");
    let repeated = report.repeated_posts(&[&stage.us, &stage.eu]);
    assert!(repeated.is_empty(), "seen more than once: {repeated:?}");
}

#[tokio::test]
async fn bodies_cut_short_under_a_200_are_left_over_tls() {
    leaves_cut_bodies(Transport::Tls).await;
}

#[tokio::test]
async fn bodies_cut_short_under_a_200_are_left_over_http2() {
    leaves_cut_bodies(Transport::TlsHttp2).await;
}

/// The trap of real outages: probes turn green, the hold ends, and real traffic still fails. Slow,
/// because the up-time rule wants half a minute of good signs before it tries anything; the load
/// is light, so that it can run beside the others.
#[tokio::test]
async fn green_probes_alone_never_bring_traffic_back() {
    let stage = Stage::start(Transport::Plain, watched).await;
    let load = Load::start(&stage.proxy, 25);
    load.goes_on(25).await;
    stage.us.behave(Script::green_probes(Act::status(500)));
    load.until("the fallback to serve everybody", |records| is_settled(records, "eu")).await;
    let before = stage.us.sightings().traffic().len();
    let tried = async {
        while stage.us.sightings().traffic().len() < before + 1 {
            load.goes_on(25).await;
        }
    };
    let tried = tokio::time::timeout(Duration::from_secs(100), tried).await;
    assert!(tried.is_ok(), "a trickle of real requests is what tries it again");
    load.goes_on(100).await;
    let after = stage.us.sightings().traffic().len() - before;
    let report = load.stop().await;
    println!("{after} real requests tried it again; {} requests in all", report.records.len());
    assert!(after <= 25, "{after} requests went back to a provider that still fails");
    assert!(report.failed_gets().is_empty(), "failed: {:?}", report.failed_gets());
    assert_left_for_good(&stage.proxy.metrics().await);
}

#[tokio::test]
async fn the_status_shows_a_failover_with_its_reason() {
    let _turn = turn().await;
    let stage = Stage::start(Transport::Plain, watched).await;
    let load = Load::start(&stage.proxy, RATE);
    load.goes_on(RATE as usize).await;
    stage.us.behave(Script::all(Act::status(500)));
    load.until("the fallback to serve everybody", |records| is_settled(records, "eu")).await;
    load.stop().await;
    let metrics = stage.proxy.metrics().await;
    let us = [("service", "portal"), ("provider", "us"), ("health", "ejected")];
    assert_eq!(metrics.sum("bascule_upstream_health", &us), 1.0);
    assert_eq!(metrics.sum("bascule_fallback_outside_eu", &[]), 0.0);
    let eu = [("provider", "eu"), ("jurisdiction", "eu")];
    assert_eq!(metrics.sum("bascule_active_upstream", &eu), 1.0);
    let status = stage.proxy.status().await.to_string();
    assert!(status.contains("ejected"), "{status}");
    let (_, report) = stage.proxy.verb(&["journal", "--format", "md"]).await;
    for part in
        ["# Incident report", "Incidents: 1;", "| 1 | portal |", "from us to eu (in the EU)"]
    {
        assert!(report.contains(part), "{part} is missing:\n{report}");
    }
    let (_, lines) = stage.proxy.verb(&["journal", "--since", "1h"]).await;
    assert!(lines.contains("  portal  failover from=us to=eu reason="), "{lines}");
    let said = stage.proxy.log.select(|line| {
        let text = &line.text;
        line.message().contains("failover") && text.contains("us") && text.contains("eu")
    });
    assert_eq!(said.len(), 1, "one line of the log tells it");
}

#[tokio::test]
async fn an_upstream_without_traffic_is_left_by_its_probes_alone() {
    let stage = Stage::start(Transport::Plain, watched).await;
    stage.us.close().await;
    let us = [("provider", "us"), ("health", "ejected")];
    let ejected = |m: &Metrics| m.sum("bascule_upstream_health", &us) == 1.0;
    let metrics = stage.proxy.metrics_when("an ejection", ejected).await;
    assert_eq!(metrics.sum("bascule_attempts_total", &[]), 0.0, "no client was needed for it");
    assert_eq!(stage.proxy.get("/page").await.served_by(), "eu");
}

#[tokio::test]
async fn a_pool_that_refuses_as_a_whole_is_known_to_fail_open_without_a_client() {
    let stage = Stage::start(Transport::Plain, watched).await;
    stage.us.close().await;
    stage.eu.close().await;
    let open = |m: &Metrics| m.sum("bascule_fail_open", &[("service", "portal")]) == 1.0;
    let metrics = stage.proxy.metrics_when("fail-open", open).await;
    assert_eq!(metrics.sum("bascule_attempts_total", &[]), 0.0, "no client was needed for it");
    assert_eq!(metrics.sum("bascule_origin_incident", &[]), 0.0, "no origin closes an edge's door");
    assert_eq!(stage.proxy.get("/page").await.status, 502, "an answer in any case");
}

#[tokio::test]
async fn when_the_fallback_dies_too_the_least_bad_serves_and_a_return_is_noticed() {
    let _turn = turn().await;
    let stage = Stage::start(Transport::Plain, watched).await;
    let load = Load::start(&stage.proxy, RATE);
    load.goes_on(RATE as usize).await;
    stage.us.behave(Script::all(Act::status(500)));
    load.until("the fallback to serve everybody", |records| is_settled(records, "eu")).await;
    stage.eu.close().await;
    let open = |m: &Metrics| m.sum("bascule_fail_open", &[("service", "portal")]) == 1.0;
    stage.proxy.metrics_when("fail-open", open).await;
    load.goes_on(2 * RATE as usize).await;
    // Everything is bad now. The first choice comes back; nobody waits for its hold to end.
    stage.us.behave(Script::all(Act::Serve));
    load.until("the first choice to serve again", |records| is_settled(records, "us")).await;
    let report = load.stop().await;
    let unanswered = report.records.iter().filter(|record| record.answer.is_err()).count();
    assert_eq!(unanswered, 0, "an answer in any case");
}

#[tokio::test]
async fn posts_that_fail_alone_are_moved_alone() {
    let _turn = turn().await;
    let stage = Stage::start(Transport::Plain, watched).await;
    let load = Load::start(&stage.proxy, RATE);
    load.goes_on(RATE as usize).await;
    stage.us.behave(Script::all(Act::ServeOnlyGet));
    let by = |record: &Record| record.answer.as_ref().ok().map(|(_, by)| by.clone());
    let is_post = |record: &&Record| record.method == http::Method::POST;
    load.until("POSTs to be served elsewhere", |records| {
        let mut last = records.iter().rev().filter(is_post).map(by).take(SETTLED);
        records.len() > 2 * RATE as usize && last.all(|by| by.as_deref() == Some("eu"))
    })
    .await;
    let report = load.stop().await;
    let gets = report.records.iter().filter(|record| !is_post(record));
    let elsewhere = gets.filter(|record| by(record).as_deref() != Some("us")).count();
    let failed = report.failed().len();
    println!("{} requests, {failed} POSTs failed", report.records.len());
    assert!(report.failed_gets().is_empty());
    // The experiment lends a tenth of all requests for as long as nobody knows whose fault it is.
    assert!(elsewhere < report.records.len() / 10, "{elsewhere} of {}", report.records.len());
    let portal = [("service", "portal")];
    let moved = |m: &Metrics| m.sum("bascule_parts_moved", &portal) == 1.0;
    let metrics = stage.proxy.metrics_when("the part to be counted", moved).await;
    assert_eq!(metrics.sum("bascule_failovers_total", &portal), 0.0, "the rest stays");
    let (_, lines) = stage.proxy.verb(&["journal"]).await;
    assert!(lines.contains("slice=unsafe requests provider=us"), "{lines}");
    let (_, why) =
        stage.proxy.verb(&["explain", "--method", "POST", "https://www.portal.example/cart"]).await;
    assert!(why.contains("unsafe requests fail there, the rest does not"), "{why}");
}

#[tokio::test]
async fn observe_decides_and_leaves_traffic_alone() {
    let _turn = turn().await;
    let stage =
        Stage::start(Transport::Plain, |recipe| recipe.service("failover: { mode: observe }"))
            .await;
    let load = Load::start(&stage.proxy, RATE);
    load.goes_on(RATE as usize).await;
    stage.us.behave(Script::green_probes(Act::status(500)));
    let us = [("service", "portal"), ("provider", "us"), ("health", "ejected")];
    let ejected = |m: &Metrics| m.sum("bascule_upstream_health", &us) == 1.0;
    stage.proxy.metrics_when("the ejection it would have made", ejected).await;
    let before = stage.us.sightings().traffic().len();
    load.goes_on(RATE as usize).await;
    let after = stage.us.sightings().traffic().len();
    load.stop().await;
    let metrics = stage.proxy.metrics().await;
    let counted = [("from", "us"), ("to", "eu")];
    assert_eq!(metrics.sum("bascule_failovers_total", &counted), 1.0, "decided and counted");
    assert_eq!(metrics.sum("bascule_failover_switch_seconds_count", &[]), 0.0, "nothing switched");
    assert_eq!(metrics.sum("bascule_active_upstream", &[("provider", "us")]), 1.0);
    let status = stage.proxy.status().await;
    let portal = &status["services"][0];
    assert_eq!((&portal["first"], &portal["would_be_first"]), (&"us".into(), &"eu".into()));
    let (_, lines) = stage.proxy.verb(&["journal"]).await;
    assert!(lines.contains("failover observed: no traffic was moved from=us to=eu"), "{lines}");
    assert!(
        after >= before + RATE as usize * 8 / 10,
        "traffic still goes there: {before}, {after}"
    );
}

#[tokio::test]
async fn host_names_of_a_clients_making_condemn_nobody() {
    // No certificate covers them: every handshake for them fails, at every provider.
    let anything = "{ host: \"*\" }";
    let stage = Stage::start(Transport::Tls, |recipe| recipe.route(anything)).await;
    let mut session = stage.proxy.session(Speak::Http1).await;
    for n in 0..60 {
        let ask = Ask::get(&format!("/page-{n}")).host(&format!("any-{n}.other.example"));
        let answer = within("an answer", session.send(&ask)).await.expect("whole");
        assert_eq!(answer.status, 502);
    }
    let unknown = |m: &Metrics| {
        m.sum("bascule_attempts_total", &[("provider", "us"), ("outcome", "unknown_name")]) >= 60.0
    };
    let metrics = stage.proxy.metrics_when("every attempt's count", unknown).await;
    assert_eq!(metrics.sum("bascule_upstream_health", &[("health", "ejected")]), 0.0);
    assert_eq!(stage.proxy.get("/page").await.served_by(), "us");
}
