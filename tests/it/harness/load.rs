//! A bounded steady load: so many requests a second, GET and POST mixed, each with a name of its
//! own, half over HTTP/1.1 and half over HTTP/2, all over TLS.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use http::Method;
use tokio::sync::{MutexGuard, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::client::{Ask, Session, Speak};
use super::proxy::RunningProxy;
use super::sightings::ID;
use super::upstream::FakeUpstream;
use super::{PORTAL, now, within};

/// Requests in flight at most; a load that reaches it is a failed test, not a bigger one.
const MOST_IN_FLIGHT: usize = 2_000;

/// Every fourth request is a POST.
const POST_EVERY: usize = 4;

/// Pages, so that failures have distinct witnesses as those of real clients do.
const PAGES: [&str; 12] = [
    "/catalog", "/search", "/cart", "/account", "/help", "/news", "/press", "/jobs", "/terms",
    "/contact", "/status", "/feed",
];

static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Waits until no other test puts a load on this machine.
pub async fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().await
}

/// What became of one request.
#[derive(Clone, Debug)]
pub struct Record {
    pub id: String,
    pub method: Method,
    /// Status and who served it, or why there was no whole answer.
    pub answer: Result<(u16, String), String>,
    pub took: Duration,
}

impl Record {
    fn is_served(&self) -> bool {
        matches!(self.answer, Ok((200, _)))
    }
}

/// A running load; it ends when it is stopped or dropped.
pub struct Load {
    shared: Arc<Shared>,
    driver: JoinSet<()>,
}

struct Shared {
    address: SocketAddr,
    records: Mutex<Vec<Record>>,
    count: watch::Sender<usize>,
    over: AtomicBool,
    /// Idle HTTP/1.1 connections.
    idle: Mutex<Vec<Session>>,
    /// The connection that all HTTP/2 requests share.
    http2: tokio::sync::Mutex<Option<Session>>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
struct Mix {
    pages: &'static [&'static str],
    posts: Posts,
}

#[derive(Clone, Copy, Debug)]
enum Posts {
    None,
    EveryFourth,
}

impl Load {
    /// Starts it, over every page.
    pub fn start(proxy: &RunningProxy, per_second: u32) -> Self {
        Self::of(proxy, per_second, Mix { pages: &PAGES, posts: Posts::EveryFourth })
    }

    /// Starts one that only reads the first so many pages: few witnesses.
    pub fn reading(proxy: &RunningProxy, per_second: u32, pages: usize) -> Self {
        Self::of(proxy, per_second, Mix { pages: &PAGES[..pages], posts: Posts::None })
    }

    fn of(proxy: &RunningProxy, per_second: u32, mix: Mix) -> Self {
        let shared = Arc::new(Shared {
            address: proxy.tls,
            records: Mutex::default(),
            count: watch::Sender::new(0),
            over: AtomicBool::new(false),
            idle: Mutex::default(),
            http2: tokio::sync::Mutex::default(),
        });
        let mut driver = JoinSet::new();
        driver.spawn(drive(Arc::clone(&shared), per_second, mix));
        Self { shared, driver }
    }

    /// Waits until this many more requests have ended.
    pub async fn goes_on(&self, more: usize) {
        let mut count = self.shared.count.subscribe();
        let target = *count.borrow() + more;
        let reached = count.wait_for(|count| *count >= target);
        within("the load to go on", reached).await.expect("the sender is ours");
    }

    /// Whether this holds of everything so far, waiting for more until it does.
    pub async fn until(&self, what: &str, holds: impl Fn(&[Record]) -> bool) {
        let mut count = self.shared.count.subscribe();
        let reached = async {
            while !holds(&self.shared.records.lock().expect("no panic while held")) {
                count.changed().await.expect("the sender is ours");
            }
        };
        within(what, reached).await;
    }

    /// Sends no more, waits for what is under way, and says what became of it.
    pub async fn stop(mut self) -> Report {
        self.shared.over.store(true, Ordering::Relaxed);
        within("the last answers", self.driver.join_next()).await;
        let records = std::mem::take(&mut *self.shared.records.lock().expect("the driver ended"));
        Report { records }
    }
}

async fn drive(shared: Arc<Shared>, per_second: u32, mix: Mix) {
    let mut tick = interval(Duration::from_secs(1) / per_second);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut requests = JoinSet::new();
    let mut number = 0;
    while !shared.over.load(Ordering::Relaxed) {
        tick.tick().await;
        requests.spawn(one(Arc::clone(&shared), number, mix));
        number += 1;
        while requests.try_join_next().is_some() {}
        assert!(requests.len() < MOST_IN_FLIGHT, "nothing is answered any more");
    }
    requests.join_all().await;
}

