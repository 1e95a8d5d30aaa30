//! Streams of requests with something wrong in them, thousands a second, between the real binary's
//! clients and an upstream that forgives nothing: whatever is done to a stream, nobody reads more out of
//! it than its strictest reader.
//!
//! The invariants that each stream is judged by:
//! 1. what reaches the upstream parses strictly;
//! 2. no request reaches it that a strict reading of the client's bytes does not show, in that order,
//!    with that body, and none is whole there that is not whole here;
//! 3. so what is hidden in a body never is one;
//! 4. nobody gets an answer that is another client's, mutant or not;
//! 5. the process lives and never panics;
//! 6. what the client gets parses strictly.
//!
//! One number is the seed of a stream, so it can be had again by itself. Each stream comes from a
//! loopback address of its own, by which the upstream tells whose request it got. A share of streams is
//! left whole: everything in them has to be served, or refusing all would pass. Shared with
//! `tests/bench/mutate.rs`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::harness::proxy::{RunningProxy, folder};
use crate::harness::{PATIENCE, PORTAL, PROBE, now};

mod mutation;
mod origin;
mod seeds;
pub mod strict;

use origin::{FOR, Record, Seen, TO};
use strict::{End, Request};

/// Streams between two looks at what the upstream saw: many, since each batch waits for the slowest.
const BATCH: u64 = 10_000;
/// Streams under way at once.
const AT_ONCE: usize = 64;
/// Longer than that is counted as waiting: the proxy ran into one of its limits.
const WAITING: Duration = Duration::from_millis(500);
/// Breaks shown; the rest is counted.
const SHOWN: usize = 10;

/// What is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// Of the first stream; each further one has the next number.
    pub seed: u64,
    pub streams: u64,
}

/// How it went.
#[derive(Debug, Default)]
pub struct Tally {
    pub streams: u64,
    /// Streams of which at least one request reached the upstream.
    pub passed: u64,
    /// Requests that reached the upstream.
    pub requests: u64,
    /// Whole answers that clients got.
    pub answers: u64,
    /// Streams that ran into a limit of time.
    pub waited: u64,
    pub took: Duration,
    pub broken: u64,
    /// The first of them.
    pub breaks: Vec<String>,
}

impl Tally {
    fn note(&mut self, what: String) {
        self.broken += 1;
        if self.breaks.len() < SHOWN {
            self.breaks.push(what);
        }
    }
}

/// One stream, and how a strict reader reads it.
struct Stream {
    seed: u64,
    client: Ipv4Addr,
    bytes: Vec<u8>,
    /// Where it is cut on its way.
    cuts: Vec<usize>,
    is_mutant: bool,
    asked: Vec<Request>,
    end: End,
}

/// What came back of it.
struct Received {
    bytes: Vec<u8>,
    /// Bytes may be missing at the end.
    was_reset: bool,
    was_slow: bool,
}

impl Stream {
    fn new(seed: u64, place: u64, refused: &[Vec<u8>]) -> Self {
        let mut dice = Rng::with_seed(seed);
        let is_mutant = dice.u32(..16) > 0;
        let draw = |dice: &mut Rng| match dice.u32(..4) {
            0 if is_mutant => refused[dice.usize(..refused.len())].clone(),
            _ => seeds::well_formed(dice),
        };
        let mut bytes = draw(&mut dice);
        if is_mutant {
            let other = draw(&mut dice);
            while {
                mutation::mutate(&mut bytes, &other, &mut dice);
                dice.u32(..3) == 0
            } {}
        }
        if !is_mutant || dice.bool() {
            bytes.extend(seeds::mark());
        }
        let mut cuts: Vec<usize> =
            (0..dice.usize(..3)).map(|_| dice.usize(..=bytes.len())).collect();
        cuts.sort_unstable();
        let (asked, end) = strict::requests(&bytes);
        // 127.64.0.0/10: as many addresses as a batch will ever need, and another one each time.
        let client =
            Ipv4Addr::from_bits(0x7f40_0000 | u32::try_from(place % 0x3f_ffff).expect("fits"));
        Self { seed, client, bytes, cuts, is_mutant, asked, end }
    }

    fn shown(&self) -> String {
        let all = self.bytes.escape_ascii();
        format!("seed {} (cut at {:?}): {all}", self.seed, self.cuts)
    }

