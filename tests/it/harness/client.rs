//! Clients of the proxy: hyper for whole requests over any protocol, bare wires for single bytes.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::PORTAL;
use super::certificates::authority;
use super::upstream::SERVED_BY;

/// How a client speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Speak {
    /// HTTP/1.1 in cleartext.
    Http1,
    /// HTTP/2 by prior knowledge.
    Http2,
    /// HTTP/1.1 over TLS.
    TlsHttp1,
    /// HTTP/2 over TLS.
    TlsHttp2,
}

impl Speak {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Http1, Self::Http2, Self::TlsHttp1, Self::TlsHttp2];

    pub fn is_tls(self) -> bool {
        matches!(self, Self::TlsHttp1 | Self::TlsHttp2)
    }

    fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::TlsHttp2)
    }
}

/// A request to be.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: Method,
    pub target: String,
    pub host: String,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Ask {
    pub fn new(method: Method, target: &str) -> Self {
        let (host, headers) = (PORTAL.to_owned(), Vec::new());
        Self { method, target: target.to_owned(), host, headers, body: Bytes::new() }
    }

    pub fn get(target: &str) -> Self {
        Self::new(Method::GET, target)
    }

    pub fn post(target: &str, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::new(Method::POST, target) }
    }

    #[must_use]
    pub fn host(self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn request(&self, speak: Speak) -> Request<Full<Bytes>> {
        let scheme = if speak.is_tls() { "https" } else { "http" };
        let builder = Request::builder().method(self.method.clone());
        let mut builder = if speak.is_http2() {
            builder.uri(format!("{scheme}://{}{}", self.host, self.target))
        } else {
            builder.uri(&self.target).header("host", &self.host)
        };
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        builder.body(Full::new(self.body.clone())).expect("a valid request")
    }
}

/// An answer, read to its last byte.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The stand-in that answered; empty when it was the proxy itself.
    pub fn served_by(&self) -> &str {
        self.header(SERVED_BY).unwrap_or_default()
    }

    /// The first value of a header, when it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// One connection of a client, for as many requests as it takes.
pub struct Session {
    sender: Sender,
    speak: Speak,
    /// Drives the connection; ends with the last session on it.
    driver: Arc<JoinSet<()>>,
}

impl Session {
    /// Connects and, with TLS, asks for this server name.
    pub async fn open(speak: Speak, address: SocketAddr, name: &str) -> anyhow::Result<Self> {
        let mut driver = JoinSet::new();
        let sender = if speak.is_tls() {
            let alpn = if speak.is_http2() { "h2" } else { "http/1.1" };
            let stream = tls(address, name, &[alpn]).await?;
            handshake(TokioIo::new(stream), speak, &mut driver).await?
        } else {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            handshake(TokioIo::new(stream), speak, &mut driver).await?
        };
        Ok(Self { sender, speak, driver: Arc::new(driver) })
    }

    /// Another session on the same connection; `None` unless it can carry several at once.
    pub fn beside(&self) -> Option<Self> {
        let Sender::Http2(sender) = &self.sender else { return None };
        let (sender, driver) = (Sender::Http2(sender.clone()), Arc::clone(&self.driver));
        Some(Self { sender, speak: self.speak, driver })
    }

    /// Sends one request and reads its answer whole; a body that is cut short is an error.
    pub async fn send(&mut self, ask: &Ask) -> anyhow::Result<Answer> {
        let request = ask.request(self.speak);
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, version: head.version, headers: head.headers, body })
    }

    /// Whether it would take another request.
    pub fn is_usable(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => !sender.is_closed(),
            Sender::Http2(sender) => !sender.is_closed(),
        }
    }
}

async fn handshake<I>(io: I, speak: Speak, driver: &mut JoinSet<()>) -> anyhow::Result<Sender>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    if speak.is_http2() {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        // How it ended is told by the request that was on it.
        driver.spawn(async move { connection.await.unwrap_or(()) });
        Ok(Sender::Http2(sender))
    } else {
        let (sender, connection) = http1::handshake(io).await?;
        driver.spawn(async move { connection.await.unwrap_or(()) });
        Ok(Sender::Http1(sender))
    }
}

/// A TLS connection that offers these ALPN names and trusts the authority of this run only.
pub async fn tls(
    address: SocketAddr,
    name: &str,
    alpn: &[&str],
) -> anyhow::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned())?;
    Ok(TlsConnector::from(authority().client(alpn)).connect(name, stream).await?)
}
