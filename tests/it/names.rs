//! Upstreams that are known by name: what clients see while the name does not exist, and while nobody
//! says where it leads. Moves under load are in `tests/bench/names.py`.

use std::net::Ipv4Addr;

use crate::harness::metrics::Metrics;
use crate::harness::names::{NameServer, Says};
use crate::harness::proxy::RunningProxy;
use crate::harness::recipe::Recipe;
use crate::harness::upstream::{FakeUpstream, Transport};
use crate::harness::within;

/// A name that only our own server knows.
const NAME: &str = "edge.cdn.example";

async fn stage(says: Says) -> (NameServer, FakeUpstream, RunningProxy) {
    let names = NameServer::start(says).await;
    let edge = FakeUpstream::start("edge", Transport::Plain).await;
    let url = edge.url().replace("127.0.0.1", NAME);
    let recipe = Recipe::portal().upstream_at(&edge, "SI", &url).top(&names.line());
    let proxy = RunningProxy::start(&recipe).await;
    (names, edge, proxy)
}

/// Asks until it is served.
async fn served(proxy: &RunningProxy) {
    let asking = async { while proxy.get("/page").await.served_by() != "edge" {} };
    within("an answer of the upstream", asking).await;
}

#[tokio::test]
async fn a_name_that_does_not_exist_yet_is_served_once_it_does() {
    let (names, edge, proxy) = stage(Says::NoSuchName).await;
    let answer = proxy.get("/page").await;
    assert_eq!(answer.status, 502);
    let told = answer.header("proxy-status").unwrap_or_default();
    assert!(told.contains("dns_error"), "{told}");
    assert!(edge.sightings().traffic().is_empty());
    names.say(Says::Address(Ipv4Addr::LOCALHOST));
    served(&proxy).await;
}

#[tokio::test]
async fn a_silent_name_server_is_counted_and_no_client_notices() {
    let (names, _edge, proxy) = stage(Says::Address(Ipv4Addr::LOCALHOST)).await;
    served(&proxy).await;
    names.say(Says::Silence);
    let labels = [("name", NAME)];
    let failed = |metrics: &Metrics| metrics.sum("bascule_dns_failures_total", &labels) >= 1.0;
    let asking = async {
        loop {
            assert_eq!(proxy.get("/page").await.status, 200);
            let metrics = proxy.metrics().await;
            if failed(&metrics) {
                return metrics.sum("bascule_dns_answer_age_seconds", &labels);
            }
        }
    };
    let age = within("a look-up to fail", asking).await;
    assert!(age >= 5.0, "an answer is gone by for so long: {age}");
    names.say(Says::Address(Ipv4Addr::LOCALHOST));
    let fresh = |metrics: &Metrics| metrics.sum("bascule_dns_answer_age_seconds", &labels) < 5.0;
    proxy.metrics_when("a fresh answer", fresh).await;
    assert_eq!(proxy.get("/page").await.served_by(), "edge");
}