async fn one(shared: Arc<Shared>, number: usize, mix: Mix) {
    let pages = mix.pages.len();
    let page = mix.pages[number % pages];
    let id = format!("request-{number}");
    // The page and the method must not go in step, or no page would see both methods.
    let is_post = match mix.posts {
        Posts::None => false,
        Posts::EveryFourth => (number / pages + number).is_multiple_of(POST_EVERY),
    };
    let ask = if is_post { Ask::post(page, "an order") } else { Ask::get(page) };
    let ask = ask.header(ID, &id);
    let began = now();
    let speak = if number.is_multiple_of(2) { Speak::TlsHttp1 } else { Speak::TlsHttp2 };
    let mut answer = exchange(&shared, speak, &ask).await;
    if answer.as_ref().is_err_and(was_never_sent) {
        answer = exchange(&shared, speak, &ask).await;
    }
    let answer = answer.map_err(|error| format!("{error:#}"));
    let mut records = shared.records.lock().expect("no panic while held");
    records.push(Record { id, method: ask.method, answer, took: began.elapsed() });
    shared.count.send_replace(records.len());
}

/// Whether nobody has looked at a request: its connection was closed while it still waited in this client,
/// or it came beyond the last stream of a GOAWAY (RFC 9113, section 6.8). Every client sends it again.
fn was_never_sent(error: &anyhow::Error) -> bool {
    let Some(error) = error.downcast_ref::<hyper::Error>() else { return false };
    let reset = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    error.is_canceled()
        || reset.is_some_and(|e| e.is_go_away() && e.reason() == Some(h2::Reason::NO_ERROR))
}

async fn exchange(shared: &Shared, speak: Speak, ask: &Ask) -> anyhow::Result<(u16, String)> {
    let mut session = match speak {
        Speak::TlsHttp2 => shared.multiplexed().await?,
        _ => shared.exclusive().await?,
    };
    let answer = session.send(ask).await?;
    if speak == Speak::TlsHttp1 {
        shared.idle.lock().expect("no panic while held").push(session);
    }
    Ok((answer.status.as_u16(), answer.served_by().to_owned()))
}

impl Shared {
    /// An HTTP/1.1 connection for one request, an idle one if there is any.
    async fn exclusive(&self) -> anyhow::Result<Session> {
        while let Some(session) = self.pop_idle() {
            if session.is_usable() {
                return Ok(session);
            }
        }
        Session::open(Speak::TlsHttp1, self.address, PORTAL).await
    }

    fn pop_idle(&self) -> Option<Session> {
        self.idle.lock().expect("no panic while held").pop()
    }

    /// A stream of the one HTTP/2 connection.
    async fn multiplexed(&self) -> anyhow::Result<Session> {
        let mut slot = self.http2.lock().await;
        let open = slot.as_ref().filter(|session| session.is_usable()).and_then(Session::beside);
        match open {
            Some(session) => Ok(session),
            None => {
                let session = Session::open(Speak::TlsHttp2, self.address, PORTAL).await?;
                let beside = session.beside().context("HTTP/2 carries several")?;
                *slot = Some(session);
                Ok(beside)
            }
        }
    }
}

/// What became of a load.
pub struct Report {
    pub records: Vec<Record>,
}

impl Report {
    /// GETs without a whole 200.
    pub fn failed_gets(&self) -> Vec<&Record> {
        self.failed().into_iter().filter(|record| record.method == Method::GET).collect()
    }

    /// Requests without a whole 200.
    pub fn failed(&self) -> Vec<&Record> {
        self.records.iter().filter(|record| !record.is_served()).collect()
    }

    /// How many were served by this stand-in.
    pub fn served_by(&self, upstream: &FakeUpstream) -> usize {
        let by = |record: &&Record| matches!(&record.answer, Ok((200, n)) if n == upstream.name());
        self.records.iter().filter(by).count()
    }

    /// This share of the GETs, in thousandths, took at most so long.
    pub fn gets_took(&self, permille: usize) -> Duration {
        let gets = self.records.iter().filter(|record| record.method == Method::GET);
        let mut took: Vec<Duration> = gets.map(|record| record.took).collect();
        took.sort_unstable();
        took.get(took.len() * permille / 1000).copied().unwrap_or_default()
    }

    /// Every POST that stand-ins saw more than once, all of them together.
    pub fn repeated_posts(&self, upstreams: &[&FakeUpstream]) -> Vec<String> {
        let seen: Vec<_> = upstreams.iter().map(|upstream| upstream.sightings().by_id()).collect();
        let count = |id: &str| -> usize { seen.iter().filter_map(|by_id| by_id.get(id)).sum() };
        let posts = self.records.iter().filter(|record| record.method == Method::POST);
        posts.filter(|record| count(&record.id) > 1).map(|record| record.id.clone()).collect()
    }
}
