//! Bytes in both directions, once both sides have agreed to speak something else than HTTP: a
//! WebSocket (RFC 6455), over HTTP/1.1 or a stream of HTTP/2 (RFC 8441).
//!
//! A tunnel is left alone by reloads that do not forbid it. It ends when either side does, when its upstream
//! was left for `limits.drain` while another one serves, or may not carry it any more for as long, when
//! nothing has come from either side for [`IDLE`], or with the process. Where it is we who end it, both sides
//! are told so, as soon as a frame may be put there (close 1001, "going away"). At most one buffer of
//! [`BUFFER`] is held for each direction.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::answer::Request;
use super::attend::GOODBYE;
use super::judge::Judge;
use super::worker::{Stage, Worker};
use crate::clock;
use crate::net::tls_client::Stream;
use crate::request::frames::{self, Frames};

/// Silence from both sides after which nobody is thought to be there any more.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// Bytes on their way in one direction.
const BUFFER: usize = 16 * 1024;

/// An upstream that has switched protocols.
pub(super) struct Switched {
    pub(super) stream: Stream,
    /// What came after its head already.
    pub(super) early: Bytes,
    pub(super) judge: Judge,
}

/// Both sides, but for the client's stream.
pub(super) struct Tunnel {
    pub(super) upstream: Switched,
    /// In flight until the tunnel ends.
    pub(super) request: Request,
}

impl Tunnel {
    /// Copies until the end; `early` came from the client already.
    pub(super) async fn run(self, client: impl AsyncRead + AsyncWrite + Unpin, early: Bytes) {
        let Self { upstream: Switched { stream, early: first_words, judge }, request } = self;
        let heard = Rc::new(Cell::new(clock::now()));
        let mut client = Side::new(client, early, &heard);
        let mut upstream = Side::new(stream, first_words, &heard);
        let to_client = Rc::clone(&client.wrote);
        let due = async {
            // All only wait, and what they wait for ends the tunnel.
            tokio::select! {
                () = silence(&heard) => {}
                () = judge.left() => {}
                () = farewell(&request.worker) => {}
            }
        };
        let copied =
            tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER);
        if interrupted(copied, due, || to_client.get()).await {
            let (of_server, of_client) =
                (frames::going_away(), frames::going_away_masked(fastrand::u32(..).to_ne_bytes()));
            // Whoever does not listen is not waited for.
            let told = async { tokio::join!(client.end(&of_server), upstream.end(&of_client)) };
            drop(tokio::time::timeout(GOODBYE, told).await);
        }
        judge.sent(client.read);
        judge.received(upstream.read);
        request.sent(upstream.read);
        drop(request);
    }
}

/// Copies until the end, or until it is `due` and a frame may follow what the client has; says whether it
/// was that. Who is in the middle of a frame has as long for it as for its last words.
async fn interrupted(
    copied: impl Future<Output = io::Result<(u64, u64)>>,
    due: impl Future<Output = ()>,
    to_client: impl Fn() -> Frames,
) -> bool {
    let mut copied = pin!(copied);
    let trace = |end: io::Result<_>| {
        if let Err(error) = end {
            tracing::trace!(%error, "a tunnel broke off");
        }
    };
    // Going on with the copy loses nothing.
    tokio::select! {
        end = copied.as_mut() => {
            trace(end);
            return false;
        }
        () = due => {}
    }
    let between = poll_fn(|context| match copied.as_mut().poll(context) {
        Poll::Ready(end) => {
            trace(end);
            Poll::Ready(false)
        }
        Poll::Pending if to_client().is_between() || to_client().is_closed() => Poll::Ready(true),
        Poll::Pending => Poll::Pending,
    });
    tokio::time::timeout(GOODBYE, between).await.unwrap_or(true)
}

/// Ends some time in about the second half of a drain: clients that all came back in the same moment would be a
/// burden of their own.
async fn farewell(worker: &Worker) {
    if worker.stage.get() == Stage::Serving {
        worker.draining.notified().await;
    }
    let limit = worker.settings.current().limits.drain;
    // The end of a frame and the word itself have their time before the process ends.
    let last = limit.saturating_sub(GOODBYE * 3);
    tokio::time::sleep(last.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
}

async fn silence(heard: &Cell<Instant>) {
    loop {
        let until = heard.get() + IDLE;
        if until <= clock::now() {
            return;
        }
        tokio::time::sleep_until(tokio::time::Instant::from_std(until)).await;
    }
}

/// One side: what came early is read first, and every read is noted.
struct Side<S> {
    early: Bytes,
    stream: S,
    heard: Rc<Cell<Instant>>,
    read: u64,
    /// How far what it was sent has come.
    wrote: Rc<Cell<Frames>>,
}

impl<S> Side<S> {
    fn new(stream: S, early: Bytes, heard: &Rc<Cell<Instant>>) -> Self {
        Self { early, stream, heard: Rc::clone(heard), read: 0, wrote: Rc::default() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Side<S> {
    /// Ends it, with this last word where one may follow. What the other one still sends is taken in: unread,
    /// it would have the system break the connection off, and take the word back.
    async fn end(&mut self, word: &[u8]) -> io::Result<()> {
        if self.wrote.get().is_between() {
            self.stream.write_all(word).await?;
        }
        self.stream.shutdown().await?;
        let mut nothing = [0; 512];
        while self.stream.read(&mut nothing).await? > 0 {}
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Side<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = if self.early.is_empty() {
            Pin::new(&mut self.stream).poll_read(context, buffer)
        } else {
            let now = self.early.len().min(buffer.remaining());
            buffer.put_slice(&self.early[..now]);
            self.early.advance(now);
            Poll::Ready(Ok(()))
        };
        if result.is_ready() {
            self.read += (buffer.filled().len() - before) as u64;
            self.heard.set(clock::now());
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Side<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = written {
            let mut wrote = self.wrote.get();
            wrote.follow(&bytes[..count]);
            self.wrote.set(wrote);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
