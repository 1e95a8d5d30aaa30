//! One request, several upstreams: tried again exactly when that is safe.

use http::Method;

use crate::harness::client::{Ask, Speak};
use crate::harness::metrics::Metrics;
use crate::harness::proxy::RunningProxy;
use crate::harness::recipe::Recipe;
use crate::harness::sightings::ID;
use crate::harness::stage::Stage;
use crate::harness::upstream::{Act, FakeUpstream, Script, Transport};
use crate::harness::{PROBE, within};

/// Probes so rare that only traffic speaks.
fn rarely_probed(recipe: Recipe) -> Recipe {
    recipe.probe(&format!("{{ path: {PROBE}, interval: 1h, timeout: 1s }}"))
}

async fn stage(transport: Transport) -> Stage {
    Stage::start(transport, rarely_probed).await
}

#[tokio::test]
async fn a_refused_connection_is_tried_elsewhere_whatever_the_method() {
    let stage = stage(Transport::Plain).await;
    stage.us.close().await;
    for ask in [Ask::get("/page"), Ask::post("/order", "an order")] {
        let answer = stage.proxy.send(Speak::TlsHttp2, &ask).await;
        assert_eq!((answer.status.as_u16(), answer.served_by()), (200, "eu"), "{}", ask.method);
    }
    let bodies: Vec<_> = stage.eu.sightings().traffic().into_iter().map(|s| s.body).collect();
    assert_eq!(bodies, [Some(Vec::new()), Some(b"an order".to_vec())], "with its body");
    let metrics = stage.proxy.metrics().await;
    assert_eq!(metrics.sum("bascule_retries_total", &[("service", "portal")]), 2.0);
    let refused = [("provider", "us"), ("outcome", "connect")];
    assert_eq!(metrics.sum("bascule_attempts_total", &refused), 2.0, "both count against it");
}

#[tokio::test]
async fn a_certificate_for_somebody_else_is_never_accepted() {
    let us = FakeUpstream::start("us", Transport::WrongName).await;
    let eu = FakeUpstream::start("eu", Transport::Tls).await;
    let recipe = rarely_probed(Recipe::portal().upstream(&us, "US").upstream(&eu, "SI"));
    let proxy = RunningProxy::start(&recipe).await;
    let answer = proxy.send(Speak::Http1, &Ask::post("/order", "an order")).await;
    assert_eq!((answer.status.as_u16(), answer.served_by()), (200, "eu"));
    assert!(us.sightings().traffic().is_empty(), "nothing was told to a stranger");
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("bascule_attempts_total", &[("outcome", "tls")]), 1.0);
}

#[tokio::test]
async fn a_post_that_may_have_been_acted_on_is_never_repeated() {
    for (transport, act) in [
        (Transport::Plain, Act::Reset),
        (Transport::Tls, Act::Reset),
        (Transport::PlainHttp2, Act::Reset),
        (Transport::Plain, Act::Hang),
        (Transport::Plain, Act::status(500)),
        (Transport::Plain, Act::status(503)),
    ] {
        let stage = stage(transport).await;
        stage.us.behave(Script::green_probes(act.clone()));
        let ask = Ask::post("/order", "an order").header(ID, "order-1");
        let answer = stage.proxy.send(Speak::Http1, &ask).await;
        assert!(answer.status.is_server_error(), "{transport:?} {act:?}: {}", answer.status);
        assert_eq!(stage.us.sightings().by_id().get("order-1"), Some(&1), "{transport:?} {act:?}");
        assert!(stage.eu.sightings().traffic().is_empty(), "{transport:?} {act:?}");
    }
}

#[tokio::test]
async fn a_post_on_a_used_connection_is_not_repeated_once_it_was_read() {
    let stage = stage(Transport::Plain).await;
    let mut session = stage.proxy.session(Speak::Http1).await;
    within("an answer", session.send(&Ask::get("/page"))).await.expect("whole");
    stage.us.behave(Script::green_probes(Act::Hang));
    let ask = Ask::post("/order", "an order").header(ID, "order-1");
    let answer = within("an answer", session.send(&ask)).await.expect("whole");
    assert_eq!(answer.status, 502);
    let seen = stage.us.sightings().traffic();
    assert_eq!(seen[0].connection, seen[1].connection, "it went out on the used connection");
    assert_eq!(seen.len(), 2, "and on no other");
    assert!(stage.eu.sightings().traffic().is_empty());
}

