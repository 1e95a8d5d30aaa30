//! Providers and an origin that do not exist: real HTTP servers on loopback, on one thread of their
//! own, that answer what the world says.
//!
//! Each listens twice, for the proxy and for the control run, with a world of its own for each, so
//! that the load of one is not the load of the other. Connections are served until the thread ends;
//! their number is bounded by those who dial: the proxy and the load.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use http::header::HOST;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::Interval;

use super::script::ROLES;
use crate::clock;
use crate::rehearse::scenario::{MarkerFate, Scenario};
use crate::rehearse::traffic::Demand;
use crate::rehearse::world::{Ask, Body, LEAD, Seen, World};

/// Name and value of the header by which the origin marks its answers.
pub const MARKER: (&str, &str) = ("x-origin-id", "demo");
/// A good page.
pub const PAGE: &str = "A page of the portal.\n";
/// What a stand-in shows when it fails.
const ERROR_PAGE: &str = "An error page of the provider's own.\n";
/// What a body claims to be long and is not.
const NEVER_REACHED: u64 = 100_000;

/// Those for whom a world is acted out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Audience {
    /// The proxy.
    Proxy,
    /// The run without one.
    Control,
}

/// The running stand-ins.
#[derive(Debug)]
pub struct StandIns {
    /// By role, for the proxy.
    pub for_proxy: Vec<SocketAddr>,
    /// By role, for the control run.
    pub for_control: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl StandIns {
    /// Starts them under such a demand; the outage begins at `zero`.
    ///
    /// # Errors
    /// When loopback gives no port, or the system no thread.
    pub fn start(
        scenario: Arc<Scenario>,
        demand: fn(&Scenario) -> Demand,
        zero: Instant,
    ) -> io::Result<Self> {
        let (for_proxy, proxy_sockets) = bind()?;
        let (for_control, control_sockets) = bind()?;
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new().name("stand-ins".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default());
            let stage =
                |audience| Rc::new(Theatre::new(&scenario, demand(&scenario), (zero, audience)));
            match runtime {
                Ok(runtime) => runtime.block_on(async {
                    stage(Audience::Proxy).open(proxy_sockets);
                    stage(Audience::Control).open(control_sockets);
                    wait_for(stopped).await;
                }),
                Err(error) => tracing::error!(%error, "the stand-ins have no runtime"),
            }
        })?;
        Ok(Self { for_proxy, for_control, stop, thread })
    }

    /// Ends them.
    pub fn end(self) {
        self.stop.send_replace(true);
        if self.thread.join().is_err() {
            tracing::error!("a stand-in panicked");
        }
    }
}

async fn wait_for(mut stopped: watch::Receiver<bool>) {
    // An error means that nobody can stop us any more, which is reason enough to.
    drop(stopped.wait_for(|stop| *stop).await);
}

fn bind() -> io::Result<(Vec<SocketAddr>, Vec<TcpListener>)> {
    let socket = |_| {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_nonblocking(true)?;
        Ok((socket.local_addr()?, socket))
    };
    let sockets: io::Result<Vec<_>> = ROLES.iter().map(socket).collect();
    Ok(sockets?.into_iter().unzip())
}

/// One audience's world.
struct Theatre {
    world: RefCell<World>,
    rng: RefCell<Rng>,
    demand: Demand,
    /// When the outage begins.
    zero: Instant,
}

/// A connection ends without an answer, on purpose.
#[derive(Debug, thiserror::Error)]
#[error("broken off on purpose")]
struct BrokenOff;

impl Theatre {
    fn new(scenario: &Scenario, demand: Demand, (zero, audience): (Instant, Audience)) -> Self {
        Self {
            world: RefCell::new(World::new(scenario, &demand)),
            rng: RefCell::new(Rng::with_seed(audience as u64)),
            demand,
            zero,
        }
    }

    fn open(self: Rc<Self>, sockets: Vec<TcpListener>) {
        for (role, socket) in sockets.into_iter().enumerate() {
            match tokio::net::TcpListener::from_std(socket) {
                Ok(socket) => drop(spawn_local(Rc::clone(&self).accept(role, socket))),
                Err(error) => tracing::error!(%error, "a stand-in cannot listen"),
            }
        }
    }

    async fn accept(self: Rc<Self>, role: usize, socket: tokio::net::TcpListener) {
        while let Ok((stream, _)) = socket.accept().await {
            spawn_local(Rc::clone(&self).serve(role, stream));
        }
    }

    async fn serve(self: Rc<Self>, role: usize, stream: TcpStream) {
        let answer = service_fn(|request| self.answer(role, request));
        let served = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), answer)
            .await;
        if let Err(error) = served {
            tracing::trace!(%error, "a connection ended early, as outages have it");
        }
    }

    async fn answer(
        &self,
        role: usize,
        request: Request<Incoming>,
    ) -> Result<Response<Page>, BrokenOff> {
        let (head, body) = request.into_parts();
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let asked = self.demand.recognise(&head.method, host, head.uri.path());
        let seen = {
            let ask = Ask { upstream: role, request: &asked, at: self.now() };
            let (mut world, mut rng) = (self.world.borrow_mut(), self.rng.borrow_mut());
            world.answer(ask, &self.demand, &mut rng).seen
        };
        body.collect().await.map_err(|_| BrokenOff)?;
        match seen {
            Seen::Nothing => std::future::pending().await,
            Seen::HandshakeFailed { .. } => Err(BrokenOff),
            Seen::BrokenOff { after } => {
                tokio::time::sleep(after).await;
                Err(BrokenOff)
            }
            Seen::Head { after, status, marker, body } => {
                tokio::time::sleep(after).await;
                Ok(page(status, marker, body))
            }
        }
    }

    /// Now, in the world's time.
    fn now(&self) -> Duration {
        let now = clock::now();
        (LEAD + now.saturating_duration_since(self.zero))
            .saturating_sub(self.zero.saturating_duration_since(now))
    }
}

fn page(status: u16, marker: MarkerFate, body: Body) -> Response<Page> {
    let text = Bytes::from_static(match marker {
        MarkerFate::Kept => PAGE.as_bytes(),
        MarkerFate::Absent => ERROR_PAGE.as_bytes(),
    });
    let mut response = Response::new(match body {
        Body::Whole => Page::Whole(Some(text)),
        Body::Cut => Page::Cut(Some(text)),
        Body::Trickles => Page::Trickles(tokio::time::interval(Duration::from_secs(1))),
    });
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    if marker == MarkerFate::Kept {
        let (name, value) = MARKER;
        let name = HeaderName::from_static(name);
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A body, or what an outage makes of one.
enum Page {
    Whole(Option<Bytes>),
    /// Ends short of what it claims.
    Cut(Option<Bytes>),
    /// A byte at each tick.
    Trickles(Interval),
}

impl http_body::Body for Page {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        Poll::Ready(match self.get_mut() {
            Self::Whole(text) => text.take().map(|text| Ok(Frame::data(text))),
            Self::Cut(text) => Some(text.take().map(Frame::data).ok_or(BrokenOff)),
            Self::Trickles(ticks) => {
                ready!(ticks.poll_tick(context));
                Some(Ok(Frame::data(Bytes::from_static(b"."))))
            }
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(text) => text.as_ref().map_or(0, |text| text.len() as u64),
            Self::Cut(_) | Self::Trickles(_) => NEVER_REACHED,
        })
    }
}
