//! Probes of gRPC servers: the standard health service is asked, and its word counts.

use http::Method;

use crate::harness::metrics::Metrics;
use crate::harness::proxy::RunningProxy;
use crate::harness::recipe::Recipe;
use crate::harness::upstream::{Act, Door, FakeUpstream, Script, Transport};

const SERVING: Act = Act::Grpc("0", &[8, 1]);

/// What the stand-ins' health services say while clients are served.
fn healthy(probes: Act) -> Script {
    Script { door: Door::Open, traffic: Act::Serve, probes }
}

/// A first choice whose health service says this, and a fallback that serves.
async fn stage(
    transport: Transport,
    says: Act,
    probe: &str,
) -> (FakeUpstream, FakeUpstream, RunningProxy) {
    let us = FakeUpstream::start("us", transport).await;
    let eu = FakeUpstream::start("eu", transport).await;
    us.behave(healthy(says));
    eu.behave(healthy(SERVING));
    let recipe = Recipe::portal().upstream(&us, "US").upstream(&eu, "SI").probe(probe);
    let proxy = RunningProxy::start(&recipe).await;
    (us, eu, proxy)
}

const SERVER: &str = "{ grpc: server, interval: 500ms, timeout: 400ms }";

fn passed(metrics: &Metrics, provider: &str) -> f64 {
    let labels = [("provider", provider), ("result", "passed")];
    metrics.sum("bascule_probes_total", &labels)
}

#[tokio::test]
async fn a_server_that_says_it_serves_passes_over_both_transports() {
    for transport in [Transport::PlainHttp2, Transport::TlsHttp2] {
        let probe = "{ grpc: { service: portal.v1.Orders }, interval: 500ms, timeout: 400ms }";
        let (us, _eu, proxy) = stage(transport, SERVING, probe).await;
        let both = |m: &Metrics| passed(m, "us") >= 2.0 && passed(m, "eu") >= 2.0;
        let metrics = proxy.metrics_when("probes that pass", both).await;
        let all = metrics.sum("bascule_probes_total", &[]);
        assert_eq!(metrics.sum("bascule_probes_total", &[("result", "passed")]), all);
        let asked = us.sightings().probes();
        assert_eq!(asked[0].method, Method::POST.as_str());
        assert_eq!(asked[0].target, "/grpc.health.v1.Health/Check");
        let header = |name: &str| {
            asked[0].headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())
        };
        assert_eq!(header("content-type").as_deref(), Some("application/grpc"));
        assert_eq!(header("te").as_deref(), Some("trailers"));
        assert_eq!(header("grpc-timeout").as_deref(), Some("400m"));
        let message = b"\x00\x00\x00\x00\x12\x0a\x10portal.v1.Orders";
        assert_eq!(asked[0].body.as_deref(), Some(&message[..]));
    }
}

#[tokio::test]
async fn a_server_that_says_it_does_not_serve_is_left() {
    let (_us, _eu, proxy) = stage(Transport::PlainHttp2, Act::Grpc("0", &[8, 2]), SERVER).await;
    let left = [("provider", "us"), ("health", "ejected")];
    let ejected = |m: &Metrics| m.sum("bascule_upstream_health", &left) == 1.0;
    proxy.metrics_when("its ejection", ejected).await;
    assert_eq!(proxy.get("/page").await.served_by(), "eu");
}

#[tokio::test]
async fn a_server_without_a_health_service_is_named_once_with_what_to_do() {
    let (us, _eu, proxy) = stage(Transport::PlainHttp2, Act::Grpc("12", b""), SERVER).await;
    let said = |line: &crate::harness::log::Line| {
        line.message() == "a gRPC health probe does not pass"
            && line.field("provider").as_deref() == Some("us")
    };
    let lines = proxy.log.wait("why it does not pass", 1, said).await;
    let why = lines[0].field("why").expect("the reason");
    assert!(why.contains("register grpc.health.v1.Health"), "{why}");
    let asked = us.sightings().probes().len();
    let more = |m: &Metrics| m.sum("bascule_probes_total", &[("result", "5xx")]) >= 3.0;
    proxy.metrics_when("further probes", more).await;
    assert!(us.sightings().probes().len() > asked.min(2));
    assert_eq!(proxy.log.select(said).len(), 1, "once, not with each probe");
}
