//! What must stay in the EU stays there, whatever is down.

use std::time::Duration;

use crate::harness::client::{Ask, Speak};
use crate::harness::load::{Load, turn};
use crate::harness::proxy::{RunningProxy, folder};
use crate::harness::recipe::Recipe;
use crate::harness::upstream::{Act, FakeUpstream, Script, Transport};
use crate::harness::{now, within};

/// Two upstreams in the EU, one outside that is alive and well.
struct Continent {
    si: FakeUpstream,
    fr: FakeUpstream,
    us: FakeUpstream,
    proxy: RunningProxy,
}

impl Continent {
    async fn start(residency: &str, transport: Transport) -> Self {
        let si = FakeUpstream::start("si", transport).await;
        let fr = FakeUpstream::start("fr", transport).await;
        let us = FakeUpstream::start("us", transport).await;
        // The one outside stands first in the file: policy comes before preference.
        let recipe = Recipe::portal()
            .upstream(&us, "US")
            .upstream(&si, "SI")
            .upstream(&fr, "FR")
            .service(&format!("residency: {residency}"));
        let proxy = RunningProxy::start(&recipe).await;
        Self { si, fr, us, proxy }
    }

    fn assert_nothing_left_the_eu(&self) {
        assert_eq!(self.us.connections(), 0, "not even a TCP connection");
        assert!(self.us.sightings().traffic().is_empty(), "no request");
        assert!(self.us.sightings().probes().is_empty(), "no probe");
    }
}

/// Both EU upstreams fail from the first request on; nothing may go outside, and clients get an
/// answer every time.
async fn stays_inside(transport: Transport, script: Option<Script>) {
    let _turn = turn().await;
    let stage = Continent::start("eu-only", transport).await;
    let load = Load::start(&stage.proxy, 100);
    load.goes_on(100).await;
    match script {
        Some(script) => {
            stage.si.behave(script.clone());
            stage.fr.behave(script);
        }
        None => {
            stage.si.close().await;
            stage.fr.close().await;
        }
    }
    load.until("failures", |records| {
        records
            .iter()
            .any(|record| record.answer.is_err() || !matches!(record.answer, Ok((200, _))))
    })
    .await;
    load.goes_on(300).await;
    let report = load.stop().await;
    let unanswered: Vec<_> =
        report.records.iter().filter(|record| record.answer.is_err()).collect();
    assert!(unanswered.is_empty(), "an answer in any case: {unanswered:?}");
    stage.assert_nothing_left_the_eu();
}

#[tokio::test]
async fn eu_only_never_leaves_when_all_of_the_eu_refuses() {
    stays_inside(Transport::Plain, None).await;
}

#[tokio::test]
async fn eu_only_never_leaves_when_all_of_the_eu_answers_with_errors() {
    stays_inside(Transport::Tls, Some(Script::all(Act::status(503)))).await;
}

#[tokio::test]
async fn eu_only_never_leaves_when_all_of_the_eu_resets() {
    stays_inside(Transport::Plain, Some(Script::all(Act::Reset))).await;
}

#[tokio::test]
async fn eu_only_moves_within_the_eu() {
    let stage = Continent::start("eu-only", Transport::Plain).await;
    stage.si.close().await;
    for speak in Speak::ALL {
        let answer = stage.proxy.send(speak, &Ask::get("/page")).await;
        assert_eq!((answer.status.as_u16(), answer.served_by()), (200, "fr"));
    }
    stage.assert_nothing_left_the_eu();
}

#[tokio::test]
async fn a_service_without_any_permitted_upstream_answers_its_page_at_once() {
    let us = FakeUpstream::start("us", Transport::Plain).await;
    let folder = folder();
    std::fs::write(folder.path().join("sorry.html"), "<p>Back soon.</p>").expect("ours");
    let recipe = Recipe::portal()
        .upstream(&us, "US")
        .service("residency: eu-only")
        .service("all_down: { page: { body_file: sorry.html, retry_after: 90s } }");
    let proxy = RunningProxy::start_with(folder, &recipe.yaml()).await;
    let mut session = proxy.session(Speak::TlsHttp2).await;
    let began = now();
    let answer = within("the page", session.send(&Ask::get("/page"))).await.expect("whole");
    let took = began.elapsed();
    println!("the page came after {took:?}");
    assert!(took < Duration::from_secs(1), "promised within 50 ms, took {took:?}");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("90"));
    assert_eq!(answer.header("content-type").map(|t| t.starts_with("text/html")), Some(true));
    assert_eq!(answer.text(), "<p>Back soon.</p>");
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("bascule_fail_closed", &[("service", "portal")]), 1.0);
    assert_eq!(us.connections(), 0);
}

#[tokio::test]
async fn prefer_eu_takes_every_eu_upstream_before_another_outside() {
    let _turn = turn().await;
    let first = FakeUpstream::start("us-first", Transport::Plain).await;
    let second = FakeUpstream::start("us-second", Transport::Plain).await;
    let eu = FakeUpstream::start("eu", Transport::Plain).await;
    let recipe = Recipe::portal()
        .upstream(&first, "US")
        .upstream(&second, "US")
        .upstream(&eu, "SI")
        .service("residency: prefer-eu");
    let proxy = RunningProxy::start(&recipe).await;
    let load = Load::start(&proxy, 200);
    load.goes_on(200).await;
    first.behave(Script::all(Act::status(500)));
    let last_by_eu = |records: &[crate::harness::load::Record]| {
        let served = |record: &&crate::harness::load::Record| matches!(&record.answer, Ok((200, by)) if by == "eu");
        records.iter().rev().take_while(served).count() >= 40
    };
    load.until("the EU to serve", last_by_eu).await;
    let report = load.stop().await;
    assert!(report.failed_gets().is_empty(), "failed: {:?}", report.failed_gets());
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("bascule_fallback_outside_eu", &[("service", "portal")]), 0.0);
    assert_eq!(metrics.sum("bascule_active_upstream", &[("jurisdiction", "eu")]), 1.0);
    println!("{} requests went to the second one outside", report.served_by(&second));
}
