//! Fifty new configurations under load, valid and invalid by turns: no request notices, no health
//! is forgotten, every mistake is reported where it stands.

use std::fs;
use std::os::unix::fs::symlink;

use http::Method;
use serde_json::Value;

use crate::harness::client::{Ask, Session, Speak};
use crate::harness::load::{Load, turn};
use crate::harness::log::Line;
use crate::harness::metrics::Metrics;
use crate::harness::proxy::{RunningProxy, folder};
use crate::harness::recipe::Recipe;
use crate::harness::stage::Stage;
use crate::harness::upstream::{Act, FakeUpstream, Script, Transport};
use crate::harness::{PORTAL, within};

/// Reloads of each test; two tests make fifty.
const RELOADS: usize = 25;

const FAILED: &str = "bascule_config_reload_failed";
const GENERATION: &str = "bascule_config_generation";

fn recipe(us: &FakeUpstream, eu: &FakeUpstream) -> Recipe {
    Recipe::portal().upstream(us, "US").upstream(eu, "SI")
}

/// The `n`-th valid file: each differs.
fn valid(recipe: &Recipe, n: usize) -> String {
    let seconds = 60 + n;
    recipe.clone().service(&format!("all_down: {{ page: {{ retry_after: {seconds}s }} }}")).yaml()
}

/// The `n`-th invalid file, and the line of its mistake.
fn invalid(recipe: &Recipe, n: usize) -> (String, usize) {
    let mistakes = [
        "residencee: any",
        "retry: { attempts: many }",
        "timeouts: { head: 10 parsecs }",
        "all_down: { serve: cake }",
    ];
    let mistake = mistakes[n % mistakes.len()];
    // A varying number of comments above moves it, so that each line number is its own.
    let text = recipe.clone().service(mistake).yaml();
    let text = format!("{}{text}", "# moved\n".repeat(n));
    let line = text.lines().position(|line| line.contains(mistake)).expect("it is there") + 1;
    (text, line)
}

/// Puts one reload after the other through `swap`, and waits for each to be taken or refused.
async fn reload_by_turns(
    proxy: &RunningProxy,
    recipe: &Recipe,
    swap: impl Fn(&RunningProxy, usize, &str),
) {
    for n in 0..RELOADS {
        if n % 2 == 0 {
            let (text, line) = invalid(recipe, n);
            swap(proxy, n, &text);
            proxy.metrics_when("a refused reload", |m| m.sum(FAILED, &[]) == 1.0).await;
            let place = format!("bascule.yaml:{line}:");
            proxy.log.wait(&place, 1, |said| said.text.contains(&place)).await;
        } else {
            let generation = proxy.metrics().await.sum(GENERATION, &[]);
            swap(proxy, n, &valid(recipe, n));
            let taken = |m: &Metrics| m.sum(FAILED, &[]) == 0.0;
            let metrics = proxy.metrics_when("a taken reload", taken).await;
            assert!(metrics.sum(GENERATION, &[]) > generation, "a new configuration each time");
        }
        let metrics = proxy.metrics().await;
        let us = [("provider", "us"), ("health", "ejected")];
        assert_eq!(metrics.sum("bascule_upstream_health", &us), 1.0, "reload {n}: remembered");
        assert_eq!(metrics.sum("bascule_failovers_total", &[]), 1.0, "reload {n}: no flip");
    }
}

/// A load on a service that has left its first choice, through all reloads.
async fn survives_reloads(
    us: &FakeUpstream,
    proxy: &RunningProxy,
    recipe: &Recipe,
    swap: impl Fn(&RunningProxy, usize, &str),
) {
    let load = Load::start(proxy, 200);
    load.goes_on(200).await;
    us.behave(Script::all(Act::status(500)));
    let left = |m: &Metrics| m.sum("bascule_active_upstream", &[("provider", "eu")]) == 1.0;
    proxy.metrics_when("the failover", left).await;
    let before = us.sightings().traffic().len();
    load.goes_on(40).await;
    reload_by_turns(proxy, recipe, swap).await;
    let report = load.stop().await;
    assert!(report.failed_gets().is_empty(), "failed: {:?}", report.failed_gets());
    let posts: Vec<_> = report
        .failed()
        .into_iter()
        .filter(|record| !matches!(&record.answer, Ok((500, by)) if by == "us"))
        .collect();
    assert!(posts.is_empty(), "but for POSTs that the failing upstream answered itself: {posts:?}");
    let late = us.sightings().traffic().len() - before;
    assert!(late <= 60, "{late} requests went to an ejected upstream");
    println!("{RELOADS} reloads under {} requests", report.records.len());
}

