//! One service answered by two companies whose endpoints differ: an API in the manner of OpenAI, with
//! streamed answers, a fallback with a path and a key of its own, and nothing told to the wrong one.

use http::Method;

use crate::harness::client::{Ask, Speak};
use crate::harness::metrics::Metrics;
use crate::harness::proxy::{RunningProxy, folder};
use crate::harness::recipe::Recipe;
use crate::harness::sightings::{ID, Sighting};
use crate::harness::upstream::{Act, Conversation, FakeUpstream, Script, Transport};
use crate::harness::wire::Wire;
use crate::harness::{PORTAL, within};

const PROMPT: &str = r#"{"model":"m","stream":true,"messages":[]}"#;

struct Api {
    first: FakeUpstream,
    fallback: FakeUpstream,
    proxy: RunningProxy,
}

/// With both well and probed once.
async fn api(transport: Transport) -> Api {
    let first = FakeUpstream::start("first", transport).await;
    let fallback = FakeUpstream::start("fallback", transport).await;
    let own = ", path: { strip: /v1, add: /openai/v1 }, headers: { \
               set: { Authorization: \"${file:eu.key}\" }, remove: [OpenAI-Organization] }";
    let recipe = Recipe::portal()
        .top("trusted_proxies: [127.0.0.1]")
        .upstream(&first, "US, kind: source")
        .upstream_with(&fallback, "FR, kind: source", own)
        .service("residency: prefer-eu")
        .probe("{ path: /v1/models, interval: 1h, timeout: 1s }");
    let yaml = recipe.yaml().replace(
        &format!("routes: [{{ host: {PORTAL} }}]"),
        &format!("routes: [{{ host: {PORTAL}, prefix: /v1 }}]"),
    );
    let folder = folder();
    std::fs::write(folder.path().join("eu.key"), "Bearer the-key-for-the-fallback\n").expect("key");
    let proxy = RunningProxy::start_with(folder, &yaml).await;
    let probed = |m: &Metrics| m.sum("bascule_probes_total", &[("result", "passed")]) >= 2.0;
    proxy.metrics_when("both are probed", probed).await;
    Api { first, fallback, proxy }
}

fn posts(upstream: &FakeUpstream) -> Vec<Sighting> {
    upstream.sightings().traffic().into_iter().filter(|seen| seen.method == "POST").collect()
}

async fn ask(proxy: &RunningProxy) -> Wire {
    let mut client = proxy.wire().await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {PORTAL}\r\nAuthorization: Bearer the-clients-key\r\n\
         OpenAI-Organization: theirs\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{PROMPT}",
        PROMPT.len()
    );
    client.send(head).await.expect("sent");
    client
}

/// Each event is with the client before the next one is written: nothing is held back.
async fn stream(mut client: Wire, mut talk: Conversation) {
    let prompt = within("the prompt", talk.wire.take(PROMPT.len())).await.expect("whole");
    assert_eq!(prompt, PROMPT.as_bytes());
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    talk.wire.send(head).await.expect("sent");
    let answer = within("a head", client.head()).await.expect("a head");
    assert_eq!((answer.status(), answer.get("content-type")), (200, Some("text/event-stream")));
    for word in ["Il", " était", " une", " fois", "[DONE]"] {
        let event = format!("data: {word}\n\n");
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        talk.wire.send(chunk).await.expect("sent");
        within("the event", client.until(event.as_bytes())).await.expect("streamed");
    }
    talk.wire.send("0\r\n\r\n").await.expect("sent");
    within("the end", client.until(b"0\r\n\r\n")).await.expect("whole");
}

