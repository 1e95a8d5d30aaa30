//! What clients cannot take, what never reaches an upstream, and how the process ends.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::client::{Ask, Session, Speak};
use crate::harness::metrics::Metrics;
use crate::harness::stage::Stage;
use crate::harness::upstream::{Act, Conversation, Script, Transport};
use crate::harness::wire::Wire;
use crate::harness::{PORTAL, within};

async fn stage(limits: &str) -> Stage {
    Stage::start(Transport::Plain, |recipe| recipe.top(&format!("limits: {limits}"))).await
}

#[tokio::test]
async fn a_head_larger_than_the_limit_is_refused() {
    let stage = stage("{ max_header_bytes: 8KiB }").await;
    let mut client = stage.proxy.wire().await;
    let filler = "x".repeat(20_000);
    let head = format!("GET / HTTP/1.1\r\nHost: {PORTAL}\r\nX-Filler: {filler}\r\n\r\n");
    client.send(head).await.expect("sent");
    let reply = within("the refusal", client.reply()).await.expect("whole");
    assert_eq!(reply.head.status(), 431);
    assert!(stage.us.sightings().traffic().is_empty());
    assert_eq!(stage.proxy.get("/page").await.served_by(), "us", "others are served");
}

#[tokio::test]
async fn an_announced_body_larger_than_the_limit_is_refused_before_it_is_read() {
    let stage = stage("{ max_request_body: 1KiB }").await;
    for speak in Speak::ALL {
        let answer = stage.proxy.send(speak, &Ask::post("/upload", vec![b'x'; 2_000])).await;
        assert_eq!(answer.status, 413, "{speak:?}");
    }
    assert!(stage.us.sightings().traffic().is_empty());
    let metrics = stage.proxy.metrics().await;
    let rejected = metrics.sum("bascule_requests_rejected_total", &[]);
    assert_eq!(rejected, Speak::ALL.len() as f64);
}

#[tokio::test]
async fn a_body_that_grows_past_the_limit_is_cut_off_and_counts_against_nobody() {
    let stage = stage("{ max_request_body: 1KiB }").await;
    let mut client = stage.proxy.wire().await;
    let head = format!("POST /up HTTP/1.1\r\nHost: {PORTAL}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("800\r\n{}\r\n0\r\n\r\n", "x".repeat(0x800));
    client.send(format!("{head}{chunk}")).await.expect("sent");
    let reply = within("the refusal", client.reply()).await.expect("whole");
    assert_eq!(reply.head.status(), 413);
    let whole = stage.us.sightings().traffic().into_iter().filter(|s| s.body.is_some()).count();
    assert_eq!(whole, 0, "no upstream may take a part for the whole");
    let own = [("provider", "us"), ("outcome", "broke_off")];
    assert_eq!(stage.proxy.metrics().await.sum("bascule_attempts_total", &own), 0.0);
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_is_given_up() {
    let stage = stage("{ header_read_timeout: 500ms }").await;
    for start in ["", "GET / HT", &format!("GET / HTTP/1.1\r\nHost: {PORTAL}\r\n")] {
        let mut client = stage.proxy.wire().await;
        client.send(start).await.expect("sent");
        let said = within("the end of the connection", client.rest()).await.unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "after {start:?}: {said}");
    }
    let stream = TcpStream::connect(stage.proxy.tls).await.expect("a connection");
    let mut silent = Wire::new(stream);
    assert!(within("a silent TLS client to be dropped", silent.is_ended()).await);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let stage = stage("{ idle_timeout: 1s }").await;
    let mut client = stage.proxy.wire().await;
    client.send(format!("GET / HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n")).await.expect("sent");
    let reply = within("the answer", client.reply()).await.expect("whole");
    assert_eq!(reply.head.status(), 200);
    assert!(within("the end of the connection", client.is_ended()).await);
}

#[tokio::test]
async fn an_idle_http2_connection_is_told_that_no_stream_was_lost() {
    let stage = stage("{ idle_timeout: 1s }").await;
    let mut client = stage.proxy.wire().await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("our settings");
    // GET http://…/ as one frame: a head that ends its stream, with indexed fields but the host.
    let length = u8::try_from(5 + PORTAL.len()).expect("short");
    let mut head = vec![0, 0, length, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, length - 5];
    head.extend_from_slice(PORTAL.as_bytes());
    client.send(head).await.expect("sent");
    let said = within("the end of the connection", client.rest()).await.expect("closed cleanly");
    let mut kinds = Vec::new();
    let mut frames = said.as_slice();
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = frames {
        kinds.push(*kind);
        frames = &rest[usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c)..];
    }
    assert!(kinds.contains(&7), "no GOAWAY among the frames {kinds:?}");
}

