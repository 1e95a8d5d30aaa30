//! Accepting clients: limits, TLS, the choice of protocol, and patience with slow ones.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::attend::{Attended, Driven, attend, take_leave};
use super::client::{self, Activity, Client, Watched};
use super::connections::OnThisWorker;
use super::gather::Gathered;
use super::service;
use super::worker::{Stage, Worker};
use crate::clock;
use crate::exchange::clients::ClientPlace;
use crate::exchange::edge::{ListenerState, Place};
use crate::exchange::settings::Settings;
use crate::model::client::ClientKey;
use crate::model::listening::{Manner, ProxyHeader};
use crate::model::refusal::Refusal;
use crate::net::preamble;
use crate::request::framing::Framing;
use crate::request::headers::{Proto, Trust};

/// For the whole TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Pause when the process has no descriptor left for another connection.
const EXHAUSTED: Duration = Duration::from_millis(20);
/// Between two log lines about it: a flood of connections must not become a flood of lines.
const COMPLAINT: Duration = Duration::from_secs(10);
/// Requests of one HTTP/2 connection at a time.
const HTTP2_STREAMS: u32 = 128;
/// Streams that a client may reset before we have answered, and still be believed (CVE-2023-44487).
const HTTP2_RESETS: usize = 20;
/// How a client that knows beforehand begins HTTP/2. No method begins so, and clients send the whole
/// preface at once; one that sends less at first is taken for HTTP/1.1 and refused.
const PREFACE: [u8; 4] = *b"PRI ";
/// Written to a client whose head took too long.
const TIMED_OUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

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
            of_client: None,
        };
        tokio::task::spawn_local(connection.serve(stream, tls));
    }
}

/// One client connection, from its first byte to its last.
struct Connection {
    worker: Rc<Worker>,
    listener: Arc<ListenerState>,
    settings: Arc<Settings>,
    peer: SocketAddr,
    manner: Manner,
    /// Given back with the connection.
    _place: Place,
    of_client: Option<ClientPlace>,
}

impl Connection {
    async fn serve(mut self, mut stream: TcpStream, tls: Option<Arc<ServerConfig>>) {
        let open = self.worker.open();
        let (listener, index) = (Arc::clone(&self.listener), self.worker.index);
        listener.rows[index].open.add(1);
        // Without it small answers wait for the client's delayed acknowledgement.
        if stream.set_nodelay(true).is_ok()
            && self.hear_who(&mut stream).await
            && self.takes_a_place()
        {
            match tls {
                None => self.serve_cleartext(stream).await,
                Some(config) => Box::pin(self.serve_tls(stream, config)).await,
            }
        }
        listener.rows[index].open.sub(1);
        drop(open);
    }

    /// Takes the header off that says who the client is, where there is to be one.
    async fn hear_who(&mut self, stream: &mut TcpStream) -> bool {
        if self.manner.proxy_header == ProxyHeader::Off {
            return true;
        }
        let balancer = self.peer.ip().to_canonical();
        let limit = self.settings.limits.header_read_timeout;
        let said = match client::is_trusted(&self.settings, balancer) {
            // Half a header is nobody's request: it is dropped at a drain.
            true => tokio::select! {
                said = tokio::time::timeout(limit, Box::pin(preamble::take(stream))) => said,
                () = self.worker.draining.notified() => return false,
            },
            false => Ok(Err(io::ErrorKind::PermissionDenied.into())),
        };
        match said {
            Ok(Ok(source)) => {
                self.peer = source.unwrap_or(self.peer);
                true
            }
            // A balancer that looks whether the port is open.
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            Ok(Err(_)) | Err(_) => {
                self.refuse(Refusal::ProxyHeader);
                let listener = self.listener.address;
                self.worker.complain(|| {
                    tracing::warn!(%balancer, %listener, "no PROXY header that is believed: closed");
                });
                false
            }
        }
    }

    /// Its client's, where it may not have any number of connections.
    fn takes_a_place(&mut self) -> bool {
        let client = self.peer.ip().to_canonical();
        let limit = self.settings.limits.max_connections_per_client.of(client);
        let Some(limit) = limit.filter(|_| !client::is_trusted(&self.settings, client)) else {
            return true;
        };
        self.of_client = self.worker.edge.by_client.admit(ClientKey::of(client), limit);
        if self.of_client.is_none() {
            self.refuse(Refusal::TooManyFromClient);
        }
        self.of_client.is_some()
    }

    /// HTTP/2 by prior knowledge where the connection begins as such (RFC 9113, section 3.3).
    async fn serve_cleartext(self, stream: TcpStream) {
        if self.worker.stage.get() != Stage::Serving {
            return self.serve_http1(stream, Proto::Http).await;
        }
        let mut first = [0; PREFACE.len()];
        // Losing a branch half-way loses nothing: peeked bytes stay where they are. In order, so
        // that a request that is already here is served before a drain is noticed.
        tokio::select! {
            biased;
            peeked = stream.peek(&mut first) => match peeked {
                Ok(_) if first == PREFACE => Box::pin(self.serve_http2(stream, Proto::Http)).await,
                Ok(0) | Err(_) => {}
                Ok(_) => self.serve_http1(stream, Proto::Http).await,
            },
            () = self.worker.draining.notified() => {}
            () = tokio::time::sleep(self.settings.limits.header_read_timeout) => {
                self.refuse(Refusal::SlowHead);
            }
        }
    }

