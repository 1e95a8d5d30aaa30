//! Bytes in both directions, once both sides have agreed to speak something else than HTTP: a
//! WebSocket (RFC 6455), over HTTP/1.1 or a stream of HTTP/2 (RFC 8441).
//!
//! A tunnel is left alone by reloads that do not forbid it. It ends when either side does, when its upstream
//! was left for `limits.drain` while another one serves, or may not carry it any more for as long, when
//! nothing has come from either side for [`IDLE`], or with the process. At most one buffer of [`BUFFER`] is
//! held for each direction.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::answer::Request;
use super::judge::Judge;
use crate::clock;
use crate::net::tls_client::Stream;

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
        let copied =
            tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER);
        tokio::select! {
            end = copied => {
                if let Err(error) = end {
                    tracing::trace!(%error, "a tunnel broke off");
                }
            }
            () = silence(&heard) => {}
            () = judge.left() => {}
        }
        judge.sent(client.read);
        judge.received(upstream.read);
        request.sent(upstream.read);
        drop(request);
    }
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
}

impl<S> Side<S> {
    fn new(stream: S, early: Bytes, heard: &Rc<Cell<Instant>>) -> Self {
        Self { early, stream, heard: Rc::clone(heard), read: 0 }
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
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
