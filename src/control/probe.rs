//! One probe: a request by ourselves on a connection of its own, through the same dialer and TLS as
//! traffic, and what its answer comes to.

use std::borrow::Cow;
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::parity::Look;
use crate::clock;
use crate::model::outcome::{FailureKind, Marker};
use crate::model::signal::ProbeResult;
use crate::model::topology::{
    Asks, Endpoint, Expect, GRPC_HEALTH, HostRule, HttpRule, MarkerRule, Scheme,
};
use crate::net::dial;
use crate::net::tls_client::{self, Stream};
use crate::request::marker;

mod grpc;

pub use grpc::Unwell;

/// Body bytes read of an answer, at most.
const MOST_BODY: usize = 64 * 1024;
/// How we name ourselves.
const AGENT: &str = concat!("bascule/", env!("CARGO_PKG_VERSION"), " probe");

/// What to ask, whom, and what a good answer is.
#[derive(Clone, Debug)]
pub struct Question {
    /// Where and how to connect.
    pub endpoint: Endpoint,
    /// TLS to there; `None` in cleartext.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Host for [`HostRule::Public`]; the endpoint's own where the service has none.
    pub public_host: Option<Box<str>>,
    /// What for.
    pub asks: Asks,
    /// Path and query of a page.
    pub target: Box<str>,
    /// What a good answer is.
    pub expect: Expect,
    /// How to tell that the origin spoke.
    pub marker: Option<MarkerRule>,
    /// For all of it, from dialling on.
    pub timeout: Duration,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Asked {
    /// `None`: it could not be asked, for want of a descriptor or something else of our own.
    pub result: Option<ProbeResult>,
    /// The last second of the certificate that was shown.
    pub certificate_end: Option<SystemTime>,
    /// Why a gRPC server that answered did not pass.
    pub unwell: Option<Unwell>,
    /// A page that passed, for comparison with the same one elsewhere.
    pub look: Option<Look>,
}

/// What is learned on the way to a result, whatever that is.
#[derive(Debug, Default)]
struct Learned {
    certificate_end: Cell<Option<SystemTime>>,
    unwell: Cell<Option<Unwell>>,
    look: Cell<Option<Look>>,
}

/// Asks once. Ends within the question's timeout.
pub async fn ask(question: &Question, addresses: &[SocketAddr]) -> Asked {
    ask_noting(question, addresses, &|_| {}).await
}

/// The same; `failed` is told of addresses that take no connection, or shake no hands.
pub async fn ask_noting(
    question: &Question,
    addresses: &[SocketAddr],
    failed: &impl Fn(SocketAddr),
) -> Asked {
    let deadline = Instant::from_std(clock::now() + question.timeout);
    let learned = Learned::default();
    let result = attempt(question, (addresses, failed), deadline, &learned).await;
    let result = result.unwrap_or_else(|kind| Some(ProbeResult::Failed(kind)));
    let Learned { certificate_end, unwell, look } = learned;
    let certificate_end = certificate_end.get();
    Asked { result, certificate_end, unwell: unwell.get(), look: look.get() }
}

async fn attempt(
    question: &Question,
    (addresses, failed): (&[SocketAddr], &impl Fn(SocketAddr)),
    deadline: Instant,
    learned: &Learned,
) -> Result<Option<ProbeResult>, FailureKind> {
    if addresses.is_empty() {
        return Err(FailureKind::Dns);
    }
    let within = |late, broken| Within { deadline, late, broken };
    let dialled = dial::connect_noting(addresses, failed);
    let stream = match tokio::time::timeout_at(deadline, dialled).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if dial::is_our_own_lack(&error) => {
            tracing::debug!(%error, "a probe could not be sent");
            return Ok(None);
        }
        Ok(Err(_)) | Err(_) => return Err(FailureKind::Connect),
    };
    let stream = match &question.tls {
        None => Stream::Plain(stream),
        Some(tls) => {
            let host = question.host();
            let name = tls_client::server_name(without_port(&host)).ok_or(FailureKind::Tls)?;
            let peer = stream.peer_addr();
            let handshake = tls_client::handshake(Arc::clone(tls), name, stream);
            let shaken = within(FailureKind::Tls, FailureKind::Tls).wait(handshake).await;
            if let (Err(_), Ok(peer)) = (&shaken, peer) {
                failed(peer);
            }
            shaken?
        }
    };
    learned.certificate_end.set(tls_client::end_of_certificate(&stream));
    let version = question.version(&stream);
    let request = question.request(version).ok_or(FailureKind::BrokeOff)?;
    let exchange = async {
        let mut connection = Connection::open(stream, version).await?;
        let response = connection.send(request).await?;
        Ok::<_, hyper::Error>((response, connection))
    };
    let (response, _connection) =
        within(FailureKind::Late, FailureKind::BrokeOff).wait(exchange).await?;
    let (head, body) = response.into_parts();
    let body = within(FailureKind::BodyStall, FailureKind::BodyCut).wait(beginning(body)).await?;
    Ok(Some(match question.asks {
        Asks::Page => {
            let result = question.judge(head.status, &head.headers, &body.text);
            let look = || Look::of(head.status, &head.headers, &body.text);
            learned.look.set((result == ProbeResult::Passed).then(look));
            result
        }
        Asks::GrpcHealth(_) => {
            let answer = match head.status {
                StatusCode::OK => grpc::answer(&head.headers, &body.text, body.trailers.as_ref()),
                _ => Err(Unwell::NotGrpc),
            };
            learned.unwell.set(answer.err());
            question.judge_health(answer, &head.headers)
        }
    }))
}

