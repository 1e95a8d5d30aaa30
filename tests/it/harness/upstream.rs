//! A stand-in for one provider's edge: a real server on loopback whose behaviour a test switches
//! while it runs, down to single bytes and the way its door is shut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::certificates::authority;
use super::sightings::{Sighting, Sightings};
use super::upstream_http2;
use super::wire::{Head, Wire};
use super::{PORTAL, PROBE, now, within};

/// What it answers of itself, so that a client knows who served it.
pub const SERVED_BY: &str = "x-served-by";

/// How an upstream is spoken to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// HTTP/1.1 in cleartext.
    Plain,
    /// HTTP/1.1 over TLS.
    Tls,
    /// HTTP/2 by prior knowledge.
    PlainHttp2,
    /// HTTP/2 over TLS, by ALPN.
    TlsHttp2,
    /// HTTP/1.1 over TLS with a certificate for somebody else.
    WrongName,
    /// HTTP/1.1 over TLS, for clients that show a certificate of our authority.
    Mutual,
}

impl Transport {
    fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::TlsHttp2 | Self::WrongName | Self::Mutual)
    }

    fn is_http2(self) -> bool {
        matches!(self, Self::PlainHttp2 | Self::TlsHttp2)
    }
}

/// Bytes of a large body: more than may be under way for one stream.
pub const LARGE: usize = 1 << 20;

/// What it does with one request.
#[derive(Clone, Debug)]
pub enum Act {
    /// 200 with its name in the body.
    Serve,
    /// 200 with the request's body.
    Echo,
    /// This status, these headers.
    Answer(u16, Vec<(&'static str, &'static str)>),
    /// Reads the request, never answers.
    Silent,
    /// Resets the connection when it has read the request. HTTP/2: resets the stream.
    Reset,
    /// Ends the connection when it has read the request, as if its keep-alive had just run out.
    Hang,
    /// HTTP/2 only: refuses the stream unprocessed, which is always safe to try elsewhere.
    Refuse,
    /// 200, and half of the body it announced.
    CutBody,
    /// 200, and a body that never ends and hardly comes. HTTP/1.1 only.
    Drip,
    /// 200, half of a body, and a reset of the stream that says nothing is wrong. HTTP/2 only.
    BreakOff,
    /// 200 with [`LARGE`] bytes. HTTP/2 only.
    ServeLarge,
    /// Serves, then ends the connection without having announced it.
    ServeAndLeave,
    /// Serves GET, and answers anything else with 500.
    ServeOnlyGet,
    /// Serves so many requests in a second, and answers the others of that second with 503.
    HoldsPerSecond(u32),
    /// HTTP/2 only: a message of gRPC (what a call returns, as protobuf) and its status.
    Grpc(&'static str, &'static [u8]),
    /// Gives the connection to the test, which goes on by hand. HTTP/1.1 only.
    HandOver,
}

impl Act {
    /// A bare answer.
    pub fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new())
    }
}

/// What it does with connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Door {
    /// Takes them.
    Open,
    /// Takes them and never reads a byte, not even of a TLS handshake.
    Mute,
}

/// All of its behaviour at a time.
#[derive(Clone, Debug)]
pub struct Script {
    pub door: Door,
    pub traffic: Act,
    pub probes: Act,
}

impl Script {
    /// The same for clients and probes.
    pub fn all(act: Act) -> Self {
        Self { door: Door::Open, traffic: act.clone(), probes: act }
    }

    /// Bad to clients only: its probe page stays green, as in real outages.
    pub fn green_probes(act: Act) -> Self {
        Self { door: Door::Open, traffic: act, probes: Act::Serve }
    }

    /// Silent in every way: new connections and requests on old ones.
    pub fn mute() -> Self {
        Self { door: Door::Mute, traffic: Act::Silent, probes: Act::Silent }
    }
}

/// A request that was given to the test, with the connection it came on.
pub struct Conversation {
    pub wire: Wire,
}

