//! One client connection, from its first byte to its last: who it is, TLS, the choice of protocol.

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
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::activity::{Activity, Word};
use super::attend::{Attended, Driven, GOODBYE, attend, take_leave};
use super::client::{self, Client};
use super::connections::OnThisWorker;
use super::early::Early;
use super::gather::Gathered;
use super::service;
use super::story::unread;
use super::waiting::{self, Waited};
use super::watched::Watched;
use super::worker::{Open, Worker};
use crate::exchange::clients::ClientPlace;
use crate::exchange::edge::{ListenerState, Place};
use crate::exchange::settings::Settings;
use crate::model::client::ClientKey;
use crate::model::listening::{Manner, ProxyHeader};
use crate::model::refusal::Refusal;
use crate::net::preamble;
use crate::request::headers::Proto;

/// Bytes of a TLS connection that wait, encrypted, for the client to take them.
const TLS_UNSENT: usize = 16 * 1024;
/// For the whole TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Requests of one HTTP/2 connection at a time.
const HTTP2_STREAMS: u32 = 128;
/// Bytes of one answer that wait over HTTP/2 for its client, whatever windows that has opened.
const HTTP2_UNTAKEN: usize = 64 * 1024;
/// Streams that a client may reset before we have answered, and still be believed (CVE-2023-44487).
const HTTP2_RESETS: usize = 20;
/// How a client that knows beforehand begins HTTP/2. No method begins so.
const PREFACE: [u8; 4] = *b"PRI ";
/// Written to a client whose head took too long.
const TIMED_OUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\
      cache-control: no-store\r\nproxy-status: bascule; error=http_request_error\r\n\r\n";

/// Boxed: it is moved between a wait and a talk, and its state is large.
type Secured = Box<tokio_rustls::server::TlsStream<TcpStream>>;

/// One client connection, from its first byte to its last.
pub(super) struct Connection {
    pub(super) worker: Rc<Worker>,
    pub(super) listener: Arc<ListenerState>,
    pub(super) settings: Arc<Settings>,
    pub(super) peer: SocketAddr,
    pub(super) manner: Manner,
    /// Given back with the connection.
    pub(super) _place: Place,
    /// From the moment it was accepted.
    pub(super) _open: Open,
    pub(super) of_client: Option<ClientPlace>,
}

impl Connection {
    pub(super) async fn serve(mut self, mut stream: TcpStream, tls: Option<Arc<ServerConfig>>) {
        let (listener, index) = (Arc::clone(&self.listener), self.worker.index);
        listener.rows[index].open.add(1);
        // Without it small answers wait for the client's delayed acknowledgement.
        if stream.set_nodelay(true).is_ok()
            && self.hear_who(&mut stream).await
            && self.takes_a_place()
        {
            match tls {
                None => self.serve_http1(stream, Proto::Http).await,
                // Boxed like all that most connections never are, or not for long: each task holds
                // room for the largest of what it awaits.
                Some(config) => {
                    if let Some(stream) = Box::pin(self.shake(stream, config)).await {
                        self.serve_tls(stream).await;
                    }
                }
            }
        }
        listener.rows[index].open.sub(1);
    }

    /// Takes the header off that says who the client is, where there is to be one.
    async fn hear_who(&mut self, stream: &mut TcpStream) -> bool {
        if self.manner.proxy_header == ProxyHeader::Off {
            return true;
        }
        let balancer = self.peer.ip().to_canonical();
        let limit = self.settings.limits.header_read_timeout;
        let said = match self.settings.trusts(balancer) {
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
        let Some(limit) = limit.filter(|_| !self.settings.trusts(client)) else {
            return true;
        };
        self.of_client = self.worker.edge.by_client.admit(ClientKey::of(client), limit);
        if self.of_client.is_none() {
            self.refuse(Refusal::TooManyFromClient);
        }
        self.of_client.is_some()
    }

    async fn shake(&self, stream: TcpStream, config: Arc<ServerConfig>) -> Option<Secured> {
        let handshake = TlsAcceptor::from(config).accept_with(stream, |session| {
            session.set_buffer_limit(Some(TLS_UNSENT));
        });
        match tokio::time::timeout(HANDSHAKE, handshake).await {
            Ok(Ok(stream)) => Some(Box::new(stream)),
            Ok(Err(_)) | Err(_) => {
                self.refuse(Refusal::Handshake);
                None
            }
        }
    }

    async fn serve_tls(self, stream: Secured) {
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let client = self.client(Proto::Https);
            let stream = Early::new(Vec::new(), stream);
            return Box::pin(self.serve_http2(stream, client)).await;
        }
        self.serve_http1(stream, Proto::Https).await;
    }

    fn refuse(&self, refusal: Refusal) {
        self.listener.rows[self.worker.index].refuse(refusal);
    }

    /// A request over HTTP/1.1 of which no head was read.
    fn turn_away(&self, client: &Client, refusal: Refusal) {
        self.refuse(refusal);
        unread::tell(client, refusal);
    }

    fn client(&self, proto: Proto) -> Rc<Client> {
        let peer = self.peer.ip().to_canonical();
        Rc::new(Client {
            worker: Rc::clone(&self.worker),
            listener: Arc::clone(&self.listener),
            settings: RefCell::new(Arc::clone(&self.settings)),
            peer,
            peer_value: HeaderValue::try_from(peer.to_string())
                .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            trust: Cell::new(client::trust(&self.settings, peer)),
            proto,
            redirect: self.manner.redirect,
            activity: Activity::new(),
            forwarded: RefCell::default(),
            noted: Cell::default(),
            tunnel: RefCell::default(),
        })
    }