#[tokio::test]
async fn nobody_notices_reloads_by_atomic_rename() {
    let _turn = turn().await;
    let us = FakeUpstream::start("us", Transport::Plain).await;
    let eu = FakeUpstream::start("eu", Transport::Plain).await;
    let recipe = recipe(&us, &eu);
    let proxy = RunningProxy::start(&recipe).await;
    survives_reloads(&us, &proxy, &recipe, |proxy, n, text| {
        proxy.rename_over(text);
        if n % 5 == 0 {
            proxy.signal("HUP");
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_notices_reloads_by_symlink_swap() {
    let _turn = turn().await;
    let us = FakeUpstream::start("us", Transport::Plain).await;
    let eu = FakeUpstream::start("eu", Transport::Plain).await;
    let recipe = recipe(&us, &eu);
    let folder = folder();
    // As Kubernetes mounts a ConfigMap: file → ..data/file, ..data → a folder that is swapped.
    let first = folder.path().join("..v0");
    fs::create_dir(&first).expect("ours");
    fs::write(first.join("bascule.yaml"), recipe.yaml()).expect("ours");
    symlink("..v0", folder.path().join("..data")).expect("ours");
    symlink("..data/bascule.yaml", folder.path().join("bascule.yaml")).expect("ours");
    let proxy = RunningProxy::start_with(folder, &recipe.yaml()).await;
    survives_reloads(&us, &proxy, &recipe, |proxy, n, text| {
        let next = format!("..v{}", n + 1);
        fs::create_dir(proxy.file(&next)).expect("ours");
        fs::write(proxy.file(&next).join("bascule.yaml"), text).expect("ours");
        symlink(&next, proxy.file("..next")).expect("ours");
        fs::rename(proxy.file("..next"), proxy.file("..data")).expect("ours");
    })
    .await;
}

#[tokio::test]
async fn a_reload_by_signal_takes_what_the_file_says_now() {
    let stage = Stage::plain().await;
    let only_eu = Recipe::portal().upstream(&stage.eu, "SI");
    assert_eq!(stage.proxy.get("/page").await.served_by(), "us");
    stage.proxy.rename_over(&only_eu.yaml());
    stage.proxy.signal("HUP");
    let gone = |m: &Metrics| m.sum("bascule_active_upstream", &[("provider", "eu")]) == 1.0;
    stage.proxy.metrics_when("the new upstream", gone).await;
    assert_eq!(stage.proxy.get("/page").await.served_by(), "eu");
}

#[tokio::test]
async fn an_answer_under_way_outlives_the_upstream_that_a_reload_removed() {
    let stage = Stage::plain().await;
    stage.us.behave(Script::green_probes(Act::HandOver));
    let mut client = stage.proxy.wire().await;
    let host = crate::harness::PORTAL;
    client.send(format!("GET /feed HTTP/1.1\r\nHost: {host}\r\n\r\n")).await.expect("sent");
    let mut talk = stage.us.conversation().await;
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nfirst,";
    talk.wire.send(head).await.expect("sent");
    client.until(b"first,").await.expect("arrives");
    stage.proxy.rename_over(&Recipe::portal().upstream(&stage.eu, "SI").yaml());
    let gone = |m: &Metrics| m.sum("bascule_active_upstream", &[("provider", "eu")]) == 1.0;
    stage.proxy.metrics_when("the new upstream", gone).await;
    assert_eq!(stage.proxy.get("/page").await.served_by(), "eu");
    talk.wire.send("later").await.expect("the connection is still there");
    client.until(b"later").await.expect("arrives");
}

#[tokio::test]
async fn a_listener_moves_on_reload() {
    let stage = Stage::plain().await;
    let text = Recipe::portal().upstream(&stage.us, "US").upstream(&stage.eu, "SI").yaml();
    stage.proxy.rename_over(&text.replace("127.0.0.1:0", "127.0.0.4:0"));
    let moved = |line: &crate::harness::log::Line| {
        line.message() == "listening"
            && line.field("address").is_some_and(|address| address.starts_with("127.0.0.4:"))
    };
    let lines = stage.proxy.log.wait("the new address", 1, moved).await;
    let address = lines[0].field("address").expect("checked").parse().expect("an address");
    let mut session =
        crate::harness::client::Session::open(Speak::Http1, address, host()).await.expect("open");
    let answer = session.send(&Ask::get("/page")).await.expect("whole");
    assert_eq!(answer.served_by(), "us");
}

fn host() -> &'static str {
    crate::harness::PORTAL
}

#[tokio::test]
async fn listeners_on_any_port_of_one_address_stay_where_they_are() {
    let us = FakeUpstream::start("us", Transport::Plain).await;
    let first = "  - address: 127.0.0.1:0\n";
    let twice = first.repeat(2);
    let yaml = Recipe::portal().upstream(&us, "US").yaml().replace(first, &twice);
    let proxy = RunningProxy::start_with(folder(), &yaml).await;
    let listening = || {
        let is_ours = |line: &Line| {
            let address = line.field("address").unwrap_or_default();
            line.message() == "listening" && address.starts_with("127.0.0.1:")
        };
        proxy
            .log
            .select(is_ours)
            .iter()
            .map(|l| l.field("address").expect("checked").to_owned())
            .collect::<Vec<_>>()
    };
    let before = listening();
    assert_eq!(before.len(), 2);
    proxy.rename_over(&format!("{yaml}# changed\n"));
    let reloaded =
        |m: &Metrics| m.sum("bascule_config_reloads_total", &[("result", "success")]) == 1.0;
    proxy.metrics_when("the reload", reloaded).await;
    assert_eq!(listening(), before, "no address is new");
    for address in before {
        let session =
            Session::open(Speak::Http1, address.parse().expect("an address"), PORTAL).await;
        let mut session = session.expect("it is still listened on");
        let answer = within("an answer", session.send(&Ask::get("/page"))).await.expect("whole");
        assert_eq!(answer.served_by(), "us");
    }
}

#[tokio::test]
async fn a_reload_that_is_asked_for_answers_what_came_of_it() {
    let stage = Stage::plain().await;
    let recipe = recipe(&stage.us, &stage.eu);
    let ask = || stage.proxy.tell(Method::POST, "/v1/reload", &Value::Null);
    fs::write(stage.proxy.file("bascule.yaml"), valid(&recipe, 1)).expect("the folder is ours");
    let loaded = ask().await;
    assert_eq!(loaded.status.as_u16(), 200, "{}", loaded.text());
    let loaded: Value = serde_json::from_str(&loaded.text()).expect("JSON");
    assert_eq!((&loaded["services"], &loaded["upstreams"]), (&1.into(), &2.into()), "{loaded}");

    let (text, line) = invalid(&recipe, 3);
    fs::write(stage.proxy.file("bascule.yaml"), text).expect("the folder is ours");
    let refused = ask().await;
    assert_eq!(refused.status.as_u16(), 422, "{}", refused.text());
    let refused: Value = serde_json::from_str(&refused.text()).expect("JSON");
    let reason = refused["reasons"][0].as_str().expect("a reason");
    assert!(reason.contains(&format!("bascule.yaml:{line}:")), "{refused}");
    assert_eq!(stage.proxy.get("/page").await.status.as_u16(), 200, "the old one serves on");
}
