//! What an upstream cannot hold goes to the next one, and what nobody can hold is told so at once.

use crate::harness::load::{Load, turn};
use crate::harness::metrics::Metrics;
use crate::harness::proxy::RunningProxy;
use crate::harness::recipe::Recipe;
use crate::harness::upstream::{Act, FakeUpstream, Script, Transport};
use crate::harness::wire::Wire;
use crate::harness::{PORTAL, within};

/// Requests a second, and how many of them the fallback holds.
const RATE: u32 = 100;
const HELD: u32 = 60;

#[tokio::test]
async fn a_fallback_that_cannot_hold_everything_keeps_what_it_can() {
    let _turn = turn().await;
    let first = FakeUpstream::start("us", Transport::Plain).await;
    let second = FakeUpstream::start("eu", Transport::Plain).await;
    let third = FakeUpstream::start("eu2", Transport::Plain).await;
    second.behave(Script { probes: Act::Serve, ..Script::all(Act::HoldsPerSecond(HELD)) });
    first.close().await;
    let recipe = Recipe::portal().upstream(&first, "US").upstream(&second, "SI");
    let proxy = RunningProxy::start(&recipe.upstream(&third, "LU")).await;
    let load = Load::start(&proxy, RATE);
    let portal = [("service", "portal")];
    let spills = |m: &Metrics| m.sum("bascule_spilled_total", &portal) > 300.0;
    let metrics = proxy.metrics_when("the excess to go elsewhere", spills).await;
    let report = load.stop().await;

    let admits = |m: &Metrics, who| {
        m.sum("bascule_upstream_admits", &[("service", "portal"), ("provider", who)])
    };
    assert!(admits(&metrics, "eu") < 1.0);
    for (who, health) in [("us", "ejected"), ("eu2", "healthy")] {
        let labels = [("service", "portal"), ("provider", who), ("health", health)];
        assert_eq!(metrics.sum("bascule_upstream_health", &labels), 1.0, "{who}");
    }
    let out = [("service", "portal"), ("provider", "eu"), ("health", "ejected")];
    assert_eq!(metrics.sum("bascule_upstream_health", &out), 0.0, "it is not at fault");
    let (_, lines) = proxy.verb(&["journal"]).await;
    assert!(lines.contains("upstream limited to what it can hold"), "{lines}");
    let (by_second, by_third) = (report.served_by(&second), report.served_by(&third));
    let (failed, all) = (report.failed_gets().len(), report.records.len());
    println!("{all} requests: {by_second} and {by_third} served, {failed} GET failed");
    assert!(by_third > 200 && by_second > by_third / 4, "{by_second}, {by_third}");
}

/// A request that goes out and is not waited for.
async fn ask(proxy: &RunningProxy) -> Wire {
    let mut wire = proxy.wire().await;
    let head = format!("POST /order HTTP/1.1\r\nHost: {PORTAL}\r\nContent-Length: 0\r\n\r\n");
    wire.send(head).await.expect("sent");
    wire
}

#[tokio::test]
async fn more_than_the_file_allows_in_flight_goes_to_the_next_and_then_gets_503() {
    let first = FakeUpstream::start("us", Transport::Plain).await;
    let second = FakeUpstream::start("eu", Transport::Plain).await;
    let recipe = Recipe::portal()
        .upstream_with(&first, "US", ", max_in_flight: 1")
        .upstream_with(&second, "SI", ", max_in_flight: 1")
        .service("timeouts: { head: 30s, request: 60s }");
    let proxy = RunningProxy::start(&recipe).await;
    for upstream in [&first, &second] {
        upstream.behave(Script::green_probes(Act::HandOver));
    }
    let _served_by_first = ask(&proxy).await;
    let _at_first = first.conversation().await;
    let _served_by_second = ask(&proxy).await;
    let _at_second = second.conversation().await;
    let mut refused = ask(&proxy).await;
    let reply = within("a quick no", refused.reply()).await.expect("whole");
    assert_eq!(reply.head.status(), 503);
    assert_eq!(reply.head.get("retry-after"), Some("1"));
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("bascule_spilled_total", &[("service", "portal")]), 1.0);
    assert_eq!(metrics.sum("bascule_overload_refusals_total", &[("service", "portal")]), 1.0);
}