#[tokio::test]
async fn a_streamed_answer_comes_from_the_first_and_then_from_the_eu_with_its_own_key_and_path() {
    let Api { first, fallback, proxy } = api(Transport::Plain).await;
    for upstream in [&first, &fallback] {
        upstream.behave(Script::all(Act::HandOver));
    }
    let client = ask(&proxy).await;
    stream(client, first.conversation().await).await;
    assert!(posts(&fallback).is_empty(), "the fallback was told nothing");

    first.close().await;
    let client = ask(&proxy).await;
    stream(client, fallback.conversation().await).await;

    let (at_first, at_fallback) = (posts(&first), posts(&fallback));
    assert_eq!((at_first.len(), at_fallback.len()), (1, 1));
    assert_eq!(at_first[0].target, "/v1/chat/completions");
    assert_eq!(at_first[0].get("authorization"), Some("Bearer the-clients-key"));
    assert_eq!(at_fallback[0].target, "/openai/v1/chat/completions");
    assert_eq!(at_fallback[0].get("authorization"), Some("Bearer the-key-for-the-fallback"));
    let told = format!("{:?}", fallback.sightings().traffic());
    assert!(!told.contains("the-clients-key") && !told.contains("theirs"), "{told}");
    assert!(!format!("{:?}", first.sightings().traffic()).contains("for-the-fallback"));
    let metrics = proxy.metrics().await;
    let eu = [("provider", "fallback"), ("jurisdiction", "eu"), ("direction", "received")];
    assert!(metrics.sum("bascule_bytes_total", &eu) > 0.0);
}

#[tokio::test]
async fn a_first_provider_that_answers_with_errors_is_left_and_no_prompt_is_sent_twice() {
    let Api { first, fallback, proxy } = api(Transport::Plain).await;
    first.behave(Script::all(Act::status(500)));
    let mut session = proxy.session(Speak::Http1).await;
    let mut failed = 0;
    // How many fail until then depends on how fast they come: a verdict takes a fifth of a second.
    within("the first to be left", async {
        loop {
            let ask = Ask::post("/v1/chat/completions", PROMPT)
                .header(ID, &format!("prompt-{failed}"))
                .header("x-forwarded-for", &format!("198.51.{}.7", failed % 250));
            let answer = session.send(&ask).await.expect("whole");
            if answer.served_by() == "fallback" {
                break;
            }
            assert_eq!((answer.status.as_u16(), answer.served_by()), (500, "first"), "its own");
            failed += 1;
        }
    })
    .await;
    let mut counts = first.sightings().by_id();
    for (id, count) in fallback.sightings().by_id() {
        *counts.entry(id).or_default() += count;
    }
    assert!(counts.len() > failed && counts.values().all(|count| *count == 1), "{counts:?}");
}

#[tokio::test]
async fn paths_are_exchanged_on_the_way_there_and_back_in_every_version() {
    for transport in [Transport::Plain, Transport::TlsHttp2] {
        let Api { first, fallback, proxy } = api(transport).await;
        let probe = &fallback.sightings().traffic()[0];
        assert_eq!(probe.target, "/openai/v1/models", "probes ask as clients do");
        assert_eq!(probe.get("authorization"), Some("Bearer the-key-for-the-fallback"));
        first.close().await;
        fallback.behave(Script::all(Act::Answer(
            307,
            vec![
                ("location", "/openai/v1/files/7?x=/openai/v1"),
                ("set-cookie", "a=1; Path=/openai/v1; Secure"),
            ],
        )));
        let answer = proxy.get("/v1/files?q=%2F..").await;
        assert_eq!((answer.status.as_u16(), answer.served_by()), (307, "fallback"));
        assert_eq!(answer.header("location"), Some("/v1/files/7?x=/openai/v1"));
        assert_eq!(answer.header("set-cookie"), Some("a=1; Path=/v1; Secure"));
        let seen = fallback.sightings().traffic().pop().expect("a request");
        assert_eq!(seen.target, "/openai/v1/files?q=%2F..", "{transport:?}");
    }
}

#[tokio::test]
async fn no_path_climbs_out_of_what_was_put_before_it_whoever_serves() {
    let Api { first, fallback, proxy } = api(Transport::Plain).await;
    let before = (first.sightings().traffic().len(), fallback.sightings().traffic().len());
    for target in ["/v1/../admin", "/v1/%2e%2e/admin", "/v1/..%2Fadmin", "/v1/..;/admin"] {
        for method in [Method::GET, Method::POST] {
            let answer = proxy.send(Speak::Http1, &Ask::new(method, target)).await;
            assert_eq!(answer.status, 400, "{target}");
        }
    }
    let after = (first.sightings().traffic().len(), fallback.sightings().traffic().len());
    assert_eq!(before, after, "nobody was asked");
    let refused = [("reason", "bad_target")];
    assert_eq!(proxy.metrics().await.sum("bascule_requests_rejected_total", &refused), 8.0);
}