    async fn serve_tls(self, stream: TcpStream, config: Arc<ServerConfig>) {
        let handshake = TlsAcceptor::from(config).accept(stream);
        match tokio::time::timeout(HANDSHAKE, handshake).await {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                Box::pin(self.serve_http2(stream, Proto::Https)).await;
            }
            Ok(Ok(stream)) => Box::pin(self.serve_http1(stream, Proto::Https)).await,
            Ok(Err(_)) | Err(_) => self.refuse(Refusal::Handshake),
        }
    }

    fn refuse(&self, refusal: Refusal) {
        self.listener.rows[self.worker.index].refuse(refusal);
    }

    fn client(&self, proto: Proto) -> Rc<Client> {
        let peer = self.peer.ip().to_canonical();
        let trust = match client::is_trusted(&self.settings, peer) {
            true => Trust::TrustedProxy,
            false => Trust::Stranger,
        };
        Rc::new(Client {
            worker: Rc::clone(&self.worker),
            listener: Arc::clone(&self.listener),
            settings: Arc::clone(&self.settings),
            peer,
            peer_value: HeaderValue::try_from(peer.to_string())
                .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            trust,
            proto,
            redirect: self.manner.redirect,
            activity: Activity::new(),
            forwarded: RefCell::default(),
            tunnel: RefCell::default(),
        })
    }

    async fn serve_http1<S: AsyncRead + AsyncWrite + Unpin + 'static>(
        self,
        stream: S,
        proto: Proto,
    ) {
        let client = self.client(proto);
        let activity = Rc::clone(&client.activity);
        let framing = Framing::of_requests();
        let io = TokioIo::new(Watched { stream, activity: Rc::clone(&activity), framing });
        let of_service = Rc::clone(&client);
        let service = service_fn(move |request| service::serve(Rc::clone(&of_service), request));
        let most = self.settings.limits.max_header_bytes;
        let mut connection = http1::Builder::new()
            .half_close(false)
            .header_read_timeout(None)
            .max_header_size(most)
            .max_buf_size(most.max(64 * 1024))
            .serve_connection(io, service);
        let driven = Driven {
            connection: Pin::new(&mut connection),
            finish: |connection: Pin<&mut http1::Connection<_, _>>| connection.graceful_shutdown(),
            send: |_: &mut Context<'_>| Poll::Ready(Ok(())),
        };
        match attend(&self.worker, &self.settings.limits, &activity, driven).await {
            Attended::SlowHead => {
                self.refuse(Refusal::SlowHead);
                let mut stream = connection.into_parts().io.into_inner().stream;
                // The client may be gone, or not reading: its 408 is a courtesy.
                let goodbye = async {
                    stream.write_all(TIMED_OUT).await?;
                    stream.shutdown().await
                };
                drop(tokio::time::timeout(Duration::from_secs(1), goodbye).await);
            }
            Attended::Ended(Err(error)) if error.is_parse_too_large() => {
                self.refuse(Refusal::HeadTooLarge);
            }
            Attended::Ended(Err(error)) if error.is_parse() => self.refuse(Refusal::Malformed),
            Attended::Ended(Ok(())) => {
                let tunnel = client.tunnel.take();
                if let Some(tunnel) = tunnel {
                    let parts = connection.into_parts();
                    // Boxed like all that most connections never are: each holds room for the largest.
                    let stream = parts.io.into_inner().stream;
                    Box::pin(tunnel.run(stream, parts.read_buf)).await;
                }
            }
            Attended::SlowReader => self.refuse(Refusal::SlowReader),
            Attended::Ended(Err(_)) | Attended::Unsent | Attended::Idle => {}
        }
    }

    async fn serve_http2<S: AsyncRead + AsyncWrite + Unpin + 'static>(
        self,
        stream: S,
        proto: Proto,
    ) {
        let client = self.client(proto);
        let activity = Rc::clone(&client.activity);
        // Bytes say nothing of a head here: the answer to a ping is no beginning of a request.
        let gathered = Gathered::new(stream);
        let io = TokioIo::new(gathered.other_hand());
        // Boxed: hyper moves the future of each stream several times before it runs.
        let service =
            service_fn(move |request| Box::pin(service::serve(Rc::clone(&client), request)));
        let most = u32::try_from(self.settings.limits.max_header_bytes).unwrap_or(u32::MAX);
        let mut connection = http2::Builder::new(OnThisWorker)
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .max_concurrent_streams(HTTP2_STREAMS)
            .max_pending_accept_reset_streams(HTTP2_RESETS)
            .max_header_list_size(most)
            .enable_connect_protocol()
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .serve_connection(io, service);
        let driven = Driven {
            connection: Pin::new(&mut connection),
            finish: |connection: Pin<&mut http2::Connection<_, _, _>>| {
                connection.graceful_shutdown();
            },
            send: |context: &mut Context<'_>| gathered.poll_send(context),
        };
        match attend(&self.worker, &self.settings.limits, &activity, driven).await {
            Attended::SlowHead => self.refuse(Refusal::SlowHead),
            Attended::SlowReader => self.refuse(Refusal::SlowReader),
            Attended::Idle => {
                Pin::new(&mut connection).graceful_shutdown();
                let is_over = |context: &mut Context<'_>| {
                    let ended = Pin::new(&mut connection).poll(context).is_ready();
                    ended | matches!(gathered.poll_send(context), Poll::Ready(Err(_)))
                };
                take_leave(&self.settings.limits, &activity, is_over).await;
            }
            Attended::Ended(_) | Attended::Unsent => {}
        }
    }
}
