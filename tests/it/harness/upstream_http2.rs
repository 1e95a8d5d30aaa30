//! The HTTP/2 side of a stand-in upstream: the same acts, one stream each.

use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use tokio::task::JoinSet;

use super::PROBE;
use super::sightings::Sighting;
use super::upstream::{Act, LARGE, SERVED_BY, Shared};
use super::wire::Io;

/// Where the health of a gRPC server is asked for.
const GRPC_HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Serves one connection to its end.
pub(super) async fn serve(shared: Arc<Shared>, number: usize, io: Box<dyn Io>) {
    let Ok(mut connection) = h2::server::handshake(io).await else { return };
    let mut streams = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let is_probe = matches!(request.uri().path(), PROBE | GRPC_HEALTH);
        let place = shared.sightings.note(sighting(&request, number, is_probe));
        let act = shared.act(request.method().as_str(), is_probe);
        let shared = Arc::clone(&shared);
        streams.spawn(async move {
            // A stream that the peer resets has nobody left to tell.
            stream(shared, place, act, request.into_body(), respond).await.ok();
        });
        while streams.try_join_next().is_some() {}
    }
}

fn sighting(request: &Request<RecvStream>, connection: usize, is_probe: bool) -> Sighting {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut headers: Vec<(String, String)> =
        request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    if let Some(authority) = request.uri().authority() {
        headers.push((":authority".to_owned(), authority.to_string()));
    }
    Sighting {
        method: request.method().to_string(),
        target: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers,
        connection,
        is_probe,
        body: None,
    }
}

async fn stream(
    shared: Arc<Shared>,
    place: usize,
    act: Act,
    mut received: RecvStream,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    if matches!(act, Act::Refuse) {
        respond.send_reset(Reason::REFUSED_STREAM);
        return Ok(());
    }
    let mut body = Vec::new();
    while let Some(data) = received.data().await {
        let data = data?;
        received.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    shared.sightings.complete(place, body.clone());
    let (status, headers, body) = match act {
        Act::Serve | Act::ServeAndLeave => (200, Vec::new(), b"served\n".to_vec()),
        Act::ServeLarge => (200, Vec::new(), vec![b'x'; LARGE]),
        Act::Echo => (200, Vec::new(), body),
        Act::Answer(status, headers) => (status, headers, b"no\n".to_vec()),
        Act::CutBody => {
            // Ended before the length it announced; a reset would take back what is still queued.
            let head = Response::builder().header(SERVED_BY, &shared.name);
            let head = head.header("content-length", 8192).body(()).expect("head");
            let mut sender = respond.send_response(head, false)?;
            return sender.send_data(Bytes::from_static(&[b'x'; 4096]), true);
        }
        Act::BreakOff => return break_off(&shared, respond).await,
        Act::Grpc(status, message) => {
            let head = Response::builder().header("content-type", "application/grpc");
            let mut sender = respond.send_response(head.body(()).expect("head"), false)?;
            let length = u32::try_from(message.len()).expect("short");
            let body = [&[0][..], &length.to_be_bytes(), message].concat();
            sender.send_data(Bytes::from(body), false)?;
            let status = http::HeaderValue::from_static(status);
            let name = http::HeaderName::from_static("grpc-status");
            return sender.send_trailers([(name, status)].into_iter().collect());
        }
        Act::Silent => {
            std::future::pending::<()>().await;
            return Ok(());
        }
        Act::Reset
        | Act::Hang
        | Act::Drip
        | Act::Refuse
        | Act::HandOver
        | Act::ServeOnlyGet
        | Act::HoldsPerSecond(_) => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        }
    };
    let mut head = Response::builder().status(status).header(SERVED_BY, &shared.name);
    for (name, value) in headers {
        head = head.header(name, value);
    }
    let mut sender = respond.send_response(head.body(()).expect("head"), false)?;
    sender.send_data(Bytes::from(body), true)
}

async fn break_off(shared: &Shared, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let head = Response::builder().header(SERVED_BY, &shared.name).body(()).expect("head");
    let mut sender = respond.send_response(head, false)?;
    sender.send_data(Bytes::from_static(b"half"), false)?;
    // A reset takes back what is queued: nothing is once the other side has said so.
    shared.goes_on.notified().await;
    sender.send_reset(Reason::NO_ERROR);
    Ok(())
}