/// What a stand-in's tasks share.
pub(super) struct Shared {
    pub(super) name: String,
    transport: Transport,
    script: Mutex<Script>,
    /// When the present second began, and requests in it.
    second: Mutex<(Instant, u32)>,
    pub(super) sightings: Sightings,
    connections: AtomicUsize,
    conversations: mpsc::Sender<Conversation>,
    /// What [`Act::BreakOff`] waits for.
    pub(super) goes_on: Notify,
}

impl Shared {
    /// Counts one more request in the present second.
    fn is_held(&self, most: u32) -> bool {
        let mut second = self.second.lock().expect("no panic while held");
        if second.0.elapsed() >= Duration::from_secs(1) {
            *second = (now(), 0);
        }
        second.1 += 1;
        second.1 <= most
    }

    pub(super) fn act(&self, method: &str, is_probe: bool) -> Act {
        let script = self.script.lock().expect("no panic while held");
        let act = if is_probe { script.probes.clone() } else { script.traffic.clone() };
        match act {
            Act::ServeOnlyGet if method == "GET" => Act::Serve,
            Act::ServeOnlyGet => Act::status(500),
            Act::HoldsPerSecond(most) if self.is_held(most) => Act::Serve,
            Act::HoldsPerSecond(_) => Act::status(503),
            act => act,
        }
    }
}

/// The stand-in itself; everything it started ends when it is dropped.
pub struct FakeUpstream {
    shared: Arc<Shared>,
    address: SocketAddr,
    entrance: tokio::sync::Mutex<Entrance>,
    conversations: tokio::sync::Mutex<mpsc::Receiver<Conversation>>,
}

enum Entrance {
    Open(JoinSet<()>),
    /// Bound and not listening: connections are refused, and no other test gets the port.
    Closed(Socket),
    Moving,
}

impl FakeUpstream {
    /// Opens one that serves.
    pub async fn start(name: &str, transport: Transport) -> Self {
        let socket = bound(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = socket.local_addr().expect("bound").as_socket().expect("an IP address");
        let (sender, conversations) = mpsc::channel(64);
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            transport,
            script: Mutex::new(Script::all(Act::Serve)),
            second: Mutex::new((now(), 0)),
            sightings: Sightings::default(),
            connections: AtomicUsize::new(0),
            conversations: sender,
            goes_on: Notify::new(),
        });
        let upstream = Self {
            shared,
            address,
            entrance: tokio::sync::Mutex::new(Entrance::Closed(socket)),
            conversations: tokio::sync::Mutex::new(conversations),
        };
        upstream.open().await;
        upstream
    }

    /// Its name, which is also its provider's in the file.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// As the file names it.
    pub fn url(&self) -> String {
        let scheme = if self.shared.transport.is_tls() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// `http:` of the upstream in the file.
    pub fn http_rule(&self) -> &'static str {
        match self.shared.transport {
            Transport::PlainHttp2 => "2",
            Transport::Plain
            | Transport::Tls
            | Transport::TlsHttp2
            | Transport::WrongName
            | Transport::Mutual => "auto",
        }
    }

    /// Behaves so from now on, on old connections too.
    pub fn behave(&self, script: Script) {
        *self.shared.script.lock().expect("no panic while held") = script;
    }

    /// What it saw so far.
    pub fn sightings(&self) -> &Sightings {
        &self.shared.sightings
    }

    /// TCP connections taken so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Lets an answer go on to its [`Act::BreakOff`].
    pub fn go_on(&self) {
        self.shared.goes_on.notify_one();
    }

    /// The next request that met [`Act::HandOver`].
    pub async fn conversation(&self) -> Conversation {
        let mut conversations = self.conversations.lock().await;
        within("a conversation", conversations.recv()).await.expect("the sender is ours")
    }

    /// Stops listening and drops every connection, as a process that dies.
    pub async fn close(&self) {
        let mut entrance = self.entrance.lock().await;
        // Before the listener goes: nobody else can take the port in between.
        let kept = bound(self.address);
        if let Entrance::Open(mut tasks) = std::mem::replace(&mut *entrance, Entrance::Moving) {
            tasks.shutdown().await;
        }
        *entrance = Entrance::Closed(kept);
    }

    /// Listens again, on the same address.
    pub async fn open(&self) {
        let mut entrance = self.entrance.lock().await;
        let socket = match std::mem::replace(&mut *entrance, Entrance::Moving) {
            Entrance::Closed(socket) => socket,
            Entrance::Open(mut tasks) => {
                let kept = bound(self.address);
                tasks.shutdown().await;
                kept
            }
            Entrance::Moving => panic!("an earlier opening or closing failed"),
        };
        socket.listen(1024).expect("listen");
        let listener = TcpListener::from_std(socket.into()).expect("nonblocking");
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(Arc::clone(&self.shared), listener));
        *entrance = Entrance::Open(tasks);
    }
}

