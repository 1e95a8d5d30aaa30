//! Sends traced requests to a collector, over OTLP in protobuf (`POST /v1/traces`), from a thread of its
//! own: neither a request nor steering ever waits for it.
//!
//! Bounded in everything: [`QUEUE`](crate::exchange::traces::QUEUE) requests wait, one batch of [`BATCH`]
//! is under way, a batch is tried [`TRIES`] times. What finds no place or is not taken is counted. Each
//! batch has a connection of its own: one a second costs nothing, and none is ever found dead.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request, StatusCode, Version};
use http_body_util::Full;
use tokio::runtime::LocalOptions;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::names::{NameError, Names};
use super::probe::{Connection, beginning};
use crate::clock;
use crate::exchange::traces::TraceReceiver;
use crate::model::topology::EndpointHost;
use crate::model::trace::{Collector, Trace};
use crate::net::dial;
use crate::net::tls_client::{self, Stream};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::otlp;
use crate::telemetry::setup::Chain;

/// Requests of one batch.
const BATCH: usize = 512;
/// How long the first request of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// Between two looks at the queue: whoever hands over while nobody waits wakes nobody.
const LOOK: Duration = Duration::from_millis(50);
/// How often a batch is sent, where the collector may yet take it.
const TRIES: u8 = 3;
/// Between two tries: doubled by each that fails, up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How we name ourselves.
const AGENT: &str = concat!("bascule/", env!("CARGO_PKG_VERSION"), " traces");

/// What the thread works with.
#[derive(Debug)]
pub struct Sending {
    /// Whom to send to.
    pub collector: Collector,
    /// TLS to there; `None` in cleartext.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// For a collector that is known by name.
    pub names: Names,
    /// What to send.
    pub traces: TraceReceiver,
    /// Where losses are counted.
    pub metrics: Metrics,
}

/// The running thread.
#[derive(Debug)]
pub struct Exporter {
    /// Told how long the last batches may take.
    last: watch::Sender<Option<Duration>>,
    ended: Receiver<()>,
}

impl Exporter {
    /// Lets it send what the workers handed over before they ended, within `longest`: a collector may
    /// never answer.
    pub fn end(self, longest: Duration) {
        self.last.send_replace(Some(longest));
        // The other end is dropped when the thread ends: nothing is ever sent. It takes its own time
        // to count what it could not send.
        let _ended: Result<(), RecvTimeoutError> = self.ended.recv_timeout(longest + LOOK);
    }
}

