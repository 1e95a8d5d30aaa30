//! A new binary in place of the running one: nobody who connects notices, what was known is known, and a
//! new process that cannot serve changes nothing.

use std::fs;

use http::Method;
use serde_json::{Value, json};

use crate::harness::client::{Ask, Speak};
use crate::harness::load::{Load, turn};
use crate::harness::metrics::Metrics;
use crate::harness::proxy::RunningProxy;
use crate::harness::stage::Stage;
use crate::harness::upstream::{Act, Script, Transport};
use crate::harness::{PORTAL, within};

async fn order(proxy: &RunningProxy, body: Value) {
    let answer = proxy.tell(Method::POST, "/v1/overrides", &body).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
}

/// Both processes write to one standard error; the new one has ended by the time that the old one says why.
fn assert_said_once(proxy: &RunningProxy, why: &str) {
    let raw = proxy.log.select(|line| line.json.is_null() && !line.text.is_empty());
    assert!(raw.is_empty(), "a reader of JSON cannot read this: {:?}", raw[0].text);
    // A reload of the same file says it too, in words of its own.
    let stays = |line: &crate::harness::log::Line| line.message().ends_with("this one serves on");
    let said = proxy.log.select(|line| line.text.contains(why) && stays(line));
    assert_eq!(said.len(), 1, "{why}");
}

fn is_out(metrics: &Metrics) -> bool {
    metrics.sum("bascule_upstream_health", &[("provider", "us"), ("health", "ejected")]) == 1.0
}

#[tokio::test]
async fn no_request_is_lost_while_the_process_is_replaced_again_and_again_under_load() {
    let _turn = turn().await;
    let mut stage = Stage::plain().await;
    let load = Load::start(&stage.proxy, 200);
    load.goes_on(100).await;
    for _ in 0..3 {
        stage.proxy.upgrade().await;
        load.goes_on(100).await;
    }
    let report = load.stop().await;
    assert!(report.failed().is_empty(), "an upgrade costs no request: {:?}", report.failed());
    assert_eq!(stage.proxy.exit().await.code(), Some(0), "the first process has drained");
    assert_eq!(stage.proxy.admin("/readyz").await.status.as_u16(), 200, "the last one answers");
}

#[tokio::test]
async fn the_new_process_knows_what_was_known_without_a_file() {
    let mut stage = Stage::plain().await;
    // Probes stay green: only who saw the traffic fail can know.
    stage.us.behave(Script::green_probes(Act::status(500)));
    for number in 0..40 {
        stage.proxy.get(&format!("/page/{number}")).await;
    }
    stage.proxy.metrics_when("the ejection", is_out).await;
    order(&stage.proxy, json!({ "target": "eu", "order": "force_in", "reason": "kept" })).await;
    let before = stage.us.sightings().traffic().len();
    stage.proxy.upgrade().await;
    assert!(is_out(&stage.proxy.metrics().await), "nobody is marked up who was down");
    assert_eq!(stage.proxy.status().await["overrides"][0]["reason"], "kept");
    for number in 0..40 {
        let post = Ask::post(&format!("/order/{number}"), "x");
        let answer = stage.proxy.send(Speak::Http1, &post).await;
        assert_eq!((answer.status.as_u16(), answer.served_by()), (200, "eu"), "order {number}");
    }
    assert_eq!(stage.us.sightings().traffic().len(), before, "it was ejected a moment ago");
}