#[tokio::test]
async fn a_get_is_tried_elsewhere_when_its_connection_breaks() {
    for transport in [Transport::Plain, Transport::Tls, Transport::TlsHttp2] {
        for act in [Act::Reset, Act::Hang] {
            let stage = stage(transport).await;
            stage.us.behave(Script::green_probes(act));
            let answer = stage.proxy.get("/page").await;
            assert_eq!((answer.status.as_u16(), answer.served_by()), (200, "eu"), "{transport:?}");
        }
    }
}

#[tokio::test]
async fn a_get_is_tried_elsewhere_for_errors_that_another_provider_may_not_have() {
    let stage = stage(Transport::Plain).await;
    for (status, served_by) in [
        (500, "eu"),
        (502, "eu"),
        (503, "eu"),
        (504, "eu"),
        (520, "eu"),
        (522, "eu"),
        (530, "eu"),
        (501, "us"),
        (505, "us"),
        (404, "us"),
        (429, "us"),
    ] {
        stage.us.behave(Script::green_probes(Act::status(status)));
        let answer = stage.proxy.get("/page").await;
        assert_eq!(answer.served_by(), served_by, "{status}");
    }
}

#[tokio::test]
async fn the_first_upstreams_own_answer_is_given_when_no_retry_succeeds() {
    let stage = stage(Transport::Plain).await;
    stage.us.behave(Script::green_probes(Act::status(502)));
    stage.eu.behave(Script::green_probes(Act::status(500)));
    let answer = stage.proxy.get("/page").await;
    assert_eq!((answer.status.as_u16(), answer.served_by()), (502, "us"));
    stage.eu.close().await;
    let answer = stage.proxy.get("/page").await;
    assert_eq!((answer.status.as_u16(), answer.served_by()), (502, "us"));
}

#[tokio::test]
async fn a_late_answer_of_the_first_upstream_goes_before_a_bad_one_of_the_second() {
    let stage = stage(Transport::Plain).await;
    stage.us.behave(Script::green_probes(Act::HandOver));
    stage.eu.behave(Script::green_probes(Act::status(500)));
    let (answer, ()) = tokio::join!(stage.proxy.get("/page"), async {
        let mut late = stage.us.conversation().await;
        let bad = [("provider", "eu"), ("outcome", "5xx")];
        let is_there = |m: &Metrics| m.sum("bascule_attempts_total", &bad) >= 1.0;
        stage.proxy.metrics_when("the second's answer", is_there).await;
        let said = "HTTP/1.1 502 Said\r\nx-served-by: us\r\ncontent-length: 0\r\n\r\n";
        late.wire.send(said).await.expect("sent");
    });
    assert_eq!((answer.status.as_u16(), answer.served_by()), (502, "us"));
}

#[tokio::test]
async fn a_body_too_large_to_keep_is_not_sent_twice() {
    let stage = Stage::start(Transport::Plain, |recipe| {
        rarely_probed(recipe).service("retry: { methods: [GET, PUT] }")
    })
    .await;
    stage.us.behave(Script::green_probes(Act::status(500)));
    stage.eu.behave(Script::green_probes(Act::Echo));
    let put =
        |size: usize| Ask { body: vec![b'p'; size].into(), ..Ask::new(Method::PUT, "/document") };
    let kept = stage.proxy.send(Speak::Http1, &put(40_000)).await;
    assert_eq!((kept.status.as_u16(), kept.served_by()), (200, "eu"));
    assert!(kept.body == vec![b'p'; 40_000], "the second upstream got the same body");
    let gone = stage.proxy.send(Speak::Http1, &put(200_000)).await;
    assert_eq!((gone.status.as_u16(), gone.served_by()), (500, "us"));
    assert_eq!(stage.eu.sightings().traffic().len(), 1);
}

#[tokio::test]
async fn a_large_body_that_nobody_has_read_yet_may_still_go_elsewhere() {
    let stage = stage(Transport::Plain).await;
    stage.us.close().await;
    stage.eu.behave(Script::green_probes(Act::Echo));
    let body = vec![b'p'; 500_000];
    let answer = stage.proxy.send(Speak::TlsHttp1, &Ask::post("/upload", body.clone())).await;
    assert_eq!((answer.status.as_u16(), answer.served_by()), (200, "eu"));
    assert!(answer.body == body);
}

