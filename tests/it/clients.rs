//! Who a client is said to be, and what one client may take.

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::client::{Ask, Speak};
use crate::harness::metrics::Metrics;
use crate::harness::proxy::{RunningProxy, folder};
use crate::harness::recipe::Recipe;
use crate::harness::stage::Stage;
use crate::harness::upstream::{Act, FakeUpstream, Script, Transport};
use crate::harness::wire::Wire;
use crate::harness::{PORTAL, within};

const V1: &[u8] = b"PROXY TCP4 203.0.113.9 127.0.0.1 40000 80\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\x7f\0\0\x01\x9c\x40\0\x50";
/// A health check of the balancer itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// A proxy whose cleartext listener wants a PROXY header; `trusted` are believed.
async fn behind_a_balancer(trusted: &str) -> (FakeUpstream, RunningProxy) {
    let us = FakeUpstream::start("us", Transport::Plain).await;
    let recipe = Recipe::portal().upstream(&us, "US").top(&format!("trusted_proxies: [{trusted}]"));
    let bare = "  - address: 127.0.0.1:0\n";
    let wants = "  - { address: 127.0.0.1:0, proxy_protocol: required }\n";
    let yaml = recipe.yaml();
    assert!(yaml.contains(bare));
    let proxy = RunningProxy::start_with(folder(), &yaml.replace(bare, wants)).await;
    (us, proxy)
}

fn rejected(metrics: &Metrics, reason: &str) -> f64 {
    let reason = [("reason", reason)];
    metrics.sum("bascule_requests_rejected_total", &reason)
        + metrics.sum("bascule_connections_rejected_total", &reason)
}

#[tokio::test]
async fn a_trusted_balancer_says_who_the_client_is_in_either_version() {
    let (us, proxy) = behind_a_balancer("127.0.0.0/8").await;
    for (header, client) in [(V1, "203.0.113.9"), (V2, "203.0.113.9"), (LOCAL, "127.0.0.1")] {
        let mut wire = proxy.wire().await;
        // In two parts: a header may come in as many packets as it likes.
        let (first, rest) = header.split_at(14);
        wire.send(first).await.expect("sent");
        tokio::task::yield_now().await;
        let request = format!("GET /who HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n");
        wire.send([rest, request.as_bytes()].concat()).await.expect("sent");
        let reply = within("the answer", wire.reply()).await.expect("whole");
        assert_eq!(reply.head.status(), 200);
        let seen = us.sightings().traffic().pop().expect("it arrived");
        assert!(
            seen.get("x-forwarded-for").is_some_and(|said| said.ends_with(client)),
            "{seen:?} for {client}"
        );
    }
}

#[tokio::test]
async fn a_connection_without_a_believable_header_is_closed_unheard() {
    let request = format!("GET / HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n");
    for (trusted, header) in [("127.0.0.0/8", &b""[..]), ("192.0.2.0/24", V1), ("192.0.2.0/24", V2)]
    {
        let (us, proxy) = behind_a_balancer(trusted).await;
        let mut wire = proxy.wire().await;
        wire.send([header, request.as_bytes()].concat()).await.expect("sent");
        assert!(within("the end", wire.is_ended()).await, "{trusted}");
        assert!(us.sightings().traffic().is_empty());
        proxy.metrics_when("the refusal", |m| rejected(m, "proxy_header") == 1.0).await;
    }
}

#[tokio::test]
async fn what_a_client_says_before_its_request_is_no_header_where_none_is_wanted() {
    let stage = Stage::start(Transport::Plain, |r| r.top("trusted_proxies: [127.0.0.0/8]")).await;
    let mut wire = stage.proxy.wire().await;
    wire.send([V1, b"GET / HTTP/1.1\r\n"].concat()).await.expect("sent");
    let reply = within("the refusal", wire.reply()).await.expect("whole");
    assert_eq!(reply.head.status(), 400);
    assert!(stage.us.sightings().traffic().is_empty());
}

#[tokio::test]
async fn a_proxy_that_should_be_trusted_is_noticed() {
    let stage = Stage::plain().await;
    let named = [("listener", &*stage.proxy.plain.to_string())];
    let suspected = "bascule_untrusted_proxy";
    assert_eq!(stage.proxy.metrics().await.sum(suspected, &named), 0.0);
    let ask = Ask::get("/page").header("X-Forwarded-For", "203.0.113.9");
    let noticed = async {
        while stage.proxy.metrics().await.sum(suspected, &named) == 0.0 {
            for _ in 0..50 {
                stage.proxy.send(Speak::Http1, &ask).await;
            }
        }
    };
    within("the suspicion", noticed).await;
    stage.proxy.log.wait("its network", 1, |line| line.text.contains("127.0.0.0/24")).await;
}

