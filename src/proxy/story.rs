//! What the access log tells of one request: gathered while it runs, written when the last one who
//! knows of it is done. Costs nothing where there is no log.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode, Uri, Version};

use tokio::sync::Notify;

use super::client::Client;
use super::worker::Worker;
use crate::clock;
use crate::exchange::state::{PoolState, UpstreamState};
use crate::model::access_log::LineFormat;
use crate::model::outcome::{Marker, Outcome};
use crate::model::place::Jurisdiction;
use crate::model::refusal::Refusal;
use crate::model::unit::{Generation, Permille};
use crate::request::headers::{Proto, Trust, X_REQUEST_ID, trace_id};
use crate::telemetry::access_log::{Piece, Sink};
use crate::telemetry::line::{self, Line};

#[cfg(feature = "otlp")]
mod spans;
pub(super) mod unread;

/// Gathered before it is handed over.
const PIECE: usize = 32 * 1024;
/// Longest time a line waits for others.
const WAIT: Duration = Duration::from_millis(250);
/// Of a host or a request's name, in bytes.
const MOST_HOST: usize = 255;
/// The client did not wait for an answer: what nginx calls it, and no status of HTTP.
const CLIENT_GONE: u16 = 499;

/// One worker's lines that wait for others.
pub(super) struct Gathering {
    sink: Sink,
    bytes: RefCell<Vec<u8>>,
    lines: Cell<u64>,
    /// Rung by the first line of a piece.
    filling: Notify,
}

impl Gathering {
    pub(super) fn new(sink: Sink) -> Self {
        Self { sink, bytes: RefCell::default(), lines: Cell::new(0), filling: Notify::new() }
    }

    /// Hands over, for ever, what has waited long enough.
    pub(super) async fn keep_moving(&self) {
        loop {
            self.filling.notified().await;
            tokio::time::sleep(WAIT).await;
            self.hand_over();
        }
    }

    /// One more line, written by `write`.
    fn gather(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.bytes.borrow_mut();
        write(&mut bytes);
        let gathered = bytes.len();
        drop(bytes);
        self.lines.set(self.lines.get() + 1);
        if gathered >= PIECE {
            self.hand_over();
        } else if self.lines.get() == 1 {
            self.filling.notify_one();
        }
    }