/// One step under the probe's deadline, and what it means when it does not succeed.
struct Within {
    deadline: Instant,
    late: FailureKind,
    broken: FailureKind,
}

impl Within {
    async fn wait<T, E>(&self, step: impl Future<Output = Result<T, E>>) -> Result<T, FailureKind> {
        match tokio::time::timeout_at(self.deadline, step).await {
            Ok(done) => done.map_err(|_| self.broken),
            Err(_) => Err(self.late),
        }
    }
}

impl Question {
    /// What is sent as SNI, and what its certificate has to be for.
    pub fn name(&self) -> String {
        without_port(&self.host()).to_owned()
    }

    /// What is sent as Host and, without its port, as SNI.
    fn host(&self) -> Cow<'_, str> {
        match (&self.endpoint.host_rule, &self.public_host) {
            (HostRule::Literal(name), _) | (HostRule::Public, Some(name)) => Cow::Borrowed(name),
            (HostRule::Upstream, _) | (HostRule::Public, None) => {
                Cow::Owned(self.endpoint.authority())
            }
        }
    }

    pub(super) fn version(&self, stream: &Stream) -> Version {
        match (self.endpoint.http, stream) {
            (HttpRule::Http1, _) | (HttpRule::Auto, Stream::Plain(_)) => Version::HTTP_11,
            (HttpRule::Http2, _) => Version::HTTP_2,
            (HttpRule::Auto, Stream::Tls(_)) if stream.chose_http2() => Version::HTTP_2,
            (HttpRule::Auto, Stream::Tls(_)) => Version::HTTP_11,
        }
    }

    /// `None` when host or path cannot stand in a request; `config` has checked both.
    pub(super) fn request(&self, version: Version) -> Option<Request<Full<Bytes>>> {
        let host = self.host();
        let request = Request::builder().version(version).header(USER_AGENT, AGENT);
        let (request, target, body) = match &self.asks {
            Asks::Page => (request.header(ACCEPT, "*/*"), &*self.target, Vec::new()),
            Asks::GrpcHealth(service) => {
                let request = request.method(Method::POST).header(TE, "trailers");
                let request = request.header(CONTENT_TYPE, "application/grpc");
                let patience = format!("{}m", self.timeout.as_millis());
                let request = request.header("grpc-timeout", patience);
                (request, GRPC_HEALTH, grpc::request(service))
            }
        };
        let request = if version == Version::HTTP_2 {
            let scheme = match self.endpoint.scheme {
                Scheme::Http => "http",
                Scheme::Https => "https",
            };
            let uri = Uri::builder().scheme(scheme).authority(&*host);
            request.uri(uri.path_and_query(target).build().ok()?)
        } else {
            request.uri(target).header(HOST, &*host)
        };
        let mut request = request.body(Full::from(body)).ok()?;
        self.endpoint.headers.apply(request.headers_mut());
        Some(request)
    }

    /// What a page comes to.
    pub(super) fn judge(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> ProbeResult {
        let Expect { status: good, body_contains, headers: wanted } = &self.expect;
        let as_wanted = good.iter().any(|range| range.contains(&status.as_u16()))
            && wanted.iter().all(|(name, value)| headers.get_all(name).iter().any(|v| v == value))
            && body_contains.as_deref().is_none_or(|text| contains(body, text.as_bytes()));
        if as_wanted {
            ProbeResult::Passed
        } else if status.is_server_error() && self.origin_spoke(status, headers) {
            ProbeResult::OriginError
        } else {
            ProbeResult::Failed(FailureKind::ServerError)
        }
    }

    /// An error of gRPC travels under a 200, so that the status says nothing.
    fn judge_health(&self, answer: Result<(), Unwell>, headers: &HeaderMap) -> ProbeResult {
        match answer {
            Ok(()) => ProbeResult::Passed,
            Err(_) if self.origin_spoke(StatusCode::INTERNAL_SERVER_ERROR, headers) => {
                ProbeResult::OriginError
            }
            Err(_) => ProbeResult::Failed(FailureKind::ServerError),
        }
    }

    /// What an answer says of the origin.
    pub(super) fn spoke(&self, status: StatusCode, headers: &HeaderMap) -> Marker {
        // What clients ask for, as in their answers; where the service names no host, what we ask for.
        let authority = self.public_host.as_deref().map_or_else(|| self.host(), Cow::Borrowed);
        let answer = marker::Answer { status, headers, authority: &authority };
        marker::read(self.marker.as_ref(), answer, clock::wall)
    }

    fn origin_spoke(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        self.spoke(status, headers) == Marker::Present
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}

/// `host:port` or `[v6]:port` to its host.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// What was read of an answer behind its head.
pub(super) struct Beginning {
    pub(super) text: Vec<u8>,
    /// Where it ends with some, and was read so far.
    trailers: Option<HeaderMap>,
}

/// The first [`MOST_BODY`] bytes of a body, fewer where it ends before.
pub(super) async fn beginning(mut body: Incoming) -> Result<Beginning, hyper::Error> {
    let (mut text, mut trailers) = (Vec::new(), None);
    while text.len() < MOST_BODY && !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        match frame?.into_data() {
            Ok(data) => {
                let room = MOST_BODY - text.len();
                text.extend_from_slice(&data[..data.len().min(room)]);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(Beginning { text, trailers })
}

/// One connection of one probe; dropping it closes it.
pub(super) struct Connection {
    sender: Sender,
    /// Moves the bytes. Aborted with the connection.
    driver: JoinHandle<()>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    pub(super) async fn open(stream: Stream, version: Version) -> Result<Self, hyper::Error> {
        let io = TokioIo::new(stream);
        let (sender, driver) = if version == Version::HTTP_2 {
            let mut builder = http2::Builder::new(LocalExecutor);
            let (sender, connection) = builder.timer(TokioTimer::new()).handshake(io).await?;
            (Sender::Http2(sender), tokio::task::spawn_local(drive(connection)))
        } else {
            let (sender, connection) =
                http1::Builder::new().max_buf_size(MOST_BODY).handshake(io).await?;
            (Sender::Http1(sender), tokio::task::spawn_local(drive(connection)))
        };
        Ok(Self { sender, driver })
    }

    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        match &mut self.sender {
            Sender::Http1(sender) => sender.send_request(request).await,
            Sender::Http2(sender) => sender.send_request(request).await,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn drive(connection: impl Future<Output = Result<(), hyper::Error>>) {
    if let Err(error) = connection.await {
        // The request on it has failed with the same cause and says so to the detector.
        tracing::trace!(error = &error as &dyn std::error::Error, "probe connection ended");
    }
}

/// Runs hyper's helper tasks on this thread's own runtime.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

#[cfg(test)]
mod tests;
