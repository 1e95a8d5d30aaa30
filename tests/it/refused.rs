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
