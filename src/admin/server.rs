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

/// Serves until the sender of `draining` is gone: while it says `true` the process drains, which
/// the operator may watch and `/readyz` reports.
pub async fn run(desk: Desk, listener: TcpListener, draining: watch::Receiver<bool>) {
    let (door, herald) = events::herald(desk.sources.board.clone());
    // Whichever ends first, the other has nothing to finish.
    tokio::select! {
        () = accept(desk, door, listener, draining) => {}
        () = herald.run() => {}
    }
}

async fn accept(
    desk: Desk,
    door: Door,
    listener: TcpListener,
    mut draining: watch::Receiver<bool>,
) {
    let desk = Rc::new((desk, door));
    let watched = draining.clone();
    let mut connections = JoinSet::new();
    let mut quiet_until = clock::now();
    loop {
        // Dropping any arm half-way loses nothing: `accept` and `join_next` are cancel-safe, the
        // value behind `changed` stays.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(error = %Chain(&error), "an admin connection broke off");
                }
                continue;
            }
            changed = draining.changed() => match changed {
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
                let (desk, draining) = (Rc::clone(&desk), watched.clone());
                connections.spawn_local(async move { serve(&desk, stream, peer, draining).await });
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
    draining: watch::Receiver<bool>,
) {
    let service = service_fn(|request: http::Request<Incoming>| {
        let phase = if *draining.borrow() { Phase::Draining } else { Phase::Serving };
        async move { Ok::<_, Infallible>(desk.answer(request, phase, door).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MOST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = match tokio::time::timeout(MOST_LIFE, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error = %Chain(&error), "admin connection ended");
    }
}
