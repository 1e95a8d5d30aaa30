//! One attempt: one request sent to one upstream, on a used connection or a new one, up to the
//! answer's head.

use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme as UriScheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};

use super::connections::{ConnectError, UpstreamConnections, Wanted};
use super::lent::{Age, Lent, SendError};
use super::request_body::{AttemptBody, BodyFault, RequestBody};
use crate::model::outcome::{FailureKind, Ignored, MethodClass, Outcome, Reach};
use crate::model::topology::{Endpoint, HostRule, Scheme};
use crate::request::retry::Replay;

/// What is sent, the same for every attempt but for the host.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) path_and_query: PathAndQuery,
    /// Already the upstream's: hop-by-hop stripped, forwarding fields set, no Host.
    pub(super) headers: HeaderMap,
    /// What the client asked for.
    pub(super) authority: HeaderValue,
    pub(super) class: MethodClass,
    /// Whether a second execution is harmless, by `retry.methods`.
    pub(super) repeatable: bool,
}

/// Everything one attempt needs; owned, so that two can run side by side.
pub(super) struct Call {
    pub(super) head: Rc<Head>,
    pub(super) body: RequestBody,
    pub(super) endpoint: EndpointHandle,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    pub(super) connections: Rc<UpstreamConnections>,
    pub(super) connect_timeout: Duration,
}

/// An endpoint inside the snapshot that holds it.
pub(super) struct EndpointHandle {
    pub(super) view: Arc<crate::exchange::snapshot::View>,
    pub(super) upstream: crate::model::id::UpstreamId,
}

impl EndpointHandle {
    fn get(&self) -> &Endpoint {
        &self.view.routing.topology.upstream(self.upstream).endpoint
    }
}

