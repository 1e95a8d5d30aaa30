//! Traced requests as OTLP has them: the messages of `opentelemetry.proto.collector.trace.v1`, in protobuf,
//! with the names of OpenTelemetry's semantic conventions for HTTP.
//!
//! Only what is said here of each message is mirrored; the numbers are fixed for ever (OTLP 1.x).
//! `tests/golden/traces.pb` was written by another implementation, and a test holds this one to it.

use std::time::{Duration, SystemTime};

use prost::Message;

use crate::model::trace::{AttemptSpan, Before, SpanContext, SpanId, Trace, TraceFlags};

/// What `Content-Type` says of it.
pub const CONTENT_TYPE: &str = "application/x-protobuf";

/// `ExportTraceServiceRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct Export {
    /// By who says so; here there is one.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// Spans of one process.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceSpans {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// By the code that made them; here there is one.
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

/// A process, by its attributes.
#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    /// `service.name` and so on.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// Spans of one maker.
#[derive(Clone, PartialEq, Message)]
pub struct ScopeSpans {
    /// The maker.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    /// What it made.
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

/// A maker of spans.
#[derive(Clone, PartialEq, Message)]
pub struct Scope {
    /// We.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Of ours.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// One span.
#[derive(Clone, PartialEq, Message)]
pub struct Span {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// `tracestate`.
    #[prost(string, tag = "3")]
    pub trace_state: String,
    /// 8 bytes, or none.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    /// For people.
    #[prost(string, tag = "5")]
    pub name: String,
    /// [`SERVER`] or [`CLIENT`].
    #[prost(int32, tag = "6")]
    pub kind: i32,
    /// Nanoseconds since 1970.
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    /// Nanoseconds since 1970.
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    /// What is known of it.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// Spans of other traces.
    #[prost(message, repeated, tag = "13")]
    pub links: Vec<Link>,
    /// Whether it went wrong.
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
    /// Those of the trace, [`KNOWS_REMOTE`] and [`IS_REMOTE`].
    #[prost(fixed32, tag = "16")]
    pub flags: u32,
}

/// A span of another trace.
#[derive(Clone, PartialEq, Message)]
pub struct Link {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// As of a span.
    #[prost(fixed32, tag = "6")]
    pub flags: u32,
}

/// How a span ended.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// [`ERROR`], or nothing.
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// One attribute.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// The value of an attribute.
#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    /// One of them.
    #[prost(oneof = "Value", tags = "1, 3")]
    pub value: Option<Value>,
}

/// The kinds of values that are used here.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Value {
    /// A text.
    #[prost(string, tag = "1")]
    Text(String),
    /// A number.
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// `ExportTraceServiceResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct Exported {
    /// What was wrong, with an answer that is otherwise good.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

/// What a collector did not take.
#[derive(Clone, PartialEq, Message)]
pub struct PartialSuccess {
    /// How many spans.
    #[prost(int64, tag = "1")]
    pub rejected_spans: i64,
    /// For people.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// A request that came to us.
pub const SERVER: i32 = 2;
/// A request of ours.
pub const CLIENT: i32 = 3;
/// Of a [`Status`].
pub const ERROR: i32 = 2;
/// Of flags: whether the parent is another process's is known.
pub const KNOWS_REMOTE: u32 = 0x100;
/// Of flags: it is.
pub const IS_REMOTE: u32 = 0x200;

/// Who says what is said.
#[derive(Clone, Copy, Debug)]
pub struct Process<'a> {
    /// Of bascule.
    pub version: &'a str,
    /// Tells this process from others.
    pub instance: &'a str,
}

/// The bytes of one request to a collector.
pub fn encode(traces: &[Trace], process: Process<'_>) -> Vec<u8> {
    let Process { version, instance } = process;
    let resource = Resource {
        attributes: vec![
            text("service.name", "bascule"),
            text("service.version", version),
            text("service.instance.id", instance),
        ],
    };
    let scope = Scope { name: "bascule".to_owned(), version: version.to_owned() };
    let spans = traces.iter().flat_map(spans).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans }];
    Export { resource_spans }.encode_to_vec()
}

/// How many spans a collector says that it did not take; what is no answer says nothing.
pub fn rejected(answer: &[u8]) -> u64 {
    let said = Exported::decode(answer).ok().and_then(|answer| answer.partial_success);
    said.map_or(0, |said| u64::try_from(said.rejected_spans).unwrap_or(0))
}

/// The request's own, then those of its attempts.
fn spans(trace: &Trace) -> impl Iterator<Item = Span> + '_ {
    let attempts = trace.attempts.iter().enumerate();
    std::iter::once(server(trace)).chain(attempts.map(|(place, attempt)| {
        let mut span = client(trace, attempt);
        if place > 0 {
            span.attributes.push(number("http.request.resend_count", place as i64));
        }
        span
    }))
}