#[tokio::test]
async fn state_dir_has_a_new_owner_while_the_old_process_still_drains() {
    let stage = Stage::start(Transport::Plain, |recipe| recipe.top("state_dir: state")).await;
    let Stage { us, eu: _eu, mut proxy } = stage;
    // A request that the old process waits for.
    us.behave(Script::green_probes(Act::Silent));
    let mut wire = proxy.wire().await;
    let post = format!("POST /held HTTP/1.1\r\nHost: {PORTAL}\r\nContent-Length: 0\r\n\r\n");
    wire.send(post).await.expect("sent");
    within("the request to arrive", async {
        while us.sightings().traffic().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    proxy.upgrade().await;
    order(&proxy, json!({ "target": "us", "order": "drain", "reason": "by the new one" })).await;
    let memory = proxy.file("state/memory.json");
    within("the new process to write", async {
        while !fs::read_to_string(&memory).is_ok_and(|text| text.contains("by the new one")) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let journal = fs::read_to_string(proxy.file("state/journal.jsonl")).expect("a journal");
    assert_eq!(journal.matches(" started\"").count(), 2, "one line a process: {journal}");
    let refused = proxy.log.select(|line| line.message().starts_with("state_dir cannot be"));
    assert!(refused.is_empty(), "{refused:?}");
}

#[tokio::test]
async fn a_new_process_that_cannot_serve_says_why_and_the_old_one_serves_on() {
    let stage = Stage::start(Transport::Plain, |recipe| recipe.top("state_dir: state")).await;
    let Stage { us: _us, eu: _eu, mut proxy } = stage;
    let good = fs::read_to_string(proxy.file("bascule.yaml")).expect("ours");
    proxy.rename_over(&format!("{good}no_such_key: 1\n"));
    proxy.signal("USR2");
    let stays = |line: &crate::harness::log::Line| line.message().ends_with("this one serves on");
    let lines = proxy.log.wait("why", 1, stays).await;
    assert!(lines[0].text.contains("no_such_key"), "{}", lines[0].text);
    assert_said_once(&proxy, "no_such_key");
    assert_eq!(proxy.get("/page").await.status.as_u16(), 200);
    order(&proxy, json!({ "target": "us", "order": "drain", "reason": "still obeyed" })).await;
    let memory = proxy.file("state/memory.json");
    within("the old process to write", async {
        while !fs::read_to_string(&memory).is_ok_and(|text| text.contains("still obeyed")) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // And once the file is mended, it is replaced like any other.
    proxy.rename_over(&good);
    proxy.upgrade().await;
    assert_eq!(proxy.get("/page").await.status.as_u16(), 200);
}

#[tokio::test]
async fn an_address_that_is_not_to_be_had_leaves_the_old_process_its_state_dir() {
    let stage = Stage::start(Transport::Plain, |recipe| recipe.top("state_dir: state")).await;
    let taken = std::net::TcpListener::bind(("127.0.0.4", 0)).expect("bind");
    let taken = taken.local_addr().map(|address| (taken, address)).expect("an address");
    let file = stage.proxy.file("bascule.yaml");
    let good = fs::read_to_string(&file).expect("ours");
    let more = format!("listeners:\n  - address: {}\n", taken.1);
    stage.proxy.rename_over(&good.replace("listeners:\n", &more));
    stage.proxy.signal("USR2");
    let stays = |line: &crate::harness::log::Line| line.message().ends_with("this one serves on");
    let lines = stage.proxy.log.wait("why", 1, stays).await;
    assert!(lines[0].text.contains("cannot listen on"), "{}", lines[0].text);
    assert_said_once(&stage.proxy, "cannot listen on");
    // It had given everything up by then.
    order(&stage.proxy, json!({ "target": "us", "order": "drain", "reason": "kept here" })).await;
    let memory = stage.proxy.file("state/memory.json");
    within("the old process to write", async {
        while !fs::read_to_string(&memory).is_ok_and(|text| text.contains("kept here")) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(stage.proxy.get("/page").await.status.as_u16(), 200);
}

#[tokio::test]
async fn an_admin_address_that_leaves_its_port_open_takes_no_socket_from_clients() {
    let mut stage = Stage::plain().await;
    let file = fs::read_to_string(stage.proxy.file("bascule.yaml")).expect("ours");
    // Where clients are listened for.
    stage.proxy.rename_over(
        &file.replace("admin: { address: 127.0.0.3:0 }", "admin: { address: 127.0.0.1:0 }"),
    );
    stage.proxy.upgrade().await;
    assert_eq!(stage.proxy.exit().await.code(), Some(0), "the old process answers nobody any more");
    let answer = stage.proxy.get("/page").await;
    assert_eq!((answer.status.as_u16(), answer.served_by()), (200, "us"));
}
