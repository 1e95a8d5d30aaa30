//! Method and path to an answer, by the table of [`operations`]; who may ask is [`guard`]'s to say.
//! A body has to be `application/json`, which no page can send elsewhere without being asked first.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use tokio::sync::watch;

use super::body::AdminBody;
use super::command::{self, ObeyedView, Refused};
use super::drill::{self, DrillView};
use super::events::Door;
use super::explain::{Explanation, Unexplained};
use super::guard::{self, Stranger};
use super::live::{self, Phase};
use super::operations::{self, Access, Action};
use super::scrape::{self, Sources};
use super::view::Status;
use super::{console, history, openapi, problem, query, reload, token::Token};
use crate::clock;
use crate::exchange::commands::CommandSender;
use crate::exchange::reload::ReloadSender;
use crate::model::id::Label;
use crate::telemetry::page;

/// A body is at most so long, in bytes.
const MOST_BODY: usize = 16 * 1024;
/// And here within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// What the answers are made from.
#[derive(Debug)]
pub struct Desk {
    /// What is counted and what is thought.
    pub sources: Sources,
    /// Who obeys.
    pub commands: CommandSender,
    /// Who loads the file.
    pub reloads: ReloadSender,
    /// What must be shown; `None`: nothing.
    pub token: watch::Receiver<Option<Token>>,
    /// When the process began to serve.
    pub started: Instant,
}