/// Why an attempt brought no head.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the upstream refused the request before acting on it")]
    Refused(#[source] hyper::Error),
    #[error("the connection broke off before the head")]
    BrokeOff(#[source] hyper::Error),
    #[error("a kept connection ended before the first byte, and the request cannot be repeated")]
    Stale(#[source] hyper::Error),
    #[error("the upstream answered 101, which nobody asked for")]
    UnaskedUpgrade,
    #[error("no head within the time allowed")]
    HeadTimeout,
    #[error("the upstream stopped reading the request")]
    UploadStalled,
    #[error("the request's own body failed")]
    Body(#[source] BodyFault),
}

impl AttemptError {
    /// Whether the upstream may have begun to act on the request.
    pub(super) const fn reach(&self) -> Reach {
        match self {
            Self::Connect(_) | Self::Refused(_) => Reach::Never,
            Self::BrokeOff(_)
            | Self::Stale(_)
            | Self::UnaskedUpgrade
            | Self::HeadTimeout
            | Self::UploadStalled
            | Self::Body(_) => Reach::Perhaps,
        }
    }

    /// What it counts as.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Connect(error) => error.outcome(),
            Self::Refused(_) | Self::BrokeOff(_) | Self::UnaskedUpgrade => {
                Outcome::Failure(FailureKind::BrokeOff)
            }
            Self::Stale(_) => Outcome::Ignored(Ignored::StaleConnection),
            Self::HeadTimeout => Outcome::Failure(FailureKind::Late),
            Self::UploadStalled => Outcome::Failure(FailureKind::BodyStall),
            Self::Body(BodyFault::TooLarge) => Outcome::Ignored(Ignored::OwnLimit),
            Self::Body(BodyFault::Client) => Outcome::Ignored(Ignored::ClientGone),
            Self::Body(BodyFault::Superseded) => Outcome::Ignored(Ignored::Cancelled),
        }
    }
}

/// An answer's head, with its body still to come and the connection that brings it.
pub(super) struct Answered {
    pub(super) response: Response<Incoming>,
    pub(super) lent: Lent,
}

/// Makes the attempt. The caller bounds it in time; dropping it closes its connection.
pub(super) async fn make(call: Call) -> Result<Answered, AttemptError> {
    let endpoint = call.endpoint.get();
    let host = host(endpoint, &call.head.authority);
    // Cleartext connections go by address alone.
    let name = match &call.tls {
        Some(_) => host.to_str().ok().and_then(crate::request::gate::host_of).unwrap_or(""),
        None => "",
    };
    let wanted = Wanted {
        endpoint,
        tls: call.tls.as_ref(),
        name,
        class: call.head.class,
        connect_timeout: call.connect_timeout,
    };
    if let Some(lent) = call.connections.reuse(&wanted).await {
        match send(&call, lent, &host).await {
            Err(Failed { error, repeat: Repeat::OnFreshConnection }) => drop(error),
            done => return done.map_err(|failed| failed.error),
        }
    }
    // Boxed: dialling is rare and its state large, and this future is moved for every request.
    let lent = Box::pin(call.connections.connect(&wanted)).await?;
    send(&call, lent, &host).await.map_err(|failed| failed.error)
}

struct Failed {
    error: AttemptError,
    repeat: Repeat,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Repeat {
    /// The everyday keep-alive race: the same upstream deserves the request once more.
    OnFreshConnection,
    No,
}

async fn send(call: &Call, mut lent: Lent, host: &HeaderValue) -> Result<Answered, Failed> {
    let scheme = match call.endpoint.get().scheme {
        Scheme::Http => UriScheme::HTTP,
        Scheme::Https => UriScheme::HTTPS,
    };
    let target = lent.is_http2().then_some(scheme);
    let request = build(&call.head, call.body.for_attempt(), host, target);
    let age = lent.age;
    match lent.send(request).await {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            Err(Failed { error: AttemptError::UnaskedUpgrade, repeat: Repeat::No })
        }
        Ok(response) => Ok(Answered { response, lent }),
        Err(failed) => Err(explain(call, failed, age)),
    }
}

/// Reads hyper's error for what it says about reach.
fn explain(call: &Call, failed: SendError, age: Age) -> Failed {
    if let Some(fault) = call.body.fault() {
        return Failed { error: AttemptError::Body(fault), repeat: Repeat::No };
    }
    let refused = failed.unsent || was_refused(&failed.error);
    let replay = call.body.replay() == Replay::Possible;
    // Of a kept connection, only its end is the everyday race; nonsense on it is a failure.
    let ended = !failed.error.is_parse() && !failed.error.is_timeout();
    match (refused, age) {
        (true, Age::Reused) if replay => {
            Failed { error: AttemptError::Refused(failed.error), repeat: Repeat::OnFreshConnection }
        }
        (true, _) => Failed { error: AttemptError::Refused(failed.error), repeat: Repeat::No },
        (false, Age::Reused) if ended && replay && call.head.repeatable => {
            Failed { error: AttemptError::Stale(failed.error), repeat: Repeat::OnFreshConnection }
        }
        (false, Age::Reused) if ended => {
            Failed { error: AttemptError::Stale(failed.error), repeat: Repeat::No }
        }
        (false, _) => Failed { error: AttemptError::BrokeOff(failed.error), repeat: Repeat::No },
    }
}

/// HTTP/2 says so: REFUSED_STREAM, and GOAWAY for streams that it leaves out (RFC 9113, section 8.7).
fn was_refused(error: &hyper::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            let refused = h2.reason() == Some(h2::Reason::REFUSED_STREAM);
            return h2.is_remote() && (refused || h2.is_go_away());
        }
        source = cause.source();
    }
    false
}

/// Host header, or `:authority`.
fn host(endpoint: &Endpoint, client_asked: &HeaderValue) -> HeaderValue {
    let fixed = match &endpoint.host_rule {
        HostRule::Public => return client_asked.clone(),
        HostRule::Upstream => endpoint.authority(),
        HostRule::Literal(name) => name.to_string(),
    };
    // The configuration checked both; should one ever not fit, the client's own is the next best.
    HeaderValue::try_from(fixed).unwrap_or_else(|_| client_asked.clone())
}

/// In HTTP/2's form with a scheme, in HTTP/1.1's without.
fn build(
    head: &Head,
    body: AttemptBody,
    host: &HeaderValue,
    scheme: Option<UriScheme>,
) -> Request<AttemptBody> {
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.headers_mut() = head.headers.clone();
    if let Some(scheme) = scheme
        && let Ok(authority) = Authority::try_from(host.as_bytes())
    {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(scheme);
        parts.authority = Some(authority);
        parts.path_and_query = Some(head.path_and_query.clone());
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
    } else {
        *request.uri_mut() = Uri::from(head.path_and_query.clone());
        // Left to itself hyper takes a GET without a length for one without a body.
        let is_chunked = !request.body().is_end_stream();
        let headers = request.headers_mut();
        headers.insert(HOST, host.clone());
        if is_chunked && !headers.contains_key(CONTENT_LENGTH) {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
    request
}
