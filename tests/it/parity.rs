//! A fallback that passes its probes and yet answers otherwise is told before it is needed.

use crate::harness::log::Line;
use crate::harness::metrics::Metrics;
use crate::harness::stage::Stage;
use crate::harness::upstream::{Act, Door, Script};

fn mismatch(metrics: &Metrics, provider: &str) -> Option<f64> {
    let labels = [("service", "portal"), ("provider", provider)];
    let is_told = |series: &String| {
        series.contains("bascule_parity_mismatch") && series.contains(&format!("{provider:?}"))
    };
    let told = metrics.names().iter().any(is_told);
    told.then(|| metrics.sum("bascule_parity_mismatch", &labels))
}

fn probed_as(probes: Act) -> Script {
    Script { door: Door::Open, traffic: Act::Serve, probes }
}

#[tokio::test]
async fn another_status_at_the_fallback_is_told_until_it_is_mended() {
    let stage = Stage::plain().await;
    stage.proxy.metrics_when("a comparison", |m| mismatch(m, "eu") == Some(0.0)).await;
    stage.eu.behave(probed_as(Act::status(204)));
    let metrics =
        stage.proxy.metrics_when("a difference", |m| mismatch(m, "eu") == Some(1.0)).await;
    assert_eq!(mismatch(&metrics, "us"), Some(0.0), "the first choice is what others differ from");
    let differs = |line: &Line| line.message() == "answers unlike the first choice";
    let lines = stage.proxy.log.wait("what differs", 1, differs).await;
    assert_eq!(lines[0].field("provider").as_deref(), Some("eu"));
    assert_eq!(lines[0].field("what").as_deref(), Some("status"));
    assert_eq!(metrics.sum("bascule_failovers_total", &[]), 0.0, "nothing moves by it");
    stage.eu.behave(probed_as(Act::Serve));
    stage.proxy.metrics_when("its end", |m| mismatch(m, "eu") == Some(0.0)).await;
}