    /// Waits for heads, and lets hyper have each; what begins as HTTP/2 in cleartext is that (RFC 9113,
    /// section 3.3).
    async fn serve_http1<S: AsyncRead + AsyncWrite + Unpin + 'static>(
        self,
        mut stream: S,
        proto: Proto,
    ) {
        let client = self.client(proto);
        let mut came = Vec::new();
        let mut may_be_http2 = proto == Proto::Http;
        loop {
            let (limits, activity) = (&self.settings.limits, &client.activity);
            let waits = waiting::for_head(&self.worker, limits, activity, (&mut stream, &mut came));
            match waits.await {
                Waited::Head => {}
                // A client that opens connections ahead of need, most often.
                Waited::SlowHead if came.is_empty() => return self.refuse(Refusal::SlowHead),
                Waited::SlowHead => {
                    self.turn_away(&client, Refusal::SlowHead);
                    return time_out(stream).await;
                }
                Waited::Over => return leave(stream).await,
            }
            let is_http2 = may_be_http2 && came.starts_with(&PREFACE);
            may_be_http2 = false;
            let early = Early::new(std::mem::take(&mut came), stream);
            if is_http2 {
                return Box::pin(self.serve_http2(early, client)).await;
            }
            match Box::pin(self.talk(early, &client)).await {
                Some(rested) => stream = rested,
                None => return,
            }
        }
    }

    /// Requests and answers, until the connection ends (`None`) or there was none for a while.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin + 'static>(
        &self,
        stream: Early<S>,
        client: &Rc<Client>,
    ) -> Option<S> {
        let activity = Rc::clone(&client.activity);
        let io = TokioIo::new(Watched::new(stream, &activity));
        let of_service = Rc::clone(client);
        let service = service_fn(move |request| service::serve(&of_service, request));
        let most = self.settings.limits.max_header_bytes;
        let mut connection = http1::Builder::new()
            .half_close(false)
            .header_read_timeout(None)
            .max_header_size(most)
            .max_buf_size(most.max(64 * 1024))
            .serve_connection(io, service);
        let driven = Driven {
            connection: Pin::new(&mut connection),
            word: Word::OfAnswer,
            finish: |connection: Pin<&mut http1::Connection<_, _>>| connection.graceful_shutdown(),
            send: |_: &mut Context<'_>| Poll::Ready(Ok(())),
        };
        let attended = attend(&self.worker, &self.settings.limits, &activity, driven).await;
        let tunnel = client.tunnel.take();
        let parts = connection.into_parts();
        let stream = parts.io.into_inner().stream;
        match attended {
            Attended::SlowHead => {
                self.turn_away(client, Refusal::SlowHead);
                // Not into the middle of an answer that the client does not take.
                if activity.is_written_out() {
                    time_out(stream).await;
                }
            }
            Attended::Ended(Err(error)) if error.is_parse_too_large() => {
                self.turn_away(client, Refusal::HeadTooLarge);
            }
            Attended::Ended(Err(error)) if error.is_parse() => {
                self.turn_away(client, Refusal::Malformed);
            }
            Attended::Ended(Ok(())) => {
                if let Some(tunnel) = tunnel {
                    Box::pin(tunnel.run(stream, parts.read_buf)).await;
                }
            }
            Attended::Rests => {
                // An empty line after a request is nobody's (RFC 9112, section 2.2). Anything else should
                // not be there; what nobody can answer any more is closed.
                let (early, stream) = stream.into_parts();
                let is_blank = |byte: &u8| matches!(byte, b'\r' | b'\n');
                let nothing = early.is_empty() && parts.read_buf.iter().all(is_blank);
                return nothing.then_some(stream);
            }
            Attended::SlowReader => self.refuse(Refusal::SlowReader),
            Attended::Idle if activity.is_written_out() => leave(stream).await,
            Attended::Ended(Err(_)) | Attended::Unsent | Attended::Idle => {}
        }
        None
    }

    async fn serve_http2<S: AsyncRead + AsyncWrite + Unpin + 'static>(
        self,
        stream: Early<S>,
        client: Rc<Client>,
    ) {
        let activity = Rc::clone(&client.activity);
        // Bytes say nothing of a head here: the answer to a ping is no beginning of a request.
        let gathered = Gathered::new(stream);
        let io = TokioIo::new(gathered.other_hand());
        // Boxed: hyper moves the future of each stream several times before it runs.
        let service = service_fn(move |request| Box::pin(service::serve(&client, request)));
        let most = u32::try_from(self.settings.limits.max_header_bytes).unwrap_or(u32::MAX);
        let mut connection = http2::Builder::new(OnThisWorker)
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .max_concurrent_streams(HTTP2_STREAMS)
            .max_send_buf_size(HTTP2_UNTAKEN)
            .max_pending_accept_reset_streams(HTTP2_RESETS)
            .max_header_list_size(most)
            .enable_connect_protocol()
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .serve_connection(io, service);
        let driven = Driven {
            connection: Pin::new(&mut connection),
            word: Word::OfConnection,
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
            Attended::Ended(_) | Attended::Unsent | Attended::Rests => {}
        }
    }
}

/// The client may be gone, or not reading: its 408 is a courtesy.
async fn time_out(mut stream: impl AsyncWrite + Unpin) {
    let last_words = async {
        stream.write_all(TIMED_OUT).await?;
        stream.shutdown().await
    };
    drop(tokio::time::timeout(GOODBYE, last_words).await);
}

/// TLS says when it ends (RFC 8446, section 6.1).
async fn leave(mut stream: impl AsyncWrite + Unpin) {
    drop(tokio::time::timeout(GOODBYE, stream.shutdown()).await);
}