    /// Hands over what was gathered.
    fn hand_over(&self) {
        let bytes = self.bytes.take();
        let lines = self.lines.replace(0);
        if lines > 0 {
            self.sink.write(Piece { bytes, lines });
        }
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// One request. Written when the last [`Rc`] is dropped.
pub(super) struct Story {
    worker: Rc<Worker>,
    format: LineFormat,
    /// Written even where all went well.
    sampled: bool,
    began: (Instant, SystemTime),
    client: IpAddr,
    proto: Proto,
    method: Method,
    uri: Uri,
    version: Version,
    /// As the client wrote it.
    said_host: Option<HeaderValue>,
    /// By which a route took it.
    host: OnceCell<HeaderValue>,
    service: OnceCell<(Arc<PoolState>, Generation)>,
    attempts: RefCell<Vec<Told>>,
    refusal: Cell<Option<Refusal>>,
    status: Cell<Option<StatusCode>>,
    head_took: Cell<Duration>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    /// A trusted proxy's.
    said_request_id: Option<HeaderValue>,
    request_id: OnceCell<HeaderValue>,
    trace_id: Option<HeaderValue>,
    #[cfg(feature = "otlp")]
    traced: Option<super::trace::Traced>,
}

/// One attempt.
struct Told {
    upstream: Arc<UpstreamState>,
    jurisdiction: Jurisdiction,
    status: Option<StatusCode>,
    head_took: Option<Duration>,
    outcome: Option<Outcome>,
    marked: Option<bool>,
}

impl Story {
    /// Of a request whose head has come; `None` where none is written down.
    pub(super) fn begin(client: &Client, parts: &Parts) -> Option<Rc<Self>> {
        let settings = client.settings.borrow();
        let log = settings.access_log.as_ref();
        #[cfg(feature = "otlp")]
        let traced = super::trace::Traced::begin(client, parts, log);
        #[cfg(feature = "otlp")]
        let log = log.or(traced.as_ref().map(|_| &super::trace::UNWRITTEN));
        let log = log?;
        let trace_id = parts.headers.get("traceparent").cloned();
        // Where a trace of our own begins, the line names that one.
        #[cfg(feature = "otlp")]
        let trace_id = traced.as_ref().and_then(super::trace::Traced::traceparent).or(trace_id);
        let sampled = log.sample == Permille::ALL || fastrand::u16(0..1000) < log.sample.get();
        Some(Rc::new(Self {
            worker: Rc::clone(&client.worker),
            format: log.format,
            sampled,
            began: (clock::now(), clock::wall()),
            client: client.origin(&parts.headers).last_known(),
            proto: client.proto,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            said_host: parts.headers.get(HOST).cloned(),
            host: OnceCell::new(),
            service: OnceCell::new(),
            attempts: RefCell::default(),
            refusal: Cell::new(None),
            status: Cell::new(None),
            head_took: Cell::new(Duration::ZERO),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            said_request_id: said_request_id(client, parts),
            request_id: OnceCell::new(),
            trace_id,
            #[cfg(feature = "otlp")]
            traced,
        }))
    }

    /// The route that took it. Only the first word counts.
    pub(super) fn routed(
        &self,
        service: &Arc<PoolState>,
        generation: Generation,
        host: &HeaderValue,
    ) {
        self.service.get_or_init(|| (Arc::clone(service), generation));
        self.host.get_or_init(|| host.clone());
    }

    /// The name under which upstreams know it.
    pub(super) fn named(&self, request_id: &HeaderValue) {
        self.request_id.get_or_init(|| request_id.clone());
    }

    /// It was turned away.
    pub(super) fn refused(&self, refusal: Refusal) {
        self.refusal.set(Some(refusal));
    }

    /// An attempt begins; its place among them.
    pub(super) fn attempt(
        &self,
        upstream: &Arc<UpstreamState>,
        jurisdiction: Jurisdiction,
    ) -> usize {
        #[cfg(feature = "otlp")]
        if let Some(traced) = &self.traced {
            traced.attempt();
        }
        let mut attempts = self.attempts.borrow_mut();
        attempts.push(Told {
            upstream: Arc::clone(upstream),
            jurisdiction,
            status: None,
            head_took: None,
            outcome: None,
            marked: None,
        });
        attempts.len() - 1
    }

    /// The head of an attempt's answer came.
    pub(super) fn head(&self, attempt: usize, status: StatusCode, took: Duration, marker: Marker) {
        if let Some(told) = self.attempts.borrow_mut().get_mut(attempt) {
            told.status = Some(status);
            told.head_took = Some(took);
            told.marked = match marker {
                Marker::Unconfigured => None,
                Marker::Present => Some(true),
                Marker::Old | Marker::Absent | Marker::Replaced | Marker::Own => Some(false),
            };
        }
    }

    /// What an attempt came to.
    pub(super) fn concluded(&self, attempt: usize, outcome: Outcome) {
        if let Some(told) = self.attempts.borrow_mut().get_mut(attempt) {
            told.outcome = Some(outcome);
        }
    }

    /// An attempt is over, its answer's body included.
    #[cfg(feature = "otlp")]
    pub(super) fn ended(&self, attempt: usize) {
        if let Some(traced) = &self.traced {
            traced.ended(attempt);
        }
    }

    /// What the upstream of an attempt is told of its trace.
    #[cfg(feature = "otlp")]
    pub(super) fn told(&self, attempt: usize) -> Option<crate::request::trace_context::Told> {
        self.traced.as_ref()?.told(attempt)
    }

    /// The client gets this; `bytes` of a body that is known already.
    pub(super) fn answered(&self, status: StatusCode, bytes: u64) {
        self.status.set(Some(status));
        self.head_took.set(self.elapsed());
        self.bytes_out.set(bytes);
    }

    /// More of a body went to the client.
    pub(super) fn sent(&self, bytes: u64) {
        self.bytes_out.set(self.bytes_out.get() + bytes);
    }

    /// This much has come from the client so far.
    pub(super) fn received(&self, bytes: u64) {
        self.bytes_in.set(self.bytes_in.get().max(bytes));
    }

    fn elapsed(&self) -> Duration {
        clock::now().saturating_duration_since(self.began.0)
    }

    fn went_well(&self) -> bool {
        let attempts = self.attempts.borrow();
        let is_good = self.status.get().is_some_and(|status| !status.is_server_error());
        let is_plain = attempts.iter().all(|told| told.outcome == Some(Outcome::Success));
        self.refusal.get().is_none() && attempts.len() <= 1 && is_good && is_plain
    }

    /// What it came to, in a word.
    fn outcome(&self) -> &'static str {
        match (self.refusal.get(), self.attempts.borrow().last()) {
            (Some(refusal), _) => refusal.as_str(),
            (None, Some(last)) => last.outcome(),
            (None, None) => "own",
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let told = self.attempts.borrow();
        let attempts: Vec<line::Attempt<'_>> = told.iter().map(Told::line).collect();
        let service = self.service.get();
        let host = self.host.get().or(self.said_host.as_ref()).map(text);
        let authority = || self.uri.authority().map(|authority| beginning(authority.as_str()));
        let host = host.or_else(authority);
        let request_id = self.request_id.get().or(self.said_request_id.as_ref()).map(text);
        let line = Line {
            began: self.began.1,
            client: self.client,
            method: self.method.as_str(),
            scheme: self.proto.as_str(),
            host: &host.unwrap_or_default(),
            url_path: self.uri.path_and_query().map_or("/", PathAndQuery::path),
            protocol: protocol(self.version),
            status: self.status.get().map_or(CLIENT_GONE, |status| status.as_u16()),
            service: service.map(|(service, _)| service.service.as_str()),
            generation: service.map_or(0, |(_, generation)| generation.get()),
            attempts: &attempts,
            outcome: self.outcome(),
            head_took: self.head_took.get(),
            took: self.elapsed(),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            request_id: &request_id.unwrap_or_default(),
            trace_id: self.trace_id.as_ref().and_then(trace_id).unwrap_or_default(),
        };
        line::write(&line, self.format, out);
    }
}

fn said_request_id(client: &Client, parts: &Parts) -> Option<HeaderValue> {
    match client.trust.get() {
        Trust::TrustedProxy => parts.headers.get(X_REQUEST_ID).cloned(),
        Trust::Stranger => None,
    }
}

/// What a client wrote, as far as it has a place in a line: a host that was refused may be anything.
fn text(value: &HeaderValue) -> String {
    beginning(&String::from_utf8_lossy(value.as_bytes()))
}

fn beginning(text: &str) -> String {
    text[..text.floor_char_boundary(MOST_HOST)].to_owned()
}

impl Told {
    fn outcome(&self) -> &'static str {
        self.outcome.map_or("none", Outcome::as_str)
    }

    fn line(&self) -> line::Attempt<'_> {
        line::Attempt {
            provider: self.upstream.key.provider.as_str(),
            jurisdiction: self.jurisdiction.as_str(),
            status: self.status.map(|status| status.as_u16()),
            head_took: self.head_took,
            outcome: self.outcome(),
            marked: self.marked,
        }
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        #[cfg(feature = "otlp")]
        if let Some(traced) = &self.traced {
            self.hand_over(traced);
            if !traced.is_written {
                return;
            }
        }
        if !self.sampled && self.went_well() {
            return;
        }
        self.worker.access_log.gather(|out| self.write(out));
    }
}
