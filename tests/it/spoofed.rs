//! What a client says about its own address: nobody believes it who was not told to.

use std::fs;

use serde_json::Value;

use crate::harness::client::{Ask, Speak};
use crate::harness::proxy::RunningProxy;
use crate::harness::recipe::Recipe;
use crate::harness::stage::Stage;
use crate::harness::upstream::{FakeUpstream, Transport};
use crate::harness::within;

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
