//! One attempt: one request sent to one upstream, on a used connection or a new one, up to the
//! answer's head.

use std::borrow::Cow;
use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE, TE, VIA};
use http::uri::{Authority, PathAndQuery, Scheme as UriScheme};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, response};
use http_body::Body;

use super::connections::{ConnectError, UpstreamConnections, Wanted};
use super::http1::{Outgoing, RequestHead, Sends};
use super::lent::{self, Age, Connection, Lent, Reply, SendError, WireError};
use super::request_body::{AttemptBody, BodyFault, RequestBody};
use crate::model::cell::Cell;
use crate::model::outcome::{FailureKind, Ignored, MethodClass, Outcome, Reach};
use crate::model::topology::{Endpoint, HostRule, HttpRule, Scheme};
use crate::request::proxy_status::ProxyError;
use crate::request::retry::Replay;
use crate::request::rewrite;
use crate::request::switch::Switch;
use crate::routing::matcher::Spelling;

/// What is sent, the same for every attempt but for the host.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) path_and_query: PathAndQuery,
    /// Already the upstream's: hop-by-hop stripped, forwarding fields set, no Host.
    pub(super) headers: HeaderMap,
    /// What the client asked for.
    pub(super) authority: HeaderValue,
    pub(super) spelling: Spelling,
    pub(super) cell: Cell,
    /// Whether a second execution is harmless, by `retry.methods`.
    pub(super) repeatable: bool,
    /// Whether the client takes trailers.
    pub(super) takes_trailers: bool,
    /// The version in which it came.
    pub(super) came_in: Version,
    /// Whether it asks for something else than HTTP.
    pub(super) switch: Switch,
}

impl Head {
    /// Whether it is a safe request of nobody in particular: any upstream may be tried with it.
    pub(super) fn is_nobodys(&self) -> bool {
        self.cell.class == MethodClass::Safe
            && self.switch.is_none()
            && !self.headers.contains_key(COOKIE)
            && !self.headers.contains_key(AUTHORIZATION)
    }
}

/// Everything one attempt needs; owned, so that two can run side by side.
pub(super) struct Call {
    pub(super) head: Rc<Head>,
    pub(super) body: RequestBody,
    pub(super) endpoint: EndpointHandle,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    pub(super) connections: Rc<UpstreamConnections>,
    pub(super) connect_timeout: Duration,
    /// Of the trace it belongs to; `None`: what the client said of one goes on.
    #[cfg(feature = "otlp")]
    pub(super) told: Option<crate::request::trace_context::Told>,
}

/// An endpoint inside the snapshot that holds it.
pub(super) struct EndpointHandle {
    pub(super) view: Arc<crate::exchange::snapshot::View>,
    pub(super) upstream: crate::model::id::UpstreamId,
}

