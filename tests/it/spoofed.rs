//! What a client says about its own address: nobody believes it who was not told to.

use std::fs;

use serde_json::Value;

use crate::harness::client::{Ask, Speak};
use crate::harness::proxy::RunningProxy;
use crate::harness::recipe::Recipe;
use crate::harness::stage::Stage;
use crate::harness::upstream::{Act, FakeUpstream, Script, Transport};
use crate::harness::{PORTAL, within};

/// Fields in which a client may lie, with the lie.
const LIES: [(&str, &str); 10] = [
    ("X-Forwarded-For", "192.0.2.66"),
    ("X-Forwarded-For", "127.0.0.1, 192.0.2.66"),
    ("Forwarded", "for=192.0.2.66;by=192.0.2.66"),
    ("Forwarded", "for=\"[2001:db8::66]\""),
    ("X-Real-IP", "192.0.2.66"),
    ("X-Client-IP", "192.0.2.66"),
    ("True-Client-IP", "192.0.2.66"),
    ("CF-Connecting-IP", "192.0.2.66"),
    ("Fastly-Client-IP", "192.0.2.66"),
    ("x-real-ip", "2001:db8::66"),
];

/// In every field of [`LIES`] and in nothing else.
fn is_the_lie(value: &str) -> bool {
    value.contains("192.0.2.66") || value.contains("2001:db8::66")
}

async fn with_access(access: &str) -> Stage {
    let access = format!("access: {access}");
    Stage::start(Transport::Plain, |recipe| recipe.service(&access)).await
}

#[tokio::test]
async fn no_upstream_gets_a_strangers_word_on_its_address() {
    let stage = Stage::plain().await;
    for speak in Speak::ALL {
        for (name, lie) in LIES {
            let ask = Ask::get("/page").header(name, lie).header("Connection", name);
            // HTTP/2 has no Connection.
            let plain = Ask::get("/page").header(name, lie);
            let ask = if speak == Speak::Http1 { ask } else { plain };
            assert_eq!(stage.proxy.send(speak, &ask).await.status, 200, "{speak:?} {name}");
            let seen = stage.us.sightings().traffic().pop().expect("it arrived");
            let lies: Vec<_> = seen.headers.iter().filter(|(_, value)| is_the_lie(value)).collect();
            assert!(lies.is_empty(), "{speak:?}: {lies:?}");
            assert_eq!(seen.get("x-forwarded-for"), Some("127.0.0.1"), "{speak:?} {name}");
            let forwarded = seen.get("forwarded").expect("ours");
            assert!(forwarded.starts_with("for=127.0.0.1;"), "{speak:?} {name}: {forwarded}");
        }
    }
}

#[tokio::test]
async fn a_trusted_proxys_word_is_passed_on() {
    let trusted = "trusted_proxies: [127.0.0.0/8]";
    let stage = Stage::start(Transport::Plain, |recipe| recipe.top(trusted)).await;
    for (name, word) in LIES {
        let ask = Ask::get("/page").header(name, word);
        assert_eq!(stage.proxy.send(Speak::Http1, &ask).await.status, 200);
        let seen = stage.us.sightings().traffic().pop().expect("it arrived");
        let said = seen.get(name).unwrap_or_default();
        assert!(said.starts_with(word), "{name}: {said:?}");
    }
}

#[tokio::test]
async fn a_stranger_cannot_talk_itself_past_deny() {
    let stage = with_access("{ deny: [127.0.0.0/8] }").await;
    for (name, lie) in LIES {
        let answer = stage.proxy.send(Speak::Http1, &Ask::get("/page").header(name, lie)).await;
        assert_eq!(answer.status, 403, "{name}: {lie}");
    }
    assert!(stage.us.sightings().traffic().is_empty());
}

#[tokio::test]
async fn a_stranger_cannot_talk_itself_into_allow() {
    let stage = with_access("{ allow: [192.0.2.0/24, \"2001:db8::/32\"] }").await;
    for (name, lie) in LIES {
        let answer = stage.proxy.send(Speak::Http1, &Ask::get("/page").header(name, lie)).await;
        assert_eq!(answer.status, 403, "{name}: {lie}");
    }
    assert!(stage.us.sightings().traffic().is_empty());
}