/// A client that asks, closes its half, and an upstream that has its request.
async fn half_closed(stage: &Stage, ask: &str) -> (TcpStream, Conversation) {
    stage.us.behave(Script::green_probes(Act::HandOver));
    let mut client = TcpStream::connect(stage.proxy.plain).await.expect("a connection");
    let head = format!("{ask} HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n");
    client.write_all(head.as_bytes()).await.expect("sent");
    let talk = stage.us.conversation().await;
    client.shutdown().await.expect("its half");
    (client, talk)
}

#[tokio::test]
async fn a_client_that_closes_its_half_before_its_answer_gets_it() {
    let stage = Stage::plain().await;
    let (mut client, mut talk) = half_closed(&stage, "GET /feed").await;
    talk.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("sent");
    let mut said = Vec::new();
    within("the end", client.read_to_end(&mut said)).await.expect("a clean end");
    let said = String::from_utf8_lossy(&said);
    assert!(said.starts_with("HTTP/1.1 200 OK") && said.ends_with("\r\n\r\nok"), "{said}");
}

#[tokio::test]
async fn a_client_that_closes_its_half_behind_an_upload_gets_its_answer() {
    let stage = Stage::plain().await;
    stage.us.behave(Script::green_probes(Act::Echo));
    let body = "x".repeat(50_000);
    for framed in [
        format!("Content-Length: {}\r\n\r\n{body}", body.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
    ] {
        let mut client = TcpStream::connect(stage.proxy.plain).await.expect("a connection");
        let ask = format!("POST /order HTTP/1.1\r\nHost: {PORTAL}\r\n{framed}");
        client.write_all(ask.as_bytes()).await.expect("sent");
        client.shutdown().await.expect("its half");
        let mut said = Vec::new();
        within("the end", client.read_to_end(&mut said)).await.expect("a clean end");
        assert!(said.starts_with(b"HTTP/1.1 200 ") && said.ends_with(body.as_bytes()), "{ask:.80}");
    }
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_is_read_while_its_answer_waits() {
    const LENGTH: usize = 16 << 20;
    let stage = Stage::plain().await;
    stage.us.behave(Script::green_probes(Act::HandOver));
    let mut client = stage.proxy.wire().await;
    let head = format!("POST /turn HTTP/1.1\r\nHost: {PORTAL}\r\nContent-Length: {LENGTH}\r\n\r\n");
    client.send(&head).await.expect("sent");
    let talk = stage.us.conversation().await;
    let upstream = async {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
        // All of the answer, while nothing of the body has come: it fills every buffer on its way.
        let (mut from, mut to) = tokio::io::split(talk.wire.into_io());
        let answer = async {
            to.write_all(head.as_bytes()).await?;
            to.write_all(&vec![b'y'; LENGTH]).await
        };
        let mut body = vec![0; LENGTH];
        let (answered, read) = tokio::join!(answer, from.read_exact(&mut body));
        answered.and(read.map(|_| ()))
    };
    let asking = async {
        client.send(vec![b'x'; LENGTH]).await.expect("all of it is taken");
        client.reply().await.expect("whole")
    };
    let (served, reply) = within("both ways", async { tokio::join!(upstream, asking) }).await;
    served.expect("the upstream got and gave all");
    assert_eq!((reply.head.status(), reply.body.len()), (200, LENGTH));
}

#[tokio::test]
async fn a_large_answer_reaches_a_client_that_has_closed_its_half_to_the_last_byte() {
    const LENGTH: usize = 16 << 20;
    let stage = Stage::plain().await;
    let (mut client, mut talk) = half_closed(&stage, "GET /feed").await;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
    let answer = [head.into_bytes(), vec![b'x'; LENGTH]].concat();
    let mut said = Vec::new();
    let both = async { tokio::join!(talk.wire.send(answer), client.read_to_end(&mut said)) };
    let (sent, read) = within("the whole answer", both).await;
    sent.expect("sent");
    read.expect("a clean end");
    assert!(said.len() > LENGTH, "only {} bytes", said.len());
}

#[tokio::test]
async fn a_client_that_closes_its_half_and_gets_nothing_is_taken_for_gone() {
    let stage = Stage::plain().await;
    let (mut client, mut talk) = half_closed(&stage, "DELETE /feed").await;
    assert!(within("the upstream to be let go", talk.wire.is_ended()).await);
    let mut said = Vec::new();
    within("the end", client.read_to_end(&mut said)).await.ok();
    assert!(said.is_empty(), "{said:?}");
    let failed = stage.proxy.metrics().await.sum("bascule_failovers_total", &[]);
    assert_eq!(failed, 0.0, "nobody is blamed for a client that leaves");
}

#[tokio::test]
async fn a_ping_on_an_idle_http2_connection_is_not_taken_for_a_slow_head() {
    let stage = stage("{ idle_timeout: 1s, header_read_timeout: 200ms }").await;
    let stream = TcpStream::connect(stage.proxy.plain).await.expect("a connection");
    let (client, mut connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let mut pings = connection.ping_pong().expect("the first to ask");
    let mut ended = JoinSet::new();
    ended.spawn(connection);
    let mut client = client.ready().await.expect("room for a stream");
    let request = http::Request::get(format!("http://{PORTAL}/page")).body(()).expect("a request");
    let (answer, _) = client.send_request(request, true).expect("sent");
    assert_eq!(within("the answer", answer).await.expect("a head").status(), 200);
    within("the pong", pings.ping(h2::Ping::opaque())).await.expect("answered");
    within("the end of the connection", ended.join_next()).await.expect("it was there").ok();
    let slow = [("reason", "slow_head")];
    let slow = stage.proxy.metrics().await.sum("bascule_requests_rejected_total", &slow);
    assert_eq!(slow, 0.0, "it was idle and nothing else");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once_and_counted() {
    let stage = stage("{ max_connections: 4 }").await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut session = stage.proxy.session(Speak::Http1).await;
        within("an answer", session.send(&Ask::get("/page"))).await.expect("whole");
        held.push(session);
    }
    let mut fifth = stage.proxy.wire().await;
    assert!(within("the fifth to be closed", fifth.is_ended()).await);
    let metrics = stage.proxy.metrics().await;
    assert!(metrics.sum("bascule_connections_rejected_total", &[]) >= 1.0);
    for session in &mut held {
        within("an answer", session.send(&Ask::get("/page"))).await.expect("the first four go on");
    }
    held.pop();
    let room = async {
        loop {
            let session = Session::open(Speak::Http1, stage.proxy.plain, PORTAL).await;
            let Ok(mut session) = session else { continue };
            if session.send(&Ask::get("/page")).await.is_ok() {
                return;
            }
        }
    };
    within("room for another", room).await;
}

#[tokio::test]
async fn without_a_descriptor_left_no_provider_is_blamed() {
    let stage = stage("{ idle_timeout: 1m }").await;
    let mut session = stage.proxy.session(Speak::Http1).await;
    stage.proxy.metrics_when("both probed", |m| m.sum("bascule_probes_total", &[]) >= 2.0).await;
    stage.proxy.allow_descriptors(3);
    for page in ["/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h", "/i", "/j"] {
        let answer = within("an answer", session.send(&Ask::get(page))).await.expect("whole");
        assert_eq!(answer.status, 502);
    }
    stage.proxy.allow_descriptors(1024);
    assert_eq!(stage.proxy.get("/page").await.served_by(), "us", "nobody was left for it");
    let metrics = stage.proxy.metrics().await;
    assert!(metrics.sum("bascule_attempts_total", &[("outcome", "own_limit")]) >= 10.0);
    assert_eq!(metrics.sum("bascule_attempts_total", &[("outcome", "connect")]), 0.0);
    let ejected = [("health", "ejected")];
    assert_eq!(metrics.sum("bascule_upstream_health", &ejected), 0.0);
}

#[tokio::test]
async fn what_two_parties_could_read_differently_reaches_no_upstream() {
    let stage = Stage::plain().await;
    let host = format!("Host: {PORTAL}\r\n");
    let table = [
        ("no Host", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("two Hosts", format!("GET / HTTP/1.1\r\n{host}{host}\r\n")),
        ("a Host that is none", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned()),
        (
            "two lengths",
            format!("POST / HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 2\r\n\r\nx"),
        ),
        ("no length", format!("POST / HTTP/1.1\r\n{host}Content-Length: +1\r\n\r\nx")),
        (
            "an unknown coding",
            format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            "one in a request that is refused anyway",
            format!("TRACE / HTTP/1.1\r\n{host}Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            "one in a circle",
            format!(
                "POST / HTTP/1.1\r\n{host}Via: {}\r\nTransfer-Encoding: ,chunked\r\n\r\n",
                "1.1 x,".repeat(40)
            ),
        ),
        ("a folded line", format!("GET / HTTP/1.1\r\n{host}X-A: 1\r\n 2\r\n\r\n")),
        ("a blank before the colon", format!("GET / HTTP/1.1\r\n{host}X-A : 1\r\n\r\n")),
        ("a bare CR", format!("GET / HTTP/1.1\r\n{host}X-A: 1\r2\r\n\r\n")),
        ("CONNECT", format!("CONNECT {PORTAL}:443 HTTP/1.1\r\n{host}\r\n")),
    ];
    for (what, bytes) in table {
        let mut client = stage.proxy.wire().await;
        client.send(bytes).await.expect("sent");
        let reply = within(what, client.reply()).await.expect("an answer");
        let status = reply.head.status();
        assert!((400..500).contains(&status) || status == 501, "{what}: {status}");
        let is_clear = what == "CONNECT";
        assert!(is_clear || within(what, client.is_ended()).await, "{what}: it goes on");
    }
    let seen = stage.us.sightings().traffic();
    assert!(seen.is_empty(), "{seen:?}");
}

#[tokio::test]
async fn a_head_that_frames_its_body_twice_is_refused_and_its_connection_closed() {
    let stage = Stage::plain().await;
    stage.us.behave(Script::green_probes(Act::Echo));
    let length = "Content-Length: 3\r\n";
    let chunks = "Transfer-Encoding: chunked\r\n";
    for twice in [[length, chunks], [chunks, length], [length, length], [chunks, chunks]] {
        let mut client = stage.proxy.wire().await;
        let head = format!("POST / HTTP/1.1\r\nHost: {PORTAL}\r\n");
        let good = format!("{head}{chunks}\r\n4\r\nbody\r\n0\r\n\r\n");
        let bad = format!("{head}{}\r\n4\r\nbody\r\n0\r\n\r\n", twice.concat());
        // All at once: the refusal may not overtake the answer that is owed before it.
        client.send(format!("{good}{bad}{good}")).await.expect("sent");
        let first = within("the first answer", client.reply()).await.expect("whole");
        assert_eq!((first.head.status(), &first.body[..]), (200, &b"body"[..]), "{twice:?}");
        let second = within("the refusal", client.reply()).await.expect("whole");
        assert_eq!(second.head.status(), 400, "{twice:?}");
        assert!(within("the end of the connection", client.is_ended()).await, "{twice:?}");
    }
    assert_eq!(stage.us.sightings().traffic().len(), 4, "the four good ones");
    let malformed = [("reason", "malformed")];
    // Counted once the connection is over, which the client may know first.
    let counted = |metrics: &Metrics| metrics.sum("bascule_requests_rejected_total", &malformed);
    stage.proxy.metrics_when("four refusals", |metrics| counted(metrics) == 4.0).await;
}

#[tokio::test]
async fn a_coding_in_http_1_0_is_refused() {
    let stage = Stage::plain().await;
    let mut client = stage.proxy.wire().await;
    let head = format!("POST / HTTP/1.0\r\nHost: {PORTAL}\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(format!("{head}0\r\n\r\n")).await.expect("sent");
    let reply = within("the refusal", client.reply()).await.expect("whole");
    assert_eq!(reply.head.status(), 400);
    assert!(stage.us.sightings().traffic().is_empty());
}

#[tokio::test]
async fn a_terminated_proxy_finishes_what_is_in_flight() {
    let mut stage = Stage::plain().await;
    stage.us.behave(Script::green_probes(Act::HandOver));
    let mut client = stage.proxy.wire().await;
    client.send(format!("GET /feed HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n")).await.expect("sent");
    let mut talk = stage.us.conversation().await;
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nfirst,";
    talk.wire.send(head).await.expect("sent");
    within("the first part", client.until(b"first,")).await.expect("arrives");
    let idle = stage.proxy.session(Speak::Http1).await;
    stage.proxy.signal("TERM");
    let closed = async {
        while TcpStream::connect(stage.proxy.plain).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within("the listener to close", closed).await;
    let told = async {
        while idle.is_usable() {
            tokio::task::yield_now().await
        }
    };
    within("idle connections to be closed", told).await;
    assert_eq!(stage.proxy.admin("/readyz").await.status, 503, "it is ready for nothing more");
    assert_eq!(stage.proxy.admin("/livez").await.status, 200, "and still alive");
    talk.wire.send("later").await.expect("the upstream's connection is still there");
    within("the second part", client.until(b"later")).await.expect("arrives");
    let status = stage.proxy.exit().await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let mut stage = Stage::plain().await;
    stage.us.behave(Script::green_probes(Act::HandOver));
    let mut client = stage.proxy.wire().await;
    client.send(format!("GET /feed HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n")).await.expect("sent");
    let _talk = stage.us.conversation().await;
    stage.proxy.signal("TERM");
    let closed = async {
        while TcpStream::connect(stage.proxy.plain).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within("the listener to close", closed).await;
    stage.proxy.signal("TERM");
    // Nothing answers the request in flight: without the second signal this waits for the drain.
    stage.proxy.exit().await;
}

#[tokio::test]
async fn the_drain_has_an_end() {
    let mut stage = stage("{ drain: 1s }").await;
    stage.us.behave(Script::green_probes(Act::HandOver));
    let mut client = stage.proxy.wire().await;
    client.send(format!("GET /feed HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n")).await.expect("sent");
    let _talk = stage.us.conversation().await;
    stage.proxy.signal("TERM");
    stage.proxy.exit().await;
}

#[tokio::test]
async fn readiness_and_liveness_are_told_apart() {
    let stage = Stage::plain().await;
    assert_eq!(stage.proxy.admin("/livez").await.status, 200);
    let ready = async { while stage.proxy.admin("/readyz").await.status != 200 {} };
    within("readiness", ready).await;
    assert_eq!(stage.proxy.admin("/nothing-here").await.status, 404);
    let status = stage.proxy.status().await.to_string();
    for word in ["portal", "us", "eu", "healthy"] {
        assert!(status.contains(word), "{word} in {status}");
    }
}

#[tokio::test]
async fn request_counters_agree_with_what_clients_saw() {
    let stage = Stage::plain().await;
    for speak in Speak::ALL {
        stage.proxy.send(speak, &Ask::get("/page")).await;
    }
    stage.us.behave(Script::green_probes(Act::status(404)));
    stage.proxy.get("/gone").await;
    let portal = ("service", "portal");
    let all = (Speak::ALL.len() + 1) as f64;
    let done = |m: &Metrics| m.sum("bascule_requests_total", &[portal]) == all;
    let metrics = stage.proxy.metrics_when("every request", done).await;
    assert_eq!(metrics.sum("bascule_requests_total", &[portal, ("code", "2xx")]), all - 1.0);
    assert_eq!(metrics.sum("bascule_requests_total", &[portal, ("code", "4xx")]), 1.0);
    let success = [portal, ("provider", "us"), ("outcome", "success")];
    assert_eq!(metrics.sum("bascule_attempts_total", &success), all, "a 404 is no failure");
    assert_eq!(metrics.sum("bascule_request_duration_seconds_count", &[portal]), all);
    assert!(metrics.sum("bascule_bytes_total", &[portal, ("jurisdiction", "non_eu")]) > 0.0);
    assert!(metrics.has("bascule_build_info") && metrics.has("bascule_routing_generation"));
}
