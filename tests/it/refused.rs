//! Requests that no two parties read alike, or that nobody should send: each is refused, over plain
//! and TLS, and nothing of it is a whole request to any upstream.

use tokio_rustls::TlsStream;

use crate::harness::client::tls;
use crate::harness::refused::{Case, cases};
use crate::harness::stage::Stage;
use crate::harness::upstream::Transport;
use crate::harness::wire::Wire;
use crate::harness::{PORTAL, within};

/// Whether the whole connection brought nothing but an error, or nothing at all.
async fn is_refused(mut wire: Wire, bytes: &[u8]) -> bool {
    // Refused half-way, the rest may find the connection closed: what counts is what comes back.
    wire.send(bytes).await.unwrap_or_default();
    match wire.head().await {
        None => true,
        Some(head) => (400..600).contains(&head.status()),
    }
}

#[tokio::test]
async fn what_should_be_refused_is_and_no_upstream_hears_of_it() {
    let stage = Stage::start(Transport::Plain, |recipe| {
        recipe
            .top("limits: { header_read_timeout: 1s, idle_timeout: 1s }")
            .service("timeouts: { body_stall: 500ms }")
    })
    .await;
    let cases = cases();
    assert!(cases.len() > 70, "only {}", cases.len());
    let mut passed = Vec::new();
    for Case { rule, bytes } in cases {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        let secure = within("TLS", tls(stage.proxy.tls, PORTAL, &["http/1.1"])).await;
        let secure = Wire::new(TlsStream::from(secure.expect("a handshake")));
        for (how, wire) in [("plain", stage.proxy.wire().await), ("TLS", secure)] {
            if !within(&shown, is_refused(wire, &bytes)).await {
                passed.push(format!("RFC {rule}, over {how}: {shown:?}"));
            }
        }
        let seen = stage.us.sightings().traffic().into_iter().chain(stage.eu.sightings().traffic());
        if seen.filter(|sighting| sighting.body.is_some()).count() > passed.len() {
            passed.push(format!("RFC {rule}, at an upstream: {shown:?}"));
        }
    }
    assert!(passed.is_empty(), "{passed:#?}");
    assert_eq!(stage.proxy.get("/page").await.served_by(), "us", "and others are served");
}

/// A frame of HTTP/2 on stream 1 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let stream = u8::from(kind <= 1);
    let length = u8::try_from(payload.len()).expect("short");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A POST of `hello` over HTTP/2 by hand, with this block of trailers.
fn with_trailers(block: &[u8]) -> Vec<u8> {
    let host = [&[0x83, 0x86, 0x84, 0x01, PORTAL.len() as u8], PORTAL.as_bytes()].concat();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let data = frame(0, 0, b"hello");
    [preface, frame(4, 0, b""), frame(1, 4, &host), data, frame(1, 5, block)].concat()
}

#[tokio::test]
async fn trailers_with_a_pseudo_header_field_reset_their_stream() {
    let stage = Stage::plain().await;
    let cases: [(&str, &[u8], u8); 3] = [
        ("ordinary ones", b"\x00\x05x-sum\x011", 1),
        ("a path", b"\x04\x09/smuggled", 3),
        ("a path after a size", b"\x20\x04\x09/smuggled", 3),
    ];
    for (shows, block, expected) in cases {
        let mut client = stage.proxy.wire().await;
        client.send(with_trailers(block)).await.expect("sent");
        let end = within(shows, async {
            loop {
                let head = client.take(9).await.expect("a frame");
                let length = usize::from(head[2]) + (usize::from(head[1]) << 8);
                let payload = client.take(length).await.expect("its payload");
                // The head of an answer, or the end of the stream.
                if head[8] == 1 && matches!(head[3], 1 | 3) {
                    return (head[3], payload);
                }
            }
        });
        let (kind, payload) = end.await;
        assert_eq!(kind, expected, "{shows}");
        assert!(kind == 1 || payload == [0, 0, 0, 1], "PROTOCOL_ERROR: {shows}");
    }
    let traffic = stage.us.sightings().traffic();
    let whole: Vec<_> = traffic.iter().filter(|sighting| sighting.body.is_some()).collect();
    assert_eq!(whole.len(), 1, "{whole:?}");
}

#[tokio::test]
async fn a_bare_line_feed_in_trailers_is_refused_and_not_waited_out() {
    let stage = Stage::plain().await;
    for end in ["0\r\n\n", "0\r\n\n\r\n", "0\r\nX: y\n\n", "0\r\nX: y\n", "0\r\nX: y\n\r\n"] {
        let mut client = stage.proxy.wire().await;
        let ask = format!(
            "POST / HTTP/1.1\r\nHost: {PORTAL}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"
        );
        client.send(ask + end).await.expect("sent");
        let head = within(end, client.head()).await.expect("an answer");
        assert_eq!(head.status(), 400, "{end:?}");
    }
    let traffic = stage.us.sightings().traffic();
    assert!(traffic.iter().all(|sighting| sighting.body.is_none()), "{traffic:?}");
}

#[tokio::test]
async fn an_upload_whose_stream_is_reset_without_an_error_is_not_whole() {
    let stage = Stage::plain().await;
    let bytes = with_trailers(b"");
    let before_trailers = bytes.len() - frame(1, 5, b"").len();
    let mut client = stage.proxy.wire().await;
    client.send(&bytes[..before_trailers]).await.expect("sent");
    let begun = |traffic: Vec<_>| traffic.len() == 1;
    within("the upstream to have its head", async {
        while !begun(stage.us.sightings().traffic()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    client.send([&[0, 0, 4, 3, 0, 0, 0, 0, 1][..], &[0; 4]].concat()).await.expect("sent");
    let in_flight = |m: &crate::harness::metrics::Metrics| m.sum("bascule_requests_in_flight", &[]);
    stage.proxy.metrics_when("its end", |metrics| in_flight(metrics) == 0.0).await;
    assert_eq!(stage.proxy.get("/page").await.served_by(), "us");
    let traffic = stage.us.sightings().traffic();
    assert!(traffic[0].body.is_none(), "{:?}", traffic[0]);
}
