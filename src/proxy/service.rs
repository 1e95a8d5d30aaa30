//! The handler, top to bottom: one client request to one answer.

use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, LOCATION, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, UPGRADE,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::answer::{self, AnswerBody};
use super::attempt::Head;
use super::client::Client;
use super::reject;
use super::request_body::RequestBody;
use super::transaction::{End, Transaction};
use super::tunnel::Tunnel;
use crate::clock;
use crate::exchange::budget;
use crate::exchange::snapshot::View;
use crate::model::cell::Cell;
use crate::model::client::ClientKey;
use crate::model::id::PoolId;
use crate::model::listening::Redirect;
use crate::model::outcome::MethodClass;
use crate::model::refusal::Refusal;
use crate::model::topology::Rules;
use crate::request::gate::{self, Admitted};
use crate::request::headers::{self, Facts};
use crate::request::switch::{self, Switch};
use crate::request::witness::{client_prefix, witness};
use crate::routing::matcher::Found;

/// Serves one request: match, then let the transaction try the planned upstreams.
pub(super) async fn serve(
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let active = client.activity.begin();
    let started = clock::now();
    let (mut parts, incoming) = request.into_parts();
    let bidder = Bidder::of(&mut parts);
    let view = client.worker.snapshots.current();

    if let Some(serial) = headers::came_back_through(&parts.headers, view.states.instance) {
        return Ok(refuse_loop(&client, &view, serial));
    }
    let matched = gate::admit(&parts).and_then(|admitted| {
        let found = view.routing.matcher.find(&admitted.host, parts.uri.path());
        Ok((found.ok_or(Refusal::NoRoute)?, authority_value(&parts, &admitted)?))
    });
    let (found, authority) = match matched {
        Ok(matched) => matched,
        Err(refusal) => return Ok(refuse(&client, refusal)),
    };
    if client.redirect == Redirect::Https {
        return Ok(redirect(&client, &parts, &authority));
    }
    if !headers::may_be_forwarded(&parts.method, &mut parts.headers) {
        return Ok(own(&client, StatusCode::NO_CONTENT));
    }
    let origin = client.origin(&parts.headers);
    if let Some(refused) = keep_out(&client, &view, found.pool, origin, started) {
        return Ok(refused);
    }
    let limit = client.settings.limits.max_request_body;
    if announced_length(&parts).is_some_and(|length| length > limit) {
        return Ok(refuse(&client, Refusal::BodyTooLarge));
    }

    let state = view.states.pool(found.pool);
    let row = &state.rows[client.worker.index];
    row.window.count_request(budget::second_of(state.began, started));
    let accounting = answer::Request::begin(&client.worker, state, active);
    let matched = Matched { view: Arc::clone(&view), found, authority, origin, started };
    let transaction = transaction(&client, matched, (parts, bidder.as_ref()), incoming);

    let response = match (transaction.run().await, bidder) {
        (End::Switched(response, upstream), Some(bidder)) => {
            bidder.accept(response, Tunnel { upstream, request: accounting }, &client)
        }
        (End::Relayed(response) | End::Own(response) | End::Switched(response, _), _) => {
            response.map(|body| body.carrying(accounting))
        }
        (End::Refused(refusal), _) => {
            client.listener.rows[client.worker.index].refuse(refusal);
            reject::refusal(refusal).map(|body| body.carrying(accounting))
        }
    };
    row.durations.observe(clock::now().saturating_duration_since(started));
    row.answers[code_class(&response)].add(1);
    Ok(response)
}

/// The answer to a client whom the service does not let in, or that asks too often.
fn keep_out(
    client: &Client,
    view: &View,
    pool: PoolId,
    origin: IpAddr,
    now: Instant,
) -> Option<Response<AnswerBody>> {
    let pool = view.routing.topology.pool(pool);
    if !pool.rules.access.admits(origin) {
        return Some(refuse(client, Refusal::Denied));
    }
    let allowance = pool.rules.access.rate?;
    let expectations = client.worker.edge.expectations(now);
    let asking = ClientKey::of(origin);
    let wait = expectations.admit(&pool.service, asking, allowance, now).err()?;
    let mut response = refuse(client, Refusal::RateLimited);
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    Some(response)
}

/// What a request's head has led to.
struct Matched {
    view: Arc<View>,
    found: Found,
    authority: HeaderValue,
    /// Who asks.
    origin: IpAddr,
    started: Instant,
}

/// The client's request becomes the upstreams'.
fn transaction(
    client: &Client,
    matched: Matched,
    (mut parts, bidder): (Parts, Option<&Bidder>),
    incoming: Incoming,
) -> Transaction {
    let Matched { view, found, authority, origin, started } = matched;
    let Found { pool, host, spelling } = found;
    let Rules { retry: rule, timeouts, .. } = &view.routing.topology.pool(pool).rules;
    let witness = witness(origin, &parts.method, parts.uri.path());
    let limit = client.settings.limits.max_request_body;
    let body = RequestBody::new(
        incoming,
        rule.replay_body,
        limit,
        answer::patience(&parts.headers, timeouts),
    );
    let takes_trailers = headers::takes_trailers(&parts.headers);
    rewrite(client, &mut parts, &authority);
    let switch = bidder.map_or(Switch::No, |bidder| bidder.ask(&mut parts.headers));
    let path_and_query = parts.uri.path_and_query().cloned();
    let head = Rc::new(Head {
        repeatable: rule.methods.contains(&parts.method),
        cell: Cell { class: MethodClass::of(&parts.method), host },
        method: parts.method,
        path_and_query: path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/")),
        headers: parts.headers,
        authority,
        takes_trailers,
        came_in: parts.version,
        spelling,
        switch,
    });
    let worker = Rc::clone(&client.worker);
    Transaction { worker, view, pool, head, body, witness, client: client_prefix(origin), started }
}