#[tokio::test]
async fn no_byte_saves_what_connection_names_in_either_direction() {
    let stage = Stage::plain().await;
    let fields = vec![("Connection", "X-Secret, caf\u{e9}"), ("X-Secret", "1")];
    stage.us.behave(Script::green_probes(Act::Answer(200, fields)));
    let mut wire = stage.proxy.wire().await;
    let request = format!(
        "GET /page HTTP/1.1\r\nHost: {PORTAL}\r\nX-Secret: 1\r\nConnection: X-Secret, caf\u{e9}\r\n\r\n"
    );
    wire.send(request).await.expect("sent");
    let reply = within("an answer", wire.reply()).await.expect("whole");
    assert_eq!((reply.head.status(), reply.head.get("x-secret")), (200, None));
    let seen = stage.us.sightings().traffic().pop().expect("it arrived");
    assert_eq!(seen.get("x-secret"), None);
}

/// The status of a request through a trusted proxy that sends these bytes.
async fn status_behind_a_proxy(stage: &Stage, forwarded_for: &[u8]) -> u16 {
    let mut wire = stage.proxy.wire().await;
    let begin = format!("GET /page HTTP/1.1\r\nHost: {PORTAL}\r\nX-Forwarded-For: ");
    let request = [begin.as_bytes(), forwarded_for, b"\r\n\r\n"].concat();
    wire.send(request).await.expect("sent");
    within("an answer", wire.reply()).await.expect("whole").head.status()
}

#[tokio::test]
async fn no_byte_of_a_client_hides_it_behind_a_trusted_proxy() {
    let deny = "access: { deny: [203.0.113.0/24] }";
    let trusted = "trusted_proxies: [127.0.0.0/8]";
    let stage = Stage::start(Transport::Plain, |r| r.service(deny).top(trusted)).await;
    for (said, status) in [
        (&b"\xe9, 203.0.113.9"[..], 403),
        (b"203.0.113.9:4711", 403),
        (b"203.0.113.9, ", 403),
        (b"198.51.100.1, \xe9", 403),
        (b"203.0.113.9, 198.51.100.1", 200),
        (b"", 200),
    ] {
        assert_eq!(status_behind_a_proxy(&stage, said).await, status, "{said:?}");
    }
}

#[tokio::test]
async fn a_proxys_word_that_cannot_be_read_matters_only_where_it_is_asked_for() {
    let trusted = "trusted_proxies: [127.0.0.0/8]";
    let stage = Stage::start(Transport::Plain, |r| r.top(trusted)).await;
    assert_eq!(status_behind_a_proxy(&stage, b"unix:").await, 200);
}

#[tokio::test]
async fn a_stranger_with_many_names_has_one_clients_rate() {
    let stage = with_access("{ rate: { per_client: 1/m, burst: 3 } }").await;
    for (place, (name, lie)) in LIES.into_iter().enumerate() {
        let answer = stage.proxy.send(Speak::Http1, &Ask::get("/page").header(name, lie)).await;
        let expected = if place < 3 { 200 } else { 429 };
        assert_eq!(answer.status, expected, "{place}, {name}: {lie}");
    }
}

#[tokio::test]
async fn the_access_log_names_the_peer_and_not_what_it_says() {
    let line = "access_log: { target: access.log }";
    let stage = Stage::start(Transport::Plain, |recipe| recipe.top(line)).await;
    for (name, lie) in LIES {
        stage.proxy.send(Speak::Http1, &Ask::get("/page").header(name, lie)).await;
    }
    let file = stage.proxy.file("access.log");
    let written = async {
        loop {
            let text = fs::read_to_string(&file).unwrap_or_default();
            if text.lines().count() >= LIES.len() {
                return text;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    for line in within("the log", written).await.lines() {
        let line: Value = serde_json::from_str(line).expect("a whole line");
        assert_eq!(line["client"], "127.0.0.1", "{line}");
        assert!(!is_the_lie(&line.to_string()), "{line}");
    }
}

#[tokio::test]
async fn a_sticky_stranger_stays_whatever_it_says() {
    let us = FakeUpstream::start("us", Transport::Plain).await;
    let eu = FakeUpstream::start("eu", Transport::Plain).await;
    let recipe = Recipe::portal()
        .upstream_with(&us, "US", ", preference: 1")
        .upstream_with(&eu, "SI", ", preference: 1")
        .service("sticky: client-ip");
    let proxy = RunningProxy::start(&recipe).await;
    let home = proxy.get("/page").await.served_by().to_owned();
    for last in 0..32 {
        for name in LIES.map(|(name, _)| name) {
            let value = match name {
                "Forwarded" => format!("for=192.0.2.{last}"),
                _ => format!("192.0.2.{last}"),
            };
            let answer = proxy.send(Speak::Http1, &Ask::get("/page").header(name, &value)).await;
            assert_eq!(answer.served_by(), home, "{name}: {value}");
        }
    }
}
