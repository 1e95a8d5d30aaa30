//! Method and path to an answer.
//!
//! What changes something is protected from pages in an operator's browser: a body has to be
//! `application/json` and a `DELETE` cannot be simple, so that the browser asks first and is not
//! answered; where no token is set, the host asked for has to be an address or `localhost`, so that
//! no page can lead a name of its own here (DNS rebinding).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::Serialize;

use super::command::{self, ObeyedView, Refused};
use super::drill::DrillView;
use super::explain::{Explanation, Unexplained};
use super::live::{self, Phase};
use super::scrape::{self, Sources};
use super::view::Status;
use super::{drill, history, problem, query, token::Token};
use crate::clock;
use crate::exchange::commands::CommandSender;
use crate::model::id::Label;
use crate::model::operator::Target;
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
    /// What must be shown; `None`: nothing.
    pub token: Option<Token>,
    /// When the process began to serve.
    pub started: Instant,
}

/// What there is.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Resource {
    Live,
    Ready,
    Metrics,
    Status,
    Explain,
    Journal,
    Overrides,
    Override(Target),
    Drills,
    Drill(Label),
}

impl Resource {
    fn at(url_path: &str) -> Option<Self> {
        match url_path {
            "/livez" => Some(Self::Live),
            "/readyz" => Some(Self::Ready),
            "/metrics" => Some(Self::Metrics),
            "/v1/status" => Some(Self::Status),
            "/v1/explain" => Some(Self::Explain),
            "/v1/journal" => Some(Self::Journal),
            "/v1/overrides" => Some(Self::Overrides),
            "/v1/drills" => Some(Self::Drills),
            _ if url_path.starts_with("/v1/drills/") => {
                Some(Self::Drill(Label::new(url_path.strip_prefix("/v1/drills/")?)?))
            }
            _ => {
                let target = url_path.strip_prefix("/v1/overrides/")?;
                Some(Self::Override(command::target_of_path(target)?))
            }
        }
    }

    /// What can be done with it, as an `Allow` header says it.
    const fn methods(&self) -> &'static str {
        match self {
            Self::Live
            | Self::Ready
            | Self::Metrics
            | Self::Status
            | Self::Explain
            | Self::Journal => "GET, HEAD",
            Self::Overrides | Self::Drills => "GET, HEAD, POST",
            Self::Override(_) | Self::Drill(_) => "DELETE",
        }
    }

    fn allows(&self, method: &Method) -> bool {
        self.methods().split(", ").any(|allowed| allowed == method.as_str())
    }

    /// Whether anybody may ask: the two say nothing that a connection attempt would not.
    const fn is_open(&self) -> bool {
        match self {
            Self::Live | Self::Ready => true,
            Self::Metrics
            | Self::Status
            | Self::Explain
            | Self::Journal
            | Self::Overrides
            | Self::Override(_)
            | Self::Drills
            | Self::Drill(_) => false,
        }
    }
}

