//! A request reaches its service, and both directions carry what they should.

use bytes::Bytes;
use http::{Method, Request, Version};
use tokio::task::JoinSet;

use crate::harness::client::{Ask, Speak, tls};
use crate::harness::metrics::Metrics;
use crate::harness::proxy::{RunningProxy, folder};
use crate::harness::recipe::Recipe;
use crate::harness::stage::Stage;
use crate::harness::upstream::{Act, FakeUpstream, Script, Transport};
use crate::harness::wire::find;
use crate::harness::{PORTAL, PROBE, within};

#[tokio::test]
async fn host_and_prefix_choose_the_service() {
    let portal = FakeUpstream::start("portal-edge", Transport::Plain).await;
    let api = FakeUpstream::start("api-edge", Transport::Plain).await;
    let wild = FakeUpstream::start("wild-edge", Transport::Plain).await;
    let recipe = Recipe::portal()
        .upstream(&portal, "SI")
        .beside("api", &api, &format!("{{ host: {PORTAL}, prefix: /api/ }}"))
        .beside("wild", &wild, "{ host: \"*.portal.example\" }");
    let proxy = RunningProxy::start(&recipe).await;
    let table = [
        ("the host's own route", PORTAL, "/", "portal-edge"),
        ("the longest prefix", PORTAL, "/api/orders?q=1", "api-edge"),
        ("a prefix ends at a segment", PORTAL, "/apix", "portal-edge"),
        ("a host in capitals", "WWW.Portal.Example", "/", "portal-edge"),
        ("a host with its port", "www.portal.example:8443", "/", "portal-edge"),
        ("a host with the root's dot", "www.portal.example.", "/", "portal-edge"),
        ("a wildcard takes one label", "shop.portal.example", "/api/", "wild-edge"),
    ];
    for (shows, host, target, served_by) in table {
        for speak in Speak::ALL {
            let answer = proxy.send(speak, &Ask::get(target).host(host)).await;
            assert_eq!(answer.served_by(), served_by, "{shows}, {speak:?}: {answer:?}");
        }
    }
    let targets: Vec<String> =
        api.sightings().traffic().into_iter().map(|sighting| sighting.target).collect();
    assert_eq!(targets, vec!["/api/orders?q=1"; Speak::ALL.len()], "path and query pass unchanged");
}

#[tokio::test]
async fn a_request_without_a_route_is_not_found_and_reaches_nobody() {
    let stage = Stage::plain().await;
    for speak in Speak::ALL {
        let answer = stage.proxy.send(speak, &Ask::get("/").host("other.example")).await;
        assert_eq!(answer.status, 404, "{speak:?}");
    }
    assert_eq!(stage.us.sightings().traffic().len() + stage.eu.sightings().traffic().len(), 0);
    let metrics = stage.proxy.metrics().await;
    let counted = metrics.sum("bascule_requests_total", &[("service", "none")]);
    assert_eq!(counted, Speak::ALL.len() as f64, "counted under no service");
}

#[tokio::test]
async fn every_protocol_of_a_client_meets_every_protocol_of_an_upstream() {
    for transport in [Transport::Plain, Transport::Tls, Transport::PlainHttp2, Transport::TlsHttp2]
    {
        let stage = Stage::start(transport, |recipe| recipe).await;
        stage.us.behave(Script::all(Act::Echo));
        for speak in Speak::ALL {
            let body = vec![b'b'; 300_000];
            let answer = stage.proxy.send(speak, &Ask::post("/echo", body.clone())).await;
            assert_eq!((answer.status.as_u16(), answer.served_by()), (200, "us"), "{transport:?}");
            assert!(answer.body == body, "{speak:?} to {transport:?} changed the body");
            let version = match speak {
                Speak::Http1 | Speak::TlsHttp1 => Version::HTTP_11,
                Speak::Http2 | Speak::TlsHttp2 => Version::HTTP_2,
            };
            assert_eq!(answer.version, version);
        }
        let connections = stage.us.sightings().traffic().iter().map(|s| s.connection).max();
        assert!(connections.is_some(), "somebody was asked");
    }
}

#[tokio::test]
async fn an_answer_flows_before_it_ends() {
    let stage = Stage::plain().await;
    stage.us.behave(Script::green_probes(Act::HandOver));
    let mut client = stage.proxy.wire().await;
    client.send(format!("GET /feed HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n")).await.expect("sent");
    let mut talk = stage.us.conversation().await;
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    talk.wire.send(format!("{head}5\r\nfirst\r\n")).await.expect("sent");
    within("the first part", client.until(b"first")).await.expect("arrives");
    // Only now that the client has the first part is there a second.
    talk.wire.send("6\r\nsecond\r\n0\r\n\r\n").await.expect("sent");
    within("the second part", client.until(b"second")).await.expect("arrives");
}

