//! The operator's word over real sockets: in force when it is answered, obeyed to the letter, never
//! against residency.

use http::Method;
use serde_json::{Value, json};

use crate::harness::load::{Load, turn};
use crate::harness::proxy::RunningProxy;
use crate::harness::recipe::Recipe;
use crate::harness::stage::Stage;
use crate::harness::upstream::{Act, FakeUpstream, Script, Transport};

async fn order(proxy: &RunningProxy, body: Value) -> Value {
    let answer = proxy.tell(Method::POST, "/v1/overrides", &body).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    serde_json::from_str(&answer.text()).expect("JSON")
}

#[tokio::test]
async fn forced_out_under_load_not_one_request_arrives_after_the_answer() {
    let _turn = turn().await;
    let stage = Stage::plain().await;
    let load = Load::start(&stage.proxy, 200);
    load.goes_on(100).await;
    let (ok, said) = stage
        .proxy
        .verb(&["force-out", "us", "--for", "10m", "--reason", "their maintenance"])
        .await;
    assert!(ok && said.contains("us: force-out, in force in snapshot"), "{said}");
    // What was on its way when the order came into force has arrived by now, or has moved on.
    load.goes_on(20).await;
    let before = stage.us.sightings().traffic().len();
    load.goes_on(300).await;
    assert_eq!(stage.us.sightings().traffic().len(), before, "a forced-out upstream got requests");

    let metrics = stage.proxy.metrics().await;
    let us = [("service", "portal"), ("provider", "us"), ("order", "force_out")];
    assert_eq!(metrics.sum("bascule_override_active", &us), 1.0);
    let moved = [("from", "us"), ("to", "eu"), ("reason", "ordered")];
    assert_eq!(metrics.sum("bascule_failovers_total", &moved), 1.0);
    let status = stage.proxy.status().await;
    assert_eq!(status["overrides"][0]["reason"], "their maintenance");
    let (_, table) = stage.proxy.verb(&["status"]).await;
    assert!(
        table.contains("forced out by order") && table.contains("their maintenance"),
        "{table}"
    );
    let (_, why) = stage.proxy.verb(&["explain", "http://www.portal.example/"]).await;
    assert!(why.contains("us (non-EU): takes nothing: forced out by order for us since"), "{why}");

    let (ok, said) = stage.proxy.verb(&["auto", "us"]).await;
    assert!(ok && said.contains("us: auto, in force"), "{said}");
    load.until("the first choice to serve again", |records| {
        records.iter().rev().take(20).all(|r| matches!(&r.answer, Ok((200, by)) if by == "us"))
    })
    .await;
    let report = load.stop().await;
    assert!(report.failed().is_empty(), "an order costs no request: {:?}", report.failed());
    let journal = stage.proxy.admin("/v1/journal").await.text();
    for told in ["order given: force_out us until", "order taken back: force_out us", "\"failback"]
    {
        assert!(journal.contains(told), "{told} is missing: {journal}");
    }
}

#[tokio::test]
async fn forced_in_a_failing_upstream_serves_and_an_order_lapses_by_itself() {
    let stage = Stage::plain().await;
    stage.us.behave(Script::all(Act::status(500)));
    let us = [("provider", "us"), ("health", "ejected")];
    let ejected =
        |m: &crate::harness::metrics::Metrics| m.sum("bascule_upstream_health", &us) == 1.0;
    stage.proxy.metrics_when("an ejection by probes", ejected).await;
    order(&stage.proxy, json!({ "target": "us", "order": "force_in", "for": "1s" })).await;
    let post = crate::harness::client::Ask::post("/order", "x");
    let answer = stage.proxy.send(crate::harness::client::Speak::Http1, &post).await;
    assert_eq!((answer.status.as_u16(), answer.served_by()), (500, "us"), "the operator's word");
    let lapsed =
        |m: &crate::harness::metrics::Metrics| m.sum("bascule_override_active", &[]) == 0.0;
    stage.proxy.metrics_when("the order to lapse", lapsed).await;
    let answer = stage.proxy.send(crate::harness::client::Speak::Http1, &post).await;
    assert_eq!((answer.status.as_u16(), answer.served_by()), (200, "eu"));
}

