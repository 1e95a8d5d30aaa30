//! The handler, top to bottom: one client request to one answer.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, LOCATION, RETRY_AFTER, SET_COOKIE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;

use super::activity::Active;
use super::answer::{self, AnswerBody};
use super::attempt::Head;
use super::bidder::Bidder;
use super::client::Client;
use super::request_body::RequestBody;
use super::stall;
use super::stay::Stay;
use super::story::Story;
use super::transaction::{End, Transaction};
use super::tunnel::Tunnel;
use super::worker::Stage;
use super::{listener, reject};
use crate::clock;
use crate::exchange::budget;
use crate::exchange::snapshot::View;
use crate::model::cell::Cell;
use crate::model::client::ClientKey;
use crate::model::listening::Redirect;
use crate::model::outcome::MethodClass;
use crate::model::refusal::Refusal;
use crate::model::topology::Rules;
use crate::request::gate::{self, Admitted};
use crate::request::headers::{self, ClientAddress, Facts};
use crate::request::rewrite;
use crate::request::switch::Switch;
use crate::request::witness::{client_prefix, witness};
use crate::routing::matcher::Found;

/// Serves one request, and tells of it where that is wanted. Its connection is busy from the moment
/// that hyper hands it over, whenever that comes to ask for the answer.
pub(super) fn serve(
    client: &Rc<Client>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> + use<> {
    let active = client.activity.begin();
    let client = Rc::clone(client);
    async move { tell(client, active, request).await }
}

async fn tell(
    client: Rc<Client>,
    active: Active,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let (parts, incoming) = request.into_parts();
    client.keep_up();
    let story = Story::begin(&client, &parts);
    let (version, asks_for_head) = (parts.version, parts.method == Method::HEAD);
    let mut response = answer(&client, active, (parts, incoming), story.as_ref()).await;
    let ends = client.worker.stage.get() != Stage::Serving && version < Version::HTTP_2;
    if ends && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // hyper would say so itself, unless the answer is ready before it knows.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if asks_for_head {
        // hyper leaves the content away over HTTP/1.1 only.
        response.body_mut().leave_own_away();
    }
    if let Some(story) = story {
        // Of a relayed body the bytes are counted as they go.
        let own = response.body().own_bytes();
        story.answered(response.status(), own);
    }
    Ok(response)
}

/// Match, then let the transaction try the planned upstreams.
async fn answer(
    client: &Rc<Client>,
    active: Active,
    (mut parts, incoming): (Parts, Incoming),
    story: Option<&Rc<Story>>,
) -> Response<AnswerBody> {
    let started = clock::now();
    let bidder = Bidder::of(&mut parts);
    let view = client.worker.snapshots.current();

    let matched = match way(client, &view, &parts, started) {
        Ok(matched) => matched,
        Err(turned) => return turned.answer(client, &view, &parts, story),
    };
    // Also of whom `access` keeps out: all of a proxy's clients, where it should be trusted and is not.
    listener::note_forwarding(client, &parts.headers);
    let state = view.states.pool(matched.found.pool);
    if let Some(story) = story {
        story.routed(state, view.routing.generation, &matched.authority);
    }
    if client.redirect == Redirect::Https {
        return redirect(client, &parts, &matched.authority);
    }
    if !headers::may_be_forwarded(&parts.method, &mut parts.headers) {
        return own(client, StatusCode::NO_CONTENT);
    }
    if let Err(turned) = keep_out(client, &view, &matched, &parts) {
        return turned.answer(client, &view, &parts, story);
    }

    let row = &state.rows[client.worker.index];
    row.window.count_request(budget::second_of(state.began, started));
    let accounting = answer::Request::begin(&client.worker, state, active, story.cloned());
    let rule = &view.routing.topology.pool(matched.found.pool).rules.sticky;
    let stay = Stay::of(rule, matched.origin(), &parts.headers);
    let stuck = stay.as_ref().map(|stay| stay.client);
    let request = (parts, bidder.as_ref(), story);
    let mut transaction = transaction(client, Arc::clone(&view), matched, request, incoming);
    transaction.stuck = stuck;

    let mut response = match (transaction.run().await, bidder) {
        (End::Switched(response, upstream), Some(bidder)) => {
            bidder.accept(response, Tunnel { upstream, request: accounting }, client)
        }
        (End::Relayed(response) | End::Own(response) | End::Switched(response, _), _) => {
            response.map(|body| body.carrying(accounting))
        }
        (End::Refused(refusal), _) => {
            client.listener.rows[client.worker.index].refuse(refusal);
            if let Some(story) = story {
                story.refused(refusal);
            }
            reject::refusal(refusal).map(|body| body.carrying(accounting))
        }
    };
    if let Some(cookie) = stay.and_then(|stay| stay.cookie(client.proto)) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    row.durations.observe(clock::now().saturating_duration_since(started));
    row.answers[code_class(&response)].add(1);
    response
}

/// Why a request goes no further.
enum Turned {
    Away(Refusal),
    /// Its way leads back here, through the upstream of this serial number.
    Back(u64),
    /// Not before so long.
    Later(Duration),
}

impl Turned {
    fn answer(
        self,
        client: &Client,
        view: &View,
        parts: &Parts,
        story: Option<&Rc<Story>>,
    ) -> Response<AnswerBody> {
        let (refusal, response) = match self {
            Self::Away(refusal) => (refusal, reject::head(refusal, parts.version)),
            Self::Back(serial) => (Refusal::Loop, loop_found(client, view, serial)),
            Self::Later(wait) => {
                let mut response = reject::refusal(Refusal::RateLimited);
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
                (Refusal::RateLimited, response)
            }
        };
        let row = &client.listener.rows[client.worker.index];
        row.refuse(refusal);
        row.answers[code_class(&response)].add(1);
        if let Some(story) = story {
            story.refused(refusal);
        }
        response
    }
}