fn bound(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("socket");
    socket.set_reuse_address(true).expect("option");
    socket.set_reuse_port(true).expect("option");
    socket.set_nonblocking(true).expect("option");
    socket.bind(&address.into()).expect("the port is ours");
    socket
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let transport = shared.transport;
    let names: &[&str] = match transport {
        Transport::WrongName => &["somebody.else.example"],
        _ => &[PORTAL, "portal.example", "localhost", "127.0.0.1", "*.portal.example"],
    };
    let alpn = if transport.is_http2() { "h2" } else { "http/1.1" };
    let config = match transport {
        Transport::Mutual => authority().server_for_known(names, &[alpn]),
        _ => authority().server(names, &[alpn]),
    };
    let acceptor = TlsAcceptor::from(config);
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let number = shared.connections.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(&shared);
        let acceptor = transport.is_tls().then(|| acceptor.clone());
        connections.spawn(connection(shared, number, stream, acceptor));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(
    shared: Arc<Shared>,
    number: usize,
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
) {
    stream.set_nodelay(true).ok();
    let door = shared.script.lock().expect("no panic while held").door;
    if door == Door::Mute {
        // Held for as long as the upstream lives.
        std::future::pending::<()>().await;
    }
    let wire = match acceptor {
        None => Wire::new(stream),
        Some(acceptor) => match acceptor.accept(stream).await {
            Ok(tls) => Wire::new(tokio_rustls::TlsStream::from(tls)),
            Err(_) => return,
        },
    };
    if shared.transport.is_http2() {
        upstream_http2::serve(shared, number, wire.into_io()).await;
    } else {
        serve_http1(shared, number, wire).await;
    }
}

async fn serve_http1(shared: Arc<Shared>, number: usize, mut wire: Wire) {
    while let Some(head) = wire.head().await {
        let is_probe = head.word(1) == PROBE;
        let place = shared.sightings.note(Sighting {
            method: head.word(0).to_owned(),
            target: head.word(1).to_owned(),
            headers: head.headers.clone(),
            connection: number,
            is_probe,
            body: None,
        });
        let act = shared.act(head.word(0), is_probe);
        if matches!(act, Act::HandOver) {
            // Full only when a test does not look at its conversations.
            shared.conversations.try_send(Conversation { wire }).ok();
            return;
        }
        if head.get("expect").is_some() && wire.send("HTTP/1.1 100 Continue\r\n\r\n").await.is_err()
        {
            return;
        }
        let Ok(body) = wire.request_body(&head).await else { return };
        shared.sightings.complete(place, body.clone());
        let answer = match act {
            Act::Serve | Act::ServeAndLeave => answer(&shared.name, 200, &[], &head, b"served\n"),
            Act::Echo => answer(&shared.name, 200, &[], &head, &body),
            Act::Answer(status, headers) => answer(&shared.name, status, &headers, &head, b"no\n"),
            Act::CutBody => {
                let mut whole = answer(&shared.name, 200, &[], &head, &[b'x'; 8192]);
                whole.truncate(whole.len() - 4096);
                // The peer may have gone; then there is nothing left to cut.
                wire.send(whole).await.ok();
                return;
            }
            Act::Drip => {
                wire.send("HTTP/1.1 200 Said\r\ncontent-length: 8192\r\n\r\n").await.ok();
                while wire.send("x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                return;
            }
            Act::Silent => {
                std::future::pending::<()>().await;
                return;
            }
            Act::Reset => return wire.reset(),
            Act::Hang
            | Act::Refuse
            | Act::BreakOff
            | Act::ServeLarge
            | Act::HandOver
            | Act::Grpc(..)
            | Act::ServeOnlyGet
            | Act::HoldsPerSecond(_) => return,
        };
        if wire.send(answer).await.is_err()
            || matches!(shared.act(head.word(0), is_probe), Act::ServeAndLeave)
        {
            return;
        }
    }
}

fn answer(
    name: &str,
    status: u16,
    headers: &[(&str, &str)],
    request: &Head,
    body: &[u8],
) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Said\r\n{SERVED_BY}: {name}\r\n");
    for (header, value) in headers {
        text.push_str(&format!("{header}: {value}\r\n"));
    }
    text.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let mut bytes = text.into_bytes();
    if request.word(0) != "HEAD" {
        bytes.extend_from_slice(body);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::client::{Ask, Session, Speak};

    async fn ask(upstream: &FakeUpstream, speak: Speak, ask: &Ask) -> anyhow::Result<(u16, usize)> {
        let opened = Session::open(speak, upstream.address, PORTAL);
        let mut session = within("a connection", opened).await?;
        let answer = within("an answer", session.send(ask)).await?;
        assert_eq!(answer.served_by(), upstream.name());
        Ok((answer.status.as_u16(), answer.body.len()))
    }

    #[tokio::test]
    async fn a_stand_in_behaves_as_it_is_told_over_every_transport() {
        for (transport, speak) in [
            (Transport::Plain, Speak::Http1),
            (Transport::Tls, Speak::TlsHttp1),
            (Transport::PlainHttp2, Speak::Http2),
            (Transport::TlsHttp2, Speak::TlsHttp2),
        ] {
            let upstream = FakeUpstream::start("edge", transport).await;
            let get = Ask::get("/page");
            assert_eq!(ask(&upstream, speak, &get).await.expect("served"), (200, 7));
            upstream.behave(Script::green_probes(Act::Echo));
            let post = Ask::post("/page", vec![b'x'; 100_000]);
            assert_eq!(ask(&upstream, speak, &post).await.expect("echoed"), (200, 100_000));
            assert_eq!(ask(&upstream, speak, &Ask::get(PROBE)).await.expect("green"), (200, 7));
            for act in [Act::CutBody, Act::Reset, Act::Hang] {
                upstream.behave(Script::all(act.clone()));
                assert!(ask(&upstream, speak, &get).await.is_err(), "{act:?} over {transport:?}");
            }
            upstream.behave(Script::all(Act::status(503)));
            upstream.close().await;
            assert!(ask(&upstream, speak, &get).await.is_err(), "refused over {transport:?}");
            upstream.open().await;
            assert_eq!(ask(&upstream, speak, &get).await.expect("answered"), (503, 3));
            let (traffic, probes) = (upstream.sightings().traffic(), upstream.sightings().probes());
            assert_eq!((traffic.len(), probes.len()), (6, 1), "over {transport:?}");
        }
    }

    #[tokio::test]
    async fn a_certificate_for_somebody_else_is_noticed() {
        let upstream = FakeUpstream::start("edge", Transport::WrongName).await;
        assert!(ask(&upstream, Speak::TlsHttp1, &Ask::get("/page")).await.is_err());
    }
}
