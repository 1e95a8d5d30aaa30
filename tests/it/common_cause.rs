//! When everything fails at once, control targets say whether it is everybody else or our own network.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::harness::metrics::Metrics;
use crate::harness::recipe::Recipe;
use crate::harness::stage::Stage;
use crate::harness::upstream::Transport;
use crate::harness::within;

const PORTAL: (&str, &str) = ("service", "portal");

/// Naming these, one that is open or shut each.
async fn stage(targets: &[SocketAddr]) -> Stage {
    let line = naming(targets);
    Stage::start(Transport::Plain, |recipe| watched(recipe).top(&line)).await
}

fn naming(targets: &[SocketAddr]) -> String {
    let targets: Vec<String> = targets.iter().map(|address| format!("\"{address}\"")).collect();
    format!("control_targets: [{}]", targets.join(", "))
}

fn watched(recipe: Recipe) -> Recipe {
    recipe.service("failover: { hold: 1s, max_hold: 2s, min_stay: 1s, ramp: 5s }")
}

/// An address where nobody takes a connection, for as long as it is held.
async fn shut() -> (std::net::TcpListener, SocketAddr) {
    // Bound and not listening: the kernel refuses, and nobody else gets the port.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bind");
    let socket = std::net::TcpListener::from(socket);
    let address = socket.local_addr().expect("address");
    (socket, address)
}

fn frozen(metrics: &Metrics) -> bool {
    metrics.sum("bascule_common_cause", &[PORTAL]) == 1.0
}

#[tokio::test]
async fn when_no_control_target_answers_either_the_fault_is_ours_and_the_plan_is_frozen() {
    let ((_first, first), (_second, second)) = (shut().await, shut().await);
    let stage = stage(&[first, second]).await;
    // In one moment: one that goes first is rightly left.
    tokio::join!(stage.us.close(), stage.eu.close());
    let metrics = stage.proxy.metrics_when("a common cause", frozen).await;
    let generation = metrics.sum("bascule_routing_generation", &[]);
    let probed = |m: &Metrics| m.sum("bascule_probes_total", &[("result", "connect")]);
    let before = probed(&metrics);
    let more = |m: &Metrics| probed(m) >= before + 8.0;
    let metrics = stage.proxy.metrics_when("further probes that fail", more).await;
    assert_eq!(metrics.sum("bascule_routing_generation", &[]), generation, "the plan stays");
    assert_eq!(metrics.sum("bascule_failovers_total", &[PORTAL]), 0.0, "leaving would help nobody");
    assert!(frozen(&metrics));
    stage.us.open().await;
    stage.eu.open().await;
    stage.proxy.metrics_when("its end", |m| !frozen(m)).await;
    assert_eq!(stage.proxy.get("/page").await.status, 200);
}

#[tokio::test]
async fn a_control_target_that_answers_leaves_the_fault_with_the_providers() {
    let open = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let (_shut, shut) = shut().await;
    let stage = stage(&[shut, open.local_addr().expect("address")]).await;
    stage.us.close().await;
    stage.eu.close().await;
    let ejected = |m: &Metrics| {
        let health = |provider| [("provider", provider), ("health", "ejected")];
        m.sum("bascule_upstream_health", &health("us")) == 1.0
            && m.sum("bascule_upstream_health", &health("eu")) == 1.0
    };
    stage.proxy.metrics_when("the ejection of both", ejected).await;
    // Each round closes its connection before the next one asks.
    for _ in 0..2 {
        within("a control target to be asked", open.accept()).await.expect("a connection");
    }
    assert!(!frozen(&stage.proxy.metrics().await), "one that answers vetoes");
}

#[tokio::test]
async fn control_targets_are_changed_by_a_reload() {
    let open = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let (_shut, shut) = shut().await;
    let stage = stage(&[open.local_addr().expect("address")]).await;
    stage.us.close().await;
    stage.eu.close().await;
    let given_up = |m: &Metrics| m.sum("bascule_fail_open", &[PORTAL]) == 1.0;
    stage.proxy.metrics_when("fail-open", given_up).await;
    let recipe = Recipe::portal().upstream(&stage.us, "US").upstream(&stage.eu, "SI");
    stage.proxy.rename_over(&watched(recipe).top(&naming(&[shut])).yaml());
    stage.proxy.metrics_when("a common cause", frozen).await;
}