#[tokio::test]
async fn no_order_brings_a_provider_into_a_service_that_policy_keeps_it_out_of() {
    let us = FakeUpstream::start("us", Transport::Plain).await;
    let eu = FakeUpstream::start("eu", Transport::Plain).await;
    let recipe =
        Recipe::portal().upstream(&us, "US").upstream(&eu, "SI").service("residency: eu-only");
    let proxy = RunningProxy::start(&recipe).await;
    let (ok, said) = proxy.verb(&["force-in", "portal/us"]).await;
    assert!(
        !ok && said
            .contains("portal may not go through us, for its seat is in US; no order changes that"),
        "{said}"
    );
    let (ok, said) = proxy.verb(&["force-in", "us"]).await;
    assert!(ok && said.contains("portal: policy keeps this provider out"), "{said}");
    let (ok, said) = proxy.verb(&["force-out", "eu"]).await;
    assert!(ok && said.contains("warning: portal has no upstream left"), "{said}");
    assert_eq!(proxy.get("/page").await.status.as_u16(), 503, "the page, and not the US");
    assert_eq!(us.sightings().traffic().len(), 0);
    let (_, why) = proxy.verb(&["explain", "http://www.portal.example/"]).await;
    assert!(why.contains("nobody is left"), "{why}");

    for (verb, target, why) in [
        ("drain", "uss", "there is no provider uss"),
        ("drain", "shop/us", "there is no service shop"),
        ("auto", "portal/uss", "there is no provider uss"),
    ] {
        let (ok, said) = proxy.verb(&[verb, target]).await;
        assert!(!ok && said.contains(why), "{verb} {target}: {said}");
    }
    let (ok, said) = proxy.verb(&["auto", "portal/eu"]).await;
    assert!(ok && said.contains("no order stood") && said.contains("stands for eu"), "{said}");
}

#[tokio::test]
async fn an_order_is_kept_across_a_reload_and_outranked_by_a_narrower_one() {
    let stage = Stage::plain().await;
    order(&stage.proxy, json!({ "target": "us", "order": "drain" })).await;
    assert_eq!(stage.proxy.get("/page").await.served_by(), "eu");
    let recipe = Recipe::portal().upstream(&stage.us, "US").upstream(&stage.eu, "SI");
    stage.proxy.rename_over(&recipe.service("retry: { attempts: 0 }").yaml());
    let reloaded = |line: &crate::harness::log::Line| line.message() == "configuration reloaded";
    stage.proxy.log.wait("the reload", 1, reloaded).await;
    assert_eq!(stage.proxy.get("/page").await.served_by(), "eu");
    let obeyed = order(&stage.proxy, json!({ "target": "portal/us", "order": "force_in" })).await;
    assert_eq!(obeyed["others"], json!(["us"]));
    assert_eq!(stage.proxy.get("/page").await.served_by(), "us");
}

#[tokio::test]
async fn routes_that_an_order_leaves_without_anybody_are_named_wherever_it_is_told() {
    let secret = "{ host: secret.portal.example, residency: eu-only }";
    let stage = Stage::start(Transport::Plain, |recipe| recipe.route(secret)).await;
    let proxy = &stage.proxy;
    let mode = |status: &Value| status["services"][0]["mode"].clone();
    assert_eq!(mode(&proxy.status().await), "normal");
    let (ok, said) = proxy.verb(&["drain", "portal/eu", "--reason", "a test"]).await;
    assert!(ok, "{said}");
    let words = "warning: portal has no upstream left for eu-only, clients get its page there";
    assert!(said.contains(words) && !said.contains("left, clients"), "{said}");

    let status = proxy.status().await;
    assert_eq!(mode(&status), "fail_closed", "the worst of it");
    assert_eq!(status["services"][0]["first"], "us", "which serves the others");
    let realm = |residency, mode, first: Value, permitted: &[&str]| {
        json!({
            "residency": residency, "require": [], "mode": mode, "first": first, "permitted": permitted
        })
    };
    let expected = [
        realm("any", "normal", json!("us"), &["us", "eu"]),
        realm("eu-only", "fail_closed", Value::Null, &["eu"]),
    ];
    assert_eq!(status["services"][0]["realms"], json!(expected));
    let (_, table) = proxy.verb(&["status"]).await;
    assert!(table.contains("served through us, fail-closed in part"), "{table}");
    assert!(table.contains("eu-only: served through nobody, fail-closed"), "{table}");

    let answer = order(proxy, json!({ "target": "us", "order": "drain" })).await;
    assert_eq!((&answer["closed"], &answer["closed_routes"]), (&json!(["portal"]), &json!([])));
}