impl EndpointHandle {
    fn via(&self, came_in: Version) -> &HeaderValue {
        self.view.states.upstream(self.upstream).via(came_in)
    }

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
    Refused(#[source] WireError),
    #[error("the connection broke off before the head")]
    BrokeOff(#[source] WireError),
    #[error("a kept connection ended before the first byte, and the request cannot be repeated")]
    Stale(#[source] WireError),
    #[error("the upstream answered 101, which nobody asked for")]
    UnaskedUpgrade,
    #[error("the upstream is spoken to over HTTP/2 alone, which has no 101")]
    NoUpgrade,
    #[error("no head within the time allowed")]
    HeadTimeout,
    #[error("the upstream stopped reading the request")]
    UploadStalled,
    #[error("a newer file forbids this upstream to carry it")]
    Forbidden,
    #[error("the request's own body failed")]
    Body(#[source] BodyFault),
}

impl AttemptError {
    /// Whether the upstream may have begun to act on the request.
    pub(super) const fn reach(&self) -> Reach {
        match self {
            Self::Connect(_) | Self::Refused(_) | Self::NoUpgrade => Reach::Never,
            Self::BrokeOff(_)
            | Self::Stale(_)
            | Self::UnaskedUpgrade
            | Self::HeadTimeout
            | Self::UploadStalled
            | Self::Forbidden
            | Self::Body(_) => Reach::Perhaps,
        }
    }

    /// What a client is told of it (RFC 9209, section 2.3).
    pub(super) fn told(&self) -> ProxyError {
        match self {
            Self::Connect(error) => error.told(),
            Self::BrokeOff(error) if !error.is_end() => ProxyError::ProtocolError,
            Self::Refused(_) | Self::BrokeOff(_) | Self::Stale(_) => {
                ProxyError::ConnectionTerminated
            }
            Self::UnaskedUpgrade => ProxyError::ProtocolError,
            Self::NoUpgrade => ProxyError::UpgradeFailed,
            Self::HeadTimeout => ProxyError::ResponseTimeout,
            Self::Forbidden => ProxyError::DestinationUnavailable,
            Self::UploadStalled => ProxyError::ConnectionWriteTimeout,
            Self::Body(_) => ProxyError::RequestError,
        }
    }

    /// What it counts as.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Connect(error) => error.outcome(),
            Self::Refused(_) | Self::BrokeOff(_) | Self::UnaskedUpgrade => {
                Outcome::Failure(FailureKind::BrokeOff)
            }
            Self::NoUpgrade => Outcome::Ignored(Ignored::OwnLimit),
            Self::Stale(_) => Outcome::Ignored(Ignored::StaleConnection),
            Self::HeadTimeout => Outcome::Failure(FailureKind::Late),
            Self::UploadStalled => Outcome::Failure(FailureKind::BodyStall),
            Self::Body(BodyFault::TooLarge) => Outcome::Ignored(Ignored::OwnLimit),
            Self::Body(BodyFault::Client | BodyFault::Slow) => {
                Outcome::Ignored(Ignored::ClientGone)
            }
            Self::Forbidden | Self::Body(BodyFault::Superseded) => {
                Outcome::Ignored(Ignored::Cancelled)
            }
        }
    }
}

/// An answer's head, with its body still to come and the connection that brings it.
pub(super) struct Answered {
    pub(super) head: response::Parts,
    pub(super) reply: Reply,
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
        class: call.head.cell.class,
        connect_timeout: call.connect_timeout,
        only_http1: !call.head.switch.is_none(),
    };
    if wanted.only_http1 && endpoint.http == HttpRule::Http2 {
        return Err(AttemptError::NoUpgrade);
    }
    // What becomes something else is not taken from those that are kept for HTTP.
    if !wanted.only_http1
        && let Some(lent) = call.connections.reuse(&wanted)
    {
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

async fn send(call: &Call, lent: Lent, host: &HeaderValue) -> Result<Answered, Failed> {
    let Lent { connection, age } = lent;
    let body = call.body.for_attempt();
    let sent = match connection {
        Connection::Http1(connection, home) => {
            lent::send_http1(connection, home, in_bytes(call, body, host)).await
        }
        Connection::Http2(stream) => lent::send_http2(stream, in_fields(call, body, host)).await,
    };
    match sent {
        Ok((head, _))
            if head.status == StatusCode::SWITCHING_PROTOCOLS
                && !call.head.switch.is_agreed(&head.headers) =>
        {
            Err(Failed { error: AttemptError::UnaskedUpgrade, repeat: Repeat::No })
        }
        Ok((mut head, reply)) => {
            let rule = &call.endpoint.get().path;
            rewrite::back(rule, (host, &call.head.authority), &mut head.headers);
            Ok(Answered { head, reply })
        }
        Err(failed) => Err(explain(call, failed, age)),
    }
}

/// Reads an error for what it says about reach.
fn explain(call: &Call, failed: SendError, age: Age) -> Failed {
    let SendError { error, unsent } = failed;
    if let Some(fault) = call.body.fault().or(error.body_fault()) {
        return Failed { error: AttemptError::Body(fault), repeat: Repeat::No };
    }
    let refused = unsent || was_refused(&error);
    let replay = call.body.replay() == Replay::Possible;
    // Of a kept connection, only its end is the everyday race; nonsense on it is a failure.
    let ended = error.is_end();
    match (refused, age) {
        (true, Age::Reused) if replay => {
            Failed { error: AttemptError::Refused(error), repeat: Repeat::OnFreshConnection }
        }
        (true, _) => Failed { error: AttemptError::Refused(error), repeat: Repeat::No },
        (false, Age::Reused) if ended && replay && call.head.repeatable => {
            Failed { error: AttemptError::Stale(error), repeat: Repeat::OnFreshConnection }
        }
        (false, Age::Reused) if ended => {
            Failed { error: AttemptError::Stale(error), repeat: Repeat::No }
        }
        (false, _) => Failed { error: AttemptError::BrokeOff(error), repeat: Repeat::No },
    }
}

/// HTTP/2 says so: REFUSED_STREAM, and GOAWAY for streams that it leaves out (RFC 9113, section 8.7).
fn was_refused(error: &WireError) -> bool {
    let WireError::Http2(error) = error else { return false };
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

/// What this upstream is asked for.
fn target(call: &Call) -> Cow<'_, str> {
    rewrite::towards(&call.endpoint.get().path, call.head.path_and_query.as_str())
}

/// The client's fields, as this upstream is to see them.
fn headers_for(call: &Call) -> Cow<'_, HeaderMap> {
    let rule = &call.endpoint.get().headers;
    let mut headers = Cow::Borrowed(&call.head.headers);
    #[cfg(feature = "otlp")]
    if let Some(told) = &call.told {
        told.apply(headers.to_mut());
    }
    if !rule.is_empty() {
        rule.apply(headers.to_mut());
    }
    headers
}

/// The request as HTTP/1.1 writes it.
fn in_bytes(call: &Call, body: AttemptBody, host: &HeaderValue) -> Outgoing {
    let head = &call.head;
    let headers = headers_for(call);
    let sends = if body.is_end_stream() { Sends::Nothing } else { Sends::announced(&head.headers) };
    let bytes = RequestHead {
        method: &head.method,
        target: &target(call),
        headers: &headers,
        host,
        via: call.endpoint.via(head.came_in),
        sends,
    };
    Outgoing { head: bytes.encode(), method: head.method.clone(), sends, body }
}

/// The request as HTTP/2 sends it: in fields, with the host among them.
fn in_fields(call: &Call, body: AttemptBody, host: &HeaderValue) -> Request<AttemptBody> {
    let head = &call.head;
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(match call.endpoint.get().scheme {
        Scheme::Http => UriScheme::HTTP,
        Scheme::Https => UriScheme::HTTPS,
    });
    parts.authority = Authority::try_from(host.as_bytes()).ok();
    parts.path_and_query = Some(match target(call) {
        Cow::Borrowed(_) => head.path_and_query.clone(),
        // Both halves were checked, and the sum is not too long: `rewrite::refuses`.
        Cow::Owned(target) => {
            PathAndQuery::try_from(target).unwrap_or_else(|_| PathAndQuery::from_static("/"))
        }
    });
    let path_and_query = parts.path_and_query.clone();
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.headers_mut() = headers_for(call).into_owned();
    if head.takes_trailers {
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    }
    request.headers_mut().append(VIA, call.endpoint.via(head.came_in).clone());
    // Without an authority it is refused by whoever sends it; the path must not get lost.
    let path = || path_and_query.map(Uri::from).unwrap_or_default();
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_else(|_| path());
    *request.version_mut() = Version::HTTP_2;
    request
}
