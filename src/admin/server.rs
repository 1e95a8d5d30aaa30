//! HTTP/1.1 for the operator, with bounds of its own: it works while clients exhaust theirs.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::events::{self, Door};
use super::live::Phase;
use super::router::Desk;
use crate::clock;
use crate::telemetry::setup::Chain;

/// Open connections; over it new ones are closed at once.
pub(super) const MOST_CONNECTIONS: usize = 64;
/// For a request's head, and for the next one on an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Of one connection, however busy it is: who reads slowly is not waited for.
const MOST_LIFE: Duration = Duration::from_secs(600);
/// For the last answer after that.
const GRACE: Duration = Duration::from_secs(5);
/// Request heads, in bytes.
const MOST_HEAD: usize = 16 * 1024;
/// After the system had no socket left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two log lines about a connection that is turned away.
const COMPLAINT: Duration = Duration::from_secs(10);

/// Serves until the sender of `phase` is gone. While the process drains, the operator may watch it and
/// `/readyz` reports it; once another process answers here too, nobody is accepted any more.
pub async fn run(desk: Desk, listener: TcpListener, phase: watch::Receiver<Phase>) {
    let (door, herald) = events::herald(desk.sources.board.clone(), desk.token.clone());
    // Whichever ends first, the other has nothing to finish.
    tokio::select! {
        () = accept(desk, door, listener, phase) => {}
        () = herald.run() => {}
    }
}

async fn accept(desk: Desk, door: Door, listener: TcpListener, mut phase: watch::Receiver<Phase>) {
    let desk = Rc::new((desk, door));
    let watched = phase.clone();
    let mut connections = JoinSet::new();
    let mut quiet_until = clock::now();
    loop {
        // Dropping any arm half-way loses nothing: `accept` and `join_next` are cancel-safe, the
        // value behind `changed` stays.
        let is_ours = *phase.borrow() != Phase::HandedOver;
        let accepted = tokio::select! {
            accepted = listener.accept(), if is_ours => accepted,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(error = %Chain(&error), "an admin connection broke off");
                }
                continue;
            }
            changed = phase.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        match accepted {
            Ok(_) if connections.len() >= MOST_CONNECTIONS => {
                if is_time_to_complain(&mut quiet_until) {
                    tracing::warn!(limit = MOST_CONNECTIONS, "admin connection refused");
                }
            }
            Ok((stream, peer)) => {
                let (desk, phase) = (Rc::clone(&desk), watched.clone());
                connections.spawn_local(async move { serve(&desk, stream, peer, phase).await });
            }
            Err(error) => {
                if is_time_to_complain(&mut quiet_until) {
                    tracing::warn!(error = %Chain(&error), "admin connection not accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether the last complaint is long enough ago; if so, this is the next one.
fn is_time_to_complain(quiet_until: &mut Instant) -> bool {
    let now = clock::now();
    let is_time = *quiet_until <= now;
    if is_time {
        *quiet_until = now + COMPLAINT;
    }
    is_time
}

async fn serve(
    (desk, door): &(Desk, Door),
    stream: TcpStream,
    peer: SocketAddr,
    phase: watch::Receiver<Phase>,
) {
    let mut handed_over = phase.clone();
    let service = service_fn(|request: http::Request<Incoming>| {
        let phase = *phase.borrow();
        async move { Ok::<_, Infallible>(desk.answer(request, phase, door).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MOST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // Whatever ends the wait, the connection itself is not dropped by it.
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = tokio::time::sleep(MOST_LIFE) => None,
        _ = handed_over.wait_for(|phase| *phase == Phase::HandedOver) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error = %Chain(&error), "admin connection ended");
    }
}