    /// Sends it and reads to the end of the connection.
    async fn send(&self, proxy: SocketAddr) -> std::io::Result<Received> {
        let began = now();
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.client, 0).into())?;
        let connection = socket.connect(proxy).await?;
        connection.set_nodelay(true)?;
        // Nothing is left waiting in the system for each of a million connections.
        connection.set_zero_linger()?;
        let (mut reader, mut writer) = connection.into_split();
        let answered = Notify::new();
        let write = async {
            let mut from = 0;
            for to in self.cuts.iter().copied().chain([self.bytes.len()]) {
                // Refused half-way: what came back says why.
                if writer.write_all(&self.bytes[from..to]).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
                from = to;
            }
            answered.notified().await;
            writer.shutdown().await.ok();
            std::future::pending::<()>().await
        };
        let read = async {
            let mut bytes = Vec::new();
            loop {
                if self.end == End::Open && self.has_all(&bytes) {
                    answered.notify_one();
                }
                match reader.read_buf(&mut bytes).await {
                    Ok(0) => return (bytes, false),
                    Ok(_) => {}
                    Err(_) => return (bytes, true),
                }
            }
        };
        // Dropping the writer half-way is right: the connection is over.
        let (bytes, was_reset) = tokio::select! {
            () = write => (Vec::new(), true),
            read = read => read,
        };
        Ok(Received { bytes, was_reset, was_slow: began.elapsed() > WAITING })
    }

    /// Whether everything that was asked for whole has been answered.
    fn has_all(&self, bytes: &[u8]) -> bool {
        let whole = self.asked.iter().filter(|request| request.is_whole).count();
        strict::answers(bytes, &self.asked).is_ok_and(|answers| answers.len() >= whole)
    }

    /// Invariants 4 and 6.
    fn judge_answers(&self, received: &Received) -> Result<u64, String> {
        let answers = match strict::answers(&received.bytes, &self.asked) {
            Ok(answers) => answers,
            Err(_) if received.was_reset => return Ok(0),
            Err(why) => return Err(format!("I6, {why}: {}", received.bytes.escape_ascii())),
        };
        // One more for what is refused.
        if answers.len() > self.asked.len() + 1 {
            return Err(format!("I2, {} answers", answers.len()));
        }
        let own = self.client.to_string();
        for (place, answer) in answers.iter().enumerate() {
            let Some(client) = answer.all(FOR).next() else { continue };
            let to = answer.all(TO).next().unwrap_or_default();
            let asked = self.asked.get(place);
            let asked = asked.map(|request| [&request.method[..], b" ", &request.target].concat());
            if client != own.as_bytes() || asked.as_deref() != Some(to) {
                return Err(format!("I4, answer {place} is to {}", to.escape_ascii()));
            }
        }
        Ok(answers.len() as u64)
    }

    /// Invariants 2 and 3.
    fn judge_seen(&self, seen: &[Seen]) -> Result<(), String> {
        let mut asked = self.asked.iter();
        for seen in seen {
            let is_it = |request: &Request| {
                request.method == seen.method
                    && request.target == seen.target
                    && match seen.is_whole {
                        true => request.is_whole && request.body == seen.body,
                        false => request.body.starts_with(&seen.body),
                    }
            };
            if !asked.any(is_it) {
                let shown = format!("{:?}", String::from_utf8_lossy(&seen.target));
                let hidden = seen.target.starts_with(seeds::HIDDEN.as_bytes());
                let which = if hidden { "I3" } else { "I2" };
                let (whole, body) = (seen.is_whole, seen.body.escape_ascii());
                return Err(format!("{which}, {shown} was not asked for, whole: {whole}, {body}"));
            }
        }
        let whole = seen.iter().filter(|seen| seen.is_whole).count();
        if !self.is_mutant && whole != self.asked.len() {
            return Err(format!("only {whole} of {} were served", self.asked.len()));
        }
        Ok(())
    }
}

/// What all streams of a run share.
struct Stage {
    proxy: RunningProxy,
    record: Arc<Record>,
    refused: Vec<Vec<u8>>,
    _origin: JoinSet<()>,
}

