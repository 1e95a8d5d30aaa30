//! Spans of requests and their attempts, as a collector gets them, and what upstreams are told of a trace.

use std::collections::BTreeMap;

use bascule::telemetry::otlp::{AnyValue, CLIENT, ERROR, Export, SERVER, Span, Status, Value};
use prost::Message;

use crate::harness::client::{Ask, Speak};
use crate::harness::proxy::RunningProxy;
use crate::harness::recipe::Recipe;
use crate::harness::sightings::Sighting;
use crate::harness::upstream::{Act, FakeUpstream, Script, Transport};
use crate::harness::within;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// Two upstreams, a collector, and the proxy.
struct Traced {
    us: FakeUpstream,
    eu: FakeUpstream,
    collector: FakeUpstream,
    proxy: RunningProxy,
}

impl Traced {
    /// With further keys of `traces`, and whatever `more` adds to the file.
    async fn start(keys: &str, more: impl FnOnce(Recipe) -> Recipe) -> Self {
        let us = FakeUpstream::start("us", Transport::Plain).await;
        let eu = FakeUpstream::start("eu", Transport::Plain).await;
        let collector = FakeUpstream::start("collector", Transport::Plain).await;
        collector.behave(Script::all(Act::status(200)));
        let traces = format!("traces: {{ endpoint: \"{}\"{keys} }}", collector.url());
        let recipe = Recipe::portal().upstream(&us, "US").upstream(&eu, "SI").top(&traces);
        let proxy = RunningProxy::start(&more(recipe)).await;
        Self { us, eu, collector, proxy }
    }

