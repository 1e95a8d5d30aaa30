//! A fallback that passes its probes and yet answers otherwise is told before it is needed.

use std::collections::BTreeSet;

use crate::harness::log::Line;
use crate::harness::metrics::Metrics;
use crate::harness::proxy::RunningProxy;
use crate::harness::recipe::Recipe;
use crate::harness::stage::Stage;
use crate::harness::upstream::{Act, Door, FakeUpstream, Script, Transport};

fn mismatch(metrics: &Metrics, provider: &str) -> Option<f64> {
    let labels = [("service", "portal"), ("provider", provider)];
    let is_told = |series: &String| {
        series.contains("bascule_parity_mismatch") && series.contains(&format!("{provider:?}"))
    };
    let told = metrics.names().iter().any(is_told);
    told.then(|| metrics.sum("bascule_parity_mismatch", &labels))
}

fn probed_as(probes: Act) -> Script {
    Script { door: Door::Open, traffic: Act::Serve, probes }
}

#[tokio::test]
async fn another_status_at_the_fallback_is_told_until_it_is_mended() {
    let stage = Stage::plain().await;
    stage.proxy.metrics_when("a comparison", |m| mismatch(m, "eu") == Some(0.0)).await;
    stage.eu.behave(probed_as(Act::status(204)));
    let metrics =
        stage.proxy.metrics_when("a difference", |m| mismatch(m, "eu") == Some(1.0)).await;
    assert_eq!(mismatch(&metrics, "us"), Some(0.0), "the first choice is what others differ from");
    let differs = |line: &Line| line.message() == "answers unlike the first choice";
    let lines = stage.proxy.log.wait("what differs", 1, differs).await;
    assert_eq!(lines[0].field("provider").as_deref(), Some("eu"));
    assert_eq!(lines[0].field("what").as_deref(), Some("status"));
    assert_eq!(metrics.sum("bascule_failovers_total", &[]), 0.0, "nothing moves by it");
    stage.eu.behave(probed_as(Act::Serve));
    stage.proxy.metrics_when("its end", |m| mismatch(m, "eu") == Some(0.0)).await;
}

#[tokio::test]
async fn what_different_hosts_have_is_not_compared() {
    let us = FakeUpstream::start("us", Transport::Plain).await;
    let eu = FakeUpstream::start("eu", Transport::Plain).await;
    eu.behave(probed_as(Act::status(204)));
    // Neither may carry what the other one may.
    let recipe = Recipe::portal()
        .upstream(&us, "US, qualifications: [theirs]")
        .upstream(&eu, "SI")
        .route("{ host: open.portal.example, residency: any, require: [theirs] }")
        .service("residency: eu-only");
    let proxy = RunningProxy::start(&recipe).await;
    let probed = |metrics: &Metrics, provider| {
        metrics.sum("bascule_probes_total", &[("provider", provider)]) >= 6.0
    };
    let metrics = proxy
        .metrics_when("more probes than a difference takes", |m| probed(m, "us") && probed(m, "eu"))
        .await;
    assert_eq!(mismatch(&metrics, "eu"), None);
    assert_eq!(mismatch(&metrics, "us"), Some(0.0));
    let hosts = |upstream: &FakeUpstream| {
        let probes = upstream.sightings().probes();
        probes
            .iter()
            .filter_map(|seen| seen.get("host").map(str::to_owned))
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(hosts(&us), ["open.portal.example".to_owned()].into());
    assert_eq!(hosts(&eu), ["www.portal.example".to_owned()].into());
}

#[tokio::test]
async fn a_host_that_all_may_carry_is_asked_of_all_and_compared() {
    let us = FakeUpstream::start("us", Transport::Plain).await;
    let eu = FakeUpstream::start("eu", Transport::Plain).await;
    let recipe = Recipe::portal()
        .upstream(&us, "US")
        .upstream(&eu, "SI")
        .route("{ host: open.portal.example, residency: any }")
        .service("residency: eu-only");
    let proxy = RunningProxy::start(&recipe).await;
    proxy.metrics_when("a comparison", |m| mismatch(m, "eu") == Some(0.0)).await;
    for upstream in [&us, &eu] {
        let probes = upstream.sightings().probes();
        let hosts: BTreeSet<_> = probes.iter().filter_map(|seen| seen.get("host")).collect();
        assert_eq!(hosts, ["open.portal.example"].into());
    }
}
