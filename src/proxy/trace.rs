//! What a traced request adds to its story: the trace it belongs to, and the time of each attempt. It is
//! handed over when the last one who knows of it is done; no request waits for that.

use std::cell::RefCell;
use std::time::Instant;

use http::request::Parts;
use http::{HeaderValue, Method};

use super::client::Client;
use crate::clock;
use crate::exchange::traces::TraceSender;
use crate::model::access_log::{AccessLog, LineFormat, Target};
use crate::model::trace::{Before, SpanContext, SpanId, Trace, TraceFlags, TraceId};
use crate::model::unit::Permille;
use crate::request::trace_context::{self, Decision, State, Told};
use crate::telemetry::metrics::Metrics;

/// For a request that is traced where nothing is written down.
pub(super) static UNWRITTEN: AccessLog =
    AccessLog { target: Target::Stdout, format: LineFormat::Json, sample: Permille::ZERO };

/// Where traced requests go. Clone freely.
#[derive(Clone, Debug)]
pub struct Tracer {
    sender: TraceSender,
    metrics: Metrics,
}

impl Tracer {
    /// What finds no place is counted there.
    pub fn new(sender: TraceSender, metrics: Metrics) -> Self {
        Self { sender, metrics }
    }

    pub(super) fn hand_over(&self, trace: Trace) {
        if let Err(lost) = self.sender.send(trace) {
            self.metrics.drop_spans(lost);
        }
    }
}

/// One traced request.
pub(super) struct Traced {
    pub(super) context: SpanContext,
    pub(super) before: Before,
    pub(super) state: Box<str>,
    /// Whether it is written down too.
    pub(super) is_written: bool,
    pub(super) attempts: RefCell<Vec<Mark>>,
}

/// One attempt of it.
pub(super) struct Mark {
    pub(super) span: SpanId,
    pub(super) began: Instant,
    /// `None`: it is not over yet.
    pub(super) ended: Option<Instant>,
}

impl Traced {
    /// Of a request whose head has come; `None` where it is not traced.
    pub(super) fn begin(client: &Client, parts: &Parts, log: Option<&AccessLog>) -> Option<Self> {
        let share = client.settings.borrow().traces?;
        client.worker.traces.as_ref()?;
        let said = trace_context::read(&parts.headers);
        let is_drawn = || share == Permille::ALL || fastrand::u16(0..1000) < share.get();
        let (trace, before, flags) = match trace_context::decide(said, client.trust.get(), is_drawn)
        {
            Decision::Pass => return None,
            Decision::Follow(parent) => (parent.trace, Before::Parent(parent.span), parent.flags),
            Decision::Begin(stranger) => {
                let before = stranger.map_or(Before::Nothing, Before::Link);
                (TraceId::random(fastrand::u128(..)), before, TraceFlags::ours())
            }
        };
        let state = match before {
            Before::Parent(_) => trace_context::state(&parts.headers),
            Before::Nothing | Before::Link(_) => Box::default(),
        };
        let context = SpanContext { trace, span: SpanId::random(fastrand::u64(..)), flags };
        let is_written = log.is_some();
        Some(Self { context, before, state, is_written, attempts: RefCell::default() })
    }

    /// As it would be said to somebody whose parent it is.
    pub(super) fn traceparent(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(self.context.to_string()).ok()
    }

    /// An attempt begins.
    pub(super) fn attempt(&self) {
        let span = SpanId::random(fastrand::u64(..));
        self.attempts.borrow_mut().push(Mark { span, began: clock::now(), ended: None });
    }

    /// It is over.
    pub(super) fn ended(&self, attempt: usize) {
        if let Some(mark) = self.attempts.borrow_mut().get_mut(attempt) {
            mark.ended = Some(clock::now());
        }
    }

    /// What the upstream of an attempt is told.
    pub(super) fn told(&self, attempt: usize) -> Option<Told> {
        let span = self.attempts.borrow().get(attempt)?.span;
        let state = match self.before {
            Before::Parent(_) => State::GoesOn,
            Before::Nothing | Before::Link(_) => State::Ends,
        };
        Some(Told { context: SpanContext { span, ..self.context }, state })
    }
}

/// A registered method's name: whoever invents methods would invent values without end.
pub(super) fn method(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

/// The beginning of a text, so many bytes at most.
pub(super) fn beginning(text: &str, most: usize) -> Box<str> {
    text[..text.floor_char_boundary(most)].into()
}