#[tokio::test]
async fn retries_stay_within_their_budget() {
    let stage = Stage::start(Transport::Plain, |recipe| {
        rarely_probed(recipe)
            .service("failover: { mode: observe }")
            .service("retry: { budget: 10%, min_per_second: 1 }")
    })
    .await;
    stage.us.behave(Script::green_probes(Act::status(500)));
    let mut session = stage.proxy.session(Speak::Http1).await;
    let mut statuses = Vec::new();
    for _ in 0..200 {
        let answer = within("an answer", session.send(&Ask::get("/page"))).await.expect("whole");
        statuses.push(answer.status.as_u16());
    }
    let retried = stage.eu.sightings().traffic().len();
    // A tenth of 200 requests, and one for each of the ten seconds that a credit lives; whatever
    // time the requests took beyond that adds one a second.
    assert!((1..=40).contains(&retried), "{retried} retries of 200 requests");
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), retried);
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 200 - retried);
    let metrics = stage.proxy.metrics().await;
    let portal = [("service", "portal")];
    assert_eq!(metrics.sum("bascule_retries_total", &portal), retried as f64);
    assert!(metrics.sum("bascule_retry_budget_exhausted_total", &portal) > 0.0);
}

#[tokio::test]
async fn no_client_sees_an_upstream_that_closes_idle_connections() {
    let stage = stage(Transport::Plain).await;
    stage.us.behave(Script::green_probes(Act::ServeAndLeave));
    let mut session = stage.proxy.session(Speak::Http1).await;
    for number in 0..100 {
        let answer = within("an answer", session.send(&Ask::get("/page"))).await.expect("whole");
        assert_eq!((answer.status.as_u16(), answer.served_by()), (200, "us"), "request {number}");
    }
    let metrics = stage.proxy.metrics().await;
    let failed = metrics.sum("bascule_attempts_total", &[("outcome", "broke_off")]);
    assert_eq!(failed, 0.0, "the everyday race is nobody's failure");
    assert_eq!(metrics.sum("bascule_retries_total", &[]), 0.0, "nor a retry at another provider");
}

#[tokio::test]
async fn a_client_that_goes_away_counts_against_nobody() {
    let stage = stage(Transport::Plain).await;
    stage.us.behave(Script::green_probes(Act::HandOver));
    for number in 0..10 {
        let mut client = stage.proxy.wire().await;
        let host = crate::harness::PORTAL;
        let request = format!("GET /page-{number} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        client.send(request).await.expect("sent");
        let mut talk = stage.us.conversation().await;
        client.reset();
        assert!(within("the attempt to end", talk.wire.is_ended()).await, "it was cancelled");
    }
    let gone = [("provider", "us"), ("outcome", "client_gone")];
    let metrics = stage
        .proxy
        .metrics_when("ten clients gone", |m| m.sum("bascule_attempts_total", &gone) >= 10.0)
        .await;
    assert_eq!(metrics.sum("bascule_attempts_total", &[("service", "portal")]), 10.0);
    assert_eq!(metrics.sum("bascule_requests_in_flight", &[("service", "portal")]), 0.0);
}

#[tokio::test]
async fn a_get_does_not_wait_for_an_upstream_that_is_late() {
    for transport in [Transport::Plain, Transport::TlsHttp2] {
        let stage = stage(transport).await;
        stage.us.behave(Script::green_probes(Act::Silent));
        let answer = stage.proxy.get("/page").await;
        assert_eq!((answer.status.as_u16(), answer.served_by()), (200, "eu"), "{transport:?}");
        let metrics = stage.proxy.metrics().await;
        let late = [("provider", "us"), ("outcome", "late")];
        assert_eq!(metrics.sum("bascule_attempts_total", &late), 1.0, "{transport:?}");
    }
}

#[tokio::test]
async fn a_post_waits_for_its_one_upstream_as_long_as_the_file_says() {
    let stage = Stage::start(Transport::Plain, |recipe| {
        rarely_probed(recipe).service("timeouts: { head: 1500ms }")
    })
    .await;
    stage.us.behave(Script::green_probes(Act::Silent));
    let answer = stage.proxy.send(Speak::Http1, &Ask::post("/order", "an order")).await;
    assert_eq!(answer.status, 504);
    assert!(stage.eu.sightings().traffic().is_empty());
}

#[tokio::test]
async fn a_refused_stream_is_tried_elsewhere_whatever_the_method() {
    let stage = stage(Transport::PlainHttp2).await;
    stage.us.behave(Script::green_probes(Act::Refuse));
    let answer = stage.proxy.send(Speak::Http1, &Ask::post("/order", "an order")).await;
    assert_eq!((answer.status.as_u16(), answer.served_by()), (200, "eu"));
}