#[tokio::test]
async fn a_request_body_flows_before_it_ends() {
    let stage = Stage::plain().await;
    stage.us.behave(Script::green_probes(Act::HandOver));
    let mut client = stage.proxy.wire().await;
    let head = format!("POST /upload HTTP/1.1\r\nHost: {PORTAL}\r\nTransfer-Encoding: chunked\r\n");
    client.send(format!("{head}\r\n5\r\nfirst\r\n")).await.expect("sent");
    let mut talk = stage.us.conversation().await;
    within("the first part", talk.wire.until(b"first")).await.expect("arrives");
    client.send("6\r\nsecond\r\n0\r\n\r\n").await.expect("sent");
    within("the second part", talk.wire.until(b"second")).await.expect("arrives");
    talk.wire.send("HTTP/1.1 204 No Content\r\n\r\n").await.expect("sent");
    let reply = within("the answer", client.reply()).await.expect("whole");
    assert_eq!(reply.head.status(), 204);
}

#[tokio::test]
async fn both_directions_of_an_http2_stream_flow_before_they_end() {
    let stage = Stage::plain().await;
    stage.us.behave(Script::green_probes(Act::HandOver));
    let stream = tls(stage.proxy.tls, PORTAL, &["h2"]).await.expect("a connection");
    let (client, connection) = h2::client::handshake(stream).await.expect("a handshake");
    let mut driver = JoinSet::new();
    driver.spawn(async move { connection.await.unwrap_or(()) });
    let request = Request::post(format!("https://{PORTAL}/both")).body(()).expect("valid");
    let mut client = client.ready().await.expect("ready");
    let (response, mut up) = client.send_request(request, false).expect("sent");
    up.send_data(Bytes::from_static(b"first"), false).expect("sent");
    let mut talk = stage.us.conversation().await;
    within("the first part", talk.wire.until(b"first")).await.expect("arrives");
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n";
    talk.wire.send(format!("{head}6\r\nanswer\r\n")).await.expect("sent");
    let mut body = within("the head", response).await.expect("a head").into_body();
    let data = within("the answer's first part", body.data()).await.expect("some").expect("data");
    assert_eq!(&data[..], b"answer");
    // The request still goes on while its answer is being read.
    up.send_data(Bytes::from_static(b"second"), true).expect("sent");
    within("the second part", talk.wire.until(b"second")).await.expect("arrives");
    talk.wire.send("0\r\nx-sum: 6\r\n\r\n").await.expect("sent");
    let end = within("the end", body.data()).await;
    assert!(end.is_none(), "no more data: {end:?}");
    let trailers = within("trailers", body.trailers()).await.expect("whole").expect("some");
    assert_eq!(trailers["x-sum"], "6");
}