/// Starts the thread. It ends when it is told to, or with the last worker.
///
/// # Errors
/// When the system gives no thread.
pub fn start(sending: Sending) -> io::Result<Exporter> {
    let (last, told) = watch::channel(None);
    let (ending, ended) = sync_channel(1);
    thread::Builder::new().name("traces".to_owned()).spawn(move || {
        let _ending: SyncSender<()> = ending;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(Desk::new(sending).run(told)),
            // The queue is closed by that: every span is counted as lost.
            Err(error) => tracing::error!(%error, "the thread of traces has no runtime"),
        }
    })?;
    Ok(Exporter { last, ended })
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error("the collector's name brings no address")]
    Name(#[from] NameError),
    #[error("the collector cannot be reached")]
    Connect(#[source] io::Error),
    #[error("TLS with the collector failed")]
    Tls(#[source] io::Error),
    #[error("the collector's host cannot be in a request")]
    Host,
    #[error("the collector broke off")]
    BrokeOff(#[from] hyper::Error),
    #[error("the collector did not answer in time")]
    TooLate,
    #[error("the collector answered {0}")]
    Refused(StatusCode),
}

impl PostError {
    /// Whether the same batch may be taken later (OTLP, "Failures" and "Retryable response codes").
    fn may_pass(&self) -> bool {
        match self {
            Self::Refused(status) => matches!(status.as_u16(), 429 | 502..=504),
            Self::Host => false,
            Self::Name(_) | Self::Connect(_) | Self::Tls(_) | Self::BrokeOff(_) | Self::TooLate => {
                true
            }
        }
    }
}

/// One request to a collector.
#[derive(Clone, Debug)]
struct Batch {
    bytes: Bytes,
    spans: u64,
    tries: u8,
}

struct Desk {
    sending: Sending,
    /// Tells this process from others, as `service.instance.id`.
    instance: String,
    /// For the next batch.
    gathered: Vec<Trace>,
    batch: Option<Batch>,
    pause: Duration,
    /// Spans of batches that were let go.
    lost: u64,
    /// The last batch was not taken: said once, until one is again.
    troubled: bool,
}

impl Desk {
    fn new(sending: Sending) -> Self {
        let instance = format!("{:032x}", fastrand::u128(..));
        let gathered = Vec::new();
        Self { sending, instance, gathered, batch: None, pause: PAUSE.0, lost: 0, troubled: false }
    }

    async fn run(mut self, mut told: watch::Receiver<Option<Duration>>) {
        // What is dropped half-way is a wait, or a batch under way, which is kept and sent once more: a
        // collector knows spans by their ids. What was gathered stays gathered.
        tokio::select! {
            () = self.work() => {}
            _ = told.wait_for(Option::is_some) => {}
        }
        let last = told.borrow().unwrap_or(Duration::ZERO);
        if timeout(last, self.flush()).await.is_err() {
            self.let_go();
            while self.gather_now() {
                self.let_go();
            }
        }
        let spans = self.lost;
        if spans > 0 {
            tracing::warn!(spans, "spans were not sent before the end");
        }
    }

    /// Until the last worker has ended.
    async fn work(&mut self) {
        loop {
            if self.batch.is_none() && !self.gather().await {
                return;
            }
            self.post().await;
            if self.troubled {
                sleep(self.pause).await;
                self.pause = (self.pause * 2).min(PAUSE.1);
            }
        }
    }

    /// Sends what is left, each batch once. From here on losses are told by the log: nobody may come for
    /// the metrics any more.
    async fn flush(&mut self) {
        self.lost = 0;
        while self.batch.is_some() || self.gather_now() {
            self.post().await;
            self.let_go();
        }
    }

    /// Makes a batch of what comes within [`GATHER`]. Says no when nothing ever will.
    async fn gather(&mut self) -> bool {
        let Some(first) = self.sending.traces.next().await else { return false };
        let full = clock::now() + GATHER;
        self.gathered.push(first);
        self.fill();
        while self.gathered.len() < BATCH && clock::now() < full {
            sleep(LOOK).await;
            self.fill();
        }
        self.pack();
        true
    }

    /// Makes a batch of what is there. Says no where nothing is.
    fn gather_now(&mut self) -> bool {
        self.fill();
        let is_some = !self.gathered.is_empty();
        if is_some {
            self.pack();
        }
        is_some
    }

    fn fill(&mut self) {
        while self.gathered.len() < BATCH
            && let Some(next) = self.sending.traces.try_next()
        {
            self.gathered.push(next);
        }
    }

    fn pack(&mut self) {
        let spans = self.gathered.iter().map(Trace::spans).sum();
        let version = env!("CARGO_PKG_VERSION");
        let process = otlp::Process { version, instance: &self.instance };
        let bytes = otlp::encode(&self.gathered, process).into();
        self.gathered.clear();
        self.batch = Some(Batch { bytes, spans, tries: 0 });
    }

    /// The batch is lost, if there is one.
    fn let_go(&mut self) {
        if let Some(batch) = self.batch.take() {
            self.lost += batch.spans;
            self.sending.metrics.drop_spans(batch.spans);
        }
    }

    /// Sends the batch once. It is kept where it may yet be taken.
    async fn post(&mut self) {
        let Some(batch) = &mut self.batch else { return };
        batch.tries += 1;
        let limit = self.sending.collector.timeout;
        let posted = timeout(limit, self.sending.post(batch.bytes.clone())).await;
        match posted.unwrap_or(Err(PostError::TooLate)) {
            Ok(rejected) => {
                self.sending.metrics.drop_spans(rejected.min(batch.spans));
                self.batch = None;
                self.pause = PAUSE.0;
                if std::mem::take(&mut self.troubled) {
                    tracing::info!("traces are sent again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.troubled, true) {
                    let collector = self.sending.collector.endpoint.authority();
                    tracing::warn!(collector, error = %Chain(&error), "traces cannot be sent: spans are lost");
                }
                if batch.tries >= TRIES || !error.may_pass() {
                    self.let_go();
                }
            }
        }
    }
}

impl Sending {
    /// How many spans of it the collector says that it did not take.
    async fn post(&self, bytes: Bytes) -> Result<u64, PostError> {
        let addresses = self.addresses().await?;
        let stream = dial::connect(&addresses).await.map_err(PostError::Connect)?;
        let stream = match &self.tls {
            None => Stream::Plain(stream),
            Some(tls) => {
                let name = match &self.collector.endpoint.host {
                    EndpointHost::Name(name) => name.to_string(),
                    EndpointHost::Address(address) => address.to_string(),
                };
                let name = tls_client::server_name(&name).ok_or(PostError::Host)?;
                let handshake = tls_client::handshake(Arc::clone(tls), name, stream);
                handshake.await.map_err(PostError::Tls)?
            }
        };
        let request = self.request(bytes).ok_or(PostError::Host)?;
        let mut connection = Connection::open(stream, Version::HTTP_11).await?;
        let (head, body) = connection.send(request).await?.into_parts();
        if !head.status.is_success() {
            return Err(PostError::Refused(head.status));
        }
        Ok(otlp::rejected(&beginning(body).await?.text))
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, NameError> {
        let endpoint = &self.collector.endpoint;
        let ips = match &endpoint.host {
            EndpointHost::Address(ip) => vec![*ip],
            EndpointHost::Name(name) => self.names.look_up(name).await?.addresses,
        };
        Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, endpoint.port)).collect())
    }

    /// `None` where host or path cannot stand in a request; `config` has checked both.
    fn request(&self, bytes: Bytes) -> Option<Request<Full<Bytes>>> {
        let Collector { endpoint, target, .. } = &self.collector;
        let request = Request::builder().method(Method::POST).uri(&**target);
        let request = request.header(HOST, endpoint.authority()).header(USER_AGENT, AGENT);
        let request = request.header(CONTENT_TYPE, otlp::CONTENT_TYPE);
        let mut request = request.body(Full::new(bytes)).ok()?;
        endpoint.headers.apply(request.headers_mut());
        Some(request)
    }
}
