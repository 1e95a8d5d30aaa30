//! WebSockets pass: over HTTP/1.1 and HTTP/2, in cleartext and TLS, whatever is reloaded meanwhile.
//!
//! To a proxy a WebSocket is bytes in both directions after a 101; what is in them is the business of
//! those who speak it. So these tests exchange bytes, and frames where it is the proxy that has a word to say.

use bytes::Bytes;
use h2::ext::Protocol;
use http::{Request, StatusCode};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::metrics::Metrics;
use crate::harness::proxy::RunningProxy;
use crate::harness::recipe::Recipe;
use crate::harness::stage::Stage;
use crate::harness::upstream::{Act, FakeUpstream, Script, Transport};
use crate::harness::wire::{Head, Wire};
use crate::harness::{PORTAL, client, within};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// A frame of a server's.
const HELLO: &str = "\u{1}\u{5}hello";
/// A close frame that says 1001, as a server says it.
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

fn asking() -> String {
    format!(
        "GET /chat HTTP/1.1\r\nHost: {PORTAL}\r\nConnection: keep-alive, Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

fn agreeing(accept: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )
}

/// A client and an upstream that have agreed; the upstream's first words came with its head.
async fn agreed(proxy: &RunningProxy, upstream: &FakeUpstream, mut client: Wire) -> (Wire, Wire) {
    client.send(asking()).await.expect("sent");
    let mut talk = upstream.conversation().await;
    talk.wire.send(agreeing(ACCEPT) + HELLO).await.expect("sent");
    let head = within("a 101", client.head()).await.expect("a head");
    assert_eq!(head.status(), 101, "{}", proxy.admin("/v1/status").await.text());
    assert_eq!(head.get("upgrade"), Some("websocket"));
    assert_eq!(head.get("sec-websocket-accept"), Some(ACCEPT));
    assert_eq!(head.get("sec-websocket-protocol"), Some("chat"));
    let words = within("first words", client.take(HELLO.len())).await.expect("bytes");
    assert_eq!(words, HELLO.as_bytes());
    (client, talk.wire)
}

/// Both sides are told, in the end, that the proxy goes away, and nothing else.
async fn assert_both_are_told(mut client: Wire, mut upstream: Wire) {
    let (to_client, to_upstream) =
        within("the end of both", async { tokio::join!(client.rest(), upstream.rest()) }).await;
    assert_eq!(to_client.expect("a clean end"), GOING_AWAY);
    // What a client says is masked.
    let told = to_upstream.expect("a clean end");
    let [0x88, 0x82, a, b, _, _, high, low] = told[..] else { panic!("{told:?}") };
    assert_eq!([high ^ a, low ^ b], GOING_AWAY[2..]);
}

/// A megabyte each way, none of it lost, then the end of one side reaches the other.
async fn converse(mut client: Wire, mut upstream: Wire) {
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    for turn in 0..2 {
        let (from, to) =
            if turn == 0 { (&mut client, &mut upstream) } else { (&mut upstream, &mut client) };
        let (sent, came) =
            within("a megabyte", async { tokio::join!(from.send(&bytes), to.take(bytes.len())) })
                .await;
        sent.expect("sent");
        assert!(came.expect("whole") == bytes, "turn {turn}");
    }
    drop(client);
    assert!(within("the end", upstream.is_ended()).await);
}

async fn handing_over(transport: Transport) -> Stage {
    let stage = Stage::start(transport, |recipe| recipe).await;
    stage.us.behave(Script::green_probes(Act::HandOver));
    stage
}

#[tokio::test]
async fn a_websocket_passes_in_cleartext() {
    let stage = handing_over(Transport::Plain).await;
    let wire = stage.proxy.wire().await;
    let (client, upstream) = agreed(&stage.proxy, &stage.us, wire).await;
    converse(client, upstream).await;
}

#[tokio::test]
async fn a_websocket_passes_over_tls() {
    let stage = handing_over(Transport::Tls).await;
    let stream = client::tls(stage.proxy.tls, PORTAL, &["http/1.1"]).await.expect("a handshake");
    let wire = Wire::new(tokio_rustls::TlsStream::from(stream));
    let (client, upstream) = agreed(&stage.proxy, &stage.us, wire).await;
    converse(client, upstream).await;
}

#[tokio::test]
async fn what_the_upstream_is_asked_is_a_websocket_and_nothing_else_about_the_connection() {
    let stage = handing_over(Transport::Plain).await;
    let mut client = stage.proxy.wire().await;
    client.send(asking()).await.expect("sent");
    let talk = stage.us.conversation().await;
    let seen = stage.us.sightings().traffic().pop().expect("a request");
    assert_eq!((seen.get("connection"), seen.get("upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!(seen.get("sec-websocket-key"), Some(KEY));
    drop(talk);
}

#[tokio::test]
async fn an_upstream_that_declines_is_heard_and_the_connection_goes_on() {
    let stage = Stage::plain().await;
    stage.us.behave(Script::green_probes(Act::status(426)));
    let mut client = stage.proxy.wire().await;
    for _ in 0..2 {
        client.send(asking()).await.expect("sent");
        let reply = within("an answer", client.reply()).await.expect("whole");
        assert_eq!(reply.head.status(), 426);
    }
}

#[tokio::test]
async fn a_websocket_finds_the_fallback_while_its_provider_is_down() {
    let stage = Stage::plain().await;
    stage.us.close().await;
    stage.eu.behave(Script::green_probes(Act::HandOver));
    let wire = stage.proxy.wire().await;
    let (client, upstream) = agreed(&stage.proxy, &stage.eu, wire).await;
    converse(client, upstream).await;
}

#[tokio::test]
async fn a_websocket_survives_a_reload_that_takes_its_upstream_away() {
    let stage = handing_over(Transport::Plain).await;
    let wire = stage.proxy.wire().await;
    let (client, upstream) = agreed(&stage.proxy, &stage.us, wire).await;
    let generation = |m: &crate::harness::metrics::Metrics| m.sum("bascule_config_generation", &[]);
    let before = generation(&stage.proxy.metrics().await);
    stage.proxy.rename_over(&Recipe::portal().upstream(&stage.eu, "SI").yaml());
    stage.proxy.metrics_when("the reload", |metrics| generation(metrics) > before).await;
    converse(client, upstream).await;
}

/// With `drain: 1s`, the first choice outside, and two hosts; what the portal's own may do is given.
fn two_hosts(us: &FakeUpstream, eu: &FakeUpstream, residency: &str) -> Recipe {
    Recipe::portal()
        .top("limits: { drain: 1s }")
        .upstream(us, "US")
        .upstream(eu, "SI")
        .route("{ host: open.portal.example, residency: any }")
        .service(&format!("residency: {residency}"))
}

#[tokio::test]
async fn a_websocket_ends_once_a_newer_file_forbids_its_upstream_and_one_beside_it_does_not() {
    let (us, eu) = tokio::join!(
        FakeUpstream::start("us", Transport::Plain),
        FakeUpstream::start("eu", Transport::Plain)
    );
    us.behave(Script::green_probes(Act::HandOver));
    let proxy = RunningProxy::start(&two_hosts(&us, &eu, "any")).await;
    let (client, upstream) = agreed(&proxy, &us, proxy.wire().await).await;
    let mut open = proxy.wire().await;
    open.send(asking().replace(PORTAL, "open.portal.example")).await.expect("sent");
    let mut talk = us.conversation().await;
    talk.wire.send(agreeing(ACCEPT)).await.expect("sent");
    assert_eq!(within("a 101", open.head()).await.expect("a head").status(), 101);
    proxy.rename_over(&two_hosts(&us, &eu, "eu-only").yaml());
    assert_both_are_told(client, upstream).await;
    converse(open, talk.wire).await;
}

#[tokio::test]
async fn streams_end_where_a_newer_file_keeps_their_traffic_inside_and_knows_their_upstream_no_more()
 {
    let (us, eu) = tokio::join!(
        FakeUpstream::start("us", Transport::Plain),
        FakeUpstream::start("eu", Transport::Plain)
    );
    us.behave(Script::green_probes(Act::HandOver));
    let proxy = RunningProxy::start(&two_hosts(&us, &eu, "any")).await;
    let (client, upstream) = agreed(&proxy, &us, proxy.wire().await).await;
    let mut reader = proxy.wire().await;
    reader.send(format!("GET /feed HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n")).await.expect("sent");
    let mut feed = us.conversation().await;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    feed.wire.send(format!("{head}9\r\ndata: 1\n\n\r\n")).await.expect("sent");
    within("the first event", reader.until(b"data: 1\n\n\r\n")).await.expect("arrives");
    let inside = Recipe::portal().top("limits: { drain: 1s }").upstream(&eu, "SI");
    proxy.rename_over(&inside.service("residency: eu-only").yaml());
    assert_both_are_told(client, upstream).await;
    assert!(within("the end of the events", reader.is_ended()).await);
    assert!(within("the same at their upstream", feed.wire.is_ended()).await);
}

#[tokio::test]
async fn a_websocket_at_an_upstream_that_was_left_ends_after_a_grace_and_finds_the_next_one() {
    let limits = "limits: { drain: 1s }";
    let stage = Stage::start(Transport::Plain, |recipe| recipe.top(limits)).await;
    for upstream in [&stage.us, &stage.eu] {
        upstream.behave(Script::green_probes(Act::HandOver));
    }
    let wire = stage.proxy.wire().await;
    let (mut client, mut upstream) = agreed(&stage.proxy, &stage.us, wire).await;
    let (ok, said) = stage.proxy.verb(&["force-out", "us", "--reason", "a test"]).await;
    assert!(ok, "{said}");
    let still = b"\x81\x85\0\0\0\0still";
    client.send(still).await.expect("sent");
    let came = within("words after it was left", upstream.take(still.len())).await;
    assert_eq!(came.expect("bytes"), still);
    assert_both_are_told(client, upstream).await;
    let wire = stage.proxy.wire().await;
    let (client, upstream) = agreed(&stage.proxy, &stage.eu, wire).await;
    converse(client, upstream).await;
}

#[tokio::test]
async fn a_process_that_ends_says_so_over_websockets_and_ends_well() {
    let limits = "limits: { drain: 2s }";
    let mut stage = Stage::start(Transport::Plain, |recipe| recipe.top(limits)).await;
    stage.us.behave(Script::green_probes(Act::HandOver));
    let wire = stage.proxy.wire().await;
    let (client, upstream) = agreed(&stage.proxy, &stage.us, wire).await;
    stage.proxy.signal("TERM");
    assert_both_are_told(client, upstream).await;
    assert!(within("the end of the process", stage.proxy.exit()).await.success());
    let cut = stage.proxy.log.select(|line| line.message().contains("cut off"));
    assert!(cut.is_empty(), "{}", cut[0].text);
}

#[tokio::test]
async fn a_websocket_in_the_middle_of_a_frame_is_ended_without_a_word() {
    let limits = "limits: { drain: 1s }";
    let stage = Stage::start(Transport::Plain, |recipe| recipe.top(limits)).await;
    stage.us.behave(Script::green_probes(Act::HandOver));
    let wire = stage.proxy.wire().await;
    let (mut client, mut upstream) = agreed(&stage.proxy, &stage.us, wire).await;
    upstream.send(b"\x82\x05hal").await.expect("sent");
    assert_eq!(within("half a frame", client.take(5)).await.expect("bytes"), b"\x82\x05hal");
    let (ok, said) = stage.proxy.verb(&["force-out", "us", "--reason", "a test"]).await;
    assert!(ok, "{said}");
    let rest = within("the end", client.rest()).await.expect("a clean end");
    assert_eq!(rest, b"", "the rest of a message would be read from it");
}

#[tokio::test]
async fn a_stream_of_events_at_an_upstream_that_was_left_breaks_off_after_a_grace() {
    let limits = "limits: { drain: 1s }";
    let stage = Stage::start(Transport::Plain, |recipe| recipe.top(limits)).await;
    stage.us.behave(Script::green_probes(Act::HandOver));
    let mut client = stage.proxy.wire().await;
    client.send(format!("GET /feed HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n")).await.expect("sent");
    let mut talk = stage.us.conversation().await;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    talk.wire.send(format!("{head}9\r\ndata: 1\n\n\r\n")).await.expect("sent");
    within("the first event", client.until(b"data: 1\n\n\r\n")).await.expect("arrives");
    let (ok, said) = stage.proxy.verb(&["force-out", "us", "--reason", "a test"]).await;
    assert!(ok, "{said}");
    talk.wire.send("9\r\ndata: 2\n\n\r\n").await.expect("sent");
    within("the second", client.until(b"data: 2\n\n\r\n")).await.expect("arrives");
    assert!(within("the end", client.is_ended()).await, "no last chunk: it did not end by itself");
    let cut = [("provider", "us"), ("outcome", "cancelled")];
    let counted = |m: &Metrics| m.sum("bascule_attempts_total", &cut) == 1.0;
    stage.proxy.metrics_when("that nobody is blamed for it", counted).await;
}

#[tokio::test]
async fn a_websocket_counts_as_in_flight_until_it_ends() {
    let stage = handing_over(Transport::Plain).await;
    let wire = stage.proxy.wire().await;
    let (client, upstream) = agreed(&stage.proxy, &stage.us, wire).await;
    let portal = [("service", "portal")];
    let in_flight =
        |m: &crate::harness::metrics::Metrics| m.sum("bascule_requests_in_flight", &portal);
    assert_eq!(in_flight(&stage.proxy.metrics().await), 1.0);
    converse(client, upstream).await;
    stage.proxy.metrics_when("its end", |metrics| in_flight(metrics) == 0.0).await;
}

/// A client of HTTP/2 that asks for a WebSocket; what it was answered, and both halves of its stream.
async fn ask_http2(
    proxy: &RunningProxy,
) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>, JoinSet<()>) {
    let tcp = TcpStream::connect(proxy.plain).await.expect("connected");
    let (sender, connection) = h2::client::handshake(tcp).await.expect("a handshake");
    let mut driver = JoinSet::new();
    driver.spawn(async move { connection.await.unwrap_or(()) });
    let mut sender = sender.ready().await.expect("ready");
    within("the server's settings", async {
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut request = Request::builder()
        .method("CONNECT")
        .uri(format!("http://{PORTAL}/chat"))
        .header("sec-websocket-version", "13")
        .body(())
        .expect("a request");
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    let (response, stream) = sender.send_request(request, false).expect("sent");
    (response, stream, driver)
}

/// The answer to the key that an upstream was sent, as it would make it.
fn answer_to(head: &Head) -> String {
    let key = head.get("sec-websocket-key").expect("a key").to_owned();
    let all = key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let hash =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, all.as_bytes());
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, hash)
}

fn last_seen(upstream: &FakeUpstream) -> Head {
    let seen = upstream.sightings().traffic().pop().expect("a request");
    Head { start: format!("{} {} HTTP/1.1", seen.method, seen.target), headers: seen.headers }
}

#[tokio::test]
async fn a_websocket_over_http2_is_one_over_http1_to_its_upstream() {
    let stage = handing_over(Transport::Plain).await;
    let (response, mut stream, driver) = ask_http2(&stage.proxy).await;
    let mut talk = stage.us.conversation().await;
    let head = last_seen(&stage.us);
    assert_eq!((head.word(0), head.word(1)), ("GET", "/chat"));
    assert_eq!(head.get("upgrade"), Some("websocket"));
    talk.wire.send(agreeing(&answer_to(&head)) + "hello").await.expect("sent");

    let answer = within("an answer", response).await.expect("a head");
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.headers().get("upgrade").is_none());
    let mut body = answer.into_body();
    assert_eq!(within("first words", body.data()).await.expect("bytes").expect("whole"), "hello");
    stream.send_data(Bytes::from_static(b"and back"), false).expect("sent");
    assert_eq!(within("its answer", talk.wire.take(8)).await.expect("bytes"), b"and back");
    stream.send_data(Bytes::new(), true).expect("sent");
    assert!(within("the end", talk.wire.is_ended()).await);
    drop(driver);
}

#[tokio::test]
async fn a_page_in_place_of_a_websocket_is_none_over_http2() {
    let stage = handing_over(Transport::Plain).await;
    let (response, _stream, driver) = ask_http2(&stage.proxy).await;
    let mut talk = stage.us.conversation().await;
    talk.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.expect("sent");
    let answer = within("an answer", response).await.expect("a head");
    assert_eq!(answer.status(), StatusCode::NOT_IMPLEMENTED);
    drop(driver);
}

#[tokio::test]
async fn an_upstream_that_did_not_read_our_key_is_no_websocket() {
    let stage = handing_over(Transport::Plain).await;
    stage.eu.behave(Script::green_probes(Act::status(503)));
    let (response, _stream, driver) = ask_http2(&stage.proxy).await;
    let mut talk = stage.us.conversation().await;
    talk.wire.send(agreeing(ACCEPT)).await.expect("sent");
    let answer = within("an answer", response).await.expect("a head");
    assert!(answer.status().is_server_error(), "{}", answer.status());
    drop(driver);
}

#[tokio::test]
async fn a_tunnel_to_anything_else_is_refused() {
    let stage = Stage::plain().await;
    let mut client = stage.proxy.wire().await;
    let other = asking().replace("websocket", "h2c").replace("Sec-h2c", "Sec-WebSocket");
    client.send(other).await.expect("sent");
    let reply = within("an answer", client.reply()).await.expect("whole");
    assert_eq!(reply.head.status(), 200, "it is a plain GET");
    let seen = stage.us.sightings().traffic().pop().expect("a request");
    assert_eq!((seen.get("connection"), seen.get("upgrade")), (None, None));
}