impl Desk {
    /// Answers one request. Waits for its body, for a bounded time, for the steering loop, which
    /// never waits for anybody, and for a reload that was wished, for a bounded time.
    pub async fn answer(
        &self,
        request: Request<Incoming>,
        phase: Phase,
        events: &Door,
    ) -> Response<AdminBody> {
        let mut response = self.unmarked(request, phase, events).await;
        let headers = response.headers_mut();
        let resources = HeaderName::from_static("cross-origin-resource-policy");
        headers.insert(resources, HeaderValue::from_static("same-origin"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    async fn unmarked(
        &self,
        request: Request<Incoming>,
        phase: Phase,
        events: &Door,
    ) -> Response<AdminBody> {
        let uri = request.uri().clone();
        let url_path = uri.path();
        // What is not there is told to nobody but whoever may know what is.
        let mut accesses = operations::at(url_path).map(|operation| operation.access).peekable();
        let is_open = accesses.peek().is_some() && accesses.all(|access| access == Access::Anybody);
        if !is_open
            && let Err(stranger) = guard::admit(self.token.borrow().as_ref(), request.headers())
        {
            return turned_away(stranger);
        }
        let mut possible = operations::at(url_path).peekable();
        if possible.peek().is_none() {
            return nothing_here();
        }
        let Some(operation) = possible.find(|operation| operation.takes_method(request.method()))
        else {
            return not_allowed(url_path);
        };
        match operation.action {
            Action::Console(file) => console::file(file),
            Action::Live => text("alive\n"),
            Action::Ready => self.ready(phase),
            Action::Metrics => self.metrics(),
            Action::Document => json(&openapi::document()),
            Action::Status => json(&self.looked()),
            Action::Explain => self.explain(&uri),
            Action::Journal => self.journal(&uri),
            Action::Events => stream(events).await,
            Action::Orders => json(&self.looked().overrides),
            Action::GiveOrder => match body_of(request).await {
                Ok(body) => told(command::give(&self.commands, &body).await),
                Err(problem) => problem,
            },
            Action::TakeBack => self.take_back(url_path).await,
            Action::Drills => json(&drill::all(&self.sources.board.current())),
            Action::BeginDrill => match body_of(request).await {
                Ok(body) => rehearsed(drill::begin(&self.commands, &body).await),
                Err(problem) => problem,
            },
            Action::StopDrill => self.stop_drill(url_path).await,
            Action::Reload => reload::load(&self.reloads).await,
        }
    }

    async fn take_back(&self, url_path: &str) -> Response<AdminBody> {
        let target = url_path.strip_prefix("/v1/overrides/").and_then(command::target_of_path);
        match target {
            Some(target) => told(command::take_back(&self.commands, &target).await),
            None => nothing_here(),
        }
    }

    async fn stop_drill(&self, url_path: &str) -> Response<AdminBody> {
        match url_path.strip_prefix("/v1/drills/").and_then(Label::new) {
            Some(service) => rehearsed(drill::stop(&self.commands, &service).await),
            None => nothing_here(),
        }
    }

    fn explain(&self, uri: &Uri) -> Response<AdminBody> {
        let Some(url) = query::value(uri, "url") else {
            return problem::answer(StatusCode::BAD_REQUEST, &Unexplained::NoUrl.to_string());
        };
        let method = query::value(uri, "method").unwrap_or_else(|| "GET".to_owned());
        let board = self.sources.board.current();
        match Explanation::of(&board, &url, &method, clock::now()) {
            Ok(explanation) => json(&explanation),
            Err(unexplained) => {
                let status = match unexplained {
                    Unexplained::NoUrl | Unexplained::NoMethod | Unexplained::Ambiguous { .. } => {
                        StatusCode::BAD_REQUEST
                    }
                    Unexplained::NoRoute { .. } => StatusCode::NOT_FOUND,
                };
                problem::answer(status, &unexplained.to_string())
            }
        }
    }

    fn journal(&self, uri: &Uri) -> Response<AdminBody> {
        match history::page(&self.sources.board.current(), uri) {
            Ok(body) => with_type(body, JSON),
            Err(error) => problem::answer(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    }

    fn looked(&self) -> Status {
        Status::of(&self.sources.board.current(), clock::now())
    }

    fn ready(&self, phase: Phase) -> Response<AdminBody> {
        let board = self.sources.board.current();
        let reasons = live::unready(phase, &board, self.started, clock::now());
        if reasons.is_empty() {
            return text("ready\n");
        }
        problem::with_reasons(StatusCode::SERVICE_UNAVAILABLE, "Not ready.", &reasons)
    }

    fn metrics(&self) -> Response<AdminBody> {
        match scrape::page(&self.sources, clock::now()) {
            Ok(body) => with_type(body, page::CONTENT_TYPE),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "scrape failed");
                let detail = "The metrics cannot be written.";
                problem::answer(StatusCode::INTERNAL_SERVER_ERROR, detail)
            }
        }
    }
}

/// The JSON that a request carries, or the answer that says what is wrong with it.
async fn body_of(request: Request<Incoming>) -> Result<Bytes, Response<AdminBody>> {
    let media = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let media = media.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if !media.eq_ignore_ascii_case(b"application/json") {
        let detail = "The body has to be application/json.";
        return Err(problem::answer(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let reading = Limited::new(request.into_body(), MOST_BODY).collect();
    match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => {
            let detail = "The body is too long, or broke off.";
            Err(problem::answer(StatusCode::PAYLOAD_TOO_LARGE, detail))
        }
        Err(_) => Err(problem::answer(StatusCode::REQUEST_TIMEOUT, "The body did not come.")),
    }
}

/// What came of a drill.
fn rehearsed(result: Result<DrillView, drill::Refused>) -> Response<AdminBody> {
    match result {
        Ok(drill) => json(&drill),
        Err(refused) => problem::answer(refused.status(), &refused.to_string()),
    }
}

/// What came of the operator's word.
fn told(result: Result<ObeyedView, Refused>) -> Response<AdminBody> {
    match result {
        Ok(obeyed) => json(&obeyed),
        Err(refused) => problem::answer(refused.status(), &refused.to_string()),
    }
}

/// Events until the reader goes, or reads too slowly.
async fn stream(events: &Door) -> Response<AdminBody> {
    match events.subscribe().await {
        Some(reader) => with_type(AdminBody::Stream(reader), "text/event-stream"),
        None => {
            let detail = "As many read events as are served.";
            problem::answer(StatusCode::SERVICE_UNAVAILABLE, detail)
        }
    }
}

const JSON: &str = "application/json";

pub(super) fn json<T: Serialize>(value: &T) -> Response<AdminBody> {
    match serde_json::to_vec(value) {
        Ok(body) => with_type(body, JSON),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "admin answer not written");
            let detail = "The answer cannot be written.";
            problem::answer(StatusCode::INTERNAL_SERVER_ERROR, detail)
        }
    }
}

fn turned_away(stranger: Stranger) -> Response<AdminBody> {
    let (status, detail) = match stranger {
        Stranger::NoToken => (StatusCode::UNAUTHORIZED, "A bearer token is needed."),
        Stranger::ForeignPage => {
            (StatusCode::FORBIDDEN, "Pages of other origins are not answered.")
        }
        Stranger::ForeignName => (
            StatusCode::MISDIRECTED_REQUEST,
            "Without a token, only requests at an address or localhost are answered.",
        ),
    };
    let mut response = problem::answer(status, detail);
    if stranger == Stranger::NoToken {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn nothing_here() -> Response<AdminBody> {
    problem::answer(StatusCode::NOT_FOUND, "There is nothing at this path.")
}

fn not_allowed(url_path: &str) -> Response<AdminBody> {
    let methods: Vec<&str> =
        operations::at(url_path).map(|operation| operation.verb.allowed()).collect();
    let methods = methods.join(", ");
    let detail = format!("This resource takes {methods} only.");
    let mut response = problem::answer(StatusCode::METHOD_NOT_ALLOWED, &detail);
    // Made of names of methods: always a valid value.
    if let Ok(methods) = HeaderValue::try_from(methods) {
        response.headers_mut().insert(ALLOW, methods);
    }
    response
}

fn text(body: &'static str) -> Response<AdminBody> {
    with_type(body, "text/plain; charset=utf-8")
}

pub(super) fn with_type(body: impl Into<AdminBody>, media: &'static str) -> Response<AdminBody> {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}