fn server(trace: &Trace) -> Span {
    let mut attributes = vec![
        text("http.request.method", trace.method),
        text("url.scheme", trace.scheme),
        text("url.path", &trace.url_path),
        text("network.protocol.version", trace.version),
        text("bascule.outcome", trace.outcome),
    ];
    if !trace.host.is_empty() {
        attributes.push(text("server.address", &trace.host));
    }
    if let Some((service, generation)) = &trace.service {
        attributes.push(text("bascule.service", service.as_str()));
        attributes.push(number("bascule.generation", i64::try_from(*generation).unwrap_or(0)));
    }
    if let Some(status) = trace.status {
        attributes.push(number("http.response.status_code", status.into()));
    }
    // A client that went away is nobody's error, and what a client did wrong is not ours.
    let failed = trace.status.is_some_and(|status| status >= 500);
    if failed {
        attributes.push(error_type(trace.status, trace.outcome));
    }
    let (parent, link, remote) = match &trace.before {
        Before::Nothing => (None, None, 0),
        Before::Parent(span) => (Some(*span), None, IS_REMOTE),
        Before::Link(other) => (None, Some(other), 0),
    };
    let started = since_1970(trace.began);
    Span {
        parent_span_id: parent.map_or_else(Vec::new, |span| span.bytes().to_vec()),
        links: link.map(pointed_at).into_iter().collect(),
        flags: flags(trace.context.flags) | remote,
        status: status(failed),
        ..span(trace, (trace.context.span, SERVER), (started, trace.took), attributes)
    }
}

fn client(trace: &Trace, attempt: &AttemptSpan) -> Span {
    let (host, port) = host_and_port(&attempt.endpoint);
    let mut attributes = vec![
        text("http.request.method", trace.method),
        text("server.address", host),
        number("server.port", port.into()),
        text("bascule.provider", attempt.provider.as_str()),
        text("bascule.jurisdiction", attempt.jurisdiction),
        text("bascule.outcome", attempt.outcome),
    ];
    if let Some((service, _)) = &trace.service {
        attributes.push(text("bascule.service", service.as_str()));
    }
    if let Some(status) = attempt.status {
        attributes.push(number("http.response.status_code", status.into()));
    }
    if attempt.failed {
        attributes.push(error_type(attempt.status, attempt.outcome));
    }
    let started = since_1970(trace.began).saturating_add(nanoseconds(attempt.after));
    let times = (started, attempt.took);
    Span {
        parent_span_id: trace.context.span.bytes().to_vec(),
        flags: flags(trace.context.flags),
        status: status(attempt.failed),
        ..span(trace, (attempt.span, CLIENT), times, attributes)
    }
}

fn span(
    trace: &Trace,
    (id, kind): (SpanId, i32),
    (started, took): (u64, Duration),
    attributes: Vec<KeyValue>,
) -> Span {
    Span {
        trace_id: trace.context.trace.bytes().to_vec(),
        span_id: id.bytes().to_vec(),
        trace_state: trace.state.to_string(),
        // Methods have few values; paths have too many for a name.
        name: if trace.method == "_OTHER" { "HTTP" } else { trace.method }.to_owned(),
        kind,
        start_time_unix_nano: started,
        end_time_unix_nano: started.saturating_add(nanoseconds(took)),
        attributes,
        ..Span::default()
    }
}

fn status(failed: bool) -> Option<Status> {
    failed.then_some(Status { code: ERROR })
}

fn pointed_at(other: &SpanContext) -> Link {
    Link {
        trace_id: other.trace.bytes().to_vec(),
        span_id: other.span.bytes().to_vec(),
        flags: flags(other.flags) | IS_REMOTE,
    }
}

fn flags(flags: TraceFlags) -> u32 {
    u32::from(flags.bits()) | KNOWS_REMOTE
}

/// The status where it is the error, else what happened.
fn error_type(status: Option<u16>, outcome: &str) -> KeyValue {
    match status.filter(|status| *status >= 500) {
        Some(status) => text("error.type", &status.to_string()),
        None => text("error.type", outcome),
    }
}

/// Of `https://host:8443`; the port of the scheme where none is written.
fn host_and_port(endpoint: &str) -> (&str, u16) {
    let (scheme, authority) = endpoint.split_once("://").unwrap_or(("", endpoint));
    let default = if scheme == "https" { 443 } else { 80 };
    let (host, port) = match authority.rsplit_once(':') {
        // The last colon of an IPv6 address in brackets may be its own.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(default)),
        Some(_) | None => (authority, default),
    };
    (host.trim_matches(['[', ']']), port)
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(Value::Text(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value) }
}

fn number(key: &str, value: i64) -> KeyValue {
    let value = AnyValue { value: Some(Value::Number(value)) };
    KeyValue { key: key.to_owned(), value: Some(value) }
}

fn since_1970(moment: SystemTime) -> u64 {
    nanoseconds(moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

/// 584 years fit.
fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
