use super::*;
use crate::model::id::Label;
use crate::model::trace::TraceId;

const US: Process<'static> = Process { version: "0.0.0", instance: "instance" };

/// As `tests/golden/traces.pb` has it: two requests, one of them with a failover.
fn example() -> Vec<Trace> {
    let span = |number| SpanId::new(number).expect("not zero");
    let trace = |number| TraceId::new(number).expect("not zero");
    let label = |text| Label::new(text).expect("a label");
    let attempt = |number, provider, endpoint: &str| AttemptSpan {
        span: span(number),
        after: Duration::from_micros(number),
        took: Duration::from_millis(number),
        provider: label(provider),
        jurisdiction: "non_eu",
        endpoint: endpoint.into(),
        status: None,
        outcome: "broke_off",
        failed: true,
    };
    let context = SpanContext {
        trace: trace(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c),
        span: span(0x11),
        flags: TraceFlags::new(1),
    };
    let followed = Trace {
        context,
        before: Before::Parent(span(0xb7ad_6b71_6920_3331)),
        state: "a=1,b=2".into(),
        began: SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000),
        took: Duration::from_millis(250),
        method: "GET",
        scheme: "https",
        host: "www.portal.example".into(),
        url_path: "/page".into(),
        version: "2",
        status: Some(200),
        service: Some((label("portal"), 7)),
        outcome: "success",
        attempts: vec![
            attempt(0x21, "us", "https://us.example:8443"),
            AttemptSpan {
                jurisdiction: "eu",
                status: Some(200),
                outcome: "success",
                failed: false,
                ..attempt(0x22, "eu", "http://[2001:db8::1]")
            },
        ],
    };
    let began = Trace {
        context: SpanContext { trace: trace(9), flags: TraceFlags::ours(), ..context },
        before: Before::Link(context),
        state: "".into(),
        method: "_OTHER",
        host: "".into(),
        version: "1.1",
        status: Some(502),
        service: None,
        outcome: "connect",
        attempts: Vec::new(),
        ..followed.clone()
    };
    vec![followed, began]
}

#[test]
fn bytes_are_those_of_another_implementation() {
    let golden = include_bytes!("../../../tests/golden/traces.pb");
    let ours = encode(&example(), US);
    let (ours, theirs) = (Export::decode(&*ours), Export::decode(&golden[..]));
    assert_eq!(ours, theirs, "read by us");
    assert_eq!(encode(&example(), US), golden, "byte for byte");
}

#[test]
fn an_attempt_is_a_child_of_its_request() {
    let export = Export::decode(&*encode(&example(), US)).expect("our own");
    let spans = &export.resource_spans[0].scope_spans[0].spans;
    let [request, first, second, other] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((request.kind, first.kind, second.kind), (SERVER, CLIENT, CLIENT));
    assert!([first, second].iter().all(|span| span.parent_span_id == request.span_id));
    assert!([first, second].iter().all(|span| span.trace_id == request.trace_id));
    assert_eq!(request.flags, 1 | KNOWS_REMOTE | IS_REMOTE, "its parent is another process's");
    assert_eq!(first.flags, 1 | KNOWS_REMOTE);
    assert_eq!((&request.status, &second.status), (&None, &None));
    assert_eq!(first.status, Some(Status { code: ERROR }));
    assert!(other.parent_span_id.is_empty(), "a stranger's span is no parent");
    assert_eq!(other.links[0].trace_id, request.trace_id);
}

#[test]
fn an_endpoint_is_a_host_and_a_port() {
    for (endpoint, host, port) in [
        ("https://edge.example", "edge.example", 443),
        ("http://edge.example", "edge.example", 80),
        ("http://192.0.2.1:8080", "192.0.2.1", 8080),
        ("https://[2001:db8::1]", "2001:db8::1", 443),
        ("https://[2001:db8::1]:8443", "2001:db8::1", 8443),
    ] {
        assert_eq!(host_and_port(endpoint), (host, port), "{endpoint}");
    }
}

#[test]
fn what_a_collector_did_not_take_is_read_from_its_answer() {
    let said = |rejected_spans| {
        let partial_success = Some(PartialSuccess { rejected_spans, error_message: "no".into() });
        Exported { partial_success }.encode_to_vec()
    };
    assert_eq!(rejected(&said(3)), 3);
    assert_eq!(rejected(&said(-3)), 0);
    assert_eq!(rejected(b""), 0, "all is well");
    assert_eq!(rejected(b"<html>"), 0, "no answer at all");
}
