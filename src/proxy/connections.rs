//! This worker's connections to upstreams: made, lent to one request (HTTP/1.1) or several
//! (HTTP/2), kept while idle, closed when their upstream is left.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;

use super::by_serial::BySerial;
use super::held::Held;
use super::http1::Http1;
use super::lent::{Age, Connection, Home, Lent, Multiplexed, Stream};
use super::worker::Worker;
use crate::clock;
use crate::exchange::state::UpstreamState;
use crate::model::outcome::{FailureKind, Ignored, MethodClass, Outcome};
use crate::model::topology::{Endpoint, HttpRule};
use crate::net::{dial, tls_client};
use crate::request::proxy_status::ProxyError;

/// Idle HTTP/1.1 connections kept per upstream and worker; for a further one the oldest is closed. It
/// is never the newest: with names of their own making clients could keep all places taken.
const MAX_IDLE: usize = 256;
/// HTTP/2 connections per upstream and worker; a further one takes the place of one without requests,
/// and where there is none requests share.
const MAX_HTTP2: usize = 32;
/// Streams on one HTTP/2 connection before another one is made (RFC 9113, section 6.5.2, advises
/// peers to allow no fewer).
const STREAMS_PER_CONNECTION: u32 = 100;
/// Bytes that an HTTP/2 upstream may send of one answer before its client has taken any (RFC 9113, section 5.2). A
/// connection has as many for each of its streams: clients that take nothing hold up nobody else's answer.
const STREAM_WINDOW: u32 = 128 * 1024;
/// Unsafe requests take no connection that has been idle for longer: its end may be under way, and
/// they could not be repeated.
const FRESH_ENOUGH: Duration = Duration::from_secs(5);
/// Silence after which an HTTP/2 upstream is asked whether it is there, and its time to say so.
const PING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(2));

/// Runs hyper's helper futures on this worker; they end with their connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnThisWorker;

impl<F: Future<Output = ()> + 'static> Executor<F> for OnThisWorker {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Drives a connection to its end, whatever that is: the request in flight is told by its own call.
async fn driven<T>(driver: impl Future<Output = hyper::Result<T>>) {
    if let Err(error) = driver.await {
        tracing::trace!(%error, "an upstream connection ended");
    }
}

/// Connections of one worker, by serial number of the upstream.
#[derive(Default)]
pub(super) struct Connections {
    all: RefCell<HashMap<u64, Rc<UpstreamConnections>, BySerial>>,
    /// What they have brought and clients have not taken.
    pub(super) held: Held,
}

impl Connections {
    /// Those of one upstream.
    pub(super) fn of(&self, state: &Arc<UpstreamState>) -> Rc<UpstreamConnections> {
        if let Some(connections) = self.all.borrow().get(&state.serial) {
            return Rc::clone(connections);
        }
        let connections = Rc::new(UpstreamConnections::new(Arc::clone(state), self.held.clone()));
        self.all.borrow_mut().insert(state.serial, Rc::clone(&connections));
        connections
    }

    /// After a new snapshot: closes what is idle at upstreams that were left, wakes the requests
    /// that wait for them, and forgets upstreams that `exists` says are gone.
    pub(super) fn obey(&self, exists: impl Fn(u64) -> bool) {
        self.all.borrow_mut().retain(|serial, connections| {
            let known = exists(*serial);
            if !known || connections.state.is_avoided() {
                connections.close_idle();
                connections.left.notify_waiters();
            }
            known
        });
    }

    /// Closes what has been idle for longer than its endpoint allows, was closed by its upstream, or leads
    /// to an address that no answer names any more; what is in flight there ends first.
    pub(super) fn sweep(&self) {
        let now = clock::now();
        for connections in self.all.borrow().values() {
            let book = &connections.state.addresses;
            let mut all = connections.idle.borrow_mut();
            all.retain_mut(|idle| {
                idle.until > now && idle.connection.is_quiet() && book.names(idle.address)
            });
            connections.multiplexed.borrow_mut().retain(|other| book.names(other.address));
        }
    }
}

/// This worker's connections to one upstream.
pub(super) struct UpstreamConnections {
    state: Arc<UpstreamState>,
    idle: RefCell<Vec<Idle>>,
    multiplexed: RefCell<Vec<Rc<Multiplexed>>>,
    /// Rung when the upstream is ejected: safe requests that wait for it move on.
    pub(super) left: Notify,
    held: Held,
}

