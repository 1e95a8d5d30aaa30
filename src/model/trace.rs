//! What is recorded of a traced request, as plain values: one span of its own and one of each attempt.
//!
//! Of what a client said nothing is in it but method, path without query, host and `tracestate`; of what an
//! upstream said, its status. Each text has a bound, so that a full queue of these has one too.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::time::{Duration, SystemTime};

use super::id::Label;
use super::topology::Endpoint;
use super::unit::Permille;

/// Bytes of a path that are kept.
pub const MOST_PATH: usize = 512;
/// Bytes of a host that are kept.
pub const MOST_HOST: usize = 255;
/// Bytes of a `tracestate` that are recorded (W3C Trace Context, section 3.3.1.5: at least so many); a
/// longer one still goes on to the upstream.
pub const MOST_STATE: usize = 512;

/// Where spans go, and of how many requests.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Traces {
    /// Who takes them.
    pub collector: Collector,
    /// Share of the requests that are traced of our own accord.
    pub sample: Permille,
}

/// Who takes spans.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Collector {
    /// Where it is, and what it is told besides.
    pub endpoint: Endpoint,
    /// Path and query of its requests.
    pub target: Box<str>,
    /// For one request, from dialling on.
    pub timeout: Duration,
}

/// Names a trace among all there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// `None` for zero, which names nothing.
    pub fn new(number: u128) -> Option<Self> {
        NonZeroU128::new(number).map(Self)
    }

    /// Of random bits; where all of them are zero, one.
    pub fn random(bits: u128) -> Self {
        Self(NonZeroU128::new(bits).unwrap_or(NonZeroU128::MIN))
    }

    /// The first bytes first, as they are written.
    pub fn bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }
}

/// Names a span of a trace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SpanId(NonZeroU64);

impl SpanId {
    /// `None` for zero, which names nothing.
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// Of random bits; where all of them are zero, one.
    pub fn random(bits: u64) -> Self {
        Self(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }

    /// The first bytes first, as they are written.
    pub fn bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

/// What a trace says about itself (W3C Trace Context, section 3.2.2.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceFlags(u8);

impl TraceFlags {
    const SAMPLED: u8 = 1;
    const RANDOM: u8 = 2;

    /// As they came; those that have no meaning yet are let go.
    pub const fn new(bits: u8) -> Self {
        Self(bits & (Self::SAMPLED | Self::RANDOM))
    }

    /// Of a trace that begins here: recorded, and its id is random.
    pub const fn ours() -> Self {
        Self(Self::SAMPLED | Self::RANDOM)
    }

    /// Whether who said so recorded its part.
    pub const fn is_sampled(self) -> bool {
        self.0 & Self::SAMPLED != 0
    }

    /// As they go on.
    pub const fn bits(self) -> u8 {
        self.0
    }
}

/// A place in a trace. Written as a `traceparent` of version 00.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SpanContext {
    /// Which trace.
    pub trace: TraceId,
    /// Which span of it.
    pub span: SpanId,
    /// What is said of the trace.
    pub flags: TraceFlags,
}

impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace.0, self.span.0, self.flags.0)
    }
}

/// What a traced request belongs to besides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Before {
    /// Nothing that is known: the trace begins here.
    Nothing,
    /// A trusted proxy's span, of the same trace.
    Parent(SpanId),
    /// A stranger's span, of a trace of its own that is only pointed at.
    Link(SpanContext),
}

/// One traced request that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Its own span's place.
    pub context: SpanContext,
    /// What it belongs to.
    pub before: Before,
    /// `tracestate`, of a trace that goes on; empty without one.
    pub state: Box<str>,
    /// When its head had come.
    pub began: SystemTime,
    /// Until the last byte of its answer.
    pub took: Duration,
    /// A registered one, else `_OTHER`: whoever invents methods would invent values without end.
    pub method: &'static str,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// As the client named it, without a port.
    pub host: Box<str>,
    /// Without the query.
    pub url_path: Box<str>,
    /// `1.0`, `1.1` or `2`.
    pub version: &'static str,
    /// What the client got; `None`: it was gone before.
    pub status: Option<u16>,
    /// The service and the number of the snapshot, where a route took it.
    pub service: Option<(Label, u64)>,
    /// What it came to, as in the access log.
    pub outcome: &'static str,
    /// In the order in which they began.
    pub attempts: Vec<AttemptSpan>,
}

/// One attempt of a traced request.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptSpan {
    /// Its span, which the upstream knows as its parent.
    pub span: SpanId,
    /// After the request's beginning.
    pub after: Duration,
    /// Until the attempt was over.
    pub took: Duration,
    /// Whom it went through.
    pub provider: Label,
    /// As `eu` or `non_eu`.
    pub jurisdiction: &'static str,
    /// Scheme, host and port as `https://host:443`.
    pub endpoint: Box<str>,
    /// Of the answer, where its head came.
    pub status: Option<u16>,
    /// What it came to.
    pub outcome: &'static str,
    /// Whether that is an error, of whomever.
    pub failed: bool,
}

impl Trace {
    /// How many spans it is.
    pub fn spans(&self) -> u64 {
        1 + self.attempts.len() as u64
    }
}

/// A request with so many attempts.
#[cfg(test)]
pub(crate) fn example(attempts: usize) -> Trace {
    let label = |text| Label::new(text).expect("a label");
    let span = SpanId::random(7);
    let attempt = AttemptSpan {
        span,
        after: Duration::ZERO,
        took: Duration::ZERO,
        provider: label("us"),
        jurisdiction: "non_eu",
        endpoint: "https://us.example".into(),
        status: Some(200),
        outcome: "success",
        failed: false,
    };
    Trace {
        context: SpanContext { trace: TraceId::random(9), span, flags: TraceFlags::ours() },
        before: Before::Nothing,
        state: Box::default(),
        began: SystemTime::UNIX_EPOCH,
        took: Duration::ZERO,
        method: "GET",
        scheme: "https",
        host: "www.portal.example".into(),
        url_path: "/".into(),
        version: "2",
        status: Some(200),
        service: Some((label("portal"), 1)),
        outcome: "success",
        attempts: vec![attempt; attempts],
    }
}
