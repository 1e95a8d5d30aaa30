//! Upstreams that are known by name: what clients see while the name does not exist, and while nobody
//! says where it leads. Moves under load are in `tests/bench/names.py`.

use std::net::Ipv4Addr;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

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

#[tokio::test]
async fn an_address_that_shakes_no_hands_is_left_for_one_that_does() {
    // All of 127.0.0.0/8 is this machine. The first one takes connections and hangs up.
    static BOTH: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 66), Ipv4Addr::LOCALHOST];
    let names = NameServer::start(Says::Addresses(&BOTH)).await;
    let edge = FakeUpstream::start("edge", Transport::Tls).await;
    let port: u16 = edge.url().rsplit(':').next().expect("a port").parse().expect("a number");
    let wrong = TcpListener::bind((BOTH[0], port)).await.expect("the same port");
    let mut hanging_up = JoinSet::new();
    hanging_up.spawn(async move {
        loop {
            drop(wrong.accept().await);
        }
    });
    let url = edge.url().replace("127.0.0.1", NAME);
    let recipe = Recipe::portal().upstream_at(&edge, "SI", &url).top(&names.line());
    let proxy = RunningProxy::start(&recipe).await;
    served(&proxy).await;
    let passed = |m: &Metrics| m.sum("bascule_probes_total", &[("result", "passed")]) > 0.0;
    proxy.metrics_when("probes that find it too", passed).await;
}

#[tokio::test]
async fn nine_dead_addresses_do_not_hide_the_tenth() {
    const fn dead(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 9, 8, last)
    }
    static TEN: [Ipv4Addr; 10] = [
        dead(1),
        dead(2),
        dead(3),
        dead(4),
        dead(5),
        dead(6),
        dead(7),
        dead(8),
        dead(9),
        Ipv4Addr::LOCALHOST,
    ];
    let (_names, _edge, proxy) = stage(Says::Addresses(&TEN)).await;
    served(&proxy).await;
}