#[tokio::test]
async fn an_upstream_learns_who_asked_and_cannot_be_told_otherwise() {
    let stage = Stage::plain().await;
    let ask = Ask::get("/who")
        .header("x-forwarded-for", "203.0.113.7")
        .header("x-forwarded-proto", "gopher")
        .header("x-forwarded-host", "evil.example")
        .header("forwarded", "for=203.0.113.7")
        .header("x-request-id", "mine")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    stage.proxy.send(Speak::TlsHttp1, &ask).await;
    let seen = stage.us.sightings().traffic().remove(0);
    assert_eq!(seen.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.get("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.get("x-forwarded-host"), Some(PORTAL));
    let forwarded = seen.get("forwarded").expect("Forwarded is added");
    for part in ["for=127.0.0.1", "proto=https", &format!("host={PORTAL}")] {
        assert!(forwarded.contains(part), "{part} in {forwarded}");
    }
    let request_id = seen.get("x-request-id").expect("a request id is given");
    assert!(request_id != "mine" && request_id.len() >= 8, "a stranger's id is replaced");
    let traceparent = seen.get("traceparent").expect("passed on");
    assert!(traceparent.contains("0af7651916cd43dd8448eb211c80319c"), "the trace goes on");
    let via = seen.get("via").expect("Via is added");
    assert!(via.starts_with("1.1 "), "the protocol received: {via}");
    assert_eq!(seen.get("host"), Some(PORTAL), "the public host is the default");
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let stage =
        Stage::start(Transport::Plain, |recipe| recipe.top("trusted_proxies: [127.0.0.0/8]")).await;
    let ask = Ask::get("/who")
        .header("x-forwarded-for", "203.0.113.7")
        .header("x-forwarded-proto", "https")
        .header("x-request-id", "theirs-0001");
    stage.proxy.send(Speak::Http1, &ask).await;
    let seen = stage.us.sightings().traffic().remove(0);
    assert_eq!(seen.get("x-forwarded-for"), Some("203.0.113.7, 127.0.0.1"));
    assert_eq!(seen.get("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.get("x-request-id"), Some("theirs-0001"));
}

#[tokio::test]
async fn what_belongs_to_one_connection_stays_on_it_both_ways() {
    let stage = Stage::plain().await;
    let answer = vec![
        ("connection", "x-upstream-hop"),
        ("x-upstream-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("x-end-to-end", "2"),
    ];
    stage.us.behave(Script::green_probes(Act::Answer(200, answer)));
    let ask = Ask::get("/hops")
        .header("connection", "x-client-hop, x-forwarded-for")
        .header("x-client-hop", "1")
        .header("keep-alive", "timeout=5")
        .header("te", "gzip")
        .header("proxy-authorization", "Basic x")
        .header("x-end-to-end", "2");
    let answer = stage.proxy.send(Speak::Http1, &ask).await;
    let seen = stage.us.sightings().traffic().remove(0);
    for hop in ["x-client-hop", "keep-alive", "te", "proxy-authorization"] {
        assert_eq!(seen.get(hop), None, "towards the upstream");
    }
    assert!(find(&seen.headers, "x-forwarded-for").is_some(), "ours cannot be named away");
    assert_eq!(seen.get("x-end-to-end"), Some("2"));
    for hop in ["x-upstream-hop", "keep-alive", "proxy-authenticate"] {
        assert_eq!(answer.header(hop), None, "towards the client");
    }
    assert_eq!(answer.header("x-end-to-end"), Some("2"));
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_is_told_to_go_on() {
    let stage = Stage::plain().await;
    stage.us.behave(Script::green_probes(Act::Echo));
    let mut client = stage.proxy.wire().await;
    let head = format!("POST /big HTTP/1.1\r\nHost: {PORTAL}\r\nContent-Length: 4\r\n");
    client.send(format!("{head}Expect: 100-continue\r\n\r\n")).await.expect("sent");
    let go_on = within("100 Continue", client.head()).await.expect("a head");
    assert_eq!(go_on.status(), 100);
    client.send("body").await.expect("sent");
    let reply = within("the answer", client.reply()).await.expect("whole");
    assert_eq!((reply.head.status(), &reply.body[..]), (200, &b"body"[..]));
}

#[tokio::test]
async fn an_answer_to_head_has_no_body_and_keeps_its_length() {
    let stage = Stage::plain().await;
    let mut client = stage.proxy.wire().await;
    let head = format!("HEAD /page HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n");
    client.send(format!("{head}{}", head.replace("HEAD", "GET"))).await.expect("sent");
    let first = within("the first head", client.head()).await.expect("a head");
    assert_eq!((first.status(), first.get("content-length")), (200, Some("7")));
    let methods: Vec<_> = stage.us.sightings().traffic().into_iter().map(|s| s.method).collect();
    assert_eq!(methods[0], "HEAD", "passed on as it is");
    // Were there a body, it would stand where the second answer's head is read.
    let second = within("the second answer", client.reply()).await.expect("whole");
    assert_eq!((second.head.status(), &second.body[..]), (200, &b"served\n"[..]));
}

#[tokio::test]
async fn connections_to_an_upstream_are_used_again() {
    let stage = Stage::plain().await;
    let mut session = stage.proxy.session(Speak::Http1).await;
    for _ in 0..20 {
        within("an answer", session.send(&Ask::get("/page"))).await.expect("whole");
    }
    let connections: std::collections::BTreeSet<usize> =
        stage.us.sightings().traffic().iter().map(|sighting| sighting.connection).collect();
    assert_eq!(connections.len(), 1, "one client connection, one worker, one upstream connection");
}

#[tokio::test]
async fn an_answer_before_the_end_of_its_request_makes_nobody_else_wait() {
    let stage = Stage::start(Transport::Plain, |recipe| {
        recipe.probe(&format!("{{ path: {PROBE}, interval: 1h, timeout: 1s }}"))
    })
    .await;
    stage.us.behave(Script::green_probes(Act::HandOver));
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut client = stage.proxy.wire().await;
        let head = format!("POST /up HTTP/1.1\r\nHost: {PORTAL}\r\nContent-Length: 9\r\n\r\nx");
        client.send(head).await.expect("sent");
        let mut talk = stage.us.conversation().await;
        talk.wire.send("HTTP/1.1 413 Said\r\ncontent-length: 0\r\n\r\n").await.expect("sent");
        assert_eq!(within("a head", client.head()).await.expect("a head").status(), 413);
        held.push((client, talk));
    }
    stage.us.behave(Script::all(Act::Serve));
    for _ in 0..8 {
        assert_eq!(stage.proxy.get("/page").await.served_by(), "us");
    }
    let late = stage.proxy.metrics().await.sum("bascule_attempts_total", &[("outcome", "late")]);
    assert_eq!(late, 0.0, "nobody waited behind an unfinished upload");
}

#[tokio::test]
async fn the_body_of_a_get_passes_however_it_is_framed() {
    for transport in [Transport::Plain, Transport::PlainHttp2] {
        let stage = Stage::start(transport, |recipe| recipe).await;
        stage.us.behave(Script::green_probes(Act::Echo));
        for framed in [
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "Content-Length: 5\r\n\r\nhello",
        ] {
            let mut client = stage.proxy.wire().await;
            let request = format!("GET /search HTTP/1.1\r\nHost: {PORTAL}\r\n{framed}");
            client.send(request).await.expect("sent");
            let reply = within("the answer", client.reply()).await.expect("whole");
            assert_eq!(reply.body, b"hello", "{framed:?} over {transport:?}");
        }
    }
}

#[tokio::test]
async fn names_of_a_clients_making_do_not_keep_connections_from_being_used_again() {
    for (transport, names) in [(Transport::TlsHttp2, 40), (Transport::Tls, 260)] {
        let wild = "{ host: \"*.portal.example\" }";
        let stage = Stage::start(transport, |recipe| recipe.route(wild)).await;
        let mut session = stage.proxy.session(Speak::Http1).await;
        let asked = (0..names).map(|name| format!("any-{name}.portal.example"));
        for host in asked.chain([PORTAL.to_owned(), PORTAL.to_owned()]) {
            let ask = Ask::get("/page").host(&host);
            let answer = within("an answer", session.send(&ask)).await.expect("whole");
            assert_eq!(answer.served_by(), "us");
        }
        let used: Vec<_> = stage.us.sightings().traffic().iter().map(|s| s.connection).collect();
        assert_eq!(used[names], used[names + 1], "over {transport:?}");
    }
}

/// A proxy whose `us` has its origin at the proxy itself, and that has the upstreams of `recipe`.
async fn looped(stage: &Stage, recipe: Recipe) {
    let here = format!("http://{}", stage.proxy.plain);
    let generation = |m: &Metrics| m.sum("bascule_config_generation", &[]);
    let before = generation(&stage.proxy.metrics().await);
    stage.proxy.rename_over(&recipe.yaml().replace(&stage.us.url(), &here));
    stage.proxy.metrics_when("the reload", |metrics| generation(metrics) > before).await;
}

const LOOPS: (&str, &[(&str, &str)]) = ("bascule_requests_rejected_total", &[("reason", "loop")]);

#[tokio::test]
async fn the_fallback_serves_when_a_providers_origin_points_at_us() {
    let stage = Stage::plain().await;
    let recipe = Recipe::portal().upstream(&stage.us, "US").upstream(&stage.eu, "SI");
    looped(&stage, recipe).await;
    let answer = stage.proxy.get("/page").await;
    assert_eq!((answer.status.as_u16(), answer.served_by()), (200, "eu"));
    assert!(stage.proxy.metrics().await.sum(LOOPS.0, LOOPS.1) >= 1.0);
}

#[tokio::test]
async fn a_provider_whose_origin_points_at_us_is_named() {
    // Nobody else could answer, so whatever the detector has seen by now, the request goes there.
    let stage = Stage::plain().await;
    looped(&stage, Recipe::portal().upstream(&stage.us, "US")).await;
    let post = stage.proxy.send(Speak::Http1, &Ask::post("/order", "x")).await;
    assert_eq!(post.status.as_u16(), 508);
    assert!(post.text().contains("the origin set at us points here"), "{}", post.text());
    assert!(stage.proxy.metrics().await.sum(LOOPS.0, LOOPS.1) >= 1.0);
}

#[tokio::test]
async fn a_redirect_listener_sends_published_hosts_to_tls_and_nobody_to_an_upstream() {
    let eu = FakeUpstream::start("eu", Transport::Plain).await;
    let recipe = Recipe::portal().upstream(&eu, "SI");
    let cleartext = "  - address: 127.0.0.1:0\n";
    let redirecting = "  - { address: 127.0.0.1:0, redirect: https }\n";
    let yaml = recipe.yaml().replace(cleartext, redirecting);
    let proxy = RunningProxy::start_with(folder(), &yaml).await;
    for (host, target, status, location) in [
        (PORTAL, "/a/%2e?b=c", 308, Some("https://www.portal.example/a/%2e?b=c")),
        ("www.portal.example:8080", "/", 308, Some("https://www.portal.example/")),
        ("unpublished.example", "/", 404, None),
    ] {
        let ask = Ask::post(target, "x").host(host);
        let answer = proxy.send(Speak::Http1, &ask).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("location")),
            (status, location),
            "{host}"
        );
    }
    assert!(eu.sightings().traffic().is_empty());
}

#[tokio::test]
async fn an_http2_upstream_hears_that_the_client_takes_trailers_and_an_http1_one_does_not() {
    for (transport, expected) in
        [(Transport::PlainHttp2, Some("trailers")), (Transport::Plain, None)]
    {
        let stage = Stage::start(transport, |recipe| recipe).await;
        let ask = Ask::get("/call").header("te", "trailers");
        stage.proxy.send(Speak::Http2, &ask).await;
        let seen = stage.us.sightings().traffic().remove(0);
        assert_eq!(seen.get("te"), expected, "{transport:?}");
    }
}

#[tokio::test]
async fn an_options_that_may_go_no_further_is_answered_here() {
    let stage = Stage::plain().await;
    for (left, status, seen) in [("0", 204, None), ("3", 200, Some("2"))] {
        let ask = Ask::new(Method::OPTIONS, "/page").header("max-forwards", left);
        assert_eq!(stage.proxy.send(Speak::Http1, &ask).await.status.as_u16(), status, "{left}");
        let traffic = stage.us.sightings().traffic();
        assert_eq!(traffic.last().and_then(|sighting| sighting.get("max-forwards")), seen);
    }
}

#[tokio::test]
async fn each_upstream_gets_the_fields_that_are_its_own_and_no_other_does() {
    let us = FakeUpstream::start("us", Transport::Plain).await;
    let eu = FakeUpstream::start("eu", Transport::PlainHttp2).await;
    let keys = ", headers: { set: { X-Edge-Key: \"${file:edge.key}\" }, \
                remove: [X-Debug, X-Forwarded-For, Forwarded] }";
    let recipe = Recipe::portal().upstream_with(&us, "US", keys).upstream(&eu, "SI");
    let folder = folder();
    std::fs::write(folder.path().join("edge.key"), "s3cret\n").expect("ours");
    let proxy = RunningProxy::start_with(folder, &recipe.yaml()).await;
    let ask = Ask::get("/page").header("X-Debug", "1").header("x-edge-key", "forged");
    assert_eq!(proxy.send(Speak::Http1, &ask).await.served_by(), "us");
    let seen = us.sightings().traffic().pop().expect("it arrived");
    assert_eq!(seen.get("x-edge-key"), Some("s3cret"));
    for removed in ["x-debug", "x-forwarded-for", "forwarded"] {
        assert_eq!(seen.get(removed), None, "{removed}");
    }
    let probed = [("provider", "us")];
    proxy.metrics_when("a probe", |m| m.sum("bascule_probes_total", &probed) >= 1.0).await;
    let probe = us.sightings().probes().pop().expect("it is probed");
    assert_eq!(probe.get("x-edge-key"), Some("s3cret"), "probes are let in too");
    us.behave(Script::green_probes(Act::Reset));
    assert_eq!(proxy.send(Speak::Http1, &ask).await.served_by(), "eu");
    let seen = eu.sightings().traffic().pop().expect("it arrived");
    assert_eq!(seen.get("x-debug"), Some("1"), "only the first was not to see it");
    assert_eq!(seen.get("x-edge-key"), Some("forged"), "and only the first is told the key");
    assert!(!proxy.log.text().contains("s3cret"));
}
