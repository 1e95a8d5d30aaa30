//! Accepting clients, within the limit of connections.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::connection::Connection;
use super::worker::Worker;
use crate::clock;
use crate::exchange::edge::ListenerState;
use crate::model::listening::Manner;
use crate::model::refusal::Refusal;

/// Pause when the process has no descriptor left for another connection.
const EXHAUSTED: Duration = Duration::from_millis(20);
/// Between two log lines about it: a flood of connections must not become a flood of lines.
const COMPLAINT: Duration = Duration::from_secs(10);

/// One listening socket of one worker; stops accepting when it is dropped.
pub(super) struct Accepting {
    shared: Rc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    state: Arc<ListenerState>,
    tls: RefCell<Option<Arc<ServerConfig>>>,
    manner: Cell<Manner>,
}

impl Accepting {
    pub(super) fn address(&self) -> SocketAddr {
        self.shared.state.address
    }

    /// So with connections from now on.
    pub(super) fn go_on(&self, tls: Option<Arc<ServerConfig>>, manner: Manner) {
        *self.shared.tls.borrow_mut() = tls;
        self.shared.manner.set(manner);
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Begins to accept, in cleartext until told otherwise: nothing is accepted before the caller waits.
///
/// # Errors
/// When the socket cannot be watched.
pub(super) fn accept(
    worker: &Rc<Worker>,
    state: Arc<ListenerState>,
    socket: std::net::TcpListener,
) -> io::Result<Accepting> {
    let socket = Backlog(TcpListener::from_std(socket)?);
    let shared = Rc::new(Shared { state, tls: RefCell::default(), manner: Cell::default() });
    let (worker, on) = (Rc::clone(worker), Rc::clone(&shared));
    let task = tokio::task::spawn_local(async move {
        let socket = Serving { worker, on, socket };
        let mut quiet_until = clock::now();
        loop {
            match socket.socket.0.accept().await {
                Ok((stream, peer)) => socket.admit(stream, peer),
                Err(error) if is_about_one_client(&error) => {}
                Err(error) => {
                    let now = clock::now();
                    if quiet_until <= now {
                        tracing::warn!(%error, "no connection can be accepted");
                        quiet_until = now + COMPLAINT;
                    }
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
    });
    Ok(Accepting { shared, task })
}

/// The client was gone before we got to it.
fn is_about_one_client(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

struct Backlog(TcpListener);

/// The accept loop's own; when the loop ends, what the kernel has already accepted is still served.
struct Serving {
    worker: Rc<Worker>,
    on: Rc<Shared>,
    socket: Backlog,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let mut context = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Ok((stream, peer))) = self.socket.0.poll_accept(&mut context) {
            self.admit(stream, peer);
        }
    }
}

impl Serving {
    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let settings = self.worker.settings.current();
        let row = &self.on.state.rows[self.worker.index];
        row.accepted.add(1);
        let Some(place) = self.worker.edge.admit(settings.limits.max_connections) else {
            row.refuse(Refusal::TooManyConnections);
            return;
        };
        let tls = self.on.tls.borrow().clone();
        let connection = Connection {
            worker: Rc::clone(&self.worker),
            listener: Arc::clone(&self.on.state),
            settings,
            peer,
            manner: self.on.manner.get(),
            _place: place,
            _open: self.worker.open(),
            of_client: None,
        };
        tokio::task::spawn_local(connection.serve(stream, tls));
    }
}