    /// Waits until the collector has so many spans.
    async fn spans(&self, count: usize) -> Vec<Span> {
        let there = async {
            while spans(&self.collector).len() < count {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        within(&format!("{count} spans"), there).await;
        let spans = spans(&self.collector);
        assert_eq!(spans.len(), count, "{spans:?}");
        spans
    }

    /// Ends the proxy and says which spans there are then.
    async fn end(mut self) -> Vec<Span> {
        self.proxy.signal("TERM");
        assert!(self.proxy.exit().await.success());
        spans(&self.collector)
    }
}

/// All that a collector has read whole.
fn spans(collector: &FakeUpstream) -> Vec<Span> {
    let bodies = collector.sightings().traffic().into_iter().filter_map(|seen| seen.body);
    let exports = bodies.map(|body| Export::decode(&*body).expect("an export"));
    let resources = exports.flat_map(|export| export.resource_spans);
    resources.flat_map(|of| of.scope_spans).flat_map(|of| of.spans).collect()
}

fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|any| any.value.as_ref()) {
        Some(Value::Text(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        None => String::new(),
    };
    span.attributes.iter().map(|pair| (pair.key.as_str(), text(&pair.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the last request to an upstream said of its trace.
fn told(upstream: &FakeUpstream) -> (String, Option<String>) {
    let seen: Sighting = upstream.sightings().traffic().pop().expect("it arrived");
    let parent = seen.get("traceparent").expect("it is told").to_owned();
    (parent, seen.get("tracestate").map(str::to_owned))
}

#[tokio::test]
async fn a_retry_is_a_second_attempt_in_the_same_trace() {
    let stage = Traced::start(", sample: 100%", |recipe| recipe).await;
    stage.us.behave(Script::green_probes(Act::Reset));
    let ask = Ask::get("/page?token=secret").header("Authorization", "secret");
    assert_eq!(stage.proxy.send(Speak::TlsHttp2, &ask).await.served_by(), "eu");
    let spans = stage.spans(3).await;
    let [request, first, second] = &spans[..] else { panic!("{spans:?}") };

    assert_eq!((request.kind, first.kind, second.kind), (SERVER, CLIENT, CLIENT));
    assert!(request.parent_span_id.is_empty() && request.links.is_empty());
    for attempt in [first, second] {
        assert_eq!(attempt.trace_id, request.trace_id);
        assert_eq!(attempt.parent_span_id, request.span_id);
        assert!(attempt.start_time_unix_nano >= request.start_time_unix_nano);
        assert!(attempt.end_time_unix_nano <= request.end_time_unix_nano, "{attempt:?}");
    }
    assert_ne!(first.span_id, second.span_id);
    for (upstream, attempt) in [(&stage.us, first), (&stage.eu, second)] {
        let ours = format!("00-{}-{}-03", hex(&attempt.trace_id), hex(&attempt.span_id));
        assert_eq!(told(upstream), (ours, None), "the attempt is the upstream's parent");
    }

    let port = stage.us.url().rsplit_once(':').expect("a port").1.to_owned();
    for (span, expected) in [
        (request, ("http.request.method", "GET")),
        (request, ("url.path", "/page")),
        (request, ("url.scheme", "https")),
        (request, ("network.protocol.version", "2")),
        (request, ("server.address", "www.portal.example")),
        (request, ("http.response.status_code", "200")),
        (request, ("bascule.service", "portal")),
        (request, ("bascule.outcome", "success")),
        (first, ("server.address", "127.0.0.1")),
        (first, ("server.port", &port)),
        (first, ("error.type", "broke_off")),
        (first, ("bascule.provider", "us")),
        (first, ("bascule.jurisdiction", "non_eu")),
        (first, ("bascule.outcome", "broke_off")),
        (second, ("http.response.status_code", "200")),
        (second, ("http.request.resend_count", "1")),
        (second, ("bascule.provider", "eu")),
        (second, ("bascule.jurisdiction", "eu")),
        (second, ("bascule.outcome", "success")),
    ] {
        let found = attributes(span);
        assert_eq!(found.get(expected.0).map(String::as_str), Some(expected.1), "{found:?}");
    }
    assert!(attributes(request)["bascule.generation"].parse::<u64>().expect("a number") > 0);
    assert_eq!(first.status, Some(Status { code: ERROR }));
    assert_eq!((&request.status, &second.status), (&None, &None), "the retry masked it");
    let sent = stage.collector.sightings().traffic().pop().expect("a batch");
    assert_eq!((&*sent.method, &*sent.target), ("POST", "/v1/traces"));
    assert_eq!(sent.get("content-type"), Some("application/x-protobuf"));
    let body = String::from_utf8_lossy(&sent.body.expect("whole")).into_owned();
    assert!(!body.contains("secret") && !body.contains("token"), "no query, no header");
}

#[tokio::test]
async fn a_trusted_proxys_parent_is_followed_as_far_as_it_is_recorded() {
    let trusting = |recipe: Recipe| recipe.top("trusted_proxies: [127.0.0.0/8]");
    let stage = Traced::start(", sample: 0%", trusting).await;
    let ask = |parent| Ask::get("/").header("traceparent", parent).header("tracestate", "a=1");
    stage.proxy.send(Speak::Http1, &ask(UNSAMPLED)).await;
    assert_eq!(told(&stage.us), (UNSAMPLED.to_owned(), Some("a=1".to_owned())), "as it came");
    stage.proxy.send(Speak::Http1, &ask(SAMPLED)).await;
    let spans = stage.spans(2).await;
    let [request, attempt] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((hex(&request.trace_id), hex(&request.parent_span_id)), (TRACE.into(), SPAN.into()));
    assert_eq!((&*request.trace_state, &*attempt.trace_state), ("a=1", "a=1"));
    let ours = format!("00-{TRACE}-{}-01", hex(&attempt.span_id));
    assert_eq!(told(&stage.us), (ours, Some("a=1".to_owned())));
}

#[tokio::test]
async fn a_stranger_cannot_have_its_requests_traced() {
    let stage = Traced::start(", sample: 0%", |recipe| recipe).await;
    let ask = Ask::get("/").header("traceparent", SAMPLED).header("tracestate", "a=1");
    stage.proxy.send(Speak::Http1, &ask).await;
    assert_eq!(told(&stage.us), (SAMPLED.to_owned(), Some("a=1".to_owned())), "as it came");
    assert_eq!(stage.end().await, Vec::new());
}

#[tokio::test]
async fn a_strangers_trace_is_pointed_at_and_not_written_into() {
    let log = |recipe: Recipe| recipe.top("access_log: { target: access.log }");
    let stage = Traced::start(", sample: 100%", log).await;
    let ask = Ask::get("/").header("traceparent", SAMPLED).header("tracestate", "a=1");
    stage.proxy.send(Speak::Http1, &ask).await;
    let spans = stage.spans(2).await;
    assert_ne!(hex(&spans[0].trace_id), TRACE);
    assert_eq!(hex(&spans[0].links[0].trace_id), TRACE);
    assert_eq!(hex(&spans[0].links[0].span_id), SPAN);
    let (parent, state) = told(&stage.us);
    assert!(parent.contains(&hex(&spans[0].trace_id)), "the upstream goes on in ours: {parent}");
    assert_eq!(state, None, "which has no state of theirs");
    let file = stage.proxy.file("access.log");
    let written = async {
        while std::fs::read_to_string(&file).unwrap_or_default().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        std::fs::read_to_string(&file).expect("it is there")
    };
    let line = within("a line", written).await;
    assert!(line.contains(&hex(&spans[0].trace_id)), "the line names the trace: {line}");
}

#[tokio::test]
async fn what_waits_is_sent_before_the_process_ends() {
    let stage = Traced::start(", sample: 100%", |recipe| recipe).await;
    stage.proxy.get("/").await;
    assert_eq!(stage.end().await.len(), 2);
}

#[tokio::test]
async fn a_collector_that_is_busy_gets_the_same_batch_again() {
    let keys = ", sample: 100%, headers: { set: { Authorization: \"Bearer 1\" } }";
    let stage = Traced::start(keys, |recipe| recipe).await;
    stage.collector.behave(Script::all(Act::status(503)));
    stage.proxy.get("/").await;
    stage.spans(2).await;
    stage.collector.behave(Script::all(Act::status(200)));
    let spans = stage.spans(4).await;
    assert_eq!(spans[..2], spans[2..]);
    let seen = stage.collector.sightings().traffic();
    assert!(seen.iter().all(|batch| batch.get("authorization") == Some("Bearer 1")));
    stage
        .proxy
        .log
        .wait("it to be said", 1, |line| line.message() == "traces are sent again")
        .await;
    let metrics = stage.proxy.metrics().await;
    assert_eq!(metrics.sum("bascule_dropped_total", &[("what", "traces")]), 0.0);
}

#[tokio::test]
async fn a_collector_that_takes_nothing_costs_spans_and_nothing_else() {
    let stage = Traced::start(", sample: 100%", |recipe| recipe).await;
    stage.collector.behave(Script::all(Act::status(400)));
    for _ in 0..3 {
        assert_eq!(stage.proxy.get("/").await.status, 200);
    }
    let lost = [("what", "traces")];
    let dropped = |metrics: &crate::harness::metrics::Metrics| {
        metrics.sum("bascule_dropped_total", &lost) >= 6.0
    };
    stage.proxy.metrics_when("every span dropped", dropped).await;
    let line = "traces cannot be sent: spans are lost";
    assert_eq!(stage.proxy.log.select(|said| said.message() == line).len(), 1, "said once");
}

#[tokio::test]
async fn a_dead_collector_is_given_up_and_counted() {
    let us = FakeUpstream::start("us", Transport::Plain).await;
    // Nobody listens there, and nobody will: the port is below those that the system gives.
    let recipe = Recipe::portal().upstream(&us, "US");
    let recipe = recipe.top("traces: { endpoint: \"http://127.0.0.1:1\", sample: 100% }");
    let proxy = RunningProxy::start(&recipe).await;
    assert_eq!(proxy.get("/").await.status, 200);
    let dropped = |metrics: &crate::harness::metrics::Metrics| {
        metrics.sum("bascule_dropped_total", &[("what", "traces")]) == 2.0
    };
    proxy.metrics_when("both spans dropped", dropped).await;
}
