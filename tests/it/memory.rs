//! What outlives the process: kill -9 in an outage and start again, with everything that can be
//! wrong with the folder.

use std::fs;

use serde_json::Value;

use crate::harness::client::{Ask, Speak};
use crate::harness::load::{Load, turn};
use crate::harness::metrics::Metrics;
use crate::harness::proxy::{RunningProxy, folder};
use crate::harness::recipe::Recipe;
use crate::harness::upstream::{Act, FakeUpstream, Script, Transport};
use crate::harness::within;

async fn upstreams() -> (FakeUpstream, FakeUpstream, Recipe) {
    let us = FakeUpstream::start("us", Transport::Plain).await;
    let eu = FakeUpstream::start("eu", Transport::Plain).await;
    let recipe = Recipe::portal().upstream(&us, "US").upstream(&eu, "SI").top("state_dir: state");
    (us, eu, recipe)
}

/// Waits until a file of the proxy's says this.
async fn on_disk(proxy: &RunningProxy, name: &str, says: &str) {
    let file = proxy.file(name);
    let said = async {
        while !fs::read_to_string(&file).is_ok_and(|text| text.contains(says)) {
            tokio::task::yield_now().await;
        }
    };
    within(&format!("{name} to say {says}"), said).await;
}

fn is_out(metrics: &Metrics) -> bool {
    metrics.sum("bascule_upstream_health", &[("provider", "us"), ("health", "ejected")]) == 1.0
}

#[tokio::test]
async fn after_kill_9_in_an_outage_no_request_goes_to_the_ejected_provider() {
    let _turn = turn().await;
    let (us, eu, recipe) = upstreams().await;
    let proxy = RunningProxy::start(&recipe).await;
    let load = Load::start(&proxy, 200);
    load.goes_on(100).await;
    // Probes stay green, as in the outage that matters: only memory can know better.
    us.behave(Script::green_probes(Act::status(500)));
    proxy.metrics_when("the ejection", is_out).await;
    on_disk(&proxy, "state/memory.json", "ejected").await;
    on_disk(&proxy, "state/journal.jsonl", "failover").await;
    load.stop().await;
    let folder = proxy.kill();

    let before = us.sightings().traffic().len();
    let proxy = RunningProxy::start_with(folder, &recipe.yaml()).await;
    for number in 0..200 {
        let post = Ask::post(&format!("/order/{number}"), "x");
        let answer = proxy.send(Speak::Http1, &post).await;
        assert_eq!((answer.status.as_u16(), answer.served_by()), (200, "eu"), "request {number}");
    }
    assert_eq!(us.sightings().traffic().len(), before, "it was ejected a moment ago");
    let metrics = proxy.metrics().await;
    assert!(is_out(&metrics));
    assert_eq!(metrics.sum("bascule_failovers_total", &[]), 0.0, "nothing moved: it went on");
    drop(eu);
    let status = proxy.status().await;
    assert_eq!(status["services"][0]["upstreams"][0]["last"]["reason"], "remembered");
    let journal = proxy.admin("/v1/journal").await.text();
    let journal: Value = serde_json::from_str(&journal).expect("JSON");
    let events: Vec<&str> = journal["entries"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|e| e["event"].as_str())
        .collect();
    assert_eq!(events.iter().filter(|event| **event == "started").count(), 2, "{events:?}");
    assert!(events.contains(&"failover"), "the first process told it: {events:?}");
    let of = |event: &str| events.iter().filter(|known| **known == event).count();
    assert_eq!((of("incident_began"), of("resumed")), (1, 1), "one incident goes on: {events:?}");
    let (_, report) = proxy.verb(&["journal", "--format", "md"]).await;
    assert!(
        report.contains("- Incidents: 1;") && report.contains("| not yet, or not seen |"),
        "{report}"
    );
}

#[tokio::test]
async fn orders_outlive_a_kill_and_a_clean_end_alike() {
    let (us, _eu, recipe) = upstreams().await;
    let proxy = RunningProxy::start(&recipe).await;
    let (ok, said) = proxy.verb(&["force-out", "us", "--reason", "their maintenance"]).await;
    assert!(ok, "{said}");
    on_disk(&proxy, "state/memory.json", "their maintenance").await;

    let mut proxy = RunningProxy::start_with(proxy.kill(), &recipe.yaml()).await;
    assert_eq!(proxy.get("/page").await.served_by(), "eu");
    proxy.signal("TERM");
    assert!(proxy.exit().await.success());
    let proxy = RunningProxy::start_with(proxy.kill(), &recipe.yaml()).await;
    assert_eq!(proxy.get("/page").await.served_by(), "eu");
    assert_eq!(proxy.status().await["overrides"][0]["reason"], "their maintenance");
    assert_eq!(us.sightings().traffic().len(), 0);
    let (ok, said) = proxy.verb(&["auto", "us"]).await;
    assert!(ok, "{said}");
    assert_eq!(proxy.get("/page").await.served_by(), "us");
}

#[tokio::test]
async fn a_damaged_memory_is_set_aside_and_the_service_goes_on() {
    let (_us, _eu, recipe) = upstreams().await;
    let folder = folder();
    fs::create_dir(folder.path().join("state")).expect("ours");
    fs::write(folder.path().join("state/memory.json"), "{\"format\":\"bascule-me").expect("ours");
    fs::write(folder.path().join("state/journal.jsonl"), "{\"at\":\"2025").expect("ours");
    let proxy = RunningProxy::start_with(folder, &recipe.yaml()).await;
    assert_eq!(proxy.get("/page").await.served_by(), "us");
    let said = |line: &crate::harness::log::Line| line.message().contains("memory set aside");
    proxy.log.wait("what became of it", 1, said).await;
    assert!(proxy.file("state/memory.json.set-aside").exists());
    let written =
        |m: &Metrics| m.sum("bascule_state_writes_total", &[("result", "success")]) >= 2.0;
    proxy.metrics_when("memory and journal to be kept", written).await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_had_costs_a_log_line_and_no_request() {
    let (_us, _eu, recipe) = upstreams().await;
    let folder = folder();
    fs::write(folder.path().join("state"), "a file where the folder should be").expect("ours");
    let proxy = RunningProxy::start_with(folder, &recipe.yaml()).await;
    assert_eq!(proxy.get("/page").await.served_by(), "us");
    let failed = |m: &Metrics| m.sum("bascule_state_write_failed", &[]) == 2.0;
    proxy.metrics_when("that nothing is kept", failed).await;
    let said =
        |line: &crate::harness::log::Line| line.message().contains("state_dir cannot be written");
    assert_eq!(proxy.log.select(said).len(), 2, "once for each of the two files, not at each try");
    let (ok, said) = proxy.verb(&["drain", "us"]).await;
    assert!(ok, "{said}");
    assert_eq!(proxy.get("/page").await.served_by(), "eu", "orders are obeyed all the same");
}
