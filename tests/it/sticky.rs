//! A client stays at one upstream among those that share a service, as long as that one serves.

use std::collections::BTreeSet;

use crate::harness::client::{Answer, Ask, Speak};
use crate::harness::proxy::RunningProxy;
use crate::harness::recipe::Recipe;
use crate::harness::upstream::{Act, FakeUpstream, Script, Transport};

const SHARED: &str = ", preference: 1";

async fn shared(sticky: &str) -> ([FakeUpstream; 2], RunningProxy) {
    let us = FakeUpstream::start("us", Transport::Plain).await;
    let eu = FakeUpstream::start("eu", Transport::Plain).await;
    let recipe = Recipe::portal().upstream_with(&us, "US", SHARED).upstream_with(&eu, "SI", SHARED);
    let proxy = RunningProxy::start(&recipe.service(&format!("sticky: {sticky}"))).await;
    ([us, eu], proxy)
}

fn issued(answer: &Answer) -> Option<String> {
    let cookie = answer.header("set-cookie")?;
    cookie.split(';').next().map(str::to_owned)
}

#[tokio::test]
async fn a_client_with_our_cookie_stays_and_is_given_no_other() {
    let ([us, eu], proxy) = shared("{ cookie: edge }").await;
    let mut homes = BTreeSet::new();
    let mut clients = Vec::new();
    while homes.len() < 2 {
        let first = proxy.get("/page").await;
        let cookie = issued(&first).expect("a cookie for who has none");
        homes.insert(first.served_by().to_owned());
        clients.push((cookie, first.served_by().to_owned()));
        assert!(clients.len() < 200, "both have the same share");
    }
    for (cookie, home) in &clients {
        for speak in [Speak::Http1, Speak::TlsHttp2] {
            let answer = proxy.send(speak, &Ask::get("/page").header("Cookie", cookie)).await;
            assert_eq!(answer.served_by(), home);
            assert_eq!(issued(&answer), None);
        }
    }
    us.behave(Script::green_probes(Act::Reset));
    for (cookie, _) in &clients {
        let ask = Ask::get("/page").header("Cookie", cookie);
        assert_eq!(proxy.send(Speak::Http1, &ask).await.served_by(), "eu", "nobody is stuck there");
    }
    assert!(!eu.sightings().traffic().is_empty());
}

#[tokio::test]
async fn a_client_that_is_known_by_its_address_stays() {
    let ([_us, _eu], proxy) = shared("client-ip").await;
    let home = proxy.get("/page").await.served_by().to_owned();
    for _ in 0..20 {
        let answer = proxy.get("/page").await;
        assert_eq!(answer.served_by(), home);
        assert_eq!(issued(&answer), None);
    }
}
