//! Accepting clients, within the limit of connections.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderMap;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::client::Client;
use super::connection::Connection;
use super::worker::Worker;
use crate::clock;
use crate::exchange::edge::ListenerState;
use crate::model::client::prefix;
use crate::model::listening::Manner;
use crate::model::refusal::Refusal;
use crate::request::headers::{Trust, X_FORWARDED_FOR};
use crate::request::witness::client_prefix;

/// Pause when the process has no descriptor left for another connection.
const EXHAUSTED: Duration = Duration::from_millis(20);
/// Between two log lines about it: a flood of connections must not become a flood of lines.
const COMPLAINT: Duration = Duration::from_secs(10);

/// One address of one worker; stops accepting when it is dropped.
pub(super) struct Accepting {
    shared: Rc<Shared>,
    /// One a socket.
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Arc<ListenerState>,
    /// One, unless those that were inherited outnumber the workers.
    sockets: Vec<TcpListener>,
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

    /// The same sockets once more, for a process that takes over.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub(super) fn lend(&self) -> io::Result<Vec<std::net::TcpListener>> {
        let sockets = self.shared.sockets.iter();
        sockets.map(|socket| Ok(socket.as_fd().try_clone_to_owned()?.into())).collect()
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Begins to accept, in cleartext until told otherwise: nothing is accepted before the caller waits.
///
/// # Errors
/// When a socket cannot be watched.
pub(super) fn accept(
    worker: &Rc<Worker>,
    state: Arc<ListenerState>,
    sockets: Vec<std::net::TcpListener>,
) -> io::Result<Accepting> {
    let sockets: Vec<_> =
        sockets.into_iter().map(TcpListener::from_std).collect::<Result<_, _>>()?;
    let (tls, manner) = (RefCell::default(), Cell::default());
    let shared = Rc::new(Shared { state, sockets, tls, manner });
    let serve = |place| {
        let serving = Serving { worker: Rc::clone(worker), on: Rc::clone(&shared), place };
        tokio::task::spawn_local(serving.run())
    };
    let tasks = (0..shared.sockets.len()).map(serve).collect();
    Ok(Accepting { shared, tasks })
}

/// Looks, at a connection's first request, whether it seems to be a proxy's.
pub(super) fn note_forwarding(client: &Client, headers: &HeaderMap) {
    if client.noted.replace(true) {
        return;
    }
    let claims = client.trust.get() == Trust::Stranger && headers.contains_key(X_FORWARDED_FOR);
    let network = claims.then(|| client_prefix(client.peer).get());
    let listener = &client.listener;
    if listener.rows[client.worker.index].forwarded.note(network) {
        tracing::warn!(
            network = %prefix(client.peer),
            listener = %listener.address,
            "nearly all connections come from a proxy that is not in `trusted_proxies`: its \
             clients are taken for one"
        );
    }
}

/// The client was gone before we got to it.
fn is_about_one_client(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

/// The accept loop's own; when the loop ends, what the kernel has already accepted is still served.
struct Serving {
    worker: Rc<Worker>,
    on: Rc<Shared>,
    /// Of its socket among those of the address.
    place: usize,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let mut context = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Ok((stream, peer))) = self.socket().poll_accept(&mut context) {
            self.admit(stream, peer);
        }
    }
}

impl Serving {
    fn socket(&self) -> &TcpListener {
        &self.on.sockets[self.place]
    }

    async fn run(self) {
        let mut quiet_until = clock::now();
        loop {
            match self.socket().accept().await {
                Ok((stream, peer)) => self.admit(stream, peer),
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
    }

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
