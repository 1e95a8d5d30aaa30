//! Clients: a steady stream of requests through the proxy, and the same stream at the same time
//! straight to the first provider.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use super::stand_in::PAGE;
use crate::model::outcome::MethodClass;
use crate::rehearse::traffic::{self, Demand, HOSTS};

/// Connections of one stream of clients; with all of them waiting, a further client finds none.
const MOST_CONNECTIONS: usize = 256;
/// How long a client waits for a whole answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Body of a POST or PUT.
const FORM: &[u8] = b"name=value&other=value\n";

/// What one stream of clients has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Requests sent.
    pub sent: u64,
    /// Anything but the page that was asked for.
    pub errors: u64,
    /// Of them, with a safe method.
    pub errors_safe: u64,
    /// No answer yet.
    pub waiting: u64,
}

/// One stream of clients, and whom it asks.
#[derive(Debug)]
pub struct Clients {
    address: SocketAddr,
    idle: RefCell<Vec<SendRequest<Full<Bytes>>>>,
    connections: Cell<usize>,
    seen: Cell<Seen>,
}

impl Clients {
    /// Of this address.
    pub fn new(address: SocketAddr) -> Rc<Self> {
        let (idle, connections, seen) = Default::default();
        Rc::new(Self { address, idle, connections, seen })
    }

    /// What they have seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.get()
    }

    /// One client asks.
    fn send(self: &Rc<Self>, asked: Asked) {
        self.update(|seen| {
            seen.sent += 1;
            seen.waiting += 1;
        });
        let clients = Rc::clone(self);
        // Ends by itself: patience bounds it.
        spawn_local(async move {
            let answered = tokio::time::timeout(PATIENCE, clients.ask(&asked)).await;
            let went_well = matches!(answered, Ok(Some(())));
            clients.update(|seen| {
                seen.waiting -= 1;
                seen.errors += u64::from(!went_well);
                seen.errors_safe += u64::from(!went_well && asked.class == MethodClass::Safe);
            });
        });
    }

    fn update(&self, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.seen.get();
        change(&mut seen);
        self.seen.set(seen);
    }

    /// `None` for anything but the page.
    async fn ask(self: &Rc<Self>, asked: &Asked) -> Option<()> {
        let mut connection = self.connection().await?;
        let answer = connection.send_request(asked.request()).await.ok()?;
        let status = answer.status();
        let page = answer.into_body().collect().await.ok()?.to_bytes();
        self.idle.borrow_mut().push(connection);
        (status == StatusCode::OK && page == PAGE.as_bytes()).then_some(())
    }

    /// One that is free, or a new one.
    async fn connection(self: &Rc<Self>) -> Option<SendRequest<Full<Bytes>>> {
        loop {
            let free = self.idle.borrow_mut().pop();
            let Some(mut free) = free else { break };
            if free.ready().await.is_ok() {
                return Some(free);
            }
        }
        if self.connections.get() >= MOST_CONNECTIONS {
            return None;
        }
        let stream = TcpStream::connect(self.address).await.ok()?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        self.connections.set(self.connections.get() + 1);
        let clients = Rc::clone(self);
        // Ends with its connection, which nobody keeps for longer than patience lasts.
        spawn_local(async move {
            if let Err(error) = driver.await {
                tracing::trace!(%error, "a client's connection ended");
            }
            clients.connections.set(clients.connections.get() - 1);
        });
        Some(connection)
    }
}

/// What a client asks for; can be asked twice.
#[derive(Clone, Debug)]
struct Asked {
    class: MethodClass,
    method: http::Method,
    host: &'static str,
    url_path: String,
}

impl Asked {
    fn new(request: &traffic::Request, demand: &Demand) -> Self {
        Self {
            class: MethodClass::of(request.method()),
            method: request.method().clone(),
            host: HOSTS[request.host()],
            url_path: demand.url_path(request).to_owned(),
        }
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let body = match self.class {
            MethodClass::Safe => Bytes::new(),
            MethodClass::Unsafe => Bytes::from_static(FORM),
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.url_path.parse().unwrap_or_default();
        request.headers_mut().insert(HOST, http::HeaderValue::from_static(self.host));
        request
    }
}

/// Sends the same requests to every stream at the same time, until dropped.
pub async fn send(demand: Demand, streams: [Rc<Clients>; 2]) {
    let mut rng = Rng::with_seed(1);
    let mut next = tokio::time::Instant::from_std(crate::clock::now());
    for number in 0.. {
        next += demand.gap(&mut rng);
        tokio::time::sleep_until(next).await;
        let asked = Asked::new(&demand.draw_in_turn(number, &mut rng), &demand);
        for clients in &streams {
            clients.send(asked.clone());
        }
    }
}