#[tokio::test]
async fn a_proxy_that_should_be_trusted_is_noticed_where_access_keeps_its_clients_out() {
    let allow = "access: { allow: [203.0.113.0/24] }";
    let stage = Stage::start(Transport::Plain, |recipe| recipe.service(allow)).await;
    let suspected = |m: &Metrics| m.sum("bascule_untrusted_proxy", &[]) > 0.0;
    let ask = Ask::get("/page").header("X-Forwarded-For", "203.0.113.9");
    let noticed = async {
        while !suspected(&stage.proxy.metrics().await) {
            for _ in 0..50 {
                assert_eq!(stage.proxy.send(Speak::Http1, &ask).await.status, 403);
            }
        }
    };
    within("the suspicion", noticed).await;
}

#[tokio::test]
async fn trust_that_a_reload_gives_or_takes_holds_on_connections_that_are_open() {
    let us = FakeUpstream::start("us", Transport::Plain).await;
    let allow = "access: { allow: [203.0.113.0/24] }";
    let distrusts = Recipe::portal().upstream(&us, "US").service(allow);
    let trusts = distrusts.clone().top("trusted_proxies: [127.0.0.0/8]");
    let ask = Ask::get("/page").header("X-Forwarded-For", "203.0.113.9");
    for speak in [Speak::Http1, Speak::TlsHttp2] {
        let proxy = RunningProxy::start(&distrusts).await;
        let mut session = proxy.session(speak).await;
        let mut status =
            async || within("an answer", session.send(&ask)).await.expect("whole").status;
        assert_eq!(status().await, 403, "{speak:?}");
        for (recipe, expected) in [(&trusts, 200), (&distrusts, 403)] {
            let before = proxy.metrics().await.sum("bascule_config_generation", &[]);
            proxy.rename_over(&recipe.yaml());
            proxy.signal("HUP");
            let taken = |m: &Metrics| m.sum("bascule_config_generation", &[]) > before;
            proxy.metrics_when("a reload", taken).await;
            let turned = async { while status().await != expected {} };
            within("the new trust", turned).await;
        }
    }
}

#[tokio::test]
async fn one_client_has_a_bounded_number_of_connections() {
    let limits = "limits: { max_connections_per_client: 3 }";
    let stage = Stage::start(Transport::Plain, |recipe| recipe.top(limits)).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut session = stage.proxy.session(Speak::Http1).await;
        within("an answer", session.send(&Ask::get("/page"))).await.expect("whole");
        held.push(session);
    }
    let mut fourth = stage.proxy.wire().await;
    assert!(within("the fourth to be closed", fourth.is_ended()).await);
    held.pop();
    let room = async {
        loop {
            let mut wire = stage.proxy.wire().await;
            let request = format!("GET / HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n");
            if wire.send(request).await.is_ok() && wire.reply().await.is_ok() {
                return;
            }
        }
    };
    within("room for another", room).await;
    assert!(rejected(&stage.proxy.metrics().await, "too_many_from_client") >= 1.0);
}

#[tokio::test]
async fn a_trusted_proxy_is_no_client_and_may_have_any_number() {
    let top = "limits: { max_connections_per_client: 1 }\ntrusted_proxies: [127.0.0.1]";
    let stage = Stage::start(Transport::Plain, |recipe| recipe.top(top)).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut session = stage.proxy.session(Speak::Http1).await;
        within("an answer", session.send(&Ask::get("/page"))).await.expect("whole");
        held.push(session);
    }
}

#[tokio::test]
async fn a_service_lets_in_whom_its_lists_name_and_nobody_else() {
    let access = "access: { allow: [203.0.113.0/24, \"2001:db8::/32\"], deny: [203.0.113.66] }";
    let trusted = "trusted_proxies: [127.0.0.1]";
    let stage = Stage::start(Transport::Plain, |r| r.top(trusted).service(access)).await;
    for (client, status) in [
        ("203.0.113.9", 200),
        ("2001:db8::7", 200),
        ("203.0.113.66", 403),
        ("198.51.100.1", 403),
        // The one before a stranger is only said by that stranger.
        ("203.0.113.9, 198.51.100.1", 403),
    ] {
        let ask = Ask::get("/page").header("X-Forwarded-For", client);
        let answer = stage.proxy.send(Speak::Http1, &ask).await;
        assert_eq!(answer.status, status, "{client}");
    }
    assert_eq!(stage.proxy.get("/page").await.status, 403, "the proxy itself is not on the list");
    assert_eq!(stage.us.sightings().traffic().len(), 2);
    assert_eq!(rejected(&stage.proxy.metrics().await, "denied"), 4.0);
}

#[tokio::test]
async fn a_stranger_cannot_name_itself_onto_a_list() {
    let access = "access: { allow: [203.0.113.0/24] }";
    let stage = Stage::start(Transport::Plain, |recipe| recipe.service(access)).await;
    for name in ["X-Forwarded-For", "Forwarded", "X-Real-IP", "True-Client-IP"] {
        let said = if name == "Forwarded" { "for=203.0.113.9" } else { "203.0.113.9" };
        let ask = Ask::get("/page").header(name, said);
        assert_eq!(stage.proxy.send(Speak::Http1, &ask).await.status, 403, "{name}");
    }
    assert!(stage.us.sightings().traffic().is_empty());
}