impl Desk {
    /// Answers one request. Waits for its body, for a bounded time, and for the steering loop, which
    /// never waits for anybody.
    pub async fn answer(&self, request: Request<Incoming>, phase: Phase) -> Response<Full<Bytes>> {
        let mut response = self.unmarked(request, phase).await;
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    async fn unmarked(&self, request: Request<Incoming>, phase: Phase) -> Response<Full<Bytes>> {
        let resource = Resource::at(request.uri().path());
        let is_open = resource.as_ref().is_some_and(Resource::is_open);
        let shown = self.token.as_ref().is_none_or(|token| token.is_shown_in(request.headers()));
        if !is_open && !shown {
            return unauthorized();
        }
        let Some(resource) = resource else {
            return problem::answer(StatusCode::NOT_FOUND, "There is nothing at this path.");
        };
        if !resource.allows(request.method()) {
            return not_allowed(resource.methods());
        }
        let changes = !request.method().is_safe();
        if changes && self.token.is_none() && !names_this_machine(request.headers()) {
            let detail = "Without a token, orders are taken at an address or localhost only.";
            return problem::answer(StatusCode::MISDIRECTED_REQUEST, detail);
        }
        match resource {
            Resource::Live => text("alive\n"),
            Resource::Ready => self.ready(phase),
            Resource::Metrics => self.metrics(),
            Resource::Status => json(&self.looked()),
            Resource::Explain => self.explain(request.uri()),
            Resource::Journal => self.journal(request.uri()),
            Resource::Overrides if changes => match body_of(request).await {
                Ok(body) => told(command::give(&self.commands, &body).await),
                Err(problem) => problem,
            },
            Resource::Drills if changes => match body_of(request).await {
                Ok(body) => rehearsed(drill::begin(&self.commands, &body).await),
                Err(problem) => problem,
            },
            Resource::Drills => json(&drill::all(&self.sources.board.current())),
            Resource::Drill(service) => rehearsed(drill::stop(&self.commands, &service).await),
            Resource::Overrides => json(&self.looked().overrides),
            Resource::Override(target) => told(command::take_back(&self.commands, &target).await),
        }
    }

    fn explain(&self, uri: &Uri) -> Response<Full<Bytes>> {
        let Some(url) = query::value(uri, "url") else {
            return problem::answer(StatusCode::BAD_REQUEST, &Unexplained::NoUrl.to_string());
        };
        let method = query::value(uri, "method").unwrap_or_else(|| "GET".to_owned());
        let board = self.sources.board.current();
        match Explanation::of(&board, &url, &method, clock::now()) {
            Ok(explanation) => json(&explanation),
            Err(unexplained) => {
                let status = match unexplained {
                    Unexplained::NoUrl | Unexplained::NoMethod => StatusCode::BAD_REQUEST,
                    Unexplained::NoRoute { .. } => StatusCode::NOT_FOUND,
                };
                problem::answer(status, &unexplained.to_string())
            }
        }
    }

    fn journal(&self, uri: &Uri) -> Response<Full<Bytes>> {
        match history::page(&self.sources.board.current(), uri) {
            Ok(body) => with_type(body, JSON),
            Err(error) => problem::answer(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    }

    fn looked(&self) -> Status {
        Status::of(&self.sources.board.current(), clock::now())
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
}

/// The JSON that a request carries, or the answer that says what is wrong with it.
async fn body_of(request: Request<Incoming>) -> Result<Bytes, Response<Full<Bytes>>> {
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
fn rehearsed(result: Result<DrillView, drill::Refused>) -> Response<Full<Bytes>> {
    match result {
        Ok(drill) => json(&drill),
        Err(refused) => problem::answer(refused.status(), &refused.to_string()),
    }
}

/// What came of the operator's word.
fn told(result: Result<ObeyedView, Refused>) -> Response<Full<Bytes>> {
    match result {
        Ok(obeyed) => json(&obeyed),
        Err(refused) => problem::answer(refused.status(), &refused.to_string()),
    }
}

const JSON: &str = "application/json";

fn json<T: Serialize>(value: &T) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(body) => with_type(body, JSON),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "admin answer not written");
            let detail = "The answer cannot be written.";
            problem::answer(StatusCode::INTERNAL_SERVER_ERROR, detail)
        }
    }
}

/// Whether the request names us by an address or as `localhost`: names can lead anywhere.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let Some(Ok(authority)) = host.map(str::parse::<Authority>) else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

fn unauthorized() -> Response<Full<Bytes>> {
    let mut response = problem::answer(StatusCode::UNAUTHORIZED, "A bearer token is needed.");
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn not_allowed(methods: &'static str) -> Response<Full<Bytes>> {
    let detail = format!("This resource takes {methods} only.");
    let mut response = problem::answer(StatusCode::METHOD_NOT_ALLOWED, &detail);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
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