/// Where a request goes, if anywhere.
fn way(client: &Client, view: &View, parts: &Parts, started: Instant) -> Result<Matched, Turned> {
    let admitted = gate::admit(parts);
    // Before any other reason: with a body that has no clear end the connection has to end too.
    if matches!(admitted, Err(Refusal::Malformed)) {
        return Err(Turned::Away(Refusal::Malformed));
    }
    if let Some(serial) = headers::came_back_through(&parts.headers, view.states.instance) {
        return Err(Turned::Back(serial));
    }
    if headers::has_been_everywhere(&parts.headers) {
        return Err(Turned::Away(Refusal::Loop));
    }
    let admitted = admitted.map_err(Turned::Away)?;
    let found = view.routing.matcher.find(&admitted.host, parts.uri.path());
    let found = found.ok_or(Turned::Away(Refusal::NoRoute))?;
    if found.is_ambiguous {
        return Err(Turned::Away(Refusal::BadTarget));
    }
    let authority = authority_value(parts, &admitted).map_err(Turned::Away)?;
    Ok(Matched { found, authority, client: client.origin(&parts.headers), started })
}

/// Whether the service takes requests of this client, for this path, one more now, and one of this length.
fn keep_out(client: &Client, view: &View, matched: &Matched, parts: &Parts) -> Result<(), Turned> {
    let pool = view.routing.topology.pool(matched.found.pool);
    let access = &pool.rules.access;
    let is_in = match matched.client {
        ClientAddress::Known(address) => access.admits(address),
        // Neither its proxy nor whom somebody else names there: that would let anybody past.
        ClientAddress::Behind(_) => !access.asks_who(),
    };
    if !is_in {
        return Err(Turned::Away(Refusal::Denied));
    }
    let target = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let mut rules =
        pool.upstreams.iter().map(|id| &view.routing.topology.upstream(*id).endpoint.path);
    // Whichever of them would serve it: what a client may ask for does not change with the plan.
    if rules.any(|rule| rewrite::refuses(rule, target)) {
        return Err(Turned::Away(Refusal::BadTarget));
    }
    if let Some(allowance) = access.rate {
        let (now, asking) = (matched.started, ClientKey::of(matched.origin()));
        let expectations = client.worker.edge.expectations(now);
        expectations.admit(&pool.service, asking, allowance, now).map_err(Turned::Later)?;
    }
    let limit = client.settings.borrow().limits.max_request_body;
    match announced_length(parts).is_some_and(|length| length > limit) {
        true => Err(Turned::Away(Refusal::BodyTooLarge)),
        false => Ok(()),
    }
}

/// What a request's head has led to.
struct Matched {
    found: Found,
    authority: HeaderValue,
    /// Who asks.
    client: ClientAddress,
    started: Instant,
}

impl Matched {
    fn origin(&self) -> IpAddr {
        self.client.last_known()
    }
}

/// The client's request becomes the upstreams'.
fn transaction(
    client: &Client,
    view: Arc<View>,
    matched: Matched,
    (mut parts, bidder, story): (Parts, Option<&Bidder>, Option<&Rc<Story>>),
    incoming: Incoming,
) -> Transaction {
    let origin = matched.origin();
    let Matched { found, authority, started, .. } = matched;
    let Found { pool, host, realm, spelling, .. } = found;
    let Rules { retry: rule, timeouts, .. } = &view.routing.topology.pool(pool).rules;
    let witness = witness(origin, &parts.method, parts.uri.path());
    let limit = client.settings.borrow().limits.max_request_body;
    let body = RequestBody::new(
        incoming,
        rule.replay_body,
        limit,
        stall::patience(&parts.headers, timeouts),
    );
    let body = body.noted_in(&client.activity).of_stream(parts.version == Version::HTTP_2);
    let takes_trailers = headers::takes_trailers(&parts.headers);
    rewrite(client, &mut parts, &authority);
    if let (Some(story), Some(id)) = (story, parts.headers.get(headers::X_REQUEST_ID)) {
        story.named(id);
    }
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
    let (client, story) = (client_prefix(origin), story.cloned());
    let stuck = None;
    Transaction { worker, view, pool, realm, head, body, witness, client, started, story, stuck }
}

/// The same host and path over TLS, at its usual port: ours may be another one behind an address
/// translation.
fn redirect(client: &Client, parts: &Parts, authority: &HeaderValue) -> Response<AnswerBody> {
    let host = authority.to_str().ok().and_then(gate::host_of).unwrap_or_default();
    let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let slash = if path.starts_with('/') { "" } else { "/" };
    let Ok(location) = HeaderValue::try_from(format!("https://{host}{slash}{path}")) else {
        client.listener.rows[client.worker.index].refuse(Refusal::BadTarget);
        return reject::refusal(Refusal::BadTarget);
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

/// The answer to a request that came back, which names the provider whose origin we seem to be.
fn loop_found(client: &Client, view: &View, serial: u64) -> Response<AnswerBody> {
    let through = view.states.upstreams.iter().find(|upstream| upstream.serial == serial);
    let provider = through.map_or("?", |upstream| upstream.key.provider.as_str());
    client.worker.complain(|| {
        tracing::error!(
            provider,
            "a request came back to us: the provider's origin points at this proxy"
        );
    });
    reject::refusal(Refusal::Loop).map(|_| {
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
        trust: client.trust.get(),
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