#[tokio::test]
async fn a_client_over_its_rate_is_told_when_to_come_back_and_others_are_served() {
    let access = "access: { rate: { per_client: 1/h, burst: 3 } }";
    let trusted = "trusted_proxies: [127.0.0.1]";
    let stage = Stage::start(Transport::Plain, |r| r.top(trusted).service(access)).await;
    let from = |client| Ask::get("/page").header("X-Forwarded-For", client);
    for speak in [Speak::Http1, Speak::Http2, Speak::Http1] {
        let answer = stage.proxy.send(speak, &from("203.0.113.9")).await;
        assert_eq!(answer.status, 200, "within the burst, over whatever connection");
    }
    let refused = stage.proxy.send(Speak::Http1, &from("203.0.113.9")).await;
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.header("retry-after").and_then(|v| v.parse().ok()).expect("seconds");
    assert!((1..=3600).contains(&wait), "{wait}");
    assert_eq!(stage.proxy.send(Speak::Http1, &from("203.0.113.10")).await.status, 200);
    assert_eq!(stage.us.sightings().traffic().len(), 4);
    assert_eq!(rejected(&stage.proxy.metrics().await, "rate_limited"), 1.0);
}

#[tokio::test]
async fn a_client_that_sends_its_body_too_slowly_is_given_up_and_nobody_is_blamed() {
    let timeouts = "timeouts: { body_stall: 500ms }";
    let stage = Stage::start(Transport::Plain, |recipe| recipe.service(timeouts)).await;
    let mut client = stage.proxy.wire().await;
    let head = format!("POST /up HTTP/1.1\r\nHost: {PORTAL}\r\nContent-Length: 100\r\n\r\nfirst");
    client.send(head).await.expect("sent");
    let reply = within("the refusal", client.reply()).await.expect("whole");
    assert_eq!(reply.head.status(), 408);
    assert!(within("the end of the connection", client.is_ended()).await);
    let metrics = stage.proxy.metrics().await;
    assert_eq!(rejected(&metrics, "slow_body"), 1.0);
    let gone = [("provider", "us"), ("outcome", "client_gone")];
    assert_eq!(metrics.sum("bascule_attempts_total", &gone), 1.0);
}

/// Answers with far more than anybody holds, until the connection ends.
async fn flood(wire: &mut Wire) {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
    wire.send(head).await.expect("sent");
    while wire.send(vec![b'x'; 64 * 1024]).await.is_ok() {}
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_closed() {
    let limits = "limits: { idle_timeout: 1s }";
    let stage = Stage::start(Transport::Plain, |recipe| recipe.top(limits)).await;
    stage.us.behave(Script::green_probes(Act::HandOver));
    let mut client = stage.proxy.wire().await;
    client.send(format!("GET /big HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n")).await.expect("sent");
    let mut talk = stage.us.conversation().await;
    within("the upstream to be let go", flood(&mut talk.wire)).await;
    let counted = |metrics: &Metrics| rejected(metrics, "slow_reader") == 1.0;
    stage.proxy.metrics_when("the client's part in it", counted).await;
}

#[tokio::test]
async fn a_client_that_opens_no_window_is_closed() {
    let limits = "limits: { idle_timeout: 1s }";
    let stage = Stage::start(Transport::Plain, |recipe| recipe.top(limits)).await;
    stage.us.behave(Script::green_probes(Act::HandOver));
    let stream = TcpStream::connect(stage.proxy.plain).await.expect("a connection");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let mut ended = JoinSet::new();
    ended.spawn(connection);
    let mut client = client.ready().await.expect("room for a stream");
    let request = http::Request::get(format!("http://{PORTAL}/big")).body(()).expect("a request");
    let (answer, _) = client.send_request(request, true).expect("sent");
    let mut talk = stage.us.conversation().await;
    within("the upstream to be let go", flood(&mut talk.wire)).await;
    within("the end of the connection", ended.join_next()).await.expect("it was there").ok();
    // Until here the client wanted its answer.
    drop(answer);
    let counted = |metrics: &Metrics| rejected(metrics, "slow_reader") == 1.0;
    stage.proxy.metrics_when("the client's part in it", counted).await;
}

#[tokio::test]
async fn nobody_gets_past_deny_by_a_path_that_can_be_read_in_two_ways() {
    let closed = FakeUpstream::start("closed", Transport::Plain).await;
    let open = FakeUpstream::start("open", Transport::Plain).await;
    let recipe = Recipe::portal()
        .upstream(&closed, "SI")
        .service("access: { deny: [127.0.0.0/8] }")
        .beside("open", &open, &format!("{{ host: {PORTAL}, prefix: /open/ }}"));
    let proxy = RunningProxy::start(&recipe).await;
    for (target, status) in [
        ("/open/page", 200),
        ("/secret", 403),
        ("/open/../secret", 400),
        ("/open/%2e%2e/secret", 400),
        ("/open//secret", 400),
        ("/open/caf%C3%A9?x=../..", 200),
    ] {
        let answer = proxy.send(Speak::Http1, &Ask::get(target)).await;
        assert_eq!(answer.status.as_u16(), status, "{target}: {answer:?}");
    }
    assert_eq!(open.sightings().traffic().len(), 2);
    assert!(closed.sightings().traffic().is_empty());
}