/// An HTTP/1.1 connection between two requests.
pub(super) struct Idle {
    pub(super) name: Option<Box<str>>,
    pub(super) address: SocketAddr,
    pub(super) connection: Box<Http1>,
    pub(super) since: Instant,
    pub(super) until: Instant,
}

/// What a connection is wanted for.
pub(super) struct Wanted<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) tls: Option<&'a Arc<rustls::ClientConfig>>,
    /// Host for SNI and the certificate.
    pub(super) name: &'a str,
    pub(super) class: MethodClass,
    pub(super) connect_timeout: Duration,
    /// Whether it has to speak HTTP/1.1.
    pub(super) only_http1: bool,
}

impl Wanted<'_> {
    /// Connections under different names are different connections; in cleartext there are no names.
    fn key(&self) -> Option<&str> {
        self.tls.is_some().then_some(self.name)
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("no address is known")]
    NoAddress,
    #[error("connecting")]
    Connect(#[source] io::Error),
    #[error("TLS handshake")]
    Tls(#[source] io::Error),
    #[error("HTTP handshake")]
    Http(#[source] hyper::Error),
}

impl ConnectError {
    /// What a client is told of it (RFC 9209, section 2.3).
    pub(super) fn told(&self) -> ProxyError {
        match self {
            Self::NoAddress => ProxyError::DnsError,
            Self::Connect(error) if dial::is_our_own_lack(error) => {
                ProxyError::ConnectionLimitReached
            }
            Self::Connect(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => ProxyError::ConnectionRefused,
                io::ErrorKind::TimedOut => ProxyError::ConnectionTimeout,
                _ => ProxyError::DestinationUnavailable,
            },
            Self::Tls(error) if tls_client::is_about_certificate(error) => {
                ProxyError::TlsCertificateError
            }
            Self::Tls(_) => ProxyError::TlsProtocolError,
            Self::Http(_) => ProxyError::ProtocolError,
        }
    }

    /// What it counts as.
    pub(super) fn outcome(&self) -> Outcome {
        Outcome::Failure(match self {
            Self::Connect(error) if dial::is_our_own_lack(error) => {
                return Outcome::Ignored(Ignored::OwnLimit);
            }
            Self::NoAddress => FailureKind::Dns,
            Self::Connect(_) => FailureKind::Connect,
            Self::Tls(_) => FailureKind::Tls,
            Self::Http(_) => FailureKind::BrokeOff,
        })
    }
}

impl UpstreamConnections {
    fn new(state: Arc<UpstreamState>, held: Held) -> Self {
        Self {
            state,
            idle: RefCell::default(),
            multiplexed: RefCell::default(),
            left: Notify::new(),
            held,
        }
    }

    /// Ends when the upstream has been left for `grace`, and somebody better serves in its place.
    pub(super) async fn left_for(self: Rc<Self>, worker: Rc<Worker>) {
        loop {
            if !self.state.is_avoided() {
                self.left.notified().await;
            }
            tokio::time::sleep(worker.grace()).await;
            if self.state.is_avoided() && worker.has_better_than(&self.state) {
                return;
            }
        }
    }

    fn close_idle(&self) {
        self.idle.borrow_mut().clear();
        // Streams in flight hold their connection; it ends with the last of them.
        self.multiplexed.borrow_mut().clear();
    }

    /// A connection that was used before, if one is good enough.
    pub(super) fn reuse(self: &Rc<Self>, wanted: &Wanted<'_>) -> Option<Lent> {
        if let Some(lent) = self.share(wanted) {
            return Some(lent);
        }
        let idle = self.take_idle(wanted)?;
        let home = Home {
            connections: Rc::clone(self),
            name: idle.name,
            address: idle.address,
            idle_timeout: wanted.endpoint.idle_timeout,
        };
        Some(Lent { connection: Connection::Http1(idle.connection, home), age: Age::Reused })
    }

    fn share(&self, wanted: &Wanted<'_>) -> Option<Lent> {
        let mut all = self.multiplexed.borrow_mut();
        if all.is_empty() {
            return None;
        }
        all.retain(|connection| !connection.sender.is_closed());
        let full = all.len() >= MAX_HTTP2;
        let mut named = all.iter().filter(|connection| connection.name.as_deref() == wanted.key());
        let free = named.clone().find(|c| c.streams.get() < STREAMS_PER_CONNECTION);
        let connection = free.or_else(|| if full { named.next() } else { None })?;
        Some(Lent { connection: Connection::Http2(Stream::on(connection)), age: Age::Reused })
    }

    /// The one used last: the others can grow old and be closed.
    fn take_idle(&self, wanted: &Wanted<'_>) -> Option<Idle> {
        let mut all = self.idle.borrow_mut();
        let now = clock::now();
        loop {
            let place = all.iter().rposition(|idle| idle.name.as_deref() == wanted.key())?;
            let fresh = now.saturating_duration_since(all[place].since) < FRESH_ENOUGH;
            if wanted.class == MethodClass::Unsafe && !fresh {
                return None;
            }
            let mut idle = all.remove(place);
            if idle.until > now && idle.connection.is_quiet() {
                return Some(idle);
            }
        }
    }

    /// A new connection.
    pub(super) async fn connect(
        self: &Rc<Self>,
        wanted: &Wanted<'_>,
    ) -> Result<Lent, ConnectError> {
        let book = &self.state.addresses;
        let shaking = Cell::new(None);
        let made = tokio::time::timeout(wanted.connect_timeout, self.make(wanted, &shaking)).await;
        let late = || ConnectError::Connect(io::ErrorKind::TimedOut.into());
        let made = made.unwrap_or_else(|_| Err(late()));
        match (&made, shaking.get()) {
            (Ok(_), Some(address)) => book.served(address),
            // One that takes connections and shakes no hands would be tried first for ever.
            (Err(_), Some(address)) => book.failed(address, clock::now()),
            (_, None) => {}
        }
        if made.is_err() {
            // The addresses may be the reason.
            book.ask_again();
        }
        made
    }

    /// `shaking`: the address that has taken the connection.
    async fn make(
        self: &Rc<Self>,
        wanted: &Wanted<'_>,
        shaking: &Cell<Option<SocketAddr>>,
    ) -> Result<Lent, ConnectError> {
        let book = &self.state.addresses;
        let addresses = book.to_try(clock::now());
        if addresses.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        let failed = |address| book.failed(address, clock::now());
        let tcp = dial::connect_noting(&addresses, &failed).await.map_err(ConnectError::Connect)?;
        let address = tcp.peer_addr().map_err(ConnectError::Connect)?;
        shaking.set(Some(address));
        let stream = match wanted.tls {
            None => tls_client::Stream::Plain(tcp),
            Some(config) => {
                let name = tls_client::server_name(wanted.name)
                    .ok_or_else(|| ConnectError::Tls(io::ErrorKind::InvalidInput.into()))?;
                let config = match wanted.only_http1 {
                    true => tls_client::only_http1(config),
                    false => Arc::clone(config),
                };
                let shaken = tls_client::handshake(config, name, tcp).await;
                shaken.map_err(ConnectError::Tls)?
            }
        };
        let http2 = stream.chose_http2()
            || (wanted.tls.is_none() && wanted.endpoint.http == HttpRule::Http2);
        let connection = if http2 {
            self.make_http2(stream, wanted, address).await.map_err(ConnectError::Http)?
        } else {
            let home = Home {
                connections: Rc::clone(self),
                name: wanted.key().map(Box::from),
                address,
                idle_timeout: wanted.endpoint.idle_timeout,
            };
            Connection::Http1(Box::new(Http1::new(stream, self.held.clone())), home)
        };
        Ok(Lent { connection, age: Age::Fresh })
    }

    async fn make_http2(
        self: &Rc<Self>,
        stream: tls_client::Stream,
        wanted: &Wanted<'_>,
        address: SocketAddr,
    ) -> hyper::Result<Connection> {
        let (sender, driver) = http2::Builder::new(OnThisWorker)
            .timer(TokioTimer::new())
            .keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(STREAMS_PER_CONNECTION * STREAM_WINDOW)
            .handshake(TokioIo::new(stream))
            .await?;
        OnThisWorker.execute(driven(driver));
        let name = wanted.key().map(Box::from);
        let connection = Rc::new(Multiplexed { name, address, sender, streams: Cell::new(0) });
        let stream = Stream::on(&connection);
        let mut all = self.multiplexed.borrow_mut();
        if all.len() >= MAX_HTTP2
            && let Some(unused) = all.iter().position(|other| other.streams.get() == 0)
        {
            all.remove(unused);
        }
        if all.len() < MAX_HTTP2 && !self.state.is_avoided() {
            all.push(connection);
        }
        Ok(Connection::Http2(stream))
    }

    pub(super) fn keep(&self, idle: Idle) {
        let mut all = self.idle.borrow_mut();
        if self.state.is_avoided() || !self.state.addresses.names(idle.address) {
            return;
        }
        if all.len() >= MAX_IDLE {
            all.remove(0);
        }
        all.push(idle);
    }
}