impl Stage {
    async fn start() -> Self {
        let (listener, address) = origin::open().await;
        let record = Arc::new(Record::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(origin::serve(listener, Arc::clone(&record)));
        let proxy = RunningProxy::start_with(folder(), &yaml(address)).await;
        Self { proxy, record, refused: seeds::refused(), _origin: tasks }
    }

    /// Sends a batch; each stream with what came back.
    async fn batch(&self, streams: Vec<Stream>) -> Vec<(Stream, std::io::Result<Received>)> {
        let next = Arc::new(AtomicU64::new(0));
        let streams = Arc::new(streams);
        let mut crew = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (next, streams, proxy) = (next.clone(), streams.clone(), self.proxy.plain);
            crew.spawn(async move {
                let mut done = Vec::new();
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed) as usize;
                    let Some(stream) = streams.get(place) else { return done };
                    let sent = tokio::time::timeout(PATIENCE, stream.send(proxy)).await;
                    let late = || Err(std::io::ErrorKind::TimedOut.into());
                    done.push((place, sent.unwrap_or_else(|_| late())));
                }
            });
        }
        let mut received: Vec<_> = crew.join_all().await.into_iter().flatten().collect();
        received.sort_unstable_by_key(|(place, _)| *place);
        let streams = Arc::into_inner(streams).expect("the crew has left");
        streams.into_iter().zip(received.into_iter().map(|(_, received)| received)).collect()
    }

    /// Invariants 4 and 5: another client is served, with its own answer.
    async fn fresh_client(&self, number: u64) -> Result<(), String> {
        let target = format!("/fresh/{number}");
        let answer = self.proxy.get(&target).await;
        let own = answer.header(TO) == Some(&format!("GET {target}"));
        self.record.take(Ipv4Addr::LOCALHOST);
        if own { Ok(()) } else { Err(format!("I4, a fresh client got {answer:?}")) }
    }

    fn judge(&self, streams: &[Stream], tally: &mut Tally) {
        for what in self.record.breaks() {
            tally.note(what);
        }
        for stream in streams {
            let seen = self.record.take(stream.client);
            tally.requests += seen.len() as u64;
            tally.passed += u64::from(!seen.is_empty());
            if let Err(what) = stream.judge_seen(&seen) {
                tally.note(format!("{what}\n  {}", stream.shown()));
            }
        }
    }
}

/// Sends all of it; `progress` is told of each batch.
pub async fn run(campaign: Campaign, mut progress: impl FnMut(&Tally)) -> Tally {
    let stage = Stage::start().await;
    let began = now();
    let mut tally = Tally::default();
    let mut last = Vec::new();
    while tally.streams < campaign.streams {
        let size = BATCH.min(campaign.streams - tally.streams);
        let places = tally.streams..tally.streams + size;
        let stream = |place| Stream::new(campaign.seed.wrapping_add(place), place, &stage.refused);
        let sent = stage.batch(places.map(stream).collect()).await;
        let mut judged = Vec::new();
        for (stream, received) in sent {
            match received {
                Err(error) => tally.note(format!("no end, {error}\n  {}", stream.shown())),
                Ok(received) => {
                    tally.waited += u64::from(received.was_slow);
                    match stream.judge_answers(&received) {
                        Ok(answers) => tally.answers += answers,
                        Err(what) => tally.note(format!("{what}\n  {}", stream.shown())),
                    }
                }
            }
            judged.push(stream);
        }
        tally.streams += size;
        if let Err(what) = stage.fresh_client(tally.streams).await {
            tally.note(what);
        }
        // What a stream left under way has arrived by the end of the next batch.
        stage.judge(&last, &mut tally);
        last = judged;
        tally.took = began.elapsed();
        progress(&tally);
    }
    let end = stage.fresh_client(tally.streams + 1).await;
    stage.judge(&last, &mut tally);
    if let Err(what) = end {
        tally.note(what);
    }
    tally
}

/// One service before one upstream, with little patience.
fn yaml(origin: SocketAddr) -> String {
    format!(
        "workers: 2\n\
         listeners:\n\
         \x20 - address: 127.0.0.1:0\n\
         \x20 - {{ address: 127.0.0.2:0, tls: {{ certificates: [{{ certificate: portal.pem, key: portal.key }}] }} }}\n\
         admin: {{ address: 127.0.0.3:0 }}\n\
         limits: {{ header_read_timeout: 1s, idle_timeout: 2s }}\n\
         providers: {{ edge: {{ seat: SI }} }}\n\
         services:\n\
         \x20 portal:\n\
         \x20   routes: [{{ host: {PORTAL} }}]\n\
         \x20   timeouts: {{ body_stall: 1s }}\n\
         \x20   probe: {{ path: {PROBE}, interval: 1s, timeout: 900ms }}\n\
         \x20   upstreams: [{{ provider: edge, url: \"http://{origin}\" }}]\n"
    )
}
