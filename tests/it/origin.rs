//! The origin's fault is nobody else's: when its marker says that the origin spoke, nothing moves.

use std::collections::HashMap;

use crate::harness::client::{Ask, Speak};
use crate::harness::load::{Load, turn};
use crate::harness::recipe::Recipe;
use crate::harness::stage::Stage;
use crate::harness::upstream::{Act, Script, Transport};

const MARKER: (&str, &str) = ("X-Origin-Id", "portal");

fn marked(status: u16) -> Act {
    Act::Answer(status, vec![MARKER])
}

fn with_marker(recipe: Recipe) -> Recipe {
    recipe.service("origin_marker: { header: X-Origin-Id, value: portal }")
}

/// The origin works for so many requests, then fails through both providers.
async fn nothing_moves(healthy: usize) {
    let _turn = turn().await;
    let stage = Stage::start(Transport::Tls, with_marker).await;
    for upstream in [&stage.us, &stage.eu] {
        upstream.behave(Script::all(marked(200)));
    }
    let load = Load::start(&stage.proxy, 200);
    load.goes_on(healthy).await;
    for upstream in [&stage.us, &stage.eu] {
        upstream.behave(Script::all(marked(500)));
    }
    load.goes_on(1_000).await;
    let report = load.stop().await;
    let relayed: usize = report
        .records
        .iter()
        .filter(|record| matches!(&record.answer, Ok((500, by)) if by == "us"))
        .count();
    let unanswered = report.records.iter().filter(|record| record.answer.is_err()).count();
    assert!(relayed >= 900 && unanswered == 0, "{relayed} relayed, {unanswered} unanswered");
    let attempts: usize = [&stage.us, &stage.eu]
        .iter()
        .map(|upstream| {
            HashMap::<String, usize>::values(&upstream.sightings().by_id()).sum::<usize>()
        })
        .sum();
    let requests = report.records.len();
    assert!(attempts * 10 <= requests * 11, "{attempts} attempts for {requests} requests");
    let metrics = stage.proxy.metrics().await;
    let portal = ("service", "portal");
    assert_eq!(metrics.sum("bascule_failovers_total", &[portal]), 0.0, "no flip");
    let ejected = [portal, ("health", "ejected")];
    assert_eq!(metrics.sum("bascule_upstream_health", &ejected), 0.0, "nothing ejected");
    assert_eq!(metrics.sum("bascule_active_upstream", &[portal, ("provider", "us")]), 1.0);
    assert_eq!(metrics.sum("bascule_origin_incident", &[portal]), 1.0, "and it is raised");
}

#[tokio::test]
async fn an_origin_that_fails_with_its_marker_moves_nothing() {
    nothing_moves(400).await;
}

#[tokio::test]
async fn an_origin_that_fails_from_the_start_moves_nothing() {
    nothing_moves(1).await;
}

#[tokio::test]
async fn an_error_without_the_marker_is_tried_elsewhere_and_one_with_it_is_relayed() {
    let stage = Stage::start(Transport::Plain, with_marker).await;
    stage.eu.behave(Script::all(marked(200)));
    stage.us.behave(Script { probes: marked(200), ..Script::all(marked(503)) });
    let answer = stage.proxy.send(Speak::Http1, &Ask::get("/page")).await;
    assert_eq!((answer.status.as_u16(), answer.served_by()), (503, "us"));
    stage.us.behave(Script { probes: marked(200), ..Script::all(Act::status(503)) });
    let answer = stage.proxy.send(Speak::Http1, &Ask::get("/page")).await;
    assert_eq!((answer.status.as_u16(), answer.served_by()), (200, "eu"));
}
