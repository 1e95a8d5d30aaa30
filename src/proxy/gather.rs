//! Between h2 and the stream of one HTTP/2 client. Gathers what the connection writes in one turn of its
//! task, so that the answers of several streams leave in one TLS record and one system call; and lets
//! [`Trailers`] have its word on what is read.
//!
//! h2 writes and flushes after every DATA frame. Here a flush does nothing yet: whoever drives the
//! connection calls [`Gathered::poll_send`] when its turn is over.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::request::trailers::Trailers;

/// Gathered at most; what is larger goes straight through. The payload of one TLS record (RFC 8446,
/// section 5.1).
const CAPACITY: usize = 16 * 1024;
/// Read at once where what was read before could not be judged yet.
const SECOND_LOOK: usize = 4 * 1024;

/// A stream in two hands: hyper's, and that of whoever drives hyper.
pub(super) struct Gathered<S>(Rc<RefCell<Buffer<S>>>);

struct Buffer<S> {
    stream: S,
    /// Given back to the allocator whenever it has been sent: an idle connection holds none.
    gathered: Vec<u8>,
    /// Of `gathered`, what the stream has taken already.
    sent: usize,
    trailers: Trailers,
    /// Read and judged, and not yet passed on. Empty but for the moment after a block of trailers, or
    /// after a frame's head that came in two pieces.
    ready: Vec<u8>,
}

impl<S> Gathered<S> {
    pub(super) fn new(stream: S) -> Self {
        Self(Rc::new(RefCell::new(Buffer {
            stream,
            gathered: Vec::new(),
            sent: 0,
            trailers: Trailers::of_client(),
            ready: Vec::new(),
        })))
    }

    /// The driver's hand.
    pub(super) fn other_hand(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// Sends what was gathered; ready when nothing is left.
    pub(super) fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_send(context)
    }
}

impl<S: AsyncWrite + Unpin> Buffer<S> {
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathered.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.sent < self.gathered.len() {
            let rest = &self.gathered[self.sent..];
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.sent += taken,
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.gathered = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Whether `more` bytes are to be gathered, after making room for them; if not, nothing is
    /// gathered now.
    fn poll_room(&mut self, more: usize, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.gathered.len() + more > CAPACITY {
            ready!(self.poll_send(context))?;
        }
        if more > CAPACITY {
            return Poll::Ready(Ok(false));
        }
        if self.gathered.capacity() == 0 {
            self.gathered.reserve_exact(CAPACITY);
        }
        Poll::Ready(Ok(true))
    }
}

impl<S: AsyncRead + Unpin> Buffer<S> {
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ready.is_empty() && !self.trailers.holds() {
            let known = buffer.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
            let new = &buffer.filled()[known..];
            let passed = self.trailers.pass(new);
            self.trailers.follow(&new[passed..], &mut self.ready);
            if passed > 0 || new.is_empty() {
                buffer.set_filled(known + passed);
                return Poll::Ready(Ok(()));
            }
            buffer.set_filled(known);
        }
        while self.ready.is_empty() {
            let mut more = [0; SECOND_LOOK];
            let mut more = ReadBuf::new(&mut more);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut more))?;
            if more.filled().is_empty() {
                self.ready = self.trailers.end();
                break;
            }
            self.trailers.follow(more.filled(), &mut self.ready);
        }
        let now = self.ready.len().min(buffer.remaining());
        buffer.put_slice(&self.ready[..now]);
        self.ready.drain(..now);
        if self.ready.is_empty() {
            self.ready = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = self.0.borrow_mut();
        if !ready!(buffer.poll_room(bytes.len(), context))? {
            return Pin::new(&mut buffer.stream).poll_write(context, bytes);
        }
        buffer.gathered.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = self.0.borrow_mut();
        let length = slices.iter().map(|slice| slice.len()).sum();
        if !ready!(buffer.poll_room(length, context))? {
            return Pin::new(&mut buffer.stream).poll_write_vectored(context, slices);
        }
        for slice in slices {
            buffer.gathered.extend_from_slice(slice);
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut buffer = self.0.borrow_mut();
        match buffer.gathered.is_empty() {
            // What went straight through may still be in the stream's own buffer.
            true => Pin::new(&mut buffer.stream).poll_flush(context),
            false => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut buffer = self.0.borrow_mut();
        ready!(buffer.poll_send(context))?;
        Pin::new(&mut buffer.stream).poll_shutdown(context)
    }
}
