//! Method and path to an answer.

use std::time::Instant;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

use super::inspect::Status;
use super::live::{self, Phase};
use super::scrape::{self, Sources};
use super::{problem, token::Token};
use crate::clock;
use crate::telemetry::page;

/// What the answers are made from.
#[derive(Debug)]
pub struct Desk {
    /// What is counted and what is thought.
    pub sources: Sources,
    /// What must be shown; `None`: nothing.
    pub token: Option<Token>,
    /// When the process began to serve.
    pub started: Instant,
}

/// What there is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Resource {
    Live,
    Ready,
    Metrics,
    Status,
}

impl Resource {
    fn at(url_path: &str) -> Option<Self> {
        match url_path {
            "/livez" => Some(Self::Live),
            "/readyz" => Some(Self::Ready),
            "/metrics" => Some(Self::Metrics),
            "/v1/status" => Some(Self::Status),
            _ => None,
        }
    }

    /// Whether anybody may ask: the two say nothing that a connection attempt would not.
    const fn is_open(self) -> bool {
        match self {
            Self::Live | Self::Ready => true,
            Self::Metrics | Self::Status => false,
        }
    }
}

impl Desk {
    /// Answers one request. Never waits, so it needs no timeout of its own.
    pub fn answer<B>(&self, request: &Request<B>, phase: Phase) -> Response<Full<Bytes>> {
        let mut response = self.unmarked(request, phase);
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    fn unmarked<B>(&self, request: &Request<B>, phase: Phase) -> Response<Full<Bytes>> {
        let resource = Resource::at(request.uri().path());
        let is_open = resource.is_some_and(Resource::is_open);
        let shown = self.token.as_ref().is_none_or(|token| token.is_shown_in(request.headers()));
        if !is_open && !shown {
            return unauthorized();
        }
        let Some(resource) = resource else {
            return problem::answer(StatusCode::NOT_FOUND, "There is nothing at this path.");
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return only_reading();
        }
        match resource {
            Resource::Live => text("alive\n"),
            Resource::Ready => self.ready(phase),
            Resource::Metrics => self.metrics(),
            Resource::Status => self.status(),
        }
    }

    fn ready(&self, phase: Phase) -> Response<Full<Bytes>> {
        let board = self.sources.board.current();
        let reasons = live::unready(phase, &board, self.started, clock::now());
        if reasons.is_empty() {
            return text("ready\n");
        }
        problem::with_reasons(StatusCode::SERVICE_UNAVAILABLE, "Not ready.", &reasons)
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match scrape::page(&self.sources, clock::now()) {
            Ok(body) => with_type(body, page::CONTENT_TYPE),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "scrape failed");
                let detail = "The metrics cannot be written.";
                problem::answer(StatusCode::INTERNAL_SERVER_ERROR, detail)
            }
        }
    }

    fn status(&self) -> Response<Full<Bytes>> {
        let status = Status::of(&self.sources.board.current(), clock::now());
        match serde_json::to_vec(&status) {
            Ok(body) => with_type(body, "application/json"),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "status failed");
                let detail = "The status cannot be written.";
                problem::answer(StatusCode::INTERNAL_SERVER_ERROR, detail)
            }
        }
    }
}

fn unauthorized() -> Response<Full<Bytes>> {
    let mut response = problem::answer(StatusCode::UNAUTHORIZED, "A bearer token is needed.");
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn only_reading() -> Response<Full<Bytes>> {
    let mut response =
        problem::answer(StatusCode::METHOD_NOT_ALLOWED, "This resource can only be read.");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

fn text(body: &'static str) -> Response<Full<Bytes>> {
    with_type(body.into(), "text/plain; charset=utf-8")
}

fn with_type(body: Vec<u8>, media: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}
