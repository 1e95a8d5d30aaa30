//! A stand-in for a provider with a service set up in it: an edge over TLS that knows some host names,
//! fetches from an origin, keeps what it is told to keep and looks like bunny.net; and an origin that
//! signs. Each setting can be wrong in the way that settings are wrong in practice.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::PORTAL;
use super::certificates::authority;
use super::wire::{Head, Reply, Wire};

/// The origin's own name: what it is asked for when a provider passes its own setting on as Host.
pub const ORIGIN_NAME: &str = "origin.portal.example";

/// How a service is set up at the provider.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names in its certificate.
    pub certificate_for: &'static str,
    /// The host name that it knows as its customer's.
    pub knows: &'static str,
    /// What it passes on as Host; `None`: what it was asked for.
    pub passes_on: Option<&'static str>,
    /// Where it fetches from.
    pub origin: SocketAddr,
    /// Whether the origin's marker reaches its clients.
    pub keeps_marker: bool,
    /// Whether it puts a page of its own in place of errors.
    pub replaces_errors: bool,
    /// Whether it keeps errors.
    pub caches_errors: bool,
    /// Whether it keeps pages.
    pub caches_pages: bool,
}

impl Settings {
    /// As `docs/PROVIDERS.md` says.
    pub fn right(origin: SocketAddr) -> Self {
        Self {
            certificate_for: PORTAL,
            knows: PORTAL,
            passes_on: None,
            origin,
            keeps_marker: true,
            replaces_errors: false,
            caches_errors: false,
            caches_pages: false,
        }
    }
}

/// A server on loopback; it ends when this is dropped.
pub struct StandIn {
    pub address: SocketAddr,
    settings: Option<Arc<Mutex<Settings>>>,
    _tasks: JoinSet<()>,
}

impl StandIn {
    /// A provider's edge.
    pub async fn provider(settings: Settings) -> Self {
        let acceptor =
            TlsAcceptor::from(authority().server(&[settings.certificate_for], &["http/1.1"]));
        let settings = Arc::new(Mutex::new(settings));
        let (listener, address) = bound().await;
        let mut tasks = JoinSet::new();
        let (shared, kept) = (Arc::clone(&settings), Kept::default());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let (acceptor, shared, kept) =
                    (acceptor.clone(), Arc::clone(&shared), kept.clone());
                connections.spawn(async move {
                    if let Ok(tls) = acceptor.accept(stream).await {
                        let wire = Wire::new(tokio_rustls::TlsStream::from(tls));
                        edge(wire, shared, kept).await;
                    }
                });
            }
        });
        Self { address, settings: Some(settings), _tasks: tasks }
    }

    /// An origin that signs its answers where it is told to; it knows the portal, and sends whoever asks for
    /// its own name to where that is published.
    pub async fn origin(marker: Option<&'static str>) -> Self {
        let (listener, address) = bound().await;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                connections.spawn(async move {
                    let mut wire = Wire::new(stream);
                    while let Some(head) = wire.head().await {
                        if wire.send(said_by_origin(&head, marker)).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, settings: None, _tasks: tasks }
    }

    /// Sets the service up otherwise.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        let settings = self.settings.as_ref().expect("an origin has no settings");
        change(&mut settings.lock().expect("no panic while held"));
    }
}

/// Answers kept, by path.
type Kept = Arc<Mutex<HashMap<String, Vec<u8>>>>;

async fn bound() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

fn said_by_origin(head: &Head, marker: Option<&str>) -> Vec<u8> {
    let marker = marker.map(|value| format!("x-origin-id: {value}\r\n")).unwrap_or_default();
    let host = head.get("host").unwrap_or_default();
    let answer = |start: &str, fields: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {start}\r\n{marker}{fields}content-length: {length}\r\n\r\n{body}")
            .into_bytes()
    };
    if host == ORIGIN_NAME {
        // What a server says by default, to whoever asks for no site of its own.
        return b"HTTP/1.1 301 Moved Permanently\r\nlocation: https://published.example/\r\n\
                 content-length: 0\r\n\r\n"
            .to_vec();
    }
    match head.word(1) {
        "/front-page" | "/" => answer("200 OK", "", "the portal\n"),
        _ => answer("404 Not Found", "", "no such page\n"),
    }
}

async fn edge(mut wire: Wire, settings: Arc<Mutex<Settings>>, kept: Kept) {
    while let Some(head) = wire.head().await {
        let settings = settings.lock().expect("no panic while held").clone();
        let answer = answered(&head, &settings, &kept).await;
        if wire.send(answer).await.is_err() {
            return;
        }
    }
}

async fn answered(head: &Head, settings: &Settings, kept: &Kept) -> Vec<u8> {
    if head.get("host") != Some(settings.knows) {
        return page("404 Not Found", "", b"no such zone\n");
    }
    let path = head.word(1).to_owned();
    let before = kept.lock().expect("no panic while held").get(&path).cloned();
    if let Some(before) = before {
        return before;
    }
    let Ok(Reply { head: answer, body }) = fetched(head, settings).await else {
        return page("502 Bad Gateway", "", b"the origin cannot be reached\n");
    };
    let is_error = answer.status() >= 400;
    if is_error && settings.replaces_errors {
        return page("404 Not Found", "", b"a page of our own\n");
    }
    let start = answer.start.strip_prefix("HTTP/1.1 ").unwrap_or_default();
    let passed = answer.headers.iter().filter(|(name, _)| {
        let name = name.to_ascii_lowercase();
        name != "content-length" && (settings.keeps_marker || name != "x-origin-id")
    });
    let fields: String = passed.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    if is_error && settings.caches_errors || !is_error && settings.caches_pages {
        let hit = page(start, &format!("{fields}cdn-cache: HIT\r\nage: 1\r\n"), &body);
        kept.lock().expect("no panic while held").insert(path, hit);
    }
    page(start, &format!("{fields}cdn-cache: MISS\r\n"), &body)
}

/// The edge adds itself to Via and passes the rest on.
async fn fetched(head: &Head, settings: &Settings) -> std::io::Result<Reply> {
    let mut origin = Wire::new(TcpStream::connect(settings.origin).await?);
    let host = settings.passes_on.unwrap_or(settings.knows);
    let before = head.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("via"));
    let via: String = before.map(|(_, value)| format!("{value}, ")).collect();
    let path = head.word(1);
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nvia: {via}1.1 edge\r\n\r\n");
    origin.send(request).await?;
    origin.reply().await
}

fn page(start: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {start}\r\nserver: BunnyCDN-DE1-722\r\n{fields}content-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}