/// A client that asks for a WebSocket.
enum Bidder {
    /// Its connection becomes one.
    Http1,
    /// A stream of its connection does.
    Http2(OnUpgrade),
}

impl Bidder {
    /// Read off a head. An extended CONNECT becomes the GET that it is to everybody after.
    fn of(parts: &mut Parts) -> Option<Self> {
        if switch::asks_for_websocket(parts) {
            return Some(Self::Http1);
        }
        let protocol = parts.extensions.get::<Protocol>().map(Protocol::as_str);
        if parts.method != Method::CONNECT || protocol != Some("websocket") {
            return None;
        }
        let upgrade = parts.extensions.remove::<OnUpgrade>()?;
        parts.method = Method::GET;
        Some(Self::Http2(upgrade))
    }

    /// Asks the upstream for it.
    fn ask(&self, headers: &mut HeaderMap) -> Switch {
        let switch = match self {
            Self::Http1 => Switch::WebSocket,
            Self::Http2(_) => Switch::by_us(headers, fastrand::u128(..).to_ne_bytes()),
        };
        switch.announce(headers);
        switch
    }

    /// Tells the client that it is one from now on.
    fn accept(
        self,
        mut response: Response<AnswerBody>,
        tunnel: Tunnel,
        client: &Client,
    ) -> Response<AnswerBody> {
        match self {
            Self::Http1 => *client.tunnel.borrow_mut() = Some(tunnel),
            Self::Http2(upgrade) => {
                *response.status_mut() = StatusCode::OK;
                for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT] {
                    response.headers_mut().remove(name);
                }
                tokio::task::spawn_local(async move {
                    // It fails only where the client is gone.
                    if let Ok(stream) = upgrade.await {
                        tunnel.run(TokioIo::new(stream), Bytes::new()).await;
                    }
                });
            }
        }
        response
    }
}

/// Turned away before it had a service.
fn refuse(client: &Client, refusal: Refusal) -> Response<AnswerBody> {
    let response = reject::refusal(refusal);
    let row = &client.listener.rows[client.worker.index];
    row.refuse(refusal);
    row.answers[code_class(&response)].add(1);
    response
}

/// The same host and path over TLS, at its usual port: ours may be another one behind an address
/// translation.
fn redirect(client: &Client, parts: &Parts, authority: &HeaderValue) -> Response<AnswerBody> {
    let host = authority.to_str().ok().and_then(gate::host_of).unwrap_or_default();
    let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let slash = if path.starts_with('/') { "" } else { "/" };
    let Ok(location) = HeaderValue::try_from(format!("https://{host}{slash}{path}")) else {
        return refuse(client, Refusal::BadTarget);
    };
    let mut response = own(client, StatusCode::PERMANENT_REDIRECT);
    response.headers_mut().insert(LOCATION, location);
    response
}

/// An answer without content, to a request that goes no further.
fn own(client: &Client, status: StatusCode) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::own(Bytes::new()));
    *response.status_mut() = status;
    client.listener.rows[client.worker.index].answers[code_class(&response)].add(1);
    response
}

/// Turned away because its way leads back here, told of by the provider whose origin we seem to be.
fn refuse_loop(client: &Client, view: &View, serial: u64) -> Response<AnswerBody> {
    let through = view.states.upstreams.iter().find(|upstream| upstream.serial == serial);
    let provider = through.map_or("?", |upstream| upstream.key.provider.as_str());
    client.worker.complain(|| {
        tracing::error!(
            provider,
            "a request came back to us: the provider's origin points at this proxy"
        );
    });
    let response = refuse(client, Refusal::Loop);
    response.map(|_| {
        let text = format!(
            "This request has come back to the proxy that sent it: the origin set at {provider} \
             points here.\n"
        );
        AnswerBody::own(Bytes::from(text))
    })
}

/// Place in the tables of [`CODE_CLASSES`](crate::exchange::ledger::CODE_CLASSES).
fn code_class(response: &Response<AnswerBody>) -> usize {
    usize::from(response.status().as_u16() / 100).clamp(1, 5) - 1
}

/// Host and port as a field value: the client's own line where it has one.
fn authority_value(parts: &Parts, admitted: &Admitted<'_>) -> Result<HeaderValue, Refusal> {
    match parts.headers.get(HOST) {
        Some(line) => Ok(line.clone()),
        None => HeaderValue::from_str(admitted.authority).map_err(|_| Refusal::BadHost),
    }
}

fn announced_length(parts: &Parts) -> Option<u64> {
    parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The client's fields become the upstream's.
fn rewrite(client: &Client, parts: &mut Parts, authority: &HeaderValue) {
    let facts = Facts {
        peer: &client.peer_value,
        trust: client.trust,
        proto: client.proto,
        authority,
        forwarded: client.forwarded(authority),
        request_id: request_id(),
    };
    headers::towards_upstream(&mut parts.headers, facts);
    parts.headers.remove(HOST);
}

/// 128 random bits in hexadecimal: unique, not secret.
fn request_id() -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bits = fastrand::u128(..);
    let mut text = [0; 32];
    for digit in &mut text {
        *digit = DIGITS[(bits & 15) as usize];
        bits >>= 4;
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}
