//! A failover rehearsed on live traffic: its share and no more, its end, and what is told of it.

use http::Method;
use serde_json::{Value, json};

use crate::harness::load::{Load, turn};
use crate::harness::stage::Stage;
use crate::harness::upstream::{Act, Script};

#[tokio::test]
async fn a_drill_passes_and_is_told() {
    let _turn = turn().await;
    let stage = Stage::plain().await;
    let load = Load::start(&stage.proxy, 200);
    load.goes_on(100).await;
    let arguments =
        ["drill", "portal", "--share", "25%", "--for", "3s", "--reason", "before the audit"];
    let (ok, said) = stage.proxy.verb(&arguments).await;
    assert!(ok && said.contains("portal: passed"), "{said}");
    assert!(said.contains("25.0% of the requests go to eu instead of us"), "{said}");
    let taken = stage.eu.sightings().traffic().len();
    let report = load.stop().await;
    let all = report.records.len();
    println!("{taken} of {all} requests went to the fallback; {said}");
    assert!(taken >= 60 && taken * 2 < all, "{taken} of {all}");
    assert!(report.failed().is_empty(), "a drill costs no request: {:?}", report.failed());
    let metrics = stage.proxy.metrics().await;
    assert_eq!(metrics.sum("bascule_drills_total", &[("result", "passed")]), 1.0);
    assert_eq!(metrics.sum("bascule_drill_active", &[]), 0.0);
    assert_eq!(metrics.sum("bascule_failovers_total", &[]), 0.0);
    let journal = stage.proxy.admin("/v1/journal").await.text();
    for told in ["drill begun: 25.0 % of portal from us to eu", "before the audit", "drill passed"]
    {
        assert!(journal.contains(told), "{told} is missing: {journal}");
    }
}

#[tokio::test]
async fn a_drill_ends_by_itself_when_the_fallback_fails() {
    let _turn = turn().await;
    let stage = Stage::plain().await;
    stage.eu.behave(Script::green_probes(Act::status(500)));
    let load = Load::start(&stage.proxy, 100);
    load.goes_on(100).await;
    let (ok, said) = stage.proxy.verb(&["drill", "portal", "--share", "20%", "--for", "10m"]).await;
    assert!(!ok && said.contains("portal: aborted"), "{said}");
    let taken = stage.eu.sightings().traffic().len();
    load.goes_on(100).await;
    let report = load.stop().await;
    println!("{taken} requests went to a dead fallback; {said}");
    assert!(report.failed_gets().is_empty(), "retried: {:?}", report.failed_gets());
    assert!(taken < 80, "{taken} requests went to a dead fallback");
}

#[tokio::test]
async fn a_drill_is_asked_for_stopped_and_refused_over_the_admin_api() {
    let stage = Stage::plain().await;
    let begun = stage.proxy.tell(Method::POST, "/v1/drills", &json!({ "service": "portal" })).await;
    assert_eq!(begun.status.as_u16(), 200, "{}", begun.text());
    let begun: Value = serde_json::from_str(&begun.text()).expect("JSON");
    assert_eq!(
        (&begun["from"], &begun["to"], &begun["share"]),
        (&json!("us"), &json!("eu"), &json!(0.05))
    );
    for (body, status) in [
        (json!({ "service": "portal" }), 409),
        (json!({ "service": "shop" }), 404),
        (json!({ "service": "portal", "share": "60%" }), 400),
        (json!({ "service": "portal", "for": "2d" }), 400),
        (json!({ "service": "portal", "reason": "a\nb" }), 400),
        (json!({ "services": "portal" }), 400),
    ] {
        let answer = stage.proxy.tell(Method::POST, "/v1/drills", &body).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.text());
    }
    let (ok, said) = stage.proxy.verb(&["drill", "portal", "--stop"]).await;
    assert!(ok && said.contains("portal: stopped by the operator"), "{said}");
    let all: Value =
        serde_json::from_str(&stage.proxy.admin("/v1/drills").await.text()).expect("JSON");
    assert_eq!(all[0]["result"], "stopped");
    let (ok, said) = stage.proxy.verb(&["drill", "portal", "--stop"]).await;
    assert!(!ok && said.contains("no drill of portal is on"), "{said}");
}
